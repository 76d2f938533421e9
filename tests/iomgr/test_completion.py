"""Completion: the three dispositions, completion routines, the way of "pending", and completing twice."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import BugCheck, DriverFault
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import SL_ERROR_RETURNED, SL_PENDING_RETURNED, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_READY,
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SERIAL_MORE_WRITES,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.support import (
    PATIENCE,
    Extension,
    System,
    Thread,
    TinyDriver,
    answer,
    bug_check,
    complete,
    hold,
    now,
    pass_down,
    pend,
    raises,
    succeed,
    wait,
)

Routine = Callable[[DeviceObject[Any] | None, Irp, Any], Any]
THROUGH = dict.fromkeys((IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE), pass_down)


def watcher(name: str, routine: Routine | None, context: Any = None, **wishes: bool) -> TinyDriver:
    """A filter that sends every READ down with that completion routine, and returns what came back."""

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        if routine is not None:
            irp.set_completion_routine(routine, context, **wishes)
        status = device.io.call_driver(device.extension.lower, irp)
        device.extension.notes.append(status)
        return status

    return TinyDriver(name, {**THROUGH, IrpMajor.READ: read}, named=False)


def ends_with(status: NtStatus, information: int = 0) -> TinyDriver:
    return TinyDriver("bottom", {IrpMajor.READ: lambda device, irp: complete(device, irp, status, information)})


class Reads(System):
    """A stack that is opened by its bottom's name, and read."""

    def __init__(self, *drivers: TinyDriver) -> None:
        super().__init__()
        self.drivers = drivers
        self.stack(*drivers)
        self.bottom = drivers[0]
        self.file = self.open(self.bottom.device)

    def go(self, length: int = 8) -> IoRequest:
        self.request = IoRequest(self.io, self.file, length)
        return self.io.submit_read(self.request, length)

    @property
    def irp(self) -> Irp:
        assert self.request.irp is not None
        return self.request.irp


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


# -- keeping an IRP ------------------------------------------------------------------------------------------------------


