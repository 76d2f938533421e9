"""A serial port, or a pty, as a `Line`: pyserial opens and configures it, we read and write the descriptor.

pyserial's own read() and write() lose bytes when the line hangs up, misreport what a cancelled write has sent, wait with
select() (no descriptor above 1023) and cannot be waited for from outside. The descriptor can: it is non-blocking, and
its readiness is the interrupt. What remains of pyserial is what it is good at: knowing how a port is opened and
programmed on this system.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios
import threading
from pathlib import Path

from hilbridge.hal import locks
from hilbridge.hal.oserrors import OPEN, REFUSALS, fault_from, not_a_port
from hilbridge.hal.pinned import PinnedLine
from hilbridge.hal.pyserial import check_settings, serial, store_settings
from hilbridge.model.errors import DeviceFault, DeviceGone, DeviceUnsupported
from hilbridge.model.hardware import MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI, LineSettings
from hilbridge.model.status import STATUS_DEVICE_BUSY

_MSR = (
    (termios.TIOCM_CTS, MSR_CTS),
    (termios.TIOCM_DSR, MSR_DSR),
    (termios.TIOCM_RI, MSR_RI),
    (termios.TIOCM_CD, MSR_DCD),
)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFREG: "a regular file",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
}
# As pyserial's serialposix.py has them, from asm-generic; Python's termios does not.
CMSPAR = 0o10000000000
TCGETS2 = 0x802C542A
TIOCSBRK, TIOCCBRK = 0x5427, 0x5428

_WORD = struct.Struct("I")
_NO_WORD = bytes(4)
_TERMIOS2 = struct.Struct("4I 20B 2I")  # asm-generic/termbits.h: four flag words, c_line and c_cc, two speeds

BAUDRATE_TOLERANCE = 0.03
"""How far from the asked rate a driver may set its divisor: with more than 3 % on one side, frames begin to break."""


class _Port(serial.Serial):
    """pyserial's port. `_reconfigure_port` and `_reset_input_buffer` are its own hooks, overridden."""

    def __init__(self, path: str, settings: LineSettings, *, flush_on_open: bool) -> None:
        self._wanted = settings
        self._locked = False
        self._flush = flush_on_open
        # An inter-byte time-out of 0 is pyserial's way to say VMIN=1, VTIME=0. With its default, VMIN=0, a read of an
        # *empty* port returns b"" as well as a read of one that hung up, and the two cannot be told apart.
        super().__init__(None, inter_byte_timeout=0)
        self.port = path
        store_settings(self, settings)

    def open(self) -> None:
        """Open, lock, program. Nothing stays open or locked if that fails."""
        super().open()
        # pyserial's four pipe ends serve its own read() and write(), which nobody calls: a port needs one descriptor.
        for end in ("pipe_abort_read_r", "pipe_abort_read_w", "pipe_abort_write_r", "pipe_abort_write_w"):
            os.close(getattr(self, end))
            setattr(self, end, None)

    def close(self) -> None:
        """Forget the descriptor without closing it: it belongs to the line. (Python's finalizer calls this, too.)"""
        self.is_open = False
        self.fd = None

    def program(self, settings: LineSettings, *, force: bool = False) -> None:
        """Program all settings at once; raises if one of them was not taken."""
        self._wanted = settings
        store_settings(self, settings)
        self._reconfigure_port(force_update=force)

    def _reconfigure_port(self, force_update: bool = False) -> None:
        fd = self.fd
        assert fd is not None
        if not self._locked:
            # The first thing that pyserial calls after open(2). Locked before anything is changed: whoever has the port
            # must not find its baud rate altered by our attempt.
            if not os.isatty(fd):
                raise not_a_port(str(self.name), "some other device")
            locks.take(fd, str(self.name))
            self._locked = True
            _quiet(fd)
        refusal: Exception | None = None
        try:
            super()._reconfigure_port(force_update=force_update)  # type: ignore[misc]
        except REFUSALS as exc:
            refusal = exc
        # Asked even after a success: a pty "accepts" 5 bits, and many adapters mark parity, and clear the flag again.
        refused = _refused_setting(fd, self._wanted)
        if refused is not None:
            raise DeviceUnsupported(
                f"{self.name} cannot do {refused}: its driver does not take it; choose another value"
            ) from refusal
        if refusal is not None:
            raise refusal

    def _update_dtr_state(self) -> None:
        """Called by open(), to assert DTR. The kernel has asserted both by itself: what comes on top is the driver's to say."""

    def _update_rts_state(self) -> None:
        """The same for RTS."""

    def _reset_input_buffer(self) -> None:
        # Called by open(): what the board said before we opened would be lost, the beginning of its banner for instance.
        if self.is_open or self._flush:
            super()._reset_input_buffer()  # type: ignore[misc]


