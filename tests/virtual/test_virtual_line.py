"""The line made of Python keeps the same promises as a real one: `hilbridge.model.hardware.Line`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hilbridge import Bridge, DeviceGone, DeviceTimeout, DeviceUnsupported
from hilbridge.model.hardware import (
    CAUSE_GONE,
    CAUSE_RX,
    CAUSE_TX,
    MSR_CTS,
    MSR_DCD,
    MSR_DSR,
    Line,
    LineSettings,
)
from hilbridge.virtual.line import VirtualLine


class FakePin:
    """The kernel's end of the interrupt line, as far as a line sees it."""

    def __init__(self) -> None:
        self.moved: bool | None = None
        self.seen = 0
        self.enabled = 0

    def take(self) -> int:
        seen, self.seen = self.seen, 0
        return seen

    def enable(self, causes: int) -> None:
        self.enabled = causes

    def raise_line(self, causes: int) -> None:
        self.seen |= causes


@pytest.fixture
def pin() -> FakePin:
    return FakePin()


@pytest.fixture
def make_line(pin: FakePin) -> Callable[..., VirtualLine]:
    def make(*, loop: bool = False, room: int | None = None) -> VirtualLine:
        line = VirtualLine(loop=loop) if room is None else VirtualLine(loop=loop, room=room)
        line.connect(pin)
        return line

    return make


@pytest.fixture
def line(make_line: Callable[..., VirtualLine]) -> VirtualLine:
    return make_line()


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_it_is_a_line_without_a_descriptor(line: VirtualLine) -> None:
    seam: Line = line
    assert seam.fileno() == -1
    assert seam.has_modem_lines
    assert seam.name == "virtual:line"


def test_what_is_fed_is_read_in_order_and_up_to_the_limit(line: VirtualLine) -> None:
    assert line.read(10) == b""
    line.feed(b"abc")
    line.feed(b"def")
    assert line.read(4) == b"abcd"
    assert line.untaken == 2
    assert line.read(4) == b"ef"
    assert line.read(4) == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_is_written_is_sent(line: VirtualLine, kind: Callable[[bytes], bytes]) -> None:
    assert line.write(kind(b"abc")) == 3
    assert line.sent == b"abc"


def test_room_limits_a_write_and_accept_makes_more(make_line: Callable[..., VirtualLine]) -> None:
    line = make_line(room=2)
    assert line.write(b"abcd") == 2
    assert line.write(b"cd") == 0
    line.accept(1)
    assert line.write(b"cd") == 1
    assert line.sent == b"abc"


def test_what_was_written_does_not_change_with_the_buffer(line: VirtualLine) -> None:
    data = bytearray(b"abc")
    line.write(data)
    data[:] = b"XXX"
    assert line.sent == b"abc"


def test_loop(make_line: Callable[..., VirtualLine]) -> None:
    line = make_line(loop=True, room=2)
    assert line.write(b"abc") == 2
    assert line.read(10) == b"ab"


# -- interrupts --------------------------------------------------------------------------------------------------------


def test_nothing_interrupts_before_it_is_enabled(line: VirtualLine, pin: FakePin) -> None:
    line.feed(b"abc")
    assert (pin.seen, line.causes(), line.asserted()) == (0, 0, False)


def test_enabling_tells_of_what_holds_already(line: VirtualLine, pin: FakePin) -> None:
    line.feed(b"abc")
    line.enable_interrupts(CAUSE_RX)
    assert pin.enabled == CAUSE_RX
    assert pin.seen == CAUSE_RX
    assert line.causes() == CAUSE_RX


def test_receive_interrupt_holds_until_all_is_taken(line: VirtualLine, pin: FakePin) -> None:
    line.enable_interrupts(CAUSE_RX)
    line.feed(b"abc")
    assert pin.seen == CAUSE_RX
    assert line.causes() == CAUSE_RX
    line.read(2)
    assert line.asserted()
    line.read(1)
    assert not line.asserted()
    assert line.causes() == 0


def test_transmit_interrupt_means_room(make_line: Callable[..., VirtualLine], pin: FakePin) -> None:
    line = make_line(room=0)
    line.enable_interrupts(CAUSE_TX)
    assert pin.seen == 0
    line.accept(1)
    assert pin.seen == CAUSE_TX
    assert line.causes() == CAUSE_TX
    line.write(b"a")
    assert line.causes() == 0


def test_disabled_causes_are_quiet(line: VirtualLine) -> None:
    line.enable_interrupts(CAUSE_RX | CAUSE_TX)
    line.feed(b"abc")
    line.enable_interrupts(CAUSE_TX)
    assert line.causes() == CAUSE_TX
    line.enable_interrupts(0)
    assert line.causes() == 0


def test_loop_interrupts_its_writer(make_line: Callable[..., VirtualLine], pin: FakePin) -> None:
    line = make_line(loop=True)
    line.enable_interrupts(CAUSE_RX)
    line.write(b"a")
    assert pin.seen == CAUSE_RX


# -- the end -----------------------------------------------------------------------------------------------------------


