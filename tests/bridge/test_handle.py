"""A handle, as an application holds it: on a virtual line with virtual time, and on real ptys with and without steering."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hilbridge import BridgeClosed, DeviceTimeout, Handle, HilbridgeError, RequestCancelled, UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_CANCELLED, STATUS_FILE_CLOSED
from tests.bridge.handlekit import SOON, Real, Virtual, write_all
from tests.support import Thread

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
    write_all(real.pty.board, said)
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
            write_all(real.pty.board, piece)
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
