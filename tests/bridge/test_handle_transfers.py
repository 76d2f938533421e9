"""Reading, writing and time-outs of a handle: on a virtual line with virtual time, and on ptys with and without steering."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, DeviceTimeout, RequestCancelled, UsageFault
from hilbridge.bridge.request import DEFAULT_TIMEOUT
from hilbridge.iomgr.manager import IoManager
from hilbridge.model import ntddser as ser
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_IO_TIMEOUT
from tests.bridge.handlekit import SOON, Real, Virtual, write_all
from tests.support import Thread

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
    writer = Thread(lambda: write_all(real.pty.board, data))
    assert real.handle.read(n) == data
    writer.finish()


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
