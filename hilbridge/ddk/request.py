"""WDFREQUEST: one request, from when a queue got it until it is completed, exactly once.

Who ends a request that may be cancelled is decided in two steps, and neither needs a lock:

* *what* the outcome is says who takes the token first: the driver, or its cancellation callback. The other one's
  `Request.complete` returns False and does nothing.
* *when* the IRP is completed: an IRP whose cancel routine has been taken may not end before that routine has been called.
  The routine and whoever has decided the outcome meet at a gate; the second one through completes the IRP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import DO_BUFFERED_IO, DO_DIRECT_IO, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault, HilbridgeError
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_NEITHER, ioctl_method
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.ddk.device import Device
    from hilbridge.ddk.queue import IoQueue
    from hilbridge.ddk.target import IoTarget, Sent
    from hilbridge.model.file import FileObject
    from hilbridge.model.parameters import Parameters

OnCancel = Callable[["Request"], object]
_CONTROLS = (IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL)
_IOMANAGER = "DRIVER_VERIFIER_IOMANAGER_VIOLATION"


class Request:
    """One request. Its handler completes it, keeps it for later, sends it down, or moves it to another queue."""

    __slots__ = (
        "_cancel_taken",
        "_cancelable",
        "_gate",
        "_information",
        "_on_cancel",
        "_status",
        "_token",
        "context",
        "device",
        "file",
        "irp",
        "left",
        "major",
        "minor",
        "parameters",
        "purge_status",
        "queue",
        "sent",
    )

    def __init__(self, device: Device, irp: Irp, queue: IoQueue | None = None) -> None:
        location = irp.current_stack_location
        self.device = device
        self.irp = irp
        self.queue = queue
        """Where it waits, or was presented from."""
        self.major = IrpMajor(location.major_function)
        self.minor = location.minor_function
        self.parameters: Parameters = location.parameters
        self.file: FileObject | None = location.file_object
        self.context: Any = None
        """The driver's own."""
        self.sent: Sent | None = None
        """While it is at an I/O target."""
        self.left = False
        """The device leaves D0, and this request stays in flight meanwhile: nobody waits for it."""
        self.purge_status: NtStatus | None = None
        """Why it was cancelled, if not by who has made it: what STATUS_CANCELLED becomes then."""
        self._token: list[None] = [None]
        self._gate: list[None] = [None]
        self._cancelable = False
        self._cancel_taken = False
        self._on_cancel: OnCancel | None = None
        self._status: NtStatus = STATUS_SUCCESS
        self._information = 0

    def __repr__(self) -> str:
        return f"<{self.major.name} request, IRP 0x{self.irp.id:04X}{' (ended)' if self.ended else ''}>"

    # -- what is asked -----------------------------------------------------------------------------------------------

    @property
    def io_control_code(self) -> int:
        """Parameters.DeviceIoControl.IoControlCode."""
        return self.parameters.device_io_control.io_control_code

    @property
    def length(self) -> int:
        """How many bytes are asked for (READ, DEVICE_CONTROL) or given (WRITE)."""
        if self.major == IrpMajor.WRITE:
            return self.parameters.write.length
        if self.major == IrpMajor.READ:
            return self.parameters.read.length
        return self.parameters.device_io_control.output_buffer_length if self.major in _CONTROLS else 0

    @property
    def input(self) -> bytes:
        """WdfRequestRetrieveInputBuffer: what the caller gives. None of it with a READ."""
        irp = self.irp
        if self.major == IrpMajor.WRITE:
            return bytes(self._transfer_buffer())[: self.length]
        if self.major not in _CONTROLS:
            return b""
        control = self.parameters.device_io_control
        given = (
            control.type3_input_buffer if ioctl_method(control.io_control_code) == METHOD_NEITHER else irp.system_buffer
        )
        return b"" if given is None else bytes(given)[: control.input_buffer_length]

    @property
    def output(self) -> memoryview:
        """WdfRequestRetrieveOutputBuffer: where the answer goes, as long as the caller has room. Empty with a WRITE."""
        if self.major == IrpMajor.READ:
            return self._transfer_buffer()[: self.length]
        if self.major not in _CONTROLS:
            return memoryview(b"")
        control, irp = self.parameters.device_io_control, self.irp
        method = ioctl_method(control.io_control_code)
        buffer = irp.system_buffer if method == METHOD_BUFFERED else irp.mdl_address
        if method == METHOD_NEITHER:
            buffer = irp.user_buffer  # type: ignore[assignment]
        return memoryview(b"" if buffer is None else buffer)[: control.output_buffer_length]

    def _transfer_buffer(self) -> memoryview:
        """Of a READ or WRITE: where the flags of the device say."""
        flags, irp = self.device.device_object.flags, self.irp
        buffer: Any = irp.user_buffer
        if flags & DO_BUFFERED_IO:
            buffer = irp.system_buffer
        elif flags & DO_DIRECT_IO:
            buffer = irp.mdl_address
        return memoryview(b"" if buffer is None else buffer)

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """The outcome has been decided."""
        return not self._token

    def complete(
        self, status: NtStatus = STATUS_SUCCESS, information: int | None = None, *, data: bytes | bytearray = b""
    ) -> bool:
        """WdfRequestComplete, WdfRequestCompleteWithInformation, up to DISPATCH_LEVEL. `data` is copied into `output`.

        Without `information` it is the length of `data`. False if it has been cancelled, and ends as that. Bug check 0x44 if
        it was completed before; 0xC9/0x06 with STATUS_PENDING; 0xC9/0x312 if there is no room for so much data.
        """
        io = self.device.io
        if int(status) == STATUS_PENDING:
            raise io.bug_check(
                0xC9, _IOMANAGER, 0x06, self, hint="complete it with how it ended; to keep it, just return"
            )
        if self.sent is not None:
            raise io.bug_check(0xC9, _IOMANAGER, 0x209, self, hint="it is at an I/O target: cancel it there")
        if data and self._token and len(data) > len(self.output):
            raise io.bug_check(
                0xC9, _IOMANAGER, 0x312, self, len(data), len(self.output), hint="give at most request.length bytes"
            )
        taken = self._cancelable and self.irp.set_cancel_routine(None) is None
        self._cancel_taken = self._cancel_taken or taken
        try:
            self._token.pop()
        except IndexError:
            if self._cancel_taken:
                return False
            raise io.bug_check(
                0x44,
                "MULTIPLE_IRP_COMPLETE_REQUESTS",
                self.irp,
                hint="a request is completed once; find who did it first",
            ) from None
        if data:
            self.output[: len(data)] = data
        self._decide(status, len(data) if information is None else information)
        if not taken or not self._first_through_the_gate():
            self._finish()
        return True

    def fail(self, error: HilbridgeError) -> bool:
        """End it with the status of an error, and with its words."""
        if not self._token:
            return False
        self.device.io.write_error_log_entry(self.irp, error)
        return self.complete(error.status, 0)

    def end_now(self, status: NtStatus) -> None:
        """It was taken out of a queue, and is owned by nobody else: end it."""
        self._token.clear()
        self._decide(status, 0)
        self._finish()

    def _decide(self, status: NtStatus, information: int) -> None:
        if self.purge_status is not None and status == STATUS_CANCELLED:
            status = self.purge_status
        self._status, self._information = status, information

    def _first_through_the_gate(self) -> bool:
        try:
            self._gate.pop()
        except IndexError:
            return False
        return True

    def _finish(self) -> None:
        irp, device, queue = self.irp, self.device, self.queue
        irp.io_status.status = self._status
        irp.io_status.information = self._information
        try:
            device.io.complete_request(irp)
        finally:
            # In this order: while its next request is presented the device does not go.
            if queue is not None:
                queue.left_by(self)
            device.remove_lock.release(irp)

    # -- cancellation ------------------------------------------------------------------------------------------------

    @property
    def cancelable(self) -> bool:
        """Whether `on_cancel` has been called, and not been taken back."""
        return self._cancelable

    def on_cancel(self, callback: OnCancel) -> bool:
        """WdfRequestMarkCancelable: whoever keeps a request says what is to be done when its caller gives up.

        ``callback(request)`` is called at most once, up to DISPATCH_LEVEL, with no lock held. It may be called before this
        returns: then False. It completes the request, as a rule with STATUS_CANCELLED. It may run at the same time as another
        routine that completes the request: the first one wins. It is also called when the device goes.
        """
        if self._cancelable:
            raise DriverFault(f"{self!r} is cancelable already: unmark_cancelable() first")
        self._on_cancel = callback
        self._cancelable = True
        self.irp.set_cancel_routine(self._cancel_routine)
        purging = self.queue is not None and self.queue.purging
        if (self.irp.cancel or purging) and self.irp.set_cancel_routine(None) is not None:
            self._cancelled()
            return False
        return True

    def unmark_cancelable(self) -> bool:
        """WdfRequestUnmarkCancelable: False if the callback is being called, or was: it completes the request."""
        if not self._cancelable:
            return not self._cancel_taken
        if self.irp.set_cancel_routine(None) is None:
            self._cancel_taken = True
            return False
        self._cancelable = False
        return True

    def cancel_because(self, status: NtStatus) -> bool:
        """The device goes, or the queue is purged: call the callback, if there is one, or cancel it where it was sent.

        False if there is neither.
        """
        self.purge_status = status  # also if it ends later, by whatever the driver does about it
        sent = self.sent
        if sent is None and not self._cancelable:
            return False
        if sent is not None:
            sent.cancel()
        elif self.irp.set_cancel_routine(None) is not None:
            self._cancelled()
        return True

    def _cancel_routine(self, device: DeviceObject[Any] | None, _irp: Irp) -> None:
        if device is not None:
            self.device.io.release_cancel_spin_lock(device)
        self._cancelled()

    def _cancelled(self) -> None:
        """The cancel routine has been taken: it is called now, by whoever has taken it."""
        self._cancel_taken = True
        if self._first_through_the_gate():
            assert self._on_cancel is not None
            self._on_cancel(self)
        else:
            self._finish()

    # -- elsewhere ---------------------------------------------------------------------------------------------------

    def forward(
        self,
        target: IoTarget,
        on_complete: Callable[[Request, Sent], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """WdfRequestSend: send it to the device below, as it is. It is completed with what comes back.

        ``on_complete(request, sent)`` is called with the outcome instead, in ``sent.status`` and ``sent.information``, and
        completes the request. See `IoTarget.send`.
        """
        target.send(self, on_complete, timeout=timeout)

    def forward_to(self, queue: IoQueue) -> None:
        """WdfRequestForwardToIoQueue: put it into another queue. It must not be cancelable at this moment.

        Refused by that queue, it ends with the status of the refusal.
        """
        if self._cancelable:
            raise DriverFault(f"{self!r} is cancelable: unmark_cancelable(), and leave it alone if that is False")
        before, self.queue = self.queue, queue
        try:
            queue.put(self)
        finally:
            if before is not None and before is not queue:
                before.left_by(self)

    def acknowledge_stop(self, *, requeue: bool = False) -> None:
        """WdfRequestStopAcknowledge, in ``on_stop``: the request stays in flight while the device is stopped.

        With `requeue` it goes back to the head of its queue instead, and is presented again.
        """
        if self.queue is not None:
            self.queue.acknowledged(self, requeue=requeue)
