"""Device objects, their stacks, names and links: IoCreateDevice, IoAttachDeviceToDeviceStack and their kin."""

from __future__ import annotations

from typing import Any, TypeVar

from hilbridge.iomgr.base import IoBase
from hilbridge.model.codes import (
    DO_DEVICE_HAS_NAME,
    DO_EXCLUSIVE,
    DRVO_UNLOAD_INVOKED,
    FILE_DEVICE_UNKNOWN,
    PASSIVE_LEVEL,
)
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import BugCheck, NtStatusError
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_NO_SUCH_DEVICE

ExtensionT = TypeVar("ExtensionT")


class DeviceRoutines(IoBase):
    """The I/O manager's routines about device objects. All at PASSIVE_LEVEL."""

    def create_device(
        self,
        driver: DriverObject,
        extension: ExtensionT,
        name: str | None = None,
        device_type: int = FILE_DEVICE_UNKNOWN,
        characteristics: int = 0,
        *,
        exclusive: bool = False,
    ) -> DeviceObject[ExtensionT]:
        """IoCreateDevice. `extension` is the driver's own object. Raises `NtStatusError` (name collision, bad path)."""
        self._passive("create_device")
        ke = self.ke
        device = DeviceObject(
            driver, extension, name, device_type, characteristics, DeviceStack(ke.spin_lock()), ke.spin_lock()
        )
        if name is not None:
            device.flags |= DO_DEVICE_HAS_NAME
        if exclusive:
            device.flags |= DO_EXCLUSIVE
        self.namespace.insert(device)
        device.next_device = driver.device_object
        driver.device_object = device
        return device

    def delete_device(self, device: DeviceObject[Any]) -> None:
        """IoDeleteDevice, once per device, after detaching. With handles open it waits for the last close."""
        if device.delete_pending:
            raise BugCheck(
                0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", 0x240, device, hint="the device is deleted already"
            )
        if device.lower_device is not None:
            raise BugCheck(0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", 0x201, device, hint="detach the device first")
        with self._lock:  # who opens it counts up under the same lock: either it is open, or it is gone
            device.delete_pending = True
            idle = device.handle_count == 0
        if idle:
            self._free_device(device)

    def _free_device(self, device: DeviceObject[Any]) -> None:
        self.namespace.remove(device)
        driver = device.driver_object
        if driver.device_object is device:
            driver.device_object = device.next_device
            return
        above = driver.device_object
        while above is not None and above.next_device is not device:
            above = above.next_device
        if above is not None:
            above.next_device = device.next_device

    def attach_device_to_device_stack(self, source: DeviceObject[Any], target: DeviceObject[Any]) -> DeviceObject[Any]:
        """IoAttachDeviceToDeviceStack: onto the *top* of the target's stack; returns the device actually attached to.

        The caller copies DO_BUFFERED_IO, DO_DIRECT_IO and the device type from it. Raises `NtStatusError` where C returns
        NULL: the target is going away.
        """
        self._passive("attach_device_to_device_stack")
        lower = target.top
        if lower.delete_pending or lower.driver_object.flags & DRVO_UNLOAD_INVOKED:
            raise NtStatusError(STATUS_NO_SUCH_DEVICE, f"{lower!r} is being removed; nothing can be attached to it")
        if source.delete_pending:
            raise NtStatusError(STATUS_DELETE_PENDING, f"{source!r} is being deleted; it cannot be attached")
        lower.attached_device = source
        source.lower_device = lower
        source.stack_size = lower.stack_size + 1
        source.device_stack = lower.device_stack
        for file in lower.device_stack.files:
            file.fast_io = None  # from now on the new device must see every request
        return lower

    def detach_device(self, lower: DeviceObject[Any]) -> None:
        """IoDetachDevice, called with the device *below*. Stack sizes are not computed again."""
        upper = lower.attached_device
        if upper is None:
            raise BugCheck(0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", 0x202, lower, hint="nothing is attached to it")
        lower.attached_device = None
        upper.lower_device = None

    def create_symbolic_link(self, name: str, target: str) -> None:
        r"""IoCreateSymbolicLink: ``\DosDevices\COM1`` for ``\Device\Serial0``."""
        self._passive("create_symbolic_link")
        self.namespace.link(name, target)

    def delete_symbolic_link(self, name: str) -> None:
        """IoDeleteSymbolicLink."""
        self._passive("delete_symbolic_link")
        self.namespace.unlink(name)

    def _passive(self, routine: str) -> None:
        irql = self.ke.irql
        if irql != PASSIVE_LEVEL:
            raise BugCheck(0xA, "IRQL_NOT_LESS_OR_EQUAL", routine, irql, hint=f"call {routine} at PASSIVE_LEVEL")
