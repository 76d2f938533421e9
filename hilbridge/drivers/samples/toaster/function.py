"""The toaster: a function driver on top of a PDO that a bus driver has found.

It has no name of its own; applications find it by its interface. IOCTL_TOAST waits until the toast pops up: until IOCTL_POP,
or until the toaster goes, and then the request ends with STATUS_DELETE_PENDING. Requests that come while the toaster is stopped
wait as well: nothing pops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.drivers.samples.toaster import public
from hilbridge.drivers.samples.toaster.requests import AGREES, complete
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)


class Toaster:
    """What the driver remembers of its device."""

    def __init__(self) -> None:
        self.lower: DeviceObject[Any]
        self.remove_lock: RemoveLock
        self.interface = ""
        self.toasting: CancelSafeQueue
        self.gone = False
        """Guarded by the queue's lock: who holds that and finds it False may still queue."""


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table. POWER and SYSTEM_CONTROL are left to the default, which passes them on."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in (IrpMajor.CREATE, IrpMajor.CLOSE):
        driver.major_function[major] = lambda device, irp: complete(device, irp, STATUS_SUCCESS)
    driver.major_function[IrpMajor.CLEANUP] = cleanup
    driver.major_function[IrpMajor.DEVICE_CONTROL] = device_control
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice."""
    toaster = Toaster()
    device = driver.io.create_device(driver, toaster)
    toaster.remove_lock = RemoveLock(driver.ke, device)

    def complete_canceled(irp: Irp) -> None:
        complete(device, irp, STATUS_CANCELLED)

    toaster.toasting = CancelSafeQueue(driver.io, driver.ke.spin_lock(), complete_canceled)
    toaster.interface = driver.io.register_device_interface(physical, public.GUID_TOASTER)
    toaster.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= DO_BUFFERED_IO
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


# -- requests ----------------------------------------------------------------------------------------------------------


def device_control(device: DeviceObject[Toaster], irp: Irp) -> NtStatus:
    """Dispatch routine."""
    toaster = device.extension
    code = irp.current_stack_location.parameters.device_io_control.io_control_code
    if not (status := toaster.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    if toaster.gone:
        status = complete(device, irp, STATUS_DELETE_PENDING)
    elif code == public.IOCTL_TOAST:
        status = toast(device, irp)
    elif code == public.IOCTL_POP:
        pop(device, STATUS_SUCCESS)
        status = complete(device, irp, STATUS_SUCCESS)
    else:
        status = complete(device, irp, STATUS_INVALID_DEVICE_REQUEST)
    toaster.remove_lock.release(irp)
    return status


def toast(device: DeviceObject[Toaster], irp: Irp) -> NtStatus:
    """In it goes."""
    toaster = device.extension
    with toaster.toasting.lock:
        gone = toaster.gone
        queued = not gone and toaster.toasting.insert_locked(irp)
    if gone:
        return complete(device, irp, STATUS_DELETE_PENDING)
    if not queued:  # it had been cancelled before it came
        complete(device, irp, STATUS_CANCELLED)
    return STATUS_PENDING


def pop(device: DeviceObject[Toaster], status: NtStatus, file: FileObject | None = None) -> None:
    """End what is being toasted; only for `file`, if one is given."""
    queue = device.extension.toasting

    def of_that_file(irp: Irp) -> bool:
        return file is None or irp.current_stack_location.file_object is file

    while True:
        with queue.lock:
            irp = queue.remove_next_locked(of_that_file)
        if irp is None:
            return
        complete(device, irp, status)


def cleanup(device: DeviceObject[Toaster], irp: Irp) -> NtStatus:
    """Dispatch routine: the last handle of a file is closed."""
    pop(device, STATUS_CANCELLED, irp.current_stack_location.file_object)
    return complete(device, irp, STATUS_SUCCESS)


# -- Plug and Play -----------------------------------------------------------------------------------------------------


def pnp(device: DeviceObject[Toaster], irp: Irp) -> NtStatus:
    """Dispatch routine. What is not known is passed on untouched."""
    toaster, minor = device.extension, irp.current_stack_location.minor_function
    if not (status := toaster.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    if minor == PnpMinor.START_DEVICE:
        status = device.io.forward_and_wait(toaster.lower, irp)
        if status.is_success:
            device.io.set_device_interface_state(toaster.interface, True)
        complete(device, irp, status)
        toaster.remove_lock.release(irp)
        return status
    if minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
        device.io.set_device_interface_state(toaster.interface, False)
        with toaster.toasting.lock:
            toaster.gone = True
        pop(device, STATUS_DELETE_PENDING)
    if minor in AGREES:
        irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(toaster.lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        toaster.remove_lock.release_and_wait(irp)
        device.io.detach_device(toaster.lower)
        device.io.delete_device(device)
    else:
        toaster.remove_lock.release(irp)
    return status
