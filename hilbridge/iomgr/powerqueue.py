"""What the power manager keeps: a power request, and for each device stack which one is out and which ones wait.

Everything here is data; `hilbridge.iomgr.power` says what becomes of it. `StackPower.lock` is taken for a few lines and
nothing is called under it, so that a stack can be failed at any IRQL.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hilbridge.kernel.culprit import running_device
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer
from hilbridge.model.codes import DevicePowerState, PowerMinor, PowerStateType, SystemPowerState
from hilbridge.model.irp import IoStatusBlock
from hilbridge.model.status import STATUS_DRIVER_PROCESS_TERMINATED, STATUS_NOT_SUPPORTED, NtStatus

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.errors import HilbridgeError
    from hilbridge.model.irp import Irp

PowerState = SystemPowerState | DevicePowerState
"""POWER_STATE: in C a union, here one of the two types."""
RequestPowerComplete = Callable[["DeviceObject[Any]", PowerMinor, PowerState, Any, IoStatusBlock], object]
"""REQUEST_POWER_COMPLETE: ``callback(device, minor, state, context, iosb)``."""

_NT_FAILURE = 0x8000_0000
_OWN_LOCATIONS = 2
"""Stack locations of a power IRP above that of the top device: the lower one holds the arguments of the callback."""


class PowerStatusBlock(IoStatusBlock):
    """IO_STATUS_BLOCK of a power IRP: it knows who has put a failure into it. Few requests are so rare, and so often blamed."""

    __slots__ = ("_status", "failed_by")

    def __init__(self, status: NtStatus) -> None:
        self.failed_by: DeviceObject[Any] | None = None
        self._status = status
        super().__init__()
        self.status = status

    @property
    def status(self) -> NtStatus:
        """IO_STATUS_BLOCK.Status."""
        return self._status

    @status.setter
    def status(self, status: NtStatus) -> None:
        failure = int(status) >= _NT_FAILURE and status != STATUS_NOT_SUPPORTED
        if not failure:
            self.failed_by = None
        elif status != self._status:  # who passes another's failure on, or copies it, is not the one
            self.failed_by = running_device()
        self._status = status


class PowerAnswer(NamedTuple):
    """How a request of the power manager's ended."""

    status: NtStatus
    refused_by: DeviceObject[Any] | None = None
    """Whose driver has refused it; None if none has, or if it is not known."""
    words: HilbridgeError | None = None
    """What that driver said to it: see `IoManager.write_error_log_entry`."""

    def why(self) -> str:
        """Who refused it, and with what, in words."""
        who = f"driver {self.refused_by.driver_object.name}" if self.refused_by is not None else "its stack"
        return f"{who}: {self.words.message}" if self.words is not None else f"{who} answered {self.status.name}"


