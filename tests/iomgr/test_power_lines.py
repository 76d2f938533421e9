"""One SET_POWER or QUERY_POWER of a kind at a time for each stack; what comes meanwhile waits, and each has its turn."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge
from hilbridge.model.codes import DISPATCH_LEVEL, DO_POWER_PAGABLE, PowerMinor, SystemPowerState
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import IoStatusBlock, Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.iomgr.powerkit import D0, D1, D2, D3, POWER, QUERY, SET, PowerSystem, lets_through
from tests.support import Thread, TinyDriver, now, plug, raises

S0, S3 = SystemPowerState.WORKING, SystemPowerState.SLEEPING3
MODULES = ("hilbridge.iomgr.powersend", "hilbridge.iomgr.powerqueue")


def test_the_second_is_sent_when_the_first_has_ended() -> None:
    system = PowerSystem(TinyDriver("top"))
    bus = system.bus
    bus.holds = True
    for state in (D1, D2, D3):
        system.ask(SET, state)
    system.ask(QUERY, D0)
    assert bus.log == now(["SET D1"])
    bus.let_go()
    assert bus.log == now(["SET D1", "SET D2"])
    bus.let_go()
    bus.let_go()
    bus.let_go()
    assert bus.log == ["SET D1", "SET D2", "SET D3", "QUERY D0"]
    assert [name for name, _ in system.done] == bus.log


def test_the_two_kinds_do_not_wait_for_each_other() -> None:
    """A request for the system gives rise to one for the device, and waits for that."""
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(SET, D3)
    assert system.bus.log == now(["SET D3"])
    system.bus.holds = False
    assert system.io.send_power(system.pdo, QUERY, S3) == STATUS_SUCCESS
    assert system.bus.log == ["SET D3", "QUERY SLEEPING3"]
    assert system.done == []


def test_stacks_do_not_wait_for_each_other() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(SET, D3)
    system.bus.holds = False
    other = system.stack_on_bus(TinyDriver("other"))
    assert system.io.send_power(other, SET, D3) == STATUS_SUCCESS
    assert system.done == []


def test_the_next_one_is_not_sent_before_the_callback_has_returned() -> None:
    system = PowerSystem(TinyDriver("top"))
    seen: list[list[str]] = []

    def callback(
        device: DeviceObject[Any], _minor: PowerMinor, _state: Any, context: int, _iosb: IoStatusBlock
    ) -> None:
        if context:
            device.po.request_power_irp(device, SET, D0, callback, context - 1)
        seen.append(list(system.bus.log))

    system.io.request_power_irp(system.pdo, SET, D3, callback, 2)
    assert seen == [["SET D3"], ["SET D3", "SET D0"], ["SET D3", "SET D0", "SET D0"]]


def test_a_long_chain_needs_no_stack() -> None:
    """Each is asked for in the callback of the one before, and ends at once: as a driver does that powers up and down."""
    system = PowerSystem(TinyDriver("top"))
    left = [2000]

    def callback(device: DeviceObject[Any], *_: Any) -> None:
        left[0] -= 1
        if left[0]:
            device.po.request_power_irp(device, SET, D3 if left[0] % 2 else D0, callback)

    system.io.request_power_irp(system.pdo, SET, D3, callback)
    assert left == [0] and len(system.bus.log) == 2000


def test_a_long_line_needs_no_stack_either() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    for number in range(2000):
        system.ask(SET, D3 if number % 2 else D0, number)
    system.bus.holds = False
    system.bus.let_go()
    assert [context for context, _ in system.done] == list(range(2000))


def test_a_driver_may_ask_in_its_dispatch_routine() -> None:
    asked: list[str] = []

    def note(device: DeviceObject[Any], irp: Irp) -> None:
        if not asked:
            asked.append("once")
            device.po.request_power_irp(device, SET, D0, lambda *_: asked.append("done"))
            assert system.bus.log == []

    system = PowerSystem(TinyDriver("top", {POWER: lets_through(note)}))
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_SUCCESS
    assert system.bus.log == ["SET D3", "SET D0"] and asked == ["once", "done"]


def test_a_pagable_stack_waits_for_a_worker_in_line_too() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.pdo.top.flags |= DO_POWER_PAGABLE
    system.bus.holds = True
    system.ask(SET, D3)
    system.ask(SET, D0)
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.bus.let_go()
        assert system.bus.log == now(["SET D3"])
    system.machine.run_until_idle()
    assert system.bus.log == ["SET D3", "SET D0"]


def test_who_does_not_wait_any_more_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, while another one is out: what has not been sent is not sent any more."""
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(SET, D3)
    monkeypatch.setattr(system.ke, "wait_for_single_object", raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        system.io.send_power(system.pdo, SET, D0)
    system.ask(SET, D1)
    system.bus.let_go()
    assert system.bus.log == ["SET D3", "SET D1"]
    assert not system.ke.faults


# -- on several threads --------------------------------------------------------------------------------------------------


class Racing:
    """A stack whose bus driver counts how many requests are out, and ends them at once or when a thread says so."""

    def __init__(self) -> None:
        self.system = PowerSystem()
        self.out = self.most = 0
        bus, dispatch = self.system.bus, self.system.bus.power

        def power(device: DeviceObject[Any], irp: Irp) -> NtStatus:
            self.out += 1
            self.most = max(self.most, self.out)
            return dispatch(device, irp)

        bus.driver.major_function[POWER] = power

    def ask(self, number: int) -> None:
        def callback(*_: Any) -> None:
            self.out -= 1
            self.system.done.append(number)

        self.system.io.request_power_irp(self.system.pdo, SET, D3, callback)

    def let_all_go(self) -> None:
        bus = self.system.bus
        while bus.held:
            bus.let_go()

    def check(self, count: int) -> None:
        system = self.system
        assert sorted(system.done) == list(range(count)), system.done
        assert self.most == 1 and self.out == 0
        assert len(system.ke.timers) == 0 and not system.ke.faults
        power = system.pdo.device_stack.power
        assert power is not None and power.sent() == power.take_waiting() == []


@pytest.mark.parametrize("holds", [False, True])
def test_threads_that_ask_at_once(holds: bool) -> None:
    def build() -> Race:
        racing = Racing()
        racing.system.bus.holds = holds

        def check() -> None:
            racing.let_all_go()
            racing.check(3)

        def two() -> None:
            racing.ask(1)
            if holds:
                racing.let_all_go()
            racing.ask(2)

        return Race({"one": lambda: racing.ask(0), "two": two}, check)

    done = explore(build, granularity=Granularity.LINES, preemptions=1, samples=150, modules=MODULES)
    assert done.schedules > 200


def test_who_ends_one_and_who_asks_for_the_next() -> None:
    """Neither may rely on the other to send it: then nobody would."""

    def build() -> Race:
        racing = Racing()
        racing.system.bus.holds = True
        racing.ask(0)

        def ends() -> None:
            racing.system.bus.holds = False
            racing.system.bus.let_go()

        return Race({"ends": ends, "asks": lambda: racing.ask(1)}, lambda: racing.check(2))

    explore(build, granularity=Granularity.LINES, preemptions=1, samples=300, modules=MODULES)


def test_a_stack_that_fails_and_who_asks() -> None:
    """Whatever comes first: who waits is told, and nobody waits for ever."""
    outcomes: set[str] = set()

    def build() -> Race:
        racing = Racing()
        system = racing.system
        system.bus.holds = True
        racing.ask(0)
        told: list[str] = []

        def waits() -> None:
            try:
                told.append(system.io.send_power(system.pdo, SET, D0).name)
            except RuntimeError as error:
                told.append(str(error)[:20])

        def fails() -> None:
            system.io.fault(system.pdo, RuntimeError("broken"), "a test")

        def check() -> None:
            outcomes.update(told)
            assert len(told) == 1 and system.bus.log == ["SET D3"]
            power = system.pdo.device_stack.power
            assert power is not None and power.sent() == power.take_waiting() == []
            assert len(system.ke.timers) == 0

        return Race({"waits": waits, "fails": fails}, check)

    explore(build, granularity=Granularity.LINES, preemptions=1, samples=300, modules=MODULES)
    assert outcomes == {"driver powerbus of a"}


def test_a_stack_that_fails_while_a_request_is_sent() -> None:
    """Its timer goes with it, also if it is set only now."""

    def build() -> Race:
        racing = Racing()
        system = racing.system
        system.bus.holds = True

        def fails() -> None:
            system.io.fault(system.pdo, RuntimeError("broken"), "a test")

        def check() -> None:
            power = system.pdo.device_stack.power
            assert power is not None and power.sent() == power.take_waiting() == []
            assert len(system.ke.timers) == 0 and len(system.ke.faults) == 1

        return Race({"asks": lambda: racing.ask(0), "fails": fails}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=("hilbridge.iomgr.powersend",))


def test_a_wait_wake_is_cancelled_while_it_wakes() -> None:
    outcomes: set[Any] = set()

    def build() -> Race:
        system = PowerSystem()
        irp = system.io.request_wait_wake(system.pdo, S3, system.callback)

        def check() -> None:
            assert len(system.done) == 1 and not system.ke.faults
            outcomes.add(system.done[0][1])

        def wakes() -> None:
            for held in list(system.bus.armed):
                if held.set_cancel_routine(None) is not None:
                    system.bus.armed.clear()
                    system.bus.let_go(held)

        return Race({"cancels": lambda: system.io.cancel_irp(irp), "wakes": wakes}, check)

    explore(build, preemptions=3)
    explore(build, granularity=Granularity.LINES, preemptions=2, modules=(*MODULES, "hilbridge.iomgr.cancel", __name__))
    assert outcomes == {STATUS_CANCELLED, STATUS_SUCCESS}


def test_the_line_on_a_machine_that_runs() -> None:
    """Several threads ask and wait, on a bridge with a poller and workers."""
    with Bridge() as bridge:
        out: list[int] = []

        def came_back(_device: DeviceObject[Any] | None, _irp: Irp, _context: Any) -> NtStatus:
            out.pop()
            return STATUS_SUCCESS

        def power(device: DeviceObject[Any], irp: Irp) -> NtStatus:
            out.append(1)
            assert len(out) == 1
            irp.mark_pending()
            irp.copy_current_stack_location_to_next()
            irp.set_completion_routine(came_back)
            device.io.call_driver(device.extension.lower, irp)
            return STATUS_PENDING

        driver = TinyDriver("counts", {POWER: power})
        plug(bridge, driver)
        pdo = driver.device.bottom

        def asks() -> list[NtStatus]:
            return [bridge.io.send_power(pdo, SET, state) for state in (D3, D0) * 25]

        threads = [Thread(asks) for _ in range(3)]
        for thread in threads:
            assert thread.finish() == [STATUS_SUCCESS] * 50
        assert not out
