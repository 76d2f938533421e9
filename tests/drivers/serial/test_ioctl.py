"""IRP_MJ_DEVICE_CONTROL: every control code, with what it needs, what it returns, and what it refuses."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

import pytest

from hilbridge import DeviceFault, DevicePermission, DeviceUnsupported, UsageFault
from hilbridge.drivers.serial.ioctl import CONTROLS
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import FILE_ANY_ACCESS, FILE_DEVICE_SERIAL_PORT
from hilbridge.model.errors import DeviceGone
from hilbridge.model.hardware import MSR_CTS, MSR_DCD, MSR_DSR, LineSettings
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code, ioctl_access, ioctl_device_type, ioctl_method
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
    STATUS_SUCCESS,
)
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, end_of, fault_of, settings, waits

MakePort = Callable[..., Port]

# The table of ntddser.h for what is implemented: value, bytes in, bytes out. Written out here, not taken from the driver.
TABLE = {
    ser.IOCTL_SERIAL_SET_BAUD_RATE: (0x001B0004, 4, 0),
    ser.IOCTL_SERIAL_SET_LINE_CONTROL: (0x001B000C, 3, 0),
    ser.IOCTL_SERIAL_SET_BREAK_ON: (0x001B0010, 0, 0),
    ser.IOCTL_SERIAL_SET_BREAK_OFF: (0x001B0014, 0, 0),
    ser.IOCTL_SERIAL_SET_TIMEOUTS: (0x001B001C, 20, 0),
    ser.IOCTL_SERIAL_GET_TIMEOUTS: (0x001B0020, 0, 20),
    ser.IOCTL_SERIAL_SET_DTR: (0x001B0024, 0, 0),
    ser.IOCTL_SERIAL_CLR_DTR: (0x001B0028, 0, 0),
    ser.IOCTL_SERIAL_SET_RTS: (0x001B0030, 0, 0),
    ser.IOCTL_SERIAL_CLR_RTS: (0x001B0034, 0, 0),
    ser.IOCTL_SERIAL_SET_QUEUE_SIZE: (0x001B0008, 8, 0),
    ser.IOCTL_SERIAL_RESET_DEVICE: (0x001B002C, 0, 0),
    ser.IOCTL_SERIAL_GET_PROPERTIES: (0x001B0074, 0, 64),
    ser.IOCTL_SERIAL_CONFIG_SIZE: (0x001B0080, 0, 4),
    ser.IOCTL_SERIAL_GET_MODEM_CONTROL: (0x001B0094, 0, 4),
    ser.IOCTL_SERIAL_SET_MODEM_CONTROL: (0x001B0098, 4, 0),
    ser.IOCTL_SERIAL_GET_CHARS: (0x001B0058, 0, 6),
    ser.IOCTL_SERIAL_SET_CHARS: (0x001B005C, 6, 0),
    ser.IOCTL_SERIAL_GET_HANDFLOW: (0x001B0060, 0, 16),
    ser.IOCTL_SERIAL_SET_HANDFLOW: (0x001B0064, 16, 0),
    ser.IOCTL_SERIAL_GET_WAIT_MASK: (0x001B0040, 0, 4),
    ser.IOCTL_SERIAL_SET_WAIT_MASK: (0x001B0044, 4, 0),
    ser.IOCTL_SERIAL_WAIT_ON_MASK: (0x001B0048, 0, 4),
    ser.IOCTL_SERIAL_PURGE: (0x001B004C, 4, 0),
    ser.IOCTL_SERIAL_GET_BAUD_RATE: (0x001B0050, 0, 4),
    ser.IOCTL_SERIAL_GET_LINE_CONTROL: (0x001B0054, 0, 3),
    ser.IOCTL_SERIAL_GET_MODEMSTATUS: (0x001B0068, 0, 4),
    ser.IOCTL_SERIAL_GET_COMMSTATUS: (0x001B006C, 0, 20),
    ser.IOCTL_SERIAL_GET_DTRRTS: (0x001B0078, 0, 4),
}
GOOD = {
    ser.IOCTL_SERIAL_SET_BAUD_RATE: ser.pack_ulong(9600),
    ser.IOCTL_SERIAL_SET_LINE_CONTROL: ser.SerialLineControl(0, 0, 8).pack(),
    ser.IOCTL_SERIAL_SET_TIMEOUTS: ser.SerialTimeouts(1, 2, 3, 4, 5).pack(),
    ser.IOCTL_SERIAL_SET_QUEUE_SIZE: bytes(8),
    ser.IOCTL_SERIAL_SET_MODEM_CONTROL: ser.pack_ulong(3),
    ser.IOCTL_SERIAL_SET_CHARS: ser.SerialChars().pack(),
    ser.IOCTL_SERIAL_SET_HANDFLOW: ser.SerialHandflow(1, 0x40, 100, 100).pack(),
    ser.IOCTL_SERIAL_SET_WAIT_MASK: ser.pack_ulong(ser.SERIAL_EV_RXCHAR),
    ser.IOCTL_SERIAL_PURGE: ser.pack_ulong(ser.SERIAL_PURGE_RXCLEAR),
}
OURS = (ser.IOCTL_HILBRIDGE_PEEK, ser.IOCTL_HILBRIDGE_UNREAD, ser.IOCTL_HILBRIDGE_RESET)


def make_ready(port: Port, code: int) -> None:
    """So that the request can succeed."""
    if code == ser.IOCTL_SERIAL_WAIT_ON_MASK:
        port.control(ser.IOCTL_SERIAL_SET_WAIT_MASK, ser.pack_ulong(ser.SERIAL_EV_RXCHAR))
        port.feed(b"x")


def named(code: int) -> str:
    return next(name for name, value in vars(ser).items() if name.startswith("IOCTL_") and value == code)


# -- every code --------------------------------------------------------------------------------------------------------


def test_every_implemented_code_is_in_this_table() -> None:
    assert set(CONTROLS) == {*TABLE, *OURS}


@pytest.mark.parametrize("code", TABLE, ids=named)
def test_value(code: int) -> None:
    assert code == TABLE[code][0]
    assert (ioctl_device_type(code), ioctl_method(code), ioctl_access(code)) == (0x1B, METHOD_BUFFERED, FILE_ANY_ACCESS)


@pytest.mark.parametrize("code", TABLE, ids=named)
def test_exact_buffers_are_enough(make_port: MakePort, code: int) -> None:
    _, needs, returns = TABLE[code]
    port = make_port(loop=True)
    make_ready(port, code)
    request = port.control(code, GOOD.get(code, bytes(needs)), size=returns)
    assert (request.status, request.information) == (STATUS_SUCCESS, returns)


@pytest.mark.parametrize("code", TABLE, ids=named)
def test_longer_buffers_are_no_harm(make_port: MakePort, code: int) -> None:
    _, needs, returns = TABLE[code]
    port = make_port(loop=True)
    make_ready(port, code)
    request = port.control(code, GOOD.get(code, bytes(needs)) + b"rest", size=returns + 100)
    assert (request.status, request.information) == (STATUS_SUCCESS, returns)


@pytest.mark.parametrize("code", [c for c in TABLE if TABLE[c][1]], ids=named)
def test_short_input_is_refused_and_changes_nothing(make_port: MakePort, code: int) -> None:
    needs = TABLE[code][1]
    port = make_port(loop=True)
    before = (port.line.settings, port.extension.timeouts)
    for length in range(needs):
        request = port.control(code, GOOD[code][:length])
        assert (request.status, request.information) == (STATUS_BUFFER_TOO_SMALL, 0)
        assert isinstance(fault_of(request), UsageFault)
    assert (port.line.settings, port.extension.timeouts) == before


@pytest.mark.parametrize("code", [c for c in TABLE if TABLE[c][2]], ids=named)
def test_short_output_is_refused(make_port: MakePort, code: int) -> None:
    port = make_port(loop=True)
    for length in range(TABLE[code][2]):
        request = port.control(code, size=length)
        assert (request.status, request.information, request.data) == (STATUS_BUFFER_TOO_SMALL, 0, b"")


@pytest.mark.parametrize(
    "code",
    [
        0,
        0xFFFF_FFFF,
        ctl_code(FILE_DEVICE_SERIAL_PORT, 31, METHOD_BUFFERED, FILE_ANY_ACCESS),  # LSRMST_INSERT, not implemented
        ctl_code(FILE_DEVICE_SERIAL_PORT, 0xFFF, METHOD_BUFFERED, FILE_ANY_ACCESS),
        ctl_code(FILE_DEVICE_SERIAL_PORT + 1, 1, METHOD_BUFFERED, FILE_ANY_ACCESS),
        *(ser.IOCTL_SERIAL_SET_BAUD_RATE | method for method in (1, 2, 3)),  # another method is another code
        ser.IOCTL_SERIAL_SET_BAUD_RATE | 3 << 14,  # and so is another access
    ],
)
def test_unknown_code_is_refused(port: Port, code: int) -> None:
    request = port.control(code, ser.pack_ulong(9600), size=64)
    assert (request.status, request.information) == (STATUS_INVALID_PARAMETER, 0)
    fault = fault_of(request)
    assert isinstance(fault, UsageFault)
    assert f"0x{code:08X}" in str(fault)
    assert port.line.settings.baudrate == 115200


def test_words_of_an_earlier_refusal_are_not_those_of_a_later_one(make_port: MakePort) -> None:
    class Picky(VirtualLine):
        def configure(self, settings: LineSettings) -> None:
            if settings.baudrate == 12345:
                raise DeviceUnsupported("virtual:picky cannot do 12345 baud")
            super().configure(settings)

    port = make_port(line=Picky())
    assert port.set_baud_rate(12345).status == STATUS_INVALID_PARAMETER
    assert "12345" not in str(fault_of(port.control(0x001B0FFC)))


def test_control_code_wants_its_access(port: Port) -> None:
    """PEEK and UNREAD are about what a reader reads."""
    port.handle.close()
    with port.open("w") as writer:
        for code in (ser.IOCTL_HILBRIDGE_PEEK, ser.IOCTL_HILBRIDGE_UNREAD):
            with pytest.raises(DevicePermission):
                writer.ioctl(code, b"x", size=1)
        assert writer.ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4) == ser.pack_ulong(115200)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 50, 9600, 115200, 250_000, 3_000_000, 0xFFFF_FFFF])
def test_baud_rate_is_a_plain_number(port: Port, rate: int) -> None:
    assert port.set_baud_rate(rate).status == STATUS_SUCCESS
    assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4) == ser.pack_ulong(rate)
    assert port.line.settings == settings(rate)


def test_baud_rate_of_zero_is_refused(port: Port) -> None:
    assert port.set_baud_rate(0).status == STATUS_INVALID_PARAMETER
    assert port.line.settings == settings()


MATRIX = list(itertools.product(range(4), range(6), range(4, 10)))
STOP = {0: 1, 1: 1.5, 2: 2}
PARITY = "NOEMS"


def is_possible(stop: int, parity: int, word: int) -> bool:
    """5 to 8 bits; 1.5 stop bits with 5 bits only, 2 not with 5; five parities."""
    if word not in {5, 6, 7, 8} or parity > 4 or stop > 2:
        return False
    return (stop == 0) or (stop == 1 and word == 5) or (stop == 2 and word != 5)


def test_line_control_takes_what_is_possible_and_refuses_the_rest(port: Port) -> None:
    for stop, parity, word in MATRIX:
        before = port.line.settings
        control = ser.SerialLineControl(stop, parity, word)
        status = port.control(ser.IOCTL_SERIAL_SET_LINE_CONTROL, control.pack()).status
        if is_possible(stop, parity, word):
            assert status == STATUS_SUCCESS, control
            assert port.line.settings == settings(115200, word, PARITY[parity], STOP[stop])
            assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_LINE_CONTROL, size=3) == control.pack()
        else:
            assert status == STATUS_INVALID_PARAMETER, control
            assert port.line.settings == before


@pytest.mark.parametrize("raw", [(255, 0, 8), (0, 255, 8), (0, 0, 255), (255, 255, 255), (0, 0, 0)])
def test_line_control_full_of_rubbish(port: Port, raw: tuple[int, int, int]) -> None:
    request = port.control(ser.IOCTL_SERIAL_SET_LINE_CONTROL, bytes(raw))
    assert request.status == STATUS_INVALID_PARAMETER


def test_settings_that_a_device_was_plugged_in_with(make_port: MakePort) -> None:
    port = make_port(baudrate=9600, bytesize=7, parity="E", stopbits=2)
    assert port.handle.baudrate == 9600
    assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_LINE_CONTROL, size=3) == bytes((2, 2, 7))
    assert port.line.settings == settings(9600, 7, "E", 2)


def test_flow_control_survives_a_change_of_the_rate(make_port: MakePort) -> None:
    port = make_port(rtscts=True)
    port.handle.set(baudrate=9600)
    assert port.line.settings.rtscts


def test_timeouts_are_kept_as_they_are(port: Port) -> None:
    for timeouts in (ser.SerialTimeouts(), ser.SerialTimeouts(1, 2, 3, 4, 5), ser.SerialTimeouts(ser.MAXULONG, 0, 0)):
        port.handle.ioctl(ser.IOCTL_SERIAL_SET_TIMEOUTS, timeouts.pack())
        assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_TIMEOUTS, size=20) == timeouts.pack()


def test_timeouts_are_five_little_endian_ulongs() -> None:
    assert ser.SerialTimeouts(1, 2, 3, 4, 0x01020304).pack() == struct.pack("<IIIII", 1, 2, 3, 4, 0x01020304)


# -- modem lines and break ---------------------------------------------------------------------------------------------


def test_dtr_and_rts_on_a_loop(make_port: MakePort) -> None:
    port = make_port(loop=True)
    h = port.handle
    assert (h.dtr, h.rts, h.cts, h.dsr, h.cd, h.ri) == (False,) * 6
    h.dtr = True
    assert (h.dtr, h.rts) == (True, False)
    assert (h.cts, h.dsr, h.cd) == (False, True, True)
    h.rts = True
    assert (h.dtr, h.rts, h.cts) == (True, True, True)
    h.dtr = False
    assert (h.dtr, h.rts, h.cts, h.dsr, h.cd) == (False, True, True, False, False)
    h.rts = False
    assert (h.rts, h.cts) == (False, False)


def test_modem_status_and_dtrrts_have_the_bits_of_ntddser(make_port: MakePort) -> None:
    port = make_port(loop=True)
    port.handle.dtr = port.handle.rts = True
    status = ser.unpack_ulong(port.handle.ioctl(ser.IOCTL_SERIAL_GET_MODEMSTATUS, size=4))
    assert status == MSR_CTS | MSR_DSR | MSR_DCD == 0x10 | 0x20 | 0x80
    assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_DTRRTS, size=4) == ser.pack_ulong(3)


def test_modem_lines_do_not_wait_for_data(make_port: MakePort) -> None:
    """They are how a board is reset while something is stuck in front of it."""
    port = make_port(room=0, loop=True)
    port.handle.submit_write(b"stuck")
    port.handle.dtr = True
    assert port.handle.dsr


def test_break_waits_for_the_data_before_it(make_port: MakePort) -> None:
    """In the middle of a write it would garble that; and the kernel, too, sends all before it begins a break."""
    port = make_port(room=0)
    write = port.handle.submit_write(b"first")
    on = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_BREAK_ON)
    port.settle()
    assert waits(write, on)
    assert not port.line.break_on
    port.accept(5)
    port.settle()
    assert write.status == on.status == STATUS_SUCCESS
    assert port.line.break_on


def test_break(port: Port) -> None:
    port.handle.set_break(on=True)
    assert port.line.break_on
    port.handle.set_break(on=False)
    assert not port.line.break_on


def test_break_of_a_certain_length(port: Port) -> None:
    states: list[tuple[bool, float]] = []

    class Watched(VirtualLine):
        def set_break(self, on: bool) -> None:
            states.append((on, handle.now()))
            super().set_break(on)

    line = Watched("virtual:watched")
    with port.bridge.open(port.bridge.plug(line)) as handle:
        began = handle.now()
        handle.send_break(0.1)
        assert states == [(True, began), (False, pytest.approx(began + 0.1))]
        with pytest.raises(UsageFault, match="end"):
            handle.send_break(float("inf"))
        assert not line.break_on


class Bare(VirtualLine):
    """A line like a pty's: no modem lines, no break."""

    @property
    def has_modem_lines(self) -> bool:
        return False

    def modem_status(self) -> int:
        raise DeviceUnsupported(f"{self.name} has no modem lines")

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        raise DeviceUnsupported(f"{self.name} has no DTR and RTS")

    def set_break(self, on: bool) -> None:
        raise DeviceUnsupported(f"{self.name} has no break")


