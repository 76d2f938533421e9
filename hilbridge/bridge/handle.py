"""A handle: an open device, as an application holds it.

Every call ends: with its bytes, or with an exception that names the culprit. `timeout` is in seconds, 5 by default, and
None means "until cancelled". It is a deadline for the whole call, enforced by the calling thread; when it passes, the
request is cancelled and `DeviceTimeout` is raised. Nothing has been consumed then, and ``.partial`` shows what was there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hilbridge.bridge.arguments import as_bytes, check_settings, length, nanoseconds
from hilbridge.bridge.recipes import parse_recipe
from hilbridge.bridge.request import DEFAULT_TIMEOUT, Request, TaskRequests
from hilbridge.bridge.translate import fault_of, from_nt_status
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import DO_STREAM_READ, FO_CLEANUP_COMPLETE, IrpMajor
from hilbridge.model.errors import (
    BridgeClosed,
    DeviceFault,
    DeviceTimeout,
    HilbridgeError,
    NtStatusError,
    UsageFault,
)
from hilbridge.model.file import FileObject
from hilbridge.model.hardware import MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI
from hilbridge.model.ioctl import ioctl_function
from hilbridge.model.status import STATUS_BUFFER_OVERFLOW, STATUS_SUCCESS, STATUS_TIMEOUT

if TYPE_CHECKING:
    from hilbridge.bridge.bridge import Bridge
    from hilbridge.bridge.console import Console
    from hilbridge.kernel.processor import Processor
    from hilbridge.model.irp import Irp

LONGEST_LINE = 1 << 16
READ_SOME = 1 << 16
DEFAULT_LIMIT = nanoseconds(DEFAULT_TIMEOUT)


class Handle:
    """An open device. Methods may be called from several threads; close it when done, or use it in a ``with`` block."""

    def __init__(self, bridge: Bridge, file: FileObject, name: str, *, owns_bridge: bool = False) -> None:
        self.bridge = bridge
        self.io = bridge.io
        self.file = file
        self.name = name
        self._ke = bridge.ke
        self._local = bridge.ke.local
        self._owns_bridge = owns_bridge
        self._tasks = TaskRequests()

    def __repr__(self) -> str:
        return f"<Handle {self.name}{' (closed)' if self.closed else ''}>"

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, n: int, *, timeout: float | None = DEFAULT_TIMEOUT) -> bytes:
        """Exactly `n` bytes; fewer only if SERIAL_TIMEOUTS, set by an IOCTL, say so.

        `DeviceGone` if the device goes first: what it had said is in ``.partial``.
        """
        if n.__class__ is not int or n < 0:
            length(n)
        processor = self._local.processor or self._ke.current()
        processor.inside += 1
        try:
            fast = self.io.fast_read(processor, self.file, n, 0, b"", n != 0 and timeout != 0)
        finally:
            processor.inside -= 1
        if processor.sigint:
            self._interrupted(processor, fast)
        if fast is not None:
            return fast
        request = self._read(f"read({n})", n, 0, b"", timeout)
        data = request.data
        if len(data) == n or request.status == STATUS_TIMEOUT:
            return data
        stack = self.file.device_object.device_stack
        if stack.removed is not None:
            raise fault_of(stack.removed.status, self.file, request.what, self.name, request.irp, data)
        return data

    def read_some(self, max: int = READ_SOME, *, timeout: float | None = DEFAULT_TIMEOUT) -> bytes:  # noqa: A002 - as in the docs
        """At least one byte, at most `max`: what is there, or the next that comes."""
        fast = self._fast_read(length(max), 1, b"", timeout != 0)
        if fast is not None:
            return fast
        self._must_stream("read_some")
        return self._read(f"read_some({max})", max, 1, b"", timeout).data

    def read_until(
        self,
        terminator: bytes = b"\n",
        *,
        max: int = LONGEST_LINE,  # noqa: A002 - as in the docs
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> bytes:
        """Everything up to and including `terminator`; `UsageFault` if `max` bytes came without it (in ``.partial``)."""
        if terminator.__class__ is not bytes or not terminator or max < 0:
            terminator = bytes(as_bytes(terminator, "the terminator of read_until"))
            length(max)
            if not terminator:
                raise UsageFault("read_until needs a terminator; read_some() reads what is there")
        fast = self._fast_read(max, 0, terminator, timeout != 0)
        if fast is not None:
            return fast
        self._must_stream("read_until")
        request = self._read(f"read_until({terminator!r})", max, 0, bytes(terminator), timeout)
        data = request.data
        if request.status == STATUS_SUCCESS and data.endswith(terminator):
            return data
        if request.status == STATUS_BUFFER_OVERFLOW:
            raise UsageFault(
                f"{request.what} on {self.name}: {max} bytes came without it; pass a larger max", partial=data
            )
        raise fault_of(self._removal_status(request), self.file, request.what, self.name, request.irp, data)

    def readline(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> bytes:
        """A line with its newline."""
        return self.read_until(b"\n", timeout=timeout)

    def __iter__(self) -> Iterator[bytes]:
        """Lines, for as long as the device is there. A line must come within the default time-out."""
        while True:
            yield self.readline()

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview, *, timeout: float | None = DEFAULT_TIMEOUT) -> int:
        """All of `data`; returns its length. On a time-out ``.information`` says how much the device has accepted."""
        if data.__class__ is not bytes:
            data = as_bytes(data, f"write on {self.name}")
        limit = DEFAULT_LIMIT if timeout is DEFAULT_TIMEOUT else nanoseconds(timeout)
        processor = self._local.processor or self._ke.current()
        processor.inside += 1
        try:
            done = self.io.fast_write(self.file, data, self._write_irp)
            if done is None:
                done = self.io.submit_write(Request(self, f"write of {len(data)} bytes"), data).irp
        except NtStatusError as error:
            raise from_nt_status(error, "write", self.name) from None
        finally:
            processor.inside -= 1
        if done.__class__ is int:
            if processor.sigint:
                self._ke.leave(processor)
            return done
        request: Request = done.user_request  # type: ignore[union-attr]
        if not request.done or request.status != STATUS_SUCCESS or processor.sigint:
            self._finish(request, limit)
        return request.information

    def _write_irp(self, data: bytes | bytearray | memoryview) -> Irp:
        return self.io.dispatched_write(Request(self, f"write of {len(data)} bytes"), data)

    def flush(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Wait until everything that was written has left the port."""
        limit = nanoseconds(timeout)
        self._finish(self._submit(Request(self, "flush"), self.io.submit_simple, IrpMajor.FLUSH_BUFFERS), limit)

    # -- control -----------------------------------------------------------------------------------------------------

    def ioctl(
        self,
        code: int,
        data: bytes | bytearray | memoryview = b"",
        *,
        size: int = 0,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> bytes:
        """A device control request: `data` goes in, up to `size` bytes come out."""
        limit = nanoseconds(timeout)
        request = self.submit_ioctl(code, data, size=size)
        self._finish(request, limit)
        return request.data

    def set(
        self,
        *,
        baudrate: int | None = None,
        bytesize: int | None = None,
        parity: str | None = None,
        stopbits: float | None = None,
    ) -> None:
        """Change line settings, behind what has been written. Names and values are pyserial's."""
        wanted = {"baudrate": baudrate, "bytesize": bytesize, "parity": parity, "stopbits": stopbits}
        check_settings({name: value for name, value in wanted.items() if value is not None})
        if baudrate is not None:
            self._set(f"set(baudrate={baudrate})", ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(baudrate))
        if bytesize is not None or parity is not None or stopbits is not None:
            now = ser.SerialLineControl.unpack(self.ioctl(ser.IOCTL_SERIAL_GET_LINE_CONTROL, size=3))
            control = ser.SerialLineControl(
                now.stop_bits if stopbits is None else ser.STOP_BITS[float(stopbits)],
                now.parity if parity is None else ser.PARITY[parity],
                now.word_length if bytesize is None else bytesize,
            )
            self._set("set(format)", ser.IOCTL_SERIAL_SET_LINE_CONTROL, control.pack())

    def _set(self, what: str, code: int, data: bytes) -> None:
        request = self._submit(Request(self, what), self.io.submit_ioctl, code, data)
        self._finish(request, DEFAULT_LIMIT)

    @property
    def baudrate(self) -> int:
        """Bits per second."""
        return ser.unpack_ulong(self.ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4))

    @property
    def dtr(self) -> bool:
        """The DTR output, as it was set last."""
        return bool(ser.unpack_ulong(self.ioctl(ser.IOCTL_SERIAL_GET_DTRRTS, size=4)) & ser.SERIAL_DTR_STATE)

    @dtr.setter
    def dtr(self, on: bool) -> None:
        self.ioctl(ser.IOCTL_SERIAL_SET_DTR if on else ser.IOCTL_SERIAL_CLR_DTR)

    @property
    def rts(self) -> bool:
        """The RTS output, as it was set last."""
        return bool(ser.unpack_ulong(self.ioctl(ser.IOCTL_SERIAL_GET_DTRRTS, size=4)) & ser.SERIAL_RTS_STATE)

    @rts.setter
    def rts(self, on: bool) -> None:
        self.ioctl(ser.IOCTL_SERIAL_SET_RTS if on else ser.IOCTL_SERIAL_CLR_RTS)

    def _modem_status(self, bit: int) -> bool:
        return bool(ser.unpack_ulong(self.ioctl(ser.IOCTL_SERIAL_GET_MODEMSTATUS, size=4)) & bit)

    @property
    def cts(self) -> bool:
        """The CTS input."""
        return self._modem_status(MSR_CTS)

    @property
    def dsr(self) -> bool:
        """The DSR input."""
        return self._modem_status(MSR_DSR)

    @property
    def ri(self) -> bool:
        """The ring indicator."""
        return self._modem_status(MSR_RI)

    @property
    def cd(self) -> bool:
        """The carrier detect input."""
        return self._modem_status(MSR_DCD)

    def set_break(self, on: bool) -> None:
        """Hold the line in the break state, or let it go; behind what has been written."""
        self.ioctl(ser.IOCTL_SERIAL_SET_BREAK_ON if on else ser.IOCTL_SERIAL_SET_BREAK_OFF)

    def send_break(self, duration: float = 0.25) -> None:
        """A break of that many seconds (pyserial's default), behind what has been written."""
        length_ns = nanoseconds(duration)
        if length_ns is None:
            raise UsageFault(f"send_break({duration!r}): a break has an end; set_break(True) begins one that has none")
        self.set_break(True)
        over = Kevent()
        try:
            self._ke.set_timer(Ktimer(), relative_ms(length_ns / 1e6), dpc=Kdpc(_signal, over))
            self._ke.wait_for_single_object(over, None)
        finally:
            self.set_break(False)

    def reset(self, recipe: str | None = None, *, discard: bool = True, timeout: float | None = DEFAULT_TIMEOUT) -> int:
        """Reset the board by `recipe`: a name or steps, as `hilbridge.bridge.recipes` has them; by default that of its `plug`.

        In its turn behind what has been written, and before what is written from now on. What this handle had not read when the
        first step began is thrown away, so that all it reads afterwards came later; with ``discard=False`` it is kept, before
        the rest. Returns how many bytes that was. If it is cancelled, the lines are put back as they were.
        """
        if recipe is None:
            recipe = self.bridge.reset_recipe(self.file)
        if recipe is None:
            raise UsageFault(
                f"reset of {self.name}: nobody has said how; give a recipe here, as reset('dtr'), or when it is plugged "
                "in, as plug(..., reset='dtr')"
            )
        limit = nanoseconds(timeout)
        payload = ser.pack_reset(parse_recipe(recipe), ser.RESET_DISCARD if discard else 0)
        request = self._submit(Request(self, "reset", 8), self.io.submit_ioctl, ser.IOCTL_HILBRIDGE_RESET, payload)
        self._finish(request, limit)
        return int.from_bytes(request.data, "little")

    @property
    def in_waiting(self) -> int:
        """Bytes that this handle could read now."""
        return ser.SerialStatus.unpack(self.ioctl(ser.IOCTL_SERIAL_GET_COMMSTATUS, size=20)).amount_in_in_queue

    @property
    def out_waiting(self) -> int:
        """Bytes that have been written and not been sent, as far as the OS says."""
        return ser.SerialStatus.unpack(self.ioctl(ser.IOCTL_SERIAL_GET_COMMSTATUS, size=20)).amount_in_out_queue

    def purge(self, *, rx: bool = True, tx: bool = True) -> None:
        """Throw away what has not been read, cancel what has not been written."""
        mask = (ser.SERIAL_PURGE_RXCLEAR | ser.SERIAL_PURGE_RXABORT if rx else 0) | (
            ser.SERIAL_PURGE_TXCLEAR | ser.SERIAL_PURGE_TXABORT if tx else 0
        )
        if mask:
            self.ioctl(ser.IOCTL_SERIAL_PURGE, ser.pack_ulong(mask))

    def console(self, prompt: str | None = None, **options: Any) -> Console[str]:
        """An expect-like console on this handle; options are those of `hilbridge.bridge.console.Console`."""
        from hilbridge.bridge.console import Console

        console: Console[str] = Console(self, prompt=prompt, **options)
        return console

    def now(self) -> float:
        """The bridge's monotonic clock, in seconds."""
        return self._ke.clock.now() / 1e9

    # -- requests ----------------------------------------------------------------------------------------------------

    def submit_read(self, n: int, *, minimum: int = 0, terminator: bytes = b"") -> Request:
        """Start a read and go on. See `hilbridge.model.parameters.ReadParameters` for `minimum` and `terminator`."""
        length(n)
        if minimum or terminator:
            self._must_stream("submit_read(minimum=, terminator=)")
        request = Request(self, f"read({n})", n)
        try:
            return self._started(self._submit(request, self.io.submit_read, n, minimum=minimum, terminator=terminator))
        except (MemoryError, OverflowError):
            raise UsageFault(f"read({n}) on {self.name}: there is no memory for that many bytes") from None

    def submit_write(self, data: bytes | bytearray | memoryview) -> Request:
        """Start a write and go on."""
        data = as_bytes(data, f"write on {self.name}")
        return self._started(self._submit(Request(self, f"write of {len(data)} bytes"), self.io.submit_write, data))

    def submit_ioctl(self, code: int, data: bytes | bytearray | memoryview = b"", *, size: int = 0) -> Request:
        """Start a device control request and go on."""
        if not isinstance(code, int) or not 0 <= code <= ser.MAXULONG:
            raise UsageFault(f"I/O control {code!r} on {self.name}: a control code is a 32-bit number")
        data = as_bytes(data, f"{_control_name(code)} on {self.name}")
        length(size)
        return self._started(self._submit(Request(self, _control_name(code), size), self.io.submit_ioctl, code, data))

    def cancel_io(self) -> int:
        """Cancel everything that this handle has outstanding; returns how many requests were asked to end."""
        return self.io.cancel_io_ex(self.file)

    # -- closing -----------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether `close` has been called, or the bridge has been closed."""
        return bool(self.file.flags & FO_CLEANUP_COMPLETE)

    def close(self) -> None:
        """Close: outstanding requests end as cancelled. Closing twice does nothing."""
        self.bridge.close_handle(self)
        if self._owns_bridge:
            self.bridge.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # The exception that is on its way says what went wrong; one from closing would hide it.
            with contextlib.suppress(HilbridgeError):
                self.close()

    def __del__(self) -> None:
        # A finalizer runs anywhere, also inside the model: it only tells.
        bridge = getattr(self, "bridge", None)
        if bridge is not None and not self.closed:
            bridge.orphaned(self.file, owns_bridge=self._owns_bridge)

    # -- inner parts -------------------------------------------------------------------------------------------------

    def _must_stream(self, method: str) -> None:
        if not self.file.device_object.top.flags & DO_STREAM_READ:
            raise UsageFault(f"{method} on {self.name}: its driver reads packets, not a stream; use read(n)")

    def _submit(self, request: Request, submit: Any, *args: Any, **options: Any) -> Request:
        processor = self._ke.current()
        processor.inside += 1
        try:
            submit(request, *args, **options)
        except NtStatusError as error:
            raise from_nt_status(error, request.what, self.name) from None
        finally:
            processor.inside -= 1
        return request

    def _started(self, request: Request) -> Request:
        if not request.done:
            self._tasks.add(request)
        return request

    def _fast_read(self, n: int, minimum: int, terminator: bytes, briefly: bool) -> bytes | None:
        processor = self._local.processor or self._ke.current()
        processor.inside += 1
        try:
            data = self.io.fast_read(processor, self.file, n, minimum, terminator, briefly)
        finally:
            processor.inside -= 1
        if processor.sigint:
            self._interrupted(processor, data)
        return data

    def _interrupted(self, processor: Processor, data: bytes | None) -> None:
        """SIGINT came while bytes were on their way: they go back to the log, and KeyboardInterrupt is raised."""
        if data:
            self.give_back(data)
        self._ke.leave(processor)

    def _read(self, what: str, n: int, minimum: int, terminator: bytes, timeout: float | None) -> Request:
        limit = nanoseconds(timeout)
        # From here until the bytes are in the caller's hands SIGINT is held back: `inside` is 0 in the wait only.
        processor = self._ke.current()
        processor.inside += 1
        try:
            request = Request(self, what, n)
            try:
                self.io.submit_read(request, n, minimum=minimum, terminator=terminator)
            except NtStatusError as error:
                raise from_nt_status(error, what, self.name) from None
            except (MemoryError, OverflowError):
                raise UsageFault(f"{what} on {self.name}: there is no memory for that many bytes") from None
            try:
                if not request.done and not request.wait_ended(processor, limit):
                    self._timed_out(request, limit)
            except KeyboardInterrupt:
                # It was completed just then: nobody will get its bytes.
                self.give_back(request.data)
                raise
            if processor.sigint:
                self.give_back(request.data)
        finally:
            processor.inside -= 1
        if processor.sigint:
            self._ke.leave(processor)
        if request.status.is_error:
            raise self.fault(request)
        return request

    def _finish(self, request: Request, limit: int | None) -> None:
        processor = self._ke.current()
        processor.inside += 1
        try:
            if not request.done and not request.wait_ended(processor, limit):
                self._timed_out(request, limit)
        finally:
            processor.inside -= 1
        if processor.sigint:
            self._ke.leave(processor)
        if not request.status.is_success:
            raise self.fault(request)

    def _timed_out(self, request: Request, limit: int | None) -> None:
        """The deadline passed and the request was cancelled. It may have been done just then: that is a success."""
        if request.disowned:
            raise self.fault(request)
        if request.data or (request.status.is_success and request.status != STATUS_TIMEOUT):
            return
        partial = b""
        with contextlib.suppress(HilbridgeError):
            if request.capacity and request.what.startswith("read"):
                partial = self.ioctl(ser.IOCTL_HILBRIDGE_PEEK, size=min(request.capacity, READ_SOME))
        moved = f"; {request.information} bytes were accepted" if request.what.startswith("write") else ""
        got = f"; {len(partial)} bytes are there, and stay there" if partial else ""
        fault = DeviceTimeout(
            f"{request.what} on {self.name} did not end within {(limit or 0) / 1e9:g} s{got}{moved}",
            irp_id=request.irp.id if request.irp is not None else None,
            partial=partial,
        )
        fault.information = request.information or fault.information
        raise fault

    def give_back(self, data: bytes) -> None:
        """Put what a read has brought back to the front of the receive log."""
        if not data:
            return
        with contextlib.suppress(HilbridgeError):
            self.ioctl(ser.IOCTL_HILBRIDGE_UNREAD, data)

    def fault(self, request: Request) -> HilbridgeError:
        """The exception for how a request ended."""
        if request.status.is_success:
            return DeviceFault(f"{request.what} on {self.name} ended with {request.status.name}", status=request.status)
        if self.io.closed is not None and self.closed:
            return BridgeClosed(f"{request.what} on {self.name}: the bridge was closed", status=request.status)
        fault = fault_of(request.status, self.file, request.what, self.name, request.irp)
        fault.information = request.information or fault.information
        return fault

    def _removal_status(self, request: Request) -> Any:
        removed = self.file.device_object.device_stack.removed
        return removed.status if removed is not None else request.status


def _signal(_dpc: Kdpc, event: Kevent, _a: object, _b: object) -> None:
    event.set()


_CONTROL_NAMES = {value: name for name, value in vars(ser).items() if name.startswith("IOCTL_")}


def _control_name(code: int) -> str:
    return _CONTROL_NAMES.get(code) or f"I/O control 0x{code:08X} (function {ioctl_function(code)})"
