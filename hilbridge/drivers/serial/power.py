"""IRP_MJ_POWER: the port sleeps and wakes.

A lower state than D0 is like a stop in which the line stays ours: requests wait, nothing ends, and with D0 the line is
programmed as it was left, since a device that had no power has forgotten it. On the way down this driver acts before the
devices below it lose their power, on the way up after they have got it.

A power dispatch routine does not wait. Both ways have to (for a setting that is being carried out; for a line whose other end
is far away), so they are gone on a work item, and the request is pending meanwhile. The remove lock keeps the device from
being taken out of its stack before they have come to their end.
"""

from __future__ import annotations

from functools import partial

from hilbridge.drivers.serial import hardware
from hilbridge.drivers.serial.extension import TX_POWER, SerialExtension
from hilbridge.iomgr.workitem import WorkItem
from hilbridge.model.codes import DevicePowerState, PowerMinor, PowerStateType
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, NtStatus


def power(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine. Of the device's own states nothing is refused; the system's are passed on untouched."""
    extension, io = device.extension, device.io
    status = extension.remove_lock.acquire(irp)
    if not status.is_success:
        irp.io_status.status = status
        io.complete_request(irp)
        return status
    location = irp.current_stack_location
    minor = location.minor_function
    of_device = (
        minor in (PowerMinor.SET_POWER, PowerMinor.QUERY_POWER)
        and location.parameters.power.type == PowerStateType.DEVICE
    )
    if of_device and minor == PowerMinor.SET_POWER:
        irp.mark_pending()
        if location.parameters.power.state == DevicePowerState.D0:
            irp.copy_current_stack_location_to_next()
            irp.set_completion_routine(_has_power)
            io.call_driver(extension.lower, irp)
        else:
            extension.hold.hold(hardware.POWER)
            with extension.lock:
                extension.tx_held |= TX_POWER
            _at_passive_level(device, irp, down=True)
        return STATUS_PENDING
    if of_device:
        irp.io_status.status = STATUS_SUCCESS  # a port can go to sleep at any time: what is under way waits
    irp.skip_current_stack_location()
    status = io.call_driver(extension.lower, irp)
    extension.remove_lock.release(irp)
    return status


def _at_passive_level(device: DeviceObject[SerialExtension], irp: Irp, *, down: bool) -> None:
    item = device.io.allocate_work_item(device)
    device.io.queue_work_item(item, partial(_work, item, down=down), irp)


def _work(item: WorkItem, device: DeviceObject[SerialExtension], irp: Irp, *, down: bool) -> None:
    device.io.free_work_item(item)
    (_down if down else _up)(device, irp)


def _down(device: DeviceObject[SerialExtension], irp: Irp) -> None:
    """First this device, then those below it."""
    extension = device.extension
    hardware.sleep(device)
    extension.power_state = DevicePowerState(irp.current_stack_location.parameters.power.state)
    irp.io_status.status = STATUS_SUCCESS
    irp.copy_current_stack_location_to_next()  # not skipped: it has been marked pending
    irp.set_completion_routine(_came_back)
    device.io.call_driver(extension.lower, irp)


def _came_back(device: DeviceObject[SerialExtension] | None, irp: Irp, _context: object) -> NtStatus:
    """Completion routine of a way down, and of a way up that came to nothing."""
    if irp.pending_returned:
        irp.mark_pending()
    if device is not None:
        device.extension.remove_lock.release(irp)
    return STATUS_SUCCESS


def _has_power(device: DeviceObject[SerialExtension] | None, irp: Irp, _context: object) -> NtStatus:
    """Completion routine of SET_POWER D0: the devices below have power, or cannot get it."""
    if device is None:
        return STATUS_SUCCESS
    if irp.io_status.status.is_success:
        _at_passive_level(device, irp, down=False)
        return STATUS_MORE_PROCESSING_REQUIRED
    return _came_back(device, irp, None)


def _up(device: DeviceObject[SerialExtension], irp: Irp) -> None:
    extension = device.extension
    if extension.power_state != DevicePowerState.D0:  # D0 in D0 is nothing new, and the hardware is left alone
        extension.power_state = DevicePowerState.D0
        hardware.wake(device)
    device.io.complete_request(irp)
    extension.remove_lock.release(irp)
