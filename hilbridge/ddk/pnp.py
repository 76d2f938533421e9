"""The default dispatch of Plug and Play, power and system control requests.

Every request holds the device's remove lock while it is here. Plug and Play requests come at PASSIVE_LEVEL, and the device's
hooks are called in their dispatch routine. A power request may come at DISPATCH_LEVEL, and may not be held up: the hooks are
called by a work item, on its way down when the device is switched off, and on its way up when it is switched on.

Who decides on the device's power. A driver that is no filter follows the system's power by itself: S0 means D0, any other
state D3. If a power policy owner sends device power requests as well, these come to the same, and the second changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import (
    PNP_DEVICE_FAILED,
    PNP_DEVICE_REMOVED,
    DevicePowerState,
    PnpMinor,
    PowerMinor,
    PowerStateType,
    SystemPowerState,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceFault, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)

if TYPE_CHECKING:
    from hilbridge.ddk.device import Device

_QUERIES = (PnpMinor.QUERY_STOP_DEVICE, PnpMinor.QUERY_REMOVE_DEVICE)


def pass_down(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """The third disposition, without a look back."""
    irp.skip_current_stack_location()
    return device.io.call_driver(device.extension.lower_device, irp)


def complete(device: DeviceObject[Any], irp: Irp, status: NtStatus) -> NtStatus:
    """The first disposition."""
    irp.io_status.status = status
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return status


def guarded(routine: Callable[[DeviceObject[Any], Irp], NtStatus]) -> Callable[[DeviceObject[Any], Irp], NtStatus]:
    """A dispatch routine during which the device does not go."""

    def dispatch(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        context: Device = device.extension
        refused = context.remove_lock.acquire(irp)
        if not refused.is_success:
            return complete(device, irp, refused)
        try:
            return routine(device, irp)
        finally:
            context.remove_lock.release(irp)

    return dispatch


# -- plug and play -----------------------------------------------------------------------------------------------------


def pnp(device: DeviceObject[Device], irp: Irp) -> NtStatus:
    """Dispatch routine. START comes from below, all others go from above; what is not known is passed on untouched."""
    minor = irp.current_stack_location.minor_function
    if minor == PnpMinor.REMOVE_DEVICE:
        return _remove(device, irp)
    return _pnp(device, irp)


@guarded
def _pnp(device: DeviceObject[Device], irp: Irp) -> NtStatus:
    location, context = irp.current_stack_location, device.extension
    minor = location.minor_function
    if minor == PnpMinor.QUERY_PNP_DEVICE_STATE and device.device_stack.removed is not None:
        irp.io_status.status = STATUS_SUCCESS
        irp.io_status.information |= PNP_DEVICE_FAILED | PNP_DEVICE_REMOVED
    if minor not in CHANGES_STATE or not context.pnp.may(minor):
        return pass_down(device, irp)
    if minor == PnpMinor.START_DEVICE:
        resources = location.parameters.start_device.allocated_resources
        status = device.io.forward_and_wait(context.lower_device, irp)
        if status.is_success:
            status = _started(device, irp, resources)
        return complete(device, irp, status)
    if minor in _QUERIES:
        status = _asked(context.query_stop if minor == PnpMinor.QUERY_STOP_DEVICE else context.query_remove)
        if not status.is_success:
            return complete(device, irp, status)
    context.pnp.step(minor)
    if minor == PnpMinor.STOP_DEVICE:
        context.stop()
    elif minor == PnpMinor.SURPRISE_REMOVAL:
        context.surprise_removal()
        context.go(STATUS_DEVICE_NOT_CONNECTED)
    # The CANCELs need nothing: between a QUERY and what follows it the device goes on working.
    irp.io_status.status = STATUS_SUCCESS
    return pass_down(device, irp)


def _started(device: DeviceObject[Device], irp: Irp, resources: Any) -> NtStatus:
    try:
        device.extension.start(resources)
    except DriverFault:
        raise
    except HilbridgeError as error:
        device.io.write_error_log_entry(irp, error)
        return error.status if error.status.is_error else STATUS_UNSUCCESSFUL
    device.extension.pnp.step(PnpMinor.START_DEVICE)
    return STATUS_SUCCESS


def _asked(hook: Callable[[], NtStatus]) -> NtStatus:
    try:
        return hook()
    except NtStatusError as error:
        return error.status


def _remove(device: DeviceObject[Device], irp: Irp) -> NtStatus:
    context, lower = device.extension, device.extension.lower_device
    if not context.remove_lock.acquire(irp).is_success:
        return complete(device, irp, STATUS_DELETE_PENDING)
    if context.pnp.may(PnpMinor.REMOVE_DEVICE):
        context.pnp.step(PnpMinor.REMOVE_DEVICE)
    context.go(STATUS_DEVICE_NOT_CONNECTED if context.refusal == STATUS_DEVICE_NOT_CONNECTED else STATUS_DELETE_PENDING)
    context.finish()
    irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(lower, irp)
    context.remove_lock.release_and_wait(irp)
    device.io.detach_device(lower)
    device.io.delete_device(device)
    return status


@guarded
def system_control(device: DeviceObject[Device], irp: Irp) -> NtStatus:
    """Dispatch routine: nothing of ours."""
    return pass_down(device, irp)


# -- power -------------------------------------------------------------------------------------------------------------


def power(device: DeviceObject[Device], irp: Irp) -> NtStatus:
    """Dispatch routine. SET_POWER of what concerns this device is worked on by a work item; all else is passed on."""
    location, context = irp.current_stack_location, device.extension
    refused = context.remove_lock.acquire(irp)
    if not refused.is_success:
        return complete(device, irp, refused)
    minor = location.minor_function
    target = _target_state(context, irp) if minor == PowerMinor.SET_POWER else None
    if target is None:
        if minor == PowerMinor.QUERY_POWER:
            irp.io_status.status = STATUS_SUCCESS
        try:
            return pass_down(device, irp)
        finally:
            context.remove_lock.release(irp)
    irp.mark_pending()
    irp.io_status.status = STATUS_SUCCESS
    if target == DevicePowerState.D0:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(_powered_below, None)
        device.io.call_driver(context.lower_device, irp)
    else:
        device.io.queue_work_item(device.io.allocate_work_item(device), _power_down, (irp, target))
    return STATUS_PENDING


def _target_state(context: Device, irp: Irp) -> DevicePowerState | None:
    asked = irp.current_stack_location.parameters.power
    if asked.type == PowerStateType.DEVICE:
        return DevicePowerState(asked.state)
    if context.is_filter:
        return None  # the function driver decides what that means for the device, and asks
    return DevicePowerState.D0 if asked.state == SystemPowerState.WORKING else DevicePowerState.D3


def _power_down(device: DeviceObject[Device], what: tuple[Irp, DevicePowerState]) -> None:
    """Work item: first the device, then those below it."""
    irp, target = what
    device.extension.leave_d0(target)
    irp.copy_current_stack_location_to_next()
    irp.set_completion_routine(_powered_down, None)
    device.io.call_driver(device.extension.lower_device, irp)


def _powered_down(device: DeviceObject[Device] | None, irp: Irp, _context: object) -> NtStatus:
    """Completion routine."""
    assert device is not None
    if irp.pending_returned:
        irp.mark_pending()
    device.extension.remove_lock.release(irp)
    return STATUS_SUCCESS


def _powered_below(device: DeviceObject[Device] | None, irp: Irp, _context: object) -> NtStatus:
    """Completion routine, up to DISPATCH_LEVEL: those below are on."""
    assert device is not None
    device.io.queue_work_item(device.io.allocate_work_item(device), _power_up, irp)
    return STATUS_MORE_PROCESSING_REQUIRED


def _power_up(device: DeviceObject[Device], irp: Irp) -> None:
    """Work item. The request may not fail: a device that does not wake up is reported as gone."""
    context = device.extension
    try:
        # Only what has been started: D0 of a device without hardware is the bus driver's affair.
        if irp.io_status.status.is_success and context.refusal is None and context.has_hardware:
            context.enter_d0()
    except DriverFault:
        raise
    except HilbridgeError as error:
        context.set_failed(error if isinstance(error, DeviceFault) else DeviceFault(error.message, status=error.status))
    device.io.complete_request(irp)
    context.remove_lock.release(irp)
