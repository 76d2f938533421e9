"""The way up: what complete_request looks at, and what a completion routine may leave behind."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import holder_of
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DISPATCH_LEVEL,
    DO_BUFFERED_IO,
    SL_PENDING_RETURNED,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp, IrpOrigin
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import STATUS_PENDING, NtStatus
from hilbridge.observe.verifier import protocol
from hilbridge.observe.verifier.irp import VerifiedIrp
from hilbridge.observe.verifier.protocol import PROTOCOL
from hilbridge.observe.verifier.watch import Verifier, is_below

_NT_ERROR = 0xC000_0000
_MINUS_ONE = 0xFFFF_FFFF


def completing(verifier: Verifier, irp: Any, irql: int) -> None:
    """complete_request has been called. Raises where the rule is fatal."""
    report = verifier.report
    if not isinstance(irp, VerifiedIrp) or irp.state in (IrpState.COMPLETED, IrpState.FREED, IrpState.COMPLETING):
        return  # completed before: the model says so
    if irql > DISPATCH_LEVEL:
        report("CompletedAboveDispatch", irp=irp, details=f"at IRQL {irql}")
    if not irp.sent:
        report("CompletedNeverSent", irp=irp)
    status: Any = irp.io_status.status
    if status.__class__ is not NtStatus:
        report("SuspiciousStatus", irp=irp, details=f"{status!r}")
    if status in (STATUS_PENDING, _MINUS_ONE, -1):
        report("CompletedWithStatusPending", irp=irp)
    if irp.cancel_routine is not None:
        report("CompletedWithCancelRoutine", irp=irp)
    has_it = holder_of(irp)
    caller = verifier.caller()
    if irp.state == IrpState.PENDING and is_below(has_it, caller) and verifier.running()[-1].kind != "completion":
        report("CompletedWhilePendingBelow", irp=irp, device=caller, details=f"{has_it!r} has it")
    if has_it is None and irp.sent and irp.origin in (IrpOrigin.ALLOCATED, IrpOrigin.ASYNCHRONOUS):
        report("IoBuildFsdComplete", irp=irp)
    held = verifier.held_here()
    if held:
        report("SpinLockSafe", irp=irp, details=f"{len(held)} held")
    if has_it is not None:
        _information(verifier, irp, has_it)
        if irp.stack[irp.current_location - 1].major_function in PROTOCOL:
            protocol.completed(verifier, irp, has_it)


def _information(verifier: Verifier, irp: VerifiedIrp, device: DeviceObject[Any]) -> None:
    """Buffered requests only: how large the buffer of any other is, is the caller's affair."""
    location = irp.stack[irp.current_location - 1]
    major, room = location.major_function, None
    if major == IrpMajor.READ and device.device_stack is not None and irp.system_buffer is not None:
        room = location.parameters.read.length if device.flags & DO_BUFFERED_IO else None
    elif major == IrpMajor.DEVICE_CONTROL and location.parameters.device_io_control.io_control_code & 3 == 0:
        room = location.parameters.device_io_control.output_buffer_length
    if room is not None and irp.io_status.information > room and int(irp.io_status.status) < _NT_ERROR:
        verifier.report("InformationTooLarge", irp=irp, details=f"{irp.io_status.information}, with room for {room}")


def offered(
    verifier: Verifier, device: DeviceObject[Any] | None, irp: Irp, location: int, pending: bool, place: str | None
) -> None:
    """A completion routine has returned, and has let the IRP go on. `pending`: what it has seen in ``pending_returned``."""
    if pending and location <= irp.stack_count and not irp.stack[location - 1].control & SL_PENDING_RETURNED:
        verifier.report("PendingNotPropagated", irp=irp, device=device, place=place)


def with_event(
    verifier: Verifier,
    device: DeviceObject[Any] | None,
    irp: Irp,
    event: Kevent,
    notes: tuple[bool, bool, bool],
    place: str | None,
) -> None:
    """A completion routine whose context is an event has returned: somebody waits for the IRP with it, and goes on after it.

    `notes`: whether it has set the event, whether it has marked the IRP pending, and whether it has kept an IRP that had been
    pended below.
    """
    was_set, marked, kept = notes
    if was_set and marked:
        verifier.report("CompletionEventChecking", irp=irp, device=device, place=place)
    elif kept and not was_set and not event.signaled and event.waited_for:
        verifier.report("SignalEventInCompletion", irp=irp, device=device, place=place)
