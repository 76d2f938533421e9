"""The poller on real descriptors: it is the interrupt line, and it sleeps when there is nothing to do."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hilbridge import Bridge, DriverFault, RequestCancelled
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.kernel.wait import Wait
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import PATIENCE, Extension, Thread, TinyDriver, do, pend, plug, uart, uart_isr, wait

FAR = relative_ms(3_600_000)


@contextmanager
def ptys(count: int) -> Iterator[list[Pty]]:
    made = [Pty() for _ in range(count)]
    try:
        yield made
    finally:
        for pty in made:
            pty.close()


@contextmanager
def kernel() -> Iterator[Kernel]:
    ke = Kernel()
    try:
        yield ke
    finally:
        ke.close()


def poller_thread() -> threading.Thread:
    (thread,) = [t for t in threading.enumerate() if t.name == "hilbridge-poller"]
    return thread


def watchdog_thread() -> threading.Thread:
    (thread,) = [t for t in threading.enumerate() if t.name == "hilbridge-watchdog"]
    return thread


def switches(thread: threading.Thread) -> int:
    """How often the thread has gone to sleep and been woken since it began."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))


def poke(ke: Kernel) -> None:
    """Have the poller run a DPC, and wait for it: whatever was under way before has been done."""
    ran = threading.Event()
    ke.set_timer(Ktimer(), relative_ms(0), 0, Kdpc(lambda *_: ran.set()))
    wait(ran)


# -- asleep --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_with_20_ports_open_and_idle_no_thread_of_the_bridge_wakes_up_for_five_seconds() -> None:
    with ptys(20) as made, Bridge() as bridge:
        handles = [bridge.open(bridge.plug(pty.path)) for pty in made]
        blocked = Thread(
            lambda: handles[0].read(1, timeout=None)
        )  # one of them waits for its device, the others do not
        bridge.ke.set_timer(Ktimer(), FAR, 0, Kdpc(lambda *_: None))
        for pty, handle in zip(made, handles, strict=True):
            handle.write(b"?")
            assert pty.hear(1) == b"?"
        settle = threading.Event()
        settle.wait(2.0)
        watched = [poller_thread(), watchdog_thread(), blocked]
        before = [switches(thread) for thread in watched]
        settle.wait(5.0)
        assert [switches(thread) for thread in watched] == before
        os.write(made[7].board, b"still there")
        assert handles[7].read(11) == b"still there"
        handles[0].cancel_io()
        with pytest.raises(RequestCancelled):
            blocked.finish()


def test_no_thread_is_started_before_there_is_something_to_watch() -> None:
    before = set(threading.enumerate())
    with Bridge() as bridge:
        assert set(threading.enumerate()) == before
        plug(bridge, TinyDriver("quiet"))
        bridge.open("DUT").close()
        (watchdog,) = set(threading.enumerate()) - before
        assert watchdog.name == "hilbridge-watchdog", "a driver has been called, and might not have come back"
    assert set(threading.enumerate()) == before


def test_a_timer_wakes_the_poller_only_if_it_is_earlier_than_what_it_sleeps_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with kernel() as ke:
        first, later, earlier = Ktimer(), Ktimer(), Ktimer()
        ke.set_timer(first, relative_ms(3_000_000))
        poke(ke)  # from here on it sleeps for `first`
        rings: list[int] = []
        ring = os.eventfd_write

        def counted(fd: int, value: int) -> None:
            rings.append(fd)
            ring(fd, value)

        monkeypatch.setattr(os, "eventfd_write", counted)
        for _ in range(100):
            ke.set_timer(later, FAR)
            ke.cancel_timer(later)
        # Between two sleeps it does not know yet how long the next will be, and is rung to be safe: that is one moment.
        assert len(rings) <= 2
        rings.clear()
        ke.set_timer(earlier, relative_ms(2_000_000))
        assert len(rings) == 1


def test_a_hung_up_descriptor_does_not_keep_the_poller_awake() -> None:
    gone = threading.Event()

    def on_start(device: DeviceObject[Extension], resources: Any) -> None:
        device.extension.line = resources.line
        device.extension.dpc = Kdpc(lambda *_: gone.set(), None, device)
        device.extension.interrupt = device.io.connect_interrupt(device, uart_isr, device, resources.vector)

    # This driver takes no notice of the hang-up: the descriptor stays open, and ready for ever.
    with ptys(1) as (pty,), Bridge() as bridge:
        bridge.plug(pty.path, driver=uart("deaf", on_start=on_start))
        pty.let_go()
        pty.unplug()
        wait(gone)
        poke(bridge.ke)
        turns = bridge.ke.machine.wakeups  # type: ignore[attr-defined]
        for _ in range(20):
            poke(bridge.ke)
        assert bridge.ke.machine.wakeups - turns <= 3 * 20  # type: ignore[attr-defined]


