"""The Plug and Play manager: the tree of devices, and what happens to each of them.

It is the only one who sends START, STOP, REMOVE and their kin, in the order of `hilbridge.model.pnp_life`: a request that
does not fit the state of its device is never sent. What was plugged in by hand hangs on the root; what a bus driver reports
hangs on that bus's device, and goes with it.

One lock, `lock`, is held while the tree changes. It is never needed to complete a request: a driver that is stuck holds up
who manages devices, for as long as the limits allow, and nobody who uses one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from hilbridge.drivers.rootbus import entry as rootbus
from hilbridge.iomgr.pnp import PnpAnswer
from hilbridge.iomgr.pnpnotify import NotifyEvent
from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    PNP_DEVICE_NOT_DISABLEABLE,
    DeviceProperty,
    PnpMinor,
    RelationType,
    RemovalPolicy,
)
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.errors import (
    DeviceBusy,
    DeviceGone,
    DriverFault,
    HilbridgeError,
    NameNotFound,
    NtStatusError,
    UsageFault,
)
from hilbridge.model.parameters import StartDeviceParameters
from hilbridge.model.pnp_life import PnpLife, PnpState
from hilbridge.model.status import STATUS_NOT_SUPPORTED
from hilbridge.pnp import stacks
from hilbridge.pnp.enumerate import Enumerator
from hilbridge.pnp.install import Recipe, Recipes
from hilbridge.pnp.node import DeviceNode
from hilbridge.pnp.registry import Drivers

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.model.hardware import Line

log = logging.getLogger("hilbridge.pnp")


class PnpManager:
    """The devices of one system. Every method at PASSIVE_LEVEL; see the top of this module about the lock."""

    def __init__(self, io: IoManager) -> None:
        self.io = io
        self.lock = threading.RLock()
        self.nodes: dict[str, DeviceNode] = {}
        """Every device, by its name in lower case."""
        self.drivers = Drivers(io)
        self.recipes = Recipes()
        self.former: list[DeviceStack] = []
        """Stacks that have failed, with handles that are still open."""
        self.root_bus = io.load_driver("rootbus", rootbus.driver_entry)
        self._enumerator = Enumerator(self)
        io.pnp = self
        io.on_last_close = self._closed_late

    # -- looking -----------------------------------------------------------------------------------------------------

    def node(self, name: str) -> DeviceNode:
        """The device of that name. Raises `NameNotFound`, which lists those that there are."""
        node = self.nodes.get(name.lower())
        if node is None:
            known = ", ".join(n.name for n in self.nodes.values()) or "none"
            raise NameNotFound(f"no device {name!r} is plugged in; there is: {known}")
        return node

    def node_of(self, device: DeviceObject[Any]) -> DeviceNode | None:
        """Whose stack this device object is part of."""
        bottom = device.bottom
        return next((node for node in list(self.nodes.values()) if node.pdo is bottom), None)

    def free_name(self, stem: str) -> str:
        """``COM1``, ``COM2``, ...: the first that is not taken."""
        number = 1
        while f"{stem}{number}".lower() in self.nodes:
            number += 1
        return f"{stem}{number}"

    def property_of(self, device: DeviceObject[Any], which: DeviceProperty) -> object:
        """For IoGetDeviceProperty."""
        node = self.node_of(device)
        if node is None or node.pdo is not device:
            return None
        can = node.capabilities
        policy = (
            RemovalPolicy.EXPECT_SURPRISE_REMOVAL
            if can.surprise_removal_ok
            else RemovalPolicy.EXPECT_ORDERLY_REMOVAL
            if can.removable
            else RemovalPolicy.EXPECT_NO_REMOVAL
        )
        known: dict[DeviceProperty, object] = {
            DeviceProperty.DEVICE_DESCRIPTION: node.description,
            DeviceProperty.HARDWARE_ID: node.hardware_ids,
            DeviceProperty.COMPATIBLE_IDS: node.compatible_ids,
            DeviceProperty.FRIENDLY_NAME: node.name,
            DeviceProperty.LOCATION_INFORMATION: node.location,
            DeviceProperty.ENUMERATOR_NAME: node.device_id.partition("\\")[0],
            DeviceProperty.ADDRESS: can.address,
            DeviceProperty.UI_NUMBER: can.ui_number,
            DeviceProperty.REMOVAL_POLICY: policy,
        }
        return known[which]

    # -- arrival -----------------------------------------------------------------------------------------------------

    def add_by_hand(
        self, name: str, moniker: str, recipe: Recipe, line: Line | None, vector: int | None = None
    ) -> DeviceNode:
        """A new child of the root, with its stack built and not started. Under the lock. The line is the node's from now on."""
        drivers = [self.drivers.load(one) for one in recipe.bottom_first]
        function = self.drivers.load(recipe.driver).name
        node = DeviceNode(name, moniker, rootbus.create_child(self.root_bus, moniker, name, function))
        node.drivers, node.line, node.vector = drivers, line, vector
        try:
            self._enumerator.identify(node)
            self.build(node)
        except BaseException:
            self.dismantle(node)
            raise
        self.nodes[name.lower()] = node
        return node

    def build(self, node: DeviceNode) -> None:
        """AddDevice, from the bottom up; the hardware is wired before."""
        stacks.wire(self.io, node, node.vector)
        stacks.build(node)

    def start(self, node: DeviceNode) -> None:
        """START_DEVICE. A device that does not start is removed. Raises what its drivers say."""
        if not node.life.may(PnpMinor.START_DEVICE):
            raise UsageFault(f"{node.name} is {node.state}: it cannot be started now")
        if node.life.state is PnpState.STOPPED and node.line is None and node.reopen is not None:
            node.line = node.reopen()  # fails here: it stays stopped, and may be tried again
        try:
            stacks.wire(self.io, node, node.vector)
            # The pin is watched before START, so that a driver that enables its interrupts there is heard.
            if node.pin is not None:
                node.vector = node.pin.vector.number
                self.io.ke.machine.add_pin(node.pin)
            answer = self.io.ask_pnp(node.pdo, PnpMinor.START_DEVICE, StartDeviceParameters(node.resources()))
            if not answer.status.is_success:
                raise self._not_started(node, answer)
        except BaseException as error:
            node.problem = f"did not start: {error}"
            if node.pdo.device_stack.files:  # it was stopped, with handles open: they must be closed first
                self.surprise(node, DeviceGone(f"{node.name} did not start again: {error}"))
            else:
                self.remove_stack(node)
            raise
        node.life.step(PnpMinor.START_DEVICE)
        node.problem = ""
        self._link(node)
        self._started(node)

    @staticmethod
    def _not_started(node: DeviceNode, answer: PnpAnswer) -> HilbridgeError:
        return answer.words or NtStatusError(answer.status, f"{node.name} did not start: {answer.why()}")

    def _started(self, node: DeviceNode) -> None:
        """What only a device that is started can be asked."""
        self._enumerator.ask_state(node)
        if node.says_that_it_is_gone():
            self.surprise(node, DeviceGone(f"{node.name}: its driver says that the device has failed"))
        elif node.life.state is PnpState.STARTED:
            self._enumerator.enumerate(node)

    def _link(self, node: DeviceNode) -> None:
        """A device whose driver gave it no short name of its own gets the one it was plugged in under."""
        named = next((device for device in node.devices if device.name), None)
        if named is None:
            self.io.namespace.link_device(node.name, node.pdo)
        elif node.name not in self.io.namespace.links_to(named):
            self.io.create_symbolic_link(node.name, named.name or "")

    # -- stop --------------------------------------------------------------------------------------------------------

    def stop(self, node: DeviceNode) -> None:
        """QUERY_STOP, STOP: the drivers let the hardware go, and it is given back; handles stay open, requests wait.

        What hangs on the device is stopped before it. Raises `DeviceBusy` if a driver refuses, and says which one. `start`
        goes on.
        """
        tree = [n for n in node.subtree() if n.life.state is PnpState.STARTED]
        if node not in tree:
            raise UsageFault(f"{node.name} is {node.state}: only a device that is started can be stopped")
        self._query(tree, PnpMinor.QUERY_STOP_DEVICE, PnpMinor.CANCEL_STOP_DEVICE, "stopped")
        for one in tree:
            self._tell(one, PnpMinor.STOP_DEVICE)
            if one.reopen is not None:
                stacks.release_hardware(self.io, one)
            else:
                stacks.unwire(self.io, one)

    def start_again(self, node: DeviceNode) -> None:
        """After `stop`, or after `remove` of a device that its bus still reports: the device, then what hangs on it."""
        if node.life.state is PnpState.REMOVED:
            if not node.present:
                raise UsageFault(f"{node.name} is gone: there is nothing to be started")
            node.life, node.failed, node.pdo.device_stack.fault = PnpLife(), False, None
            self._enumerator.bring_up(node)
            if node.problem:
                raise DriverFault(f"{node.name}: {node.problem}")
            return
        self.start(node)
        for child in list(node.children):
            if child.life.state is PnpState.STOPPED:
                self.start_again(child)

    def _query(self, tree: list[DeviceNode], query: PnpMinor, cancel: PnpMinor, what: str) -> None:
        """Ask each device; if one refuses, all that were asked, and that one, are told that nothing comes of it."""
        asked: list[DeviceNode] = []
        removal = query is PnpMinor.QUERY_REMOVE_DEVICE
        for node in tree:
            refusal = self._objection(node, what) if removal else None
            if refusal is None:
                asked.append(node)
                answer = self.io.ask_pnp(node.pdo, query)
                if answer.status.is_success:
                    node.life.step(query)
                    continue
                refusal = DeviceBusy(f"{node.name} cannot be {what}: {answer.why()}", status=answer.status)
            for one in reversed(asked):
                self._tell(one, cancel)
            for one in tree if removal else ():
                self.io.notify_target_device(one.pdo, NotifyEvent.REMOVE_CANCELLED)
            raise refusal

    def _objection(self, node: DeviceNode, what: str) -> HilbridgeError | None:
        """What stands in the way of a removal before its drivers are even asked. Who has it open may close it now."""
        if node.device_state & PNP_DEVICE_NOT_DISABLEABLE:
            return DeviceBusy(f"{node.name} cannot be {what}: its driver says that the system needs it")
        refuses = self.io.notify_target_device(node.pdo, NotifyEvent.QUERY_REMOVE)
        if refuses is not None:
            return DeviceBusy(f"{node.name} cannot be {what}: driver {refuses.name}, which uses it, refuses")
        opens = len(node.pdo.device_stack.files)
        if not opens:
            return None
        handles = f"{opens} handles" if opens > 1 else "1 handle"
        return DeviceBusy(f"{node.name} cannot be {what}: it is open ({handles}); close it, or unplug it")

    def _tell(self, node: DeviceNode, minor: PnpMinor) -> None:
        """A request that cannot be refused. A driver that fails it all the same is at fault, and the device goes on."""
        answer = self.io.ask_pnp(node.pdo, minor)
        node.life.step(minor)
        if not answer.status.is_success and answer.status != STATUS_NOT_SUPPORTED:
            fault = DriverFault(f"IRP_MN_{minor.name} may not fail, and did on {node.name}: {answer.why()}")
            self.io.fault(answer.refused_by or node.pdo, fault, f"its dispatch routine for IRP_MN_{minor.name}")

    # -- removal -----------------------------------------------------------------------------------------------------

    def remove(self, node: DeviceNode) -> None:
        """QUERY_REMOVE, REMOVE: the device and what hangs on it go, if nobody has them open and every driver agrees.

        Raises `DeviceBusy` with what stands in the way. A device that its bus still reports stays in the tree, without
        drivers: `start_again` brings them back.
        """
        tree = self._removal_order(node)
        if not tree:
            raise UsageFault(f"{node.name} is {node.state}: there is nothing to be removed")
        self._query(tree, PnpMinor.QUERY_REMOVE_DEVICE, PnpMinor.CANCEL_REMOVE_DEVICE, "removed")
        for one in tree:
            self.remove_stack(one)

    def _removal_order(self, node: DeviceNode) -> list[DeviceNode]:
        """What has to go with the device, each after what hangs on it: its subtree, and its drivers' removal relations."""
        tree = list(node.subtree())
        for one in list(tree):
            if one.life.state is PnpState.STARTED:
                more = self._enumerator.related(one, RelationType.REMOVAL)
                tree = [n for other in more for n in other.subtree() if n not in tree] + tree
        return [n for n in tree if n.life.may(PnpMinor.QUERY_REMOVE_DEVICE)]

    def eject(self, node: DeviceNode) -> None:
        """The device is removed, with its ejection relations, and its bus driver then lets it out. Raises as `remove` does."""
        for other in self._enumerator.related(node, RelationType.EJECTION):
            if other is not node and other.life.may(PnpMinor.QUERY_REMOVE_DEVICE):
                self.remove(other)
        if not node.capabilities.eject_supported:
            raise UsageFault(f"{node.name} cannot be ejected: its bus driver says so")
        self.remove(node)
        self.io.ask_pnp(node.pdo, PnpMinor.EJECT)
        if node.parent is not None and node.parent.life.state is PnpState.STARTED:
            self._enumerator.enumerate(node.parent)

    def surprise(self, node: DeviceNode, reason: HilbridgeError) -> None:
        """The device has gone, with all that hangs on it. SURPRISE_REMOVAL, and REMOVE when it is not open any more.

        First all hear of it, so that a bus driver knows when its children are removed that they are gone for good.
        """
        tree = node.subtree()
        # All of it is done, whatever a driver does; the first thing that one has raised is told.
        with contextlib.ExitStack() as steps:
            for one in reversed(tree):
                steps.callback(self.remove_if_unused, one)
            for one in reversed(tree):
                if not one.removing:
                    steps.callback(self._surprise, one, reason)

    def _surprise(self, node: DeviceNode, reason: HilbridgeError) -> None:
        node.life.step(PnpMinor.SURPRISE_REMOVAL)
        stack = node.pdo.device_stack
        if stack.removed is None:
            stack.removed = reason
        try:
            if stack.fault is None:
                self.io.send_pnp(node.pdo, PnpMinor.SURPRISE_REMOVAL)
        finally:
            # Whatever the drivers did: the port is free for who wants it next, and no request is left behind.
            stacks.release_hardware(self.io, node)
            self.io.disable_interfaces_of(node.pdo)
            self.io.notify_target_device(node.pdo, NotifyEvent.REMOVE_COMPLETE)
            for file in list(stack.files):
                self.io.end_outstanding(file)

    def remove_if_unused(self, node: DeviceNode) -> None:
        """The last step of a removal that has had to wait: for handles, and for what hangs on the device."""
        if (
            node.life.state is PnpState.SURPRISE_REMOVED
            and not node.pdo.device_stack.files
            and not any(child.life.state is not PnpState.REMOVED for child in node.children)
        ):
            parent = node.parent
            self.remove_stack(node)
            if parent is not None:
                self.remove_if_unused(parent)

    def remove_stack(self, node: DeviceNode) -> None:
        """REMOVE_DEVICE: the drivers leave. Nobody has the device open."""
        top = node.pdo.top
        short_names = [n for d in node.devices for n in self.io.namespace.links_to(d)]
        if not (node.present and node.parent is not None):
            self._forget(node)
        may = node.life.may(PnpMinor.REMOVE_DEVICE)
        orderly = node.life.state is PnpState.REMOVE_PENDING
        node.life.state = PnpState.REMOVED
        try:
            if may and node.pdo.device_stack.fault is None:
                self.io.send_pnp(top, PnpMinor.REMOVE_DEVICE)
        finally:
            for child in list(node.children):
                self._remove_orphan(child)
            self.dismantle(node)
            self.io.disable_interfaces_of(node.pdo, forget=node.pdo.delete_pending)
            if orderly:
                self.io.notify_target_device(node.pdo, NotifyEvent.REMOVE_COMPLETE)
            self.io.namespace.unlink_device(node.name)
            for short in short_names:
                try:
                    self.io.delete_symbolic_link(short)
                except NtStatusError:
                    continue  # its driver has done so

    def remove_for_good(self, node: DeviceNode) -> None:
        """The system closes: nobody is asked. What hangs on the device has gone before."""
        if node.life.state is PnpState.REMOVED:
            return
        self.remove_stack(node)

    def _remove_orphan(self, child: DeviceNode) -> None:
        """The bus of this device has gone. Its driver has deleted the PDO in its own removal, or has forgotten it."""
        child.present = False
        self._forget(child)
        stacks.delete_all(self.io, child.pdo)

    def _forget(self, node: DeviceNode) -> None:
        """It is not in the tree any more."""
        self.nodes.pop(node.name.lower(), None)
        if node.parent is not None and node in node.parent.children:
            node.parent.children.remove(node)

    def dismantle(self, node: DeviceNode) -> None:
        """Free what a stack left behind: hardware, and the devices of drivers that could not be asked any more."""
        stacks.release_hardware(self.io, node)
        if node.parent is not None and node.present:
            stacks.delete_above(self.io, node.pdo)  # the PDO stays for as long as the bus reports it
        else:
            stacks.delete_all(self.io, node.pdo)

    # -- failure -----------------------------------------------------------------------------------------------------

    def take_down(self, node: DeviceNode) -> None:
        """Take a failed stack away without asking its drivers. Its hardware stays; its old handles go on failing.

        What hangs on the device gets its removal, through a bottom that the root bus has adopted: the bus's driver cannot be
        asked any more, and the drivers above are not to blame.
        """
        for child in list(node.children):
            for one in child.subtree():
                one.present = False
                self.io.adopt_device(one.pdo, self.root_bus)
            self.surprise(child, DeviceGone(f"{child.name} is gone: the driver of {node.name} has failed"))
        stacks.unwire(self.io, node)
        self.io.disable_interfaces_of(node.pdo, forget=node.parent is None)
        self._give_up_strays(node)
        old = node.pdo.device_stack
        if old.files:
            self.former.append(old)
        self.io.namespace.unlink_device(node.name)
        for device in node.devices:
            for short in self.io.namespace.links_to(device):
                self.io.delete_symbolic_link(short)
            self.io.namespace.remove(device)  # at once: the new stack has the same names
        if node.parent is None or not node.present:
            stacks.delete_all(self.io, node.pdo)
            return
        # The bus's device stays, and starts a stack of its own; what was open stays with the one that has failed.
        above = node.pdo.attached_device
        if above is not None:
            self.io.move_files(node.pdo, above)
        stacks.delete_above(self.io, node.pdo)
        node.pdo.device_stack = DeviceStack(self.io.ke.spin_lock())

    def _give_up_strays(self, node: DeviceNode) -> None:
        """PDOs that a failed bus driver had no time to report: nobody will, and it is not asked to delete them."""
        for driver in node.drivers:
            if any(driver in other.drivers for other in self.nodes.values() if other is not node):
                continue  # they may be another bus's
            for device in driver.devices:
                if device.flags & DO_BUS_ENUMERATED_DEVICE and self.node_of(device) is None:
                    device.device_stack.fault = node.pdo.device_stack.fault

    def rebuild(self, node: DeviceNode) -> None:
        """After `take_down`: the same drivers, a new stack, START. Raises what stands in the way."""
        if node.parent is None:
            function = node.pdo.extension.driver
            node.pdo = rootbus.create_child(self.root_bus, node.moniker, node.name, function)
        node.life = PnpLife()
        node.failed = False
        try:
            try:
                self.build(node)
            except BaseException:
                self.dismantle(node)
                raise
            self.start(node)
        except BaseException:
            # It stays in the tree, where one can see that it has failed, until it is unplugged.
            self.nodes[node.name.lower()] = node
            node.life, node.failed = PnpLife(), True
            raise

    # -- what the I/O manager tells ----------------------------------------------------------------------------------

    def device_state_changed(self, device: DeviceObject[Any]) -> None:
        """Work item: a driver has said that something is the matter with its device."""
        with self.lock:
            node = self.node_of(device)
            if node is None or node.removing:
                return
            gone = device.device_stack.removed
            if gone is None and node.life.state is PnpState.STARTED:
                self._enumerator.ask_state(node)
            if gone is not None or node.says_that_it_is_gone():
                self.surprise(node, gone or DeviceGone(f"{node.name} is gone: its driver says so"))

    def relations_changed(self, device: DeviceObject[Any], kind: RelationType) -> None:
        """Work item: a bus driver has said that its children have changed."""
        with self.lock:
            node = self.node_of(device)
            if (
                node is not None
                and node.life.state is PnpState.STARTED
                and kind in (RelationType.BUS, RelationType.SINGLE_BUS)
                and node.pdo.device_stack.fault is None
            ):
                self._enumerator.enumerate(node)

    def eject_requested(self, device: DeviceObject[Any]) -> None:
        """Work item: somebody has pressed the button."""
        with self.lock:
            node = self.node_of(device)
            if node is None or node.removing:
                return
            try:
                self.eject(node)
            except HilbridgeError as error:
                log.warning("%s was not ejected: %s", node.name, error)

    def _closed_late(self, device: DeviceObject[Any]) -> None:
        """A device is not open any more. If it was pulled, and a driver held the file longer than its handles, it goes."""
        if any(node.life.state is PnpState.SURPRISE_REMOVED for node in list(self.nodes.values())):
            self.io.ke.queue_work_item(lambda: self.last_close(device))

    def last_close(self, device: DeviceObject[Any]) -> None:
        """A handle was closed: a removal may have waited for that."""
        with self.lock:
            for node in list(self.nodes.values()):
                if node.life.state is PnpState.SURPRISE_REMOVED and device.device_stack is node.pdo.device_stack:
                    self.remove_if_unused(node)
