"""The hand-cranked machine: what a turn does, that time moves only by hand, and that it says when nothing is left."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, Deadlock, UsageFault
from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import IrpMajor
from hilbridge.model.hardware import CAUSE_RX
from hilbridge.virtual.line import VirtualLine
from tests.support import System, TinyDriver, hold, pend, plug, raises, uart


def test_a_step_does_one_thing_interrupts_first_then_timers_then_work() -> None:
    system = System()
    story: list[str] = []
    device = system.stack(TinyDriver("d"))
    pin = system.ke.add_pin(system.ke.vector(7), -1, lambda: False)
    pin.enable(CAUSE_RX)

    def isr(*_: Any) -> bool:
        story.append("interrupt")
        return True

    system.io.connect_interrupt(device, isr, None, 7)
    system.machine.queue_work(lambda: story.append("work"))
    system.machine.queue_callback(lambda: story.append("callback"))
    system.ke.set_timer(Ktimer(), 0, 0, Kdpc(lambda *_: story.append("timer")))
    pin.raise_line(CAUSE_RX)
    seen = []
    while system.machine.step():
        seen.append(story[-1])
    assert seen == story == ["interrupt", "timer", "work", "callback"]
    assert system.machine.step() is False
    assert system.clock.now() == 0, "steps take no time"


def test_running_until_idle_counts_and_has_a_bound() -> None:
    system = System()
    for _ in range(5):
        system.machine.queue_work(lambda: None)
    assert system.machine.run_until_idle() == 5
    assert system.machine.run_until_idle() == 0

    def for_ever() -> None:
        system.machine.queue_work(for_ever)

    for_ever()
    with pytest.raises(Deadlock, match="did not come to rest in 50 steps"):
        system.machine.run_until_idle(limit=50)


def test_advancing_lets_exactly_that_much_time_pass() -> None:
    system = System()
    system.machine.advance(1.5)
    assert system.clock.now() == 1_500_000_000
    fired: list[int] = []
    system.ke.set_timer(Ktimer(), relative_ms(250), 0, Kdpc(lambda *_: fired.append(system.clock.now())))
    system.machine.advance(0.2)
    assert fired == []
    system.machine.advance(0.2)
    assert fired == [1_750_000_000], "at its moment, not at the end of the step"
    assert system.clock.now() == 1_900_000_000


def test_work_that_a_timer_queues_runs_at_the_timers_moment() -> None:
    system = System()
    when: list[int] = []
    work = Kdpc(lambda *_: system.ke.queue_work_item(lambda: when.append(system.clock.now())))
    system.ke.set_timer(Ktimer(), relative_ms(10), 0, work)
    system.machine.advance(1.0)
    assert when == [10_000_000]


def test_a_wait_jumps_from_timer_to_timer_and_no_further_than_it_must() -> None:
    system = System()
    event = Kevent()
    seen: list[int] = []

    def tick(*_: Any) -> None:
        seen.append(system.clock.now() // 1_000_000)
        if len(seen) == 3:
            event.set()

    system.ke.set_timer(Ktimer(), relative_ms(100), 100, Kdpc(tick))
    assert system.ke.wait_for_single_object(event, 10.0)
    assert seen == [100, 200, 300] and system.clock.now() == 300_000_000


def test_a_wait_whose_time_is_up_before_the_next_timer_ends_at_its_deadline() -> None:
    system = System()
    fired: list[int] = []
    system.ke.set_timer(Ktimer(), relative_ms(100), 0, Kdpc(lambda *_: fired.append(1)))
    assert system.ke.wait_for_single_object(Kevent(), 0.05) is False
    assert system.clock.now() == 50_000_000 and fired == []
    assert system.ke.wait_for_single_object(Kevent(), 0.05) is False
    assert fired == [1], "a timer that is due just then still runs"


def test_nothing_left_that_could_happen_is_a_deadlock_that_lists_the_pending_irps() -> None:
    stuck = TinyDriver("stuck", {IrpMajor.READ: pend})
    with Bridge.manual() as bridge:
        plug(bridge, stuck, "COM7")
        with bridge.open("COM7") as handle:
            first = handle.submit_read(3)
            with pytest.raises(Deadlock) as caught:
                handle.read(8, timeout=None)
            assert first.irp is not None
            message = str(caught.value)
            assert f"IRP 0x{first.irp.id:04X} read(3) on COM7, held by driver stuck (\\Device\\stuck0)" in message
            assert "read(8) on COM7" in message
            assert [p.what for p in bridge.pending()] == ["read(3)"], "the call that raised has taken its request back"


def test_with_a_deadline_there_is_no_deadlock() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("stuck", {IrpMajor.READ: pend}))
        with bridge.open("DUT") as handle:
            request = handle.submit_read(3)
            assert request.wait(1000.0) is False
            assert handle.now() == 1000.0


def test_a_deadlock_without_irps_says_so() -> None:
    with pytest.raises(Deadlock, match="waiting are: no IRPs"):
        System().ke.wait_for_single_object(Kevent(), None)


def test_pending_irps_are_listed_with_their_age() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("stuck", {IrpMajor.READ: hold}), "COM7")
        with bridge.open("COM7") as handle:
            request = handle.submit_read(3)
            bridge.machine.advance(2.5)
            (pending,) = bridge.pending()
            assert request.irp is not None
            assert pending == (request.irp.id, "COM7", "read(3)", 2.5, "driver stuck (\\Device\\stuck0)")
            request.cancel()
            bridge.machine.advance(1.0)
        bridge.acknowledge_faults()


def test_a_real_descriptor_cannot_be_put_on_virtual_time() -> None:
    system = System()
    pin = system.ke.add_pin(system.ke.vector(), 0, lambda: False)
    with pytest.raises(UsageFault, match="hand-cranked"):
        system.machine.add_pin(pin)


def test_only_a_manual_bridge_has_a_crank() -> None:
    with Bridge() as bridge, pytest.raises(UsageFault, match="runs by itself"):
        _ = bridge.machine


def test_a_manual_bridge_can_be_given_its_clock() -> None:
    clock = VirtualClock(start=42)
    with Bridge.manual(clock=clock) as bridge:
        assert bridge.ke.clock is clock
        bridge.machine.advance(1e-9)
        assert clock.now() == 43
        assert "43 ns" in bridge.statistics()["machine"]


def test_what_work_raises_is_latched_and_the_crank_turns_on() -> None:
    system = System()
    boom = KeyError("boom")
    ran: list[int] = []
    system.machine.queue_work(raises(boom))
    system.machine.queue_work(lambda: ran.append(1))
    assert system.machine.run_until_idle() == 2
    assert ran == [1]
    assert [fault.__cause__ for fault in system.ke.faults] == [boom]


def test_stopping_does_what_is_still_to_be_done() -> None:
    system = System()
    ran: list[int] = []
    system.machine.queue_work(lambda: ran.append(1))
    system.ke.close()
    assert ran == [1]


def test_a_blocking_read_turns_the_crank_itself() -> None:
    line, driver = VirtualLine(), uart()
    with Bridge.manual() as bridge:
        plug(bridge, driver, line=line)
        with bridge.open("DUT") as handle:
            bridge.ke.set_timer(Ktimer(), relative_ms(3_000), 0, Kdpc(lambda *_: line.feed(b"abc")))
            assert handle.read(3, timeout=5.0) == b"abc"
            assert handle.now() == 3.0


def test_an_interrupt_of_a_line_that_was_taken_off_meanwhile_is_not_run() -> None:
    line, driver = VirtualLine(), uart()
    with Bridge.manual() as bridge:
        plug(bridge, driver, line=line)
        line.feed(b"abc")
        bridge.unplug("DUT")
        bridge.machine.run_until_idle()
        assert driver.device.extension.received == b""
