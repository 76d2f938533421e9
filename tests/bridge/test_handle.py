"""A handle, as an application holds it: on a virtual line with virtual time, and on real ptys with and without steering."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hilbridge import (
    Bridge,
    BridgeClosed,
    DeviceTimeout,
    Handle,
    HilbridgeError,
    RequestCancelled,
    UsageFault,
)
from hilbridge.bridge.request import DEFAULT_TIMEOUT
from hilbridge.iomgr.manager import IoManager
from hilbridge.model import ntddser as ser
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_FILE_CLOSED, STATUS_IO_TIMEOUT
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import Thread

SOON = 0.02


class Virtual:
    """One port on virtual time."""

    def __init__(self, io_manager: type[IoManager] = IoManager, **options: Any) -> None:
        self.bridge = Bridge.manual(io_manager=io_manager)
        self.line = VirtualLine(**options)
        self.handle = self.bridge.open(self.bridge.plug(self.line))

    @property
    def seconds(self) -> float:
        return self.bridge.ke.clock.now() / 1e9

    def feed(self, data: bytes) -> None:
        self.line.feed(data)
        self.bridge.machine.run_until_idle()


class Real:
    """One port on a pty: `board` is the far end."""

    def __init__(self, *, steering: bool) -> None:
        self.pty = Pty()
        self.bridge = Bridge(steering=steering)
        self.handle = self.bridge.open(self.bridge.plug(self.pty.path))

    def say(self, data: bytes) -> None:
        assert os.write(self.pty.board, data) == len(data)

    def say_in_pieces(self, data: bytes, size: int) -> None:
        for at in range(0, len(data), size):
            self.say(data[at : at + size])

    def close(self) -> None:
        self.bridge.close()
        self.pty.close()


@pytest.fixture
def port() -> Iterator[Virtual]:
    port = Virtual()
    with port.bridge:
        yield port


@pytest.fixture(params=[True, False], ids=["steering", "no steering"])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    real = Real(steering=request.param)
    yield real
    real.close()
    assert real.bridge.faults == []


# -- reading -----------------------------------------------------------------------------------------------------------


def test_read_returns_exactly_that_many(port: Virtual) -> None:
    port.feed(b"abcdef")
    assert port.handle.read(4) == b"abcd"
    assert port.handle.read(2) == b"ef"
    assert port.handle.read(0) == b""


def test_read_some_returns_what_is_there_up_to_max(port: Virtual) -> None:
    port.feed(b"abcdef")
    assert port.handle.read_some(4) == b"abcd"
    assert port.handle.read_some() == b"ef"


def test_read_until_includes_the_terminator(port: Virtual) -> None:
    port.feed(b"one\r\ntwo=> rest")
    assert port.handle.read_until(b"\r\n") == b"one\r\n"
    assert port.handle.read_until(b"=> ") == b"two=> "
    assert port.handle.read_some() == b"rest"


def test_read_until_with_a_line_longer_than_max(port: Virtual) -> None:
    port.feed(b"0123456789\n")
    with pytest.raises(UsageFault, match="larger max") as long:
        port.handle.read_until(b"\n", max=4)
    assert long.value.partial == b"0123"
    assert port.handle.read_until(b"\n", max=7) == b"456789\n"


@pytest.mark.parametrize("terminator", [b"\n", bytearray(b"\n"), memoryview(b"\n")])
def test_terminator_may_be_anything_that_holds_bytes(port: Virtual, terminator: bytes) -> None:
    port.feed(b"a\n")
    assert port.handle.read_until(terminator) == b"a\n"
    port.bridge.machine.queue_work(lambda: port.line.feed(b"b\n"))
    assert port.handle.read_until(terminator) == b"b\n"


def test_lines(port: Virtual) -> None:
    port.feed(b"one\ntwo\n\nthree")
    assert port.handle.readline() == b"one\n"
    lines = iter(port.handle)
    assert [next(lines), next(lines)] == [b"two\n", b"\n"]
    with pytest.raises(DeviceTimeout) as late:
        next(lines)
    assert late.value.partial == b"three"
    port.feed(b"\n")
    assert port.handle.readline() == b"three\n"


@pytest.mark.parametrize("n", [1, 16, 4095, 4096, 70_000])
def test_reading_a_pty(real: Real, n: int) -> None:
    data = bytes(k & 0xFF for k in range(n))
    writer = Thread(lambda: _write_all(real.pty.board, data))
    assert real.handle.read(n) == data
    writer.finish()


def _write_all(fd: int, data: bytes) -> None:
    os.set_blocking(fd, True)
    while data:
        data = data[os.write(fd, data) :]
    os.set_blocking(fd, False)


def test_round_trips_on_a_pty(real: Real) -> None:
    for n in range(200):
        request = bytes([n]) * 16
        assert real.handle.write(request) == 16
        assert real.pty.hear(16) == request
        real.say(request[::-1])
        assert real.handle.read(16) == request[::-1]


def test_waiting_read_on_a_pty_gets_what_comes_later(real: Real) -> None:
    reader = Thread(lambda: [real.handle.readline() for _ in range(3)])
    for piece in (b"on", b"e\ntwo", b"\nth", b"ree\n"):
        real.say(piece)
    assert reader.finish() == [b"one\n", b"two\n", b"three\n"]


# -- time-outs ---------------------------------------------------------------------------------------------------------

READS: list[Callable[..., bytes]] = [
    lambda h, **options: h.read(5, **options),
    lambda h, **options: h.read_until(b"END", **options),
    lambda h, **options: h.readline(**options),
]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("timeout", [0, 0.001, 0.25, 3600])
def test_deadline_is_exact_and_consumes_nothing(port: Virtual, read: Callable[..., bytes], timeout: float) -> None:
    port.feed(b"abc")
    for _ in range(2):
        began = port.seconds
        with pytest.raises(DeviceTimeout) as late:
            read(port.handle, timeout=timeout)
        assert port.seconds - began == pytest.approx(timeout)
        assert late.value.partial == b"abc"
        assert late.value.status == STATUS_IO_TIMEOUT
        assert late.value.exit_code == 8
        assert isinstance(late.value, TimeoutError)
    assert port.bridge.pending() == []
    assert port.handle.read(3) == b"abc"


def test_default_is_five_seconds(port: Virtual) -> None:
    with pytest.raises(DeviceTimeout, match="within 5 s"):
        port.handle.read(1)
    assert port.seconds == DEFAULT_TIMEOUT == 5


def test_iteration_has_the_default_timeout_for_each_line(port: Virtual) -> None:
    with pytest.raises(DeviceTimeout):
        next(iter(port.handle))
    assert port.seconds == 5


def test_message_says_what_on_what_for_how_long_and_what_is_there(port: Virtual) -> None:
    port.feed(b"abc")
    with pytest.raises(DeviceTimeout) as late:
        port.handle.read(5, timeout=0.25)
    for words in ("read(5)", "COM1", "0.25 s", "3 bytes"):
        assert words in str(late.value)
    assert "\n" not in str(late.value)


def test_partial_of_a_read_is_no_more_than_it_asked_for(port: Virtual) -> None:
    """read_until looks at all that is there, and shows it."""
    port.feed(b"x" * 100)
    with pytest.raises(DeviceTimeout) as late:
        port.handle.read_until(b"\n", timeout=0.1)
    assert late.value.partial == b"x" * 100


def test_time_out_on_a_pty_keeps_the_bytes(real: Real) -> None:
    real.say(b"abc")
    with pytest.raises(DeviceTimeout) as late:
        real.handle.read(5, timeout=SOON * 5)
    assert late.value.partial == b"abc"
    real.say(b"de")
    assert real.handle.read(5) == b"abcde"


def test_many_time_outs_that_race_with_the_bytes(real: Real) -> None:
    """Whoever wins, each byte comes once and in order."""
    said = bytes(range(1, 201))
    talker = Thread(lambda: real.say_in_pieces(said, 1))
    heard = b""
    while len(heard) < len(said):
        try:
            heard += real.handle.read(7, timeout=0.0005)
        except DeviceTimeout as late:
            if len(said) - len(heard) < 7 and len(late.partial) == len(said) - len(heard):
                heard += real.handle.read(len(late.partial))
    talker.finish()
    assert heard == said


def test_none_waits_until_it_is_cancelled(real: Real) -> None:
    started = threading.Event()

    def read() -> bytes:
        started.set()
        return real.handle.read(1, timeout=None)

    reader = Thread(read)
    assert started.wait(10)
    while not real.handle.cancel_io():  # it may not have got as far as its request
        assert reader.is_alive()
    with pytest.raises(RequestCancelled):
        reader.finish()
    real.say(b"a")
    assert real.handle.read(1) == b"a"


@pytest.mark.parametrize("timeout", ["5", math.nan, object(), b"5"])
def test_impossible_timeout_is_refused_and_leaves_no_request(port: Virtual, timeout: Any) -> None:
    """A read that stayed behind would swallow bytes that nobody gets."""
    calls: list[Callable[[], object]] = [
        lambda: port.handle.read(3, timeout=timeout),
        lambda: port.handle.read_some(3, timeout=timeout),
        lambda: port.handle.readline(timeout=timeout),
        lambda: port.handle.flush(timeout=timeout),
    ]
    for call in calls:
        with pytest.raises((UsageFault, TypeError, ValueError)):
            call()
        assert port.bridge.pending() == []
    port.feed(b"abc")
    assert port.handle.read(3) == b"abc"


@pytest.mark.parametrize("timeout", [math.inf, 1e300])
def test_timeout_that_never_comes_is_refused_or_waits(port: Virtual, timeout: float) -> None:
    port.bridge.machine.queue_work(lambda: port.line.feed(b"abc"))
    try:
        assert port.handle.read(3, timeout=timeout) == b"abc"
    except (UsageFault, OverflowError):
        assert port.bridge.pending() == []
        port.bridge.machine.run_until_idle()
        assert port.handle.read(3) == b"abc"


def test_negative_timeout_has_passed_already(port: Virtual) -> None:
    with pytest.raises(DeviceTimeout):
        port.handle.read(3, timeout=-1)
    port.feed(b"abc")
    assert port.handle.read(3, timeout=-1) == b"abc", "bytes that are there need no time"


def test_time_out_that_meets_the_drivers_own_loses_no_byte() -> None:
    """SERIAL_TIMEOUTS ends the read with what it has while the deadline of the caller is cancelling it."""

    class Late(IoManager):
        bridge: Bridge

        def cancel_irp(self, irp: Irp) -> bool:
            self.bridge.machine.advance(1)
            return super().cancel_irp(irp)

    port = Virtual(io_manager=Late)
    with port.bridge:
        assert isinstance(port.bridge.io, Late)
        port.bridge.io.bridge = port.bridge
        port.handle.ioctl(ser.IOCTL_SERIAL_SET_TIMEOUTS, ser.SerialTimeouts(0, 0, 500).pack())
        port.feed(b"abc")
        heard = b""
        with contextlib.suppress(DeviceTimeout):
            heard = port.handle.read(5, timeout=0.2)
        port.feed(b"de")
        assert heard + port.handle.read_some() == b"abcde"


# -- writing -----------------------------------------------------------------------------------------------------------


def test_write_returns_the_length(port: Virtual) -> None:
    assert port.handle.write(b"abc") == 3
    assert port.handle.write(bytearray(b"de")) == 2
    assert port.handle.write(memoryview(b"xfx")[1:2]) == 1
    assert port.line.sent == b"abcdef"


def test_what_is_no_bytes_is_the_callers_mistake_and_not_the_drivers(port: Virtual) -> None:
    for wrong in ("text", 5, None, 1.5, ["a"]):
        with pytest.raises((TypeError, UsageFault)):
            port.handle.write(wrong)  # type: ignore[arg-type]
    assert port.bridge.faults == []
    assert port.handle.write(b"works") == 5


def test_what_is_no_length_is_the_callers_mistake_and_not_the_drivers(port: Virtual) -> None:
    calls: list[Callable[[], object]] = [
        lambda: port.handle.read("3"),  # type: ignore[arg-type]
        lambda: port.handle.read(2.5),  # type: ignore[arg-type]
        lambda: port.handle.read(-1),
        lambda: port.handle.read(1 << 70),
        lambda: port.handle.read_some(-1),
        lambda: port.handle.read_until("text"),  # type: ignore[arg-type]
        lambda: port.handle.read_until(b""),
        lambda: port.handle.read_until(b"\n", max=-1),
        lambda: port.handle.submit_read(-1),
    ]
    port.feed(b"1234")
    for call in calls:
        with pytest.raises((TypeError, UsageFault, OverflowError)):
            call()
    assert port.bridge.faults == []
    assert port.bridge.pending() == []
    assert port.handle.read(4) == b"1234"


def test_items_wider_than_a_byte_are_counted_in_bytes(port: Virtual) -> None:
    wide = memoryview(b"abcdefgh").cast("I")
    assert port.handle.write(wide) == 8
    assert port.line.sent == b"abcdefgh"


def test_write_larger_than_the_ptys_buffer(real: Real) -> None:
    data = os.urandom(200_000)
    hearer = Thread(lambda: real.pty.hear(len(data)))
    assert real.handle.write(data, timeout=30) == len(data)
    assert hearer.finish() == data


def test_write_to_a_peer_that_does_not_read(real: Real) -> None:
    """pyserial blocks for ever, or says that it wrote 0; here the count is what the peer then gets."""
    data = os.urandom(200_000)
    with pytest.raises(DeviceTimeout) as late:
        real.handle.write(data, timeout=SOON * 5)
    accepted = late.value.information
    assert 0 < accepted < len(data)
    assert f"{accepted} bytes" in str(late.value)
    assert real.pty.hear(accepted) == data[:accepted]
    real.handle.write(b"after")
    assert real.pty.hear(5) == b"after"


def test_write_that_waits_does_not_hold_up_a_read(real: Real) -> None:
    write = real.handle.submit_write(os.urandom(200_000))
    real.say(b"abc")
    assert real.handle.read(3) == b"abc"
    assert not write.done
    write.cancel()


# -- settings ----------------------------------------------------------------------------------------------------------

IMPOSSIBLE: list[dict[str, Any]] = [
    {"baudrate": 0},
    {"baudrate": -1},
    {"baudrate": 9600.5},
    {"baudrate": "9600"},
    {"baudrate": 1 << 32},
    {"bytesize": 4},
    {"bytesize": 9},
    {"bytesize": 300},
    {"bytesize": -1},
    {"bytesize": "8"},
    {"parity": "X"},
    {"parity": ""},
    {"parity": 0},
    {"stopbits": 3},
    {"stopbits": 1.5},
    {"stopbits": "x"},
    {"bytesize": 5, "stopbits": 2},
]


@pytest.mark.parametrize("wrong", IMPOSSIBLE, ids=str)
def test_impossible_setting_is_refused_as_the_callers_mistake(port: Virtual, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageFault) as refused:
        port.handle.set(**wrong)
    assert refused.value.exit_code == 2
    assert port.bridge.faults == []
    assert port.handle.baudrate == 115200
    assert port.line.settings.bytesize == 8


def test_set_changes_what_it_is_told_to(port: Virtual) -> None:
    port.handle.set(baudrate=9600)
    port.handle.set(parity="E", bytesize=7)
    port.handle.set(stopbits=2)
    port.handle.set()
    settings = port.line.settings
    assert (settings.baudrate, settings.bytesize, settings.parity, settings.stopbits) == (9600, 7, "E", 2)


# -- cancelling and closing --------------------------------------------------------------------------------------------


def test_cancel_io_ends_everything_of_this_handle_only(port: Virtual) -> None:
    other = port.bridge.open("COM1", access="r")
    mine = [port.handle.submit_read(5), port.handle.submit_read(5)]
    theirs = other.submit_read(1)
    assert port.handle.cancel_io() == 2
    assert [r.status for r in mine] == [STATUS_CANCELLED] * 2
    assert not theirs.done
    assert port.handle.cancel_io() == 0
    other.close()


CALLS: list[Callable[[Handle], object]] = [
    lambda h: h.read(1),
    lambda h: h.read(0),
    lambda h: h.read_some(),
    lambda h: h.readline(),
    lambda h: next(iter(h)),
    lambda h: h.write(b"x"),
    lambda h: h.write(b""),
    lambda h: h.flush(),
    lambda h: h.ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4),
    lambda h: h.set(baudrate=9600),
    lambda h: h.purge(),
    lambda h: h.in_waiting,
    lambda h: h.dtr,
    lambda h: h.submit_read(1),
    lambda h: h.submit_write(b"x"),
    lambda h: h.submit_ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4),
]


@pytest.mark.parametrize("call", CALLS)
def test_closed_handle_refuses_every_call(port: Virtual, call: Callable[[Handle], object]) -> None:
    port.feed(b"there are bytes\n")
    port.handle.close()
    with pytest.raises(BridgeClosed) as refused:
        call(port.handle)
    assert refused.value.status == STATUS_FILE_CLOSED
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("call", CALLS)
def test_handle_of_a_closed_bridge_refuses_every_call(port: Virtual, call: Callable[[Handle], object]) -> None:
    port.bridge.close()
    with pytest.raises(BridgeClosed):
        call(port.handle)


def test_closing_twice_does_nothing(port: Virtual) -> None:
    seen = [port.handle.closed]
    for _ in range(2):
        port.handle.close()
        seen.append(port.handle.closed)
    assert seen == [False, True, True]
    assert "closed" in repr(port.handle)
    assert port.handle.cancel_io() == 0


def test_close_ends_what_is_outstanding(port: Virtual) -> None:
    requests = [port.handle.submit_read(5), port.handle.submit_read(5)]
    port.handle.close()
    assert [r.status for r in requests] == [STATUS_CANCELLED] * 2


def test_close_ends_a_read_in_another_thread(real: Real) -> None:
    """pyserial's reader dies with a TypeError here, and the descriptor's number may be somebody else's by then."""
    for _ in range(20):
        handle = real.bridge.open("COM1", access="r")
        reader = Thread(partial(handle.read, 1, timeout=None))
        while not real.bridge.pending():
            assert reader.is_alive()
        handle.close()
        with pytest.raises((RequestCancelled, BridgeClosed)):
            reader.finish()


