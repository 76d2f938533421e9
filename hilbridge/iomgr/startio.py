"""StartIo: the I/O manager's own queue for drivers that handle one request at a time.

Packets and StartIo calls are followed up in a loop: a chain of any length needs no deeper stack. In Windows a StartIo that
ends its packet at once, and calls IoStartNextPacket, is called again from within itself, as deep as the queue is long, unless
it has asked for DeferredStartIo. Here `start_next_packet` from within StartIo always returns first, and the next packet is
started when StartIo has returned. What DeferredStartIo then still adds: packets that are ended by *other* processors, while
StartIo runs, wait for its return, too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hilbridge.iomgr.cancel import CancelRoutines
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.processor import Processor
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault
from hilbridge.model.irp import CancelRoutine, Irp


class StartIoRoutines(CancelRoutines):
    """IoStartPacket and IoStartNextPacket. Every packet that is started is followed by exactly one `start_next_packet`."""

    @staticmethod
    def set_start_io_attributes(device: DeviceObject[Any], *, deferred: bool, non_cancelable: bool = False) -> None:
        """IoSetStartIoAttributes.

        `deferred`: StartIo is not called while it runs on whatever processor. `non_cancelable`: a packet loses its cancel
        routine when its turn comes, so that StartIo gets only packets that nobody can take away from it any more.
        """
        device.deferred_start_io = deferred
        device.non_cancelable_start_io = non_cancelable

    def start_packet(
        self, device: DeviceObject[Any], irp: Irp, key: int | None = None, cancel: CancelRoutine | None = None
    ) -> None:
        """IoStartPacket: start the IRP if the device is idle, else queue it, by `key` if there is one. Mark it pending before.

        With `cancel`, the cancel routine is set under the cancel lock; the driver does not set it itself.
        """
        with self.ke.raised_irql(DISPATCH_LEVEL):
            outer = None
            with self._cancel_lock_if(device, cancel is not None):
                if cancel is not None:
                    irp.set_cancel_routine(cancel)
                with device.queue_lock:
                    queued = device.device_queue.insert(irp, key)
                    if not queued:
                        outer = self._make_current(device, irp)
            if not queued:
                self._start(device, irp, outer)
            elif cancel is not None and irp.cancel and (routine := irp.set_cancel_routine(None)) is not None:
                # It was cancelled before its routine was set: the cancellation found nothing to call, so we call it.
                device.device_stack.cancel_lock.acquire()
                self.run_cancel_routine(device, irp, routine, DISPATCH_LEVEL)

    def start_next_packet(self, device: DeviceObject[Any], *, cancelable: bool = False) -> None:
        """IoStartNextPacket, at DISPATCH_LEVEL: the current packet is over; start the next one, if there is one.

        `cancelable`: packets of this device have cancel routines; the next one is taken under the cancel lock, as a cancel
        routine takes it out.
        """
        self._next(device, None, cancelable)

    def start_next_packet_by_key(self, device: DeviceObject[Any], key: int, *, cancelable: bool = False) -> None:
        """IoStartNextPacketByKey: the same, with the first packet whose key is at least `key`, else with the head."""
        self._next(device, key, cancelable)

    def _next(self, device: DeviceObject[Any], key: int | None, cancelable: bool) -> None:
        processor = self.ke.current()
        if processor.irql != DISPATCH_LEVEL:
            raise self.bug_check(
                0x8,
                "IRQL_NOT_DISPATCH_LEVEL",
                processor.irql,
                hint="call start_next_packet at DISPATCH_LEVEL",
                device=device,
            )
        with self._cancel_lock_if(device, cancelable or device.non_cancelable_start_io), device.queue_lock:
            waiting = device.start_io_running.get(_who(device, processor))
            if waiting is not None:
                waiting.append(key)  # whoever runs StartIo looks here when it has returned, under this lock
                return
            irp = _take_next(device, key)
            if irp is not None:
                self._make_current(device, irp)
        if irp is not None:
            self._start(device, irp, None)

    @staticmethod
    def _cancel_lock_if(device: DeviceObject[Any], wanted: bool) -> AbstractContextManager[None]:
        return device.device_stack.cancel_lock if wanted else nullcontext()

    def _make_current(self, device: DeviceObject[Any], irp: Irp) -> list[int | None] | None:
        """This packet is about to be started by this processor. Hold the queue lock.

        Returns what a StartIo further out on this very thread has to follow up, if there is one.
        """
        device.current_irp = irp
        if device.non_cancelable_start_io:
            irp.set_cancel_routine(None)
        who = _who(device, self.ke.current())
        outer = device.start_io_running.get(who)
        device.start_io_running[who] = []
        return outer

    def _start(self, device: DeviceObject[Any], irp: Irp, outer: list[int | None] | None) -> None:
        """Call StartIo for the current packet, and then for those that follow because of what happened meanwhile."""
        running = device.start_io_running
        who = _who(device, self.ke.current())
        following: Irp | None = irp
        try:
            while following is not None:
                self.call_start_io(device, following)
                # Under the cancel lock, too: see `start_next_packet`.
                with device.device_stack.cancel_lock, device.queue_lock:
                    following = None
                    waiting = running.get(who, [])
                    while waiting and following is None:
                        following = _take_next(device, waiting.pop(0))
                    if following is None:
                        _over(running, who, outer)
                    elif device.non_cancelable_start_io:
                        following.set_cancel_routine(None)
        except BaseException:
            _over(running, who, outer)
            raise

    @calls_driver("start_io", "its StartIo routine", lambda frame: frame["device"])
    def call_start_io(self, device: DeviceObject[Any], irp: Irp) -> None:
        """Call the driver's StartIo."""
        start_io = device.driver_object.driver_start_io
        if start_io is None:
            raise DriverFault(f"{device.driver_object!r} uses start_packet but has no driver_start_io")
        start_io(device, irp)


def _who(device: DeviceObject[Any], processor: Processor) -> Processor | None:
    """Under which key of ``start_io_running`` this processor's StartIo is found."""
    return None if device.deferred_start_io else processor


def _take_next(device: DeviceObject[Any], key: int | None) -> Irp | None:
    """Take a packet out of the queue, and make it the current one. Hold the queue lock."""
    queue = device.device_queue
    irp = device.current_irp = queue.remove() if key is None else queue.remove_by_key(key)
    return irp


def _over(running: dict[Any, list[int | None]], who: Any, outer: list[int | None] | None) -> None:
    """StartIo has returned, and nothing follows."""
    if outer is None:
        running.pop(who, None)
    else:
        running[who] = outer
