"""A port is lent with its handles open: what waits goes on waiting, and goes on afterwards as if nothing had been."""

from __future__ import annotations

import pytest

from hilbridge import DeviceTimeout
from hilbridge.model import ntddser as ser
from hilbridge.model.status import (
    STATUS_SUCCESS,
    STATUS_TIMEOUT,
)
from tests.drivers.serial.serialkit import end_of, flush, numbered, settings, waits
from tests.drivers.serial.stopkit import MakePort, Recorder, StopPort


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


# -- the hardware ------------------------------------------------------------------------------------------------------


def test_the_line_is_given_back_quiet_and_nothing_is_kept_of_it(port: StopPort) -> None:
    line = port.line
    port.stop()
    assert port.extension.line is None and port.extension.interrupt is None
    assert isinstance(line, Recorder) and line.quiet
    assert line.write(b"x") == 1, "it is open still: it is the owner's to close"
    line.feed(b"for the flashing tool")
    port.settle()
    assert line.read(100) == b"for the flashing tool"


def test_it_goes_on_with_another_line_on_another_vector(port: StopPort) -> None:
    old = port.line
    port.stop()
    new = port.start()
    port.handle.write(b"abc")
    port.feed(b"def")
    assert bytes(new.sent) == b"abc" and bytes(old.sent) == b""
    assert port.handle.read(3) == b"def"
    old.feed(b"nobody hears that")
    port.settle()
    assert port.handle.in_waiting == 0


def test_it_goes_on_with_the_same_line(port: StopPort) -> None:
    port.stop()
    port.line.feed(b"came while it was lent")
    port.start(port.line)
    assert port.handle.read(22) == b"came while it was lent"


def test_what_the_application_has_set_is_programmed_and_not_what_the_port_began_with(port: StopPort) -> None:
    assert port.set_baud_rate(9600).status == STATUS_SUCCESS
    port.stop()
    assert port.start().settings == settings(9600)


def test_a_port_that_was_never_set_keeps_the_settings_of_its_start(make_port: MakePort) -> None:
    port = make_port(baudrate=57600)
    port.stop()
    assert port.start().settings == settings(57600)


def test_outputs_that_somebody_has_set_are_set_again(port: StopPort) -> None:
    port.submit_dtr(False)
    port.stop()
    line = port.start()
    assert isinstance(line, Recorder) and line.done == [115200, (False, None)]
    port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_RTS)
    port.stop()
    line = port.start()
    assert isinstance(line, Recorder) and line.done == [115200, (False, True)]


def test_outputs_that_nobody_has_set_are_left_alone(port: StopPort) -> None:
    port.stop()
    line = port.start()
    assert isinstance(line, Recorder) and line.done == [115200]


def test_a_line_without_outputs_can_be_in_its_place(make_port: MakePort) -> None:
    class Plain(Recorder):
        has_modem_lines = False

    port = make_port()
    port.submit_dtr(True)
    port.stop()
    assert port.start(Plain()).settings.baudrate == 115200


def test_a_break_ends_with_the_stop_and_is_there_again_afterwards(port: StopPort) -> None:
    old = port.line
    assert port.control(ser.IOCTL_SERIAL_SET_BREAK_ON).status == STATUS_SUCCESS
    port.stop()
    assert not old.break_on
    assert port.start().break_on
    assert port.control(ser.IOCTL_SERIAL_SET_BREAK_OFF).status == STATUS_SUCCESS
    port.stop()
    assert not port.start().break_on


def test_errors_and_time_outs_are_kept(port: StopPort) -> None:
    port.set_timeouts(constant=100)
    port.extension.errors = 5
    port.stop()
    port.start()
    assert ser.SerialTimeouts.unpack(port.handle.ioctl(ser.IOCTL_SERIAL_GET_TIMEOUTS, size=20))[2] == 100
    assert port.comm_status().errors == 5


# -- reads -------------------------------------------------------------------------------------------------------------


def test_what_had_arrived_is_read_while_it_is_lent(port: StopPort) -> None:
    port.feed(b"line one\nrest")
    port.stop()
    assert port.handle.readline() == b"line one\n"
    assert port.handle.read(2) == b"re"
    assert port.comm_status().amount_in_in_queue == 2
    assert port.handle.ioctl(ser.IOCTL_HILBRIDGE_PEEK, size=10) == b"st"


def test_what_had_not_even_interrupted_is_taken_before_the_line_goes(port: StopPort) -> None:
    port.line.feed(b"last moment")
    port.stop()
    assert port.line.untaken == 0
    assert port.handle.read(11) == b"last moment"


def test_what_back_pressure_had_held_up_is_taken_too(make_port: MakePort) -> None:
    port = make_port()
    port.extension.log_size = 64
    said = numbered(200_000)
    for at in range(0, len(said), 1000):
        port.feed(said[at : at + 1000])
    assert port.line.untaken > 100_000
    port.stop()
    assert port.line.untaken == 0
    port.start()
    port.feed(b"next")
    assert port.handle.read(len(said) + 4) == said + b"next"


def test_reads_wait_and_go_on(port: StopPort) -> None:
    first, second = port.handle.submit_read(4), port.handle.submit_read(4)
    port.feed(b"ab")
    port.stop()
    third = port.handle.submit_read(2)
    assert waits(first, second, third)
    port.start()
    assert waits(first, second, third)
    port.feed(b"cdefghij")
    assert [end_of(r) for r in (first, second, third)] == [
        (STATUS_SUCCESS, b"abcd"),
        (STATUS_SUCCESS, b"efgh"),
        (STATUS_SUCCESS, b"ij"),
    ]