def test_unplug_cannot_be_masked_and_is_said_once(line: VirtualLine, pin: FakePin) -> None:
    line.unplug()
    assert pin.seen == CAUSE_GONE
    assert line.causes() == CAUSE_GONE
    assert line.causes() == 0


def test_what_was_fed_before_the_unplug_can_be_read(line: VirtualLine) -> None:
    line.feed(b"abc")
    line.unplug()
    assert line.read(2) == b"ab"
    assert line.read(2) == b"c"
    with pytest.raises(DeviceGone, match="virtual:line was unplugged"):
        line.read(1)


def test_write_after_the_unplug_fails(line: VirtualLine) -> None:
    line.unplug()
    with pytest.raises(DeviceGone):
        line.write(b"a")
    assert line.sent == b""


def test_closed_line_is_dead_and_quiet(line: VirtualLine, pin: FakePin) -> None:
    line.enable_interrupts(CAUSE_RX)
    line.close()
    line.close()
    line.feed(b"abc")
    assert (pin.seen, line.causes()) == (0, 0)
    with pytest.raises(DeviceGone):
        line.write(b"a")


# -- settings and modem lines ------------------------------------------------------------------------------------------


def test_configure_keeps_the_settings(line: VirtualLine) -> None:
    settings = LineSettings(9600, 7, "E", 2)
    line.configure(settings)
    assert line.settings == settings


@pytest.mark.parametrize("rate", [0, -1])
def test_impossible_rate_is_refused_and_named(line: VirtualLine, rate: int) -> None:
    with pytest.raises(DeviceUnsupported, match=str(rate)):
        line.configure(LineSettings(rate))
    assert line.settings == LineSettings()


def test_modem_lines_of_a_loop_are_wired_back(make_line: Callable[..., VirtualLine]) -> None:
    line = make_line(loop=True)
    line.set_modem_control(dtr=True)
    assert line.modem_status() == MSR_DSR | MSR_DCD
    line.set_modem_control(rts=True)
    assert line.modem_status() == MSR_DSR | MSR_DCD | MSR_CTS
    line.set_modem_control(dtr=False)
    assert line.modem_status() == MSR_CTS
    line.set_modem_control()
    assert line.modem_status() == MSR_CTS


def test_modem_lines_without_a_loop_are_nobodys(line: VirtualLine) -> None:
    line.set_modem_control(dtr=True, rts=True)
    assert line.modem_status() == 0


def test_break_is_remembered(line: VirtualLine) -> None:
    line.set_break(True)
    assert line.break_on
    line.set_break(False)
    assert not line.break_on


def test_discard_empties_what_it_is_told_to(line: VirtualLine) -> None:
    line.feed(b"abc")
    line.unsent = 5
    line.discard()
    assert (line.untaken, line.output_waiting()) == (3, 5)
    line.discard(tx=True)
    assert (line.untaken, line.output_waiting()) == (3, 0)
    line.discard(rx=True)
    assert line.untaken == 0


# -- under the bridge --------------------------------------------------------------------------------------------------


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge() as bridge:
        yield bridge


def test_loop_under_the_poller(bridge: Bridge) -> None:
    with bridge.open(bridge.plug("virtual:loop")) as port:
        for n in range(50):
            data = bytes([n]) * (n + 1)
            assert port.write(data) == len(data)
            assert port.read(len(data)) == data


def test_far_end_on_another_thread(bridge: Bridge) -> None:
    line = VirtualLine()
    with bridge.open(bridge.plug(line)) as port:

        def talk() -> None:
            for _ in range(1000):
                line.feed(b"x" * 100)

        far_end = threading.Thread(target=talk)
        far_end.start()
        assert port.read(100_000) == b"x" * 100_000
        far_end.join(10)
        assert not far_end.is_alive()


@pytest.mark.parametrize("manual", [True, False])
def test_far_end_that_talks_faster_than_anybody_listens(manual: bool) -> None:
    """However often the line is raised before somebody looks, it is one interrupt: the line is asserted, or it is not."""
    with Bridge.manual() if manual else Bridge() as bridge:
        line = VirtualLine()
        with bridge.open(bridge.plug(line)) as port:
            for _ in range(5000):
                line.feed(b"x")
            assert port.read(5000) == b"x" * 5000
            line.feed(b"y")
            assert port.read(1) == b"y"
        assert bridge.faults == []


def test_write_that_waits_for_room_goes_on_when_there_is_some(bridge: Bridge) -> None:
    line = VirtualLine(room=1)
    with bridge.open(bridge.plug(line)) as port:
        request = port.submit_write(b"abc")
        line.accept(1)
        assert not request.wait(0)
        line.accept(1)
        assert request.wait(10)
        assert line.sent == b"abc"


def test_unplug_under_the_poller(bridge: Bridge) -> None:
    line = VirtualLine()
    with bridge.open(bridge.plug(line)) as port:
        line.feed(b"abc")
        line.unplug()
        assert port.read(3) == b"abc"
        with pytest.raises(DeviceGone):
            port.read(1)


def test_read_without_an_end_times_out(bridge: Bridge) -> None:
    with bridge.open(bridge.plug("virtual:line")) as port, pytest.raises(DeviceTimeout):
        port.read(1, timeout=0.01)
