"""The device goes: what it said is delivered first, and every request ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hilbridge import DeviceGone, DeviceTimeout, NameNotFound, Request
from hilbridge.model.codes import IrpMajor
from hilbridge.model.status import STATUS_DEVICE_NOT_CONNECTED, STATUS_SUCCESS
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, end_of, fault_of, numbered, waits

MakePort = Callable[..., Port]
GONE = STATUS_DEVICE_NOT_CONNECTED

UNPLUGS: list[Callable[[Port], None]] = [Port.unplug, lambda port: port.bridge.unplug(port.name)]
by_either = pytest.mark.parametrize("unplug", UNPLUGS, ids=["the cable is pulled", "the bridge is told to"])


# -- reads -------------------------------------------------------------------------------------------------------------


@by_either
def test_read_that_holds_bytes_ends_with_success_and_the_others_with_gone(
    port: Port, unplug: Callable[[Port], None]
) -> None:
    requests = [port.handle.submit_read(5) for _ in range(3)]
    port.feed(b"abc")
    unplug(port)
    assert [end_of(r) for r in requests] == [(STATUS_SUCCESS, b"abc"), (GONE, b""), (GONE, b"")]


@by_either
def test_read_that_holds_nothing_ends_with_gone(port: Port, unplug: Callable[[Port], None]) -> None:
    request = port.handle.submit_read(5)
    unplug(port)
    assert end_of(request) == (GONE, b"")
    assert isinstance(fault_of(request), DeviceGone)


@by_either
def test_reads_after_the_removal_give_the_rest_first(port: Port, unplug: Callable[[Port], None]) -> None:
    port.feed(b"line one\nline two\nrest")
    unplug(port)
    assert port.handle.readline() == b"line one\n"
    assert port.handle.read(4) == b"line"
    assert port.handle.read_some(3) == b" tw"
    with pytest.raises(DeviceGone) as gone:
        port.handle.read(100)
    assert gone.value.partial == b"o\nrest"
    with pytest.raises(DeviceGone) as gone:
        port.handle.read(1)
    assert gone.value.partial == b""


@by_either
def test_the_news_comes_again_and_again(port: Port, unplug: Callable[[Port], None]) -> None:
    unplug(port)
    for call in (
        lambda: port.handle.read(1),
        port.handle.read_some,
        port.handle.readline,
        lambda: port.handle.write(b"x"),
    ):
        for _ in range(2):
            with pytest.raises(DeviceGone):
                call()


def test_bytes_that_no_interrupt_had_brought_are_delivered(port: Port) -> None:
    port.line.feed(b"last words")
    port.unplug()
    assert port.handle.read(10) == b"last words"


def test_bytes_that_back_pressure_had_held_up_are_delivered(port: Port) -> None:
    """The whole of it: whatever the log's bound and the interrupt's budget."""
    port.extension.log_size = 64
    said = numbered(300_000)
    for at in range(0, len(said), 1000):
        port.feed(said[at : at + 1000])
    assert port.line.untaken > 100_000
    port.unplug()
    assert port.handle.read(len(said)) == said
    with pytest.raises(DeviceGone):
        port.handle.read(1)


def test_bytes_and_news_in_one_interrupt(port: Port) -> None:
    first, second = port.handle.submit_read(4), port.handle.submit_read(4)
    port.line.feed(b"abcdef")
    port.unplug()
    assert end_of(first) == (STATUS_SUCCESS, b"abcd")
    assert end_of(second) == (STATUS_SUCCESS, b"ef")


def test_unfinished_line_is_in_partial(port: Port) -> None:
    port.feed(b"no newline")
    port.unplug()
    with pytest.raises(DeviceGone) as gone:
        port.handle.readline()
    assert gone.value.partial == b"no newline"


def test_iteration_gives_every_line_and_then_the_news(port: Port) -> None:
    port.feed(b"one\ntwo\nthree")
    port.unplug()
    lines = iter(port.handle)
    assert [next(lines), next(lines)] == [b"one\n", b"two\n"]
    with pytest.raises(DeviceGone) as gone:
        next(lines)
    assert gone.value.partial == b"three"


def test_every_reader_gets_the_rest_for_itself(port: Port) -> None:
    with port.open() as other:
        port.feed(b"abc")
        port.handle.read(1)
        port.unplug()
        assert port.handle.read(2) == b"bc"
        assert other.read(3) == b"abc"
        for handle in (port.handle, other):
            with pytest.raises(DeviceGone):
                handle.read(1)


def test_what_was_read_can_still_be_given_back(port: Port) -> None:
    """A task that is cancelled, or Ctrl-C, does that; the device need not be there for it."""
    port.feed(b"abc")
    port.unplug()
    data = port.handle.read(3)
    port.handle.give_back(data)
    assert port.handle.read(3) == b"abc"


def test_what_is_there_can_still_be_counted(port: Port) -> None:
    port.feed(b"abc")
    port.unplug()
    assert port.handle.in_waiting == 3


def test_read_with_time_outs_ends_with_what_it_has(port: Port) -> None:
    port.set_timeouts(0, 0, 1000)
    request = port.handle.submit_read(5)
    port.feed(b"ab")
    port.unplug()
    assert end_of(request) == (STATUS_SUCCESS, b"ab")
    assert port.bridge.statistics()["timers"] == 0


# -- writes, and all the rest -----------------------------------------------------------------------------------------


@by_either
def test_write_that_waits_reports_its_count(make_port: MakePort, unplug: Callable[[Port], None]) -> None:
    port = make_port(room=2)
    first, second = port.handle.submit_write(b"abcdef"), port.handle.submit_write(b"gh")
    unplug(port)
    assert [(r.status, r.information) for r in (first, second)] == [(GONE, 2), (GONE, 0)]


def test_exception_of_a_write_says_how_much_went_out(make_port: MakePort) -> None:
    port = make_port(room=2)
    first = port.handle.submit_write(b"abcdef")
    port.unplug()
    fault = fault_of(first)
    assert isinstance(fault, DeviceGone)
    assert fault.information == 2


@by_either
def test_flush_and_settings_that_wait_end(port: Port, unplug: Callable[[Port], None]) -> None:
    port.line.unsent = 10
    flush = Request(port.handle, "flush")
    port.bridge.io.submit_simple(flush, IrpMajor.FLUSH_BUFFERS)
    change = port.set_baud_rate(9600)
    assert waits(flush, change)
    unplug(port)
    assert (flush.status, change.status) == (GONE, GONE)
    assert port.line.settings.baudrate == 115200
    assert port.bridge.statistics()["timers"] == 0


def test_a_write_that_finds_out_first_tells_the_readers(make_port: MakePort) -> None:
    """No interrupt has told of it. What the line still holds comes before the news."""

    class Mute(VirtualLine):
        def unplug(self) -> None:
            self._unplugged = True

    port = make_port(line=Mute())
    request = port.handle.submit_read(5)
    port.line.unplug()
    port.line.feed(b"abc")
    with pytest.raises(DeviceGone):
        port.handle.write(b"x")
    port.settle()
    assert end_of(request) == (STATUS_SUCCESS, b"abc")
    with pytest.raises(DeviceGone):
        port.handle.read(1)


@by_either
def test_nothing_is_pending_and_no_timer_runs_afterwards(make_port: MakePort, unplug: Callable[[Port], None]) -> None:
    port = make_port(room=0)
    port.set_timeouts(5, 5, 5, 5, 5)
    with port.open() as other:
        for handle in (port.handle, other):
            for n in (1, 5):
                handle.submit_read(n)
        port.handle.submit_write(b"abc")
        port.feed(b"ab")
        unplug(port)
        assert port.bridge.pending() == []
        assert port.bridge.statistics()["timers"] == 0
        assert port.machine.run_until_idle() == 0


def test_deadline_and_removal_do_not_both_end_a_read(port: Port) -> None:
    with pytest.raises(DeviceTimeout):
        port.handle.read(5, timeout=0.1)
    port.unplug()
    with pytest.raises(DeviceGone):
        port.handle.read(5)


# -- the stack ---------------------------------------------------------------------------------------------------------


@by_either
def test_device_lingers_until_its_last_handle_is_closed(port: Port, unplug: Callable[[Port], None]) -> None:
    other = port.open()
    unplug(port)
    assert port.bridge.devices()[0]["state"] == "surprise-removed"
    port.handle.close()
    assert len(port.bridge.devices()) == 1
    other.close()
    assert port.bridge.devices() == []
    with pytest.raises(NameNotFound):
        port.bridge.open(port.name)


@by_either
def test_device_that_nobody_has_open_goes_at_once(port: Port, unplug: Callable[[Port], None]) -> None:
    port.handle.close()
    unplug(port)
    assert port.bridge.devices() == []


@by_either
def test_device_that_went_cannot_be_opened(port: Port, unplug: Callable[[Port], None]) -> None:
    unplug(port)
    with pytest.raises(DeviceGone):
        port.open()


def test_hardware_is_let_go_although_a_handle_is_open(port: Port) -> None:
    """Otherwise a port that was unplugged and plugged in again could not be opened: its node is held by nobody."""
    port.bridge.unplug(port.name)
    with pytest.raises(DeviceGone):
        port.line.write(b"x")


def test_unplugging_twice_is_unplugging_once(port: Port) -> None:
    port.unplug()
    port.line.unplug()
    port.settle()
    port.bridge.unplug(port.name)
    port.handle.close()
    assert port.bridge.devices() == []
