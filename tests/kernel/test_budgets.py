"""DPCs have a budget for one turn: one that queues itself again for ever keeps nobody waiting."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge import Bridge, DeviceTimeout
from hilbridge.kernel.dpc import DpcImportance, Kdpc
from hilbridge.kernel.kernel import DPCS_PER_TURN, TURN
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import Deadlock
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_PENDING, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.support import PATIENCE, Extension, System, Thread, TinyDriver, answer, pend, plug, uart, wait


class Restless:
    """A DPC that queues itself again until it is told to stop."""

    def __init__(self, ke: Any, device: DeviceObject[Any] | None = None, cost: int = 0) -> None:
        self.ke = ke
        self.runs = 0
        self.stop = False
        self.cost = cost
        self.threads: set[str] = set()
        self.dpc = Kdpc(self.routine, None, device)

    def routine(self, dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        self.runs += 1
        self.threads.add(threading.current_thread().name)
        assert self.ke.irql == DISPATCH_LEVEL
        if self.cost:
            self.ke.clock.advance_to(self.ke.clock.now() + self.cost)
        if not self.stop:
            self.ke.insert_queue_dpc(dpc)


def test_who_queues_a_dpc_gets_his_thread_back_when_the_turn_is_over() -> None:
    system = System()
    restless = Restless(system.ke)
    assert system.ke.insert_queue_dpc(restless.dpc) is True
    assert restless.runs == DPCS_PER_TURN
    assert system.ke.irql == PASSIVE_LEVEL and restless.dpc.queued
    restless.stop = True
    assert system.machine.run_until_idle() == 1
    assert restless.runs == DPCS_PER_TURN + 1 and not restless.dpc.queued


def test_expensive_dpcs_have_a_shorter_turn() -> None:
    system = System()
    restless = Restless(system.ke, cost=TURN)
    system.ke.insert_queue_dpc(restless.dpc)
    assert restless.runs < DPCS_PER_TURN
    restless.stop = True
    system.machine.run_until_idle()


def test_what_is_left_keeps_its_order() -> None:
    system = System()
    ran: list[int] = []
    count = 3 * DPCS_PER_TURN
    with system.ke.raised_irql(DISPATCH_LEVEL):
        for number in range(count):
            system.ke.insert_queue_dpc(Kdpc(lambda _d, n, _a, _b: ran.append(n), number))
    assert ran == list(range(DPCS_PER_TURN))
    system.machine.run_until_idle()
    assert ran == list(range(count))


def test_one_of_high_importance_that_never_rests_keeps_no_other_from_running() -> None:
    system = System()
    restless = Restless(system.ke)
    restless.dpc.importance = DpcImportance.HIGH
    ran: list[int] = []
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.ke.insert_queue_dpc(restless.dpc)
        for number in range(3):
            system.ke.insert_queue_dpc(Kdpc(lambda _d, n, _a, _b: ran.append(n), number))
    for _ in range(5):
        system.machine.step()
    assert ran == [0, 1, 2]
    restless.stop = True
    system.machine.run_until_idle()


def test_everything_else_that_is_ready_goes_before_them() -> None:
    with Bridge.manual() as bridge:
        driver, line = uart("other"), VirtualLine()
        plug(bridge, driver, "OTHER", line=line)
        restless = Restless(bridge.ke)
        bridge.ke.insert_queue_dpc(restless.dpc)
        with bridge.open("OTHER") as handle:
            for number in range(20):
                line.feed(b"%02d" % number)
                assert handle.read(2, timeout=0.5) == b"%02d" % number
        restless.stop = True


def test_a_deadline_comes_although_the_crank_never_stands_still() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("waits", {IrpMajor.READ: pend}))
        restless = Restless(bridge.ke)
        with bridge.open("DUT") as handle:
            bridge.ke.insert_queue_dpc(restless.dpc)
            with pytest.raises(DeviceTimeout):
                handle.read(1, timeout=0.25)
            assert handle.now() == pytest.approx(0.25, abs=0.01)
        restless.stop = True


def test_a_machine_that_is_to_come_to_rest_says_that_it_does_not() -> None:
    system = System()
    restless = Restless(system.ke)
    system.ke.insert_queue_dpc(restless.dpc)
    with pytest.raises(Deadlock, match="did not come to rest"):
        system.machine.run_until_idle(100)


def test_a_manual_bridge_closes_all_the_same_and_says_whose_they_are() -> None:
    bridge = Bridge.manual()
    driver = TinyDriver("restless")
    plug(bridge, driver)
    bridge.ke.insert_queue_dpc(Restless(bridge.ke, driver.device).dpc)
    bridge.close()
    assert "DPCs of restless queue themselves again for ever" in str(bridge.faults[0])


# -- on the poller -----------------------------------------------------------------------------------------------------------


def test_a_dispatch_routine_whose_dpc_never_rests_returns_and_the_poller_goes_on() -> None:
    restless: list[Restless] = []

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        device.extension.queue.insert(irp)
        restless.append(Restless(device.ke, device))
        device.ke.insert_queue_dpc(restless[0].dpc)
        return STATUS_PENDING

    good, line = uart("good"), VirtualLine()
    with Bridge() as bridge:
        plug(bridge, TinyDriver("restless", {IrpMajor.READ: read}), "RESTLESS")
        plug(bridge, good, "GOOD", line=line)
        ticked = threading.Semaphore(0)
        with bridge.open("RESTLESS") as handle, bridge.open("GOOD") as neighbour:
            request = Thread(lambda: handle.submit_read(1)).finish()
            bridge.ke.set_timer(Ktimer(), relative_ms(1), 1, Kdpc(lambda *_: ticked.release()))
            for number in range(50):
                line.feed(b"%02d" % number)
                assert neighbour.read(2, timeout=PATIENCE) == b"%02d" % number
            for _ in range(5):
                assert ticked.acquire(timeout=PATIENCE), "timers come, too"
            assert restless[0].runs > DPCS_PER_TURN, "and it has gone on"
            assert "hilbridge-poller" in restless[0].threads
            restless[0].stop = True
            request.cancel()
        assert bridge.faults == []


def test_one_that_begins_on_the_poller_stays_there() -> None:
    begun = threading.Event()
    with Bridge() as bridge:
        plug(bridge, TinyDriver("good", {IrpMajor.READ: answer(b"good")}), "GOOD")
        restless = Restless(bridge.ke)

        def begin(*_: Any) -> None:
            bridge.ke.insert_queue_dpc(restless.dpc)
            begun.set()

        bridge.ke.set_timer(Ktimer(), relative_ms(0), 0, Kdpc(begin))
        wait(begun)
        ran = threading.Event()
        bridge.ke.set_timer(Ktimer(), relative_ms(1), 0, Kdpc(lambda *_: ran.set()))
        wait(ran)
        with bridge.open("GOOD") as handle:
            assert handle.read(4) == b"good"
        restless.stop = True
        assert restless.threads == {"hilbridge-poller"}


def test_a_bridge_closes_under_a_dpc_that_never_rests() -> None:
    bridge = Bridge()
    driver = TinyDriver("restless")
    plug(bridge, driver)
    bridge.ke.insert_queue_dpc(Restless(bridge.ke, driver.device).dpc)
    Thread(bridge.close).finish()


def test_a_periodic_timer_that_is_far_behind_catches_up_in_turns() -> None:
    good, line = uart("good"), VirtualLine()
    with Bridge() as bridge:
        plug(bridge, good, "GOOD", line=line)
        timer, ticks = Ktimer(), [0]

        def tick(*_: Any) -> None:
            ticks[0] += 1

        # Absolute, and long ago on the clock, which counts from the machine's start: it is due millions of times.
        bridge.ke.set_timer(timer, 1, 1, Kdpc(tick))
        with bridge.open("GOOD") as handle:
            for number in range(10):
                line.feed(b"%02d" % number)
                assert handle.read(2, timeout=PATIENCE) == b"%02d" % number
        assert bridge.ke.cancel_timer(timer) and ticks[0] > 0