def test_read_until_across_a_stop(port: StopPort) -> None:
    request = port.handle.submit_read(100, terminator=b"=> ")
    port.feed(b"U-Boot =")
    port.stop()
    port.start()
    assert waits(request)
    port.feed(b"> next")
    assert end_of(request) == (STATUS_SUCCESS, b"U-Boot => ")
    assert port.handle.read(4) == b"next"


def test_every_reader_goes_on_where_it_was(port: StopPort) -> None:
    with port.open() as other:
        port.feed(b"abcd")
        assert port.handle.read(3) == b"abc"
        port.stop()
        assert other.read(1) == b"a"
        port.start()
        port.feed(b"e")
        assert port.handle.read(2) == b"de" and other.read(4) == b"bcde"


def test_read_time_outs_run_while_it_is_lent(port: StopPort) -> None:
    port.set_timeouts(constant=100)
    request = port.handle.submit_read(5)
    port.feed(b"ab")
    port.pass_time(60)
    port.stop()
    port.pass_time(39)
    assert waits(request)
    port.pass_time(1)
    assert end_of(request) == (STATUS_TIMEOUT, b"ab")


def test_a_callers_deadline_works_while_it_is_lent(port: StopPort) -> None:
    port.stop()
    with pytest.raises(DeviceTimeout):
        port.handle.read(1, timeout=0.2)
    with pytest.raises(DeviceTimeout):
        port.handle.write(b"x", timeout=0.2)
    with pytest.raises(DeviceTimeout):
        port.handle.ioctl(ser.IOCTL_SERIAL_SET_DTR, timeout=0.2)
    assert port.milliseconds == 600
    assert port.bridge.pending() == []
    assert port.start().sent == b""


# -- writes ------------------------------------------------------------------------------------------------------------


def test_writes_wait_in_order(port: StopPort) -> None:
    old = port.line
    port.stop()
    requests = [port.handle.submit_write(data) for data in (b"one ", b"two ", b"three")]
    assert waits(*requests)
    line = port.start()
    assert [r.status for r in requests] == [STATUS_SUCCESS] * 3
    assert bytes(line.sent) == b"one two three" and bytes(old.sent) == b""


def test_a_write_that_was_half_out_goes_on_with_its_other_half(make_port: MakePort) -> None:
    port = make_port(room=3)
    request = port.handle.submit_write(b"abcdefgh")
    old = port.line
    port.stop()
    old.accept(100)
    port.settle()
    assert waits(request) and bytes(old.sent) == b"abc"
    line = port.start()
    assert (request.status, request.information) == (STATUS_SUCCESS, 8)
    assert bytes(line.sent) == b"defgh"


def test_a_megabyte_across_several_stops(make_port: MakePort) -> None:
    """Not a byte is lost or doubled, wherever the stop cuts the write, and reads of as much go on beside it."""
    port = make_port(room=0)
    data = numbered(1 << 20)
    write = port.handle.submit_write(data)
    read = port.handle.submit_read(len(data))
    heard, said = b"", 0
    for turn in range(8):
        line = port.line
        port.accept(100_000 + turn)
        port.feed(data[said : said + 90_001])
        said += 90_001
        port.stop()
        assert waits(write, read)
        heard += bytes(line.sent)
        port.start(Recorder(room=0))
    port.accept(1 << 20)
    port.feed(data[said:])
    assert (write.status, write.information) == (STATUS_SUCCESS, len(data))
    assert heard + bytes(port.line.sent) == data
    assert end_of(read) == (STATUS_SUCCESS, data)


def test_write_time_outs_run_and_the_next_ones_begin_in_its_turn(port: StopPort) -> None:
    port.set_timeouts(write_constant=100)
    port.stop()
    first, second = port.handle.submit_write(b"a"), port.handle.submit_write(b"b")
    port.pass_time(100)
    assert (first.status, first.information) == (STATUS_TIMEOUT, 0) and waits(second)
    port.pass_time(100)
    assert second.status == STATUS_TIMEOUT
    assert port.bridge.statistics()["timers"] == 0
    assert port.start().sent == b""


def test_settings_and_flushes_keep_their_place_among_the_writes(port: StopPort) -> None:
    port.stop()
    first = port.handle.submit_write(b"slow")
    change = port.set_baud_rate(9600)
    second = port.handle.submit_write(b"fast")
    flushed = flush(port)
    assert waits(first, change, second, flushed)
    line = port.start()
    assert isinstance(line, Recorder) and line.done == [115200, 9600]
    assert [r.status for r in (first, change, second, flushed)] == [STATUS_SUCCESS] * 4
    assert bytes(line.sent) == b"slowfast"


def test_a_setting_whose_turn_had_come_when_the_line_went_has_it_again(port: StopPort) -> None:
    """Its work item is queued, and has not begun."""
    change = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600))
    port.stop()
    port.settle()
    assert waits(change)
    assert port.start().settings.baudrate == 9600
    assert change.status == STATUS_SUCCESS


def test_a_flush_that_waited_waits_for_the_new_line(make_port: MakePort) -> None:
    port = make_port(room=2)
    write, flushed = port.handle.submit_write(b"abc"), flush(port)
    port.stop()
    line = Recorder()
    line.unsent = 5
    port.start(line)
    assert write.status == STATUS_SUCCESS and waits(flushed)
    line.unsent = 0
    port.pass_time(1000)
    assert flushed.status == STATUS_SUCCESS
