"""WDFIOTARGET: where a driver sends requests, with time-outs, and so that a removal ends them all.

`Device.target` is the device below; `IoTarget.open` finds another one by its name. What is sent while the target is stopped
waits for its start.

A request that was sent is cancelled with its IRP, which must not end, and be freed, while somebody cancels it. So whoever
cancels holds the request meanwhile, and whoever comes last, the canceller or the completion routine, finishes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hilbridge.ddk.request import Request
from hilbridge.iomgr.base import holder_of
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.remlock import PATIENCE
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import FILE_READ_DATA, FILE_WRITE_DATA, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault, NtStatusError
from hilbridge.model.file import FileObject
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, ioctl_method
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import DeviceIoControlParameters, Parameters, ReadParameters, WriteParameters
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_IO_TIMEOUT,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    NtStatus,
)

if TYPE_CHECKING:
    from hilbridge.ddk.device import Device

TIMEOUT = 10.0
"""Seconds that a synchronous request gets, if nothing else is said."""
GRACE = 5.0
"""Seconds in which a cancelled request has to come back."""


class Sent:
    """One request on its way to a target and back. Its outcome is there when `done` is True."""

    __slots__ = (
        "_callback",
        "_holds",
        "_returned",
        "_timeout",
        "_timer",
        "_told_as",
        "data",
        "done",
        "information",
        "irp",
        "major",
        "request",
        "status",
        "target",
    )

    def __init__(
        self, target: IoTarget, irp: Irp, major: int, callback: Callable[[Sent], object], request: Request | None = None
    ) -> None:
        self.target = target
        self.irp = irp
        self.major = IrpMajor(major)
        self.request = request
        """The request that was sent on; None if the driver has made it."""
        self.status: NtStatus = STATUS_PENDING
        self.information = 0
        self.data = b""
        """What a READ or DEVICE_CONTROL of the driver's own has brought."""
        self.done = False
        self._callback = callback
        self._holds = 0
        self._returned = False
        self._told_as: NtStatus | None = None
        self._timeout: float | None = None
        self._timer = Ktimer()

    def __repr__(self) -> str:
        return f"<{self.major.name} sent to {self.target.device_object!r}: {self.status}>"

    def cancel(self) -> bool:
        """WdfRequestCancelSentRequest, up to DISPATCH_LEVEL. False if it has come back already."""
        return self.target.cancel(self, STATUS_CANCELLED)


