"""The bridge: one system, put together. It owns the order in which things start and stop.

It also is, for now, the Plug and Play manager: it gives each device its stack, starts it, and takes it down again. The
order at the end is always: no more interrupts, every request ends, handles close, devices go, threads end.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hilbridge.bridge import lifetime
from hilbridge.bridge.dump import chosen_folder
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.monikers import line_settings, open_hardware
from hilbridge.bridge.node import Node, PendingIrp
from hilbridge.bridge.reflector import RESTARTS, Reflector
from hilbridge.bridge.registry import DriverLike, find_driver
from hilbridge.bridge.translate import from_nt_status
from hilbridge.bridge.verifying import with_verifier
from hilbridge.drivers.rootbus import entry as rootbus
from hilbridge.iomgr.files import access_from_mode
from hilbridge.iomgr.manager import IoManager
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel import sigint
from hilbridge.kernel.clock import Clock, VirtualClock
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.manual import ManualMachine
from hilbridge.kernel.poller import Poller
from hilbridge.model.codes import DIRQL_LOWEST, PnpMinor
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.driver import DriverEntry, DriverObject
from hilbridge.model.errors import (
    BridgeClosed,
    DeviceGone,
    DriverFault,
    HilbridgeError,
    NameNotFound,
    NtStatusError,
    UsageFault,
)
from hilbridge.model.file import FileObject
from hilbridge.model.hardware import Line, LineSettings, SerialResources
from hilbridge.model.status import NtStatus

if TYPE_CHECKING:
    from hilbridge.observe.verifier.finding import Finding
    from hilbridge.observe.verifier.options import Verify


class Bridge:
    """One system: a namespace, an I/O manager, a poller, and the devices that are plugged in.

    `steering`: whether a thread that waits for its device may take its interrupts itself (faster; on by default).
    `verify`: watch the drivers and report the rules that they break, in `findings`; None asks HILBRIDGE_VERIFY.
    `restarts`: how often a device whose driver has failed is started again. `crash_dumps`: the folder for what was so when it
    failed, or False for none; by default ``$XDG_STATE_HOME/hilbridge/crashes``, and none on a manual bridge.
    """

    def __init__(
        self,
        *,
        steering: bool = True,
        clock: Clock | None = None,
        io_manager: type[IoManager] = IoManager,
        kernel: type[Kernel] = Kernel,
        verify: bool | Verify | None = None,
        restarts: int = RESTARTS,
        crash_dumps: Path | str | bool | None = None,
        _manual: bool = False,
    ) -> None:
        io_manager, kernel = with_verifier(verify, io_manager, kernel)
        if _manual:
            virtual = clock if isinstance(clock, VirtualClock) else VirtualClock()
            self.ke = kernel(virtual, lambda ke: ManualMachine(ke, virtual, self._describe_pending))
        else:
            self.ke = kernel(clock, lambda ke: Poller(ke, steering=steering))
        self.io = io_manager(self.ke)
        self.ke.on_fault = self._on_fault
        self.io.on_device_state = self._device_went
        self.io.on_last_close = self._closed_late
        self._lock = threading.RLock()
        self._nodes: dict[str, Node] = {}
        self._entries: dict[str, DriverEntry] = {}
        self._handles: set[int] = set()
        self._former: list[DeviceStack] = []
        """Stacks that have failed, with handles that are still open."""
        self._orphans: deque[tuple[FileObject, bool]] = deque()
        self._orphan_lock = threading.RLock()
        self._shown_faults = 0
        self.reflector = Reflector(self, restarts, chosen_folder(not _manual if crash_dumps is None else crash_dumps))
        """What becomes of devices whose drivers fail."""
        self._bus = self.io.load_driver("rootbus", rootbus.driver_entry)
        sigint.acquire()
        lifetime.opened(self)

    @classmethod
    def manual(cls, **options: Any) -> Bridge:
        """A bridge on a virtual clock and a hand-cranked machine: no threads, no time passes by itself.

        A blocking call turns the crank; ``bridge.machine`` lets a test turn it (`step`, `run_until_idle`, `advance`).
        """
        return cls(_manual=True, **options)

    @property
    def machine(self) -> ManualMachine:
        """The crank of a manual bridge."""
        if not isinstance(self.ke.machine, ManualMachine):
            raise UsageFault("this bridge runs by itself; Bridge.manual() makes one that is cranked by hand")
        return self.ke.machine

    # -- devices -----------------------------------------------------------------------------------------------------

    def plug(
        self,
        moniker: str | Line,
        *,
        name: str | None = None,
        driver: DriverLike | None = None,
        upper_filters: Iterable[DriverLike] = (),
        lower_filters: Iterable[DriverLike] = (),
        vector: int | None = None,
        **settings: Any,
    ) -> str:
        """Plug a device in: open its hardware, build its stack, start it. Returns its name (``COM1``, ... by default).

        `moniker` is a string (see the reference of monikers) or a `Line` of your own. `settings` are line settings under
        pyserial's names, and options of the moniker. `vector` puts several devices on one interrupt vector.
        """
        self._collect_orphans()
        self._refuse_if_closed()
        if isinstance(upper_filters, str) or isinstance(lower_filters, str):
            raise UsageFault("filters are a list of drivers: upper_filters=['counter']")
        line_set, options = line_settings(settings)
        with self._deferring_sigint(), self._lock:
            name = self._checked_name(name) if name else self._free_name()
            lower_filters, upper_filters = tuple(lower_filters), tuple(upper_filters)
            line = None if isinstance(moniker, str) else moniker
            try:
                for wanted in (*lower_filters, *upper_filters, *([driver] if driver else [])):
                    self._load(wanted)  # before the hardware is touched: to open a port may reset a board
                if isinstance(moniker, str):
                    hardware = open_hardware(moniker, line_set, options)
                    line, driver = hardware.line, driver or hardware.driver
                else:
                    if options:
                        raise UsageFault(f"unknown settings for a line: {', '.join(options)}")
                    moniker, driver = moniker.name, driver or "serial"
                node = self._build(name, moniker, line, driver, lower_filters, upper_filters, vector)
                node.settings = line_set
            except BaseException:
                if line is not None:
                    line.close()
                raise
            self._start(node)
            return name

    def _build(
        self,
        name: str,
        moniker: str,
        line: Line | None,
        driver: DriverLike,
        lower_filters: tuple[DriverLike, ...],
        upper_filters: tuple[DriverLike, ...],
        vector: int | None,
    ) -> Node:
        drivers = [self._load(d) for d in (*lower_filters, driver, *upper_filters)]
        node = Node(name, moniker, rootbus.create_child(self._bus, moniker), line, None)
        node.drivers, node.vector = drivers, vector
        try:
            self._build_stack(node, vector)
        except BaseException:
            self._dismantle(node)
            raise
        self._nodes[name.lower()] = node
        return node

    def _build_stack(self, node: Node, vector: int | None) -> None:
        """Wire the hardware to its interrupt vector, and let every driver add its device, from the bottom up."""
        line = node.line
        if line is not None:
            # Equal vectors share one interrupt line; without a wish each device gets its own.
            node.pin = self.ke.add_pin(self.ke.vector(vector, DIRQL_LOWEST), line.fileno(), line.asserted)
            line.connect(node.pin)
        for driver in node.drivers:
            self._add_device(driver, node)

    def _load(self, driver: DriverLike) -> DriverObject:
        plain, entry = find_driver(driver)
        # Two modules may end in the same name, and a file may hold several drivers: a name alone does not tell them apart.
        name, number = plain, 1
        while (loaded := self.io.drivers.get(name)) is not None:
            if self._entries.get(name) == entry:
                return loaded
            number += 1
            name = f"{plain}-{number}"
        try:
            loaded = self.io.load_driver(name, entry)
        except NtStatusError as error:
            raise DriverFault(f"driver {name} did not load: {error.message}", status=error.status) from error
        self._entries[name] = entry
        return loaded

    def _add_device(self, driver: DriverObject, node: Node) -> None:
        """Let a driver add its device to the stack. Raises `DriverFault` with what stands in the way."""
        add_device = driver.add_device
        if add_device is None:
            raise DriverFault(f"driver {driver.name} has no add_device: it cannot be part of {node.name}'s stack")
        try:
            status = add_device(driver, node.pdo)
        except NtStatusError as error:
            status = error.status
        except HilbridgeError:
            raise
        except Exception as error:
            raise DriverFault(f"driver {driver.name} raised {type(error).__name__} in add_device: {error}") from error
        if not isinstance(status, NtStatus):
            raise DriverFault(f"add_device of driver {driver.name} returned {status!r}: return STATUS_SUCCESS")
        if not status.is_success:
            raise DriverFault(f"add_device of driver {driver.name} failed with {status.name}", status=status)

    def _start(self, node: Node) -> None:
        try:
            self._start_device(node)
        except BaseException:
            self._remove(node)
            raise

    def _start_device(self, node: Node) -> None:
        """START_DEVICE, with the resources of the node. Raises what its drivers say."""
        resources = (
            SerialResources(node.line, node.pin.vector.number, node.settings or LineSettings(), node.name)
            if node.line is not None and node.pin is not None
            else None
        )
        # The pin is watched before START, so that a driver that enables its interrupts there is heard.
        if node.pin is not None:
            self.ke.machine.add_pin(node.pin)
        status = self.io.send_pnp(node.pdo, PnpMinor.START_DEVICE, resources)
        if not status.is_success:
            raise from_nt_status(NtStatusError(status, "the device did not start"), "START_DEVICE", node.name)
        self._link(node)
        node.state = "started"

    def _link(self, node: Node) -> None:
        """A device whose driver gave it no short name of its own gets the one it was plugged in under."""
        for device in node.devices:
            if device.name and node.name not in self.io.namespace.links_to(device):
                self.io.create_symbolic_link(node.name, device.name)
                return

    def unplug(self, name: str) -> None:
        """Pull a device out: pending requests end as "gone", open handles fail from now on, the port is given back."""
        self._collect_orphans()
        self._refuse_if_closed()
        with self._deferring_sigint(), self._lock:
            node = self._node(name)
            self._surprise(node, DeviceGone(f"{node.name} was unplugged from the bridge"))

    def _surprise(self, node: Node, reason: HilbridgeError) -> None:
        if node.removing:
            return
        node.removing = True
        node.state = "surprise-removed"
        stack = node.pdo.device_stack
        if stack.removed is None:
            stack.removed = reason
        try:
            if stack.fault is None:
                self.io.send_pnp(node.pdo, PnpMinor.SURPRISE_REMOVAL)
        finally:
            # Whatever the drivers did: the port is free for who wants it next, and no request is left behind.
            self._release_hardware(node)
            for file in list(stack.files):
                self.io.end_outstanding(file)
            if not stack.files:
                self._remove(node)

    def _device_went(self, device: DeviceObject[Any]) -> None:
        """Work item: a driver has said that its device is gone."""
        with self._lock:
            for node in list(self._nodes.values()):
                if device in node.devices:
                    reason = device.device_stack.removed or DeviceGone(f"{node.name} is gone")
                    self._surprise(node, reason)

    def _closed_late(self, device: DeviceObject[Any]) -> None:
        """A device is not open any more. If it was pulled, and a driver held the file longer than its handles, it goes."""
        if any(node.removing for node in list(self._nodes.values())):
            self.ke.queue_work_item(partial(self._last_close, device))

    def _last_close(self, device: DeviceObject[Any]) -> None:
        with self._lock:
            for node in list(self._nodes.values()):
                if node.removing and not node.pdo.device_stack.files and device in node.devices:
                    self._remove(node)

    def _remove(self, node: Node) -> None:
        """REMOVE_DEVICE: the stack is taken down. Nobody has it open."""
        node.state = "removed"
        self._nodes.pop(node.name.lower(), None)
        top = node.pdo.top
        short_names = [n for d in node.devices for n in self.io.namespace.links_to(d)]
        try:
            if node.pdo.device_stack.fault is None:
                self.io.send_pnp(top, PnpMinor.REMOVE_DEVICE)
        finally:
            self._dismantle(node)
            for short in short_names:
                try:
                    self.io.delete_symbolic_link(short)
                except NtStatusError:
                    continue  # its driver has done so

    def _dismantle(self, node: Node) -> None:
        """Free what a stack left behind: hardware, and the devices of drivers that could not be asked any more."""
        self._release_hardware(node)
        self._delete_stack(node)

    def _delete_stack(self, node: Node) -> None:
        for device in reversed(node.devices):
            if device.lower_device is not None:
                self.io.detach_device(device.lower_device)
            if not device.delete_pending:
                self.io.delete_device(device)

    def _take_down(self, node: Node) -> None:
        """Take a failed stack away without asking its drivers. Its hardware stays; its old handles go on failing."""
        self._remove_pin(node)
        if node.pdo.device_stack.files:
            self._former.append(node.pdo.device_stack)
        for device in node.devices:
            for short in self.io.namespace.links_to(device):
                self.io.delete_symbolic_link(short)
            self.io.namespace.remove(device)  # at once: the new stack has the same names
        self._delete_stack(node)

    def _remove_pin(self, node: Node) -> None:
        pin, node.pin = node.pin, None
        if pin is not None:
            self.ke.remove_pin(pin)

    def _release_hardware(self, node: Node) -> None:
        self._remove_pin(node)
        line, node.line = node.line, None
        if line is not None:
            line.close()

    def _node(self, name: str) -> Node:
        node = self._nodes.get(name.lower())
        if node is None:
            known = ", ".join(n.name for n in self._nodes.values()) or "none"
            raise NameNotFound(f"no device {name!r} is plugged in; there is: {known}")
        return node

    def _checked_name(self, name: str) -> str:
        if "\\" in name:
            raise UsageFault(f"name {name!r}: a backslash separates directories of names; choose a name without")
        node = self._nodes.get(name.lower())
        if node is not None:
            first = "close the handles of the one that was unplugged" if node.removing else "unplug it first"
            raise UsageFault(f"there is a device {name!r} already; {first}, or choose another name")
        return name

    def _free_name(self) -> str:
        number = 1
        while f"com{number}" in self._nodes:
            number += 1
        return f"COM{number}"

    # -- handles -----------------------------------------------------------------------------------------------------

    def open(self, name: str, *, access: str = "rw") -> Handle:
        r"""Open a device by name: ``COM1``, ``\\.\COM1``, ``\Device\Serial0``. Never plugs anything in.

        `access`: ``"rw"``, ``"r"`` (joins as one more reader) or ``"w"``. A device has one writer.
        """
        return self._open(name, access, owns_bridge=False)

    def _open(self, name: str, access: str, *, owns_bridge: bool) -> Handle:
        self._collect_orphans()
        self._refuse_if_closed()
        processor = self.ke.current()
        processor.inside += 1
        try:
            file = self.io.create_file(name, access_from_mode(access))
        except NtStatusError as error:
            raise from_nt_status(error, "open", name) from None
        finally:
            processor.inside -= 1
        if processor.sigint:
            # SIGINT came while the device was opened: nobody will get the handle.
            self.io.close_file(file)
            self._last_close(file.device_object)
            self.ke.leave(processor)
        return Handle(self, file, name, owns_bridge=owns_bridge)

    def close_handle(self, handle: Handle) -> None:
        """Close one handle; `Handle.close` calls this."""
        if lifetime.belongs_to_parent(self):
            return
        with self._deferring_sigint():
            self.io.close_file(handle.file)
            self._last_close(handle.file.device_object)

    def orphaned(self, file: FileObject, *, owns_bridge: bool) -> None:
        """A handle was dropped without being closed. Called from finalizers: it only appends, and rings the bell."""
        self._orphans.append((file, owns_bridge))
        if self.io.closed is None and not lifetime.belongs_to_parent(self):
            self.ke.finalized.append(self._collect_orphans)
            self.ke.machine.ring()

    def _collect_orphans(self) -> None:
        # Under a lock: who opens a device after a handle was dropped must find that handle closed, also if the worker is
        # just about it. (`close` empties the queue without it: hence the exception.)
        with self._orphan_lock:
            while self._orphans:
                try:
                    file, owns_bridge = self._orphans.popleft()
                except IndexError:
                    return
                self.io.close_file(file)
                self._last_close(file.device_object)
                if owns_bridge:
                    lifetime.close_later(self)

    # -- looking -----------------------------------------------------------------------------------------------------

    def pending(self) -> list[PendingIrp]:
        """Every request that has not ended, oldest first, with its age and who holds it."""
        now = self.ke.clock.now()
        found = []
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            for file in list(node.pdo.device_stack.files):
                for irp in list(file.irps.values()):
                    request: IoRequest = irp.user_request
                    if request.done:
                        continue
                    what = getattr(request, "what", "request")
                    found.append(PendingIrp(irp.id, node.name, what, (now - irp.born) / 1e9, request.holder()))
        return sorted(found)

    def _describe_pending(self) -> str:
        return "; ".join(f"IRP 0x{p.irp_id:04X} {p.what} on {p.device}, held by {p.holder}" for p in self.pending())

    def devices(self) -> list[dict[str, Any]]:
        """What is plugged in: one dictionary a device, with name, moniker, state, stack (top first) and opens."""
        with self._lock:
            return [
                {
                    "name": node.name,
                    "moniker": node.moniker,
                    "state": node.state,
                    "stack": [f"{d.driver_object.name} {d.name or '(unnamed)'}" for d in reversed(node.devices)],
                    "opens": len(node.pdo.device_stack.files),
                    "fault": str(node.pdo.device_stack.fault or ""),
                    "failures": node.failures,
                }
                for node in self._nodes.values()
            ]

    def stack(self, name: str) -> list[DeviceObject[Any]]:
        """The device objects of a stack, top first: for tests, and for filters that keep numbers."""
        with self._lock:
            return list(reversed(self._node(name).devices))

    def statistics(self) -> dict[str, Any]:
        """Numbers of the machine and of every driver that keeps some (an extension with ``statistics()``).

        A driver that is in one stack several times is ``COM1/counter``, ``COM1/counter#2``, ... from the top down.
        """
        drivers: dict[str, Any] = {}
        with self._lock:
            for node in self._nodes.values():
                for device in reversed(node.devices):
                    numbers = getattr(device.extension, "statistics", None)
                    if callable(numbers):
                        key = f"{node.name}/{device.driver_object.name}"
                        again = sum(known == key or known.startswith(f"{key}#") for known in drivers)
                        drivers[f"{key}#{again + 1}" if again else key] = numbers()
        return {
            "machine": self.ke.machine.describe(),
            "devices": len(self._nodes),
            "pending": len(self.pending()),
            "timers": len(self.ke.timers),
            "faults": [str(fault) for fault in self.ke.faults],
            "drivers": drivers,
        }

    @property
    def faults(self) -> list[HilbridgeError]:
        """Every mistake of a driver that was latched, oldest first."""
        return list(self.ke.faults)

    # -- faults and the end --------------------------------------------------------------------------------------------

    def _on_fault(self, device: DeviceObject[Any] | None, fault: HilbridgeError) -> None:
        """A driver is broken: its requests end now, whatever it holds. The other stacks do not notice."""
        # Called at any IRQL, by whoever was running the driver: no lock of ours is taken here.
        for node in list(self._nodes.values()):
            if device is None or device.device_stack is node.pdo.device_stack:
                if device is None and node.pdo.device_stack.fault is None:
                    node.pdo.device_stack.fault = fault  # the poller has died: nobody's interrupts are heard any more
                if node.pin is not None:
                    self.ke.machine.silence_pin(node.pin)
                self.reflector.failed(node, fault)

    def _refuse_if_closed(self) -> None:
        if self.io.closed is not None:
            raise self.io.closed.again()

    def close(self) -> None:
        """Take everything down. Closing twice does nothing; in a forked child it only lets go of descriptors."""
        if self.io.closed is not None:
            return
        with self._deferring_sigint(), contextlib.ExitStack() as steps:
            # Every step is taken, last one first, whatever the others raise; the first thing raised is what the caller sees.
            steps.callback(lifetime.closed, self)
            steps.callback(sigint.release)
            steps.callback(self.ke.close)
            steps.callback(self._close_devices)

    def _close_devices(self) -> None:
        with self._lock, contextlib.ExitStack() as steps:
            closed = BridgeClosed("this bridge has been closed; make a new one")
            steps.callback(setattr, self.io, "closed", closed)
            for name, driver in self.io.drivers.items():
                if driver.driver_unload is not None:
                    steps.callback(self._unload, name)
            for stack in self._former:
                for file in stack.files:
                    steps.callback(self.io.close_file, file, force=True)
            for node in self._nodes.values():
                steps.callback(self._remove, node)
                for file in node.pdo.device_stack.files:
                    steps.callback(self.io.close_file, file, force=True)
            self._orphans.clear()
            steps.callback(self.io.shutdown_system)

    def _unload(self, name: str) -> None:
        with contextlib.suppress(UsageFault):  # in use: a device whose removal failed, which has been reported
            self.io.unload_driver(name)

    @contextlib.contextmanager
    def _deferring_sigint(self) -> Iterator[None]:
        """SIGINT waits until the model is left, or until the next wait that is the caller's own."""
        processor = self.ke.current()
        processor.inside += 1
        try:
            yield
        finally:
            processor.inside -= 1
        if not processor.inside:
            self.ke.leave(processor)

    def abandon(self) -> None:
        """In a forked child: the bridge is the parent's. Its descriptors are closed here and every use is refused."""
        self.io.closed = BridgeClosed("this bridge belongs to the parent of this process; open one after the fork")
        for node in self._nodes.values():
            for file in node.pdo.device_stack.files:
                file.fast_io = None
            if node.line is not None:
                leave = getattr(node.line, "after_fork_in_child", None)
                if leave is not None:
                    leave()
        self.ke.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if error is None and len(self.ke.faults) > self._shown_faults:
            # A driver's mistake that no call has shown must not pass for success.
            raise self.ke.faults[self._shown_faults].again()

    @property
    def findings(self) -> list[Finding]:
        """What the driver verifier has found, oldest first; nothing if the bridge was built without it."""
        verifier = getattr(self.io, "verifier", None)
        return [] if verifier is None else list(verifier.findings)

    def acknowledge_faults(self) -> list[HilbridgeError]:
        """The faults that nobody has acknowledged yet; leaving the ``with`` block does not raise for them any more."""
        fresh = self.ke.faults[self._shown_faults :]
        self._shown_faults = len(self.ke.faults)
        return fresh
