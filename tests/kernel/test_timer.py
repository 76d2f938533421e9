"""KTIMER on the virtual clock: one-shot, periodic, cancelled, set again; in order, and on time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilbridge.kernel.clock import SystemClock, VirtualClock
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, TimerQueue, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL
from tests.support import System, now

MS = 1_000_000


class Ticks:
    """Timers whose DPCs write down when they ran."""

    def __init__(self) -> None:
        self.system = System()
        self.ke, self.machine = self.system.ke, self.system.machine
        self.log: list[tuple[str, int]] = []

    def dpc(self, name: str = "t") -> Kdpc:
        return Kdpc(lambda *_: self.log.append((name, self.system.clock.now() // MS)))

    @property
    def times(self) -> list[int]:
        return [when for _, when in self.log]


def test_due_times_are_in_units_of_100_ns_and_negative_means_from_now() -> None:
    assert relative_ms(1) == -10_000
    assert relative_ms(0.0001) == -1
    ticks = Ticks()
    ticks.machine.advance(1.0)
    relative, absolute = Ktimer(), Ktimer()
    ticks.ke.set_timer(relative, -5 * 10_000, 0, ticks.dpc("relative"))
    ticks.ke.set_timer(absolute, 1_007 * 10_000, 0, ticks.dpc("absolute"))
    ticks.machine.advance(1.0)
    assert ticks.log == [("relative", 1005), ("absolute", 1007)]


def test_a_timer_expires_once_not_early_and_is_signaled() -> None:
    ticks, timer = Ticks(), Ktimer()
    assert now(timer.signaled) is False
    assert ticks.ke.set_timer(timer, relative_ms(10), 0, ticks.dpc()) is False
    ticks.machine.advance(0.009_999)
    assert ticks.log == [] and not now(timer.signaled)
    ticks.machine.advance(0.000_001)
    assert ticks.times == [10] and timer.signaled
    ticks.machine.advance(1.0)
    assert ticks.times == [10]
    assert timer.signaled, "a notification timer stays signaled"


def test_a_timer_without_a_dpc_only_becomes_signaled() -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.ke.set_timer(timer, relative_ms(1))
    ticks.machine.advance(0.001)
    assert timer.signaled


def test_a_due_time_that_has_passed_expires_at_once() -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.machine.advance(5.0)
    ticks.ke.set_timer(timer, 0, 0, ticks.dpc())
    ticks.machine.run_until_idle()
    assert ticks.times == [5000]


@pytest.mark.parametrize("due", [0, relative_ms(0), 3_000 * 10_000])
def test_a_periodic_timer_whose_due_time_has_passed_begins_now_and_has_missed_nothing(due: int) -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.machine.advance(5.0)
    ticks.ke.set_timer(timer, due, 10, ticks.dpc())
    ticks.machine.advance(0.025)
    assert ticks.times == [5000, 5010, 5020]


def test_a_periodic_timer_goes_on_from_when_it_was_due() -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.ke.set_timer(timer, relative_ms(3), 10, ticks.dpc())
    ticks.machine.advance(0.034)
    assert ticks.times == [3, 13, 23, 33]
    assert ticks.ke.cancel_timer(timer) is True
    ticks.machine.advance(1.0)
    assert ticks.times == [3, 13, 23, 33]


def test_a_periodic_timer_that_was_late_catches_up_without_drifting() -> None:
    clock, queue, timer = VirtualClock(), TimerQueue(), Ktimer()
    queue.set(timer, 10, 10, None)
    clock.advance_to(35)
    expired = 0
    while queue.pop_expired(clock.now()) is not None:
        expired += 1
    assert expired == 3
    assert queue.next_due() == 40


def test_cancelling_says_whether_it_was_queued() -> None:
    ticks, timer = Ticks(), Ktimer()
    assert ticks.ke.cancel_timer(timer) is False
    ticks.ke.set_timer(timer, relative_ms(10), 0, ticks.dpc())
    assert ticks.ke.cancel_timer(timer) is True
    assert ticks.ke.cancel_timer(timer) is False
    ticks.machine.advance(1.0)
    assert ticks.log == [] and not timer.signaled
    ticks.ke.set_timer(timer, relative_ms(1), 0, ticks.dpc())
    ticks.machine.advance(1.0)
    assert ticks.ke.cancel_timer(timer) is False, "it has expired"
    assert timer.signaled, "cancelling does not change the signal"


def test_setting_a_timer_again_replaces_the_first_setting() -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.ke.set_timer(timer, relative_ms(10), 0, ticks.dpc("first"))
    ticks.machine.advance(0.005)
    assert ticks.ke.set_timer(timer, relative_ms(10), 0, ticks.dpc("second")) is True
    ticks.machine.advance(1.0)
    assert ticks.log == [("second", 15)]
    ticks.ke.set_timer(timer, relative_ms(10), 5, ticks.dpc("periodic"))
    assert not timer.signaled, "setting clears the signal"
    assert ticks.ke.set_timer(timer, relative_ms(1), 0, ticks.dpc("once")) is True
    ticks.machine.advance(1.0)
    assert ticks.log == [("second", 15), ("once", 1006)]


def test_a_timer_can_be_moved_to_an_earlier_moment() -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.ke.set_timer(timer, relative_ms(100), 0, ticks.dpc("late"))
    ticks.ke.set_timer(timer, relative_ms(1), 0, ticks.dpc("early"))
    ticks.machine.advance(1.0)
    assert ticks.log == [("early", 1)]


def test_cancelling_does_not_take_back_a_dpc_that_is_queued() -> None:
    ticks, timer = Ticks(), Ktimer()
    ticks.ke.set_timer(timer, relative_ms(1), 0, ticks.dpc())
    ticks.system.clock.advance_to(MS)
    with ticks.ke.raised_irql(DISPATCH_LEVEL):
        assert ticks.machine.step() is True
        assert timer.signaled and ticks.log == []
        assert ticks.ke.cancel_timer(timer) is False
    assert ticks.times == [1]


def test_timers_expire_in_the_order_of_their_due_times_and_equal_ones_in_that_of_setting() -> None:
    ticks = Ticks()
    for name, due in (("c", 30), ("a", 10), ("b1", 20), ("b2", 20), ("b3", 20)):
        ticks.ke.set_timer(Ktimer(), relative_ms(due), 0, ticks.dpc(name))
    ticks.machine.advance(1.0)
    assert [name for name, _ in ticks.log] == ["a", "b1", "b2", "b3", "c"]
    assert ticks.times == [10, 20, 20, 20, 30], "each runs at its own moment, also when the clock moves further at once"


def test_a_timer_dpc_may_set_its_own_timer_again() -> None:
    ticks, timer = Ticks(), Ktimer()

    def again(dpc: Kdpc, *_: Any) -> None:
        ticks.log.append(("again", ticks.system.clock.now() // MS))
        if len(ticks.log) < 3:
            assert ticks.ke.set_timer(timer, relative_ms(7), 0, dpc) is False

    ticks.ke.set_timer(timer, relative_ms(7), 0, Kdpc(again))
    ticks.machine.advance(1.0)
    assert ticks.times == [7, 14, 21]


def test_the_machine_is_told_only_of_a_timer_that_is_earlier_than_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks()
    told: list[int | None] = []
    monkeypatch.setattr(ticks.machine, "timer_changed", lambda: told.append(ticks.ke.timers.next_due()))
    first, later, earlier = Ktimer(), Ktimer(), Ktimer()
    ticks.ke.set_timer(first, relative_ms(50))
    ticks.ke.set_timer(later, relative_ms(60))
    ticks.ke.set_timer(later, relative_ms(70))
    ticks.ke.set_timer(earlier, relative_ms(40))
    ticks.ke.cancel_timer(earlier)
    ticks.ke.cancel_timer(first)
    assert told == [50 * MS, 40 * MS]
    ticks.ke.set_timer(first, relative_ms(65))
    assert told == [50 * MS, 40 * MS, 65 * MS], "cancelled timers do not count"


# -- the queue -----------------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(0, 9), st.integers(0, 50)),
            st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("advance"), st.integers(0, 20), st.just(0)),
        ),
        max_size=60,
    )
)
def test_the_queue_does_what_a_plain_list_would_do(steps: list[tuple[str, int, int]]) -> None:
    queue, timers, now = TimerQueue(), [Ktimer() for _ in range(10)], 0
    plain: dict[int, int] = {}
    for what, number, delay in steps:
        if what == "set":
            was, earliest = queue.set(timers[number], now + delay, 0, None)
            assert was == (number in plain)
            plain[number] = now + delay
            assert earliest == (
                min(d for n, d in plain.items() if n != number) > now + delay if len(plain) > 1 else True
            )
        elif what == "cancel":
            assert queue.cancel(timers[number]) == (plain.pop(number, None) is not None)
        else:
            now += number
            expired = []
            while (timer := queue.pop_expired(now)) is not None:
                expired.append(timers.index(timer))
            due = {n: d for n, d in plain.items() if d <= now}
            assert sorted(expired) == sorted(due)
            assert [plain.pop(n) for n in expired] == sorted(due.values())
        assert len(queue) == len(plain)
        assert queue.next_due() == min(plain.values(), default=None)


@pytest.mark.parametrize("how", ["set", "set and cancel"])
def test_a_timer_that_is_set_for_ever_does_not_fill_the_memory(how: str) -> None:
    queue, timer, other = TimerQueue(), Ktimer(), Ktimer()
    queue.set(other, 5, 0, None)
    for number in range(10_000):
        queue.set(timer, 1_000_000 + number, 0, None)
        if how == "set and cancel":
            queue.cancel(timer)
    assert len(queue._heap) < 200
    assert queue.next_due() == 5 and len(queue) == (2 if how == "set" else 1)
    assert queue.pop_expired(10) is other
    assert queue.next_due() == (1_009_999 if how == "set" else None)


# -- the clocks ----------------------------------------------------------------------------------------------------------


def test_the_virtual_clock_stands_still_and_never_goes_back() -> None:
    clock = VirtualClock(5)
    assert clock.now() == clock.now() == 5
    clock.advance_to(9)
    clock.advance_to(3)
    assert clock.now() == 9


def test_the_system_clock_does_not_go_back() -> None:
    clock = SystemClock()
    readings = [clock.now() for _ in range(100)]
    assert readings == sorted(readings)
