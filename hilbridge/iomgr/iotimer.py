"""The I/O manager's timer: one for each device, about once a second. For looking whether something has come to a standstill.

A driver that needs another period, or more than one timer, takes a `Ktimer` with a DPC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.iomgr.devices import DeviceRoutines
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.timer import Ktimer
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault
from hilbridge.model.status import STATUS_INVALID_DEVICE_STATE

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor

IoTimerRoutine = Callable[[DeviceObject[Any], Any], None]
"""IO_TIMER_ROUTINE(device, context), at DISPATCH_LEVEL."""

_VERIFIER = "DRIVER_VERIFIER_IOMANAGER_VIOLATION"
SECOND = 10_000_000
"""In units of 100 ns."""


class _IoTimer:
    """IO_TIMER."""

    __slots__ = ("device", "dpc", "inside", "routine", "running", "timer")

    def __init__(self, device: DeviceObject[Any], routine: IoTimerRoutine, context: Any) -> None:
        self.device = device
        self.routine = routine
        self.running = False
        self.inside: Processor | None = None
        """Who is in the routine now."""
        self.timer = Ktimer()
        self.dpc = Kdpc(self._tick, context, device)

    def _tick(self, _dpc: Kdpc, context: Any, _argument1: Any, _argument2: Any) -> None:
        if not self.running:
            return  # it was stopped when this DPC was queued already
        self.inside = self.device.ke.current()
        try:
            self.routine(self.device, context)
        finally:
            self.inside = None


class IoTimerRoutines(DeviceRoutines):
    """The I/O manager's routines about the timers of devices."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._io_timers: dict[DeviceObject[Any], _IoTimer] = {}

    def initialize_timer(self, device: DeviceObject[Any], routine: IoTimerRoutine, context: Any = None) -> None:
        """IoInitializeTimer, at PASSIVE_LEVEL: give the device its timer, which does not run yet. Once, or bug check 0xC9/0x0A.

        ``routine(device, context)`` is called at DISPATCH_LEVEL.
        """
        self._passive("initialize_timer")
        with self._lock:
            first = self._io_timers.setdefault(device, timer := _IoTimer(device, routine, context)) is timer
        if not first:
            raise self.bug_check(0xC9, _VERIFIER, 0x0A, device, hint="a device has one timer: initialize it once")

    def start_timer(self, device: DeviceObject[Any]) -> None:
        """IoStartTimer, up to DISPATCH_LEVEL: from now on the routine is called once a second, first in a second from now."""
        timer = self._io_timer(device)
        timer.running = True
        self.ke.set_timer(timer.timer, -SECOND, SECOND // 10_000, timer.dpc)

    def stop_timer(self, device: DeviceObject[Any]) -> None:
        """IoStopTimer, up to DISPATCH_LEVEL: the routine is not called any more until `start_timer`. Not from within it."""
        timer = self._io_timer(device)
        if timer.inside is self.ke.current():
            raise self._misused(device, "its own routine called stop_timer; set a flag there, and stop it elsewhere")
        timer.running = False
        self.ke.cancel_timer(timer.timer)

    def delete_device(self, device: DeviceObject[Any]) -> None:
        """IoDeleteDevice: the device's timer goes with it."""
        super().delete_device(device)
        timer = self._io_timers.pop(device, None)
        if timer is not None:
            timer.running = False
            self.ke.cancel_timer(timer.timer)

    def _io_timer(self, device: DeviceObject[Any]) -> _IoTimer:
        timer = self._io_timers.get(device)
        if timer is None:
            raise self._misused(device, "it has no timer: call initialize_timer in add_device")
        return timer

    def _misused(self, device: DeviceObject[Any], what: str) -> Exception:
        fault = DriverFault(f"timer of {device!r}: {what}", status=STATUS_INVALID_DEVICE_STATE)
        return self.fault(device, fault, "a call about its timer")
