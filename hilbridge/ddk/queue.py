"""WDFQUEUE: requests wait here until it is their turn, cancellable without a line of the driver's.

`SequentialQueue` presents one request at a time, `ParallelQueue` all of them or so many, `ManualQueue` those that the driver
asks for. A queue is *held* while it is stopped, and, if it is power-managed, while its device is not in D0: what comes then
waits. A queue that is drained or purged, or whose device goes, *refuses* what comes.

A request is presented by the thread that has brought it, or that has made room for it, at whatever IRQL that is (as in
KMDF). With ``passive=True`` a work item does it when that is not PASSIVE_LEVEL. It is done in a loop, never nested: however
many requests a handler completes at once, the Python stack does not grow. Handlers of a sequential queue never overlap: also
if the request has been completed by another thread the next one is presented only when the handler has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hilbridge.ddk.request import Request
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.processor import Processor
from hilbridge.model.codes import PASSIVE_LEVEL, IrpMajor
from hilbridge.model.errors import DeviceFault, DriverFault, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_INVALID_DEVICE_STATE, STATUS_PENDING, NtStatus

if TYPE_CHECKING:
    from hilbridge.ddk.device import Device
    from hilbridge.model.file import FileObject

Handler = Callable[[Request], object]
HELD_BY_DRIVER, HELD_BY_DEVICE = 1, 2
NOT_QUEUEABLE = frozenset(
    {IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE, IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL}
)


class StopReason(IntEnum):
    """WDF_REQUEST_STOP_ACTION_FLAGS: why a queue's ``on_stop`` is called."""

    SUSPEND = 1
    """The device leaves D0, or its resources, and will be back: complete the request, or ``acknowledge_stop``."""
    PURGE = 2
    """The device goes: complete the request."""


OnStop = Callable[[Request, StopReason], object]