def test_a_routine_that_wants_more_processing_keeps_the_irp_until_it_completes_it_again() -> None:
    upper_saw: list[int] = []

    def keep(device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        assert device is not None
        device.extension.held.append(irp)
        irp.mark_pending()
        return STATUS_MORE_PROCESSING_REQUIRED

    def upper(_device: object, irp: Irp, _context: object) -> NtStatus:
        upper_saw.append(irp.current_location)
        return STATUS_SUCCESS

    keeper = watcher("keeper", keep)

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(keep)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    keeper.dispatch[IrpMajor.READ] = read
    bottom = TinyDriver("bottom", {IrpMajor.READ: answer(b"data")})
    system = Reads(bottom, keeper, watcher("above", upper))
    request = system.go()
    assert not now(request.done) and upper_saw == []
    assert keeper.device.extension.held == [system.irp]
    assert system.irp.state == IrpState.OFFERED
    complete(keeper.device, system.irp, STATUS_SUCCESS, 2)
    assert upper_saw == [4], "completion went on from the keeper's own location"
    assert request.done and request.data == b"da"


def test_a_kept_irp_can_be_sent_down_again() -> None:
    tries: list[NtStatus] = []

    def retry(device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        assert device is not None
        tries.append(irp.io_status.status)
        if len(tries) == 3:
            return STATUS_SUCCESS
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(retry)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_MORE_PROCESSING_REQUIRED

    statuses = iter([STATUS_DEVICE_NOT_READY, STATUS_DEVICE_NOT_READY, STATUS_SUCCESS])
    bottom = TinyDriver("bottom", {IrpMajor.READ: lambda device, irp: complete(device, irp, next(statuses))})
    filtering = watcher("retry", retry)
    filtering.dispatch[IrpMajor.READ] = _pend_and_send(retry)
    request = Reads(bottom, filtering).go()
    assert tries == [STATUS_DEVICE_NOT_READY, STATUS_DEVICE_NOT_READY, STATUS_SUCCESS]
    assert request.done and request.status == STATUS_SUCCESS


def _pend_and_send(routine: Routine) -> Callable[..., NtStatus]:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(routine)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    return read


def test_a_creator_may_reuse_its_irp_from_its_own_routine() -> None:
    system = System()
    served: list[int] = []

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        served.append(irp.id)
        return complete(device, irp)

    top = system.stack(TinyDriver("bottom", {IrpMajor.READ: read}))

    def again(_device: object, irp: Irp, left: int) -> NtStatus:
        system.io.reuse_irp(irp)
        if left:
            irp.next_stack_location.major_function = IrpMajor.READ
            irp.set_completion_routine(again, left - 1)
            system.io.call_driver(top, irp)
        return STATUS_MORE_PROCESSING_REQUIRED

    irp = system.io.allocate_irp(top.stack_size)
    irp.next_stack_location.major_function = IrpMajor.READ
    irp.set_completion_routine(again, 4)
    system.io.call_driver(top, irp)
    assert served == [irp.id] * 5
    system.io.free_irp(irp)


def test_a_reused_irp_is_as_new_but_for_its_id() -> None:
    system = System()
    top = system.stack(ends_with(STATUS_UNSUCCESSFUL, 5))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent(), buffer=bytearray(4))
    irp.cancel = True
    irp.driver_context[0] = "left over"
    system.io.call_and_wait(top, irp)
    system.io.reuse_irp(irp, STATUS_DEVICE_NOT_READY)
    new = Irp(irp.id, irp.stack_count)
    assert irp.io_status.status == STATUS_DEVICE_NOT_READY
    for name in [
        "state",
        "current_location",
        "stack_count",
        "cancel",
        "pending_returned",
        "flags",
        "file_object",
        "system_buffer",
        "user_buffer",
        "mdl_address",
        "user_event",
        "user_request",
        "driver_context",
        "cancel_routine",
    ]:
        assert getattr(irp, name) == getattr(new, name), name
    assert irp.io_status.information == 0
    for location in irp.stack:
        assert location.device_object is None and location.control == 0 and location.major_function == 0


def test_only_what_has_come_back_is_freed_or_reused() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
    system.go()
    with bug_check(0xC9, system.irp):
        system.io.free_irp(system.irp)
    with bug_check(0xC9, system.irp):
        system.io.reuse_irp(system.irp)
    complete(system.bottom.device, system.irp)


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


# -- twice ---------------------------------------------------------------------------------------------------------------


def test_completing_twice_in_the_dispatch_routine_is_bug_check_44() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        complete(device, irp)
        return complete(device, irp)

    system = Reads(TinyDriver("bottom", {IrpMajor.READ: read}))
    with bug_check(0x44):
        system.go()
    assert [getattr(fault, "code", None) for fault in system.ke.faults] == [0x44]


def test_completing_again_after_the_end_is_bug_check_44() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
    request = system.go()
    answer(b"first")(system.bottom.device, system.irp)
    with bug_check(0x44, system.irp):
        answer(b"second")(system.bottom.device, system.irp)
    assert request.data == b"first"


def test_a_routine_that_completes_the_irp_and_lets_it_go_on_is_bug_check_44() -> None:
    def routine(device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        assert device is not None
        complete(device, irp)
        return STATUS_SUCCESS

    system = Reads(ends_with(STATUS_SUCCESS), watcher("a", routine))
    with bug_check(0x44):
        system.go()
    assert system.irp.user_request.done


def test_an_irp_that_was_sent_on_cannot_be_completed_from_above() -> None:
    # Who passes an IRP down and then completes it as well completes a request that the driver below has pending.
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        pass_down(device, irp)
        return complete(device, irp)

    bottom = TinyDriver("bottom", {IrpMajor.READ: hold})
    system = Reads(bottom, TinyDriver("above", {**THROUGH, IrpMajor.READ: read}, named=False))
    system.go()
    with bug_check(0x44):
        complete(bottom.device, system.irp)


def test_who_comes_while_another_thread_is_about_to_complete_it_is_too_late() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
    request = system.go()
    system.irp.take_completion_token()  # the other thread has got so far
    with bug_check(0x44, system.irp):
        complete(system.bottom.device, system.irp)
    assert not request.done and system.irp.state == IrpState.PENDING


def test_of_threads_that_complete_one_irp_at_the_same_moment_one_does() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
    for _ in range(100):
        request = system.go()
        irp = system.irp
        start = threading.Barrier(3, timeout=PATIENCE)

        def finish(irp: Irp = irp, start: threading.Barrier = start) -> int:
            start.wait()
            try:
                system.io.complete_request(irp)
            except BugCheck as error:
                return error.code
            return 0

        outcomes = [thread.finish() for thread in [Thread(finish) for _ in range(3)]]
        assert sorted(outcomes) == [0, 0x44, 0x44]
        assert request.done and request.status == STATUS_SUCCESS


def test_an_irp_may_come_back_from_another_thread_while_the_routine_still_runs() -> None:
    # The routine keeps the IRP and hands it to a thread that completes it, before it has said so itself.
    finished = threading.Event()

    def routine(device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        assert device is not None

        def finish() -> None:
            complete(device, irp, STATUS_SUCCESS, 0)
            finished.set()

        Thread(finish)
        wait(finished)
        return STATUS_MORE_PROCESSING_REQUIRED

    keeper = TinyDriver("keeper", {**THROUGH, IrpMajor.READ: _pend_and_send(routine)}, named=False)
    system = Reads(ends_with(STATUS_SUCCESS), keeper)
    request = system.go()
    assert request.done and request.status == STATUS_SUCCESS
    assert system.ke.faults == []


def test_a_stack_of_any_depth_completes_without_a_deep_python_stack() -> None:
    depths: list[int] = []

    def depth() -> int:
        frame, count = sys._getframe(), 0
        while frame.f_back is not None:
            frame, count = frame.f_back, count + 1
        return count

    def routine(*_: Any) -> NtStatus:
        depths.append(depth())
        return STATUS_SUCCESS

    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}), *(watcher(f"f{n}", routine) for n in range(50)))
    system.go()
    complete(system.bottom.device, system.irp)
    assert len(depths) == 50 and len(set(depths)) == 1


