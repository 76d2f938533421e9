"""Properties, queue size, the modem control register, why nothing is sent: what a port says of itself."""

from __future__ import annotations

import struct

import pytest

from hilbridge.drivers.serial.info import LARGEST_QUEUE
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import MSR_CTS, MSR_DSR
from hilbridge.model.status import (
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, fault_of, waits
from tests.drivers.serial.stopkit import MakePort, Recorder, StopPort

SIZE = 1 << 20


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


class NoModem(VirtualLine):
    @property
    def has_modem_lines(self) -> bool:
        return False


def ulong(port: Port, code: int) -> int:
    request = port.control(code, size=4)
    assert request.status == STATUS_SUCCESS
    return ser.unpack_ulong(request.data)


def set_queue(port: Port, size: int, out: int = 0) -> NtStatus:
    return port.control(ser.IOCTL_SERIAL_SET_QUEUE_SIZE, struct.pack("<II", size, out)).status


def properties(port: Port) -> ser.SerialCommProp:
    return ser.SerialCommProp.unpack(port.control(ser.IOCTL_SERIAL_GET_PROPERTIES, size=64).data)


def set_register(port: Port, register: int) -> NtStatus:
    return port.control(ser.IOCTL_SERIAL_SET_MODEM_CONTROL, ser.pack_ulong(register)).status


# -- GET_PROPERTIES ----------------------------------------------------------------------------------------------------


def test_properties_lie_where_ntddser_has_them(port: Port) -> None:
    data = port.control(ser.IOCTL_SERIAL_GET_PROPERTIES, size=64).data
    assert len(data) == 64
    assert struct.unpack_from("<HHII", data) == (64, 2, 1, 0)
    at = {12: 0, 16: LARGEST_QUEUE, 20: 0x1000_0000, 24: 1, 28: 0xD7, 32: 0x1F, 36: 0x1007_FFFF, 44: 0, 48: SIZE}
    assert {offset: struct.unpack_from("<I", data, offset)[0] for offset in at} == at
    assert struct.unpack_from("<HH", data, 40) == (0xF, 0x1F07)
    assert data[52:] == bytes(12)


def test_a_line_without_modem_lines_has_fewer_capabilities(make_port: MakePort) -> None:
    port = make_port(line=NoModem(), verify=True)
    assert properties(port).prov_capabilities == 0xD0
    assert properties(port).prov_sub_type == ser.SERIAL_SP_UNSPECIFIED


def test_properties_are_those_of_the_line_that_comes_back(port: StopPort) -> None:
    port.stop()
    request = port.handle.submit_ioctl(ser.IOCTL_SERIAL_GET_PROPERTIES, size=64)
    assert waits(request)
    port.start(NoModem())
    assert ser.SerialCommProp.unpack(request.data).prov_capabilities == 0xD0


# -- SET_QUEUE_SIZE ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE])
def test_a_queue_does_not_shrink(port: Port, size: int) -> None:
    assert set_queue(port, size, 0xFFFF_FFFF) == STATUS_SUCCESS
    assert properties(port).current_rx_queue == SIZE


def test_a_queue_grows_up_to_a_limit(port: Port) -> None:
    assert set_queue(port, 2 * SIZE) == STATUS_SUCCESS
    assert properties(port).current_rx_queue == 2 * SIZE
    for size in (LARGEST_QUEUE + 1, 0xFFFF_FFFF):
        assert set_queue(port, size) == STATUS_INSUFFICIENT_RESOURCES
        assert properties(port).current_rx_queue == 2 * SIZE
    assert set_queue(port, LARGEST_QUEUE) == STATUS_SUCCESS
    assert properties(port).current_rx_queue == LARGEST_QUEUE


def test_a_larger_queue_takes_what_the_smaller_one_had_no_room_for(port: StopPort) -> None:
    port.extension.log_size = 16
    port.feed(bytes(20))
    assert port.handle.in_waiting == 20
    port.settle()
    port.feed(bytes(30))
    assert port.line.untaken == 30
    assert set_queue(port, 100) == STATUS_SUCCESS
    port.settle()
    assert port.line.untaken == 0
    assert port.handle.in_waiting == 50


def test_another_size_has_its_own_limits(port: Port) -> None:
    flow = ser.SerialHandflow(ser.SERIAL_DTR_CONTROL, ser.SERIAL_RTS_CONTROL, 7, 8)
    port.control(ser.IOCTL_SERIAL_SET_HANDFLOW, flow.pack())
    set_queue(port, SIZE)
    assert port.handle.ioctl(ser.IOCTL_SERIAL_GET_HANDFLOW, size=16) == flow.pack()
    set_queue(port, LARGEST_QUEUE)
    data = port.handle.ioctl(ser.IOCTL_SERIAL_GET_HANDFLOW, size=16)
    assert ser.SerialHandflow.unpack(data)[2:] == (LARGEST_QUEUE >> 1, LARGEST_QUEUE >> 3)


# -- the modem control register ----------------------------------------------------------------------------------------


def test_the_register_is_dtr_and_rts(port: StopPort) -> None:
    assert ulong(port, ser.IOCTL_SERIAL_GET_MODEM_CONTROL) == 0
    line = port.line
    assert isinstance(line, Recorder)
    line.done.clear()
    for register in (3, 1, 2, 0):
        assert set_register(port, register) == STATUS_SUCCESS
        assert ulong(port, ser.IOCTL_SERIAL_GET_MODEM_CONTROL) == register
    assert line.done == [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("bit", range(2, 32))
def test_other_bits_of_the_register(port: StopPort, bit: int) -> None:
    request = port.control(ser.IOCTL_SERIAL_SET_MODEM_CONTROL, ser.pack_ulong(3 | 1 << bit))
    name = {2: "OUT1", 3: "OUT2", 4: "LOOP"}.get(bit)
    assert request.status == (STATUS_NOT_SUPPORTED if name else STATUS_INVALID_PARAMETER)
    assert (name or "") in str(fault_of(request))
    assert isinstance(fault_of(request), DeviceUnsupported) == (name is not None)
    assert ulong(port, ser.IOCTL_SERIAL_GET_MODEM_CONTROL) == 0


@pytest.mark.parametrize("flow", ["rtscts", "dsrdtr"])
def test_the_register_is_not_the_applications_while_an_output_is_a_handshake(make_port: MakePort, flow: str) -> None:
    port = make_port(verify=True, **{flow: True})
    assert set_register(port, 3) == STATUS_INVALID_PARAMETER
    assert ulong(port, ser.IOCTL_SERIAL_GET_DTRRTS) == 0


def test_the_register_waits_for_the_line(port: StopPort) -> None:
    port.stop()
    request = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_MODEM_CONTROL, ser.pack_ulong(2))
    assert waits(request)
    line = port.start()
    assert isinstance(line, Recorder) and line.done == [115200, (False, True)]
    assert request.status == STATUS_SUCCESS


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_there_is_no_configuration_of_the_providers_own(port: Port) -> None:
    assert ulong(port, ser.IOCTL_SERIAL_CONFIG_SIZE) == 0


def test_a_reset_changes_nothing(port: StopPort) -> None:
    request, read = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_DTR), port.handle.submit_read(1)
    line = port.line
    assert isinstance(line, Recorder)
    before = list(line.done)
    assert port.control(ser.IOCTL_SERIAL_RESET_DEVICE).status == STATUS_SUCCESS
    assert line.done == before and waits(read) and request.status == STATUS_SUCCESS


