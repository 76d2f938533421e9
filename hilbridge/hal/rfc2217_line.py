"""``rfc2217://host:port``: a serial port behind a TCP connection, with its settings and modem lines.

pyserial negotiates (telnet options, COM port options, waiting for answers). The bytes go past it: its client puts every
single one into an unbounded queue, forgets those that are still in it when the connection ends, and gives up a write
that the far end does not take within five seconds, without a word on how much it took.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import serial.rfc2217
from serial.rfc2217 import INACTIVE, REALLY_INACTIVE

from hilbridge.hal.monikers import host_and_port
from hilbridge.hal.pump import JOIN_SECONDS, PumpedLine
from hilbridge.hal.pyserial import check_settings, store_settings
from hilbridge.hal.socket_line import watch_over
from hilbridge.hal.telnet import TelnetFilter
from hilbridge.model.hardware import LineSettings

RECEIVE_SIZE = 16384


class _ReaderThread(threading.Thread):
    """A thread on which pyserial may call the two setters that Python deprecates (and warns of) since 3.10."""

    def setDaemon(self, daemonic: bool) -> None:  # noqa: N802 - Python's name
        self.daemon = daemonic

    def setName(self, name: str) -> None:  # noqa: N802 - Python's name
        self.name = name


class Rfc2217Port(serial.rfc2217.Serial):
    """pyserial's client with a byte path of our own: `receive(data)` may block, `ended(exception or None)` is last."""

    _socket: socket.socket | None

    def __init__(
        self,
        url: str,
        settings: LineSettings,
        receive: Callable[[bytes], bool],
        ended: Callable[[BaseException | None], None],
        *,
        flush_on_open: bool,
    ) -> None:
        self._reader: _ReaderThread | None = None
        self._receive = receive
        self._ended = ended
        self._keep_input = not flush_on_open
        self._over = False
        """The reader has seen the end of the connection."""
        self._closing = False
        """We have ended it: then its end is no news."""
        self._pid = os.getpid()
        engine: Any = self  # pyserial's methods that the filter calls are private, and have no types
        self._filter = TelnetFilter(
            lambda verb, option: engine._telnet_negotiate_option(bytes([verb]), bytes([option])),
            engine._telnet_process_subnegotiation,
            lambda command: engine._telnet_process_command(bytes([command])),
        )
        super().__init__(None)
        self.port = url
        store_settings(self, settings)

    @property
    def _thread(self) -> _ReaderThread | None:
        return self._reader

    @_thread.setter
    def _thread(self, thread: threading.Thread | None) -> None:
        # open() assigns a plain Thread here, names it and starts it.
        self._reader = None if thread is None else _ReaderThread(target=self._telnet_read_loop)

    def open(self) -> None:
        """Connect and negotiate. What the far end said before (a banner, a prompt) is kept."""
        super().open()
        self._keep_input = False
        # pyserial leaves its connection time-out of 5 s on the socket, where it would end reads and, worse, writes.
        assert self._socket is not None
        self._socket.settimeout(None)
        watch_over(self._socket)

    def reset_input_buffer(self) -> None:
        """Ask the far end to purge what it has received. Nothing while opening, which pyserial would begin with it."""
        if not self._keep_input:
            super().reset_input_buffer()

    def interrupt(self) -> None:
        """End the connection, which ends everything that waits for it."""
        self._closing = True
        self._shutdown(socket.SHUT_RDWR)

    def stop_receiving(self) -> None:
        """Let the reader see what has arrived, and then the end."""
        self._shutdown(socket.SHUT_RD)

    def _shutdown(self, how: int) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(how)
            except OSError:
                pass  # it had ended before

    def close(self) -> None:
        """Let go of the connection. (Python's finalizer calls this, too.)

        In a forked child only its copy of the descriptor is closed: the connection is the parent's.
        """
        self.is_open = False
        connection = self._socket
        if connection is None:
            return
        if os.getpid() == self._pid:
            self.interrupt()
            reader = self._reader
            if reader is not None and reader is not threading.current_thread():
                reader.join(JOIN_SECONDS)
        self._socket = None
        connection.close()

    def _telnet_read_loop(self) -> None:
        # On the reader thread; replaces pyserial's loop over single bytes.
        connection = self._socket
        assert connection is not None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    received = connection.recv(RECEIVE_SIZE)
                except TimeoutError:
                    continue  # only while opening
                if not received:
                    break
                data = self._filter.feed(received)
                if data:
                    # After close() has begun this says False, and the rest is read for the sake of the far end: a
                    # connection that is closed with unread bytes is reset, and a reset overtakes what we sent last.
                    self._receive(data)
        except BaseException as exc:  # noqa: BLE001 - handed to the line, which raises it where it is read
            failure = exc
        if not self._closing:
            self._ended(failure)
        self._end_waits()

    def _end_waits(self) -> None:
        # pyserial waits for answers by looking at these states until its time is up: without a reader nothing would
        # come. First the flag, then the states: a request in between fails at the one or at the other.
        self._over = True
        engine: Any = self
        for option in engine._telnet_options:
            option.state, option.active = INACTIVE, False
        for setting in engine._rfc2217_options.values():
            setting.state = REALLY_INACTIVE

    def _internal_raw_write(self, data: bytes) -> None:
        # Every request and answer of pyserial's goes through here (but not the data).
        if self._over:
            raise BrokenPipeError(errno.EPIPE, "the far end has closed the connection")
        super()._internal_raw_write(data)  # type: ignore[misc]


class Rfc2217Line(PumpedLine):
    """The line of one connection. Made by `open_rfc2217_line`."""

    def __init__(self, url: str, settings: LineSettings, *, flush_on_open: bool) -> None:
        super().__init__(url, settings)
        self._rfc2217 = Rfc2217Port(url, settings, self._receive, self._receive_ended, flush_on_open=flush_on_open)
        self._port = self._rfc2217
        self._modem = True
        self._flush = flush_on_open

    def _start(self) -> None:
        super()._start()
        if self._flush:
            # pyserial has asked the far end to purge and has emptied its own queue, which the bytes never see.
            with self._lock:
                self._forget_received()
                self._update()

    def _stop_receiving(self) -> None:
        self._rfc2217.stop_receiving()

    def _interrupt(self) -> None:
        self._rfc2217.interrupt()

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._rfc2217.close()


def open_rfc2217_line(url: str, settings: LineSettings, *, flush_on_open: bool = False) -> Rfc2217Line:
    """Connect, negotiate, program the far port. Options after ``?`` are pyserial's (``ign_set_control``, ``timeout``).

    Raises `DeviceNotFound`, `DeviceTimeout`, `DeviceUnsupported` (not an RFC2217 server, or a setting that it refuses) or
    another `DeviceFault`; what the far end had said until then is in its ``partial``.
    """
    check_settings(url, settings)
    host_and_port(url)
    line = Rfc2217Line(url, settings, flush_on_open=flush_on_open)
    line.open()
    return line
