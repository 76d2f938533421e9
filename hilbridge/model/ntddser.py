"""Serial I/O controls: codes, payloads and bits of ntddser.h (values from mingw-w64's header).

Payloads are little-endian and packed with `struct`; each has a small class with ``pack`` and ``unpack``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from hilbridge.model.codes import FILE_ANY_ACCESS, FILE_DEVICE_SERIAL_PORT, FILE_READ_DATA, FILE_WRITE_DATA
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code


def _serial(function: int) -> int:
    return ctl_code(FILE_DEVICE_SERIAL_PORT, function, METHOD_BUFFERED, FILE_ANY_ACCESS)


IOCTL_SERIAL_SET_BAUD_RATE = _serial(1)
IOCTL_SERIAL_SET_LINE_CONTROL = _serial(3)
IOCTL_SERIAL_SET_BREAK_ON = _serial(4)
IOCTL_SERIAL_SET_BREAK_OFF = _serial(5)
IOCTL_SERIAL_SET_TIMEOUTS = _serial(7)
IOCTL_SERIAL_GET_TIMEOUTS = _serial(8)
IOCTL_SERIAL_SET_DTR = _serial(9)
IOCTL_SERIAL_CLR_DTR = _serial(10)
IOCTL_SERIAL_SET_RTS = _serial(12)
IOCTL_SERIAL_CLR_RTS = _serial(13)
IOCTL_SERIAL_PURGE = _serial(19)
IOCTL_SERIAL_GET_BAUD_RATE = _serial(20)
IOCTL_SERIAL_GET_LINE_CONTROL = _serial(21)
IOCTL_SERIAL_GET_MODEMSTATUS = _serial(26)
IOCTL_SERIAL_GET_COMMSTATUS = _serial(27)
IOCTL_SERIAL_GET_DTRRTS = _serial(30)

# Ours: a vendor's device type and function numbers.
FILE_DEVICE_HILBRIDGE = 0x8B1D
IOCTL_HILBRIDGE_PEEK = ctl_code(FILE_DEVICE_HILBRIDGE, 0x800, METHOD_BUFFERED, FILE_READ_DATA)
"""Look at this file's unread bytes, oldest first, without consuming them."""
IOCTL_HILBRIDGE_UNREAD = ctl_code(FILE_DEVICE_HILBRIDGE, 0x801, METHOD_BUFFERED, FILE_READ_DATA)
"""Give the bytes of the last read back to the front of the receive log. A read that waits begins with them."""
IOCTL_HILBRIDGE_RESET = ctl_code(FILE_DEVICE_HILBRIDGE, 0x802, METHOD_BUFFERED, FILE_WRITE_DATA)
"""Carry out the steps of a reset, in its turn among the writes. In: a ULONG of flags and `SerialResetStep`s. Out: a ULONGLONG,
how many bytes this file had not read when the first step began."""

MAXULONG = 0xFFFF_FFFF

SERIAL_PURGE_TXABORT = 1
SERIAL_PURGE_RXABORT = 2
SERIAL_PURGE_TXCLEAR = 4
SERIAL_PURGE_RXCLEAR = 8

SERIAL_DTR_STATE = 1
SERIAL_RTS_STATE = 2

# Ours: what a step of a reset sets, besides the two above; the flag of a reset; and its bounds.
RESET_BREAK = 4
RESET_DISCARD = 1
"""What this file has not read when the first step begins is thrown away."""
MOST_RESET_STEPS = 64
LONGEST_RESET_WAIT_US = 60_000_000

STOP_BITS = {1.0: 0, 1.5: 1, 2.0: 2}
PARITY = {"N": 0, "O": 1, "E": 2, "M": 3, "S": 4}


