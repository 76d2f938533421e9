"""GET_CHARS, SET_CHARS, GET_HANDFLOW, SET_HANDFLOW: what a line can do of them, and what is refused, and how."""

from __future__ import annotations

import struct

import pytest

from hilbridge import UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import LineSettings
from hilbridge.model.status import STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_SUCCESS, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, fault_of, waits
from tests.drivers.serial.stopkit import MakePort, Recorder, StopPort
from tests.drivers.serial.waitkit import set_mask, told, wait

SIZE = 1 << 20
DTR, RTS = ser.SERIAL_DTR_CONTROL, ser.SERIAL_RTS_CONTROL
DEFAULT = ser.SerialHandflow(DTR, RTS, SIZE >> 1, SIZE >> 3)
RTSCTS = ser.SerialHandflow(DTR | ser.SERIAL_CTS_HANDSHAKE, ser.SERIAL_RTS_HANDSHAKE, 1, 2)
DSRDTR = ser.SerialHandflow(ser.SERIAL_DTR_HANDSHAKE | ser.SERIAL_DSR_HANDSHAKE, RTS, 1, 2)
XONXOFF = ser.SerialHandflow(DTR, RTS | ser.SERIAL_AUTO_TRANSMIT | ser.SERIAL_AUTO_RECEIVE, 1, 2)


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


def get_chars(port: Port) -> ser.SerialChars:
    return ser.SerialChars.unpack(port.control(ser.IOCTL_SERIAL_GET_CHARS, size=6).data)


def set_chars(port: Port, chars: ser.SerialChars) -> NtStatus:
    return port.control(ser.IOCTL_SERIAL_SET_CHARS, chars.pack()).status


def get_flow(port: Port) -> ser.SerialHandflow:
    return ser.SerialHandflow.unpack(port.control(ser.IOCTL_SERIAL_GET_HANDFLOW, size=16).data)


def set_flow(port: Port, flow: ser.SerialHandflow) -> NtStatus:
    return port.control(ser.IOCTL_SERIAL_SET_HANDFLOW, flow.pack()).status


# -- special characters ------------------------------------------------------------------------------------------------


def test_characters_at_first_and_as_they_were_set(port: Port) -> None:
    assert get_chars(port) == (0, 0, 0, 0, 0x11, 0x13)
    for chars in (ser.SerialChars(1, 2, 3, 4, 0x11, 0x13), ser.SerialChars(4, 3, 2, 1, 5, 6)):
        assert set_chars(port, chars) == STATUS_SUCCESS
        assert get_chars(port) == chars
    assert ser.SerialChars(1, 2, 3, 4, 5, 6).pack() == bytes((1, 2, 3, 4, 5, 6))


def test_the_event_character_is_heeded_at_once(port: Port) -> None:
    set_chars(port, ser.SerialChars(event_char=ord("$")))
    set_mask(port, ser.SERIAL_EV_RXFLAG)
    request = wait(port)
    port.feed(b"\0")
    assert waits(request)
    set_chars(port, ser.SerialChars(event_char=0))
    port.feed(b"$")
    assert waits(request)
    port.feed(b"\0")
    assert told(request) == ser.SERIAL_EV_RXFLAG


def test_equal_xon_and_xoff_are_accepted_where_nobody_uses_them(port: Port) -> None:
    """As Microsoft's sample does, and not as its documentation says."""
    assert set_chars(port, ser.SerialChars(xon_char=0, xoff_char=0)) == STATUS_SUCCESS
    assert set_flow(port, XONXOFF) == STATUS_NOT_SUPPORTED
    assert get_flow(port) == DEFAULT


@pytest.mark.parametrize("chars", [(0x11, 0x11), (0x13, 0x11), (0, 0), (0x11, 0x14)])
def test_software_flow_control_has_one_pair_of_characters(port: Port, chars: tuple[int, int]) -> None:
    assert set_flow(port, XONXOFF) == STATUS_SUCCESS
    request = port.control(ser.IOCTL_SERIAL_SET_CHARS, ser.SerialChars(0, 0, 0, 7, *chars).pack())
    assert request.status == STATUS_NOT_SUPPORTED
    assert "XonChar 0x11 and XoffChar 0x13" in str(fault_of(request))
    assert get_chars(port) == ser.SerialChars()
    assert set_chars(port, ser.SerialChars(event_char=7)) == STATUS_SUCCESS


def test_characters_do_not_overtake_the_flow_control_that_uses_them(make_port: MakePort) -> None:
    port = make_port(room=0)
    port.handle.submit_write(b"stuck")
    flow = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_HANDFLOW, XONXOFF.pack())
    chars = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_CHARS, ser.SerialChars(xon_char=1).pack())
    port.settle()
    assert waits(flow, chars)
    port.accept(5)
    assert (flow.status, chars.status) == (STATUS_SUCCESS, STATUS_NOT_SUPPORTED)


# -- flow control ------------------------------------------------------------------------------------------------------