@pytest.mark.parametrize(
    "code",
    [
        ser.IOCTL_SERIAL_SET_DTR,
        ser.IOCTL_SERIAL_CLR_DTR,
        ser.IOCTL_SERIAL_SET_RTS,
        ser.IOCTL_SERIAL_CLR_RTS,
        ser.IOCTL_SERIAL_SET_BREAK_ON,
        ser.IOCTL_SERIAL_SET_BREAK_OFF,
        ser.IOCTL_SERIAL_GET_MODEMSTATUS,
        ser.IOCTL_SERIAL_GET_DTRRTS,
        ser.IOCTL_SERIAL_GET_MODEM_CONTROL,
    ],
    ids=named,
)
def test_line_without_modem_lines_says_so(make_port: MakePort, code: int) -> None:
    port = make_port(line=Bare())
    request = port.control(code, size=4)
    assert (request.status, request.data) == (STATUS_NOT_SUPPORTED, b"")
    assert isinstance(fault_of(request), DeviceUnsupported)
    port.feed(b"still works")
    assert port.handle.read(11) == b"still works"


def test_line_that_went_just_now_fails_the_control_and_not_the_driver(make_port: MakePort) -> None:
    class Dying(VirtualLine):
        def modem_status(self) -> int:
            raise DeviceGone("virtual:dying was unplugged")

    port = make_port(line=Dying())
    with pytest.raises(DeviceFault, match=r"unplugged|gone"):
        _ = port.handle.cts
    assert port.handle.write(b"abc") == 3


