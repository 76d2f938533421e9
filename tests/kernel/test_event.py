"""KEVENT: who is woken, what stays set, and that nobody waits at raised IRQL."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge import Deadlock
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.kernel.wait import Wait
from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL
from tests.support import PATIENCE, System, Thread, bug_check, do, now

KINDS = [EventType.NOTIFICATION, EventType.SYNCHRONIZATION]


@pytest.mark.parametrize("kind", KINDS)
def test_set_and_clear_return_the_previous_state(kind: EventType) -> None:
    event = Kevent(kind)
    assert now(event.signaled) is False
    assert event.set() is False
    assert event.signaled is True
    assert event.set() is True
    assert event.clear() is True
    assert event.clear() is False
    assert Kevent(kind, signaled=True).signaled is True


def test_a_notification_event_stays_set_for_everybody() -> None:
    ke, event = System().ke, Kevent(EventType.NOTIFICATION, signaled=True)
    for _ in range(3):
        assert ke.wait_for_single_object(event, 0) is True
    assert event.signaled


def test_a_synchronization_event_is_taken_by_one() -> None:
    ke, event = System().ke, Kevent(EventType.SYNCHRONIZATION, signaled=True)
    assert ke.wait_for_single_object(event, 0) is True
    assert not event.signaled
    assert ke.wait_for_single_object(event, 0) is False


def test_setting_a_notification_event_satisfies_all_who_wait() -> None:
    event = Kevent(EventType.NOTIFICATION)
    waits = [event.begin_wait() for _ in range(3)]
    event.set()
    assert [w.done for w in waits if w is not None] == [True] * 3
    assert event.signaled


def test_setting_a_synchronization_event_satisfies_the_first_who_waits_and_stays_clear() -> None:
    event = Kevent(EventType.SYNCHRONIZATION)
    first, second = event.begin_wait(), event.begin_wait()
    assert first is not None and second is not None
    event.set()
    assert (first.done, second.done, event.signaled) == (True, False, False)
    event.set()
    assert (second.done, event.signaled) == (True, False)
    event.set()
    assert event.signaled, "with nobody in line the signal waits"


class Counted:
    """A waker that counts."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["waker", "event"])
def test_a_waiter_is_woken_once_whether_it_lay_down_before_the_event_or_after(kind: EventType, first: str) -> None:
    event, waker = Kevent(kind), Counted()
    wait = event.begin_wait()
    assert wait is not None
    if first == "waker":
        wait.add_waker(waker)
    event.set()
    if first == "event":
        wait.add_waker(waker)
    event.set()
    event.set()
    assert waker.wakes == 1


def test_who_leaves_the_line_is_not_woken_and_takes_no_signal() -> None:
    event = Kevent(EventType.SYNCHRONIZATION)
    first, second = event.begin_wait(), event.begin_wait()
    assert first is not None and second is not None
    assert event.end_wait(first) is False
    event.set()
    assert (first.done, second.done) == (False, True)
    assert event.end_wait(second) is True


@pytest.mark.parametrize("kind", KINDS)
def test_a_waiter_whose_time_is_up_just_as_the_event_comes_has_got_it(
    kind: EventType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The setter has taken the waiter out of the line and not woken it yet; here the waiter's time-out runs.
    event = Kevent(kind)
    wait = event.begin_wait()
    assert wait is not None
    came: list[bool] = []
    wake = Wait.wake

    def late(self: Wait) -> None:
        came.append(event.end_wait(self))
        wake(self)

    monkeypatch.setattr(Wait, "wake", late)
    event.set()
    assert came == [True]


def test_waiting_runs_the_machine_until_the_event_comes() -> None:
    system = System()
    event, timer = Kevent(), Ktimer()
    system.ke.set_timer(timer, relative_ms(700), 0, Kdpc(lambda *_: do(event.set)))
    assert system.ke.wait_for_single_object(event, 5.0) is True
    assert system.clock.now() == 700_000_000


def test_a_wait_ends_with_its_time_and_leaves_the_line() -> None:
    system = System()
    event = Kevent(EventType.SYNCHRONIZATION)
    assert system.ke.wait_for_single_object(event, 1.5) is False
    assert system.clock.now() == 1_500_000_000
    event.set()
    assert event.signaled, "nobody is in line any more"


def test_a_wait_that_raises_leaves_the_line() -> None:
    system = System()
    event = Kevent(EventType.SYNCHRONIZATION)
    with pytest.raises(Deadlock):
        system.ke.wait_for_single_object(event, None)
    event.set()
    assert event.signaled


def test_a_wait_at_dispatch_level_is_bug_check_b8() -> None:
    ke, event = System().ke, Kevent()
    with ke.raised_irql(DISPATCH_LEVEL):
        for timeout in (1.0, None):
            with bug_check(0xB8, ke.current()):
                ke.wait_for_single_object(event, timeout)
        assert ke.wait_for_single_object(event, 0) is False, "looking is allowed"
        event.set()
        assert ke.wait_for_single_object(event, 0) is True
        with bug_check(0xB8):
            ke.wait_for_single_object(event, 1.0)
    with ke.raised_irql(APC_LEVEL):
        assert ke.wait_for_single_object(event, 1.0) is True


def test_a_wait_in_a_dpc_is_latched_as_bug_check_b8() -> None:
    system = System()
    event = Kevent()
    system.ke.insert_queue_dpc(Kdpc(lambda *_: do(lambda: system.ke.wait_for_single_object(event, None))))
    (fault,) = system.ke.faults
    assert getattr(fault, "code", None) == 0xB8


# -- on real threads -----------------------------------------------------------------------------------------------------


def waiters(ke: Kernel, event: Kevent, count: int) -> list[Thread]:
    """Threads that wait for the event; when this returns all of them are in line."""
    arrived = threading.Semaphore(0)

    def one() -> Any:
        wait = event.begin_wait()
        arrived.release()
        if wait is None:
            return True
        ke.wait(ke.current(), wait, None, None)
        return event.end_wait(wait)

    threads = [Thread(one) for _ in range(count)]
    for _ in range(count):
        assert arrived.acquire(timeout=PATIENCE)
    return threads


def test_threads_asleep_are_woken_by_another_thread() -> None:
    ke = Kernel()
    try:
        event = Kevent()
        threads = waiters(ke, event, 3)
        event.set()
        assert [thread.finish() for thread in threads] == [True] * 3
    finally:
        ke.close()


def test_one_thread_is_woken_for_each_set_of_a_synchronization_event() -> None:
    ke = Kernel()
    try:
        event = Kevent(EventType.SYNCHRONIZATION)
        threads = waiters(ke, event, 3)
        for _ in range(3):
            event.set()
        assert [thread.finish() for thread in threads] == [True] * 3
        assert not event.signaled
    finally:
        ke.close()


def test_a_real_wait_has_an_end() -> None:
    ke = Kernel()
    try:
        assert ke.wait_for_single_object(Kevent(), 0.01) is False
    finally:
        ke.close()
