"""The timer that the I/O manager keeps for a device."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault
from tests.support import System, TinyDriver, bug_check


class Clocked:
    """A device with a timer whose routine counts, and does what a test wants."""

    def __init__(self) -> None:
        self.system = System()
        self.device = self.system.stack(TinyDriver("clocked"))
        self.calls: list[tuple[Any, ...]] = []
        self.does: Any = lambda: None
        self.system.io.initialize_timer(self.device, self.routine, "context")

    def routine(self, device: DeviceObject[Any], context: Any) -> None:
        self.calls.append((device, context, self.system.ke.irql))
        self.does()

    def after(self, seconds: float) -> int:
        self.system.machine.advance(seconds)
        return len(self.calls)


@pytest.fixture
def clocked() -> Clocked:
    return Clocked()


def test_it_calls_once_a_second_at_dispatch_level(clocked: Clocked) -> None:
    assert clocked.after(5) == 0, "it was not started"
    clocked.system.io.start_timer(clocked.device)
    assert clocked.after(0.9) == 0
    assert clocked.after(0.1) == 1
    assert clocked.after(10) == 11
    assert set(clocked.calls) == {(clocked.device, "context", DISPATCH_LEVEL)}


def test_it_stops_and_goes_on(clocked: Clocked) -> None:
    io = clocked.system.io
    io.start_timer(clocked.device)
    clocked.after(2)
    io.stop_timer(clocked.device)
    assert clocked.after(10) == 2
    io.stop_timer(clocked.device)
    io.start_timer(clocked.device)
    assert clocked.after(1) == 3


def test_a_call_that_is_queued_when_it_is_stopped_does_not_come(clocked: Clocked) -> None:
    clocked.system.io.start_timer(clocked.device)
    with clocked.system.ke.raised_irql(DISPATCH_LEVEL):
        clocked.after(1)
        clocked.system.io.stop_timer(clocked.device)
    assert clocked.after(0) == 0


def test_it_goes_with_its_device(clocked: Clocked) -> None:
    io = clocked.system.io
    io.start_timer(clocked.device)
    assert clocked.device.lower_device is not None
    io.detach_device(clocked.device.lower_device)
    io.delete_device(clocked.device)
    assert clocked.after(10) == 0
    assert not clocked.system.ke.timers.running()


def test_a_device_has_one(clocked: Clocked) -> None:
    with bug_check(0xC9, 0x0A) as caught:
        clocked.system.io.initialize_timer(clocked.device, clocked.routine)
    assert "initialize it once" in str(caught.value)


def test_its_routine_does_not_stop_it(clocked: Clocked) -> None:
    clocked.does = lambda: clocked.system.io.stop_timer(clocked.device)
    clocked.system.io.start_timer(clocked.device)
    clocked.after(1)
    (fault,) = clocked.system.ke.faults
    assert "its own routine called stop_timer" in str(fault)
    assert clocked.device.device_stack.fault is fault


def test_a_routine_that_raises_fails_its_stack(clocked: Clocked) -> None:
    def fails() -> None:
        raise ZeroDivisionError("late")

    clocked.does = fails
    clocked.system.io.start_timer(clocked.device)
    clocked.after(1)
    (fault,) = clocked.system.ke.faults
    assert isinstance(fault, DriverFault)
    assert fault.driver == "clocked"
    assert "tests/iomgr/test_iotimer.py" in str(fault.place)


@pytest.mark.parametrize("call", ["start_timer", "stop_timer"])
def test_one_that_was_not_initialized(call: str) -> None:
    system = System()
    device = system.stack(TinyDriver("bare"))
    with pytest.raises(DriverFault, match="call initialize_timer in add_device"):
        getattr(system.io, call)(device)


def test_it_is_made_at_passive_level(clocked: Clocked) -> None:
    other = clocked.system.stack(TinyDriver("other"))
    with clocked.system.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA):
        clocked.system.io.initialize_timer(other, clocked.routine)
