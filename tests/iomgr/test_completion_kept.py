"""Completion: IRPs that are kept, completed twice, or met by a routine that raises."""

from __future__ import annotations

import sys
import threading
from typing import Any

from hilbridge import BugCheck
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_READY,
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.iomgr.completionkit import THROUGH, Reads, ends_with, pend_and_send, watcher
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
    wait,
)

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
    filtering.dispatch[IrpMajor.READ] = pend_and_send(retry)
    request = Reads(bottom, filtering).go()
    assert tries == [STATUS_DEVICE_NOT_READY, STATUS_DEVICE_NOT_READY, STATUS_SUCCESS]
    assert request.done and request.status == STATUS_SUCCESS


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
    irp = system.io.allocate_irp(top.stack_size)
    irp.next_stack_location.major_function = IrpMajor.READ
    irp.system_buffer = bytearray(4)
    irp.set_completion_routine(lambda _device, _irp, _context: STATUS_MORE_PROCESSING_REQUIRED)
    irp.cancel = True
    irp.driver_context[0] = "left over"
    system.io.call_driver(top, irp)
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
    mine = system.io.allocate_irp(2)
    mine.next_stack_location.major_function = IrpMajor.READ
    mine.set_completion_routine(lambda _device, _irp, _context: STATUS_MORE_PROCESSING_REQUIRED)
    system.io.call_driver(system.bottom.device, mine)
    with bug_check(0xC9, 0x20A, mine):
        system.io.free_irp(mine)
    with bug_check(0xC9, 0x310, mine):
        system.io.reuse_irp(mine)
    complete(system.bottom.device, mine)
    system.io.reuse_irp(mine)
    system.io.free_irp(mine)
    with bug_check(0xC9, 0x20A, mine):
        system.io.free_irp(mine)


def test_what_the_io_manager_has_made_is_not_the_drivers_to_free() -> None:
    system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
    system.go()
    built = system.io.build_synchronous_fsd_request(IrpMajor.READ, system.bottom.device, Kevent())
    for irp in (system.irp, built):
        with bug_check(0xC9, 0x02, irp):
            system.io.free_irp(irp)
        with bug_check(0xC9, 0x311, irp):
            system.io.reuse_irp(irp)
    complete(system.bottom.device, system.irp)


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
    with bug_check(0x44, system.irp) as caught:
        complete(system.bottom.device, system.irp)
    assert system.ke.faults == [caught.value], (
        "latched, although no driver was to be found on the stack: it held the IRP"
    )
    assert request.done and request.status.is_error, "the stack has failed, and with it the request"
    assert system.irp.state == IrpState.DISOWNED


def test_of_threads_that_complete_one_irp_at_the_same_moment_one_does() -> None:
    for _ in range(100):
        system = Reads(TinyDriver("bottom", {IrpMajor.READ: hold}))
        request = system.go()
        irp = system.irp
        start = threading.Barrier(3, timeout=PATIENCE)

        def finish(io: IoManager = system.io, irp: Irp = irp, start: threading.Barrier = start) -> int:
            start.wait()
            try:
                io.complete_request(irp)
            except BugCheck as error:
                return error.code
            return 0

        outcomes = [thread.finish() for thread in [Thread(finish) for _ in range(3)]]
        assert sorted(outcomes) == [0, 0x44, 0x44]
        # The mistake of the others fails the stack: the caller may hear of that first.
        assert request.done and (request.status == STATUS_SUCCESS or request.status.is_error)


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

    keeper = TinyDriver("keeper", {**THROUGH, IrpMajor.READ: pend_and_send(routine)}, named=False)
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
