"""DEVICE_NODE: one device, as the Plug and Play manager knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.model.capabilities import DeviceCapabilities
from hilbridge.model.codes import PNP_DEVICE_FAILED, PNP_DEVICE_REMOVED
from hilbridge.model.hardware import LineSettings, SerialResources
from hilbridge.model.pnp_life import PnpLife, PnpState

if TYPE_CHECKING:
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverObject
    from hilbridge.model.hardware import Line


class DeviceNode:
    """One device: where it is in the tree, what its bus says it is, its stack, and the hardware below.

    The children of the root are what was plugged into the bridge by hand. All others were found by a bus driver.
    """

    def __init__(self, name: str, moniker: str, pdo: DeviceObject[Any], parent: DeviceNode | None = None) -> None:
        self.name = name
        self.moniker = moniker
        """What it was plugged in as; of a bus driver's child, its instance path."""
        self.pdo = pdo
        self.parent = parent
        self.children: list[DeviceNode] = []
        self.life = PnpLife()
        self.failed = False
        """A driver of its stack is broken."""
        self.problem = ""
        """Why it does not work, in words."""
        # What the bus driver says.
        self.device_id = ""
        self.instance_id = ""
        self.hardware_ids: list[str] = []
        self.compatible_ids: list[str] = []
        self.description = ""
        self.location = ""
        self.capabilities = DeviceCapabilities()
        self.device_state = 0
        """PNP_DEVICE_STATE: the bits that the drivers have set."""
        self.present = True
        """Whether its bus still reports it."""
        # What it takes to build the stack, and to build it again.
        self.drivers: list[DriverObject] = []
        """Bottom first: lower filters, function driver, upper filters."""
        self.line: Line | None = None
        self.pin: Pin | None = None
        self.vector: int | None = None
        self.settings: LineSettings | None = None
        self.reset_recipe: str | None = None
        """How it is reset, as the application said: see `hilbridge.bridge.recipes`."""
        self.reopen: Callable[[], Line | None] | None = None
        """Opens its hardware once more. None: there is none, or it cannot be closed and opened."""
        self.failures = 0
        """Failures of its drivers, counted as `hilbridge.bridge.reflector` says."""
        self.failed_at = 0
        """When the last one was, on the kernel's clock."""

    def __repr__(self) -> str:
        return f"<device {self.name}, {self.state}>"

    @property
    def devices(self) -> list[DeviceObject[Any]]:
        """The stack, bottom first."""
        return list(self.pdo.walk_up())

    @property
    def state(self) -> str:
        """Its state, as people read it: ``started``, ``stopped``, ``surprise-removed``, ..., or ``failed``."""
        if self.failed and self.life.state not in (PnpState.SURPRISE_REMOVED, PnpState.REMOVED):
            return "failed"
        return self.life.state.name.lower().replace("_", "-")

    @property
    def removing(self) -> bool:
        """It has gone, or is about to."""
        return self.life.state in (PnpState.SURPRISE_REMOVED, PnpState.REMOVED)

    @property
    def instance_path(self) -> str:
        r"""``ROOT\\serial\\COM1``: what tells it from all other devices of the system."""
        return f"{self.device_id}\\{self.instance_id}"

    def says_that_it_is_gone(self) -> bool:
        """What IRP_MN_QUERY_PNP_DEVICE_STATE has brought: the device was removed, or does not work any more."""
        return bool(self.device_state & (PNP_DEVICE_FAILED | PNP_DEVICE_REMOVED))

    def resources(self) -> SerialResources | None:
        """What START_DEVICE gives to the drivers; None for a device without hardware of ours."""
        if self.line is None or self.pin is None:
            return None
        return SerialResources(self.line, self.pin.vector.number, self.settings or LineSettings(), self.name)

    def subtree(self) -> list[DeviceNode]:
        """This node and all below it, each after everything that hangs on it: the order of removal."""
        found: list[DeviceNode] = []
        for child in self.children:
            found += child.subtree()
        return [*found, self]
