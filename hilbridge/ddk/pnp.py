"""The default dispatch of Plug and Play, power and system control requests.

Every request holds the device's remove lock while it is here. Plug and Play requests come at PASSIVE_LEVEL, and the device's
hooks are called in their dispatch routine. Power is left to `hilbridge.iomgr.powerpolicy`: a driver that is no filter is the
device's power policy owner, and a filter follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import (
    PNP_DEVICE_FAILED,
    PNP_DEVICE_REMOVED,
    DevicePowerState,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceFault, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_NOT_CONNECTED,
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
    """Dispatch routine, up to DISPATCH_LEVEL. See `PowerPolicy`, which has the remove lock as well."""
    return device.extension.power_policy.dispatch(device, irp)


def power_up(device: DeviceObject[Device], _previous: DevicePowerState) -> NtStatus:
    """At PASSIVE_LEVEL: those below are on. May not fail: a device that does not wake up is reported as gone."""
    context = device.extension
    try:
        # Only what has been started: D0 of a device without hardware is the bus driver's affair.
        if context.refusal is None and context.has_hardware:
            context.enter_d0()
    except DriverFault:
        raise
    except HilbridgeError as error:
        context.set_failed(error if isinstance(error, DeviceFault) else DeviceFault(error.message, status=error.status))
    return STATUS_SUCCESS


def power_down(device: DeviceObject[Device], target: DevicePowerState) -> NtStatus:
    """At PASSIVE_LEVEL: before those below are told."""
    device.extension.leave_d0(target)
    return STATUS_SUCCESS