# -- routines that raise -------------------------------------------------------------------------------------------------


def test_a_routine_that_raises_is_latched_and_the_request_ends() -> None:
    boom = KeyError("boom")
    above_ran: list[int] = []

    def above(*_: Any) -> NtStatus:
        above_ran.append(1)
        return STATUS_SUCCESS

    system = Reads(
        TinyDriver("bottom", {IrpMajor.READ: hold}),
        watcher("broken", raises(boom)),
        watcher("above", above),
    )
    request = system.go()
    complete(system.bottom.device, system.irp, STATUS_SUCCESS)
    (fault,) = system.ke.faults
    assert fault.__cause__ is boom
    assert "driver broken" in str(fault) and "completion routine" in str(fault)
    assert request.done and request.status.is_error and request.data == b""
    assert above_ran == [1], "the drivers above hear of the end"
    assert system.bottom.device.device_stack.fault is fault


def test_a_routine_that_raises_turns_the_irp_into_an_error_for_whoever_made_it() -> None:
    system = System()
    top = system.stack(ends_with(STATUS_SUCCESS, 5), watcher("broken", raises(KeyError("boom"))))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent())
    assert system.io.call_and_wait(top, irp) == STATUS_DRIVER_INTERNAL_ERROR
    assert irp.io_status.information == 0


def test_a_creators_routine_that_raises_hurts_the_stack_that_it_was_sent_to_and_no_other() -> None:
    system = System()
    top = system.stack(ends_with(STATUS_SUCCESS))
    irp = system.io.allocate_irp(top.stack_size)
    irp.next_stack_location.major_function = IrpMajor.READ
    irp.set_completion_routine(raises(KeyError("boom")))
    blamed: list[Any] = []
    system.ke.on_fault = lambda device, _fault: blamed.append(device)
    system.io.call_driver(top, irp)
    assert blamed and None not in blamed, "a fault of nobody ends the requests of every device of the bridge"


def test_a_pended_irp_that_the_routine_above_loses_is_not_lost() -> None:
    # `pend` is cancel-safe: the request can still be ended by its caller although a filter above raised before.
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: pend}), watcher("above", lambda *_: STATUS_SUCCESS))
    request = system.go()
    assert system.io.cancel_irp(system.irp) is True
    assert request.status == STATUS_CANCELLED