class IoQueue:
    """What all queues have. Callable up to DISPATCH_LEVEL, but for `wait_until_idle`.

    `power_managed`: held while the device is not in D0; by default, but not in a filter. `on_stop(request, reason)` is called,
    at PASSIVE_LEVEL, for each request in flight when the device leaves D0 or goes; `on_resume(request)` when it is back, for
    those that were left in flight. Without `on_stop` a request that is cancelable stays in flight while the device is stopped,
    and is cancelled when it goes; for any other the device waits, with a bound, and then blames the driver.
    """

    limit: int | None = None
    """How many requests are in flight at a time; None: any number."""
    overlaps = True
    """Whether several threads may present requests at a time."""

    def __init__(
        self,
        device: Device,
        handlers: Mapping[IrpMajor, Handler | None],
        *,
        power_managed: bool | None = None,
        passive: bool = False,
        on_stop: OnStop | None = None,
        on_resume: Handler | None = None,
    ) -> None:
        self.device = device
        self.power_managed = not device.is_filter if power_managed is None else power_managed
        self.lock = device.ke.spin_lock()
        self.in_flight: dict[int, Request] = {}
        """Presented or retrieved, and not ended, by the IRP's id. For looking only."""
        self.refusal: NtStatus | None = None
        """What new requests end with; None: they are taken."""
        self.purging = False
        """Whether requests in flight are to be cancelled as well."""
        self.held = HELD_BY_DEVICE if self.power_managed and not device.in_d0 else 0
        self._handlers = handlers
        self._passive = passive
        self._on_stop, self._on_resume = on_stop, on_resume
        self._waiting = CancelSafeQueue(device.io, self.lock, self._cancelled_in_queue)
        self._requests: dict[int, Request] = {}
        self._presenters: set[Processor] = set()
        self._changed = Kevent()
        self._item = device.io.allocate_work_item(device.device_object)
        self._item_queued = False
        device.add_queue(self, handlers)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.device.device_object!r}: {len(self)} wait, {len(self.in_flight)} in flight>"

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    # -- in ----------------------------------------------------------------------------------------------------------

    def put(self, request: Request, *, head: bool = False) -> NtStatus:
        """Take a request, or end it with `refusal`. Returns what a dispatch routine returns."""
        with self.lock:
            refusal = self.refusal
            queued = refusal is None and self._insert_locked(request, head=head)
        if refusal is not None:
            request.end_now(refusal)
            return refusal
        if not queued:  # it had been cancelled before it came
            request.end_now(STATUS_CANCELLED)
        else:
            self.present()
        return STATUS_PENDING

    def _insert_locked(self, request: Request, *, head: bool) -> bool:
        irp = request.irp
        self._requests[irp.id] = request
        if not self._waiting.insert_locked(irp):
            del self._requests[irp.id]
            return False
        if head:
            self._waiting.irps = {irp.id: irp, **self._waiting.irps}
        return True

    def _cancelled_in_queue(self, irp: Irp) -> None:
        self._requests.pop(irp.id).end_now(STATUS_CANCELLED)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _take_locked(self, file: FileObject | None = None) -> Request | None:
        """The oldest request that waits (of that file), if none is held back. It is in flight from now on."""
        if self.device.device_object.device_stack.fault is not None:
            return None  # the driver is broken: it is not called any more
        if self.held or (self.limit is not None and len(self.in_flight) >= self.limit):
            return None
        irp: Irp | None
        if file is not None:
            irp = self._waiting.remove_next_locked(lambda irp: irp.current_stack_location.file_object is file)
        else:
            irp = self._waiting.head_locked()
            while irp is not None and not self._waiting.remove_locked(irp):
                irp = self._waiting.head_locked()  # cancelled just now: its routine waits for our lock
        if irp is None:
            return None
        request = self._requests.pop(irp.id)
        self.in_flight[irp.id] = request
        return request

    def present(self) -> None:
        """Give the driver what may be given to it now."""
        ke = self.device.ke
        if self._passive and ke.irql != PASSIVE_LEVEL:
            with self.lock:
                again, self._item_queued = self._item_queued, True
            if not again:
                self.device.io.queue_work_item(self._item, self._present_item)
            return
        processor = ke.current()
        with self.lock:
            # Whoever is at it already looks once more, under the lock, before it leaves: nothing is left behind.
            if processor in self._presenters if self.overlaps else self._presenters:
                return
            self._presenters.add(processor)
        try:
            while True:
                with self.lock:
                    request = self._take_locked()
                    if request is None:
                        self._presenters.discard(processor)
                        return
                self._deliver(request)
        except BaseException:
            self._presenters.discard(processor)
            raise

    def _present_item(self, _device: Any, _context: Any) -> None:
        with self.lock:
            self._item_queued = False
        self.present()

    @calls_driver(
        "dispatch",
        lambda frame: f"its handler for {frame['request'].major.name}",
        lambda frame: frame["self"].device.device_object,
    )
    def _deliver(self, request: Request) -> None:
        handler = self._handlers[request.major]
        assert handler is not None
        try:
            handler(request)
        except (NtStatusError, DeviceFault) as error:
            # The driver lets pass what it was told by the device, or by a routine: that is how the request ends.
            if not request.fail(error):
                self._handler_raised(request, error)
        except Exception as error:  # noqa: BLE001 - latched
            self._handler_raised(request, error)

    def _handler_raised(self, request: Request, error: Exception) -> None:
        fault = self.device.io.fault(self.device.device_object, error, f"its handler for {request.major.name}")
        if not request.ended and request.sent is None:
            request.complete(fault.status, 0)

    def left_by(self, request: Request) -> None:
        """A request has ended, or went to another queue: the next one may come."""
        with self.lock:
            if self.in_flight.pop(request.irp.id, None) is None:
                return  # it had never been in flight
            self._changed.set()
        self.present()

    # -- states ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """WdfIoQueueStop: requests wait from now on. Those in flight are left alone; see `wait_until_idle`."""
        self.hold(HELD_BY_DRIVER)

    def start(self) -> None:
        """WdfIoQueueStart: requests are taken and presented again, after `stop`, `drain` or `purge`."""
        with self.lock:
            if self.device.refusal is None:
                self.refusal = None
                self.purging = False
        self.release(HELD_BY_DRIVER)

    def drain(self) -> None:
        """WdfIoQueueDrain: refuse what comes, with STATUS_INVALID_DEVICE_STATE; what is there is presented still."""
        with self.lock:
            if self.refusal is None:
                self.refusal = STATUS_INVALID_DEVICE_STATE

    def purge(self, status: NtStatus = STATUS_CANCELLED, refusal: NtStatus = STATUS_INVALID_DEVICE_STATE) -> None:
        """WdfIoQueuePurge: refuse what comes, end what waits with `status`, and cancel what is in flight and cancelable."""
        with self.lock:
            self.refusal = refusal
            self.purging = True
            waiting = [irp for irp in self._waiting if self._waiting.remove_locked(irp)]
            requests = [self._requests.pop(irp.id) for irp in waiting]
            in_flight = list(self.in_flight.values())
        for request in requests:
            request.end_now(status)
        for request in in_flight:
            self._cancel_in_flight(request, status)

    @calls_driver("cancel", "a cancellation callback", lambda frame: frame["self"].device.device_object)
    def _cancel_in_flight(self, request: Request, status: NtStatus) -> None:
        try:
            request.cancel_because(status)
        except Exception as error:  # noqa: BLE001 - latched
            self.device.io.fault(self.device.device_object, error, "a cancellation callback")

    def cancel_file(self, file: FileObject) -> None:
        """CLEANUP: what waits for this file ends with STATUS_CANCELLED."""
        with self.lock:
            waiting = [
                irp
                for irp in self._waiting
                if irp.current_stack_location.file_object is file and self._waiting.remove_locked(irp)
            ]
            requests = [self._requests.pop(irp.id) for irp in waiting]
        for request in requests:
            request.end_now(STATUS_CANCELLED)

    def wait_until_idle(self, timeout: float | None) -> bool:
        """At PASSIVE_LEVEL, after `stop`, `drain` or `purge`: until nothing is in flight, nor, after `drain`, waits.

        False if `timeout` (seconds) passed first.
        """
        return self._wait_for(lambda: not self.in_flight and (self.refusal is None or not self._waiting.irps), timeout)

    def _wait_for(self, met: Callable[[], bool], timeout: float | None) -> bool:
        ke = self.device.ke
        deadline = None if timeout is None else ke.clock.now() + round(timeout * 1e9)
        while True:
            with self.lock:
                if met():
                    return True
                self._changed.clear()
            left = None if deadline is None else max(deadline - ke.clock.now(), 0) / 1e9
            if not ke.wait_for_single_object(self._changed, left) and left == 0:
                return False

    # -- the device's affairs ----------------------------------------------------------------------------------------

    def hold(self, reason: int) -> None:
        """Present nothing more. Each reason is taken back by itself."""
        with self.lock:
            self.held |= reason

    def release(self, reason: int) -> None:
        """The opposite."""
        with self.lock:
            self.held &= ~reason
        self.present()

    def tell_stopping(self, reason: StopReason) -> None:
        """At PASSIVE_LEVEL: ask the driver about each request in flight."""
        with self.lock:
            in_flight = list(self.in_flight.values())
        for request in in_flight:
            if reason is StopReason.SUSPEND and (
                request.sent is not None or (not self._on_stop and request.cancelable)
            ):
                self.acknowledged(request)
            elif self._on_stop is not None and request.sent is None and not request.ended:
                self._on_stop(request, reason)

    def acknowledged(self, request: Request, *, requeue: bool = False) -> None:
        """See `Request.acknowledge_stop`."""
        if requeue and request.cancelable:
            raise DriverFault(f"{request!r} is cancelable: unmark_cancelable() before it is queued again")
        with self.lock:
            here = request.irp.id in self.in_flight
            if here and requeue:
                del self.in_flight[request.irp.id]
            elif here:
                request.left = True
            self._changed.set()
        if here and requeue:
            self.put(request, head=True)

    def wait_until_stopped(self, reason: StopReason, timeout: float) -> list[Request]:
        """Until each request in flight has ended, or may stay. Returns those for which `timeout` was too short."""
        stays = reason is StopReason.SUSPEND

        def busy() -> list[Request]:
            return [request for request in self.in_flight.values() if not (stays and request.left)]

        self._wait_for(lambda: not busy(), timeout)
        with self.lock:
            return busy()

    def resume(self) -> None:
        """The device is in D0 again."""
        with self.lock:
            self.held &= ~HELD_BY_DEVICE
            left = [request for request in self.in_flight.values() if request.left]
        for request in left:
            request.left = False
            if self._on_resume is not None and not request.ended:
                self._on_resume(request)
        self.present()