class SerialTimeouts(NamedTuple):
    """SERIAL_TIMEOUTS, in milliseconds. All zero, the default: a read waits for all its bytes."""

    read_interval_timeout: int = 0
    read_total_timeout_multiplier: int = 0
    read_total_timeout_constant: int = 0
    write_total_timeout_multiplier: int = 0
    write_total_timeout_constant: int = 0

    def pack(self) -> bytes:
        """20 bytes."""
        return struct.pack("<5I", *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> SerialTimeouts:
        """From at least 20 bytes."""
        return cls(*struct.unpack_from("<5I", data))


class SerialLineControl(NamedTuple):
    """SERIAL_LINE_CONTROL: stop bits 0 = 1, 1 = 1.5, 2 = 2; parity 0 none, 1 odd, 2 even, 3 mark, 4 space."""

    stop_bits: int
    parity: int
    word_length: int

    def pack(self) -> bytes:
        """3 bytes."""
        return struct.pack("<3B", *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> SerialLineControl:
        """From at least 3 bytes."""
        return cls(*struct.unpack_from("<3B", data))


class SerialStatus(NamedTuple):
    """SERIAL_STATUS."""

    errors: int
    hold_reasons: int
    amount_in_in_queue: int
    amount_in_out_queue: int
    eof_received: bool = False
    wait_for_immediate: bool = False

    def pack(self) -> bytes:
        """20 bytes, padding included."""
        return struct.pack("<4I2?2x", *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> SerialStatus:
        """From at least 18 bytes."""
        return cls(*struct.unpack_from("<4I2?", data))


class SerialResetStep(NamedTuple):
    """One step of a reset: set these outputs, all at once, and then wait. In the order in which they are packed."""

    mask: int = 0
    """Which are set: SERIAL_DTR_STATE | SERIAL_RTS_STATE | RESET_BREAK. 0: only wait."""
    values: int = 0
    """To what: the same bits."""
    wait_us: int = 0
    """Microseconds."""

    def __str__(self) -> str:
        names = (("dtr", SERIAL_DTR_STATE), ("rts", SERIAL_RTS_STATE), ("break", RESET_BREAK))
        words = [",".join(f"{name}={int(bool(self.values & bit))}" for name, bit in names if self.mask & bit)]
        if self.wait_us or not self.mask:
            whole = self.wait_us % 1000 == 0
            words.append(f"wait={self.wait_us // 1000}ms" if whole else f"wait={self.wait_us}us")
        return " ".join(filter(None, words))

    def pack(self) -> bytes:
        """8 bytes."""
        return struct.pack("<2B2xI", *self)


def pack_reset(steps: Sequence[SerialResetStep], flags: int = 0) -> bytes:
    """The payload of IOCTL_HILBRIDGE_RESET."""
    return pack_ulong(flags) + b"".join(step.pack() for step in steps)


def unpack_reset(data: bytes | bytearray) -> tuple[int, tuple[SerialResetStep, ...]]:
    """Flags and steps. Raises ValueError for a payload that means nothing."""
    if len(data) < 12 or len(data) % 8 != 4 or len(data) > 4 + 8 * MOST_RESET_STEPS:
        raise ValueError(f"{len(data)} bytes are no reset of 1 to {MOST_RESET_STEPS} steps")
    flags = unpack_ulong(data)
    steps: list[SerialResetStep] = []
    for mask, values, reserved, wait_us in struct.iter_unpack("<2BHI", data[4:]):
        if mask & ~7 or values & ~mask or reserved or wait_us > LONGEST_RESET_WAIT_US:
            raise ValueError(
                f"step {len(steps) + 1} of a reset means nothing: {mask=} {values=} {reserved=} {wait_us=}"
            )
        steps.append(SerialResetStep(mask, values, wait_us))
    if flags & ~RESET_DISCARD:
        raise ValueError(f"a reset has no flags 0x{flags:X}")
    return flags, tuple(steps)


def pack_ulong(value: int) -> bytes:
    """A ULONG."""
    return struct.pack("<I", value)


def unpack_ulong(data: bytes | bytearray) -> int:
    """From at least 4 bytes."""
    return int(struct.unpack_from("<I", data)[0])
