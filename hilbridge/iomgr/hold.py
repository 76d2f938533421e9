"""Requests that come while a device is stopped or asleep: "HOLD_NEW_REQUESTS" of Microsoft's Plug and Play documents.

A driver whose hardware has been taken away for a while does not fail what comes meanwhile. It marks it pending and keeps it,
in the order of arrival, and goes through it in that order when the hardware is back. `HoldQueue` is that, for any driver:

    def device_control(device, irp):
        if device.extension.hold.active and device.extension.hold.insert(irp):
            return STATUS_PENDING
        ...

STOP_DEVICE calls `hold`; START_DEVICE and CANCEL_STOP_DEVICE call `release`; a removal calls `fail`. PnP and power requests
are never held, nor are CREATE, CLEANUP and CLOSE: who opens or closes a device waits for no hardware.

What is held ends like any queued request: by CancelIo, by its caller's deadline, with the handle, with the thread that made
it, also if the driver knows nothing of it.

Overtaking is what the flags below are about. While `release` works through the queue, what comes anew is still held, behind
the rest; only the request whose turn it is passes. When the queue is found empty, under the lock, holding is over in the same
step. A driver that is told to hold again in the middle of that keeps what is left, and a request whose turn had come, and
which finds that the hardware has gone again, goes back to the head of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.iomgr.irps import dispatch_words
from hilbridge.kernel.culprit import calls_driver
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, NtStatus

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.kernel.processor import Processor


class HoldQueue:
    """What a driver of one device holds back. All of it is callable up to DISPATCH_LEVEL.

    `complete_canceled`, if given, ends a held request that was cancelled; it is called without the lock. By default it ends
    with STATUS_CANCELLED and Information 0.
    """

    __slots__ = ("_complete_canceled", "_device", "_io", "_passing", "_queue", "_reasons", "_releaser", "active")

    def __init__(
        self, io: IoManager, device: DeviceObject[Any], complete_canceled: Callable[[Irp], None] | None = None
    ) -> None:
        self._io = io
        self._device = device
        self._complete_canceled = complete_canceled or self._cancelled
        self._queue = CancelSafeQueue(io, io.ke.spin_lock(), self._complete_canceled)
        self._reasons: set[Hashable] = set()
        self._releaser: Processor | None = None
        """Who goes through the queue in `release`, one at a time."""
        self._passing: Irp | None = None
        """The request whose turn it is."""
        self.active = False
        """Whether a new request has to ask `insert`. May be looked at without a lock, on a request's way: False is cheap, and
        at worst a moment old, as it is for a request that came a moment before `hold`."""

    def __len__(self) -> int:
        return len(self._queue)

    def __repr__(self) -> str:
        why = ", ".join(sorted("no reason given" if reason is None else str(reason) for reason in self._reasons))
        what = f"holds ({why})" if why else "is being released" if self._releaser is not None else "lets pass"
        return f"<hold queue of {self._device!r}: {what}, {len(self)} held>"

    # -- the driver's dispatch routines ------------------------------------------------------------------------------

    def insert(self, irp: Irp) -> bool:
        """Hold a request, if they are held now. True: return STATUS_PENDING. False: it is to be served.

        It is marked pending here. True is also the answer for one that was cancelled before: it has ended then.
        """
        queue = self._queue
        with queue.lock:
            mine = irp is self._passing and self._releaser is self._io.ke.current()
            if not self._reasons and (mine or self._releaser is None):
                return False
            queued = queue.insert_locked(irp)
            if queued and mine:  # it had its turn, and the hardware has gone again: nobody has come before it
                queue.irps = {irp.id: irp, **queue.irps}
        if not queued:
            self._complete_canceled(irp)
        return True

    def cleanup(self, file: FileObject | None) -> None:
        """For IRP_MJ_CLEANUP: end what is held of this file with STATUS_CANCELLED, and nobody else's."""
        queue = self._queue
        ended: list[Irp] = []
        with queue.lock:
            while (irp := queue.remove_next_locked(lambda held: _file_of(held) is file)) is not None:
                ended.append(irp)
        for irp in ended:
            self._complete_canceled(irp)

    # -- Plug and Play, power ----------------------------------------------------------------------------------------

    def hold(self, reason: Hashable = None) -> None:
        """From now on new requests are held. With a `reason` of its own each of STOP and power down can do so.

        A request that is in its dispatch routine at this moment is not waited for.
        """
        with self._queue.lock:
            self._reasons.add(reason)
            self.active = True

    def release(self, reason: Hashable = None) -> None:
        """`reason` is over. With the last one everything that is held goes to the driver's dispatch routines, in order.

        They are called here, one after the other, at the IRQL of the caller; what comes from a routine that calls `release`
        itself, or meanwhile from another thread, is done by the loop that runs already.
        """
        queue = self._queue
        with queue.lock:
            self._reasons.discard(reason)
            if self._reasons or self._releaser is not None:
                return
            self._releaser = self._io.ke.current()
        try:
            while (irp := self._next()) is not None:
                self._dispatch_again(irp)
        finally:
            if self._releaser is self._io.ke.local.processor:  # something went wrong: it did not come to its end
                with queue.lock:
                    self._over()

    def fail(self, status: NtStatus) -> None:
        """The device goes: end everything that is held with `status`, oldest first, and hold nothing any more."""
        queue = self._queue
        ended: list[Irp] = []
        with queue.lock:
            self._reasons.clear()
            self.active = self._releaser is not None
            while (irp := queue.remove_next_locked()) is not None:
                ended.append(irp)
        for irp in ended:
            self._complete(irp, status)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _next(self) -> Irp | None:
        """The request whose turn it is; None: there is none, or they are held again. Then the loop is over, in one step."""
        queue = self._queue
        with queue.lock:
            self._passing = None
            while not self._reasons and (irp := queue.head_locked()) is not None:
                if queue.remove_locked(irp):
                    self._passing = irp
                    return irp
            self._over()
        return None

    def _over(self) -> None:
        self._releaser = self._passing = None
        self.active = bool(self._reasons)

    @calls_driver("dispatch", dispatch_words, lambda frame: frame["device"], begun="dispatch")
    def _dispatch_again(self, irp: Irp) -> None:
        """Call the dispatch routine as `call_driver` did when the IRP came: it is in this driver's stack location.

        Its sender has been answered STATUS_PENDING. So what the routine returns tells nobody anything; only mistakes show.
        """
        io, device = self._io, self._device
        here = irp.current_stack_location
        request = irp.user_request
        processor = io.ke.current()
        irql = processor.irql
        dispatch = device.driver_object.major_function[here.major_function]
        try:
            status = dispatch(device, irp)
            if status.__class__ is not NtStatus:
                raise DriverFault(
                    f"{device!r} returned {status!r} from its dispatch routine: return an NtStatus", irp_id=irp.id
                )
            if processor.irql != irql:
                raise BugCheck(
                    0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", 0x05, irql, processor.irql, hint="IRQL leak"
                )
            # Only an application's: what a driver has made may have been reused by its owner, and be under way again.
            here_still = request is not None and irp.state == IrpState.PENDING and not io.ends_later(irp)
            if here_still and status != STATUS_PENDING:
                raise DriverFault(f"{device!r} returned {status.name} without completing {irp!r}", irp_id=irp.id)
        except Exception as error:  # noqa: BLE001 - latched: it fails the stack, and the request with it
            processor.irql = irql
            fault = io.fault(device, error, f"{dispatch_words({'here': here})}, which had been held")
            fault.irp_id = fault.irp_id or irp.id
            if request is not None:
                request.disown(fault.status)

    def _cancelled(self, irp: Irp) -> None:
        self._complete(irp, STATUS_CANCELLED)

    def _complete(self, irp: Irp, status: NtStatus) -> None:
        irp.io_status.status = status
        irp.io_status.information = 0
        self._io.complete_request(irp)


def _file_of(irp: Irp) -> FileObject | None:
    return irp.current_stack_location.file_object
