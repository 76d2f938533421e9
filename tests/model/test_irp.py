"""IRP and stack locations: what drivers do to a request before the I/O manager has a part in it."""

from __future__ import annotations

import threading
from typing import Any

from hilbridge import BugCheck
from hilbridge.model.codes import (
    SL_INVOKE_ON_CANCEL,
    SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED,
    IrpMajor,
)
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.parameters import ReadParameters
from hilbridge.model.status import STATUS_SUCCESS, NtStatus
from tests.support import Thread, bug_check, now


def routine(_device: object, _irp: Irp, _context: Any) -> NtStatus:
    return STATUS_SUCCESS


def on_cancel(_device: object, _irp: Irp) -> None:
    pass


def at(location: int, stack_count: int = 3) -> Irp:
    """An IRP that some driver holds, with that location current."""
    irp = Irp(1, stack_count)
    irp.current_location = location
    irp.state = IrpState.DISPATCHED
    return irp


# -- a new one ---------------------------------------------------------------------------------------------------------


def test_a_new_irp_stands_above_its_stack_and_is_blank() -> None:
    irp = Irp(0x1234, 3, born=77)
    assert (irp.id, irp.born, irp.stack_count, irp.current_location) == (0x1234, 77, 3, 4)
    assert len(irp.stack) == 3
    assert irp.io_status.status == STATUS_SUCCESS and irp.io_status.information == 0
    assert irp.cancel is False and irp.pending_returned is False
    assert irp.cancel_routine is None
    assert irp.state == IrpState.ALLOCATED
    for location in irp.stack:
        assert location.control == 0 and location.completion_routine is None and location.device_object is None


def test_an_irp_shows_its_id_state_and_place() -> None:
    assert repr(at(2)) == "<IRP 0x0001 DISPATCHED at 2/3>"


# -- stack locations ---------------------------------------------------------------------------------------------------


def test_locations_are_numbered_from_the_bottom_and_the_next_one_is_below() -> None:
    irp = at(3)
    assert irp.current_stack_location is irp.stack[2]
    assert irp.next_stack_location is irp.stack[1]
    new = Irp(1, 3)
    assert new.next_stack_location is new.stack[2], "a creator fills in the top device's location"


def test_below_the_lowest_location_there_is_none() -> None:
    irp = at(1)
    with bug_check(0x35, irp):
        _ = irp.next_stack_location
    with bug_check(0x35, irp):
        irp.copy_current_stack_location_to_next()
    with bug_check(0x35, irp):
        irp.set_completion_routine(routine)


def test_copying_takes_all_but_the_completion_routine_and_zeroes_control() -> None:
    irp = at(3)
    here = irp.current_stack_location
    here.major_function, here.minor_function, here.flags = IrpMajor.READ, 7, 5
    here.parameters = ReadParameters(16)
    here.file_object = object()  # type: ignore[assignment]
    here.control = SL_PENDING_RETURNED | SL_INVOKE_ON_SUCCESS
    here.completion_routine, here.context = routine, "mine"
    there = irp.next_stack_location
    there.control, there.completion_routine, there.context = 0xFF, routine, "stale"
    irp.copy_current_stack_location_to_next()
    assert (there.major_function, there.minor_function, there.flags) == (IrpMajor.READ, 7, 5)
    assert there.parameters is here.parameters and there.file_object is here.file_object
    assert there.control == 0 and now(there.completion_routine) is None and now(there.context) is None
    assert (here.completion_routine, here.context) == (routine, "mine")


def test_changing_the_copy_leaves_the_original_alone() -> None:
    irp = at(3)
    irp.current_stack_location.parameters = ReadParameters(16)
    irp.copy_current_stack_location_to_next()
    irp.next_stack_location.parameters = irp.next_stack_location.parameters.read._replace(length=4)
    assert irp.current_stack_location.parameters.read.length == 16
    assert irp.next_stack_location.parameters.read.length == 4


def test_skipping_gives_the_driver_below_the_same_location() -> None:
    irp = at(2)
    here = irp.current_stack_location
    irp.skip_current_stack_location()
    assert irp.next_stack_location is here


def test_a_completion_routine_is_kept_in_the_next_location_with_its_wishes() -> None:
    for wishes, control in (
        ({}, SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL),
        ({"on_success": False}, SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL),
        ({"on_error": False}, SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_CANCEL),
        ({"on_cancel": False}, SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR),
        ({"on_success": False, "on_error": False, "on_cancel": False}, 0),
    ):
        irp = at(3)
        irp.set_completion_routine(routine, "context", **wishes)
        there = irp.stack[1]
        assert (there.completion_routine, there.context, there.control) == (routine, "context", control)
        assert irp.current_stack_location.completion_routine is None


# -- pending -----------------------------------------------------------------------------------------------------------


def test_marking_pending_marks_the_current_location_only() -> None:
    irp = at(2)
    irp.mark_pending()
    assert [location.control for location in irp.stack] == [0, SL_PENDING_RETURNED, 0]
    assert irp.state == IrpState.PENDING
    irp.mark_pending()
    assert irp.state == IrpState.PENDING, "twice does no harm"


def test_an_irp_that_nobody_was_sent_cannot_be_marked_pending() -> None:
    irp = Irp(1, 1)
    with bug_check(0x2A, irp):
        irp.mark_pending()


def test_the_creators_own_completion_routine_has_no_location_to_mark() -> None:
    irp = at(4)
    irp.state = IrpState.OFFERED
    irp.mark_pending()
    assert all(location.control == 0 for location in irp.stack)


# -- the cancel routine ------------------------------------------------------------------------------------------------


def test_setting_a_cancel_routine_returns_the_one_before() -> None:
    def other(_device: object, _irp: Irp) -> None:
        pass

    irp = at(1)
    assert irp.set_cancel_routine(on_cancel) is None
    assert irp.cancel_routine is on_cancel
    assert irp.set_cancel_routine(other) is on_cancel
    assert irp.set_cancel_routine(None) is other
    assert irp.set_cancel_routine(None) is None
    assert irp.cancel_routine is None


def test_of_many_threads_that_take_the_cancel_routine_one_gets_it() -> None:
    for _ in range(200):
        irp = at(1)
        irp.set_cancel_routine(on_cancel)
        assert _race(4, lambda irp=irp: irp.set_cancel_routine(None)).count(on_cancel) == 1


# -- the right to complete ---------------------------------------------------------------------------------------------


def test_the_right_to_complete_is_given_once() -> None:
    irp = at(1)
    irp.take_completion_token()
    with bug_check(0x44, irp):
        irp.take_completion_token()
    irp.return_completion_token()
    irp.take_completion_token()


def test_of_many_threads_that_complete_one_may() -> None:
    for _ in range(200):
        irp = at(1)
        outcomes = _race(4, lambda irp=irp: _taken(irp))
        assert sorted(outcomes) == [0, 0x44, 0x44, 0x44]


def _taken(irp: Irp) -> int:
    """0, or the bug check's code."""
    try:
        irp.take_completion_token()
    except BugCheck as error:
        return error.code
    return 0


def _race(count: int, work: Any) -> list[Any]:
    """What `count` threads get that do `work` at the same moment."""
    barrier = threading.Barrier(count, timeout=10)

    def one() -> Any:
        barrier.wait()
        return work()

    return [thread.finish() for thread in [Thread(one) for _ in range(count)]]
