"""StartIo: the I/O manager's own queue for drivers that handle one request at a time."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.cancel import CancelRoutines
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.irp import CancelRoutine, Irp


class StartIoRoutines(CancelRoutines):
    """IoStartPacket and IoStartNextPacket. Every packet that is started is followed by exactly one `start_next_packet`."""

    def set_start_io_attributes(self, device: DeviceObject[Any], *, deferred: bool) -> None:
        """IoSetStartIoAttributes: with `deferred`, the next packet is started only after StartIo has returned.

        Without it, a StartIo that ends its packet at once and calls `start_next_packet` is called again from there, as in
        Windows: as deep as the queue is long.
        """
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
                    self._make_current(device, irp)
            if not queued:
                self._start(device, irp)
            elif cancel is not None and irp.cancel and (routine := irp.set_cancel_routine(None)) is not None:
                # It was cancelled before its routine was set: the cancellation found nothing to call, so we call it.
                device.device_stack.cancel_lock.acquire()
                self.run_cancel_routine(device, irp, routine, DISPATCH_LEVEL)

    def start_next_packet(self, device: DeviceObject[Any], *, cancelable: bool = False) -> None:
        """IoStartNextPacket, at DISPATCH_LEVEL: the current packet is over; start the next one, if there is one.

        `cancelable` is accepted as in C; whether packets carry cancel routines was said when they were queued.
        """
        if self.ke.irql != DISPATCH_LEVEL:
            raise BugCheck(
                0x8, "IRQL_NOT_DISPATCH_LEVEL", self.ke.irql, hint="call start_next_packet at DISPATCH_LEVEL"
            )
        with device.queue_lock:
            if device.start_io_active:
                # Only a deferred StartIo says that it is active. It looks here when it has returned, under this lock.
                device.start_io_deferred += 1
                return
            irp = device.device_queue.remove()
            self._make_current(device, irp)
        if irp is not None:
            self._start(device, irp)

    @staticmethod
    def _make_current(device: DeviceObject[Any], irp: Irp | None) -> None:
        """This packet is about to be started, or none is. Hold the queue lock."""
        device.current_irp = irp
        device.start_io_active = device.deferred_start_io and irp is not None

    def _start(self, device: DeviceObject[Any], irp: Irp) -> None:
        start_io = device.driver_object.driver_start_io
        if start_io is None:
            raise DriverFault(f"{device.driver_object!r} uses start_packet but has no driver_start_io")
        if not device.start_io_active:
            start_io(device, irp)
            return
        # Packets that end while StartIo runs, here or on another processor, are followed up by this loop: a chain of any
        # length needs no deeper stack.
        following: Irp | None = irp
        try:
            while following is not None:
                start_io(device, following)
                with device.queue_lock:
                    following = None
                    while device.start_io_deferred and following is None:
                        device.start_io_deferred -= 1
                        following = device.device_queue.remove()
                        self._make_current(device, following)
                    if following is None:
                        device.start_io_active = False
        except BaseException:
            device.start_io_active = False
            device.start_io_deferred = 0
            raise
