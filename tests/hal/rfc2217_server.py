"""An RFC2217 server for the tests: pyserial's own engine, on a `loop://` port, in threads.

What a client sends comes back to it, for that is what the port does; `port.write` is what the board says.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import serial
from serial.rfc2217 import PortManager
from serial.urlhandler.protocol_loop import Serial as LoopPort

from hilbridge.hal.pump import open_pumped_line
from hilbridge.hal.rfc2217_line import Rfc2217Line
from hilbridge.model.hardware import CAUSE_RX, CAUSE_TX
from tests.hal.halkit import PATIENCE, SETTINGS, is_readable

SMALL = 16384
"""Socket buffers, so that tests that fill them are quick."""


class PickyPort(LoopPort):
    """A port that lacks one baud rate and, like a UART, says so when it is programmed."""

    MISSING = 12345

    def _reconfigure_port(self) -> None:
        if self.baudrate == self.MISSING:
            raise ValueError("no such divisor")
        super()._reconfigure_port()  # type: ignore[misc]


class Rfc2217Server:
    """Serves one client at a time."""

    def __init__(self) -> None:
        self.port: Any = PickyPort(None)
        self.port.port = "loop://"
        self.port.baudrate = 115200
        self.port.open()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.url = f"rfc2217://{self.address}"
        self.end: socket.socket | None = None
        self.manager: Any = None
        self.greeting = b""
        self.refuse = False
        """Say the greeting and hang up, as a server does whose port is taken."""
        self.may_read = threading.Event()
        self.may_read.set()
        self.may_hang_up = threading.Event()
        """Cleared: the end of the client's stream is not answered with the end of ours."""
        self.may_hang_up.set()
        self.idle = threading.Event()
        """The last client has been served to its end."""
        self._closing = False
        self._writing = threading.Lock()
        self._server_thread = threading.Thread(target=self._serve)
        self._board_thread = threading.Thread(target=self._say)
        self._server_thread.start()
        self._board_thread.start()

    def write(self, data: bytes) -> None:
        """Raw bytes to the client: pyserial's engine sends its commands with this."""
        end = self.end
        if end is not None:
            with self._writing, contextlib.suppress(OSError):
                end.sendall(data)

    def _serve(self) -> None:
        while True:
            try:
                self.end = self.server.accept()[0]
            except OSError:
                return
            self.idle.clear()
            if self.refuse:
                # The client's five requests for options are read first: an unread byte would make a reset of the end.
                self.end.recv(15, socket.MSG_WAITALL)
            self.write(self.greeting)
            if not self.refuse:
                itself: Any = self
                self.manager = PortManager(self.port, itself)
                self._hear(self.end)
                self.may_hang_up.wait(PATIENCE)
            self.end.close()
            self.idle.set()

    def _hear(self, end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := end.recv(4096):
                self.may_read.wait(PATIENCE)
                if self._closing:
                    break
                for byte in self.manager.filter(received):
                    self.port.write(byte)

    def _say(self) -> None:
        with contextlib.suppress(serial.SerialException):
            while byte := self.port.read(1):
                data = byte + self.port.read(self.port.in_waiting)
                self.write(data.replace(b"\xff", b"\xff\xff"))

    def hang_up(self) -> None:
        """End the connection, after what was said."""
        assert self.end is not None
        self.end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing = True
        self.may_read.set()
        self.may_hang_up.set()
        # To close a socket does not end an accept() or recv() that waits on it; to shut it down does.
        for each in (self.server, self.end):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._server_thread.join(PATIENCE)
        self.port.close()
        self._board_thread.join(PATIENCE)
        self.server.close()
        if self.end is not None:
            self.end.close()


def open_it(server: Rfc2217Server, options: str = "", **more: Any) -> Rfc2217Line:
    line = open_pumped_line(server.url + options, SETTINGS, **more)
    assert isinstance(line, Rfc2217Line)
    line.enable_interrupts(CAUSE_RX)
    return line


def stuff(line: Rfc2217Line) -> int:
    """Write until nothing goes any more, because the far end does not read."""
    connection = line._rfc2217._socket
    assert connection is not None
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    line.enable_interrupts(CAUSE_TX)
    sent = 0
    while is_readable(line.fileno(), 0.3):
        sent += line.write(bytes(65536))
    line.enable_interrupts(0)
    return sent