# -- GET_COMMSTATUS ----------------------------------------------------------------------------------------------------


def test_comm_status_counts_both_queues(make_port: MakePort) -> None:
    port = make_port(room=1)
    port.feed(b"abc")
    port.handle.submit_write(b"defgh")
    port.line.unsent = 2
    assert port.comm_status() == ser.SerialStatus(0, 0, 3, 6)


def test_comm_status_counts_what_no_interrupt_has_brought_yet(port: Port) -> None:
    """Bytes wait between the ISR and the log: they can be read, so they are counted."""
    port.feed(b"abc")
    port.line.feed(b"de")
    port.machine.step()
    assert port.comm_status().amount_in_in_queue == 5


def test_comm_status_of_a_read_that_waits(port: Port) -> None:
    """Its bytes have not been taken: they are still there."""
    request = port.handle.submit_read(10)
    port.feed(b"abc")
    assert port.comm_status().amount_in_in_queue == 3
    request.cancel()


LOOKS: dict[str, Callable[[Port], object]] = {
    "in_waiting": lambda port: port.handle.in_waiting,
    "out_waiting": lambda port: port.handle.out_waiting,
    "peek": lambda port: port.handle.ioctl(ser.IOCTL_HILBRIDGE_PEEK, size=10),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["exactly", "minimum", "terminator"])
