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
IOCTL_SERIAL_SET_QUEUE_SIZE = _serial(2)
IOCTL_SERIAL_SET_LINE_CONTROL = _serial(3)
IOCTL_SERIAL_SET_BREAK_ON = _serial(4)
IOCTL_SERIAL_SET_BREAK_OFF = _serial(5)
IOCTL_SERIAL_SET_TIMEOUTS = _serial(7)
IOCTL_SERIAL_GET_TIMEOUTS = _serial(8)
IOCTL_SERIAL_SET_DTR = _serial(9)
IOCTL_SERIAL_CLR_DTR = _serial(10)
IOCTL_SERIAL_RESET_DEVICE = _serial(11)
IOCTL_SERIAL_SET_RTS = _serial(12)
IOCTL_SERIAL_CLR_RTS = _serial(13)
IOCTL_SERIAL_GET_WAIT_MASK = _serial(16)
IOCTL_SERIAL_SET_WAIT_MASK = _serial(17)
IOCTL_SERIAL_WAIT_ON_MASK = _serial(18)
IOCTL_SERIAL_PURGE = _serial(19)
IOCTL_SERIAL_GET_BAUD_RATE = _serial(20)
IOCTL_SERIAL_GET_LINE_CONTROL = _serial(21)
IOCTL_SERIAL_GET_CHARS = _serial(22)
IOCTL_SERIAL_SET_CHARS = _serial(23)
IOCTL_SERIAL_GET_HANDFLOW = _serial(24)
IOCTL_SERIAL_SET_HANDFLOW = _serial(25)
IOCTL_SERIAL_GET_MODEMSTATUS = _serial(26)
IOCTL_SERIAL_GET_COMMSTATUS = _serial(27)
IOCTL_SERIAL_GET_PROPERTIES = _serial(29)
IOCTL_SERIAL_GET_DTRRTS = _serial(30)
IOCTL_SERIAL_CONFIG_SIZE = _serial(32)
IOCTL_SERIAL_GET_MODEM_CONTROL = _serial(37)
IOCTL_SERIAL_SET_MODEM_CONTROL = _serial(38)

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

SERIAL_EV_RXCHAR = 0x1
SERIAL_EV_RXFLAG = 0x2
SERIAL_EV_TXEMPTY = 0x4
SERIAL_EV_CTS = 0x8
SERIAL_EV_DSR = 0x10
SERIAL_EV_RLSD = 0x20
SERIAL_EV_BREAK = 0x40
SERIAL_EV_ERR = 0x80
SERIAL_EV_RING = 0x100
SERIAL_EV_PERR = 0x200
SERIAL_EV_RX80FULL = 0x400
SERIAL_EV_EVENT1 = 0x800
SERIAL_EV_EVENT2 = 0x1000
SERIAL_EV_ALL = 0x1FFF

SERIAL_TX_WAITING_FOR_CTS = 0x1
SERIAL_TX_WAITING_FOR_DSR = 0x2
SERIAL_TX_WAITING_ON_BREAK = 0x20

SERIAL_MCR_OUT1 = 0x4
SERIAL_MCR_OUT2 = 0x8
SERIAL_MCR_LOOP = 0x10
SERIAL_MCR_ALL = 0x1F

SERIAL_SP_SERIALCOMM = 0x1
SERIAL_SP_UNSPECIFIED = 0x0
SERIAL_SP_RS232 = 0x1
SERIAL_PCF_DTRDSR = 0x1
SERIAL_PCF_RTSCTS = 0x2
SERIAL_PCF_CD = 0x4
SERIAL_PCF_XONXOFF = 0x10
SERIAL_PCF_TOTALTIMEOUTS = 0x40
SERIAL_PCF_INTTIMEOUTS = 0x80
SERIAL_SP_PARITY = 0x1
SERIAL_SP_BAUD = 0x2
SERIAL_SP_DATABITS = 0x4
SERIAL_SP_STOPBITS = 0x8
SERIAL_SP_HANDSHAKING = 0x10
SERIAL_BAUD_NAMED = 0x7_FFFF
"""All rates that have a bit of their own."""
SERIAL_BAUD_USER = 0x1000_0000
SERIAL_DATABITS_5_TO_8 = 0xF
SERIAL_STOP_AND_PARITY = 0x1F07
"""1, 1.5 and 2 stop bits; all five parities."""

