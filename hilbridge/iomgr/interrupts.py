"""IoConnectInterrupt and IoDisconnectInterrupt."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import IoBase
from hilbridge.kernel.interrupt import Interrupt, InterruptMode, ServiceRoutine, Vector
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INVALID_PARAMETER


class InterruptRoutines(IoBase):
    """The I/O manager's routines about interrupts. At PASSIVE_LEVEL."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        ke.owner_of_module = self.owner_of_module

    def owner_of_module(self, module: str) -> DeviceObject[Any] | None:
        """A device of the driver that a module belongs to, if one driver alone can be meant. For blame, after a mistake."""
        owners = [
            driver for driver in list(self.drivers.values()) if driver.device_object and module in _modules(driver)
        ]
        return owners[0].device_object if len(owners) == 1 else None

    def connect_interrupt(
        self,
        device: DeviceObject[Any],
        isr: ServiceRoutine,
        context: Any,
        vector: int,
        *,
        mode: InterruptMode = InterruptMode.LEVEL_SENSITIVE,
        share: bool = True,
    ) -> Interrupt:
        """IoConnectInterrupt. The routine may be called before this returns.

        Raises `NtStatusError` STATUS_INVALID_PARAMETER if the vector is taken by somebody who does not share it, or in
        another mode.
        """
        there = self.ke.vector(vector)
        interrupt = Interrupt(there, device, isr, context, mode, share)
        if not self.ke.connect_to_vector(interrupt):
            why = "out of service, after a storm" if there.dead else "in use, and not shared in that way"
            raise NtStatusError(STATUS_INVALID_PARAMETER, f"{there!r} is {why}")
        self._set_steering(there)
        return interrupt

    def disconnect_interrupt(self, interrupt: Interrupt) -> None:
        """IoDisconnectInterrupt: when this returns the routine is not running, and never will again."""
        interrupt.vector.disconnect(interrupt)
        interrupt.device.device_stack.steering = None
        interrupt.wait_idle()
        self._set_steering(interrupt.vector)

    @staticmethod
    def _set_steering(vector: Vector) -> None:
        # A waiting thread may serve its own device's interrupt, but never a neighbour's: only where one device has the
        # vector, and it has one pin.
        alone = len(vector.chain) == 1 and len(vector.pins) == 1
        for interrupt in vector.chain:
            interrupt.device.device_stack.steering = vector.pins[0] if alone else None


def _modules(driver: DriverObject) -> set[str]:
    """The modules that a driver's routines come from, without those of the model."""
    routines = [*driver.major_function, driver.add_device, driver.driver_unload, driver.driver_start_io]
    found = {str(getattr(routine, "__module__", "")) for routine in routines if routine is not None}
    return {module for module in found if not module.startswith("hilbridge.iomgr")}
