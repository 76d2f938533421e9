"""A faulty driver and its clean twin for each rule about completion."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hilbridge import HilbridgeError
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    IrpMajor,
    Irql,
    PnpMinor,
    WmiMinor,
)
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import WmiParameters
from hilbridge.model.status import (
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.observe.verifier.down_cases import cancel_routine, goes_on
from tests.observe.verifier.stage import Device, Stage, case, end, filter_with, hold, pnp_driver, send_power
from tests.support import complete, pass_down, succeed


@case("DoubleCompletion")
def double_completion(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        complete(device, irp)
        if wrong:
            device.io.complete_request(irp)
        return STATUS_SUCCESS

    stage.read(read)


@case("CompletedWithStatusPending")
def completed_with_status_pending(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        complete(device, irp, STATUS_PENDING if wrong else STATUS_SUCCESS)
        return STATUS_PENDING

    stage.read(read)


@case("CompletedWithCancelRoutine")
def completed_with_cancel_routine(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        irp.set_cancel_routine(cancel_routine)
        if not irp.cancel and not wrong:
            irp.set_cancel_routine(None)
        return complete(device, irp)

    stage.read(read)


@case("CompletedAboveDispatch")
def completed_above_dispatch(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH):
            return complete(device, irp)

    stage.read(read)


@case("CompletedWhilePendingBelow")
def completed_while_pending_below(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        if wrong:
            device.io.complete_request(irp)
        return status

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    if not wrong:
        end(bottom)


@case("CompletedNeverSent")
def completed_never_sent(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.allocate_irp(1)
        if wrong:
            device.io.complete_request(own)
        device.io.free_irp(own)
        return complete(device, irp)

    stage.read(read)


@case("SpinLockSafe")
def spin_lock_safe(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        with device.extension.queue.lock:
            if wrong:
                return complete(device, irp)
        return complete(device, irp)

    stage.read(read)


@case("PendingNotPropagated")
def pending_not_propagated(stage: Stage, wrong: bool) -> None:
    def came_back(_device: Any, irp: Irp, _context: object) -> NtStatus:
        if irp.pending_returned and not wrong:
            irp.mark_pending()
        return STATUS_SUCCESS

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back)
        return device.io.call_driver(device.extension.lower, irp)

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    end(bottom)


@case("CompletionRoutineIrql")
def completion_routine_irql(stage: Stage, wrong: bool) -> None:
    def came_back(device: Any, irp: Irp, context: object) -> NtStatus:
        if wrong:
            device.ke.current().irql = Irql.DISPATCH
        return goes_on(device, irp, context)

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back)
        return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()


@case("InformationTooLarge")
def information_too_large(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        return complete(device, irp, STATUS_SUCCESS, 5 if wrong else 4)

    stage.read(read, flags=DO_BUFFERED_IO)


@case("SuspiciousStatus")
def suspicious_status(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        complete(device, irp, cast("NtStatus", 0) if wrong else STATUS_SUCCESS)
        return STATUS_SUCCESS

    stage.read(read)


def completes(stage: Stage, minor: int, status: NtStatus | None, wrong: bool) -> None:
    """A function driver that completes a PnP request with a status instead of passing it on."""

    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if not wrong or irp.current_stack_location.minor_function != minor:
            return cast("NtStatus", proper(device, irp))
        if status is not None:
            irp.io_status.status = status
        answer = irp.io_status.status
        device.io.complete_request(irp)
        return answer

    driver = pnp_driver(pnp)
    stage.drivers.append(driver)
    stage.bridge.plug("virtual:null", name="DUT", driver=driver)
    own = stage.io.build_synchronous_fsd_request(IrpMajor.PNP, driver.device, Kevent(), minor=minor)
    with contextlib.suppress(HilbridgeError):
        stage.io.call_driver(driver.device, own)


@case("PnpTurnedIntoNotSupported")
def pnp_turned_into_not_supported(stage: Stage, wrong: bool) -> None:
    def lower(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if wrong and irp.current_stack_location.minor_function == PnpMinor.QUERY_STOP_DEVICE:
            irp.io_status.status = STATUS_NOT_SUPPORTED
            device.io.complete_request(irp)
            return STATUS_NOT_SUPPORTED
        return cast("NtStatus", proper(device, irp))

    def upper(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.QUERY_STOP_DEVICE:
            irp.io_status.status = STATUS_SUCCESS
        return cast("NtStatus", proper(device, irp))

    device = stage.plug(filters=(filter_with(lower, IrpMajor.PNP, "lower"), filter_with(upper, IrpMajor.PNP, "upper")))
    own = stage.io.build_synchronous_fsd_request(IrpMajor.PNP, device.top, Kevent(), minor=PnpMinor.QUERY_STOP_DEVICE)
    with contextlib.suppress(HilbridgeError):
        stage.io.call_driver(device.top, own)


@case("PnpIrpCompletion")
def pnp_irp_completion(stage: Stage, wrong: bool) -> None:
    completes(stage, PnpMinor.QUERY_STOP_DEVICE, STATUS_SUCCESS, wrong)


@case("PnpUntouchedCompleted")
def pnp_untouched_completed(stage: Stage, wrong: bool) -> None:
    completes(stage, PnpMinor.QUERY_INTERFACE, None, wrong)


@case("MayNotFail")
def may_not_fail(stage: Stage, wrong: bool) -> None:
    completes(stage, PnpMinor.STOP_DEVICE, STATUS_UNSUCCESSFUL, wrong)


@case("RemoveFailed")
def remove_failed(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if not wrong or irp.current_stack_location.minor_function != PnpMinor.REMOVE_DEVICE:
            return cast("NtStatus", proper(device, irp))
        device.io.detach_device(device.extension.lower)
        device.io.delete_device(device)
        return complete(device, irp, STATUS_UNSUCCESSFUL)

    driver = pnp_driver(pnp)
    stage.bridge.plug("virtual:null", name="DUT", driver=driver)
    with contextlib.suppress(HilbridgeError):
        stage.bridge.unplug("DUT")


@case("PowerIrpCompletion")
def power_irp_completion(stage: Stage, wrong: bool) -> None:
    send_power(stage, succeed if wrong else pass_down)


@case("WmiForward")
def wmi_forward(stage: Stage, wrong: bool) -> None:
    device = stage.plug(filters=(filter_with(succeed if wrong else pass_down, IrpMajor.SYSTEM_CONTROL),))
    own = stage.io.build_synchronous_fsd_request(
        IrpMajor.SYSTEM_CONTROL,
        device.top,
        Kevent(),
        minor=WmiMinor.QUERY_ALL_DATA,
        parameters=WmiParameters(device, "{guid}"),
    )
    with contextlib.suppress(HilbridgeError):
        stage.io.call_driver(device.top, own)