class _DispatchingQueue(IoQueue):
    """A queue whose requests are presented to handlers."""

    def __init__(
        self,
        device: Device,
        *,
        read: Handler | None = None,
        write: Handler | None = None,
        flush: Handler | None = None,
        device_control: Handler | None = None,
        internal_device_control: Handler | None = None,
        power_managed: bool | None = None,
        passive: bool = False,
        on_stop: OnStop | None = None,
        on_resume: Handler | None = None,
    ) -> None:
        handlers = {
            IrpMajor.READ: read,
            IrpMajor.WRITE: write,
            IrpMajor.FLUSH_BUFFERS: flush,
            IrpMajor.DEVICE_CONTROL: device_control,
            IrpMajor.INTERNAL_DEVICE_CONTROL: internal_device_control,
        }
        super().__init__(
            device,
            handlers,
            power_managed=power_managed,
            passive=passive,
            on_stop=on_stop,
            on_resume=on_resume,
        )

    def put(self, request: Request, *, head: bool = False) -> NtStatus:
        """Take a request, or end it with `refusal`."""
        if self._handlers.get(request.major) is None:
            raise DriverFault(
                f"{request!r} was moved to a queue without a handler for it; give it one, or a ManualQueue"
            )
        return super().put(request, head=head)


class SequentialQueue(_DispatchingQueue):
    """WdfIoQueueDispatchSequential: the next request is presented when the one before has been completed."""

    limit = 1
    overlaps = False


