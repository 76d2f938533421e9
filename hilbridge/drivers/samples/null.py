r"""The null device: the smallest driver that is a whole one. ``\Device\Null``: writes vanish, reads find the end of file.

As in Windows. It is also what the cost of one IRP is measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.model.codes import DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import STATUS_END_OF_FILE, STATUS_SUCCESS, NtStatus


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE, IrpMajor.FLUSH_BUFFERS):
        driver.major_function[major] = succeed
    driver.major_function[IrpMajor.READ] = read
    driver.major_function[IrpMajor.WRITE] = write
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice. The extension is the device below, which is all that this driver has to remember."""
    device = driver.io.create_device(driver, physical, "\\Device\\Null")
    driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= DO_BUFFERED_IO
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def succeed(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine of whatever needs no work."""
    irp.io_status.status = STATUS_SUCCESS
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return STATUS_SUCCESS


def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine."""
    irp.io_status.status = STATUS_END_OF_FILE
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return STATUS_END_OF_FILE


def write(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine."""
    irp.io_status.status = STATUS_SUCCESS
    irp.io_status.information = irp.current_stack_location.parameters.write.length
    device.io.complete_request(irp)
    return STATUS_SUCCESS


def pnp(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine. All that changes the device's state is granted, and passed on; REMOVE takes the device out."""
    minor = irp.current_stack_location.minor_function
    lower: DeviceObject[Any] = device.extension
    if minor in CHANGES_STATE:
        irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(lower)
        device.io.delete_device(device)
    return status