def test_block_closes_the_handle_however_it_ends(port: Virtual) -> None:
    port.handle.close()
    with port.bridge.open("COM1") as first:
        pass
    assert first.closed
    with pytest.raises(ZeroDivisionError), port.bridge.open("COM1") as second:
        _ = 1 / 0
    assert second.closed


def test_handle_that_is_dropped_is_closed(port: Virtual) -> None:
    """Otherwise its port would stay busy, and its reader would hold up the others, for as long as the bridge lives."""
    request = port.handle.submit_read(5)
    del request.handle
    port.handle = None  # type: ignore[assignment]
    gc.collect()
    port.bridge.machine.run_until_idle()
    assert request.status == STATUS_CANCELLED
    with port.bridge.open("COM1") as again:
        port.feed(b"abc")
        assert again.read(3) == b"abc"


def test_handle_that_is_dropped_on_a_pty_is_closed_by_the_bridge(real: Real) -> None:
    real.handle = None  # type: ignore[assignment]
    gc.collect()
    with real.bridge.open("COM1") as again:
        real.say(b"abc")
        assert again.read(3) == b"abc"


# -- several threads ---------------------------------------------------------------------------------------------------


def test_readers_on_several_threads_share_the_bytes_of_one_handle(real: Real) -> None:
    """Each byte goes to one of them; none is lost and none comes twice."""
    total, threads = 4000, 4
    said = b"".join(n.to_bytes(2, "big") for n in range(total // 2))
    heard: list[bytes] = []
    readers = [
        Thread(lambda: heard.extend(real.handle.read(2) for _ in range(total // 2 // threads))) for _ in range(4)
    ]
    _write_all(real.pty.board, said)
    for reader in readers:
        reader.finish()
    assert sorted(heard) == [said[n : n + 2] for n in range(0, total, 2)]


def test_writes_on_several_threads_do_not_mix(real: Real) -> None:
    size, count, threads = 3000, 10, 4

    def write(data: bytes) -> None:
        for _ in range(count):
            real.handle.write(data, timeout=30)

    writers = [Thread(partial(write, bytes([n]) * size)) for n in range(1, threads + 1)]
    heard = real.pty.hear(size * count * threads)
    for writer in writers:
        writer.finish()
    pieces = [heard[at : at + size] for at in range(0, len(heard), size)]
    assert all(len(set(piece)) == 1 for piece in pieces), "the bytes of two writes are mixed"
    assert sorted(piece[0] for piece in pieces) == sorted(list(range(1, threads + 1)) * count)


def test_reading_and_writing_at_once(real: Real) -> None:
    data = os.urandom(100_000)

    def echo() -> None:
        got = b""
        while len(got) < len(data):
            piece = real.pty.hear(min(1000, len(data) - len(got)))
            _write_all(real.pty.board, piece)
            got += piece

    board = Thread(echo)
    writer = Thread(lambda: real.handle.write(data, timeout=30))
    assert real.handle.read(len(data), timeout=30) == data
    assert writer.finish() == len(data)
    board.finish()


def test_cancel_from_another_thread_again_and_again(real: Real) -> None:
    """Cancelling belongs to a request: none hits the next read, and no byte is lost."""
    stop = threading.Event()
    said = bytes(range(1, 251))

    def cancel() -> int:
        count = 0
        while not stop.is_set():
            count += real.handle.cancel_io()
        return count

    canceller = Thread(cancel)
    talker = Thread(lambda: real.say_in_pieces(said, 5))
    heard = b""
    while len(heard) < len(said):
        try:
            heard += real.handle.read_some(3, timeout=SOON)
        except (RequestCancelled, DeviceTimeout):
            continue
    stop.set()
    talker.finish()
    canceller.finish()
    assert heard == said


# -- what it says about itself -----------------------------------------------------------------------------------------


def test_repr_and_name(port: Virtual) -> None:
    assert port.handle.name == "COM1"
    assert repr(port.handle) == "<Handle COM1>"


def test_every_error_is_one_line_with_a_status(port: Virtual) -> None:
    calls: list[Callable[[], object]] = [
        lambda: port.handle.read(5, timeout=0),
        lambda: port.handle.read(-1),
        lambda: port.handle.set(baudrate=0),
        lambda: port.handle.ioctl(0),
        lambda: port.handle.read_until(b""),
        lambda: port.bridge.open("COM1"),
        lambda: port.bridge.open("nothing"),
    ]
    for call in calls:
        with pytest.raises(HilbridgeError) as error:
            call()
        assert "\n" not in str(error.value)
        assert error.value.status.is_error
        assert len(str(error.value)) >= 20


def test_now_is_the_bridges_clock(port: Virtual) -> None:
    port.bridge.machine.advance(1.5)
    assert port.handle.now() == 1.5