def _quiet(fd: int) -> None:
    """Clear the flags of the line discipline that harm, and that pyserial leaves as they were.

    HUPCL: the last close drops DTR, which resets many boards. BRKINT: a break on the line empties both buffers.
    """
    attributes = termios.tcgetattr(fd)
    iflag, cflag = attributes[0] & ~termios.BRKINT, attributes[2] & ~termios.HUPCL
    if [iflag, cflag] != [attributes[0], attributes[2]]:
        attributes[0], attributes[2] = iflag, cflag
        termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _refused_setting(fd: int, settings: LineSettings) -> str | None:
    """Which setting the driver did not take: it reports success and clears the bit. None if it took all."""
    iflag, _, cflag, _, _, _, _ = termios.tcgetattr(fd)
    sizes = {5: termios.CS5, 6: termios.CS6, 7: termios.CS7, 8: termios.CS8}
    enable, odd = termios.PARENB, termios.PARENB | termios.PARODD
    parities = {"N": 0, "E": enable, "O": odd, "M": odd | CMSPAR, "S": enable | CMSPAR}
    # Without PARENB the other two bits mean nothing.
    parity = cflag & (odd | CMSPAR) if cflag & enable else 0
    if cflag & termios.CSIZE != sizes[settings.bytesize]:
        return f"bytesize {settings.bytesize}"
    if parity != parities[settings.parity]:
        return f"parity {settings.parity!r}"
    if bool(cflag & termios.CSTOPB) != (settings.stopbits != 1):
        return f"stopbits {settings.stopbits:g}"
    if bool(cflag & termios.CRTSCTS) != settings.rtscts:
        return f"rtscts={settings.rtscts}"
    if bool(iflag & termios.IXON) != settings.xonxoff:
        return f"xonxoff={settings.xonxoff}"
    speed = _speed(fd)
    if speed is not None and abs(speed - settings.baudrate) > settings.baudrate * BAUDRATE_TOLERANCE:
        return f"baudrate {settings.baudrate} (it set {speed} instead)"
    return None


def _speed(fd: int) -> int | None:
    try:
        return int(_TERMIOS2.unpack(fcntl.ioctl(fd, TCGETS2, bytes(_TERMIOS2.size)))[-1])
    except OSError:
        return None  # an architecture whose termios has the speeds elsewhere


def _still_sends(fd: int) -> bool:
    try:
        return bool(fcntl.ioctl(fd, termios.TIOCOUTQ, _NO_WORD) != _NO_WORD)
    except OSError:
        return False  # unplugged


def open_serial_line(path: str, settings: LineSettings, *, flush_on_open: bool = False) -> SerialLine:
    """Open, lock and program the port at `path` (a device node, or a link to one).

    What the device said before is kept, unless `flush_on_open`. Raises `DeviceNotFound`, `DeviceBusy`,
    `DevicePermission`, `DeviceGone` or `DeviceUnsupported`; nothing stays open then.
    """
    check_settings(path, settings)
    try:
        node = Path(path).stat()
    except (OSError, ValueError) as exc:
        raise fault_from(exc, name=path, doing=OPEN) from exc
    if not stat.S_ISCHR(node.st_mode) or _is_no_terminal(node.st_rdev):
        raise not_a_port(path, _KINDS.get(stat.S_IFMT(node.st_mode), "some other device"))
    locks.refuse_if_lock_file(path)
    port = _Port(path, settings, flush_on_open=flush_on_open)
    try:
        port.open()
    except DeviceFault:
        raise
    except REFUSALS as exc:
        raise fault_from(exc, name=path, doing=OPEN) from exc
    fd = port.fd
    assert fd is not None
    try:
        locks.exclude_others(fd)
        return SerialLine(path, port, fd, settings, has_modem_lines=_has_modem_lines(fd))
    except REFUSALS as exc:
        locks.release(fd)
        os.close(fd)
        raise fault_from(exc, name=path, doing=OPEN) from exc