class PowerRequest:
    """A power IRP, and whom to tell when it has ended. It ends once: whoever takes its token ends it."""

    __slots__ = (
        "_token",
        "callback",
        "context",
        "device",
        "ended",
        "fault",
        "irp",
        "kind",
        "minor",
        "power",
        "requester",
        "state",
        "status",
        "timer",
        "top",
    )

    def __init__(
        self,
        irp: Irp,
        device: DeviceObject[Any],
        power: StackPower,
        minor: PowerMinor,
        state: PowerState,
        callback: RequestPowerComplete | None = None,
        context: Any = None,
    ) -> None:
        self.irp = irp
        self.power = power
        self.device = device
        """The device that was asked for; the IRP goes to `top`, whatever that was when it was made."""
        self.top = device.top
        self.minor = minor
        self.state = state
        self.callback = callback
        self.context = context
        self.requester = running_device() or device
        """Whose driver has asked, and is called back. (Drivers as a rule ask for their PDO, which is another's device.)"""
        self.kind: PowerStateType | None = None
        """In whose line it stands; None for WAIT_WAKE, which stands in none."""
        if minor != PowerMinor.WAIT_WAKE:
            self.kind = PowerStateType.DEVICE if isinstance(state, DevicePowerState) else PowerStateType.SYSTEM
        self.status = STATUS_NOT_SUPPORTED
        self.fault: HilbridgeError | None = None
        self.ended = Kevent()
        self.timer = Ktimer()
        self._token: list[None] = [None]

    def __repr__(self) -> str:
        return f"IRP_MN_{self.minor.name} ({self.state.name})"

    def claim(self) -> bool:
        """Become the one who ends it; False if somebody has done so."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def is_done(self) -> bool:
        """Whether somebody has ended it, or is about to."""
        return not self._token

    def holder(self) -> DeviceObject[Any]:
        """Whose driver has the IRP."""
        irp = self.irp
        return irp.stack[min(irp.current_location, irp.stack_count - _OWN_LOCATIONS) - 1].device_object or self.top

    def refused_by(self) -> DeviceObject[Any]:
        """Whose driver has failed it: who put the status in, else the lowest that has seen it, which did not pass it on."""
        block = self.irp.io_status
        told = block.failed_by if isinstance(block, PowerStatusBlock) else None
        return told or next((at.device_object for at in self.irp.stack if at.device_object), self.top)

    def answer(self) -> PowerAnswer:
        """After its end."""
        if self.status.is_success or self.status == STATUS_NOT_SUPPORTED:
            return PowerAnswer(self.status)
        return PowerAnswer(self.status, self.refused_by(), self.irp.error)


class PowerLine:
    """The SET_POWER and QUERY_POWER requests of one kind, system or device, of one stack."""

    __slots__ = ("busy", "pumping", "waiting")

    def __init__(self) -> None:
        self.busy: PowerRequest | None = None
        """The one that is out: until its callback has returned no other is sent."""
        self.waiting: deque[PowerRequest] = deque()
        self.pumping = False
        """A thread sends one, and will look for the next when it is back: a chain of them needs no Python stack."""


class StackPower:
    """The power requests of one device stack."""

    __slots__ = ("lines", "lock", "refusal", "wakes")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lines = {kind: PowerLine() for kind in PowerStateType}
        self.wakes: list[PowerRequest] = []
        """WAIT_WAKE requests that are out."""
        self.refusal: NtStatus | None = None
        """What a new request is answered, when the device is being removed."""

    def enter(self, request: PowerRequest) -> NtStatus | None:
        """Take a request in; or say why not."""
        with self.lock:
            # Under the lock: who fails the stack has set the fault before he comes here to end what there is.
            if request.device.device_stack.fault is not None:
                return STATUS_DRIVER_PROCESS_TERMINATED
            if self.refusal is not None:
                return self.refusal
            if request.kind is None:
                self.wakes.append(request)
            else:
                self.lines[request.kind].waiting.append(request)
        return None

    def leave(self, request: PowerRequest) -> bool:
        """It has ended, or nobody waits for it any more; True if it had not been sent."""
        with self.lock:
            if request.kind is None:
                if request in self.wakes:
                    self.wakes.remove(request)
                return False
            line = self.lines[request.kind]
            if line.busy is request:
                line.busy = None
                return False
            unsent = request in line.waiting
            if unsent:
                line.waiting.remove(request)
            return unsent

    def take_waiting(self) -> list[PowerRequest]:
        """Those that have not been sent. Nobody will send them."""
        with self.lock:
            unsent = [request for line in self.lines.values() for request in line.waiting]
            for line in self.lines.values():
                line.waiting.clear()
        return unsent

    def sent(self) -> list[PowerRequest]:
        """Those that are out."""
        with self.lock:
            return [line.busy for line in self.lines.values() if line.busy is not None] + list(self.wakes)


def set_state(device: DeviceObject[Any], kind: PowerStateType, state: PowerState) -> PowerState:
    """Note a device's state, of that kind; returns the previous one."""
    previous: PowerState
    if kind == PowerStateType.DEVICE:
        previous, device.power_state = device.power_state, DevicePowerState(state)
    else:
        previous, device.system_power_state = device.system_power_state, SystemPowerState(state)
    return previous
