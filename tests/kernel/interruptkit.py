"""What the tests of interrupts share: one vector, and devices on it whose service routines are the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge import HilbridgeError
from hilbridge.kernel.interrupt import Interrupt, InterruptMode, Pin, Vector
from hilbridge.model.codes import DIRQL_LOWEST
from hilbridge.model.device import DeviceObject
from hilbridge.model.hardware import CAUSE_RX
from tests.support import System, TinyDriver

LEVEL, LATCHED = InterruptMode.LEVEL_SENSITIVE, InterruptMode.LATCHED


class Rig:
    """One vector, and devices on it that are level-sensitive lines with a counter of what they want to be asked for."""

    def __init__(self, irql: int = DIRQL_LOWEST) -> None:
        self.system = System()
        self.ke, self.machine = self.system.ke, self.system.machine
        self.vector = self.ke.vector(5, irql)
        self.calls: list[str] = []
        self.failed: list[DeviceObject[Any] | None] = []
        self.ke.on_fault = lambda device, _fault: self.failed.append(device)

    def device(self, name: str) -> DeviceObject[Any]:
        return self.system.stack(TinyDriver(name))

    def pin(self, level: Callable[[], bool] = lambda: False, vector: Vector | None = None) -> Pin:
        pin = self.ke.add_pin(vector or self.vector, -1, level)
        self.machine.add_pin(pin)
        pin.enabled = CAUSE_RX  # not through enable(): a line that is asserted would interrupt at once
        return pin

    def connect(
        self,
        name: str,
        isr: Callable[..., Any],
        *,
        mode: InterruptMode = LEVEL,
        share: bool = True,
        vector: Vector | None = None,
    ) -> Interrupt:
        def called(interrupt: Interrupt, context: Any) -> Any:
            self.calls.append(name)
            return isr()

        interrupt = Interrupt(vector or self.vector, self.device(name), called, name, mode, share)
        assert self.ke.connect_to_vector(interrupt)
        return interrupt

    def fire(self, pin: Pin) -> list[str]:
        """Assert the line and turn the crank; returns who was called."""
        self.calls.clear()
        pin.raise_line(CAUSE_RX)
        self.machine.run_until_idle()
        return list(self.calls)

    @property
    def only_fault(self) -> HilbridgeError:
        (fault,) = self.ke.faults
        return fault


def yes() -> bool:
    return True


def no() -> bool:
    return False
