"""One writer, many readers, a cursor each; back-pressure; what stays for whom."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hilbridge import DataLost, DeviceBusy, DeviceTimeout, Handle
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DATA_OVERRUN, STATUS_SHARING_VIOLATION, STATUS_SUCCESS
from tests.drivers.serial.serialkit import Port, end_of, numbered, waits

MakePort = Callable[..., Port]
SOON = 0.1
SMALL = 64
"""A receive log so small that a test can fill it."""


def read_all(handle: Handle) -> bytes:
    """What there is for this handle to read."""
    data = b""
    while handle.in_waiting:
        data += handle.read_some()
    return data


# -- who may open ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("access", ["rw", "w"])
def test_second_writer_is_refused_and_told_what_to_do(port: Port, access: str) -> None:
    with pytest.raises(DeviceBusy, match="access='r'") as refused:
        port.open(access)
    assert refused.value.status == STATUS_SHARING_VIOLATION
    assert refused.value.exit_code == 5


def test_refused_open_leaves_no_reader_behind(port: Port) -> None:
    with pytest.raises(DeviceBusy):
        port.open("rw")
    assert len(port.extension.readers) == 1
    assert port.bridge.devices()[0]["opens"] == 1


def test_writer_may_come_when_the_other_has_gone(port: Port) -> None:
    port.handle.close()
    with port.open("w") as writer:
        assert writer.write(b"abc") == 3


def test_readers_may_be_many(port: Port) -> None:
    readers = [port.open("r") for _ in range(20)]
    port.feed(b"abc")
    assert [r.read(3) for r in readers] == [b"abc"] * 20
    assert port.handle.read(3) == b"abc"


def test_writer_that_does_not_read_holds_up_nobody(port: Port) -> None:
    port.handle.close()
    port.extension.log_size = SMALL
    with port.open("w"), port.open("r") as reader:
        for n in range(100):
            port.feed(numbered(10, n * 10))
            assert reader.read(10) == numbered(10, n * 10)
        assert port.line.untaken == 0


# -- each reader sees all ----------------------------------------------------------------------------------------------


def test_each_reader_sees_every_byte_at_its_own_pace(port: Port) -> None:
    with port.open() as other:
        port.feed(b"abcdef")
        assert port.handle.read(4) == b"abcd"
        assert other.read(2) == b"ab"
        port.feed(b"gh")
        assert other.read(6) == b"cdefgh"
        assert port.handle.read(4) == b"efgh"


def test_reads_of_two_readers_end_with_the_same_arrival(port: Port) -> None:
    with port.open() as other:
        mine, theirs = port.handle.submit_read(3), other.submit_read(2)
        port.feed(b"abc")
        assert (end_of(mine)[1], end_of(theirs)[1]) == (b"abc", b"ab")


def test_cancelling_or_closing_one_does_not_touch_the_other(port: Port) -> None:
    with port.open() as other:
        mine, theirs = port.handle.submit_read(3), other.submit_read(3)
        port.feed(b"ab")
        port.handle.close()
        assert end_of(mine) == (STATUS_CANCELLED, b"")
        assert waits(theirs)
        port.feed(b"c")
        assert end_of(theirs) == (STATUS_SUCCESS, b"abc")


def test_one_that_joins_hears_what_comes_from_now_on(port: Port) -> None:
    port.feed(b"before")
    with port.open() as other:
        port.feed(b"after")
        assert read_all(other) == b"after"
    assert read_all(port.handle) == b"beforeafter"


def test_time_out_of_one_consumes_nothing_for_anybody(port: Port) -> None:
    with port.open() as other:
        port.feed(b"ab")
        with pytest.raises(DeviceTimeout) as late:
            other.read(3, timeout=SOON)
        assert late.value.partial == b"ab"
        assert read_all(other) == read_all(port.handle) == b"ab"


def test_in_waiting_is_each_readers_own(port: Port) -> None:
    with port.open() as other:
        port.feed(b"abcde")
        port.handle.read(3)
        assert (port.handle.in_waiting, other.in_waiting) == (2, 5)


def test_log_keeps_only_what_somebody_has_not_read(port: Port) -> None:
    with port.open() as other:
        port.feed(numbered(1000))
        port.handle.read(1000)
        assert len(port.extension.log) == 1000
        other.read(600)
        assert len(port.extension.log) == 400
    port.feed(b"x")
    port.handle.read(1)
    assert len(port.extension.log) == 0


# -- one that falls behind ---------------------------------------------------------------------------------------------


def talk(port: Port, total: int, listener: Handle) -> bytes:
    """The far end says `total` bytes, and `listener` reads them all."""
    said = numbered(total)
    for at in range(0, total, 10):
        port.feed(said[at : at + 10])
        assert listener.read(len(said[at : at + 10])) == said[at : at + 10]
    return said


def test_one_that_falls_behind_is_told_once_and_the_other_does_not_notice(port: Port) -> None:
    port.extension.log_size = SMALL
    with port.open() as slow:
        said = talk(port, 500, port.handle)
        with pytest.raises(DataLost) as lost:
            slow.read(5)
        assert lost.value.status == STATUS_DATA_OVERRUN
        rest = read_all(slow)
        assert len(rest) >= SMALL
        assert said.endswith(rest)
        port.feed(b"more")
        assert slow.read(4) == port.handle.read(4) == b"more"


def test_it_is_told_how_much_it_missed(port: Port) -> None:
    port.extension.log_size = SMALL
    with port.open() as slow:
        said = talk(port, 500, port.handle)
        with pytest.raises(DataLost) as lost:
            slow.read(5)
        missed = len(said) - len(read_all(slow))
        assert f"{missed} bytes" in str(lost.value)
        assert lost.value.information == missed


def test_falling_behind_twice_is_told_twice(port: Port) -> None:
    port.extension.log_size = SMALL
    with port.open() as slow:
        for _ in range(2):
            talk(port, 500, port.handle)
            with pytest.raises(DataLost):
                slow.read_some()
            assert read_all(slow)


def test_just_as_much_as_the_log_holds_is_not_behind(port: Port) -> None:
    port.extension.log_size = SMALL
    with port.open() as slow:
        said = talk(port, SMALL, port.handle)
        assert slow.read(SMALL) == said


def test_every_way_of_reading_tells(port: Port) -> None:
    port.extension.log_size = SMALL
    ways: list[Callable[[Handle], bytes]] = [
        lambda h: h.read(1),
        Handle.read_some,
        Handle.readline,
        lambda h: h.submit_read(3).result(),
    ]
    for way in ways:
        with port.open() as slow:
            talk(port, 500, port.handle)
            with pytest.raises(DataLost):
                way(slow)
            assert read_all(slow)


def test_read_that_waits_for_more_than_the_log_holds_is_not_left_behind(port: Port) -> None:
    """It could never end otherwise."""
    port.extension.log_size = SMALL
    with port.open() as patient:
        request = patient.submit_read(400)
        said = talk(port, 400, port.handle)
        assert end_of(request) == (STATUS_SUCCESS, said)


def test_bytes_that_nobody_has_read_are_lost_to_nobody(port: Port) -> None:
    """Behind whom should they be? The port stops taking bytes instead, as it does for one reader."""
    port.extension.log_size = SMALL
    said = numbered(5000)
    with port.open() as other:
        for at in range(0, len(said), 100):
            port.feed(said[at : at + 100])
        heard = b""
        while len(heard) < len(said):
            heard += port.handle.read_some()
        assert heard == said
        with pytest.raises(DataLost):
            other.read(1)


def test_two_that_read_in_turn_lose_nothing(port: Port) -> None:
    """Neither is ever further behind the other than the log is long, however much the far end says at once."""
    port.extension.log_size = SMALL
    said = numbered(20_000)
    with port.open() as other:
        port.feed(said)
        heard = [b"", b""]
        while any(len(h) < len(said) for h in heard):
            for n, handle in enumerate((port.handle, other)):
                if len(heard[n]) < len(said):
                    heard[n] += handle.read(min(SMALL, len(said) - len(heard[n])))
        assert heard == [said, said]


# -- back-pressure -----------------------------------------------------------------------------------------------------


def test_one_reader_loses_nothing_and_the_far_end_is_held_up(port: Port) -> None:
    port.extension.log_size = SMALL
    said = numbered(200_000)
    for at in range(0, len(said), 1000):
        port.feed(said[at : at + 1000])
    assert port.line.untaken > 0, "the driver took everything"
    assert len(port.extension.log) + port.line.untaken <= len(said)
    assert port.handle.read(len(said)) == said
    assert port.line.untaken == 0


def test_log_stays_near_its_bound(port: Port) -> None:
    """What one interrupt takes may come on top; it is not known before how much there is."""
    port.extension.log_size = 10_000
    for at in range(0, 2_000_000, 4000):
        port.feed(numbered(4000, at))
    extension = port.extension
    held = len(extension.log) + sum(map(len, extension.inbox))
    assert held < 10_000 + 2 * 65536
    assert held + port.line.untaken == 2_000_000


def test_held_up_port_sleeps(port: Port) -> None:
    port.extension.log_size = SMALL
    for _ in range(100):
        port.feed(bytes(1000))
    assert not port.extension.rx_on
    assert port.machine.run_until_idle() == 0
    port.line.feed(b"x")
    assert port.machine.run_until_idle() <= 1


def test_reading_lets_the_far_end_go_on(port: Port) -> None:
    port.extension.log_size = SMALL
    said = numbered(300_000)
    port.line.feed(said)
    port.settle()
    heard = b""
    while len(heard) < len(said):
        heard += port.handle.read_some(1000)
    assert heard == said


def test_nobody_reads_so_nothing_is_taken(port: Port) -> None:
    port.handle.close()
    with port.open("w"):
        port.feed(b"abc")
        assert port.line.untaken == 3


@pytest.mark.parametrize("kind", ["exactly", "minimum", "terminator"])
def test_read_larger_than_the_log(port: Port, kind: str) -> None:
    port.extension.log_size = SMALL
    said = numbered(100_000)[:-1] + b"\xff"
    options: dict[str, dict[str, int | bytes]] = {
        "exactly": {},
        "minimum": {"minimum": 100_000},
        "terminator": {"terminator": said[-3:]},
    }
    request = port.handle.submit_read(len(said), **options[kind])  # type: ignore[arg-type]
    for at in range(0, len(said), 1000):
        assert waits(request)
        port.feed(said[at : at + 1000])
    assert end_of(request) == (STATUS_SUCCESS, said)


def test_cancelled_read_larger_than_the_log_gives_its_bytes_back(port: Port) -> None:
    """The log is longer than its bound for once, and nothing is lost."""
    port.extension.log_size = SMALL
    request = port.handle.submit_read(100_000)
    said = numbered(90_000)
    port.feed(said)
    request.cancel()
    port.feed(b"more")
    assert port.handle.read(90_004) == said + b"more"


# -- open and close ----------------------------------------------------------------------------------------------------


def test_bytes_that_came_before_the_first_open_are_kept(port: Port) -> None:
    port.handle.close()
    port.feed(b"banner")
    with port.open() as first:
        assert first.read(6) == b"banner"


def test_bytes_unread_at_close_stay_for_the_next_open(port: Port) -> None:
    port.feed(b"abcdef")
    port.handle.read(2)
    port.handle.close()
    port.feed(b"gh")
    with port.open() as following:
        assert following.read(6) == b"cdefgh"


def test_bytes_of_a_read_that_close_ended_stay_for_the_next_open(port: Port) -> None:
    request = port.handle.submit_read(10)
    port.feed(b"abc")
    port.handle.close()
    assert end_of(request) == (STATUS_CANCELLED, b"")
    with port.open() as following:
        assert following.read(3) == b"abc"


def test_bytes_held_up_at_close_stay_for_the_next_open(port: Port) -> None:
    port.extension.log_size = SMALL
    said = numbered(200_000)
    for at in range(0, len(said), 1000):
        port.feed(said[at : at + 1000])
    port.handle.close()
    with port.open() as following:
        assert following.read(len(said)) == said


def test_what_everybody_has_read_does_not_come_again(port: Port) -> None:
    port.feed(b"abc")
    port.handle.read(3)
    port.handle.close()
    port.feed(b"d")
    with port.open() as following:
        assert following.read_some() == b"d"


def test_slower_of_two_leaves_what_it_has_not_read(port: Port) -> None:
    slow = port.open()
    port.feed(b"abcdef")
    slow.read(2)
    port.handle.read(6)
    port.handle.close()
    slow.close()
    with port.open() as following:
        assert following.read(4) == b"cdef"


def test_close_cancels_this_handles_writes_only(make_port: MakePort) -> None:
    port = make_port(room=1)
    with port.open("r") as reader:
        flushing = reader.submit_read(3)
        write = port.handle.submit_write(b"abc")
        port.handle.close()
        assert (write.status, write.information) == (STATUS_CANCELLED, 1)
        assert waits(flushing)


def test_reader_that_closes_does_not_cancel_the_writers_write(make_port: MakePort) -> None:
    port = make_port(room=1)
    reader = port.open("r")
    write = port.handle.submit_write(b"abc")
    reader.close()
    assert waits(write)
    port.accept(2)
    assert write.status == STATUS_SUCCESS


# -- many at random ----------------------------------------------------------------------------------------------------


def test_random_readers_each_hear_everything_or_are_told(port: Port, seed: int) -> None:
    """What a reader hears is what was said since it came, with a gap exactly where it was told of one."""
    dice = random.Random(seed)
    port.extension.log_size = SMALL
    said = b""
    readers: list[tuple[Handle, list[bytes]]] = [(port.handle, [b""])]
    came = {id(port.handle): 0}
    for _ in range(3000):
        match dice.randrange(8):
            case 0 | 1 | 2:
                data = numbered(dice.choice((1, 5, 30)), len(said))
                said += data
                port.feed(data)
            case 3 if len(readers) < 5:
                handle = port.open("r")
                came[id(handle)] = len(said) - port.line.untaken  # what is held up comes after it
                readers.append((handle, [b""]))
            case 4 if len(readers) > 1:
                handle, heard = readers.pop(dice.randrange(1, len(readers)))
                _check(said[came[id(handle)] :], heard)
                handle.close()
            case _:
                handle, heard = dice.choice(readers)
                try:
                    heard[-1] += handle.read_some(dice.randint(1, 40), timeout=0)
                except DataLost:
                    heard.append(b"")
                except DeviceTimeout:
                    pass
    for handle, heard in readers:
        _check(said[came[id(handle)] :], heard)
        if handle is not port.handle:
            handle.close()


def _check(said: bytes, heard: list[bytes]) -> None:
    at = 0
    assert said.startswith(heard[0])
    for piece in heard:
        found = said.find(piece, at)
        assert found >= 0, f"{piece!r} was not said, or not in this order"
        at = found + len(piece)
