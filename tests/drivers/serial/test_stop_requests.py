"""Control requests and handles while a port is lent, and who may refuse to lend it."""

from __future__ import annotations

import pytest

from hilbridge.model import ntddser as ser
from hilbridge.model.codes import IrpMajor, PnpMinor
from hilbridge.model.hardware import LineSettings
from hilbridge.model.parameters import NO_PARAMETERS
from hilbridge.model.pnp_life import PnpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_SHARING_VIOLATION,
    STATUS_SUCCESS,
)
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import end_of, flush, waits
from tests.drivers.serial.stopkit import MakePort, Recorder, StopPort
from tests.support import now


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


# -- control requests --------------------------------------------------------------------------------------------------


def test_what_needs_the_line_at_once_is_held_and_done_in_order(port: StopPort) -> None:
    port.stop()
    requests = [port.submit_dtr(on) for on in (True, False, True)]
    answer = port.handle.submit_ioctl(ser.IOCTL_SERIAL_GET_DTRRTS, size=4)
    status = port.handle.submit_ioctl(ser.IOCTL_SERIAL_GET_MODEMSTATUS, size=4)
    assert waits(*requests, answer, status) and len(port.extension.hold) == 5
    line = port.start()
    assert isinstance(line, Recorder) and line.done == [115200, (True, None), (False, None), (True, None)]
    assert ser.unpack_ulong(answer.data) == ser.SERIAL_DTR_STATE
    assert status.status == STATUS_SUCCESS and not port.extension.hold.active


def test_what_is_held_goes_before_what_waits_to_be_sent(port: StopPort) -> None:
    """DTR has never waited for data, and a board that is held in reset would hear none of it."""
    port.stop()
    write, reset = port.handle.submit_write(b"hello"), port.submit_dtr(True)
    seen: list[int] = []

    class Watching(Recorder):
        def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
            seen.append(len(self.sent))

    port.start(Watching())
    assert seen == [0] and (write.status, reset.status) == (STATUS_SUCCESS, STATUS_SUCCESS)


def test_what_is_known_is_answered_at_once(port: StopPort) -> None:
    port.stop()
    assert ser.unpack_ulong(port.handle.ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4)) == 115200
    assert len(port.handle.ioctl(ser.IOCTL_SERIAL_GET_LINE_CONTROL, size=3)) == 3
    port.set_timeouts(constant=5)
    assert port.comm_status().amount_in_out_queue == 0
    port.handle.submit_write(b"abc")
    assert port.comm_status().amount_in_out_queue == 3


def test_a_purge_works_while_it_is_lent(port: StopPort) -> None:
    port.feed(b"old")
    port.stop()
    write, read = port.handle.submit_write(b"x"), port.handle.submit_read(10)
    port.purge(0xF)
    assert (write.status, read.status) == (STATUS_CANCELLED, STATUS_CANCELLED)
    assert port.handle.in_waiting == 0
    assert port.start().sent == b""


def test_bytes_can_be_given_back_while_it_is_lent(port: StopPort) -> None:
    port.feed(b"abc")
    data = port.handle.read(3)
    port.stop()
    port.handle.give_back(data)
    port.start()
    assert port.handle.read(3) == b"abc"


# -- handles -----------------------------------------------------------------------------------------------------------


def test_it_can_be_opened_and_closed_while_it_is_lent(port: StopPort) -> None:
    port.handle.close()
    port.stop()
    handle = port.open("rw")
    request = handle.submit_read(2)
    port.start()
    port.feed(b"ok")
    assert end_of(request) == (STATUS_SUCCESS, b"ok")
    handle.close()


def test_there_is_one_writer_while_it_is_lent(port: StopPort) -> None:
    port.stop()
    with pytest.raises(Exception, match="another handle has the device for writing") as refused:
        port.open("w")
    assert getattr(refused.value, "status", None) == STATUS_SHARING_VIOLATION


def test_a_closed_handle_ends_its_requests_and_nobody_elses(port: StopPort) -> None:
    other = port.open()
    port.stop()
    mine = [port.handle.submit_read(1), port.handle.submit_write(b"x"), port.submit_dtr(True)]
    others = [other.submit_read(1), port.submit_dtr(True, other)]
    port.handle.close()
    assert [r.status for r in mine] == [STATUS_CANCELLED] * 3
    assert waits(*others)
    line = port.start()
    port.feed(b"y")
    assert [r.status for r in others] == [STATUS_SUCCESS] * 2
    assert isinstance(line, Recorder) and line.sent == b"" and line.done == [115200, (True, None)]
    other.close()


