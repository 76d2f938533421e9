"""The reflector: a driver that fails takes its own stack down, and no other; the device is started again.

UMDF's policy, with its numbers (Microsoft, "How UMDF reports and restarts failed drivers"): every request of the stack has
ended with STATUS_DRIVER_PROCESS_TERMINATED by the time that the failure is known. Then, on a system worker:

1. a crash dump is written, which was taken in the moment of the failure;
2. the stack is taken down without asking its drivers, who cannot be trusted any more. The hardware stays open: nobody resets
   a board because a driver had a bug, and what the board says meanwhile waits in the operating system. Only if a thread is
   still inside the failed driver, and so perhaps at the hardware, it is closed and opened anew;
3. a new stack is built on it by the same drivers, and started.

The device is started again up to `RESTARTS` times. The count begins anew when `FORGIVEN` have passed since the last failure.
UMDF waits until every handle of the old stack is closed; here the new one is started at once, because who wants to go on opens
the device again, and an old handle, which fails from now on, does it no harm.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilbridge.bridge import dump as crash
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.model.errors import BugCheck, DriverFault, HilbridgeError
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import PnpState
from hilbridge.pnp.node import DeviceNode

if TYPE_CHECKING:
    from hilbridge.bridge.bridge import Bridge

RESTARTS = 5
FORGIVEN = 30 * 60 * 1_000_000_000
"""30 minutes, in nanoseconds: after that a failure is the first again."""
HUNG = (0x133, 0xEA)
"""Bug checks of a driver that did not return: a thread of it may still use the hardware."""

_IN_USE = (PnpState.STARTED, PnpState.STOP_PENDING, PnpState.STOPPED, PnpState.REMOVE_PENDING)
"""Who is starting a device, or taking it down, sees the failure himself."""

log = logging.getLogger("hilbridge.reflector")
logging.getLogger("hilbridge").addHandler(logging.NullHandler())  # what an application does not ask for is not printed


class Reflector:
    """What becomes of the devices of one bridge when their drivers fail."""

    def __init__(self, bridge: Bridge, restarts: int, folder: Path | None) -> None:
        self._bridge = bridge
        self.restarts = restarts
        self.folder = folder
        """Where crash dumps go; None: none are written."""
        self.dumps: list[Path] = []
        """Those of this bridge, oldest first."""
        self.settled = Kevent(EventType.SYNCHRONIZATION)
        """Set when a failure has been dealt with, whatever came of it."""

    def failed(self, node: DeviceNode, fault: HilbridgeError) -> None:
        """A driver of this stack is broken. At any IRQL, in any thread, under any lock of a driver: takes no lock of ours."""
        ke = self._bridge.ke
        now = ke.clock.now()
        ours = not node.failed and node.life.state in _IN_USE and isinstance(fault, DriverFault)
        record = None
        if ours and self.folder is not None:
            irps: list[Irp] = [irp for file in list(node.pdo.device_stack.files) for irp in list(file.irps.values())]
            with contextlib.suppress(Exception):  # what cannot be described must not keep the requests from ending
                record = crash.describe(fault, node, list(self._bridge.pnp.nodes.values()), irps, ke)
        self._bridge.io.fail_stack(node.pdo)
        if not ours:
            return
        node.failed = True
        node.failures = 1 if node.failed_at and now - node.failed_at > FORGIVEN else node.failures + 1
        node.failed_at = now or 1
        ke.queue_work_item(partial(self._afterwards, node, fault, record))

    def _afterwards(self, node: DeviceNode, fault: HilbridgeError, record: dict[str, Any] | None) -> None:
        """Work item."""
        try:
            self._dump_and_restart(node, fault, record)
        finally:
            self.settled.set()

    def _dump_and_restart(self, node: DeviceNode, fault: HilbridgeError, record: dict[str, Any] | None) -> None:
        log.error("%s failed: %s", node.name, fault)
        if self.folder is not None and record is not None:
            try:
                self.dumps.append(crash.write(self.folder, record))
                log.error("crash dump: %s", self.dumps[-1])
            except OSError:
                log.exception("no crash dump could be written")
        bridge = self._bridge
        with bridge.pnp.lock:
            if bridge.io.closed is not None or node.removing or not node.failed:
                return
            if node.failures > self.restarts:
                log.error("%s is not started again: %d failures", node.name, node.failures)
                return
            try:
                self._restart(node, fault)
                log.warning("%s was started again, for the %d. time", node.name, node.failures)
            except HilbridgeError as error:
                node.failed = True
                bridge.ke.log_fault(error)
                log.exception("%s could not be started again", node.name)

    def _restart(self, node: DeviceNode, fault: HilbridgeError) -> None:
        bridge = self._bridge
        ke = bridge.ke
        line, node.line = node.line, None
        vector = node.pin.vector.number if node.pin is not None else node.vector
        bridge.pnp.take_down(node)
        if line is not None and isinstance(fault, BugCheck) and fault.code in HUNG and node.reopen is not None:
            reopened = None
            with contextlib.suppress(HilbridgeError):
                line.close()
                reopened = node.reopen()
            line = reopened or line
        node.line = line
        if line is not None and vector is not None and ke.vector(vector).dead:
            vector = None  # out of service, after a storm: a new one
        node.vector = vector
        bridge.pnp.rebuild(node)
