"""AddDevice and IRP_MJ_PNP: the port appears, starts, is stopped and started again, goes.

Here is who is asked in which order, and what may be refused. What becomes of the hardware and of the requests is in
`hilbridge.drivers.serial.hardware`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hilbridge.drivers.serial import hardware
from hilbridge.drivers.serial.events import event_dpc
from hilbridge.drivers.serial.extension import TX_POWER, TX_STOP, SerialExtension
from hilbridge.drivers.serial.isr import receive_dpc
from hilbridge.drivers.serial.reset import transmit_cancelled
from hilbridge.drivers.serial.wmi import deregister, register
from hilbridge.drivers.serial.write import transmit_dpc
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.iomgr.hold import HoldQueue
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    DO_STREAM_READ,
    FILE_DEVICE_SERIAL_PORT,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DeviceBusy, HilbridgeError
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import PnpState
from hilbridge.model.status import (
    STATUS_DEVICE_BUSY,
    STATUS_DEVICE_CONFIGURATION_ERROR,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_NOT_SUPPORTED,
    STATUS_SUCCESS,
    NtStatus,
)


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    r"""AddDevice: ``\Device\SerialN`` on top of the bus driver's device. The hardware is not there yet."""
    number = 0
    device = driver.device_object
    while device is not None:
        number = max(number, int((device.name or "0").rpartition("Serial")[2]) + 1)
        device = device.next_device
    extension = SerialExtension(driver.ke.spin_lock(), driver.ke.spin_lock(), driver.ke.spin_lock())
    port = driver.io.create_device(driver, extension, f"\\Device\\Serial{number}", FILE_DEVICE_SERIAL_PORT)
    extension.device = port
    extension.tx_queue = CancelSafeQueue(driver.io, extension.lock, partial(transmit_cancelled, port))
    extension.hold = HoldQueue(driver.io, port)
    extension.remove_lock = RemoveLock(driver.ke, port)
    extension.rx_dpc = Kdpc(receive_dpc, None, port)
    extension.tx_dpc = Kdpc(transmit_dpc, None, port)
    extension.event_dpc = Kdpc(event_dpc, None, port)
    extension.lower = driver.io.attach_device_to_device_stack(port, physical)
    port.flags |= DO_BUFFERED_IO | DO_STREAM_READ
    port.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def pnp(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine. What is not known is passed on untouched, and so is what comes out of turn and may not fail."""
    minor, lock = irp.current_stack_location.minor_function, device.extension.remove_lock
    if not (status := lock.acquire(irp)).is_success:
        return _complete(device, irp, status)
    status = _handle(device, irp, minor)
    if not lock.removed:  # a removal has waited for it, and given up its own
        lock.release(irp)
    return status


def _handle(device: DeviceObject[SerialExtension], irp: Irp, minor: int) -> NtStatus:
    handler = _HANDLERS.get(minor)
    if handler is None:
        return _pass_on(device, irp)
    if not device.extension.life.may(minor) and minor != PnpMinor.STOP_DEVICE:
        if minor == PnpMinor.START_DEVICE:  # the line would be nobody's
            return _complete(device, irp, STATUS_INVALID_DEVICE_STATE)
        return _pass_on(device, irp)
    try:
        return handler(device, irp)
    except HilbridgeError as error:  # what refuses START, QUERY_STOP and QUERY_REMOVE
        device.io.write_error_log_entry(irp, error)
        # To fail a request of Plug and Play with STATUS_NOT_SUPPORTED would say that nobody knows it.
        unsupported = error.status == STATUS_NOT_SUPPORTED
        return _complete(device, irp, STATUS_DEVICE_CONFIGURATION_ERROR if unsupported else error.status)


def _start(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """From below: first the device underneath, then this one."""
    extension = device.extension
    status = device.io.forward_and_wait(extension.lower, irp)
    if status.is_success:
        hardware.start(device, irp.current_stack_location.parameters.start_device.allocated_resources)
        extension.life.step(PnpMinor.START_DEVICE)
        hardware.resume(device, TX_STOP | TX_POWER, hardware.STOP, hardware.POWER)
        register(device)  # it stays registered through a stop, and may be again
    return _complete(device, irp, status)


def _query_stop(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    try:
        hardware.prepare_to_stop(device)
    except HilbridgeError:
        hardware.resume(device, TX_STOP)
        raise
    device.extension.life.step(PnpMinor.QUERY_STOP_DEVICE)
    return _agree(device, irp)


def _cancel_stop(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """From below. Nobody may refuse it, so it is granted also where the device underneath does not know it."""
    device.io.forward_and_wait(device.extension.lower, irp)
    device.extension.life.step(PnpMinor.CANCEL_STOP_DEVICE)
    hardware.resume(device, TX_STOP)
    return _complete(device, irp, STATUS_SUCCESS)


def _stop(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    life = device.extension.life
    if not life.may(PnpMinor.STOP_DEVICE):
        if life.state is not PnpState.STARTED:
            return _pass_on(device, irp)
        life.step(PnpMinor.QUERY_STOP_DEVICE)  # who does not ask stops it all the same: the hardware is about to go
    hardware.stop(device)
    life.step(PnpMinor.STOP_DEVICE)
    return _agree(device, irp)


def _query_remove(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Refused while the port is open: whoever has it open would lose it. Unlike a stop this does not come back."""
    extension = device.extension
    # Who opens the port counts himself before his CREATE comes here. So either he is seen, or he sees REMOVE_PENDING.
    with extension.lock:
        opens = device.reference_count
        if not opens:
            extension.life.step(PnpMinor.QUERY_REMOVE_DEVICE)
    if opens:
        what = "a handle" if opens == 1 else f"{opens} handles"
        raise DeviceBusy(
            f"{extension.port_name} cannot be removed: it has {what} open; close first, or unplug it",
            status=STATUS_DEVICE_BUSY,
        )
    return _agree(device, irp)


def _cancel_remove(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    device.io.forward_and_wait(device.extension.lower, irp)
    device.extension.life.step(PnpMinor.CANCEL_REMOVE_DEVICE)
    return _complete(device, irp, STATUS_SUCCESS)


def _surprise_removal(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    deregister(device)
    device.extension.life.step(PnpMinor.SURPRISE_REMOVAL)
    hardware.take_away(device, "was unplugged")
    return _agree(device, irp)


def _remove(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    extension = device.extension
    deregister(device)
    extension.life.step(PnpMinor.REMOVE_DEVICE)
    hardware.take_away(device, "was removed")
    status = _agree(device, irp)
    extension.remove_lock.release_and_wait(irp)
    if extension.port_name:
        device.io.delete_symbolic_link(extension.port_name)
    device.io.detach_device(extension.lower)
    device.io.delete_device(device)
    return status


_HANDLERS: dict[int, Callable[[DeviceObject[SerialExtension], Irp], NtStatus]] = {
    PnpMinor.START_DEVICE: _start,
    PnpMinor.QUERY_STOP_DEVICE: _query_stop,
    PnpMinor.CANCEL_STOP_DEVICE: _cancel_stop,
    PnpMinor.STOP_DEVICE: _stop,
    PnpMinor.QUERY_REMOVE_DEVICE: _query_remove,
    PnpMinor.CANCEL_REMOVE_DEVICE: _cancel_remove,
    PnpMinor.SURPRISE_REMOVAL: _surprise_removal,
    PnpMinor.REMOVE_DEVICE: _remove,
}


def _agree(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """From above: this driver has done its part, and the others below it have theirs to do."""
    irp.io_status.status = STATUS_SUCCESS
    return _pass_on(device, irp)


def _pass_on(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    irp.skip_current_stack_location()
    return device.io.call_driver(device.extension.lower, irp)


def _complete(device: DeviceObject[SerialExtension], irp: Irp, status: NtStatus) -> NtStatus:
    irp.io_status.status = status
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return status