def test_looking_takes_no_interrupt_away_from_a_read_that_waits(port: Port, look: str, kind: str) -> None:
    """One thread waits, and another looks at the very moment when the bytes have come and not interrupted yet."""
    options: dict[str, dict[str, int | bytes]] = {
        "exactly": {},
        "minimum": {"minimum": 3},
        "terminator": {"terminator": b"c"},
    }
    request = port.handle.submit_read(3, **options[kind])  # type: ignore[arg-type]
    port.line.feed(b"abc")
    LOOKS[look](port)
    port.settle()
    assert end_of(request) == (STATUS_SUCCESS, b"abc")


def test_looking_takes_no_interrupt_away_from_another_reader(port: Port) -> None:
    with port.open() as other:
        request = other.submit_read(3)
        port.line.feed(b"abc")
        assert port.handle.in_waiting == 3
        port.settle()
        assert end_of(request) == (STATUS_SUCCESS, b"abc")


def test_looking_again_and_again_does_not_fill_the_memory(port: Port) -> None:
    port.extension.log_size = 1000
    port.line.feed(bytes(10_000_000))
    for _ in range(100):
        assert port.handle.in_waiting <= 1000 + 2 * 65536


def test_comm_status_of_who_does_not_read(port: Port) -> None:
    port.handle.close()
    port.feed(b"abc")
    with port.open("w") as writer:
        assert port.comm_status(writer) == ser.SerialStatus(0, 0, 0, 0)