class IoTarget:
    """WDFIOTARGET. Up to DISPATCH_LEVEL, but `read`, `write`, `ioctl`, `open` and `close`, which wait: at PASSIVE_LEVEL."""

    def __init__(self, device: Device, device_object: DeviceObject[Any], file: FileObject | None = None) -> None:
        self.device = device
        self.device_object = device_object
        self.file = file
        """The open of another device; None for the device below."""
        self.started = True
        self.refusal: NtStatus | None = None
        """What is sent ends with this: the target has been removed or closed."""
        self._io, self._ke = device.io, device.ke
        self._lock = device.ke.spin_lock()
        self._waiting: dict[Sent, None] = {}
        """Sent while the target was stopped."""
        self._away: dict[Sent, None] = {}
        """Sent, and not back, or not told yet."""
        self._changed = Kevent()
        device.add_target(self)

    @classmethod
    def open(cls, device: Device, name: str, access: int = FILE_READ_DATA | FILE_WRITE_DATA) -> IoTarget:
        r"""WdfIoTargetOpen by name: ``\Device\Serial0``, ``\DosDevices\COM1``. Raises as ``io.create_file`` does.

        It keeps that device open until `close`, at the latest until the driver's own device is removed.
        """
        file, top = device.io.get_device_object_pointer(name, access)
        return cls(device, top, file)

    def __repr__(self) -> str:
        return f"<I/O target {self.device_object!r}, {len(self._away)} sent, {len(self._waiting)} wait>"

    def __len__(self) -> int:
        """How many requests have not come back."""
        return len(self._away) + len(self._waiting)

    # -- synchronous -------------------------------------------------------------------------------------------------

    def read(self, length: int, *, timeout: float = TIMEOUT) -> bytes:
        """WdfIoTargetSendReadSynchronously. Raises `NtStatusError`: STATUS_IO_TIMEOUT after `timeout` seconds."""
        return self._wait_for(self.submit_read(length, _ignore, timeout=timeout)).data

    def write(self, data: bytes | bytearray, *, timeout: float = TIMEOUT) -> int:
        """WdfIoTargetSendWriteSynchronously: how much was written."""
        return self._wait_for(self.submit_write(data, _ignore, timeout=timeout)).information

    def ioctl(
        self, code: int, data: bytes = b"", size: int = 0, *, timeout: float = TIMEOUT, internal: bool = False
    ) -> bytes:
        """WdfIoTargetSendIoctlSynchronously: the answer, of up to `size` bytes."""
        return self._wait_for(self.submit_ioctl(code, _ignore, data, size, timeout=timeout, internal=internal)).data

    def _wait_for(self, sent: Sent) -> Sent:
        # The timer ends it in time; what has not come back some time after its cancellation never will.
        if not self._until(lambda: sent.done, (sent._timeout or 0) + GRACE):
            self._give_up(sent)
        if not sent.status.is_success:
            raise NtStatusError(sent.status, f"{sent.major.name} sent to {self.device_object!r} failed")
        return sent

    # -- asynchronous ------------------------------------------------------------------------------------------------

    def submit_read(
        self,
        length: int,
        callback: Callable[[Sent], object],
        *,
        timeout: float | None = None,
        parameters: ReadParameters | None = None,
    ) -> Sent:
        """WdfIoTargetFormatRequestForRead and WdfRequestSend. ``callback(sent)`` is called once, up to DISPATCH_LEVEL.

        It may be called before this returns.
        """
        return self._build(IrpMajor.READ, bytearray(length), parameters or ReadParameters(length), callback, timeout)

    def submit_write(
        self, data: bytes | bytearray, callback: Callable[[Sent], object], *, timeout: float | None = None
    ) -> Sent:
        """WdfIoTargetFormatRequestForWrite and WdfRequestSend."""
        return self._build(IrpMajor.WRITE, bytearray(data), WriteParameters(len(data)), callback, timeout)

    def submit_ioctl(
        self,
        code: int,
        callback: Callable[[Sent], object],
        data: bytes = b"",
        size: int = 0,
        *,
        timeout: float | None = None,
        internal: bool = False,
    ) -> Sent:
        """WdfIoTargetFormatRequestForIoctl and WdfRequestSend."""
        major = IrpMajor.INTERNAL_DEVICE_CONTROL if internal else IrpMajor.DEVICE_CONTROL
        method = ioctl_method(code)
        parameters = DeviceIoControlParameters(size, len(data), code, data if method == METHOD_NEITHER else None)
        irp = self._io.build_asynchronous_fsd_request(major, self.device_object, parameters=parameters)
        if method == METHOD_BUFFERED:
            irp.system_buffer = bytearray(max(len(data), size))
            irp.system_buffer[: len(data)] = data
        else:
            irp.user_buffer = bytearray(size)
            if method != METHOD_NEITHER:
                irp.system_buffer = bytearray(data)
                view = memoryview(irp.user_buffer)
                irp.mdl_address = (view.toreadonly() if method == METHOD_IN_DIRECT else view) if size else None
        return self._start(Sent(self, irp, major, callback), timeout)

    def _build(
        self,
        major: IrpMajor,
        buffer: bytearray,
        parameters: Parameters,
        callback: Callable[[Sent], object],
        timeout: float | None,
    ) -> Sent:
        irp = self._io.build_asynchronous_fsd_request(major, self.device_object, buffer, parameters=parameters)
        return self._start(Sent(self, irp, major, callback), timeout)

    def send(
        self,
        request: Request,
        on_complete: Callable[[Request, Sent], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> Sent:
        """WdfRequestSend of a request that the driver was given: its own IRP goes down, for the device below.

        It must not be cancelable at this moment: while it is away its caller cancels it there.
        """
        irp = request.irp
        if request.cancelable:
            raise DriverFault(f"{request!r} is cancelable: unmark_cancelable(), and leave it alone if that is False")
        if irp.current_location <= self.device_object.stack_size:
            raise DriverFault(
                f"{request!r} has no stack locations for {self.device_object!r}: make a request of your own with submit_..."
            )
        irp.copy_current_stack_location_to_next()
        sent = Sent(self, irp, request.major, _ignore, request)
        sent._callback = partial(_forwarded, request, on_complete)
        request.sent = sent
        return self._start(sent, timeout)

    # -- on its way --------------------------------------------------------------------------------------------------

    def _start(self, sent: Sent, timeout: float | None) -> Sent:
        if self.file is not None:
            sent.irp.file_object = sent.irp.next_stack_location.file_object = self.file
        sent._timeout = timeout
        with self._lock:
            refusal, started = self.refusal, self.started
            if refusal is None:
                (self._away if started else self._waiting)[sent] = None
        if refusal is not None:
            self._ended(sent, refusal)
            return sent
        if timeout is not None:
            dpc = Kdpc(self._expired, sent, self.device.device_object)
            self._ke.set_timer(sent._timer, relative_ms(timeout * 1000), 0, dpc)
        if started:
            self._call(sent)
        return sent

    def _call(self, sent: Sent) -> None:
        irp = sent.irp
        irp.set_completion_routine(self._completed, sent)
        try:
            self._io.call_driver(self.device_object, irp)
        except Exception as error:  # noqa: BLE001 - latched; whose mistake it is says the IRP
            guilty = holder_of(irp) or self.device_object
            self._io.fault(guilty, error, f"its dispatch routine for {sent.major.name}")
            if not sent._returned:
                self._give_up(sent)

    def _expired(self, _dpc: Kdpc, sent: Sent, _argument1: Any, _argument2: Any) -> None:
        self.cancel(sent, STATUS_IO_TIMEOUT)

    def cancel(self, sent: Sent, status: NtStatus) -> bool:
        """Cancel one, to be told as `status`. False if it has come back already."""
        with self._lock:
            waited = sent in self._waiting
            if waited:
                del self._waiting[sent]
            elif sent in self._away and not sent._returned:
                if sent._told_as is None:
                    sent._told_as = status
                sent._holds += 1
            else:
                return False
        if waited:
            self._ended(sent, status)
            return True
        self._io.cancel_irp(sent.irp)
        with self._lock:
            sent._holds -= 1
            last = sent._returned and not sent._holds
        if last:
            self._back(sent)
        return True

    def _completed(self, _device: DeviceObject[Any] | None, _irp: Irp, sent: Sent) -> NtStatus:
        """Completion routine. The IRP is kept, always: ours is freed, and a forwarded one is completed by its request."""
        with self._lock:
            sent._returned = True
            last = not sent._holds
        if last:
            self._back(sent)
        return STATUS_MORE_PROCESSING_REQUIRED

    def _back(self, sent: Sent) -> None:
        """It has come back, and nobody else touches it."""
        irp, status = sent.irp, sent.irp.io_status.status
        if status == STATUS_CANCELLED and sent._told_as is not None:
            status = sent._told_as
        sent.information = irp.io_status.information
        if sent.request is None:
            sent.data = _data_of(sent)
            self._io.free_irp(irp)
        with self._lock:
            given_up = sent not in self._away
        if not given_up:
            self._ended(sent, status)

    @calls_driver("completion", "a completion callback", lambda frame: frame["self"].device.device_object)
    def _ended(self, sent: Sent, status: NtStatus) -> None:
        self._ke.cancel_timer(sent._timer)
        sent.status = status
        request = sent.request
        if request is not None:
            request.sent = None
        sent.done = True
        try:
            sent._callback(sent)
        except Exception as error:  # noqa: BLE001 - latched
            self._io.fault(self.device.device_object, error, "a completion callback")
            if request is not None and not request.ended:
                request.complete(status, 0)
        with self._lock:
            self._away.pop(sent, None)
            self._changed.set()

    # -- states ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """WdfIoTargetStart: what has waited is sent."""
        while True:
            with self._lock:
                self.started = True
                sent = next(iter(self._waiting), None)
                if sent is None:
                    return
                self._away[sent] = self._waiting.pop(sent)
            self._call(sent)

    def stop(self, *, cancel_sent: bool = False) -> None:
        """WdfIoTargetStop: what is sent from now on waits. `cancel_sent`: what is away is cancelled."""
        with self._lock:
            self.started = False
        if cancel_sent:
            self.cancel_all(STATUS_CANCELLED)

    def cancel_all(self, status: NtStatus) -> None:
        """Cancel what is away."""
        with self._lock:
            away = list(self._away)
        for sent in away:
            self.cancel(sent, status)

    def remove(self, status: NtStatus = STATUS_DELETE_PENDING) -> None:
        """The device goes: all ends, and nothing is sent any more."""
        with self._lock:
            self.refusal = self.refusal if self.refusal is not None else status
            waiting = list(self._waiting)
        for sent in waiting:
            self.cancel(sent, status)
        self.cancel_all(status)

    def wait_until_idle(self, timeout: float = PATIENCE) -> None:
        """At PASSIVE_LEVEL: until all has come back. What does not come is given up, and whoever has it is reported."""
        if not self._until(lambda: not self._away, timeout):
            with self._lock:
                away = list(self._away)
            for sent in away:
                self._give_up(sent)

    def close(self) -> None:
        """WdfIoTargetClose, at PASSIVE_LEVEL: end everything, and let the other device go."""
        self.remove()
        self.wait_until_idle()
        file, self.file = self.file, None
        if file is not None:
            self._io.dereference_object(file)
        self.device.forget_target(self)

    def _until(self, met: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else self._ke.clock.now() + round(timeout * 1e9)
        while True:
            with self._lock:
                if met():
                    return True
                self._changed.clear()
            left = None if deadline is None else max(deadline - self._ke.clock.now(), 0) / 1e9
            if not self._ke.wait_for_single_object(self._changed, left) and left == 0:
                return False

    def _give_up(self, sent: Sent) -> None:
        """It does not come back. The IRP stays with who has it, who is reported; the driver's wait ends."""
        with self._lock:
            if sent not in self._away or sent._returned:
                return
            del self._away[sent]
        holder = holder_of(sent.irp) or self.device_object
        if holder.device_stack.fault is None:
            fault = DriverFault(
                f"{holder!r} did not end {sent!r}, {sent.irp!r}, after its cancellation", irp_id=sent.irp.id
            )
            self._io.fault(holder, fault, "cancellation")
        if sent.request is None:  # a forwarded one is not ours to end: it went down with its stack
            self._ended(sent, STATUS_DRIVER_PROCESS_TERMINATED)


def _ignore(_sent: Sent) -> None:
    """Nobody is to be called."""


def _forwarded(request: Request, on_complete: Callable[[Request, Sent], object] | None, sent: Sent) -> None:
    if on_complete is not None:
        on_complete(request, sent)
    else:
        request.complete(sent.status, sent.information)


def _data_of(sent: Sent) -> bytes:
    irp = sent.irp
    if sent.major == IrpMajor.WRITE or irp.io_status.status.is_error:
        return b""
    buffer = irp.user_buffer if irp.system_buffer is None or irp.mdl_address is not None else irp.system_buffer
    return b"" if buffer is None else bytes(buffer[: sent.information])