def test_the_drivers_own_cleanup_ends_what_is_held(port: StopPort) -> None:
    """Without the I/O manager, which would cancel what a driver forgets."""
    port.stop()
    held = port.submit_dtr(True)
    port.bridge.io.send_and_wait(port.device, port.handle.file, IrpMajor.CLEANUP, NO_PARAMETERS)
    assert held.status == STATUS_CANCELLED


def test_cancelled_requests_end_at_once(port: StopPort) -> None:
    port.stop()
    requests = [
        port.handle.submit_read(1),
        port.handle.submit_write(b"x"),
        port.submit_dtr(True),
        flush(port),
    ]
    for request in requests:
        request.cancel()
        assert request.status == STATUS_CANCELLED
    line = port.start()
    assert isinstance(line, Recorder) and line.sent == b"" and line.done == [115200]


# -- QUERY_STOP and CANCEL_STOP ----------------------------------------------------------------------------------------


def test_between_the_question_and_the_stop_it_receives_and_holds_what_is_to_be_sent(port: StopPort) -> None:
    assert port.send(PnpMinor.QUERY_STOP_DEVICE) == STATUS_SUCCESS
    write, dtr = port.handle.submit_write(b"x"), port.submit_dtr(True)
    port.feed(b"abc")
    assert port.handle.read(3) == b"abc"
    assert waits(write) and dtr.status == STATUS_SUCCESS
    assert now(port.extension.life.state) is PnpState.STOP_PENDING
    assert port.send(PnpMinor.CANCEL_STOP_DEVICE) == STATUS_SUCCESS
    assert write.status == STATUS_SUCCESS and bytes(port.line.sent) == b"x"
    assert port.extension.life.state is PnpState.STARTED


def test_a_cancel_that_nobody_asked_for_changes_nothing(port: StopPort) -> None:
    assert port.send(PnpMinor.CANCEL_STOP_DEVICE) == STATUS_SUCCESS
    port.handle.write(b"x")
    assert bytes(port.line.sent) == b"x"


def test_a_stop_without_a_question_stops_all_the_same(port: StopPort) -> None:
    assert port.send(PnpMinor.STOP_DEVICE) == STATUS_SUCCESS
    assert port.extension.line is None
    port.start()
    port.handle.write(b"x")
    assert bytes(port.line.sent) == b"x"


def test_the_question_waits_until_what_was_accepted_is_sent(port: StopPort) -> None:
    class Draining(Recorder):
        def output_waiting(self) -> int:
            self.unsent = max(self.unsent - 100, 0)
            return self.unsent

    port.stop()
    line = Draining()
    port.start(line)
    line.unsent = 1000
    before = port.milliseconds
    port.stop()
    assert line.unsent == 0
    assert 1 < port.milliseconds - before < 1000


def test_it_is_refused_if_flow_control_holds_what_was_accepted(port: StopPort) -> None:
    port.line.unsent = 37
    with pytest.raises(Exception, match=r"holds 37 bytes that it could not send within 10 s.*SERIAL_PURGE_TXCLEAR"):
        port.send(PnpMinor.QUERY_STOP_DEVICE)
    assert port.milliseconds >= 10_000
    port.handle.write(b"goes on")
    assert bytes(port.line.sent) == b"goes on"
    assert port.extension.life.state is PnpState.STARTED
    port.purge(ser.SERIAL_PURGE_TXCLEAR)
    port.stop()


def test_a_start_of_what_is_started_is_not_taken_for_a_restart(port: StopPort) -> None:
    other = Recorder()
    assert port.send(PnpMinor.START_DEVICE, port.resources(other)) == STATUS_INVALID_DEVICE_STATE
    assert port.extension.line is port.line
    assert other.done == []


def test_many_times(make_port: MakePort) -> None:
    port = make_port()
    for turn in range(50):
        port.stop()
        request = port.handle.submit_write(b"%02d" % turn)
        line = port.start()
        assert bytes(line.sent) == b"%02d" % turn and request.done
    assert len(port.bridge.ke.vectors()) <= 51
    assert isinstance(port.line, VirtualLine) and port.extension.settings == LineSettings()
