"""The way down: what call_driver looks at before it hands an IRP over, and after the dispatch routine has returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import (
    APC_LEVEL,
    DISPATCH_LEVEL,
    FO_CLEANUP_COMPLETE,
    FO_FILE_OPEN_CANCELLED,
    SL_PENDING_RETURNED,
    IrpMajor,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import IrpOrigin
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import STATUS_NOT_SUPPORTED, STATUS_PENDING, NtStatus
from hilbridge.observe.verifier import protocol
from hilbridge.observe.verifier.irp import VerifiedIrp
from hilbridge.observe.verifier.protocol import PROTOCOL
from hilbridge.observe.verifier.watch import Verifier, is_below, place_of_routine

if TYPE_CHECKING:
    from hilbridge.model.irp import IoStackLocation

_ANY_IRQL = frozenset(
    {IrpMajor.READ, IrpMajor.WRITE, IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL, IrpMajor.POWER}
)
"""What may be sent at DISPATCH_LEVEL."""
_INITIAL = {
    IrpMajor.PNP: "PnpInitialStatus",
    IrpMajor.POWER: "PowerInitialStatus",
    IrpMajor.SYSTEM_CONTROL: "WmiInitialStatus",
}
_RESERVED = frozenset(
    {
        PnpMinor.START_DEVICE,
        PnpMinor.QUERY_REMOVE_DEVICE,
        PnpMinor.REMOVE_DEVICE,
        PnpMinor.CANCEL_REMOVE_DEVICE,
        PnpMinor.STOP_DEVICE,
        PnpMinor.QUERY_STOP_DEVICE,
        PnpMinor.CANCEL_STOP_DEVICE,
        PnpMinor.SURPRISE_REMOVAL,
    }
)
_NEVER_A_STATUS = 0xFFFF_FFFF


def before(verifier: Verifier, device: Any, irp: Any, irql: int) -> None:
    """Before the IRP is handed over. Raises where the rule is fatal."""
    report = verifier.report
    if not isinstance(irp, VerifiedIrp):
        report("CallDriverIrp", details=f"got {irp!r}")
        return
    if not isinstance(device, DeviceObject):
        report("NullDevice", irp=irp, details=f"got {device!r}")
        return
    if irql > DISPATCH_LEVEL:
        report("CallDriverIrql", irp=irp, details=f"at IRQL {irql}")
    if device.delete_pending and device.lower_device is None and not device.driver_object.devices:
        report("CallDriverDevice", irp=irp, details=f"{device!r} has been deleted")
    if irp.current_location <= 1:
        return  # there is no location left, and the model says so itself
    there = irp.stack[irp.current_location - 2]
    if irql == DISPATCH_LEVEL and there.major_function not in _ANY_IRQL:
        report("ForwardedAtBadIrql", irp=irp, details=f"IRP_MJ_{IrpMajor(there.major_function).name}")
    if irp.current_location == irp.stack_count + 1 and not irp.sent:
        _first_time(verifier, irp, there, irql)
    else:
        _on_its_way(verifier, device, irp, there)


def _first_time(verifier: Verifier, irp: VerifiedIrp, there: IoStackLocation, irql: int) -> None:
    """Sent by who has made it."""
    major = there.major_function
    if not verifier.running():
        return  # the I/O manager's own
    initial = _INITIAL.get(IrpMajor(major))
    if initial is not None and irp.io_status.status != STATUS_NOT_SUPPORTED:
        verifier.report(initial, irp=irp, details=f"it was sent with {irp.io_status.status!r}")
    if major == IrpMajor.PNP and there.minor_function in _RESERVED:
        verifier.report("SystemReservedIrp", irp=irp, details=f"IRP_MN_{PnpMinor(there.minor_function).name}")
    if major in PROTOCOL:
        protocol.first_time(verifier, irp, there)
    if irql >= APC_LEVEL and irp.user_event is not None and irp.origin == IrpOrigin.SYNCHRONOUS:
        verifier.report("SynchronousAtApc", irp=irp, details=f"at IRQL {irql}")
    file = there.file_object
    if major == IrpMajor.CREATE and file is not None and file.flags & (FO_CLEANUP_COMPLETE | FO_FILE_OPEN_CANCELLED):
        verifier.report("CreateWithClosedFile", irp=irp, details=f"{file!r}")
    if (
        irp.user_request is None
        and irp.user_event is None
        and irp.origin in (IrpOrigin.ALLOCATED, IrpOrigin.ASYNCHRONOUS)
        and there.completion_routine is None
        and irp.built.master is None
    ):
        verifier.report("IoAllocateForward", irp=irp)


def _on_its_way(verifier: Verifier, device: DeviceObject[Any], irp: VerifiedIrp, there: IoStackLocation) -> None:
    """Passed on by a driver of the stack."""
    report = verifier.report
    if irp.cancel_routine is not None:
        report("ForwardedWithCancelRoutine", irp=irp)
    caller = verifier.caller()
    if irp.refused is not None and irp.refused is caller:
        report("RemoveLockRefused", irp=irp)
    location = irp.current_location
    skipped = irp.at == location - 1
    here = irp.stack[location - 1] if location <= irp.stack_count else there
    if caller is not None and caller.device_stack is device.device_stack and caller is not device:
        holder = there.device_object if skipped else here.device_object
        if irp.state in (IrpState.PENDING, IrpState.DISPATCHED) and is_below(holder, caller):
            report("ForwardedWhilePendingBelow", irp=irp, device=caller, details=f"{holder!r} has it")
        if caller.lower_device is not None and caller.lower_device is not device and device in caller.walk_down():
            report(
                "SkippedDevice", irp=irp, details=f"sent to {device!r}, and the next lower is {caller.lower_device!r}"
            )
    if skipped:
        major, minor = there.major_function, there.minor_function
    else:
        major, minor = here.major_function, here.minor_function
        _next_location(verifier, irp, here, there, location - 1)
    if major in PROTOCOL:
        protocol.passed_down(verifier, irp, caller, major, minor, (there if skipped else here).parameters)


def _next_location(
    verifier: Verifier, irp: VerifiedIrp, here: IoStackLocation, there: IoStackLocation, number: int
) -> None:
    """What the driver has put into the next stack location."""
    report = verifier.report
    if there.control & SL_PENDING_RETURNED:
        report("ControlNotZeroed", irp=irp)
    if there.completion_routine is not None and number not in irp.routine_at:
        report("CompletionRoutineCopied", irp=irp)
    if number not in irp.copied_at and there.major_function == 0 and here.major_function != 0:
        report("StackLocationNotCopied", irp=irp)
    if number in irp.copied_at and there.completion_routine is None:
        report("CopiedWithoutCompletionRoutine", irp=irp)


def after(
    verifier: Verifier, device: DeviceObject[Any], irp: VerifiedIrp, location: int, status: Any, event_was_set: bool
) -> None:
    """After the dispatch routine of `device` has returned `status`. The IRP may be anybody's by now, and may have ended."""

    def report(name: str, details: str = "") -> None:
        routine = device.driver_object.major_function[irp.stack[location - 1].major_function]
        verifier.report(name, irp=irp, device=device, place=place_of_routine(routine), details=details)

    if status.__class__ is not NtStatus:
        if status in (_NEVER_A_STATUS, -1):
            report("UninitializedReturn")
        elif (
            location not in irp.forwarded or status is not irp.forwarded[location]
        ):  # not what the driver below returned
            report("SuspiciousReturn", details=f"it returned {status!r}")
        return
    if status == _NEVER_A_STATUS:
        report("UninitializedReturn")
    marked = location in irp.marked_at
    passed_down = irp.forwarded.get(location)
    if status == STATUS_PENDING:
        if not marked and (passed_down is None or passed_down != STATUS_PENDING):
            done = location in irp.completed_at and passed_down is None
            report("PendedCompletedRequest" if done else "MarkIrpPending2")
        elif event_was_set and irp.stack_count == location:
            report("SignaledEvent")
        if marked and irp.cancel_routine is not None and not irp.looked_at_cancel:
            report("IrpCancelField")
        return
    if marked:
        report("MarkIrpPending", details=f"it returned {status.name}")
        return
    if location in irp.completed_at:
        ended = irp.ended_with.get(location)
        if ended is not None and ended != status:
            name = "LowerDriverReturn" if passed_down is not None else "CompleteRequestStatusCheck"
            report(name, details=f"it returned {status.name}, and the IRP ended with {ended}")
    elif passed_down is not None:
        if passed_down != status and irp.state != IrpState.OFFERED:
            report("LowerDriverReturn", details=f"{passed_down} became {status.name}")
    elif irp.state in (IrpState.DISPATCHED, IrpState.PENDING):
        report("IrpProcessingComplete", details=f"it returned {status.name}")