def test_flow_control_at_first(port: Port) -> None:
    assert get_flow(port) == DEFAULT
    assert DEFAULT.pack() == struct.pack("<IIii", 1, 0x40, SIZE >> 1, SIZE >> 3)


@pytest.mark.parametrize(
    ("flow", "settings"),
    [
        (RTSCTS, LineSettings(rtscts=True)),
        (DSRDTR, LineSettings(dsrdtr=True)),
        (XONXOFF, LineSettings(xonxoff=True)),
        (DEFAULT, LineSettings()),
    ],
)
def test_what_a_line_can_do(port: Port, flow: ser.SerialHandflow, settings: LineSettings) -> None:
    assert set_flow(port, flow) == STATUS_SUCCESS
    assert (port.line.settings, get_flow(port)) == (settings, flow)
    port.set_baud_rate(9600)
    assert get_flow(port) == flow
    assert set_flow(port, DEFAULT) == STATUS_SUCCESS
    assert (port.line.settings, get_flow(port)) == (LineSettings(9600), DEFAULT)


def test_what_it_was_plugged_in_with_is_what_it_says(make_port: MakePort) -> None:
    port = make_port(rtscts=True)
    assert get_flow(port)[:2] == RTSCTS[:2]


@pytest.mark.parametrize(
    ("control", "replaced", "names"),
    [
        (DTR | ser.SERIAL_DCD_HANDSHAKE, RTS, "SERIAL_DCD_HANDSHAKE"),
        (DTR | ser.SERIAL_DSR_SENSITIVITY, RTS, "SERIAL_DSR_SENSITIVITY"),
        (DTR | ser.SERIAL_ERROR_ABORT, RTS, "SERIAL_ERROR_ABORT"),
        (DTR, RTS | ser.SERIAL_ERROR_CHAR, "SERIAL_ERROR_CHAR"),
        (DTR, RTS | ser.SERIAL_NULL_STRIPPING, "SERIAL_NULL_STRIPPING"),
        (DTR, RTS | ser.SERIAL_BREAK_CHAR, "SERIAL_BREAK_CHAR"),
        (DTR, RTS | ser.SERIAL_XOFF_CONTINUE, "SERIAL_XOFF_CONTINUE"),
        (DTR, ser.SERIAL_TRANSMIT_TOGGLE, "SERIAL_TRANSMIT_TOGGLE"),
        (DTR | ser.SERIAL_CTS_HANDSHAKE, RTS, "SERIAL_CTS_HANDSHAKE .* without SERIAL_RTS_HANDSHAKE"),
        (DTR, ser.SERIAL_RTS_HANDSHAKE, "SERIAL_RTS_HANDSHAKE .* without SERIAL_CTS_HANDSHAKE"),
        (DTR | ser.SERIAL_DSR_HANDSHAKE, RTS, "SERIAL_DSR_HANDSHAKE .* without SERIAL_DTR_HANDSHAKE"),
        (ser.SERIAL_DTR_HANDSHAKE, RTS, "SERIAL_DTR_HANDSHAKE .* without SERIAL_DSR_HANDSHAKE"),
        (DTR, RTS | ser.SERIAL_AUTO_TRANSMIT, "SERIAL_AUTO_TRANSMIT .* without SERIAL_AUTO_RECEIVE"),
        (DTR, RTS | ser.SERIAL_AUTO_RECEIVE, "SERIAL_AUTO_RECEIVE .* without SERIAL_AUTO_TRANSMIT"),
    ],
)
def test_what_no_line_can_do_is_refused_by_name(port: Port, control: int, replaced: int, names: str) -> None:
    request = port.control(ser.IOCTL_SERIAL_SET_HANDFLOW, ser.SerialHandflow(control, replaced, 0, 0).pack())
    assert request.status == STATUS_NOT_SUPPORTED
    with pytest.raises(DeviceUnsupported, match=names):
        request.result(0)
    assert get_flow(port) == DEFAULT


@pytest.mark.parametrize("bit", range(32))
def test_undefined_bits_are_refused(port: Port, bit: int) -> None:
    for control, replaced, invalid in (
        (1 << bit, 0, ser.SERIAL_CONTROL_INVALID),
        (0, 1 << bit, ser.SERIAL_FLOW_INVALID),
    ):
        status = set_flow(port, ser.SerialHandflow(control, replaced, 0, 0))
        assert (status == STATUS_INVALID_PARAMETER) == bool(invalid >> bit & 1)


@pytest.mark.parametrize(
    "limits", [(-1, 0), (0, -1), (SIZE + 1, 0), (0, SIZE + 1), (-(1 << 31), 0), ((1 << 31) - 1, 0)]
)
def test_impossible_limits(port: Port, limits: tuple[int, int]) -> None:
    assert set_flow(port, ser.SerialHandflow(DTR, RTS, *limits)) == STATUS_INVALID_PARAMETER
    assert get_flow(port) == DEFAULT


