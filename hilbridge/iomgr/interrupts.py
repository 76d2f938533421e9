"""IoConnectInterrupt and IoDisconnectInterrupt."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import IoBase
from hilbridge.kernel.interrupt import Interrupt, InterruptMode, ServiceRoutine, Vector
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INVALID_PARAMETER


class InterruptRoutines(IoBase):
    """The I/O manager's routines about interrupts. At PASSIVE_LEVEL."""

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