@pytest.mark.parametrize(
    ("flow", "status", "reasons"),
    [
        ({}, 0, 0),
        ({"rtscts": True}, 0, ser.SERIAL_TX_WAITING_FOR_CTS),
        ({"rtscts": True}, MSR_DSR, ser.SERIAL_TX_WAITING_FOR_CTS),
        ({"rtscts": True}, MSR_CTS, 0),
        ({"dsrdtr": True}, MSR_CTS, ser.SERIAL_TX_WAITING_FOR_DSR),
        ({"dsrdtr": True}, MSR_DSR, 0),
        ({"rtscts": True, "dsrdtr": True}, 0, 3),
    ],
)
def test_why_nothing_is_sent(make_port: MakePort, flow: dict[str, bool], status: int, reasons: int) -> None:
    port = make_port(verify=True, **flow)
    port.line.set_modem_status(status)
    assert port.comm_status().hold_reasons == reasons
    port.handle.set_break(on=True)
    assert port.comm_status().hold_reasons == reasons | ser.SERIAL_TX_WAITING_ON_BREAK
    port.handle.set_break(on=False)
    assert port.comm_status().hold_reasons == reasons


def test_nobody_knows_why_while_the_line_is_away(make_port: MakePort) -> None:
    port = make_port(verify=True, rtscts=True)
    port.stop()
    assert port.comm_status().hold_reasons == 0
    port.start()
    assert port.comm_status().hold_reasons == ser.SERIAL_TX_WAITING_FOR_CTS
