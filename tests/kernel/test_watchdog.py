"""A driver hangs: in each place, in Python and in C, on each kind of thread. Its stack fails, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.processor import Processor, ProcessorRetired
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.kernel.hangkit import HANGING, Hang, Neighbour, Scene, is_retired, look
from tests.support import (
    PATIENCE,
    System,
    Thread,
    TinyDriver,
    answer,
    complete,
    plug,
    uart,
    wait,
)

pytestmark = pytest.mark.slow  # they wait for threads that are hung on purpose

AT_ONCE, STUCK = 0x133, 0xEA
PLACES = {
    "isr": (AT_ONCE, "hilbridge-poller"),
    "dpc_of_a_timer": (AT_ONCE, "hilbridge-poller"),
    "dpc_of_a_dispatch_routine": (AT_ONCE, None),
    "completion_routine": (STUCK, None),
    "completion_routine_in_a_dpc": (STUCK, "hilbridge-poller"),
    "dispatch_routine": (STUCK, None),
    "cancel_routine": (STUCK, None),
    "start_io": (STUCK, None),
    "work_item": (STUCK, "hilbridge-worker"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["loop", "block"])
def test_a_driver_that_hangs_costs_its_own_device_and_nobody_elses(place: str, how: str) -> None:
    code, thread = PLACES[place]
    with Scene(how, place) as scene:
        victim = scene.hangs()
        assert thread is None or scene.hang.thread == thread
        scene.look()
        scene.check(code)
        scene.neighbour.goes_on()
        if how == "block" and thread is None:
            assert victim.is_alive(), "its own thread is in a call that nobody can end"
            assert scene.other.done
            scene.hang.leave.set()
        with pytest.raises(BugCheck, match=f"0x{code:X}.*of bad>.*hangkit.py:"):
            victim.finish()
        scene.hang.leave.set()
        assert scene.hang.gone.wait(PATIENCE)
        if how == "loop":
            assert is_retired(scene.hang.ended[0])


@pytest.mark.parametrize("how", ["loop", "block"])
def test_the_same_beside_a_real_port(how: str, pty: Pty) -> None:
    with Scene(how, "isr", pty=pty) as scene:
        victim = scene.hangs()
        scene.look()
        scene.check(AT_ONCE)
        scene.neighbour.goes_on()
        with pytest.raises(BugCheck):
            victim.finish()


# -- on a thread that serves its own device ----------------------------------------------------------------------------


@contextlib.contextmanager
def steered(pty: Pty, how: str, where: str) -> Iterator[tuple[Bridge, Hang, Thread, Neighbour]]:
    """A reader that serves its own port, and whose driver hangs in there, in its ISR or in its DPC."""
    hang = Hang(how)
    bad = uart("bad")
    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        neighbour = Neighbour(bridge)
        bridge.plug(pty.path, name="BAD", driver=bad)
        extension = bad.device.extension
        assert extension.interrupt is not None
        handle = bridge.open("BAD")
        reader = Thread(lambda: handle.submit_read(4).result(PATIENCE))
        pin = extension.interrupt.vector.pins[0]
        while pin.steerer is None:
            assert reader.is_alive()
        if where == "isr":
            extension.interrupt.isr = hang
        else:
            extension.dpc.routine = hang
        os.write(pty.board, b"data")
        wait(hang.entered)
        try:
            yield bridge, hang, reader, neighbour
        finally:
            hang.leave.set()
        wait(hang.gone)
        neighbour.goes_on()
        neighbour.stop()
        handle.close()
        assert len(bridge.acknowledge_faults()) == 1


@pytest.mark.parametrize("how", ["loop", "block"])
@pytest.mark.parametrize("where", ["isr", "dpc"])
def test_a_reader_that_serves_its_own_port_when_its_driver_hangs(pty: Pty, how: str, where: str) -> None:
    with steered(pty, how, where) as (bridge, hang, reader, neighbour):
        assert hang.thread == reader.name
        look(bridge.ke, 0.0)
        look(bridge.ke, 20.0)
        neighbour.goes_on()
        (fault,) = bridge.faults
        assert isinstance(fault, BugCheck) and fault.code == AT_ONCE
        bridge.unplug("BAD")  # does not wait for who steers it
        if how == "block":
            assert reader.is_alive()
            hang.leave.set()
        with pytest.raises(BugCheck, match="0x133"):
            reader.finish()


# -- what comes back ---------------------------------------------------------------------------------------------------

TRIES: dict[str, Callable[[Kernel], object]] = {
    "current": lambda ke: ke.current(),
    "irql": lambda ke: ke.irql,
    "raise irql": lambda ke: ke.raised_irql(DISPATCH_LEVEL).__enter__(),
    "spin lock": lambda ke: ke.spin_lock().acquire(),
    "queue a DPC": lambda ke: ke.insert_queue_dpc(Kdpc(lambda *_: None)),
    "set a timer": lambda ke: ke.set_timer(Ktimer(), relative_ms(0)),
    "queue a work item": lambda ke: ke.queue_work_item(lambda: None),
    "wait": lambda ke: ke.wait_for_single_object(Kevent(), 0),
    "bug check": lambda ke: ke.bug_check(0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS"),
    "latch": lambda ke: ke.latch_fault(None, ProcessorRetired(), "somewhere"),
}


@pytest.mark.parametrize("place", ["isr", "dispatch_routine", "work_item"])
def test_a_thread_that_comes_back_finds_everything_closed_whatever_it_swallows(place: str) -> None:
    refused: list[str] = []

    def try_all() -> None:
        for name, attempt in TRIES.items():
            try:
                attempt(scene.ke)
            except ProcessorRetired:
                refused.append(name)

    with Scene("block", place) as scene:
        scene.hang.after = try_all
        victim = scene.hangs()
        scene.look()
        before = scene.ke.processors()
        scene.hang.leave.set()
        wait(scene.hang.gone)
        assert refused == list(TRIES)
        with pytest.raises(BugCheck):
            victim.finish()
        assert not scene.ke.timers and all(not processor.dpcs for processor in before.values())


def test_the_application_goes_on_with_a_new_processor() -> None:
    with Scene("loop", "dispatch_routine") as scene:
        plug(scene.bridge, TinyDriver("fine", {IrpMajor.READ: answer(b"fine")}), "FINE")
        seen: list[Processor] = []

        def victim() -> bytes:
            seen.append(scene.ke.current())
            with pytest.raises(BugCheck, match="0xEA"):
                scene.begin()
            seen.append(scene.ke.current())
            with scene.bridge.open("FINE") as handle:
                return handle.read(4)

        scene.other = scene.bridge.open("BAD").submit_write(b"x")
        thread = Thread(victim)
        wait(scene.hang.entered)
        scene.look()
        assert thread.finish() == b"fine"
        assert seen[0] is not seen[1] and seen[0].retirement is not None and seen[0].retirement.left
        assert "IRQL" in repr(seen[0]) and seen[1].retirement is None
        assert [bool(processor) for processor in seen] == [False, True]


def test_a_loop_that_swallows_the_first_exception_gets_another() -> None:
    with Scene("loop", "dispatch_routine") as scene:
        swallowed = threading.Semaphore(0)

        def stubborn(_device: object, _irp: object) -> NtStatus:
            scene.hang.entered.set()
            for _again in range(3):
                try:
                    while True:
                        pass
                except ProcessorRetired:
                    swallowed.release()
            scene.hang.gone.set()
            return STATUS_SUCCESS

        HANGING.add(stubborn.__code__)
        scene.bad.device.driver_object.major_function[IrpMajor.READ] = stubborn
        victim = scene.hangs()
        scene.look()
        for _ in range(2):
            assert swallowed.acquire(timeout=PATIENCE)
            scene.watchdog.look()
        with pytest.raises(BugCheck, match="0xEA"):
            victim.finish()


# -- what it held ------------------------------------------------------------------------------------------------------


def test_who_waits_for_a_spin_lock_that_it_holds_gets_it() -> None:
    # Two devices of one driver, which has a lock for both. One hangs with the lock in its hand.
    hang = Hang("block")
    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        lock = bridge.ke.spin_lock()

        def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
            with lock:
                if device is driver.devices[0]:
                    hang()
            return complete(device, irp)

        driver = TinyDriver("shares", {IrpMajor.READ: read})
        plug(bridge, driver, "ONE")
        plug(bridge, driver, "TWO")
        one, two = bridge.open("ONE"), bridge.open("TWO")
        first = Thread(lambda: one.read(0))
        wait(hang.entered)
        second = Thread(lambda: two.read(0))
        second.join(0.05)
        assert second.is_alive()
        bridge.ke.watchdog.look(0)
        bridge.ke.watchdog.look(6.0)
        bridge.ke.watchdog.look(6.0)
        second.join(PATIENCE)
        assert not second.is_alive()
        hang.leave.set()
        with pytest.raises(BugCheck):
            first.finish()
        assert lock.owner is None
        faults = bridge.acknowledge_faults()
        assert faults[0] is driver.devices[0].device_stack.fault


@pytest.mark.parametrize("holder", ["isr", "synchronize"])
def test_who_waits_for_an_interrupt_that_hangs_gets_it(holder: str) -> None:
    hang = Hang("block")
    system = System()
    device = system.stack(TinyDriver("bad"))
    other = system.io.connect_interrupt(device, lambda *_: True, None, 6)
    interrupt = system.io.connect_interrupt(device, hang, None, 5, synchronize_with=other)
    victim = Thread(interrupt.serve if holder == "isr" else lambda: interrupt.synchronize(hang))
    wait(hang.entered)
    waiting = Thread(interrupt.wait_idle)
    waiting.join(0.05)
    assert waiting.is_alive()
    look(system.ke, 0.0)
    look(system.ke, 3.0)
    waiting.finish()
    assert other.synchronize(lambda: "free") == "free"
    hang.leave.set()
    wait(hang.gone)
    with pytest.raises(ProcessorRetired):
        victim.finish()
    assert len(system.ke.faults) == 1


def test_dpcs_that_were_queued_behind_it_run_elsewhere() -> None:
    with Scene("block", "dpc_of_a_timer") as scene:
        other, behind = TinyDriver("other"), threading.Event()
        plug(scene.bridge, other, "OTHER")

        def first(*arguments: Any) -> None:
            scene.ke.insert_queue_dpc(Kdpc(lambda *_: behind.set(), None, other.device))
            scene.hang(*arguments)

        scene.other = scene.bridge.open("BAD").submit_write(b"x")
        scene.ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(first, None, scene.bad.device))
        wait(scene.hang.entered)
        assert not behind.is_set()
        scene.look()
        wait(behind)


def test_a_neighbour_on_the_same_vector_loses_no_interrupt() -> None:
    # The neighbour's line asserts, and the first routine of the chain, which is asked first, hangs.
    hang, vector = Hang("block"), 0x44
    bad, good = uart("bad"), uart("good")
    bad_line, good_line = VirtualLine(), VirtualLine()
    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        plug(bridge, bad, "BAD", line=bad_line, vector=vector)
        plug(bridge, good, "GOOD", line=good_line, vector=vector)
        assert bad.device.extension.interrupt is not None
        bad.device.extension.interrupt.isr = hang
        with bridge.open("GOOD") as handle:
            request = handle.submit_read(4)
            good_line.feed(b"once")
            wait(hang.entered)
            look(bridge.ke, 0.0)
            look(bridge.ke, 3.0)
            assert request.result(PATIENCE) == b"once"
            good_line.feed(b"more")
            assert handle.read(4) == b"more"
            hang.leave.set()
            wait(hang.gone)
        (fault,) = bridge.acknowledge_faults()
        assert isinstance(fault, BugCheck) and fault.driver == "bad"
        assert good.device.device_stack.fault is None


def test_one_poller_after_the_other_may_be_lost() -> None:
    hangs = [Hang("block") for _ in range(3)]
    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        neighbour = Neighbour(bridge)
        for number, hang in enumerate(hangs):
            driver = TinyDriver(f"bad{number}")
            plug(bridge, driver, f"BAD{number}")
            bridge.ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(hang, None, driver.device))
            wait(hang.entered)
            look(bridge.ke, 0.0)
            look(bridge.ke, 3.0)
            neighbour.goes_on()
        assert [getattr(f, "driver", None) for f in bridge.acknowledge_faults()] == ["bad0", "bad1", "bad2"]
        for hang in hangs:
            hang.leave.set()
        wait(hang.gone)
        neighbour.stop()


def test_a_dpc_of_nobody_that_hangs_costs_the_poller_and_no_stack() -> None:
    hang = Hang("block")
    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        neighbour = Neighbour(bridge)
        bridge.ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(hang))
        wait(hang.entered)
        look(bridge.ke, 0.0)
        look(bridge.ke, 3.0)
        neighbour.goes_on()
        (fault,) = bridge.acknowledge_faults()
        assert isinstance(fault, BugCheck) and fault.driver is None and "hangkit.py" in str(fault.place)
        hang.leave.set()
        wait(hang.gone)
        neighbour.stop()
