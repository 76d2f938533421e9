"""The bridge: one system, put together. It owns the order in which things start and stop.

The order at the end is always: no more interrupts, every request ends, handles close, devices go, threads end.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hilbridge.bridge import lifetime
from hilbridge.bridge.dump import chosen_folder
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.monikers import check_outputs, line_settings, open_hardware, reopen_line
from hilbridge.bridge.pending import PendingIrp
from hilbridge.bridge.recipes import parse_recipe
from hilbridge.bridge.reflector import RESTARTS, Reflector
from hilbridge.bridge.translate import from_nt_status, translated
from hilbridge.bridge.verifying import with_verifier
from hilbridge.bridge.watch import Watch
from hilbridge.iomgr.files import access_from_mode
from hilbridge.iomgr.manager import IoManager
from hilbridge.iomgr.request import IoRequest
from hilbridge.iomgr.setpower import set_power
from hilbridge.kernel import sigint
from hilbridge.kernel.clock import Clock, VirtualClock
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.manual import ManualMachine
from hilbridge.kernel.poller import Poller
from hilbridge.model.codes import DevicePowerState
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import (
    BridgeClosed,
    DeviceGone,
    HilbridgeError,
    NtStatusError,
    UsageFault,
)
from hilbridge.model.file import FileObject
from hilbridge.model.hardware import Line
from hilbridge.pnp.install import Recipe
from hilbridge.pnp.manager import PnpManager
from hilbridge.pnp.registry import DriverLike

if TYPE_CHECKING:
    from hilbridge.files.bench import Bench
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
        self.pnp = PnpManager(self.io)
        self._handles: set[int] = set()
        self._orphans: deque[tuple[FileObject, bool]] = deque()
        self._orphan_lock = threading.RLock()
        self._shown_faults = 0
        self.reflector = Reflector(self, restarts, chosen_folder(not _manual if crash_dumps is None else crash_dumps))
        """What becomes of devices whose drivers fail."""
        self.bench: Bench | None = None
        """The bench file that this bridge was brought up from."""
        self.belongings = contextlib.ExitStack()
        """What ends with the bridge, after its devices: the twins of a bench."""
        sigint.acquire()
        lifetime.opened(self)

    @classmethod
    def manual(cls, **options: Any) -> Bridge:
        """A bridge on a virtual clock and a hand-cranked machine: no threads, no time passes by itself.

        A blocking call turns the crank; ``bridge.machine`` lets a test turn it (`step`, `run_until_idle`, `advance`).
        """
        return cls(_manual=True, **options)

    @classmethod
    def from_bench(cls, file: str | os.PathLike[str] | None = None, *, virtual: bool = False, **options: Any) -> Bridge:
        """A bridge with the devices of a bench file plugged in under their names.

        `file`: by default HILBRIDGE_BENCH, or the ``hilbridge.yaml`` of the project. `virtual`: the twins instead of the
        hardware, which is never done unasked. `options` are those of `Bridge`. Raises `ConfigError`, `DeviceNotFound`, ...
        """
        from hilbridge.bridge.frombench import bring_up

        return bring_up(lambda: cls(**options), file, virtual=virtual)

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
        reset: str | None = None,
        **settings: Any,
    ) -> str:
        """Plug a device in: open its hardware, build its stack, start it. Returns its name (``COM1``, ... by default).

        `moniker` is a string (see the reference of monikers) or a `Line` of your own. `settings` are line settings under
        pyserial's names, and options of the moniker. `vector` puts several devices on one interrupt vector. `reset` is the
        recipe of `Handle.reset`.
        """
        self._collect_orphans()
        self._refuse_if_closed()
        if isinstance(upper_filters, str) or isinstance(lower_filters, str):
            raise UsageFault("filters are a list of drivers: upper_filters=['counter']")
        if reset is not None:
            parse_recipe(reset)
        line_set, options = line_settings(settings)
        with self._managing():
            name = self._checked_name(name) if name else self.pnp.free_name("COM")
            lower_filters, upper_filters = tuple(lower_filters), tuple(upper_filters)
            line = None if isinstance(moniker, str) else moniker
            reopen = None
            try:
                for wanted in (*lower_filters, *upper_filters, *([driver] if driver else [])):
                    self.pnp.drivers.load(wanted)  # before the hardware is touched: to open a port may reset a board
                if isinstance(moniker, str):
                    hardware = open_hardware(moniker, line_set, options)
                    line, driver = hardware.line, driver or hardware.driver
                    if line is not None:
                        reopen = partial(reopen_line, moniker, line_set, options)
                else:
                    if options:
                        raise UsageFault(f"unknown settings for a line: {', '.join(options)}")
                    moniker, driver = moniker.name, driver or "serial"
                check_outputs(line, line_set)
                recipe = Recipe(driver, upper_filters, lower_filters)
                node = self.pnp.add_by_hand(name, moniker, recipe, line, vector)
            except BaseException:
                if line is not None:
                    line.close()
                raise
            node.settings, node.reopen, node.reset_recipe = line_set, reopen, reset
            with translated("START_DEVICE", name):
                self.pnp.start(node)
            return name

    def install(
        self,
        driver: DriverLike,
        *hardware_ids: str,
        name: str | None = None,
        upper_filters: Iterable[DriverLike] = (),
        lower_filters: Iterable[DriverLike] = (),
    ) -> None:
        """Say which drivers a device gets that a bus driver finds: what an INF file does in Windows.

        A device with one of the `hardware_ids` (or compatible ids) gets this stack, and a name: `name` with a number behind it,
        by default the driver's.
        """
        self._refuse_if_closed()
        with self.pnp.lock:
            self.pnp.recipes.install(hardware_ids, Recipe(driver, tuple(upper_filters), tuple(lower_filters), name))

    def unplug(self, name: str) -> None:
        """Pull a device out: pending requests end as "gone", open handles fail from now on, the port is given back."""
        self._collect_orphans()
        self._refuse_if_closed()
        with self._managing():
            node = self.pnp.node(name)
            if node.parent is not None:
                raise UsageFault(
                    f"{node.name} is plugged into {node.parent.name}, which says what is there; "
                    f"remove({node.name!r}) takes its drivers away"
                )
            self.pnp.surprise(node, DeviceGone(f"{node.name} was unplugged from the bridge"))

    def stop(self, name: str) -> None:
        """Have the drivers let go of the device, and give its port back, until `start`. Handles stay open; requests wait.

        Raises `DeviceBusy` if a driver refuses.
        """
        self._collect_orphans()
        self._refuse_if_closed()
        with self._managing():
            self.pnp.stop(self.pnp.node(name))

    def start(self, name: str) -> None:
        """Go on after `stop`, or bring back the drivers that `remove` has taken from a device of a bus."""
        self._refuse_if_closed()
        with self._managing(), translated("START_DEVICE", name):
            self.pnp.start_again(self.pnp.node(name))

    def remove(self, name: str) -> None:
        """Take a device out in good order: its drivers are asked. Raises `DeviceBusy` if it is open, or a driver refuses.

        One that was plugged in is gone afterwards. One of a bus stays in `devices()`, without drivers, and `start` brings them
        back.
        """
        self._collect_orphans()
        self._refuse_if_closed()
        with self._managing():
            self.pnp.remove(self.pnp.node(name))

    def eject(self, name: str) -> None:
        """As `remove`, and then the bus lets the device out. For devices whose bus can do that."""
        self._collect_orphans()
        self._refuse_if_closed()
        with self._managing():
            self.pnp.eject(self.pnp.node(name))

    def power(self, name: str, state: DevicePowerState | str) -> DevicePowerState:
        """Put a device into a power state, ``"D0"`` (fully on) to ``"D3"`` (off); returns the one before.

        Its drivers are asked first. Raises `DeviceBusy` if one refuses, and who; `DeviceUnsupported` if its bus cannot.
        """
        self._refuse_if_closed()
        node = self.pnp.node(
            name
        )  # not under the tree's lock: a driver may take its time, and other devices come and go
        with self._deferring_sigint():
            return set_power(self.io, node.pdo, state)

    def reset_recipe(self, file: FileObject) -> str | None:
        """How the device of an open handle is reset, if that was said when it was plugged in."""
        node = self.pnp.node_of(file.device_object)
        return None if node is None else node.reset_recipe

    def _checked_name(self, name: str) -> str:
        if "\\" in name:
            raise UsageFault(f"name {name!r}: a backslash separates directories of names; choose a name without")
        node = self.pnp.nodes.get(name.lower())
        if node is not None:
            first = "close the handles of the one that was unplugged" if node.removing else "unplug it first"
            raise UsageFault(f"there is a device {name!r} already; {first}, or choose another name")
        return name

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
            self.pnp.last_close(file.device_object)
            self.ke.leave(processor)
        return Handle(self, file, name, owns_bridge=owns_bridge)

    def close_handle(self, handle: Handle) -> None:
        """Close one handle; `Handle.close` calls this."""
        if lifetime.belongs_to_parent(self):
            return
        with self._deferring_sigint():
            self.io.close_file(handle.file)
            self.pnp.last_close(handle.file.device_object)

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
                self.pnp.last_close(file.device_object)
                if owns_bridge:
                    lifetime.close_later(self)

    # -- looking -----------------------------------------------------------------------------------------------------

    def pending(self) -> list[PendingIrp]:
        """Every request that has not ended, oldest first, with its age and who holds it."""
        now = self.ke.clock.now()
        found = []
        for node in list(self.pnp.nodes.values()):
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
        with self.pnp.lock:
            return [
                {
                    "name": node.name,
                    "moniker": node.moniker,
                    "state": node.state,
                    "stack": [f"{d.driver_object.name} {d.name or '(unnamed)'}" for d in reversed(node.devices)],
                    "opens": len(node.pdo.device_stack.files),
                    "fault": str(node.pdo.device_stack.fault or ""),
                    "failures": node.failures,
                    "power": self.io.device_power_state(node.pdo).name,
                    "parent": node.parent.name if node.parent is not None else None,
                    "hardware_ids": node.hardware_ids,
                    "problem": node.problem,
                }
                for node in self.pnp.nodes.values()
            ]

    def interfaces(self, guid: str) -> list[str]:
        """The devices that offer an interface: the links by which they are opened. `guid` is the class, in braces."""
        self._refuse_if_closed()
        return self.io.get_device_interfaces(guid)

    def watch(self, guid: str, callback: Callable[[str, bool], object]) -> Watch:
        """``callback(link, arrived)`` for each device of this interface: those that are there first, what comes, what goes.

        It is called on the bridge's callback thread. `Watch.close` ends that.
        """
        self._refuse_if_closed()
        return Watch(self.io, guid, callback)

    def properties(self, name: str) -> dict[str, dict[str, object]]:
        """What the device's drivers publish with WMI, as it is now: the properties of each block, by the block's name.

        Empty if they publish nothing. Raises the fault of a driver that does not answer.
        """
        self._refuse_if_closed()
        return self.io.wmi_properties(self.pnp.node(name).pdo)

    def stack(self, name: str) -> list[DeviceObject[Any]]:
        """The device objects of a stack, top first: for tests, and for filters that keep numbers."""
        with self.pnp.lock:
            return list(reversed(self.pnp.node(name).devices))

    def statistics(self) -> dict[str, Any]:
        """Numbers of the machine and of every driver that keeps some (an extension with ``statistics()``).

        A driver that is in one stack several times is ``COM1/counter``, ``COM1/counter#2``, ... from the top down.
        """
        drivers: dict[str, Any] = {}
        with self.pnp.lock:
            for node in self.pnp.nodes.values():
                for device in reversed(node.devices):
                    numbers = getattr(device.extension, "statistics", None)
                    if callable(numbers):
                        key = f"{node.name}/{device.driver_object.name}"
                        again = sum(known == key or known.startswith(f"{key}#") for known in drivers)
                        drivers[f"{key}#{again + 1}" if again else key] = numbers()
        return {
            "machine": self.ke.machine.describe(),
            "devices": len(self.pnp.nodes),
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
        for node in list(self.pnp.nodes.values()):
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
            steps.callback(self.belongings.close)
            steps.callback(sigint.release)
            steps.callback(self.ke.close)
            steps.callback(self._close_devices)

    def _close_devices(self) -> None:
        with self.pnp.lock, contextlib.ExitStack() as steps:
            closed = BridgeClosed("this bridge has been closed; make a new one")
            steps.callback(setattr, self.io, "closed", closed)
            for name, driver in self.io.drivers.items():
                if driver.driver_unload is not None:
                    steps.callback(self._unload, name)
            for stack in self.pnp.former:
                for file in stack.files:
                    steps.callback(self.io.close_file, file, force=True)
            roots = [node for node in self.pnp.nodes.values() if node.parent is None]
            for node in [one for root in roots for one in reversed(root.subtree())]:
                steps.callback(self.pnp.remove_for_good, node)
                for file in node.pdo.device_stack.files:
                    steps.callback(self.io.close_file, file, force=True)
            self._orphans.clear()
            steps.callback(self.io.shutdown_system)

    def _unload(self, name: str) -> None:
        with contextlib.suppress(UsageFault):  # in use: a device whose removal failed, which has been reported
            self.io.unload_driver(name)

    @contextlib.contextmanager
    def _managing(self) -> Iterator[None]:
        """The tree of devices is about to change."""
        with self._deferring_sigint(), self.pnp.lock:
            yield

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
        for node in self.pnp.nodes.values():
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