def test_comm_status_is_twenty_bytes() -> None:
    packed = ser.SerialStatus(1, 2, 3, 4, eof_received=False, wait_for_immediate=True).pack()
    assert packed == struct.pack("<IIII", 1, 2, 3, 4) + b"\0\1\0\0"
    assert ser.SerialStatus.unpack(packed) == (1, 2, 3, 4, False, True)


# -- our own: PEEK and UNREAD ------------------------------------------------------------------------------------------


def peek(port: Port, size: int) -> bytes:
    return port.handle.ioctl(ser.IOCTL_HILBRIDGE_PEEK, size=size)


def unread(port: Port, data: bytes) -> None:
    port.handle.ioctl(ser.IOCTL_HILBRIDGE_UNREAD, data)


def test_peek_shows_and_does_not_take(port: Port) -> None:
    port.feed(b"abc")
    for size, expected in ((100, b"abc"), (3, b"abc"), (2, b"ab"), (0, b"")):
        assert peek(port, size) == expected
    assert port.handle.read(3) == b"abc"
    assert peek(port, 10) == b""


def test_peek_shows_what_a_waiting_read_has_not_taken(port: Port) -> None:
    request = port.handle.submit_read(10)
    port.feed(b"abc")
    assert peek(port, 10) == b"abc"
    port.feed(b"defghij")
    assert end_of(request) == (STATUS_SUCCESS, b"abcdefghij")


