"""StartIo: the I/O manager's own queue for drivers that handle one request at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

from hilbridge.iomgr.base import IoBase
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.irp import CancelRoutine, Irp


class StartIoRoutines(IoBase):
    """IoStartPacket and IoStartNextPacket. Every packet that is started is followed by exactly one `start_next_packet`."""

    def set_start_io_attributes(self, device: DeviceObject[Any], *, deferred: bool) -> None:
        """IoSetStartIoAttributes: with `deferred`, the next packet is started only after StartIo has returned."""
        device.deferred_start_io = deferred

    def start_packet(
        self, device: DeviceObject[Any], irp: Irp, key: int | None = None, cancel: CancelRoutine | None = None
    ) -> None:
        """IoStartPacket: start the IRP if the device is idle, else queue it. Mark it pending before."""
        with self.ke.raised_irql(DISPATCH_LEVEL):
            with device.queue_lock:
                if cancel is not None:
                    irp.set_cancel_routine(cancel)
                queued = device.device_queue.insert(irp, key)
                if not queued:
                    device.current_irp = irp
            if not queued:
                self._start(device, irp)
            elif cancel is not None and irp.cancel and (routine := irp.set_cancel_routine(None)) is not None:
                # It was cancelled before its routine was set: the cancellation found nothing to call, so we call it.
                self.ke.current()
                device.device_stack.cancel_lock.acquire()
                routine(device, irp)

    def start_next_packet(self, device: DeviceObject[Any], *, cancelable: bool = False) -> None:
        """IoStartNextPacket, at DISPATCH_LEVEL: the current packet is over; start the next one, if there is one.

        `cancelable` is accepted as in C; whether packets carry cancel routines was said when they were queued.
        """
        if self.ke.irql != DISPATCH_LEVEL:
            raise BugCheck(
                0x8, "IRQL_NOT_DISPATCH_LEVEL", self.ke.irql, hint="call start_next_packet at DISPATCH_LEVEL"
            )
        if device.deferred_start_io and device.start_io_active:
            device.start_io_pending.append(partial(self._next, device))
            return
        self._next(device)

    def _next(self, device: DeviceObject[Any]) -> None:
        with device.queue_lock:
            irp = device.device_queue.remove()
            device.current_irp = irp
        if irp is not None:
            self._start(device, irp)

    def _start(self, device: DeviceObject[Any], irp: Irp) -> None:
        start_io = device.driver_object.driver_start_io
        if start_io is None:
            raise DriverFault(f"{device.driver_object!r} uses start_packet but has no driver_start_io")
        outer = device.start_io_active
        device.start_io_active = True
        try:
            start_io(device, irp)
        finally:
            device.start_io_active = outer
        if not outer:
            # Deferred packets are started here, one after the other: a chain of any length needs no deeper stack.
            while device.start_io_pending:
                device.start_io_pending.pop(0)()
