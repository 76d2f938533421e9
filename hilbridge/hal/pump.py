"""Lines without a descriptor of their own: a thread per direction, and an eventfd that stands for the interrupt line.

pyserial's `rfc2217://`, `loop://` and `spy://` objects can only be asked with blocking calls. So one thread blocks in
their read() and fills a bounded buffer, another takes from a bounded queue and blocks in their write(). In front of the
two stands what a driver expects: a UART whose calls do not block.

The eventfd is readable exactly while this UART asserts its interrupt:

    bytes are waiting and CAUSE_RX is enabled, or there is room and CAUSE_TX is enabled, or CAUSE_GONE was not yet told

so that the kernel's selector serves it like any port, steering included. All three are recomputed under one lock at
each change (`_update`): no wake-up is lost, whichever thread brings it.

Back-pressure: a full receive buffer stops the receiving thread, and with it the far end.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from hilbridge.hal.oserrors import OPEN, REFUSALS, fault_from
from hilbridge.hal.pyserial import check_settings, store_settings
from hilbridge.model.errors import DeviceFault, DeviceGone, DeviceTimeout, DeviceUnsupported
from hilbridge.model.hardware import (
    CAUSE_GONE,
    CAUSE_RX,
    CAUSE_TX,
    MSR_CTS,
    MSR_DCD,
    MSR_DSR,
    MSR_RI,
    InterruptPin,
    LineSettings,
)

log = logging.getLogger("hilbridge.hal")

RX_LIMIT = 256 * 1024
TX_LIMIT = 64 * 1024
CHUNK = 4096

LINGER_SECONDS = 1.0
"""How long close() waits for accepted bytes to be sent."""
JOIN_SECONDS = 2.0
CONFIGURE_SECONDS = 8.0
"""How long configure() waits: pyserial asks the far end twice, with a network time-out of 3 s each."""


class _Command:
    """Something to do on the transmit thread, in its turn among the bytes."""

    __slots__ = ("doing", "done", "work")

    def __init__(self, work: Callable[[], None], doing: str) -> None:
        self.work = work
        self.doing = doing
        self.done: Future[None] = Future()


class PumpedLine:
    """The common part: the UART's face, the buffers and the transmit thread. A subclass brings the receiving thread."""

    def __init__(self, name: str, settings: LineSettings) -> None:
        self.name = name
        self.settings = settings
        """What the port is programmed to."""
        self._port: Any = None
        self._modem = False
        self._pid = os.getpid()
        self._pin: InterruptPin | None = None
        self._pin_enabled = False
        self._lock = threading.Lock()
        self._rx_room = threading.Condition(self._lock)
        self._tx_work = threading.Condition(self._lock)
        self._tx_idle = threading.Condition(self._lock)
        # All below is guarded by the lock.
        self._rx = bytearray()
        self._rx_ended = False
        self._tx: deque[bytes | _Command] = deque()
        self._tx_size = 0
        """Bytes accepted and not yet sent, those in the hands of the transmit thread included."""
        self._tx_busy = False
        self._mask = 0
        self._fault: DeviceGone | None = None
        """Why the line is dead. Writes fail with it at once, reads when the last byte has been read."""
        self._late: DeviceFault | None = None
        """A modem line or break that failed after its caller had gone on: the next such call raises it."""
        self._gone_told = False
        self._stopping = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asserted = False
        self._transmitter = threading.Thread(target=self._transmit, name=f"transmit {name}", daemon=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} fd={self._event}>"

    # -- what a subclass brings --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the port and start the threads; raises `DeviceFault`, and then nothing is left open.

        What the far end had said until then is in the fault's ``partial``.
        """
        try:
            self._start()
        except BaseException as exc:
            lost = self._fault
            received = self.abandon()
            if isinstance(exc, DeviceFault) or not isinstance(exc, REFUSALS):
                raise
            # If the connection has ended meanwhile, that is the reason, whatever pyserial's negotiation made of it.
            reason = exc if lost is None else ConnectionResetError(errno.ECONNRESET, "closed")
            fault = fault_from(reason, name=self.name, doing=OPEN)
            fault.partial = received
            raise fault from exc

    def _start(self) -> None:
        self._port.open()
        self._transmitter.start()

    def _stop_receiving(self) -> None:
        """Make the receiving thread end, after what has arrived already."""
        raise NotImplementedError

    def _interrupt(self) -> None:
        """Wake both threads out of the port's blocking calls."""
        raise NotImplementedError

    # -- interrupts --------------------------------------------------------------------------------------------------

    @property
    def has_modem_lines(self) -> bool:
        """Whether the object behind has modem lines: those of the far port, or pyserial's imitation of them."""
        return self._modem

    def fileno(self) -> int:
        """The eventfd; -1 once closed."""
        return self._event

    def connect(self, pin: InterruptPin) -> None:
        self._pin = pin
        pin.moved = False

    def enable_interrupts(self, causes: int) -> None:
        with self._lock:
            self._mask = causes
            self._update()
        # For the selector there is one cause only, "the eventfd is readable", and it cannot be masked: CAUSE_GONE comes
        # through it as well. Which of our causes may make it readable is decided here. (Were CAUSE_TX passed on, the
        # selector would ask whether the eventfd is *writable*, which it always is.)
        if self._pin is not None and not self._pin_enabled:
            self._pin_enabled = True
            self._pin.enable(CAUSE_RX)

    def causes(self) -> int:
        if self._pin is not None:
            self._pin.take()
        with self._lock:
            causes = self._pending()
            if causes & CAUSE_GONE:
                self._gone_told = True
                self._update()
        return causes

    def asserted(self) -> bool:
        """Never: the selector asks the eventfd again."""
        return False

    def _pending(self) -> int:
        causes = 0
        if self._rx and self._mask & CAUSE_RX:
            causes = CAUSE_RX
        if self._mask & CAUSE_TX and self._tx_size < TX_LIMIT and self._fault is None:
            causes |= CAUSE_TX
        if self._rx_ended and not self._gone_told:
            causes |= CAUSE_GONE
        return causes

    def _update(self) -> None:
        asserted = self._pending() != 0
        if asserted is not self._asserted and self._event >= 0:
            self._asserted = asserted
            if asserted:
                os.eventfd_write(self._event, 1)
            else:
                os.eventfd_read(self._event)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> bytes:
        """Up to `limit` received bytes; `DeviceGone` after the last, if the line has died."""
        with self._lock:
            if not self._rx:
                if self._rx_ended and limit > 0:
                    raise self._dead()
                return b""
            if limit >= len(self._rx):
                data = bytes(self._rx)
                self._rx.clear()
            else:
                data = bytes(self._rx[:limit])
                del self._rx[:limit]
            self._rx_room.notify_all()
            self._update()
            if data and self._pin is not None:
                self._pin.moved = True
            return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes the queue has taken; 0 if it has no room now."""
        with self._lock:
            if self._fault is not None:
                raise self._dead()
            count = min(len(data), TX_LIMIT - self._tx_size)
            if count > 0:
                self._tx.append(bytes(data[:count]))
                self._tx_size += count
                self._tx_work.notify_all()
                self._update()
                if self._pin is not None:
                    self._pin.moved = True
            return count

    def output_waiting(self) -> int:
        """Bytes accepted and not yet handed to pyserial; 1 if there are none, but a command is on its way."""
        with self._lock:
            return self._tx_size or int(bool(self._tx) or self._tx_busy)

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        """Throw away what is buffered here, at once, and what is behind, in its turn among the writes."""
        with self._lock:
            if rx:
                self._forget_received()
            if tx:
                commands = [item for item in self._tx if isinstance(item, _Command)]
                self._tx_size -= sum(len(item) for item in self._tx if not isinstance(item, _Command))
                self._tx = deque(commands)
            self._update()
        if rx:
            self._command(self._purge_received, "empty the input buffer of")
        if tx:
            self._command(self._port.reset_output_buffer, "empty the output buffer of")

    def _purge_received(self) -> None:
        self._port.reset_input_buffer()
        # What came between the request and its confirmation is older than the confirmation.
        with self._lock:
            self._forget_received()
            self._update()

    def _forget_received(self) -> None:
        self._rx.clear()
        self._rx_room.notify_all()

    # -- settings and modem lines ------------------------------------------------------------------------------------

    def configure(self, settings: LineSettings) -> None:
        """Program the port, in its turn among the writes. If a setting is refused, the port keeps those that it had.

        The one method here that waits: only the far end can tell whether it takes the settings. At most
        CONFIGURE_SECONDS; not at all when nothing changes. Call it at PASSIVE_LEVEL.
        """
        check_settings(self.name, settings)
        if settings == self.settings:
            return
        command = self._command(lambda: self._program(settings), "configure")
        try:
            command.done.result(CONFIGURE_SECONDS)
        except CancelledError:
            raise self._dead() from None
        except DeviceFault:
            raise
        except REFUSALS as exc:
            if not command.done.done():
                command.done.cancel()
                raise DeviceTimeout(
                    f"{self.name} did not take its settings within {CONFIGURE_SECONDS:g} s: does its far end still read?"
                ) from exc
            raise fault_from(exc, name=self.name, doing="configure") from exc

    def _program(self, settings: LineSettings) -> None:
        store_settings(self._port, settings)
        try:
            self._port._reconfigure_port()
        except REFUSALS:
            store_settings(self._port, self.settings)
            try:
                self._port._reconfigure_port()
            except REFUSALS:
                pass  # the first refusal is what the caller has to know
            raise
        self.settings = settings

    def modem_status(self) -> int:
        self._need_modem_lines("modem lines")
        port = self._port
        try:
            lines = ((port.cts, MSR_CTS), (port.dsr, MSR_DSR), (port.ri, MSR_RI), (port.cd, MSR_DCD))
        except REFUSALS as exc:
            raise fault_from(exc, name=self.name, doing="ask for the modem lines of") from exc
        return sum(msr for state, msr in lines if state)

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Set the outputs in their turn among the writes. A failure is raised by the next call of this kind."""
        self._need_modem_lines("DTR and RTS")

        def work() -> None:
            if dtr is not None:
                self._port.dtr = dtr
            if rts is not None:
                self._port.rts = rts

        self._command(work, "set DTR or RTS of")

    def set_break(self, on: bool) -> None:
        """Begin or end a break in its turn among the writes. A failure is raised by the next call of this kind."""
        self._need_modem_lines("break")
        self._command(lambda: setattr(self._port, "break_condition", on), "set the break state of")

    def _need_modem_lines(self, what: str) -> None:
        if not self._modem:
            raise DeviceUnsupported(f"{self.name} has no {what}: there is no UART behind it")

    def _command(self, work: Callable[[], None], doing: str) -> _Command:
        command = _Command(work, doing)
        with self._lock:
            if self._fault is not None:
                raise self._dead()
            late, self._late = self._late, None
            if late is not None:
                raise late
            self._tx.append(command)
            self._tx_work.notify_all()
        return command

    # -- the threads -------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> bool:
        """Called by the receiving thread; waits while the buffer is full. False: stop."""
        with self._lock:
            while len(self._rx) >= RX_LIMIT and not self._stopping:
                self._rx_room.wait()
            if self._stopping:
                return False
            self._rx += data
            self._update()
            return True

    def _receive_ended(self, exc: BaseException | None) -> None:
        """The receiving thread's last word: `exc`, or None when the far end has closed."""
        with self._lock:
            self._rx_ended = True
            self._latch(exc, "read from")
            self._update()

    def _latch(self, exc: BaseException | None, doing: str) -> None:
        if self._fault is None:
            if exc is None:
                fault = DeviceGone(f"{self.name}: the far end has closed the connection; open it again when it is back")
            else:
                meant = fault_from(exc, name=self.name, doing=doing)
                fault = meant if isinstance(meant, DeviceGone) else DeviceGone(f"{self.name} is lost: {meant.message}")
                fault.__cause__ = exc
            self._fault = fault
        # Nobody will send what is still queued.
        for item in self._tx:
            if isinstance(item, _Command):
                item.done.cancel()
        self._tx.clear()
        self._tx_size = 0
        self._tx_idle.notify_all()

    def _dead(self) -> DeviceGone:
        fault = self._fault
        assert fault is not None
        again = DeviceGone(fault.message, status=fault.status)
        again.__cause__ = fault.__cause__
        return again

    def _transmit(self) -> None:
        while True:
            with self._lock:
                self._tx_busy = False
                if not self._tx:
                    self._tx_idle.notify_all()
                while not self._tx and not self._stopping:
                    self._tx_work.wait()
                if self._stopping:
                    return
                item = self._tx.popleft()
                if not isinstance(item, _Command) and len(item) > CHUNK:
                    self._tx.appendleft(item[CHUNK:])
                    item = item[:CHUNK]
                self._tx_busy = True
            if isinstance(item, _Command):
                self._obey(item)
                continue
            try:
                self._port.write(item)
            except BaseException as exc:  # noqa: BLE001 - latched, and raised by the next write
                with self._lock:
                    self._tx_busy = False
                    if not self._stopping:
                        self._latch(exc, "write to")
                        self._update()
                self._stop_receiving()
                return
            with self._lock:
                if self._fault is None:
                    self._tx_size -= len(item)
                self._update()

    def _obey(self, command: _Command) -> None:
        if not command.done.set_running_or_notify_cancel():
            return
        try:
            command.work()
        except BaseException as exc:  # noqa: BLE001 - handed to the caller, or to the next one
            with self._lock:
                # If the connection has ended meanwhile, that is the reason, and everybody hears of it.
                lost = self._dead() if self._fault is not None else None
            command.done.set_exception(lost or exc)
            if lost is None and command.doing != "configure":
                fault = fault_from(exc, name=self.name, doing=command.doing)
                log.warning("%s", fault)
                with self._lock:
                    self._late = fault
        else:
            command.done.set_result(None)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what was accepted, within LINGER_SECONDS, and end both threads."""
        if os.getpid() != self._pid:
            self.after_fork_in_child()
            return
        deadline = time.monotonic() + LINGER_SECONDS
        with self._lock:
            while (self._tx or self._tx_busy) and self._fault is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._tx_idle.wait(left):
                    log.warning("%s: closed with %d bytes unsent, which nobody took", self.name, self._tx_size)
                    break
        self.abandon()

    def abandon(self) -> bytes:
        """Stop without waiting for anything to be sent; returns what was received and not read."""
        with self._lock:
            event, self._event = self._event, -1
            if event < 0:
                return b""
            os.close(event)
            self._stopping = True
            self._latch(None, "close")
            self._fault = DeviceGone(f"{self.name} was closed; open it again")
            unread = bytes(self._rx)
            self._rx.clear()
            self._rx_ended = True
            self._rx_room.notify_all()
            self._tx_work.notify_all()
        self._interrupt()
        self._join(self._transmitter)
        try:
            self._port.close()
        except REFUSALS as exc:
            log.warning("%s", fault_from(exc, name=self.name, doing="close"))
        return unread

    def _join(self, thread: threading.Thread) -> None:
        if not thread.is_alive() or thread is threading.current_thread():
            return
        thread.join(JOIN_SECONDS)
        if thread.is_alive():
            log.error("%s: the thread %r does not end; it is left behind", self.name, thread.name)

    def after_fork_in_child(self) -> None:
        """Close this process's copy of the descriptor. Takes no lock: its owner may not exist in this process."""
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)


def open_pumped_line(url: str, settings: LineSettings, *, flush_on_open: bool = False) -> PumpedLine:
    """Open a pyserial URL whose object has no usable descriptor. Raises `DeviceFault`; no thread is left then."""
    if url.lower().startswith("rfc2217://"):
        from hilbridge.hal.rfc2217_line import open_rfc2217_line

        return open_rfc2217_line(url, settings, flush_on_open=flush_on_open)
    from hilbridge.hal.blocking_line import open_blocking_line

    return open_blocking_line(url, settings, flush_on_open=flush_on_open)
