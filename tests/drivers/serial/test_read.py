"""IRP_MJ_READ without SERIAL_TIMEOUTS: order, minimum, terminator, cancellation, and who keeps the bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hilbridge import DevicePermission, DeviceTimeout, Request, UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_PENDING,
    STATUS_SUCCESS,
)
from tests.drivers.serial.serialkit import Port, end_of, numbered, waits

# -- all its bytes -----------------------------------------------------------------------------------------------------


def test_read_of_what_is_there_ends_at_once(port: Port) -> None:
    port.feed(b"abc")
    assert end_of(port.handle.submit_read(3)) == (STATUS_SUCCESS, b"abc")


def test_read_waits_and_ends_with_its_last_byte(port: Port) -> None:
    request = port.handle.submit_read(3)
    for byte in (b"a", b"b"):
        port.feed(byte)
        assert waits(request)
    assert request.status == STATUS_PENDING
    port.feed(b"cd")
    assert end_of(request) == (STATUS_SUCCESS, b"abc")
    assert port.handle.read(1) == b"d"


def test_reads_are_served_in_the_order_of_their_arrival(port: Port) -> None:
    requests = [port.handle.submit_read(n) for n in (3, 1, 4, 1, 5)]
    port.feed(b"abcdefghijklm")
    assert [end_of(r)[1] for r in requests[:4]] == [b"abc", b"d", b"efgh", b"i"]
    assert waits(requests[4])
    port.feed(b"n")
    assert end_of(requests[4])[1] == b"jklmn"


def test_a_small_read_does_not_overtake_a_large_one(port: Port) -> None:
    large, small = port.handle.submit_read(10), port.handle.submit_read(1)
    port.feed(b"abcdefghi")
    assert waits(large, small)
    port.feed(b"jk")
    assert (end_of(large)[1], end_of(small)[1]) == (b"abcdefghij", b"k")


def test_a_read_that_could_end_waits_behind_an_older_one(port: Port) -> None:
    port.feed(b"a")
    older = port.handle.submit_read(2)
    younger = port.handle.submit_read(1)
    assert waits(older, younger)


def test_a_read_of_nothing_does_not_wait_behind_others(port: Port) -> None:
    waiting = port.handle.submit_read(1)
    assert end_of(port.handle.submit_read(0)) == (STATUS_SUCCESS, b"")
    assert waits(waiting)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 65535, 65536, 65537, 300_000])
def test_sizes_around_those_of_the_buffers(port: Port, size: int) -> None:
    request = port.handle.submit_read(size)
    data = numbered(size)
    port.feed(data[:-1])
    assert waits(request)
    port.feed(data[-1:])
    assert end_of(request) == (STATUS_SUCCESS, data)


# -- minimum: as soon as that many are there ---------------------------------------------------------------------------


def test_minimum_takes_all_that_is_there(port: Port) -> None:
    port.feed(b"abcde")
    assert end_of(port.handle.submit_read(10, minimum=1)) == (STATUS_SUCCESS, b"abcde")


def test_minimum_takes_no_more_than_the_length(port: Port) -> None:
    port.feed(b"abcde")
    assert end_of(port.handle.submit_read(3, minimum=1)) == (STATUS_SUCCESS, b"abc")


def test_minimum_waits_until_there_are_as_many(port: Port) -> None:
    request = port.handle.submit_read(10, minimum=3)
    port.feed(b"ab")
    assert waits(request)
    port.feed(b"cde")
    assert end_of(request) == (STATUS_SUCCESS, b"abcde")


def test_minimum_above_the_length_means_the_length(port: Port) -> None:
    request = port.handle.submit_read(2, minimum=5)
    port.feed(b"ab")
    assert end_of(request) == (STATUS_SUCCESS, b"ab")


# -- terminator: up to and including it --------------------------------------------------------------------------------


def test_terminator_takes_up_to_it_and_leaves_the_rest(port: Port) -> None:
    port.feed(b"one\ntwo\nthr")
    assert end_of(port.handle.submit_read(100, terminator=b"\n")) == (STATUS_SUCCESS, b"one\n")
    assert end_of(port.handle.submit_read(100, terminator=b"\n")) == (STATUS_SUCCESS, b"two\n")
    request = port.handle.submit_read(100, terminator=b"\n")
    assert waits(request)
    port.feed(b"ee\nfour")
    assert end_of(request) == (STATUS_SUCCESS, b"three\n")


@pytest.mark.parametrize("cuts", range(1, 2**6))
def test_terminator_that_arrives_in_pieces(port: Port, cuts: int) -> None:
    """Every way to cut seven bytes with a four-byte terminator whose beginning repeats."""
    request = port.handle.submit_read(100, terminator=b"abab")
    text = b"abaabab"
    assert text.endswith(b"abab")
    for at in range(len(text)):
        port.line.feed(text[at : at + 1])
        if at < len(text) - 1 and cuts >> at & 1:
            port.settle()
            assert waits(request)
    port.settle()
    assert end_of(request) == (STATUS_SUCCESS, text)


def test_terminator_at_the_very_end_of_the_length(port: Port) -> None:
    port.feed(b"abc\n")
    assert end_of(port.handle.submit_read(4, terminator=b"\n")) == (STATUS_SUCCESS, b"abc\n")


def test_terminator_that_does_not_come_within_the_length(port: Port) -> None:
    request = port.handle.submit_read(4, terminator=b"\n")
    port.feed(b"abc")
    assert waits(request)
    port.feed(b"d\n")
    assert end_of(request) == (STATUS_BUFFER_OVERFLOW, b"abcd")
    assert end_of(port.handle.submit_read(4, terminator=b"\n")) == (STATUS_SUCCESS, b"\n")


def test_terminator_that_straddles_the_length_is_not_found(port: Port) -> None:
    request = port.handle.submit_read(4, terminator=b"\r\n")
    port.feed(b"abc\r\n")
    assert end_of(request) == (STATUS_BUFFER_OVERFLOW, b"abc\r")


def test_terminator_longer_than_the_length(port: Port) -> None:
    request = port.handle.submit_read(2, terminator=b"abc")
    port.feed(b"ab")
    assert end_of(request) == (STATUS_BUFFER_OVERFLOW, b"ab")


def test_terminator_is_looked_for_in_what_a_cancelled_read_left(port: Port) -> None:
    first = port.handle.submit_read(100, terminator=b"END")
    port.feed(b"abcEN")
    first.cancel()
    assert end_of(first) == (STATUS_CANCELLED, b"")
    second = port.handle.submit_read(100, terminator=b"cEND")
    port.feed(b"D")
    assert end_of(second) == (STATUS_SUCCESS, b"abcEND")


def test_looking_for_a_terminator_is_linear_in_the_data(port: Port) -> None:
    """No byte is searched twice: the position up to which was searched moves with the data."""
    request = port.handle.submit_read(100_000, terminator=b"END")
    reader = port.extension.readers[0]
    for fed in range(100, 5000, 100):
        port.feed(bytes(100))
        assert reader.scanned >= reader.cursor + fed - 2
    assert waits(request)


# -- cancellation: nothing is consumed ---------------------------------------------------------------------------------


def test_cancelled_read_leaves_its_bytes(port: Port) -> None:
    request = port.handle.submit_read(5)
    port.feed(b"abc")
    assert request.cancel()
    assert end_of(request) == (STATUS_CANCELLED, b"")
    assert port.handle.read(3) == b"abc"


def test_bytes_of_a_cancelled_read_go_to_the_next_in_the_queue(port: Port) -> None:
    first, second = port.handle.submit_read(5), port.handle.submit_read(3)
    port.feed(b"abc")
    first.cancel()
    assert end_of(first) == (STATUS_CANCELLED, b"")
    assert end_of(second) == (STATUS_SUCCESS, b"abc")


def test_cancelling_one_in_the_middle_of_the_queue(port: Port) -> None:
    first, second, third = (port.handle.submit_read(2) for _ in range(3))
    second.cancel()
    port.feed(b"abcd")
    assert end_of(second) == (STATUS_CANCELLED, b"")
    assert (end_of(first)[1], end_of(third)[1]) == (b"ab", b"cd")


def test_cancelling_a_read_that_is_done_changes_nothing(port: Port) -> None:
    port.feed(b"ab")
    request = port.handle.submit_read(2)
    assert not request.cancel()
    assert end_of(request) == (STATUS_SUCCESS, b"ab")


def test_a_late_cancel_does_not_hit_the_next_read(port: Port) -> None:
    first = port.handle.submit_read(1)
    port.feed(b"a")
    second = port.handle.submit_read(1)
    first.cancel()
    assert waits(second)
    port.feed(b"b")
    assert end_of(second) == (STATUS_SUCCESS, b"b")


def test_cancel_when_the_last_byte_is_raised_and_not_yet_taken(port: Port) -> None:
    """The byte waits in the hardware: the cancel comes first, and the byte stays."""
    request = port.handle.submit_read(2)
    port.feed(b"a")
    port.line.feed(b"b")
    request.cancel()
    port.settle()
    assert end_of(request) == (STATUS_CANCELLED, b"")
    assert port.handle.read(2) == b"ab"


# -- the application's calls -------------------------------------------------------------------------------------------


def test_timed_out_read_shows_its_bytes_and_consumes_none(port: Port) -> None:
    port.feed(b"abc")
    with pytest.raises(DeviceTimeout) as late:
        port.handle.read(5, timeout=1)
    assert late.value.partial == b"abc"
    assert port.handle.in_waiting == 3
    port.feed(b"de")
    assert port.handle.read(5) == b"abcde"


def test_reading_needs_the_access(port: Port) -> None:
    port.handle.close()
    writer = port.open("w")
    with pytest.raises(DevicePermission) as refused:
        writer.read(1)
    assert refused.value.status == STATUS_ACCESS_DENIED


def test_negative_length_is_refused(port: Port) -> None:
    with pytest.raises(UsageFault, match="-1"):
        port.handle.read(-1)


# -- many at random ----------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """What the driver promises about the bytes, in ten lines: each is delivered once, in order, or is still there."""

    said: bytes = b""
    heard: bytes = b""
    reads: list[Request] = field(default_factory=list)

    def collect(self) -> None:
        while self.reads and self.reads[0].done:
            self.heard += self.reads.pop(0).data
        assert self.said.startswith(self.heard)


@pytest.mark.parametrize("log_size", [7, 1 << 20])
def test_random_work_loses_and_doubles_no_byte(make_port: Callable[..., Port], seed: int, log_size: int) -> None:
    dice = random.Random(f"{seed}/{log_size}")
    port = make_port()
    port.extension.log_size = log_size
    model = Model()
    for _ in range(3000):
        match dice.randrange(9):
            case 0 | 1:
                data = numbered(dice.choice((1, 2, 3, 17, 100)), len(model.said))
                model.said += data
                port.line.feed(data)
            case 2:
                model.reads.append(port.handle.submit_read(dice.randint(0, 40)))
            case 3:
                model.reads.append(port.handle.submit_read(dice.randint(1, 40), minimum=dice.randint(1, 5)))
            case 4:
                model.reads.append(port.handle.submit_read(dice.randint(1, 40), terminator=bytes([dice.randrange(8)])))
            case 5:
                if model.reads:
                    dice.choice(model.reads).cancel()
            case 6:
                timeouts = dice.choice([(0, 0, 0), (3, 0, 0), (0, 1, 2), (2, 0, 9), (ser.MAXULONG, 0, 4)])
                port.set_timeouts(*timeouts)
            case 7:
                port.pass_time(dice.choice((0.5, 1, 2, 5)))
            case _:
                port.machine.step()
        model.reads = _in_order(model.reads)
        model.collect()
    port.handle.cancel_io()
    port.settle()
    model.collect()
    assert not model.reads
    port.set_timeouts()
    rest = len(model.said) - len(model.heard)
    assert model.heard + port.handle.read(rest) == model.said
    assert port.bridge.pending() == []


def _in_order(reads: list[Request]) -> list[Request]:
    """A cancelled read, or one of nothing, may end before an older one; it brings nothing, so it can be forgotten."""
    return [r for r in reads if not (r.done and not r.data)]
