"""The events of a wait mask: when each of them happens, and when not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge.drivers.serial.events import SAMPLE_MS
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import CAUSE_MODEM, MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI
from hilbridge.model.status import STATUS_CANCELLED
from hilbridge.virtual.line import VirtualLine
from hilbridge.virtual.uart import VirtualUart
from tests.drivers.serial.serialkit import Port, flush, waits
from tests.drivers.serial.stopkit import MakePort, StopPort
from tests.drivers.serial.waitkit import set_mask, told, wait

RXCHAR, RXFLAG, FULL = ser.SERIAL_EV_RXCHAR, ser.SERIAL_EV_RXFLAG, ser.SERIAL_EV_RX80FULL
TXEMPTY, RING = ser.SERIAL_EV_TXEMPTY, ser.SERIAL_EV_RING
CTS, DSR, RLSD = ser.SERIAL_EV_CTS, ser.SERIAL_EV_DSR, ser.SERIAL_EV_RLSD
MODEM = CTS | DSR | RLSD | RING


class Silent(VirtualLine):
    """Like nearly every real one: a modem line that changes does not interrupt."""

    looks = 0

    def enable_interrupts(self, causes: int) -> None:
        super().enable_interrupts(causes & ~CAUSE_MODEM)

    def modem_status(self) -> int:
        self.looks += 1
        return super().modem_status()


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


@pytest.fixture
def silent(make_port: MakePort) -> StopPort:
    return make_port(line=Silent("virtual:silent"), verify=True)


def looks(port: Port) -> int:
    assert isinstance(port.line, Silent)
    return port.line.looks


# -- receiving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [RXFLAG, RXFLAG | RXCHAR, RXCHAR])
def test_event_character(port: StopPort, mask: int) -> None:
    port.extension.chars = ser.SerialChars(event_char=ord("$"))
    set_mask(port, mask)
    port.feed(b"a$b")
    assert told(wait(port)) == mask
    port.feed(b"ab")
    request = wait(port)
    if mask & RXCHAR:
        assert told(request) == RXCHAR
    else:
        assert waits(request)
        port.feed(b"$")
        assert told(request) == RXFLAG


def test_the_event_character_is_a_nul_at_first(port: Port) -> None:
    set_mask(port, RXFLAG)
    request = wait(port)
    port.feed(b"abc")
    assert waits(request)
    port.feed(b"\0")
    assert told(request) == RXFLAG


@pytest.mark.parametrize("fast", [False, True], ids=["queued", "fast"])
def test_an_event_is_no_less_one_for_being_read_at_once(port: StopPort, fast: bool) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    if fast:
        port.extension.inbox.append(b"abc")  # the ISR has taken them, and its DPC has not run
        assert port.handle.read(3) == b"abc"
    else:
        read = port.handle.submit_read(3)
        port.feed(b"abc")
        assert read.data == b"abc"
    port.settle()
    assert told(request) == RXCHAR


def test_eighty_per_cent_are_crossed_upwards_and_by_what_this_handle_has_not_read(port: StopPort) -> None:
    port.extension.log_size = 100  # the mark is at 3 * 25 + 6 = 81
    with port.open() as other:
        set_mask(port, FULL)
        set_mask(port, FULL, other)
        mine, others = wait(port), wait(port, other)
        port.feed(bytes(50))
        assert port.handle.read(50) == bytes(50)
        port.feed(bytes(30))
        assert waits(mine, others)
        port.feed(b"x")
        assert told(others) == FULL and waits(mine)
        others = wait(port, other)
        port.feed(b"x")
        assert waits(others)  # it is above, and was before
        other.read(50)
        port.feed(bytes(48))
        assert waits(others, mine)  # 80 unread, both
        port.feed(b"x")
        assert told(others) == told(mine) == FULL


def test_a_handle_that_does_not_read_has_no_buffer_that_could_be_full(port: StopPort) -> None:
    port.extension.log_size = 100
    port.handle.close()
    with port.open("w") as writer, port.open() as reader:
        set_mask(port, FULL | RXCHAR, writer)
        port.feed(bytes(90))
        assert told(wait(port, writer)) == RXCHAR
        assert reader.in_waiting == 90


# -- sending -----------------------------------------------------------------------------------------------------------


def test_empty_when_the_last_queued_byte_has_left_and_not_before(make_port: MakePort) -> None:
    port = make_port(room=2, verify=True)
    set_mask(port, TXEMPTY)
    request = wait(port)
    assert waits(request)  # nothing was sent, so nothing has become empty
    writes = [port.handle.submit_write(b"abc"), port.handle.submit_write(b"de")]
    port.line.unsent = 4
    port.accept(3)
    assert waits(request) and not waits(*writes)
    port.pass_time(1000)
    assert waits(request)  # the line itself holds them
    port.line.unsent = 0
    port.pass_time(100)
    assert told(request) == TXEMPTY
    assert waits(wait(port))


@pytest.mark.parametrize("ending", ["cancel", "purge", "flush"])
def test_empty_when_what_was_left_is_not_sent_any_more(make_port: MakePort, ending: str) -> None:
    port = make_port(room=2, verify=True)
    set_mask(port, TXEMPTY)
    request = wait(port)
    write = port.handle.submit_write(b"abc")
    port.settle()
    assert waits(request, write)
    if ending == "cancel":
        write.cancel()
    elif ending == "purge":
        port.purge(ser.SERIAL_PURGE_TXABORT)
    else:
        last = flush(port)
        port.accept(1)
        assert last.done
    port.settle()
    assert ending == "flush" or write.status == STATUS_CANCELLED
    assert told(request) == TXEMPTY


def test_what_was_written_before_the_mask_counts_if_it_is_still_on_its_way(port: StopPort) -> None:
    port.handle.write(b"abc")
    port.line.unsent = 3
    set_mask(port, TXEMPTY)
    request = wait(port)
    assert waits(request)
    port.line.unsent = 0
    port.pass_time(100)
    assert told(request) == TXEMPTY


def test_what_was_sent_before_the_mask_is_no_event(port: Port) -> None:
    port.handle.write(b"abc")
    set_mask(port, TXEMPTY)
    assert waits(wait(port))


# -- modem lines -------------------------------------------------------------------------------------------------------

CHANGES = [(MSR_CTS, CTS), (MSR_DSR, DSR), (MSR_DCD, RLSD)]


@pytest.mark.parametrize(("line", "event"), CHANGES)
def test_a_change_in_either_direction(silent: StopPort, line: int, event: int) -> None:
    set_mask(silent, MODEM)
    for status in (line, 0, line):
        request = wait(silent)
        silent.line.set_modem_status(status)
        silent.pass_time(SAMPLE_MS - 1)
        assert waits(request)
        silent.pass_time(1)
        assert told(request) == event


def test_a_ring_is_over_when_it_is_told(silent: StopPort) -> None:
    set_mask(silent, MODEM)
    request = wait(silent)
    silent.line.set_modem_status(MSR_RI)
    silent.pass_time(1000)
    assert waits(request)
    silent.line.set_modem_status(0)
    silent.pass_time(SAMPLE_MS)
    assert told(request) == RING


def test_several_at_once(silent: StopPort) -> None:
    set_mask(silent, MODEM & ~DSR)
    request = wait(silent)
    silent.line.set_modem_status(MSR_CTS | MSR_DSR | MSR_DCD)
    silent.pass_time(SAMPLE_MS)
    assert told(request) == CTS | RLSD


def test_a_change_between_two_waits_is_told_if_it_has_lasted(silent: StopPort) -> None:
    set_mask(silent, MODEM)
    silent.line.set_modem_status(MSR_CTS)
    assert told(wait(silent)) == CTS
    silent.line.set_modem_status(0)
    silent.line.set_modem_status(MSR_CTS)
    assert waits(wait(silent))


def test_a_change_before_the_mask_is_no_event(silent: StopPort) -> None:
    set_mask(silent, MODEM)
    set_mask(silent, 0)
    silent.line.set_modem_status(MSR_CTS)
    set_mask(silent, MODEM)
    assert waits(wait(silent))


def test_another_line_is_compared_with_nothing_that_was_seen_under_an_old_mask(silent: StopPort) -> None:
    set_mask(silent, MODEM)
    set_mask(silent, 0)
    silent.stop()
    set_mask(silent, MODEM)
    request, other = wait(silent), Silent("virtual:other")
    other.set_modem_status(MSR_DSR)
    silent.start(other)
    assert waits(request)


def test_nobody_looks_while_nobody_waits_for_a_modem_line(silent: StopPort) -> None:
    set_mask(silent, MODEM | TXEMPTY)
    before = looks(silent)
    silent.pass_time(1000)
    assert looks(silent) == before
    silent.handle.write(b"x")
    silent.settle()
    assert looks(silent) == before
    assert told(wait(silent)) == TXEMPTY
    before = looks(silent)
    request = wait(silent)
    silent.pass_time(10 * SAMPLE_MS)
    assert 10 <= looks(silent) - before <= 13
    request.cancel()
    silent.pass_time(SAMPLE_MS)
    before = looks(silent)
    silent.pass_time(1000)
    assert looks(silent) == before
    set_mask(silent, RXCHAR | TXEMPTY)
    silent.handle.write(b"x")
    assert told(wait(silent)) == TXEMPTY
    request, before = wait(silent), looks(silent)
    silent.pass_time(1000)
    assert looks(silent) == before and waits(request)


def test_the_line_is_left_alone_while_it_is_lent_and_compared_when_it_is_back(silent: StopPort) -> None:
    set_mask(silent, MODEM)
    request, line = wait(silent), silent.line
    silent.stop()
    before = looks(silent)
    silent.pass_time(1000)
    assert looks(silent) == before
    other = Silent("virtual:other")
    other.set_modem_status(MSR_DSR)
    silent.start(other)
    assert told(request) == DSR
    request = wait(silent)
    other.set_modem_status(0)
    line.set_modem_status(MSR_CTS)
    silent.pass_time(SAMPLE_MS)
    assert told(request) == DSR


def test_a_line_that_interrupts_is_heard_at_once(port: StopPort) -> None:
    set_mask(port, MODEM)
    request = wait(port)
    port.line.set_modem_status(MSR_CTS)
    port.settle()
    assert told(request) == CTS
    set_mask(port, 0)
    port.line.set_modem_status(0)
    port.settle()
    assert port.extension.watched == 0


@pytest.fixture
def uart(make_port: MakePort) -> VirtualUart:
    """A line that interrupts until its modem status register has been read."""
    return VirtualUart()


@pytest.mark.parametrize("waits_first", [True, False])
def test_a_register_that_interrupts_until_it_is_read_is_read(
    make_port: MakePort, uart: VirtualUart, waits_first: bool
) -> None:
    port = make_port(line=uart, verify=True)
    set_mask(port, MODEM)
    request = wait(port) if waits_first else None
    uart.drive(rts=False)
    port.settle()
    assert not uart.asserted()
    assert told(request or wait(port)) == CTS


def test_a_pulse_that_is_over_is_told_by_a_line_that_interrupts(make_port: MakePort, uart: VirtualUart) -> None:
    """Nobody waits, and so nobody looks: the ISR has seen it."""
    port = make_port(line=uart, verify=True)
    set_mask(port, MODEM)
    for on in (False, True):  # on at first
        uart.drive(dtr=on)
        port.settle()
    assert told(wait(port)) == DSR | RLSD
    for on in (True, False):
        uart.ring(on)
        port.settle()
    assert told(wait(port)) == RING


class NoModem(VirtualLine):
    @property
    def has_modem_lines(self) -> bool:
        return False

    def modem_status(self) -> int:
        raise DeviceUnsupported("it has none")


def test_a_line_without_modem_lines_may_be_asked_and_has_no_such_event(make_port: Callable[..., Any]) -> None:
    port = make_port(line=NoModem(), verify=True)
    set_mask(port, MODEM | RXCHAR)
    request = wait(port)
    port.pass_time(1000)
    assert waits(request) and not port.bridge.ke.timers.running()
    port.feed(b"x")
    assert told(request) == RXCHAR