@pytest.mark.parametrize("limits", [(0, 0), (SIZE, SIZE)])
def test_the_last_possible_limits(port: Port, limits: tuple[int, int]) -> None:
    assert set_flow(port, ser.SerialHandflow(DTR, RTS, *limits)) == STATUS_SUCCESS
    assert get_flow(port)[2:] == limits


def test_dtr_is_driven_or_a_handshake(port: Port) -> None:
    both = ser.SERIAL_DTR_CONTROL | ser.SERIAL_DTR_HANDSHAKE
    assert set_flow(port, ser.SerialHandflow(both, RTS, 0, 0)) == STATUS_INVALID_PARAMETER


# -- DTR and RTS -------------------------------------------------------------------------------------------------------


def test_control_bits_switch_the_outputs(port: StopPort) -> None:
    line = port.line
    assert isinstance(line, Recorder)
    line.done.clear()
    for control, replaced in ((0, RTS), (0, 0), (DTR, 0), (DTR, 0), (DTR, RTS)):
        assert set_flow(port, ser.SerialHandflow(control, replaced, 0, 0)) == STATUS_SUCCESS
    assert line.done == [(False, None), (None, False), (True, None), (None, True)]
    assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_DTRRTS, size=4) == ser.pack_ulong(3)


@pytest.mark.parametrize(
    ("flow", "codes", "free"),
    [
        (RTSCTS, (ser.IOCTL_SERIAL_SET_RTS, ser.IOCTL_SERIAL_CLR_RTS), ser.IOCTL_SERIAL_SET_DTR),
        (DSRDTR, (ser.IOCTL_SERIAL_SET_DTR, ser.IOCTL_SERIAL_CLR_DTR), ser.IOCTL_SERIAL_SET_RTS),
    ],
)
def test_an_output_of_a_handshake_is_not_the_applications(
    port: StopPort, flow: ser.SerialHandflow, codes: tuple[int, int], free: int
) -> None:
    set_flow(port, flow)
    assert isinstance(port.line, Recorder)
    port.line.done.clear()
    for code in codes:
        request = port.control(code)
        assert request.status == STATUS_INVALID_PARAMETER
        with pytest.raises(UsageFault, match=r"is driven by the flow control (rtscts|dsrdtr); to set it by hand"):
            request.result(0)
    assert port.line.done == []
    assert port.control(free).status == STATUS_SUCCESS
    set_flow(port, DEFAULT)
    assert port.control(codes[0]).status == STATUS_SUCCESS


@pytest.mark.parametrize("flow", ["rtscts", "dsrdtr"])
def test_an_output_that_is_a_handshake_no_more_is_switched_on(make_port: MakePort, flow: str) -> None:
    port = make_port(verify=True, **{flow: True})
    assert isinstance(port.line, Recorder)
    port.line.done.clear()
    assert set_flow(port, DEFAULT) == STATUS_SUCCESS
    assert port.line.done == [115200, (None, True) if flow == "rtscts" else (True, None)]


class Plain(VirtualLine):
    """No modem lines, and no flow control."""

    @property
    def has_modem_lines(self) -> bool:
        return False

    def configure(self, settings: LineSettings) -> None:
        if settings.rtscts:
            raise DeviceUnsupported(f"{self.name}: no rtscts")
        super().configure(settings)


def test_a_line_that_cannot_refuses_and_nothing_has_changed(make_port: MakePort) -> None:
    port = make_port(line=Plain(), verify=True)
    for flow, words in ((RTSCTS, "no rtscts"), (ser.SerialHandflow(0, RTS, 0, 0), "has no DTR and RTS")):
        request = port.control(ser.IOCTL_SERIAL_SET_HANDFLOW, flow.pack())
        assert request.status == STATUS_NOT_SUPPORTED
        assert words in str(fault_of(request))
        assert get_flow(port) == DEFAULT
    assert set_flow(port, DEFAULT) == STATUS_SUCCESS


# -- in its turn, and through a stop -------------------------------------------------------------------------------------


def test_it_waits_for_what_was_written_before(make_port: MakePort) -> None:
    port = make_port(room=0)
    port.handle.submit_write(b"abc")
    request = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_HANDFLOW, RTSCTS.pack())
    port.settle()
    assert waits(request) and not port.line.settings.rtscts
    port.accept(3)
    assert request.status == STATUS_SUCCESS and port.line.settings.rtscts


def test_it_waits_through_a_stop_and_holds_after_one(port: StopPort) -> None:
    port.stop()
    request = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_HANDFLOW, RTSCTS.pack())
    port.settle()
    assert waits(request) and get_flow(port) == DEFAULT
    assert set_chars(port, ser.SerialChars(event_char=1)) == STATUS_SUCCESS
    port.start()
    assert request.status == STATUS_SUCCESS
    port.stop()
    assert port.start().settings == LineSettings(rtscts=True)
    assert get_flow(port) == RTSCTS and get_chars(port).event_char == 1
