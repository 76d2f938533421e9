"""What a bus driver says of its children, and what the manager makes of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    IdType,
    PnpMinor,
    RelationType,
    TextType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceGone, HilbridgeError
from hilbridge.model.pnp_life import PnpLife, PnpState
from hilbridge.pnp.node import DeviceNode

if TYPE_CHECKING:
    from hilbridge.pnp.manager import PnpManager

log = logging.getLogger("hilbridge.pnp")
_FATAL = "PNP_DETECTED_FATAL_ERROR"


class Enumerator:
    """Asks the devices of one system, and keeps the tree as their answers say. Under the manager's lock."""

    def __init__(self, manager: PnpManager) -> None:
        self._manager = manager
        self._io = manager.io

    def identify(self, node: DeviceNode) -> None:
        """Ask a PDO, before any driver is above it, what it is."""
        io, pdo = self._io, node.pdo
        node.device_id = io.query_id(pdo, IdType.DEVICE_ID) or "UNKNOWN"
        node.instance_id = io.query_id(pdo, IdType.INSTANCE_ID) or ""
        node.hardware_ids = list(io.query_id(pdo, IdType.HARDWARE_IDS) or ())
        node.compatible_ids = list(io.query_id(pdo, IdType.COMPATIBLE_IDS) or ())
        node.description = io.query_device_text(pdo, TextType.DESCRIPTION)
        node.location = io.query_device_text(pdo, TextType.LOCATION_INFORMATION)
        node.capabilities = io.query_capabilities(pdo)

    def ask_state(self, node: DeviceNode) -> None:
        """IRP_MN_QUERY_PNP_DEVICE_STATE, and what the whole stack says that the device can do."""
        answer = self._io.ask_pnp(node.pdo, PnpMinor.QUERY_PNP_DEVICE_STATE)
        node.device_state = answer.answer if isinstance(answer.answer, int) else 0
        node.capabilities = self._io.query_capabilities(node.pdo)

    def related(self, node: DeviceNode, kind: RelationType) -> list[DeviceNode]:
        """The other devices of the tree that a device's drivers report as related to it."""
        found = []
        for device in self._io.query_device_relations(node.pdo, kind) or ():
            self._io.dereference_object(device)
            other = self._manager.node_of(device)
            if other is not None and other is not node:
                found.append(other)
        return found

    def enumerate(self, node: DeviceNode) -> None:
        """Ask a bus what is plugged in. What is new gets its stack and is started; what is missing has gone."""
        reported = self._io.query_device_relations(node.pdo, RelationType.BUS)
        if reported is None:
            return  # no bus
        try:
            self._check(node, reported)
        finally:
            for pdo in reported:
                if isinstance(pdo, DeviceObject):
                    self._io.dereference_object(pdo)
        for child in list(node.children):
            if child.pdo not in reported and child.present:
                self._missing(node, child)
        known = {child.pdo for child in node.children}
        for pdo in reported:
            if pdo not in known:
                self._arrived(node, pdo)

    def _check(self, node: DeviceNode, reported: list[Any]) -> None:
        """A bus driver that reports what cannot be is told at once: nothing good would come of it later."""
        seen: set[int] = set()
        for pdo in reported:
            which = hint = None
            if not isinstance(pdo, DeviceObject) or not pdo.flags & DO_BUS_ENUMERATED_DEVICE:
                which, hint = 2, "report PDOs that you have made: set DO_BUS_ENUMERATED_DEVICE in their flags"
            elif id(pdo) in seen:
                which, hint = 1, "report each PDO once"
            elif pdo.delete_pending:
                which, hint = 5, "a PDO that has been deleted is still reported"
            elif pdo.flags & DO_DEVICE_INITIALIZING:
                which, hint = 2, "clear DO_DEVICE_INITIALIZING before a PDO is reported"
            if which is not None:
                blamed = node.pdo.attached_device or node.pdo
                raise self._io.bug_check(0xCA, _FATAL, which, pdo, hint=hint or "", device=blamed)
            seen.add(id(pdo))

    def _missing(self, node: DeviceNode, child: DeviceNode) -> None:
        for one in child.subtree():
            one.present = False
        if child.life.state is PnpState.REMOVED:
            child.life = PnpLife()  # its drivers have left before; the PDO is still there, and hears of it now
        self._manager.surprise(child, DeviceGone(f"{child.name} is gone: {node.name} does not report it any more"))

    def _arrived(self, node: DeviceNode, pdo: DeviceObject[Any]) -> None:
        child = DeviceNode("", "", pdo, node)
        node.children.append(child)
        try:
            self.identify(child)
        except HilbridgeError as error:
            child.problem = str(error)
        recipe = self._manager.recipes.find([*child.hardware_ids, *child.compatible_ids])
        stem = recipe.name if recipe is not None else None
        if recipe is not None and stem is None:
            try:
                stem = self._manager.drivers.load(recipe.driver).name
            except HilbridgeError as error:
                child.problem = str(error)
        child.name = self._manager.free_name(stem or "device")
        child.moniker = child.instance_path
        self._manager.nodes[child.name.lower()] = child
        if not child.problem:
            self.bring_up(child)
        if child.problem:
            log.warning("%s (%s): %s", child.name, child.moniker, child.problem)

    def bring_up(self, node: DeviceNode) -> None:
        """Give a bus driver's device its stack, and start it. What goes wrong is its `problem`, and no affair of its bus."""
        manager = self._manager
        node.problem = ""
        recipe = manager.recipes.find([*node.hardware_ids, *node.compatible_ids])
        if recipe is None and not node.capabilities.raw_device_ok:
            node.problem = f"no driver is installed for {', '.join(node.hardware_ids) or 'it: it has no hardware id'}"
            return
        try:
            node.drivers = [manager.drivers.load(one) for one in recipe.bottom_first] if recipe is not None else []
            try:
                manager.build(node)
            except BaseException:
                manager.remove_stack(node)
                raise
            manager.start(node)
        except HilbridgeError as error:
            node.problem = str(error)
