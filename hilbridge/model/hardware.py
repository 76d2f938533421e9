"""The seams to hardware: what a driver is handed in START_DEVICE.

A driver never sees pyserial, a file descriptor or libusb. It is handed a `Line` (bytes and modem lines, as a UART's
registers) or a `Pipe` (one USB endpoint), and both obey two rules: **no call blocks**, and what happens later is said by
an interrupt. That is why the same driver runs on a real port, a pty, a socket and a line made of Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hilbridge.model.status import NtStatus

# Interrupt causes: the bits of a line's "interrupt identification register".
CAUSE_RX = 0x1  # there are bytes to read
CAUSE_TX = 0x2  # there is room to write
CAUSE_GONE = 0x4  # the device went, or its other end hung up; cannot be masked
CAUSE_MODEM = 0x8  # a modem line changed

# Modem status register, as IOCTL_SERIAL_GET_MODEMSTATUS returns it (ntddser.h).
MSR_CTS = 0x10
MSR_DSR = 0x20
MSR_RI = 0x40
MSR_DCD = 0x80

OUTPUT_POLICIES = ("keep", "assert", "release")
PARITIES = ("N", "O", "E", "M", "S")


@dataclass(frozen=True, slots=True)
class LineSettings:
    """How a line is programmed. Names and values are pyserial's: ``bytesize`` 5-8, ``stopbits`` 1, 1.5 or 2."""

    baudrate: int = 115200
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1
    xonxoff: bool = False
    rtscts: bool = False
    dsrdtr: bool = False
    dtr: str = "keep"
    rts: str = "keep"
    """What becomes of an output when the device is started: ``"keep"``, ``"assert"`` or ``"release"``."""


class InterruptPin(Protocol):
    """The wire from one device to the interrupt controller: the kernel's end, as the device sees it."""

    moved: bool | None
    """A line sets this to False when it is connected, and to True whenever it has given or accepted a byte. Then an interrupt
    that is claimed again and again while nothing moves is told from heavy traffic. Without that, it is None."""

    def take(self) -> int:
        """The causes that were seen since the last call, and forget them (read-to-acknowledge)."""

    def enable(self, causes: int) -> None:
        """Choose which causes may interrupt. CAUSE_GONE always may."""

    def raise_line(self, causes: int) -> None:
        """Assert the line by hand: for devices without a descriptor. May be called from any thread."""


class Line(Protocol):
    """A serial line, as a driver sees a UART. No call blocks.

    Calls that the OS refuses raise `DeviceFault` or a subclass: `DeviceGone` when the device is not there any more,
    `DeviceUnsupported` where this kind of line lacks the feature. Their ``status`` is what the driver completes with.
    """

    name: str
    """What a user would call it: ``/dev/ttyUSB0``, ``rfc2217://host:4000``, ``virtual:loop``."""

    @property
    def has_modem_lines(self) -> bool:
        """Whether DTR, RTS, CTS, DSR, RI and DCD exist. A pty and a plain socket have none."""

    def fileno(self) -> int:
        """The descriptor whose readiness is this line's interrupt, or -1: then it calls ``pin.raise_line``."""

    def connect(self, pin: InterruptPin) -> None:
        """Solder the line to its pin. Called once, before START_DEVICE."""

    def enable_interrupts(self, causes: int) -> None:
        """Choose which of CAUSE_RX and CAUSE_TX may interrupt."""

    def causes(self) -> int:
        """Why this line interrupts, read to acknowledge; 0 = "not mine"."""

    def asserted(self) -> bool:
        """Whether the line still asserts its interrupt. A line with a descriptor says False: the selector asks again."""

    def read(self, limit: int) -> bytes:
        """Up to `limit` received bytes; ``b""`` when there are none now. Raises `DeviceGone` only after the last byte."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Send; returns how many bytes were accepted, 0 when there is no room now (enable CAUSE_TX and wait)."""

    def configure(self, settings: LineSettings) -> None:
        """Program baud rate, format and flow control. Raises `DeviceUnsupported` naming the setting."""

    def modem_status(self) -> int:
        """MSR_CTS | MSR_DSR | MSR_RI | MSR_DCD as they are now."""

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Set the outputs that are not None."""

    def set_break(self, on: bool) -> None:
        """Hold the transmit line in the break state, or let it go."""

    def output_waiting(self) -> int:
        """Bytes that the OS or the hardware has accepted and not yet sent, as far as it says."""

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        """Throw away what the OS holds in either direction."""

    def close(self) -> None:
        """Let the hardware go. The line is dead afterwards; calling it again does nothing."""


class Pipe(Protocol):
    """One endpoint of a USB device: submit and cancel, never a blocking call.

    A completed transfer raises the pipe's interrupt with CAUSE_RX (IN) or CAUSE_TX (OUT); the ISR then reaps it. There
    may be several outstanding where the backend can. This is the seam for USB function drivers.
    """

    name: str
    address: int
    """bEndpointAddress: bit 7 set is IN."""
    max_packet_size: int

    def submit(self, buffer: bytearray | memoryview, done: Callable[[NtStatus, int], None]) -> int:
        """Start a transfer; returns its tag. `done(status, transferred)` is called at DIRQL by whoever reaps."""

    def cancel(self, tag: int) -> None:
        """Ask for the end of a transfer. It still completes, exactly once, with what it had moved until then."""


@dataclass(frozen=True, slots=True)
class SerialResources:
    """The resources of a serial device in IRP_MN_START_DEVICE: its registers and its interrupt vector."""

    line: Line
    vector: int
    settings: LineSettings
    port_name: str = "COM1"
