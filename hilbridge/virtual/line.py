"""A line made of Python: the same seam, the same vectors, and a far end that a test holds in its hand.

It works on the poller and on the hand-cranked machine. It does not pace by the baud rate, and knows no line errors.
"""

from __future__ import annotations

import threading

from hilbridge.model.errors import DeviceGone, DeviceUnsupported
from hilbridge.model.hardware import (
    CAUSE_GONE,
    CAUSE_MODEM,
    CAUSE_RX,
    CAUSE_TX,
    MSR_CTS,
    MSR_DCD,
    MSR_DSR,
    InterruptPin,
    LineSettings,
)

UNLIMITED = 1 << 62


class VirtualLine:
    """A `Line`. `feed`, `sent`, `accept` and `unplug` are its far end.

    With `loop`, what is written comes back, RTS is wired to CTS, and DTR to DSR and DCD.
    """

    def __init__(self, name: str = "virtual:line", *, loop: bool = False, room: int = UNLIMITED) -> None:
        self.name = name
        self.settings = LineSettings()
        self.sent = bytearray()
        """What has been written, as the far end got it."""
        self._loop = loop
        self._room = room
        self._received = bytearray()
        self._unplugged = False
        self._told_gone = False
        self._closed = False
        self._enabled = 0
        self._modem = 0
        self._modem_changed = False
        self._break = False
        self._pin: InterruptPin | None = None
        self._lock = threading.Lock()
        self.unsent = 0
        """What `output_waiting` answers."""

    # -- Line --------------------------------------------------------------------------------------------------------

    @property
    def has_modem_lines(self) -> bool:
        """A virtual line has them."""
        return True

    def fileno(self) -> int:
        """There is no descriptor."""
        return -1

    def connect(self, pin: InterruptPin) -> None:
        """Solder to the pin."""
        self._pin = pin
        pin.moved = False

    def enable_interrupts(self, causes: int) -> None:
        """Interrupt enable register. A cause that holds already, and may interrupt only now, does."""
        with self._lock:
            self._enabled = causes
        if self._pin is not None:
            self._pin.enable(causes)
        self._assert()

    def causes(self) -> int:
        """Interrupt identification register."""
        if self._pin is not None:
            self._pin.take()
        causes = self._level()
        if causes & CAUSE_MODEM:
            self._modem_changed = False  # read to acknowledge
        if causes & CAUSE_GONE:
            self._told_gone = True  # said once: like a descriptor that hung up, it is not watched any more
        return causes

    def asserted(self) -> bool:
        """Whether the line still asserts."""
        return self._level() != 0

    def read(self, limit: int) -> bytes:
        """What the far end fed."""
        with self._lock:
            data = bytes(self._received[:limit])
            del self._received[:limit]
            if not data and (self._unplugged or self._closed):
                raise DeviceGone(f"{self.name} was unplugged")
        if data and self._pin is not None:
            self._pin.moved = True
        return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """To the far end, as much as it has room for."""
        with self._lock:
            if self._unplugged or self._closed:
                raise DeviceGone(f"{self.name} was unplugged")
            count = min(len(data), self._room)
            self._room -= count
            self.sent += data[:count]
            if self._loop:
                self._received += data[:count]
        if count and self._pin is not None:
            self._pin.moved = True
        self._assert()
        return count

    def configure(self, settings: LineSettings) -> None:
        """Keeps what it is given."""
        if settings.baudrate <= 0:
            raise DeviceUnsupported(f"{self.name} cannot do {settings.baudrate} baud")
        self.settings = settings

    def modem_status(self) -> int:
        """What the far end drives."""
        return self._modem

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Outputs; wired back with `loop`."""
        if self._loop:
            status = self._modem
            for value, bits in ((dtr, MSR_DSR | MSR_DCD), (rts, MSR_CTS)):
                if value is not None:
                    status = status & ~bits | (bits if value else 0)
            self.set_modem_status(status)

    def set_break(self, on: bool) -> None:
        """Remembered."""
        self._break = on

    def output_waiting(self) -> int:
        """What a test says it is."""
        return self.unsent

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        """Throw away what has not been taken."""
        with self._lock:
            if rx:
                self._received.clear()
            if tx:
                self.unsent = 0

    def close(self) -> None:
        """Dead afterwards."""
        self._closed = True

    # -- the far end -------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The far end sends."""
        with self._lock:
            self._received += data
        self._assert()

    def accept(self, count: int) -> None:
        """The far end makes room for that many bytes more."""
        with self._lock:
            self._room += count
        self._assert()

    def unplug(self) -> None:
        """The cable is pulled. What was fed before can still be read."""
        with self._lock:
            self._unplugged = True
        self._assert()

    def set_modem_status(self, status: int) -> None:
        """The far end drives the modem lines: MSR_CTS | MSR_DSR | MSR_RI | MSR_DCD."""
        with self._lock:
            self._modem_changed = self._modem_changed or status != self._modem
            self._modem = status
        self._assert()

    @property
    def break_on(self) -> bool:
        """Whether the break is held."""
        return self._break

    @property
    def untaken(self) -> int:
        """Bytes that were fed and that the driver has not taken: back-pressure makes them stay here."""
        return len(self._received)

    # -- the interrupt -----------------------------------------------------------------------------------------------

    def _level(self) -> int:
        with self._lock:
            if self._closed:
                return 0
            causes = (CAUSE_RX if self._received else 0) | (CAUSE_TX if self._room else 0)
            causes |= CAUSE_MODEM if self._modem_changed else 0
            causes &= self._enabled
            if self._unplugged and not self._told_gone:
                causes |= CAUSE_GONE
            return causes

    def _assert(self) -> None:
        causes = self._level()
        pin = self._pin
        if causes and pin is not None:
            pin.raise_line(causes)
