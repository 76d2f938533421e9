"""A faulty driver and its clean twin for each rule about IRPs on their way down, and what a dispatch routine returns."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hilbridge import HilbridgeError
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    SL_PENDING_RETURNED,
    IrpMajor,
    Irql,
    PnpMinor,
    PowerMinor,
    WmiMinor,
)
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.observe.verifier.stage import Device, Stage, case, end, end_from_dpc, filter_with, hold, send_power
from tests.support import TinyDriver, complete, pass_down, succeed


def kept(_device: Any, _irp: Irp, _context: object) -> NtStatus:
    return STATUS_MORE_PROCESSING_REQUIRED


def goes_on(_device: Any, irp: Irp, _context: object) -> NtStatus:
    if irp.pending_returned:
        irp.mark_pending()
    return STATUS_SUCCESS


def cancel_routine(device: Any, _irp: Irp) -> None:
    device.io.release_cancel_spin_lock(device)


# -- down ----------------------------------------------------------------------------------------------------------------


@case("CallDriverIrp")
def call_driver_irp(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.skip_current_stack_location()
        return device.io.call_driver(device.extension.lower, cast("Irp", "the IRP") if wrong else irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("NullDevice")
def null_device(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.skip_current_stack_location()
        return device.io.call_driver(cast("Device", None) if wrong else device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("CallDriverDevice")
def call_driver_device(stage: Stage, wrong: bool) -> None:
    stage.bridge.plug("virtual:null", name="OTHER", driver=(other := TinyDriver("other")))
    target = other.device

    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, target, Kevent())
        device.io.call_driver(target, own)
        return complete(device, irp)

    stage.plug(read)
    if wrong:
        stage.bridge.unplug("OTHER")
    stage.submit()


@case("CallDriverIrql")
def call_driver_irql(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.skip_current_stack_location()
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.PASSIVE):
            return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("ForwardedAtBadIrql")
def forwarded_at_bad_irql(stage: Stage, wrong: bool) -> None:
    def flush(device: Device, irp: Irp) -> NtStatus:
        irp.skip_current_stack_location()
        with device.ke.raised_irql(Irql.DISPATCH if wrong else Irql.PASSIVE):
            return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(flush, IrpMajor.FLUSH_BUFFERS),))
    with contextlib.suppress(HilbridgeError):
        stage.open().flush()


@case("ForwardedWithCancelRoutine")
def forwarded_with_cancel_routine(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.set_cancel_routine(cancel_routine)
        if not irp.cancel and not wrong:
            irp.set_cancel_routine(None)
        return pass_down(device, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("ForwardedWhilePendingBelow")
def forwarded_while_pending_below(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(goes_on)
        status = device.io.call_driver(device.extension.lower, irp)
        if wrong:
            device.io.call_driver(device.extension.lower, irp)
        return status

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    if not wrong:
        end(bottom)


@case("ControlNotZeroed")
def control_not_zeroed(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(goes_on)
        if wrong:
            irp.next_stack_location.control |= SL_PENDING_RETURNED
        return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("CompletionRoutineCopied")
def completion_routine_copied(stage: Stage, wrong: bool) -> None:
    def upper(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(goes_on)
        return device.io.call_driver(device.extension.lower, irp)

    def lower(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        if wrong:
            irp.next_stack_location.completion_routine = irp.current_stack_location.completion_routine
        else:
            irp.set_completion_routine(goes_on)
        return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(lower, name="lower"), filter_with(upper, name="upper")))
    stage.submit()


@case("NoMoreStackLocations")
def no_more_stack_locations(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        lower = device.extension.lower
        own = device.io.allocate_irp(0 if wrong else lower.stack_size)
        if not wrong:
            own.next_stack_location.major_function = IrpMajor.FLUSH_BUFFERS
            own.set_completion_routine(kept)
        device.io.call_driver(lower, own)
        device.io.free_irp(own)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()


@case("InconsistentIrp")
def inconsistent_irp(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        if not wrong:
            irp.mark_pending()
        complete(device, irp)
        if wrong:
            irp.mark_pending()
        return STATUS_PENDING

    stage.read(read)


@case("PnpInitialStatus")
def pnp_initial_status(stage: Stage, wrong: bool) -> None:
    _own_request(
        stage, IrpMajor.PNP, PnpMinor.QUERY_PNP_DEVICE_STATE, STATUS_SUCCESS if wrong else STATUS_NOT_SUPPORTED
    )


@case("PowerInitialStatus")
def power_initial_status(stage: Stage, wrong: bool) -> None:
    _own_request(stage, IrpMajor.POWER, PowerMinor.QUERY_POWER, STATUS_SUCCESS if wrong else STATUS_NOT_SUPPORTED)


@case("WmiInitialStatus")
def wmi_initial_status(stage: Stage, wrong: bool) -> None:
    status = STATUS_SUCCESS if wrong else STATUS_NOT_SUPPORTED
    _own_request(stage, IrpMajor.SYSTEM_CONTROL, WmiMinor.REGINFO, status)


def _own_request(stage: Stage, major: IrpMajor, minor: int, status: NtStatus) -> None:
    """A driver makes a request of its own, and sends it down with `status` in it."""

    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.build_synchronous_fsd_request(major, device.extension.lower, Kevent(), minor=minor)
        own.io_status.status = status
        device.io.call_driver(device.extension.lower, own)
        return complete(device, irp)

    stage.read(read)


@case("SystemReservedIrp")
def system_reserved_irp(stage: Stage, wrong: bool) -> None:
    minor = PnpMinor.SURPRISE_REMOVAL if wrong else PnpMinor.QUERY_PNP_DEVICE_STATE
    _own_request(stage, IrpMajor.PNP, minor, STATUS_NOT_SUPPORTED)


@case("SkippedDevice")
def skipped_device(stage: Stage, wrong: bool) -> None:
    def upper(device: Device, irp: Irp) -> NtStatus:
        irp.skip_current_stack_location()
        return device.io.call_driver(bottom if wrong else device.extension.lower, irp)

    bottom = stage.plug(succeed, filters=(filter_with(pass_down, name="lower"), filter_with(upper, name="upper")))
    stage.submit()


@case("StackLocationNotCopied")
def stack_location_not_copied(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        if not wrong:
            irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(goes_on)
        return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("PnpStatusChanged")
def pnp_status_changed(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function == 0x18 and wrong:
            irp.io_status.status = STATUS_SUCCESS
        return cast("NtStatus", proper(device, irp))

    _filtered_pnp(stage, pnp, 0x18)


@case("PnpFailurePassedDown")
def pnp_failure_passed_down(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.QUERY_STOP_DEVICE:
            irp.io_status.status = STATUS_UNSUCCESSFUL
            if not wrong:
                device.io.complete_request(irp)
                return STATUS_UNSUCCESSFUL
        return cast("NtStatus", proper(device, irp))

    _filtered_pnp(stage, pnp, PnpMinor.QUERY_STOP_DEVICE)


def _filtered_pnp(stage: Stage, pnp: Any, minor: int) -> None:
    device = stage.plug(filters=(filter_with(pnp, IrpMajor.PNP),))
    own = stage.io.build_synchronous_fsd_request(IrpMajor.PNP, device.top, Kevent(), minor=minor)
    with contextlib.suppress(HilbridgeError):
        stage.io.call_driver(device.top, own)


@case("PowerFailurePassedDown")
def power_failure_passed_down(stage: Stage, wrong: bool) -> None:
    def power(device: Device, irp: Irp) -> NtStatus:
        irp.io_status.status = STATUS_UNSUCCESSFUL
        if wrong:
            return pass_down(device, irp)
        device.io.complete_request(irp)
        return STATUS_UNSUCCESSFUL

    send_power(stage, power, minor=PowerMinor.QUERY_POWER)


@case("CopiedWithoutCompletionRoutine")
def copied_without_completion_routine(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        if not wrong:
            irp.set_completion_routine(goes_on)
        return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("IoAllocateForward")
def io_allocate_forward(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.allocate_irp(device.extension.lower.stack_size)
        own.next_stack_location.major_function = IrpMajor.FLUSH_BUFFERS
        if not wrong:
            own.set_completion_routine(kept)
        device.io.call_driver(device.extension.lower, own)
        device.io.free_irp(own)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()


@case("SignaledEvent")
def signaled_event(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        event = Kevent(signaled=wrong)
        own = device.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, device.extension.lower, event)
        assert device.io.call_driver(device.extension.lower, own) == STATUS_PENDING
        end_from_dpc(bottom)
        return complete(device, irp)

    bottom = stage.plug(hold, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()


# -- what a dispatch routine returns ---------------------------------------------------------------------------------------


@case("IrqlReturn")
def irql_return(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        if wrong:
            device.ke.current().irql = Irql.APC
        return complete(device, irp)

    stage.read(read)


@case("CompleteRequestStatusCheck")
def complete_request_status_check(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        complete(device, irp, STATUS_INVALID_DEVICE_REQUEST)
        return STATUS_SUCCESS if wrong else STATUS_INVALID_DEVICE_REQUEST

    stage.read(read)


@case("UninitializedReturn")
def uninitialized_return(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        complete(device, irp)
        return cast("NtStatus", 0xFFFFFFFF) if wrong else STATUS_SUCCESS

    stage.read(read)


@case("IrpProcessingComplete")
def irp_processing_complete(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        return STATUS_SUCCESS if wrong else complete(device, irp)

    stage.read(read)


@case("MarkIrpPending2")
def mark_irp_pending2(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        if not wrong:
            irp.mark_pending()
        device.extension.held.append(irp)
        return STATUS_PENDING

    stage.read(read)
    end(stage.drivers[0].device)


@case("MarkIrpPending")
def mark_irp_pending(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        complete(device, irp)
        return STATUS_SUCCESS if wrong else STATUS_PENDING

    stage.read(read)


@case("LowerDriverReturn")
def lower_driver_return(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        return STATUS_UNSUCCESSFUL if wrong else status

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("IrpCancelField")
def irp_cancel_field(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.extension.held.append(irp)
        irp.set_cancel_routine(cancel_routine)
        if not wrong:
            assert not irp.cancel
        return STATUS_PENDING

    stage.read(read)
    device = stage.drivers[0].device
    device.extension.held[0].set_cancel_routine(None)
    end(device)