# SERIAL_HANDFLOW.ControlHandShake
SERIAL_DTR_MASK = 0x3
SERIAL_DTR_CONTROL = 0x1
SERIAL_DTR_HANDSHAKE = 0x2
SERIAL_CTS_HANDSHAKE = 0x8
SERIAL_DSR_HANDSHAKE = 0x10
SERIAL_DCD_HANDSHAKE = 0x20
SERIAL_DSR_SENSITIVITY = 0x40
SERIAL_ERROR_ABORT = 0x8000_0000
SERIAL_CONTROL_INVALID = 0x7FFF_FF84
# SERIAL_HANDFLOW.FlowReplace
SERIAL_AUTO_TRANSMIT = 0x1
SERIAL_AUTO_RECEIVE = 0x2
SERIAL_ERROR_CHAR = 0x4
SERIAL_NULL_STRIPPING = 0x8
SERIAL_BREAK_CHAR = 0x10
SERIAL_RTS_MASK = 0xC0
SERIAL_RTS_CONTROL = 0x40
SERIAL_RTS_HANDSHAKE = 0x80
SERIAL_TRANSMIT_TOGGLE = 0xC0
SERIAL_XOFF_CONTINUE = 0x8000_0000
SERIAL_FLOW_INVALID = 0x7FFF_FF20

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


class SerialChars(NamedTuple):
    """SERIAL_CHARS: special characters; the defaults are those of Windows, ^Q and ^S."""

    eof_char: int = 0
    error_char: int = 0
    break_char: int = 0
    event_char: int = 0
    xon_char: int = 0x11
    xoff_char: int = 0x13

    def pack(self) -> bytes:
        """6 bytes."""
        return struct.pack("<6B", *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> SerialChars:
        """From at least 6 bytes."""
        return cls(*struct.unpack_from("<6B", data))


class SerialHandflow(NamedTuple):
    """SERIAL_HANDFLOW. ``xoff_limit`` is the room that is left when the peer is held, ``xon_limit`` what is unread when it is
    let go again.
    """

    control_hand_shake: int
    flow_replace: int
    xon_limit: int
    xoff_limit: int

    def pack(self) -> bytes:
        """16 bytes."""
        return struct.pack("<2I2i", *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> SerialHandflow:
        """From at least 16 bytes."""
        return cls(*struct.unpack_from("<2I2i", data))


class SerialCommProp(NamedTuple):
    """SERIAL_COMMPROP, without its reserved and provider-specific fields, which are 0. A queue without a limit is 0."""

    max_tx_queue: int = 0
    max_rx_queue: int = 0
    max_baud: int = SERIAL_BAUD_USER
    prov_sub_type: int = SERIAL_SP_UNSPECIFIED
    prov_capabilities: int = 0
    settable_params: int = (
        SERIAL_SP_PARITY | SERIAL_SP_BAUD | SERIAL_SP_DATABITS | SERIAL_SP_STOPBITS | SERIAL_SP_HANDSHAKING
    )
    settable_baud: int = SERIAL_BAUD_NAMED | SERIAL_BAUD_USER
    settable_data: int = SERIAL_DATABITS_5_TO_8
    settable_stop_parity: int = SERIAL_STOP_AND_PARITY
    current_tx_queue: int = 0
    current_rx_queue: int = 0

    def pack(self) -> bytes:
        """64 bytes: PacketLength, PacketVersion 2, ServiceMask SERIALCOMM, these fields, and an empty ProvChar."""
        return struct.pack("<2H2I7I2H2I8x4x", 64, 2, SERIAL_SP_SERIALCOMM, 0, *self)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> SerialCommProp:
        """From at least 52 bytes."""
        return cls(*struct.unpack_from("<7I2H2I", data, 12))


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