def test_unread_bytes_are_read_again_first(port: Port) -> None:
    port.feed(b"abcdef")
    data = port.handle.read(4)
    unread(port, data)
    assert port.handle.in_waiting == 6
    assert port.handle.read(6) == b"abcdef"


def test_unread_in_pieces(port: Port) -> None:
    port.feed(b"abcdef")
    data = port.handle.read(6)
    for piece in (data[4:], data[2:4], data[:2]):
        unread(port, piece)
    assert port.handle.read(6) == b"abcdef"


def test_unread_when_more_has_come(port: Port) -> None:
    port.feed(b"abc")
    data = port.handle.read(3)
    port.feed(b"def")
    unread(port, data)
    assert port.handle.read(6) == b"abcdef"


def test_unread_is_for_this_reader_only(port: Port) -> None:
    with port.open() as other:
        port.feed(b"abc")
        data = port.handle.read(3)
        unread(port, data)
        assert other.read(3) == b"abc"
        port.feed(b"d")
        assert other.read(1) == b"d"
        assert port.handle.read(4) == b"abcd"


def test_unread_while_another_read_waits_is_what_that_begins_with(port: Port) -> None:
    """It has taken nothing yet. Two tasks read, and the one whose bytes had come is cancelled: the other gets them."""
    port.feed(b"abc")
    data = port.handle.read(3)
    first, second = port.handle.submit_read(5), port.handle.submit_read(1)
    port.feed(b"d")
    unread(port, data)
    assert not first.done
    port.feed(b"ef")
    assert (end_of(first), end_of(second)) == ((STATUS_SUCCESS, b"abcde"), (STATUS_SUCCESS, b"f"))


def test_unread_may_end_the_reads_that_wait(port: Port) -> None:
    port.feed(b"one\ntwo")
    data = port.handle.read(7)
    line, rest = port.handle.submit_read(100, terminator=b"\n"), port.handle.submit_read(3)
    unread(port, data)
    assert (end_of(line), end_of(rest)) == ((STATUS_SUCCESS, b"one\n"), (STATUS_SUCCESS, b"two"))


def test_unread_completes_a_terminator_with_what_a_waiting_read_has_looked_at(port: Port) -> None:
    port.feed(b"xE")
    data = port.handle.read(2)
    request = port.handle.submit_read(100, terminator=b"END")
    port.feed(b"ND")
    assert not request.done
    unread(port, data)
    assert end_of(request) == (STATUS_SUCCESS, b"xEND")


def test_unread_more_than_was_ever_read_is_refused(port: Port) -> None:
    port.feed(b"abc")
    port.handle.read(2)
    assert port.control(ser.IOCTL_HILBRIDGE_UNREAD, b"xabc").status == STATUS_INVALID_DEVICE_STATE
    assert port.handle.read(1) == b"c"


def test_unread_of_nothing_is_refused(port: Port) -> None:
    assert port.control(ser.IOCTL_HILBRIDGE_UNREAD).status == STATUS_BUFFER_TOO_SMALL


def test_unread_beyond_the_logs_bound_is_kept(port: Port) -> None:
    port.extension.log_size = 16
    port.feed(bytes(range(100)))
    data = port.handle.read(100)
    unread(port, data)
    assert port.handle.read(100) == bytes(range(100))


def test_unread_then_a_terminator_across_the_seam(port: Port) -> None:
    port.feed(b"one E")
    data = port.handle.read(5)
    unread(port, data)
    port.feed(b"ND two")
    assert port.handle.read_until(b"END") == b"one END"


# -- internal controls -------------------------------------------------------------------------------------------------


def test_internal_controls_reuse_the_numbers_and_are_none_of_the_applications(port: Port) -> None:
    """IOCTL_SERIAL_INTERNAL_DO_WAIT_WAKE is 0x001B0004 as SET_BAUD_RATE is; only the major function differs."""
    from hilbridge import Request

    request = Request(port.handle, "internal", 4)
    port.bridge.io.submit_ioctl(request, ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600), internal=True)
    assert request.status == STATUS_INVALID_DEVICE_REQUEST
    assert port.handle.baudrate == 115200