def _is_no_terminal(rdev: int) -> bool:
    # Asked before it is opened, because to open some devices is to do something: a watchdog starts to count. Ptys are not
    # in sysfs; for what is not there, isatty() decides later.
    try:
        subsystem = Path(f"/sys/dev/char/{os.major(rdev)}:{os.minor(rdev)}/subsystem").resolve(strict=True)
    except OSError:
        return False
    return subsystem.name != "tty"


def _has_modem_lines(fd: int) -> bool:
    try:
        fcntl.ioctl(fd, termios.TIOCMGET, _NO_WORD)
    except OSError as exc:
        if exc.errno in {errno.ENOTTY, errno.EINVAL}:
            return False
        raise
    return True


class SerialLine(PinnedLine):
    """An open port. Made by `open_serial_line`.

    Reading, writing and the modem lines may be used by several threads at once, as a UART's registers may; `configure`
    and `close` by one. Nobody may be inside another method while `close` runs: the number of the descriptor may be
    somebody else's the next moment. (`close` forgets it before it closes it, so a call *after* it fails cleanly.)
    """

    __slots__ = ("_fd", "_modem", "_pid", "_port", "name", "settings")

    def __init__(self, name: str, port: _Port, fd: int, settings: LineSettings, *, has_modem_lines: bool) -> None:
        super().__init__()
        self.name = name
        self.settings = settings
        """What the port is programmed to."""
        self._port = port
        self._fd = fd
        self._modem = has_modem_lines
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<SerialLine {self.name} fd={self._fd}>"

    @property
    def has_modem_lines(self) -> bool:
        """Whether the driver has DTR, RTS, CTS, DSR, RI and DCD. A pty has none."""
        return self._modem

    @property
    def other_openers(self) -> list[locks.Holder]:
        """Programs that had opened the port before us without locking it: they take bytes away. Looked up anew."""
        return locks.holders(self.name, but=self._fd) if self._fd >= 0 else []

    # -- interrupts --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The port's descriptor; -1 once closed."""
        return self._fd

    # -- bytes -------------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> bytes:
        """Up to `limit` received bytes, ``b""`` if there are none. `DeviceGone` after a hang-up."""
        try:
            data = os.read(self._fd, limit)
        except BlockingIOError:
            return b""
        except OSError as exc:
            raise fault_from(exc, name=self.name, doing="read from") from exc
        if not data:
            self._raise_if_hung_up()
        elif self._pin is not None:
            self._pin.moved = True
        return data

    def _raise_if_hung_up(self) -> None:
        # The kernel answers reads of a hung-up terminal with "end of file". So it does for an empty one if an intruder
        # has set VMIN to 0; then nothing is wrong but the intruder.
        poll = select.poll()
        poll.register(self._fd, 0)
        if poll.poll(0):
            raise DeviceGone(f"{self.name} was unplugged, or its other end is gone; open it again when it is back")

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes the kernel has accepted; 0 if it has no room now."""
        try:
            count = os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise fault_from(exc, name=self.name, doing="write to") from exc
        if self._pin is not None:
            self._pin.moved = True
        return count

    def output_waiting(self) -> int:
        """What the kernel has accepted and not yet sent (TIOCOUTQ). A pty always says 0."""
        return self._get_word(termios.TIOCOUTQ, "ask for the output queue of")

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        """Empty the kernel's queues. On a pty, `tx` may take away what the other side could already have read."""
        if rx or tx:
            queue = termios.TCIOFLUSH if rx and tx else termios.TCIFLUSH if rx else termios.TCOFLUSH
            try:
                termios.tcflush(self._fd, queue)
            except REFUSALS as exc:
                raise fault_from(exc, name=self.name, doing="empty the queues of") from exc

    # -- settings and modem lines ------------------------------------------------------------------------------------

    def configure(self, settings: LineSettings) -> None:
        """Program the port, once. If a setting is refused, the port keeps those that it had."""
        check_settings(self.name, settings)
        if self._fd < 0:
            raise DeviceGone(f"cannot configure {self.name}: it was closed; open it again")
        try:
            self._port.program(settings)
        except REFUSALS as exc:
            fault = fault_from(exc, name=self.name, doing="configure")
            if not isinstance(fault, DeviceGone):
                self._restore()
            if fault is exc:
                raise
            raise fault from exc
        self.settings = settings

    def _restore(self) -> None:
        try:
            self._port.program(self.settings, force=True)
        except REFUSALS:
            pass  # the refusal that brought us here is what the caller has to know

    def modem_status(self) -> int:
        self._need_modem_lines("modem lines")
        lines = self._get_word(termios.TIOCMGET, "ask for the modem lines of")
        return sum(msr for tiocm, msr in _MSR if lines & tiocm)

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        self._need_modem_lines("DTR and RTS")
        if dtr is not None and rts is not None and dtr != rts:
            # Both at once: a step in between would be a state of its own, and boards hang their reset and boot pins on these.
            before = self._get_word(termios.TIOCMGET, "ask for DTR and RTS of")
            both = termios.TIOCM_DTR | termios.TIOCM_RTS
            lines = before & ~both | (termios.TIOCM_DTR if dtr else termios.TIOCM_RTS)
            self._ioctl(termios.TIOCMSET, _WORD.pack(lines), "set DTR and RTS of")
            return
        wanted = ((dtr, termios.TIOCM_DTR), (rts, termios.TIOCM_RTS))
        for state, request, what in ((True, termios.TIOCMBIS, "set"), (False, termios.TIOCMBIC, "clear")):
            bits = sum(bit for value, bit in wanted if value is state)
            if bits:
                self._ioctl(request, _WORD.pack(bits), f"{what} DTR or RTS of")

    def set_break(self, on: bool) -> None:
        """Hold the line in the break state or let it go. Flush first: see below."""
        # A pty accepts a break and does nothing; nobody shall believe that something was sent.
        self._need_modem_lines("break")
        # The kernel waits, for ever if flow control says so, until all output is sent before it begins a break.
        if on and self.output_waiting():
            raise DeviceFault(f"{self.name} is still sending: flush it before a break", status=STATUS_DEVICE_BUSY)
        self._ioctl(TIOCSBRK if on else TIOCCBRK, 0, "set the break state of")

    def _need_modem_lines(self, what: str) -> None:
        if not self._modem:
            raise DeviceUnsupported(
                f"{self.name} has no {what}: it is a pty or the like; take a real port, or rfc2217://"
            )

    def _get_word(self, request: int, doing: str) -> int:
        return int(_WORD.unpack(self._ioctl(request, _NO_WORD, doing))[0])

    def _ioctl(self, request: int, argument: bytes | int, doing: str) -> bytes:
        try:
            answer = fcntl.ioctl(self._fd, request, argument)
        except (OSError, ValueError) as exc:  # ValueError: the descriptor is -1
            raise fault_from(exc, name=self.name, doing=doing) from exc
        return answer if isinstance(answer, bytes) else b""

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Unlock and let go. What the kernel has accepted is still sent."""
        fd = self._forget()
        if fd < 0:
            return
        if os.getpid() != self._pid:
            os.close(fd)  # see after_fork_in_child
            return
        locks.release(fd)
        if _still_sends(fd):
            # close(2) of a port that still sends waits until it is done, or for `closing_wait`: 30 s by default when
            # flow control holds the line. That wait cannot be interrupted, so it gets a thread of its own.
            threading.Thread(target=os.close, args=(fd,), name=f"close {self.name}", daemon=True).start()
        else:
            os.close(fd)

    def after_fork_in_child(self) -> None:
        """Close this process's copy of the descriptor; the parent's port and its locks stay as they are.

        Both locks belong to the open file, which the two processes share: unlocking here would unlock the parent's port.
        """
        fd = self._forget()
        if fd >= 0:
            os.close(fd)

    def _forget(self) -> int:
        fd, self._fd = self._fd, -1
        self._port.close()
        return fd