# -- at work -------------------------------------------------------------------------------------------------------------


def test_timers_run_on_the_poller_thread_at_dispatch_level() -> None:
    with kernel() as ke:
        seen: list[tuple[str, int]] = []
        ran = threading.Event()

        def routine(*_: Any) -> None:
            seen.append((threading.current_thread().name, ke.irql))
            ran.set()

        ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(routine))
        wait(ran)
        assert seen == [("hilbridge-poller", DISPATCH_LEVEL)]


def test_real_timers_run_in_the_order_of_their_due_times() -> None:
    with kernel() as ke:
        order: list[int] = []
        last = threading.Event()
        for number, due in ((3, 30), (1, 10), (2, 20)):
            ke.set_timer(Ktimer(), relative_ms(due), 0, Kdpc(lambda _d, n, _a, _b: order.append(n), number))
        ke.set_timer(Ktimer(), relative_ms(40), 0, Kdpc(lambda *_: last.set()))
        wait(last)
        assert order == [1, 2, 3]


def test_a_periodic_timer_ticks_until_it_is_cancelled() -> None:
    with kernel() as ke:
        ticks = threading.Semaphore(0)
        timer = Ktimer()
        ke.set_timer(timer, relative_ms(1), 1, Kdpc(lambda *_: ticks.release()))
        for _ in range(5):
            assert ticks.acquire(timeout=PATIENCE)
        assert ke.cancel_timer(timer) is True
        poke(ke)
        while ticks.acquire(blocking=False):
            pass
        poke(ke)
        assert not ticks.acquire(blocking=False)


def test_whoever_waits_on_the_poller_itself_is_told_instead_of_hanging_it() -> None:
    def wait_here() -> bool:
        return ke.wait(ke.current(), Wait((), None), None, None)

    with kernel() as ke:
        ke.set_timer(Ktimer(), relative_ms(0), 0, Kdpc(lambda *_: do(wait_here)))
        poke(ke)
        (fault,) = ke.faults
        assert "poller thread was asked to wait" in str(fault)


@pytest.mark.parametrize("steering", [True, False])
def test_isr_and_dpc_run_on_the_thread_that_takes_the_interrupt(steering: bool) -> None:
    threads: list[str] = []

    def isr(interrupt: Any, device: DeviceObject[Extension]) -> bool:
        threads.append(threading.current_thread().name)
        return uart_isr(interrupt, device)

    def on_start(device: DeviceObject[Extension], resources: Any) -> None:
        assert original is not None
        original(device, resources)
        interrupt = device.extension.interrupt
        assert interrupt is not None
        interrupt.isr = isr

    driver = uart()
    original = driver.on_start
    driver.on_start = on_start
    with ptys(1) as (pty,), Bridge(steering=steering) as bridge:
        bridge.plug(pty.path, name="DUT", driver=driver)
        with bridge.open("DUT") as handle:
            reader = Thread(lambda: handle.read(5))
            reader.name = "the reader"
            os.write(pty.board, b"hello")
            assert reader.finish() == b"hello"
    assert set(threads) <= ({"the reader", "hilbridge-poller"} if steering else {"hilbridge-poller"})
    assert threads


def test_a_line_without_a_descriptor_interrupts_from_any_thread() -> None:
    line, driver = VirtualLine(), uart()
    with Bridge() as bridge:
        plug(bridge, driver, line=line)
        with bridge.open("DUT") as handle:
            reader = Thread(lambda: handle.read(5))
            feeder = Thread(lambda: line.feed(b"hello"))
            feeder.finish()
            assert reader.finish() == b"hello"


def test_two_ports_share_one_vector_and_each_gets_its_own_bytes() -> None:
    with ptys(2) as (one, two), Bridge() as bridge:
        bridge.plug(one.path, name="ONE", vector=0x55)
        bridge.plug(two.path, name="TWO", vector=0x55)
        assert len(bridge.ke.vector(0x55).chain) == 2
        with bridge.open("ONE") as first, bridge.open("TWO") as second:
            for number in range(20):
                os.write(one.board, b"%04d" % number)
                os.write(two.board, b"%04d" % (1000 + number))
                assert first.read(4) == b"%04d" % number
                assert second.read(4) == b"%04d" % (1000 + number)


