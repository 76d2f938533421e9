"""IoConnectInterrupt and IoDisconnectInterrupt."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import IoBase
from hilbridge.kernel.interrupt import Interrupt, InterruptMode, ServiceRoutine
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import DIRQL_LOWEST, HIGH_LEVEL, PASSIVE_LEVEL
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
        irql: int | None = None,
        synchronize_irql: int | None = None,
        synchronize_with: Interrupt | None = None,
        mode: InterruptMode = InterruptMode.LEVEL_SENSITIVE,
        share: bool = True,
    ) -> Interrupt:
        """IoConnectInterrupt. The routine may be called before this returns.

        `irql`: the vector's, as the resources say; None takes it as it is. `synchronize_irql`: at which the routine runs, at
        least that; a driver whose interrupts share one lock (`synchronize_with`: the one that has it) gives the highest of
        theirs. Raises `NtStatusError` STATUS_INVALID_PARAMETER if these make no sense, or if the vector is taken by somebody
        who does not share it, or in another mode.
        """
        self._at_passive_level("connect_interrupt")
        there = self.ke.vector(vector, DIRQL_LOWEST if irql is None else irql)
        if irql is not None and there.irql != irql:
            raise NtStatusError(STATUS_INVALID_PARAMETER, f"{there!r} is at IRQL {there.irql}, not {irql}")
        level = there.irql if synchronize_irql is None else synchronize_irql
        lowest = max(there.irql, synchronize_with.synchronize_irql if synchronize_with is not None else 0)
        if not lowest <= level <= HIGH_LEVEL:
            raise NtStatusError(
                STATUS_INVALID_PARAMETER, f"synchronize_irql is {level}; for {there!r} it is {lowest} to {HIGH_LEVEL}"
            )
        interrupt = Interrupt(
            there, device, isr, context, mode, share, synchronize_irql=level, synchronize_with=synchronize_with
        )
        if not self.ke.connect_to_vector(interrupt):
            why = "out of service, after a storm" if there.dead else "in use, and not shared in that way"
            raise NtStatusError(STATUS_INVALID_PARAMETER, f"{there!r} is {why}")
        return interrupt

    def disconnect_interrupt(self, interrupt: Interrupt) -> None:
        """IoDisconnectInterrupt: when this returns the routine is not running, and never will again."""
        self._at_passive_level("disconnect_interrupt")
        interrupt.vector.disconnect(interrupt)
        interrupt.wait_idle()

    def _at_passive_level(self, routine: str) -> None:
        irql = self.ke.irql
        if irql != PASSIVE_LEVEL:
            raise self.bug_check(0xA, "IRQL_NOT_LESS_OR_EQUAL", routine, irql, hint=f"call {routine} at PASSIVE_LEVEL")


def _modules(driver: DriverObject) -> set[str]:
    """The modules that a driver's routines come from, without those of the model."""
    routines = [*driver.major_function, driver.add_device, driver.driver_unload, driver.driver_start_io]
    found = {str(getattr(routine, "__module__", "")) for routine in routines if routine is not None}
    return {module for module in found if not module.startswith("hilbridge.iomgr")}
