"""IRP_MJ_SHUTDOWN: what a device is told before the bridge closes, if its driver has asked for it.

Drivers are not unloaded when Windows shuts down, and devices are not removed: this request is all they get. A bridge that
closes does take its devices down; the request comes before all that, while handles are open and requests under way.
"""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.files import FileRoutines
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import DO_SHUTDOWN_REGISTERED, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import HilbridgeError


class ShutdownRoutines(FileRoutines):
    """The I/O manager's routines about the end of the system."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._to_be_told: list[DeviceObject[Any]] = []

    def register_shutdown_notification(self, device: DeviceObject[Any]) -> None:
        """IoRegisterShutdownNotification: send IRP_MJ_SHUTDOWN to this very device, not to the top of its stack, at the end."""
        with self._lock:
            if device not in self._to_be_told:
                self._to_be_told.append(device)
        device.flags |= DO_SHUTDOWN_REGISTERED

    def unregister_shutdown_notification(self, device: DeviceObject[Any]) -> None:
        """IoUnregisterShutdownNotification. A device that is deleted is unregistered by that."""
        with self._lock:
            self._to_be_told = [other for other in self._to_be_told if other is not device]
        device.flags &= ~DO_SHUTDOWN_REGISTERED

    def delete_device(self, device: DeviceObject[Any]) -> None:
        """IoDeleteDevice."""
        super().delete_device(device)
        self.unregister_shutdown_notification(device)

    def shutdown_system(self) -> None:
        """Tell every device that is registered, the last one first. A driver's mistake does not keep it from the others."""
        self.shutting_down = True
        while True:
            with self._lock:
                if not self._to_be_told:
                    return
                device = self._to_be_told.pop()
            device.flags &= ~DO_SHUTDOWN_REGISTERED
            if device.device_stack.fault is not None:
                continue
            event = Kevent()
            irp = self.build_synchronous_fsd_request(IrpMajor.SHUTDOWN, device, event)
            try:
                self._send(device, irp, event, 30.0, "IRP_MJ_SHUTDOWN")
            except HilbridgeError:
                continue  # it has been latched
