"""A filter for toasters, above or below their function driver: it counts the slices, and changes nothing.

Each request that is passed down is seen again on its way up, in a completion routine. The remove lock is held for as long: a
filter must not leave its stack while a request is below that will come back to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.drivers.samples.toaster import public
from hilbridge.drivers.samples.toaster.requests import complete
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    DO_DIRECT_IO,
    DO_POWER_PAGABLE,
    IrpMajor,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus


class Filter:
    """What the filter remembers of its device."""

    def __init__(self) -> None:
        self.lower: DeviceObject[Any]
        self.remove_lock: RemoveLock
        self.slices = self.burnt = 0

    def statistics(self) -> dict[str, int]:
        """Slices that were toasted, and that were not because their request failed."""
        return {"slices": self.slices, "burnt": self.burnt}


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Every major function passes through."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in IrpMajor:
        driver.major_function[major] = pass_through
    driver.major_function[IrpMajor.DEVICE_CONTROL] = device_control
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice: a filter looks like the device below it."""
    extension = Filter()
    device = driver.io.create_device(driver, extension)
    extension.remove_lock = RemoveLock(driver.ke, device)
    lower = extension.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= lower.flags & (DO_BUFFERED_IO | DO_DIRECT_IO | DO_POWER_PAGABLE)
    device.device_type = lower.device_type
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def pass_through(device: DeviceObject[Filter], irp: Irp) -> NtStatus:
    """Dispatch routine: hand on, without a look back."""
    extension = device.extension
    if not (status := extension.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    irp.skip_current_stack_location()
    status = device.io.call_driver(extension.lower, irp)
    extension.remove_lock.release(irp)
    return status


def device_control(device: DeviceObject[Filter], irp: Irp) -> NtStatus:
    """Dispatch routine: hand on, and count when it comes back."""
    extension = device.extension
    if irp.current_stack_location.parameters.device_io_control.io_control_code != public.IOCTL_TOAST:
        return pass_through(device, irp)
    if not (status := extension.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    irp.copy_current_stack_location_to_next()
    irp.set_completion_routine(toasted, extension)
    return device.io.call_driver(extension.lower, irp)


def toasted(_device: DeviceObject[Any] | None, irp: Irp, extension: Filter) -> NtStatus:
    """Completion routine."""
    if irp.pending_returned:
        irp.mark_pending()
    if irp.io_status.status.is_success:
        extension.slices += 1
    else:
        extension.burnt += 1
    extension.remove_lock.release(irp)
    return STATUS_SUCCESS


def pnp(device: DeviceObject[Filter], irp: Irp) -> NtStatus:
    """Dispatch routine: as the others, and after REMOVE_DEVICE the filter leaves the stack."""
    extension = device.extension
    if irp.current_stack_location.minor_function != PnpMinor.REMOVE_DEVICE:
        return pass_through(device, irp)
    if not (status := extension.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    irp.skip_current_stack_location()
    status = device.io.call_driver(extension.lower, irp)
    extension.remove_lock.release_and_wait(irp)
    device.io.detach_device(extension.lower)
    device.io.delete_device(device)
    return status
