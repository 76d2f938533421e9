"""Completion: the three dispositions, completion routines, and the way of "pending"."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from hilbridge import DriverFault
from hilbridge.model.codes import SL_ERROR_RETURNED, SL_PENDING_RETURNED, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_READY,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SERIAL_MORE_WRITES,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.iomgr.completionkit import THROUGH, Reads, ends_with, watcher
from tests.support import (
    Extension,
    System,
    TinyDriver,
    answer,
    bug_check,
    complete,
    hold,
    now,
    pass_down,
    succeed,
)

# -- the three dispositions ----------------------------------------------------------------------------------------------


def test_completed_at_once() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: answer(b"data")}))
    request = system.go()
    assert request.done
    assert (request.status, request.information, request.data) == (STATUS_SUCCESS, 4, b"data")
    assert system.irp.state == IrpState.COMPLETED and system.file.irps == {}


def test_pended_and_completed_later() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
    request = system.go()
    assert not now(request.done) and request.status == STATUS_PENDING
    assert list(system.file.irps.values()) == [system.irp]
    answer(b"late")(system.bottom.device, system.irp)
    assert request.done and request.data == b"late"
    assert system.file.irps == {}


def test_pended_and_completed_before_the_dispatch_routine_returned() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.mark_pending()
        answer(b"fast")(device, irp)
        return STATUS_PENDING

    request = Reads(TinyDriver("bottom", {IrpMajor.READ: read})).go()
    assert request.done and request.data == b"fast"


@pytest.mark.parametrize("raw", [0xC0000120, 0xC0000120 - (1 << 32)])
def test_a_status_that_a_driver_wrote_as_a_number_is_a_status_to_the_caller(raw: int) -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.io_status.status = raw  # type: ignore[assignment]
        device.io.complete_request(irp)
        return STATUS_CANCELLED

    request = Reads(TinyDriver("bottom", {IrpMajor.READ: read})).go()
    assert type(request.status) is NtStatus and request.status == STATUS_CANCELLED


def test_passed_down_through_many() -> None:
    skippers = [TinyDriver(f"f{n}", {**THROUGH, IrpMajor.READ: pass_down}, named=False) for n in range(20)]
    request = Reads(TinyDriver("bottom", {IrpMajor.READ: answer(b"deep")}), *skippers).go()
    assert request.data == b"deep"


def test_below_the_lowest_device_there_is_nobody() -> None:
    system = System()
    device = system.io.create_device(system.io.load_driver("d", TinyDriver("d").driver_entry), Extension())
    irp = system.io.allocate_irp(1)
    with bug_check(0x35, irp):
        irp.current_location = 1
        system.io.call_driver(device, irp)


def test_an_irp_made_for_a_lower_stack_runs_out_of_locations() -> None:
    system = System()
    top = system.stack(TinyDriver("bottom", {IrpMajor.FLUSH_BUFFERS: succeed}), watcher("above", None))
    irp = system.io.allocate_irp(1)
    irp.next_stack_location.major_function = IrpMajor.READ
    with bug_check(0x35, irp):
        system.io.call_driver(top, irp)


# -- completion routines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "cancelled", "wish", "called"),
    [
        (STATUS_SUCCESS, False, "on_success", True),
        (STATUS_SUCCESS, False, "on_error", False),
        (STATUS_SUCCESS, False, "on_cancel", False),
        (STATUS_SUCCESS, True, "on_cancel", True),
        (STATUS_SUCCESS, True, "on_error", False),
        (STATUS_SERIAL_MORE_WRITES, False, "on_success", True),
        (STATUS_BUFFER_OVERFLOW, False, "on_success", False),
        (STATUS_BUFFER_OVERFLOW, False, "on_error", True),
        (NtStatus(0x7FFF_FFFF), False, "on_success", True),
        (NtStatus(0x8000_0000), False, "on_success", False),
        (NtStatus(0x8000_0000), False, "on_error", True),
        (STATUS_UNSUCCESSFUL, False, "on_success", False),
        (STATUS_UNSUCCESSFUL, False, "on_error", True),
        (STATUS_CANCELLED, False, "on_cancel", False),
        (STATUS_CANCELLED, True, "on_cancel", True),
        (STATUS_CANCELLED, True, "on_success", False),
    ],
    ids=str,
)
def test_when_a_completion_routine_is_called(status: NtStatus, cancelled: bool, wish: str, called: bool) -> None:
    calls: list[Irp] = []

    def routine(_device: object, irp: Irp, _context: object) -> NtStatus:
        calls.append(irp)
        return STATUS_SUCCESS

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.cancel = cancelled
        return complete(device, irp, status)

    wishes = {"on_success": False, "on_error": False, "on_cancel": False, wish: True}
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: read}), watcher("above", routine, **wishes))
    assert system.go().status == status
    assert calls == ([system.irp] if called else [])


def test_routines_run_from_the_bottom_up_each_with_its_own_device_and_context() -> None:
    calls: list[Any] = []

    def routine(device: DeviceObject[Any] | None, irp: Irp, context: object) -> NtStatus:
        assert device is not None and irp.current_stack_location.device_object is device
        calls.append((device.driver_object.name, context, irp.io_status.status))
        return STATUS_SUCCESS

    a, b = watcher("a", routine, "A"), watcher("b", routine, "B")
    Reads(ends_with(STATUS_DEVICE_NOT_READY), a, b).go()
    assert calls == [("a", "A", STATUS_DEVICE_NOT_READY), ("b", "B", STATUS_DEVICE_NOT_READY)]
    assert a.notes == [STATUS_DEVICE_NOT_READY]


def test_a_routine_finds_the_location_below_cleared() -> None:
    seen: list[Any] = []

    def routine(_device: object, irp: Irp, _context: object) -> NtStatus:
        below = irp.next_stack_location
        seen.append((below.completion_routine, below.context, below.control))
        return STATUS_SUCCESS

    system = Reads(ends_with(STATUS_SUCCESS), watcher("above", routine, "context"))
    system.go()
    assert seen == [(None, None, 0)]


def test_a_routine_may_change_how_the_request_ends() -> None:
    def routine(_device: object, irp: Irp, _context: object) -> NtStatus:
        irp.io_status.status = STATUS_SUCCESS
        irp.io_status.information = 2
        assert irp.system_buffer is not None
        irp.system_buffer[:2] = b"ok"
        return STATUS_SUCCESS

    request = Reads(ends_with(STATUS_UNSUCCESSFUL), watcher("above", routine)).go()
    assert (request.status, request.data) == (STATUS_SUCCESS, b"ok")


@pytest.mark.parametrize("result", [STATUS_SUCCESS, STATUS_UNSUCCESSFUL, STATUS_PENDING])
def test_whatever_else_a_routine_returns_the_irp_goes_on(result: NtStatus) -> None:
    assert Reads(ends_with(STATUS_SUCCESS), watcher("above", lambda *_: result)).go().done


def test_a_routine_that_forgets_to_return_a_status_is_its_own_drivers_fault() -> None:
    system = Reads(ends_with(STATUS_SUCCESS), watcher("careless", lambda *_: None))
    with contextlib.suppress(DriverFault):
        system.go()
    assert system.irp.user_request.done
    (latched,) = system.ke.faults
    assert "careless" in str(latched) and "completion routine" in str(latched)


def test_the_creators_routine_gets_no_device() -> None:
    system = System()
    top = system.stack(ends_with(STATUS_SUCCESS))
    seen: list[Any] = []

    def routine(device: object, irp: Irp, context: object) -> NtStatus:
        seen.append((device, irp, context))
        return STATUS_MORE_PROCESSING_REQUIRED

    irp = system.io.allocate_irp(top.stack_size)
    irp.next_stack_location.major_function = IrpMajor.READ
    irp.set_completion_routine(routine, "mine")
    assert system.io.call_driver(top, irp) == STATUS_SUCCESS
    assert seen == [(None, irp, "mine")]
    system.io.free_irp(irp)
    assert irp.state == IrpState.FREED


# -- pending on its way up -----------------------------------------------------------------------------------------------


def test_pending_is_passed_on_upward_where_no_routine_runs() -> None:
    a, b = watcher("a", None), watcher("b", lambda *_: STATUS_SUCCESS, on_success=False, on_error=False)
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}), a, b)
    system.go()
    irp = system.irp
    complete(system.bottom.device, irp)
    assert irp.pending_returned
    assert irp.stack[-1].control & SL_PENDING_RETURNED
    assert a.notes == b.notes == [STATUS_PENDING]


def test_a_routine_that_runs_passes_pending_on_itself_or_it_is_lost() -> None:
    for passes_on in (True, False):

        def routine(_device: object, irp: Irp, passes_on: bool) -> NtStatus:
            assert irp.pending_returned
            if passes_on:
                irp.mark_pending()
            return STATUS_SUCCESS

        system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}), watcher("a", routine, passes_on))
        system.go()
        complete(system.bottom.device, system.irp)
        assert system.irp.pending_returned is passes_on


def test_what_was_completed_at_once_is_not_pending_anywhere() -> None:
    system = Reads(ends_with(STATUS_SUCCESS), watcher("a", None))
    system.go()
    assert not system.irp.pending_returned
    assert not any(location.control & SL_PENDING_RETURNED for location in system.irp.stack)


def test_an_error_is_recorded_on_its_way_up() -> None:
    for status, recorded in (
        (STATUS_UNSUCCESSFUL, True),
        (NtStatus(0xC000_0000), True),
        (STATUS_BUFFER_OVERFLOW, False),
        (STATUS_SUCCESS, False),
    ):
        system = Reads(ends_with(status), watcher("a", None))
        system.go()
        assert bool(system.irp.stack[-1].control & SL_ERROR_RETURNED) is recorded
