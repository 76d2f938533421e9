"""AddDevice and IRP_MJ_PNP: the port appears, starts, goes."""

from __future__ import annotations

from functools import partial
from typing import Any

from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.drivers.serial.isr import isr, receive_dpc
from hilbridge.drivers.serial.read import complete_all, serve_readers
from hilbridge.drivers.serial.wmi import deregister, register
from hilbridge.drivers.serial.write import advance, transmit_cancelled, transmit_dpc
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    DO_STREAM_READ,
    FILE_DEVICE_SERIAL_PORT,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DeviceGone, HilbridgeError
from hilbridge.model.hardware import SerialResources
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DEVICE_CONFIGURATION_ERROR,
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
    extension.rx_dpc = Kdpc(receive_dpc, None, port)
    extension.tx_dpc = Kdpc(transmit_dpc, None, port)
    extension.lower = driver.io.attach_device_to_device_stack(port, physical)
    port.flags |= DO_BUFFERED_IO | DO_STREAM_READ
    port.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def pnp(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine. START comes from below, removal goes from above; what is not known is passed on untouched."""
    minor = irp.current_stack_location.minor_function
    extension = device.extension
    if minor == PnpMinor.START_DEVICE:
        status = device.io.forward_and_wait(extension.lower, irp)
        if status.is_success:
            status = _start(device, irp)
        irp.io_status.status = status
        irp.io_status.information = 0
        device.io.complete_request(irp)
        return status
    if minor == PnpMinor.SURPRISE_REMOVAL:
        _stop(device, "was unplugged")
        irp.io_status.status = STATUS_SUCCESS
    elif minor == PnpMinor.REMOVE_DEVICE:
        _stop(device, "was removed")
        irp.io_status.status = STATUS_SUCCESS
        irp.skip_current_stack_location()
        status = device.io.call_driver(extension.lower, irp)
        if extension.port_name:
            device.io.delete_symbolic_link(extension.port_name)
        device.io.detach_device(extension.lower)
        device.io.delete_device(device)
        return status
    irp.skip_current_stack_location()
    return device.io.call_driver(extension.lower, irp)


def _start(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    extension = device.extension
    resources: SerialResources = irp.current_stack_location.parameters.start_device.allocated_resources
    line = resources.line
    try:
        line.configure(resources.settings)
        extension.settings = resources.settings
        extension.line = line
        device.io.create_symbolic_link(resources.port_name, device.name or "")
        extension.port_name = resources.port_name  # only now: REMOVE deletes the link of this name, which must be ours
        # From here on the ISR may be called: everything that it touches is in place.
        extension.interrupt = device.io.connect_interrupt(device, isr, extension, resources.vector)
    except HilbridgeError as error:
        device.io.write_error_log_entry(irp, error)
        # To fail a request of Plug and Play with STATUS_NOT_SUPPORTED would say that nobody knows it.
        return STATUS_DEVICE_CONFIGURATION_ERROR if error.status == STATUS_NOT_SUPPORTED else error.status
    with extension.lock:
        extension.watch_receiver()
        extension.set_interrupts()
    register(device)
    return STATUS_SUCCESS


def _stop(device: DeviceObject[SerialExtension], why: str) -> None:
    """The hardware is taken away: no more interrupts, and every request ends."""
    deregister(device)
    extension = device.extension
    interrupt, extension.interrupt = extension.interrupt, None
    if interrupt is not None:
        device.io.disconnect_interrupt(interrupt)
    with extension.lock:
        extension.absorb()
        if extension.gone is None:
            extension.gone = extension.gone_seen or DeviceGone(f"{extension.port_name} {why}")
            device.device_stack.removed = extension.gone
        done = serve_readers(device)
    complete_all(device, done)
    complete_all(device, advance(device))
    with extension.setting_lock, extension.line_lock:
        extension.line = None