class ParallelQueue(_DispatchingQueue):
    """WdfIoQueueDispatchParallel: requests are presented as they come; up to `limit` at a time, if there is one."""

    def __init__(  # noqa: PLR0913 - one for each kind of request, as in WDF_IO_QUEUE_CONFIG
        self,
        device: Device,
        *,
        limit: int | None = None,
        read: Handler | None = None,
        write: Handler | None = None,
        flush: Handler | None = None,
        device_control: Handler | None = None,
        internal_device_control: Handler | None = None,
        power_managed: bool | None = None,
        passive: bool = False,
        on_stop: OnStop | None = None,
        on_resume: Handler | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise DriverFault(f"a parallel queue with limit={limit} never presents anything: give at least 1, or None")
        self.limit = limit
        super().__init__(
            device,
            read=read,
            write=write,
            flush=flush,
            device_control=device_control,
            internal_device_control=internal_device_control,
            power_managed=power_managed,
            passive=passive,
            on_stop=on_stop,
            on_resume=on_resume,
        )


class ManualQueue(IoQueue):
    """WdfIoQueueDispatchManual: the driver takes requests out with `retrieve` when it has something for them.

    `majors` are those that come here by themselves; any may be moved here by `Request.forward_to`. ``on_ready(queue)``
    (EvtIoQueueState) is called when there is something to retrieve where there was nothing.
    """

    def __init__(
        self,
        device: Device,
        *majors: IrpMajor,
        on_ready: Callable[[ManualQueue], object] | None = None,
        power_managed: bool | None = None,
        on_stop: OnStop | None = None,
        on_resume: Handler | None = None,
    ) -> None:
        self._on_ready = on_ready
        self._told = False
        handlers: dict[IrpMajor, Handler | None] = dict.fromkeys(majors, self._never)
        super().__init__(device, handlers, power_managed=power_managed, on_stop=on_stop, on_resume=on_resume)

    def _insert_locked(self, request: Request, *, head: bool) -> bool:
        self._told = self._told and bool(self._waiting.irps)  # it may have been emptied by cancellations
        return super()._insert_locked(request, head=head)

    @staticmethod
    def _never(request: Request) -> None:
        raise AssertionError(f"a manual queue presents nothing, {request!r} neither")

    def retrieve(self, file: FileObject | None = None) -> Request | None:
        """WdfIoQueueRetrieveNextRequest, WdfIoQueueRetrieveRequestByFileObject: the oldest, or None, also while held.

        It is yours from now on: complete it, or say what is to be done `Request.on_cancel`.
        """
        with self.lock:
            return self._take_locked(file)

    def present(self) -> None:
        """Tell the driver that there is something."""
        with self.lock:
            there = bool(self._waiting.irps) and not self.held
            tell, self._told = there and not self._told, there
        if tell and self._on_ready is not None:
            self._ready(self._on_ready)

    @calls_driver("dispatch", "its on_ready routine", lambda frame: frame["self"].device.device_object)
    def _ready(self, on_ready: Callable[[ManualQueue], object]) -> None:
        try:
            on_ready(self)
        except Exception as error:  # noqa: BLE001 - latched
            self.device.io.fault(self.device.device_object, error, "its on_ready routine")