def test_a_port_that_floods_does_not_starve_its_neighbour() -> None:
    with ptys(2) as (loud, quiet), Bridge() as bridge:
        enough, drained_all = threading.Event(), threading.Event()

        def flood() -> None:
            poll = select.poll()
            poll.register(loud.board, select.POLLOUT)
            while not drained_all.is_set():  # not before: the drainer's last read must find something
                if poll.poll(PATIENCE * 1000):
                    try:
                        os.write(loud.board, b"x" * 4096)
                    except BlockingIOError:
                        continue

        bridge.plug(loud.path, name="LOUD")
        bridge.plug(quiet.path, name="QUIET")
        with bridge.open("LOUD") as noise, bridge.open("QUIET") as calm:
            flooder = Thread(flood)
            drained = [0]

            def drain() -> None:
                while not enough.is_set():
                    drained[0] += len(noise.read_some(timeout=PATIENCE))

            drainer = Thread(drain)
            for number in range(50):
                os.write(quiet.board, b"%02d" % number)
                assert calm.read(2, timeout=PATIENCE) == b"%02d" % number
            enough.set()
            drainer.finish()
            drained_all.set()
            flooder.finish()
            assert drained[0] > 0


def test_a_descriptor_that_a_new_port_inherits_is_not_taken_for_the_old_one() -> None:
    with ptys(1) as (pty,), Bridge() as bridge:
        for number in range(5):
            bridge.plug(pty.path, name="DUT")
            with bridge.open("DUT") as handle:
                os.write(pty.board, b"%d" % number)
                assert handle.read(1) == b"%d" % number
            bridge.unplug("DUT")


def test_the_poller_ends_with_its_bridge() -> None:
    with ptys(1) as (pty,):
        with Bridge() as bridge:
            bridge.plug(pty.path)
            thread = poller_thread()
        assert not thread.is_alive()
        bridge.close()


def test_a_request_that_waits_when_the_bridge_closes_ends_first() -> None:
    with Bridge() as bridge:
        driver = TinyDriver("stuck", {IrpMajor.READ: pend})
        plug(bridge, driver)
        request = bridge.open("DUT").submit_read(4)
    assert request.done and request.status.name == "STATUS_CANCELLED"


def test_a_descriptor_that_its_driver_never_claims_is_reported_and_watched_no_more() -> None:
    with ptys(2) as (bad, good), Bridge() as bridge:
        driver = uart("blind")
        bridge.plug(bad.path, name="BAD", driver=driver)
        bridge.plug(good.path, name="GOOD")
        interrupt = driver.device.extension.interrupt
        assert interrupt is not None
        interrupt.isr = lambda *_: False
        with bridge.open("BAD") as blind, bridge.open("GOOD") as handle:
            os.write(bad.board, b"x")
            with pytest.raises(DriverFault, match="no service routine claims"):
                blind.read(1, timeout=PATIENCE)
            os.write(good.board, b"y")
            assert handle.read(1) == b"y"
        assert len(bridge.acknowledge_faults()) == 1


def test_a_connected_but_broken_driver_does_not_keep_the_poller_awake() -> None:
    # Its service routine raises with the descriptor still readable: the line must be masked, not served for ever.
    with ptys(2) as (bad, good), Bridge() as bridge:
        driver = uart("broken")
        bridge.plug(bad.path, name="BAD", driver=driver)
        bridge.plug(good.path, name="GOOD")
        interrupt = driver.device.extension.interrupt
        assert interrupt is not None

        def broken(*_: Any) -> bool:
            raise KeyError("broken")

        interrupt.isr = broken
        with bridge.open("GOOD") as handle:
            os.write(bad.board, b"x")
            os.write(good.board, b"y")
            assert handle.read(1) == b"y"
            poke(bridge.ke)
            turns = bridge.ke.machine.wakeups  # type: ignore[attr-defined]
            for _ in range(20):
                poke(bridge.ke)
            assert bridge.ke.machine.wakeups - turns <= 3 * 20  # type: ignore[attr-defined]
            os.write(good.board, b"z")
            assert handle.read(1) == b"z", "the other device goes on"
        assert len(bridge.acknowledge_faults()) == 1
