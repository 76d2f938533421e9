"""The receive log by itself: bytes by position."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hilbridge.drivers.serial.receivelog import ReceiveLog
from tests.drivers.serial.serialkit import numbered


def filled(data: bytes, base: int = 0) -> ReceiveLog:
    log = ReceiveLog()
    log.append(bytes(base))
    log.trim(base)
    log.append(data)
    return log


def test_positions_count_from_the_first_byte_ever() -> None:
    log = filled(b"abc", base=10)
    assert (log.base, log.end, len(log)) == (10, 13, 3)
    log.append(b"de")
    assert (log.base, log.end, len(log)) == (10, 15, 5)


def test_peek_stops_at_the_end() -> None:
    log = filled(b"abc", base=10)
    assert log.peek(11, 100) == b"bc"
    assert log.peek(11, 1) == b"b"
    assert log.peek(13, 5) == b""


def test_copy_into_the_front_of_a_larger_buffer() -> None:
    buffer = bytearray(b"xxxxx")
    filled(b"abcdef", base=10).copy_into(12, 3, buffer)
    assert buffer == b"cdexx"


def test_find_is_bounded_on_both_sides() -> None:
    log = filled(b"a\nb\nc\n", base=10)
    assert log.find(b"\n", 10, 16) == 12
    assert log.find(b"\n", 12, 16) == 14
    assert log.find(b"\n", 12, 13) == -1
    assert log.find(b"\nb", 10, 12) == -1


def test_trim_forgets_the_front_only() -> None:
    log = filled(b"abcdef", base=10)
    log.trim(13)
    assert (log.base, log.end, log.peek(13, 9)) == (13, 16, b"def")
    log.trim(11)  # a slower cursor has been forgotten already
    assert (log.base, log.peek(13, 9)) == (13, b"def")


def test_give_back_what_was_trimmed() -> None:
    log = filled(b"def", base=13)
    assert log.give_back(13, b"abc") == 10
    assert (log.base, log.end, log.peek(10, 9)) == (10, 16, b"abcdef")


def test_give_back_what_is_still_there_for_another() -> None:
    log = filled(b"abcdef", base=10)
    assert log.give_back(13, b"abc") == 10
    assert (log.base, log.end, log.peek(10, 9)) == (10, 16, b"abcdef")


def test_give_back_what_was_trimmed_in_part() -> None:
    log = filled(b"bcdef", base=11)
    assert log.give_back(13, b"abc") == 10
    assert (log.base, log.end, log.peek(10, 9)) == (10, 16, b"abcdef")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 20)),
        st.tuples(st.just("read"), st.integers(0, 20)),
        st.tuples(st.just("trim"), st.integers(0, 20)),
        st.tuples(st.just("back"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(STEPS)
def test_position_n_always_holds_the_nth_byte(steps: list[tuple[str, int]]) -> None:
    log = ReceiveLog()
    said = b""
    cursor = 0
    for what, count in steps:
        if what == "say":
            log.append(numbered(count, len(said)))
            said += numbered(count, len(said))
        elif what == "read":
            data = log.peek(cursor, count)
            assert data == said[cursor : cursor + count]
            cursor += len(data)
        elif what == "trim":
            log.trim(min(cursor, log.base + count))
        else:
            back = min(count, cursor)
            cursor = log.give_back(cursor, said[cursor - back : cursor])
        assert log.end == len(said)
        assert log.base <= cursor
        assert log.peek(log.base, len(said)) == said[log.base :]
