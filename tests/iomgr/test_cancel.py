"""IoCancelIrp: who ends a cancelled request, and what a cancel routine must do."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import BugCheck, DriverFault
from hilbridge.iomgr.request import CANCEL_GRACE, IoRequest
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import System, TinyDriver, bug_check, complete, hold, pend


class Pended(System):
    """One read that its driver holds, with the cancel routine that the test wants."""

    def __init__(self, routine: Any = None) -> None:
        super().__init__()
        self.driver = TinyDriver("d", {IrpMajor.READ: hold})
        self.stack(self.driver)
        self.device = self.driver.device
        self.file = self.open(self.device)
        self.request = self.read(self.file, 4)
        assert self.request.irp is not None
        self.irp: Irp = self.request.irp
        if routine is not None:
            self.irp.set_cancel_routine(routine)

    @property
    def lock_is_free(self) -> bool:
        return self.device.device_stack.cancel_lock.owner is None and self.ke.irql == PASSIVE_LEVEL


def polite(device: DeviceObject[Any] | None, irp: Irp) -> None:
    """The cancel routine as it should be."""
    assert device is not None
    device.io.release_cancel_spin_lock(device)
    complete(device, irp, STATUS_CANCELLED)


def test_without_a_cancel_routine_the_irp_is_marked_and_nothing_else_happens() -> None:
    system = Pended()
    assert system.io.cancel_irp(system.irp) is False
    assert system.irp.cancel is True and not system.request.done
    assert system.lock_is_free
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert system.request.status == STATUS_SUCCESS, "cancelling promises nothing about the end"


def test_the_cancel_routine_is_called_once_with_the_lock_held_at_dispatch_level() -> None:
    seen: list[Any] = []

    def routine(device: DeviceObject[Any] | None, irp: Irp) -> None:
        assert device is not None
        lock = device.device_stack.cancel_lock
        seen.append((device, irp, irp.cancel, irp.cancel_routine, lock.owner is device.ke.current(), device.ke.irql))
        polite(device, irp)
        seen.append(device.ke.irql)

    system = Pended(routine)
    assert system.io.cancel_irp(system.irp) is True
    assert seen == [(system.device, system.irp, True, None, True, DISPATCH_LEVEL), PASSIVE_LEVEL]
    assert system.request.status == STATUS_CANCELLED
    assert system.lock_is_free
    assert system.io.cancel_irp(system.irp) is False
    assert len(seen) == 2


def test_cancelling_at_dispatch_level_stays_there() -> None:
    system = Pended(polite)
    with system.ke.raised_irql(DISPATCH_LEVEL):
        assert system.io.cancel_irp(system.irp) is True
        assert system.ke.irql == DISPATCH_LEVEL
    assert system.lock_is_free


def test_a_second_cancel_before_the_end_finds_no_routine() -> None:
    def later(device: DeviceObject[Any] | None, irp: Irp) -> None:
        assert device is not None
        device.io.release_cancel_spin_lock(device)

    system = Pended(later)
    assert system.io.cancel_irp(system.irp) is True
    assert system.io.cancel_irp(system.irp) is False
    complete(system.device, system.irp, STATUS_CANCELLED)
    assert system.request.status == STATUS_CANCELLED


def test_a_driver_that_takes_its_routine_back_owns_the_end() -> None:
    system = Pended(polite)
    assert system.irp.set_cancel_routine(None) is polite
    assert system.io.cancel_irp(system.irp) is False
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert system.request.status == STATUS_SUCCESS


def test_cancelling_what_has_come_back_changes_nothing() -> None:
    system = Pended()
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert system.io.cancel_irp(system.irp) is False
    assert system.request.status == STATUS_SUCCESS and system.lock_is_free


def test_cancelling_what_was_never_sent() -> None:
    system = System()
    irp = system.io.allocate_irp(1)
    assert system.io.cancel_irp(irp) is False
    assert irp.cancel is True


def test_a_completed_irp_that_still_has_a_cancel_routine_is_bug_check_48() -> None:
    system = Pended(polite)
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    with bug_check(0x48, system.irp, polite):
        system.io.cancel_irp(system.irp)
    assert system.lock_is_free and system.request.status == STATUS_SUCCESS


def test_a_routine_that_keeps_the_cancel_lock_is_bug_check_11b_and_the_lock_is_taken_from_it() -> None:
    def greedy(_device: object, _irp: Irp) -> None:
        pass

    system = Pended(greedy)
    with bug_check(0x11B, system.irp, greedy):
        system.io.cancel_irp(system.irp)
    assert system.lock_is_free
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and system.device.device_stack.fault is fault
    assert system.request.done and system.request.status.is_error, "its requests end with it"


@pytest.mark.parametrize("releases", [True, False])
def test_a_routine_that_raises_is_latched_and_the_lock_is_free(releases: bool) -> None:
    boom = KeyError("boom")

    def broken(device: DeviceObject[Any] | None, _irp: Irp) -> None:
        assert device is not None
        if releases:
            device.io.release_cancel_spin_lock(device)
        raise boom

    system = Pended(broken)
    with pytest.raises(DriverFault, match=r"KeyError.*in a cancel routine") as caught:
        system.io.cancel_irp(system.irp)
    assert caught.value.__cause__ is boom
    assert system.lock_is_free
    assert system.ke.faults == [caught.value] and system.request.done
    other = Pended(polite)
    assert other.io.cancel_irp(other.irp) is True


def test_a_routine_that_raises_with_a_lock_of_its_own_does_not_leave_the_caller_at_dispatch_level() -> None:
    def broken(device: DeviceObject[Any] | None, _irp: Irp) -> None:
        assert device is not None
        device.io.release_cancel_spin_lock(device)
        device.ke.spin_lock().acquire()
        raise KeyError

    system = Pended(broken)
    with pytest.raises(DriverFault):
        system.io.cancel_irp(system.irp)
    assert system.ke.irql == PASSIVE_LEVEL


def test_the_cancel_lock_is_per_stack() -> None:
    one, system = TinyDriver("one"), System()
    system.stack(one)
    two = TinyDriver("two")
    system.stack(two)
    system.io.acquire_cancel_spin_lock(one.device)
    system.io.acquire_cancel_spin_lock(two.device)
    assert one.device.device_stack.cancel_lock is not two.device.device_stack.cancel_lock
    with bug_check(0xF):
        lower = one.device.lower_device
        assert lower is not None
        system.io.acquire_cancel_spin_lock(lower)
    system.io.release_cancel_spin_lock(two.device)
    system.io.release_cancel_spin_lock(one.device)
    assert system.ke.irql == PASSIVE_LEVEL


def test_the_routine_gets_the_device_that_holds_the_irp() -> None:
    seen: list[Any] = []

    def routine(device: DeviceObject[Any] | None, irp: Irp) -> None:
        seen.append(device)
        polite(device, irp)

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        return device.io.call_driver(device.extension.lower, irp)

    def holding(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.set_cancel_routine(routine)
        return hold(device, irp)

    system = System()
    lower = TinyDriver("lower", {IrpMajor.READ: holding})
    upper = TinyDriver("upper", {IrpMajor.READ: read, IrpMajor.CREATE: lambda d, irp: complete(d, irp)}, named=False)
    system.stack(lower, upper)
    request = system.read(system.open(lower.device), 4)
    assert request.cancel() is True
    assert seen == [lower.device]


# -- from the caller's side ----------------------------------------------------------------------------------------------


def test_cancelling_a_request_is_cancelling_its_irp() -> None:
    system = Pended(polite)
    assert system.request.cancel() is True
    assert system.request.status == STATUS_CANCELLED
    assert system.request.cancel() is False, "it has ended"
    assert IoRequest(system.io, system.file).cancel() is False, "it has not begun"


def test_cancelling_a_files_io_asks_every_request_of_it_to_end() -> None:
    system = System()
    driver = TinyDriver("d", {IrpMajor.READ: pend, IrpMajor.WRITE: hold})
    system.stack(driver)
    one, two = system.open(driver.device), system.open(driver.device)
    mine = [system.read(one, 4), system.read(one, 4)]
    stubborn = system.write(one, b"x")
    other = system.read(two, 4)
    assert system.io.cancel_io(one) == 3
    assert [request.status for request in mine] == [STATUS_CANCELLED] * 2
    assert stubborn.irp is not None and stubborn.irp.cancel and not stubborn.done
    assert not other.done and other.irp is not None and not other.irp.cancel
    assert system.io.cancel_io(two) == 1


def test_giving_up_and_completing_race_for_one_end() -> None:
    for first in ("settle", "disown"):
        system = Pended()
        if first == "settle":
            assert system.request.settle(STATUS_SUCCESS, 3) is True
            assert system.request.disown() is False
            assert (system.request.status, system.request.information) == (STATUS_SUCCESS, 3)
            assert not system.request.disowned
        else:
            assert system.request.disown() is True
            assert system.request.settle(STATUS_SUCCESS, 3) is False
            assert system.request.status == STATUS_DRIVER_INTERNAL_ERROR and system.request.disowned
            assert system.irp.state == IrpState.DISOWNED and system.file.irps == {}


@pytest.mark.parametrize("then", ["complete", "pend and complete", "cancel routine and complete"])
def test_a_disowned_irp_may_still_go_every_way_without_anybody_noticing(then: str) -> None:
    system = Pended()
    system.request.disown()
    if then.startswith("pend"):
        system.irp.mark_pending()
    if then.startswith("cancel"):
        system.irp.set_cancel_routine(polite)
        system.io.cancel_irp(system.irp)
    else:
        complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert system.irp.state == IrpState.COMPLETED
    assert system.request.status == STATUS_DRIVER_INTERNAL_ERROR
    assert system.ke.faults == []


def test_a_caller_may_give_up_while_a_completion_routine_looks_at_the_irp() -> None:
    requests: list[IoRequest] = []

    def routine(_device: object, _irp: Irp, _context: object) -> NtStatus:
        assert requests[0].disown()
        return STATUS_SUCCESS

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(routine)
        return device.io.call_driver(device.extension.lower, irp)

    system = System()
    lower = TinyDriver("lower", {IrpMajor.READ: hold})
    through = {IrpMajor.CREATE: lambda device, irp: complete(device, irp), IrpMajor.READ: read}
    system.stack(lower, TinyDriver("upper", through, named=False))
    requests.append(system.read(system.open(lower.device), 4))
    irp = requests[0].irp
    assert irp is not None
    complete(lower.device, irp, STATUS_SUCCESS, 0)
    assert irp.state == IrpState.COMPLETED and system.ke.faults == []


def test_a_callback_runs_once_whenever_it_is_added() -> None:
    system = Pended()
    ran: list[str] = []
    system.request.add_done_callback(lambda: ran.append("early"))
    system.machine.run_until_idle()
    assert ran == []
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert ran == [], "never on a processor"
    system.request.add_done_callback(lambda: ran.append("late"))
    system.machine.run_until_idle()
    assert ran == ["early", "late"]


def test_waiting_cancels_when_the_time_is_up() -> None:
    system = Pended(polite)
    assert system.request.wait_ended(system.ke.current(), 3_000_000_000) is False
    assert system.request.status == STATUS_CANCELLED
    assert system.clock.now() == 3_000_000_000, "no grace was needed"


def test_waiting_for_what_has_ended_takes_no_time() -> None:
    system = Pended(polite)
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert system.request.wait_ended(system.ke.current(), 0) is True


def test_a_driver_that_does_not_end_a_cancelled_request_loses_it_after_the_grace() -> None:
    system = Pended()
    assert system.request.wait_ended(system.ke.current(), 3_000_000_000) is False
    assert system.clock.now() == 3_000_000_000 + CANCEL_GRACE
    assert system.request.disowned and system.request.status == STATUS_DRIVER_INTERNAL_ERROR
    (fault,) = system.ke.faults
    assert "driver d (\\Device\\d0) did not complete" in str(fault) and "within 2 s of its cancellation" in str(fault)
    assert fault.irp_id == system.irp.id
    assert system.device.device_stack.fault is fault


def test_who_holds_an_irp_in_words() -> None:
    system = Pended()
    assert system.request.holder() == "driver d (\\Device\\d0)"
    complete(system.device, system.irp, STATUS_SUCCESS, 0)
    assert system.request.holder() == "nobody"
    assert IoRequest(system.io, system.file).holder() == "nobody"


def test_a_status_pending_request_is_neither_done_nor_failed() -> None:
    system = Pended()
    assert system.request.status == STATUS_PENDING and not system.request.done
