"""Plain bytes over TCP as a `Line`: ``socket://host:port``.

A socket of our own instead of pyserial's ``socket://`` handler: that one waits with select(), throws away what has
arrived when it opens, and sleeps 0.3 s in close(). The far end owns its baud rate and its modem lines; a socket carries
neither.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import time

from hilbridge.hal.monikers import CONNECT_TIMEOUT, host_and_port
from hilbridge.hal.oserrors import OPEN, fault_from
from hilbridge.hal.pinned import PinnedLine
from hilbridge.hal.pyserial import check_settings
from hilbridge.model.errors import DeviceFault, DeviceGone, DeviceNotFound, DeviceUnsupported
from hilbridge.model.hardware import LineSettings

_WORD = struct.Struct("I")


def open_socket_line(url: str, settings: LineSettings, *, timeout: float = CONNECT_TIMEOUT) -> SocketLine:
    """Connect within `timeout` seconds (looking up a host name has the resolver's own bound).

    Raises `DeviceNotFound` (no such host, or nobody listens), `DeviceTimeout`, or another `DeviceFault`.
    """
    check_settings(url, settings)
    host, port = host_and_port(url)
    try:
        return SocketLine(url, connect(host, port, timeout), settings)
    except DeviceFault:
        raise
    except OSError as exc:
        raise fault_from(exc, name=url, doing=OPEN) from exc


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A connected, non-blocking socket without Nagle's delay; the addresses of `host` share the `timeout`."""
    deadline = time.monotonic() + timeout
    failure: OSError = DeviceNotFound(f"{host} has no address: is its name spelled right?")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            # A time-out of 0 would mean "do not wait", and fail with EINPROGRESS instead of a time-out.
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect(address)
            connection.setblocking(False)
            watch_over(connection)
        except OSError as exc:
            connection.close()
            failure = exc
        else:
            return connection
    raise failure


def watch_over(connection: socket.socket) -> None:
    """Send small writes at once, and notice within half a minute that the far end's machine has vanished."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


class SocketLine(PinnedLine):
    """A TCP connection. Made by `open_socket_line`. The rules for threads are those of `SerialLine`."""

    __slots__ = ("_pid", "_socket", "name", "settings")

    has_modem_lines = False

    def __init__(self, name: str, connection: socket.socket, settings: LineSettings) -> None:
        super().__init__()
        self.name = name
        self.settings = settings
        """What was asked for. Nothing here is programmed with it."""
        self._socket = connection
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<SocketLine {self.name} fd={self._socket.fileno()}>"

    # -- interrupts --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._socket.fileno()

    # -- bytes -------------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> bytes:
        """Up to `limit` bytes. The kernel gives out what had arrived before it tells that the far end has closed."""
        try:
            data = self._socket.recv(limit)
        except BlockingIOError:
            return b""
        except OSError as exc:
            raise fault_from(exc, name=self.name, doing="read from") from exc
        if not data and limit > 0:
            raise DeviceGone(f"{self.name}: the far end has closed the connection; open it again when it is back")
        if self._pin is not None:
            self._pin.moved = True
        return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes TCP has accepted; 0 if it has no room now."""
        try:
            # Without MSG_NOSIGNAL a closed connection kills programs that have set SIGPIPE to its default.
            count = self._socket.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise fault_from(exc, name=self.name, doing="write to") from exc
        if self._pin is not None:
            self._pin.moved = True
        return count

    def output_waiting(self) -> int:
        """Bytes that the far end's machine has not acknowledged yet (SIOCOUTQ, which is TIOCOUTQ)."""
        return self._get_word(termios.TIOCOUTQ)

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        """Throw away what has arrived until now. What TCP has accepted counts as sent: nobody can take it back."""
        left = self._get_word(termios.FIONREAD) if rx else 0
        while left > 0:
            left -= len(self.read(min(left, 65536))) or left

    def _get_word(self, request: int) -> int:
        try:
            return int(_WORD.unpack(fcntl.ioctl(self._socket, request, bytes(_WORD.size)))[0])
        except (OSError, ValueError) as exc:  # ValueError: closed
            raise fault_from(exc, name=self.name, doing="ask for the queues of") from exc

    # -- settings and modem lines ------------------------------------------------------------------------------------

    def configure(self, settings: LineSettings) -> None:
        """Remember the settings, if they are possible at all. The far end programs its port itself."""
        check_settings(self.name, settings)
        if self._socket.fileno() < 0:
            raise DeviceGone(f"cannot configure {self.name}: it was closed; open it again")
        self.settings = settings

    def modem_status(self) -> int:
        raise self._unsupported("modem lines")

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        raise self._unsupported("DTR and RTS")

    def set_break(self, on: bool) -> None:
        raise self._unsupported("break")

    def _unsupported(self, what: str) -> DeviceUnsupported:
        return DeviceUnsupported(f"{self.name} has no {what}: a socket carries bytes only; try rfc2217://")

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection. What was written is still sent."""
        if self._socket.fileno() >= 0 and os.getpid() == self._pid:
            # TCP resets a connection that is closed with unread bytes, and a reset overtakes what was sent last.
            try:
                self.discard(rx=True)
            except OSError:
                pass  # gone already
        self._socket.close()

    def after_fork_in_child(self) -> None:
        """Close this process's copy of the descriptor; the parent's connection goes on."""
        self._socket.close()
