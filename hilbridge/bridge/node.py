"""A device that is plugged in, and a request that is under way, as the bridge knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverObject
    from hilbridge.model.hardware import Line, LineSettings


class PendingIrp(NamedTuple):
    """A line of `Bridge.pending`: which request, for how long (seconds), and who has it."""

    irp_id: int
    device: str
    what: str
    age: float
    holder: str


class Node:
    """One device that is plugged in: its stack, the hardware below, and how both were put together."""

    def __init__(self, name: str, moniker: str, pdo: DeviceObject[str], line: Line | None, pin: Pin | None) -> None:
        self.name = name
        self.moniker = moniker
        self.pdo = pdo
        self.line = line
        self.pin = pin
        self.state = "added"
        self.removing = False
        # What it takes to build the stack again.
        self.drivers: list[DriverObject] = []
        """Bottom first: lower filters, function driver, upper filters."""
        self.vector: int | None = None
        self.settings: LineSettings | None = None
        self.failures = 0
        """Failures of its drivers, counted as `hilbridge.bridge.reflector` says."""
        self.failed_at = 0
        """When the last one was, on the kernel's clock."""

    @property
    def devices(self) -> list[DeviceObject[Any]]:
        """The stack, bottom first."""
        return list(self.pdo.walk_up())
