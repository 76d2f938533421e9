"""SERIAL_TIMEOUTS: every row of the table of read time-outs (ntddser.h; Microsoft, "SERIAL_TIMEOUTS structure").

N is what is asked for, RIT the interval, M the multiplier, C the constant, MAX 0xFFFFFFFF; all in milliseconds. Each row is
tried a nanosecond before its moment and at its moment.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from hilbridge import UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_CANCELLED, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STATUS_TIMEOUT
from tests.drivers.serial.serialkit import MAX, Port, end_of, fault_of, waits

JUST = 1e-6  # a nanosecond, in milliseconds
AGE = 1e9  # eleven days, in milliseconds


# -- row 1: RIT 0, M and C 0: all N bytes, however long that takes ------------------------------------------------------


def test_without_timeouts_a_read_waits_for_all_its_bytes(port: Port) -> None:
    request = port.handle.submit_read(3)
    port.feed(b"ab")
    port.pass_time(AGE)
    assert waits(request)
    port.feed(b"c")
    assert end_of(request) == (STATUS_SUCCESS, b"abc")


def test_without_timeouts_no_timer_is_set(port: Port) -> None:
    port.handle.submit_read(3)
    port.feed(b"ab")
    assert port.bridge.statistics()["timers"] == 0


# -- row 2: RIT 0, M or C not 0: N * M + C after the start --------------------------------------------------------------


class Total(NamedTuple):
    multiplier: int
    constant: int
    length: int
    expires: float


TOTALS = [
    Total(0, 100, 10, 100),
    Total(7, 0, 10, 70),
    Total(7, 5, 10, 75),
    Total(1, 0, 1, 1),
    Total(0, 1, 60000, 1),
]


@pytest.mark.parametrize("case", TOTALS)
def test_total_timeout_expires_at_its_moment(port: Port, case: Total) -> None:
    port.set_timeouts(0, case.multiplier, case.constant)
    request = port.handle.submit_read(case.length)
    port.pass_time(case.expires - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"")


@pytest.mark.parametrize(
    "case", [Total(MAX, 0, 2, 2 * MAX), Total(0, MAX, 2, MAX), Total(MAX - 1, MAX, 1, 2 * MAX - 1)]
)
def test_total_timeout_may_be_longer_than_a_ulong(port: Port, case: Total) -> None:
    port.set_timeouts(0, case.multiplier, case.constant)
    request = port.handle.submit_read(case.length)
    port.pass_time(case.expires - 1)  # a nanosecond is less than a float can tell after so long
    assert waits(request)
    port.pass_time(2)
    assert end_of(request) == (STATUS_TIMEOUT, b"")


def test_total_timeout_returns_what_there_is(port: Port) -> None:
    port.set_timeouts(0, 10, 5)
    request = port.handle.submit_read(4)
    port.feed(b"abc")
    port.pass_time(45)
    assert end_of(request) == (STATUS_TIMEOUT, b"abc")
    port.feed(b"defg")
    assert port.handle.read(4) == b"defg"


def test_total_timeout_does_not_begin_anew_with_each_byte(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    request = port.handle.submit_read(10)
    for _ in range(9):
        port.pass_time(11)
        port.feed(b"x")
    assert waits(request)
    port.pass_time(1)
    assert end_of(request) == (STATUS_TIMEOUT, b"x" * 9)


def test_bytes_that_come_at_the_very_moment_of_the_timeout_count(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    request = port.handle.submit_read(3)
    port.pass_time(100 - JUST)
    port.line.feed(b"abc")  # the interrupt is raised, and has not been served when the timer expires
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_SUCCESS, b"abc")


def test_part_that_comes_at_the_very_moment_of_the_timeout_is_returned(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    request = port.handle.submit_read(3)
    port.pass_time(100 - JUST)
    port.line.feed(b"ab")
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"ab")


def test_total_timeout_is_over_when_the_read_is(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    first = port.handle.submit_read(1)
    port.pass_time(60)
    port.feed(b"a")
    assert end_of(first) == (STATUS_SUCCESS, b"a")
    second = port.handle.submit_read(1)
    port.pass_time(100 - JUST)
    assert waits(second), "the second read ended by the first one's timer"
    port.pass_time(JUST)
    assert end_of(second) == (STATUS_TIMEOUT, b"")


def test_time_of_a_queued_read_begins_when_it_becomes_the_oldest(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    first, second = port.handle.submit_read(1), port.handle.submit_read(1)
    port.pass_time(100)
    assert end_of(first) == (STATUS_TIMEOUT, b"")
    port.pass_time(100 - JUST)
    assert waits(second)
    port.pass_time(JUST)
    assert end_of(second) == (STATUS_TIMEOUT, b"")
    assert port.milliseconds == 200


def test_timeouts_are_sampled_when_the_read_starts(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    first, second = port.handle.submit_read(1), port.handle.submit_read(1)
    port.set_timeouts(0, 0, 30)
    port.pass_time(100 - JUST)
    assert waits(first, second)
    port.pass_time(JUST)
    assert first.done
    port.pass_time(30 - JUST)
    assert waits(second)
    port.pass_time(JUST)
    assert second.done


def test_cancelled_read_takes_its_timer_along(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    first = port.handle.submit_read(1)
    port.pass_time(60)
    first.cancel()
    assert end_of(first) == (STATUS_CANCELLED, b"")
    second = port.handle.submit_read(1)
    port.pass_time(99)
    assert waits(second)
    port.feed(b"x")
    assert end_of(second) == (STATUS_SUCCESS, b"x")


# -- row 3: RIT between, M and C 0: the gap between two bytes, once there is a first one -------------------------------


def test_interval_does_not_run_before_the_first_byte(port: Port) -> None:
    port.set_timeouts(10)
    request = port.handle.submit_read(5)
    port.pass_time(AGE)
    assert waits(request)


def test_interval_ends_a_read_when_the_gap_is_as_long(port: Port) -> None:
    port.set_timeouts(10)
    request = port.handle.submit_read(5)
    port.pass_time(1000)
    port.feed(b"a")
    port.pass_time(10 - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"a")


def test_interval_is_counted_from_the_last_byte(port: Port) -> None:
    port.set_timeouts(10)
    request = port.handle.submit_read(5)
    port.feed(b"a")
    port.pass_time(8)
    port.feed(b"b")
    port.pass_time(9)
    port.feed(b"c")
    port.pass_time(10 - JUST)
    assert waits(request), f"it ended {port.milliseconds - 17} ms after the last byte"
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"abc")


def test_interval_never_ends_a_read_whose_bytes_keep_coming(port: Port) -> None:
    port.set_timeouts(10)
    request = port.handle.submit_read(500)
    for _ in range(499):
        port.feed(b"x")
        port.pass_time(10 - JUST)
    assert waits(request)
    port.feed(b"y")
    assert end_of(request) == (STATUS_SUCCESS, b"x" * 499 + b"y")


def test_bytes_that_wait_at_the_start_count_as_the_first(port: Port) -> None:
    port.feed(b"ab")
    port.pass_time(1000)
    port.set_timeouts(10)
    request = port.handle.submit_read(5)
    port.pass_time(10 - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"ab")


def test_byte_at_the_very_moment_of_the_interval_keeps_the_read_alive(port: Port) -> None:
    port.set_timeouts(10)
    request = port.handle.submit_read(5)
    port.feed(b"a")
    port.pass_time(10 - JUST)
    port.line.feed(b"b")
    port.pass_time(JUST)
    assert waits(request)
    port.pass_time(10)
    assert end_of(request) == (STATUS_TIMEOUT, b"ab")


def test_full_read_ends_before_its_interval(port: Port) -> None:
    port.set_timeouts(10)
    request = port.handle.submit_read(2)
    port.feed(b"a")
    port.pass_time(5)
    port.feed(b"b")
    assert end_of(request) == (STATUS_SUCCESS, b"ab")
    assert port.bridge.statistics()["timers"] == 0


# -- row 4: RIT between, M or C not 0: both -----------------------------------------------------------------------------


def test_total_runs_out_first(port: Port) -> None:
    port.set_timeouts(10, 0, 25)
    request = port.handle.submit_read(100)
    for _ in range(4):
        port.feed(b"x")
        port.pass_time(6)
    assert waits(request)
    port.feed(b"x")
    port.pass_time(1)
    assert end_of(request) == (STATUS_TIMEOUT, b"xxxxx")
    assert port.milliseconds == 25


def test_interval_runs_out_first(port: Port) -> None:
    port.set_timeouts(10, 0, 1000)
    request = port.handle.submit_read(100)
    port.pass_time(20)
    port.feed(b"x")
    port.pass_time(10 - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"x")


def test_total_ends_a_read_without_any_byte_although_there_is_an_interval(port: Port) -> None:
    port.set_timeouts(10, 2, 5)
    request = port.handle.submit_read(10)
    port.pass_time(25 - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"")


# -- row 5: RIT MAX, M and C 0: what is there, at once, also if it is nothing -------------------------------------------


def test_return_at_once_with_nothing(port: Port) -> None:
    port.set_timeouts(MAX, 0, 0)
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"")


def test_return_at_once_with_what_is_there(port: Port) -> None:
    port.set_timeouts(MAX, 0, 0)
    port.feed(b"abcdefg")
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"abcde")
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"fg")
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"")


# -- row 6: RIT MAX, M and C below MAX and not both 0: what is there, else all N or the total ---------------------------


@pytest.mark.parametrize(("multiplier", "constant", "expires"), [(0, 50, 50), (10, 0, 50), (10, 3, 53)])
def test_return_one_or_more_at_once_else_wait_for_the_total(
    port: Port, multiplier: int, constant: int, expires: float
) -> None:
    port.set_timeouts(MAX, multiplier, constant)
    port.feed(b"ab")
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"ab")
    request = port.handle.submit_read(5)
    port.pass_time(expires - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"")


def test_bytes_that_come_later_are_waited_for_until_there_are_all(port: Port) -> None:
    port.set_timeouts(MAX, 0, 50)
    request = port.handle.submit_read(3)
    port.feed(b"ab")
    assert waits(request)
    port.feed(b"c")
    assert end_of(request) == (STATUS_SUCCESS, b"abc")


def test_bytes_that_come_later_and_are_too_few_come_with_the_total(port: Port) -> None:
    port.set_timeouts(MAX, 0, 50)
    request = port.handle.submit_read(3)
    port.pass_time(49)
    port.feed(b"ab")
    port.pass_time(1)
    assert end_of(request) == (STATUS_TIMEOUT, b"ab")


# -- row 7: RIT MAX, M MAX, 0 < C < MAX: what is there, else exactly one byte, or C -------------------------------------


def test_return_at_once_else_wait_for_one_byte(port: Port) -> None:
    port.set_timeouts(MAX, MAX, 50)
    port.feed(b"abc")
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"abc")
    request = port.handle.submit_read(5)
    port.pass_time(49)
    assert waits(request)
    port.feed(b"d")
    assert end_of(request) == (STATUS_SUCCESS, b"d")


def test_one_byte_that_does_not_come(port: Port) -> None:
    port.set_timeouts(MAX, MAX, 50)
    request = port.handle.submit_read(5)
    port.pass_time(50 - JUST)
    assert waits(request)
    port.pass_time(JUST)
    assert end_of(request) == (STATUS_TIMEOUT, b"")


def test_of_several_that_come_at_once_it_is_one_and_the_rest_stays(port: Port) -> None:
    port.set_timeouts(MAX, MAX, 50)
    request = port.handle.submit_read(5)
    port.feed(b"def")
    assert end_of(request) == (STATUS_SUCCESS, b"d")
    assert end_of(port.handle.submit_read(5)) == (STATUS_SUCCESS, b"ef")


# -- row 8: RIT MAX, C MAX, M below MAX: no timer, all N bytes ----------------------------------------------------------


@pytest.mark.parametrize("multiplier", [0, 1, MAX - 1])
def test_constant_of_max_is_no_timer_at_all(port: Port, multiplier: int) -> None:
    port.set_timeouts(MAX, multiplier, MAX)
    port.feed(b"ab")
    request = port.handle.submit_read(4)
    port.pass_time(AGE * 1000)
    assert waits(request)
    assert port.bridge.statistics()["timers"] == 0
    port.feed(b"cd")
    assert end_of(request) == (STATUS_SUCCESS, b"abcd")


# -- and what is refused -----------------------------------------------------------------------------------------------


def test_all_three_max_is_refused_and_changes_nothing(port: Port) -> None:
    port.set_timeouts(1, 2, 3, 4, 5)
    with pytest.raises(UsageFault) as refused:
        port.set_timeouts(MAX, MAX, MAX)
    assert refused.value.status == STATUS_INVALID_PARAMETER
    now = port.handle.ioctl(ser.IOCTL_SERIAL_GET_TIMEOUTS, size=20)
    assert ser.SerialTimeouts.unpack(now) == (1, 2, 3, 4, 5)


# -- what the time-outs leave alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeouts", [(0, 0, 10), (10, 0, 0), (10, 0, 10), (MAX, 0, 0), (MAX, 0, 10), (MAX, MAX, 10)])
@pytest.mark.parametrize("how", [{"minimum": 3}, {"terminator": b"\n"}])
def test_read_some_and_read_until_do_not_know_them(
    port: Port, timeouts: tuple[int, int, int], how: dict[str, int | bytes]
) -> None:
    port.set_timeouts(*timeouts)
    request = port.handle.submit_read(64, **how)  # type: ignore[arg-type]
    port.feed(b"ab")
    port.pass_time(AGE)
    assert waits(request)
    port.feed(b"\n")
    assert end_of(request) == (STATUS_SUCCESS, b"ab\n")


def test_read_of_nothing_ends_at_once_with_success(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    assert end_of(port.handle.submit_read(0)) == (STATUS_SUCCESS, b"")


def test_application_gets_what_a_timed_out_read_got_as_in_win32(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    port.feed(b"ab")
    assert port.handle.read(5) == b"ab"
    assert port.handle.read(5) == b""


def test_deadline_of_the_caller_comes_first_and_keeps_the_bytes(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    port.feed(b"ab")
    with pytest.raises(TimeoutError) as late:
        port.handle.read(5, timeout=0.099)
    assert getattr(late.value, "partial", None) == b"ab"
    assert port.milliseconds == 99
    assert port.handle.read(2) == b"ab"


def test_result_of_a_cancelled_read_is_no_timeout(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    request = port.handle.submit_read(5)
    port.handle.cancel_io()
    assert fault_of(request).status == STATUS_CANCELLED
