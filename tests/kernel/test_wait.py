"""Semaphores, mutexes, timers to wait for, and waits for several objects, on virtual time and between threads."""

from __future__ import annotations

import pytest

from hilbridge import UsageFault
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.semaphore import Kmutex, Ksemaphore
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.kernel.wait import MAXIMUM_WAIT_OBJECTS, WaitType
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_SEMAPHORE_LIMIT_EXCEEDED
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.support import System, Thread, bug_check, now

ANY, ALL = WaitType.ANY, WaitType.ALL


@pytest.fixture
def system() -> System:
    return System()


# -- semaphores ------------------------------------------------------------------------------------------------------------


def test_each_wait_takes_one_from_a_semaphore(system: System) -> None:
    semaphore = Ksemaphore(2, 3)
    ke = system.ke
    assert [ke.wait_for_single_object(semaphore, 0) for _ in range(3)] == [True, True, False]
    assert ke.release_semaphore(semaphore, 2) == 0
    assert semaphore.count == 2
    assert semaphore.signaled


def test_a_semaphore_is_not_released_beyond_its_limit(system: System) -> None:
    semaphore = Ksemaphore(2, 3)
    with pytest.raises(NtStatusError) as caught:
        system.ke.release_semaphore(semaphore, 2)
    assert caught.value.status == STATUS_SEMAPHORE_LIMIT_EXCEEDED
    assert semaphore.count == 2, "and nothing has changed"
    with pytest.raises(UsageFault, match="at least 1"):
        semaphore.release(0)
    with pytest.raises(UsageFault, match="between 0 and the limit"):
        Ksemaphore(4, 3)


def test_a_release_satisfies_as_many_as_it_adds_first_come_first_served() -> None:
    semaphore = Ksemaphore()
    waits = [semaphore.begin_wait() for _ in range(3)]
    semaphore.release(2)
    assert [wait.done for wait in waits if wait is not None] == [True, True, False]
    assert semaphore.count == 0


# -- mutexes ---------------------------------------------------------------------------------------------------------------


def test_a_mutex_is_recursive_and_belongs_to_its_thread(system: System) -> None:
    ke, mutex = system.ke, Kmutex()
    assert ke.wait_for_single_object(mutex, 0)
    assert ke.wait_for_single_object(mutex, 0), "its owner may acquire it again"
    assert Thread(lambda: ke.wait_for_single_object(mutex, 0)).finish() is False
    ke.release_mutex(mutex)
    assert Thread(lambda: ke.wait_for_single_object(mutex, 0)).finish() is False, "acquired twice, released once"
    ke.release_mutex(mutex)
    assert now(mutex.owner) is None


def test_only_the_owner_releases_a_mutex(system: System) -> None:
    ke, mutex = system.ke, Kmutex()
    with bug_check(0x11, mutex):
        ke.release_mutex(mutex)
    ke.wait_for_single_object(mutex, 0)

    def other() -> None:
        with bug_check(0x11, mutex):
            ke.release_mutex(mutex)

    Thread(other).finish()
    ke.release_mutex(mutex)


# -- timers ----------------------------------------------------------------------------------------------------------------


def test_a_notification_timer_stays_signaled_and_one_of_synchronization_does_not(system: System) -> None:
    ke = system.ke
    for kind, again in ((EventType.NOTIFICATION, True), (EventType.SYNCHRONIZATION, False)):
        timer = Ktimer(kind)
        assert ke.set_timer(timer, relative_ms(20)) is False
        assert ke.wait_for_single_object(timer, 0.01) is False
        assert ke.wait_for_single_object(timer, 0.05) is True
        assert system.clock.now() % 20_000_000 == 0, "exactly when it was due"
        assert ke.wait_for_single_object(timer, 0) is again


def test_setting_a_timer_makes_it_not_signaled_and_says_whether_it_was_queued(system: System) -> None:
    timer = Ktimer()
    system.ke.set_timer(timer, relative_ms(1))
    system.machine.advance(0.002)
    assert now(timer.signaled)
    assert system.ke.set_timer(timer, relative_ms(1)) is False
    assert not now(timer.signaled)
    assert system.ke.set_timer(timer, relative_ms(1)) is True
    assert system.ke.cancel_timer(timer) is True
    assert system.ke.cancel_timer(timer) is False


def test_a_periodic_timer_satisfies_one_wait_each_time(system: System) -> None:
    timer = Ktimer(EventType.SYNCHRONIZATION)
    system.ke.set_timer(timer, relative_ms(10), 10)
    for number in range(1, 4):
        assert system.ke.wait_for_single_object(timer, 1)
        assert system.clock.now() == number * 10_000_000
    assert system.ke.cancel_timer(timer) is True, "a periodic one is queued until it is cancelled"


def test_a_delay_lets_that_much_time_pass(system: System) -> None:
    system.ke.delay_execution_thread(0.25)
    assert system.clock.now() == 250_000_000


# -- several at once -------------------------------------------------------------------------------------------------------


def test_any_takes_the_lowest_index_that_is_signaled_and_no_other(system: System) -> None:
    events = [Kevent(EventType.SYNCHRONIZATION) for _ in range(3)]
    events[2].set()
    events[1].set()
    ke = system.ke
    assert ke.wait_for_multiple_objects(events, ANY, 0) == 1
    assert [event.signaled for event in events] == [False, False, True]
    assert ke.wait_for_multiple_objects(events, ANY, 0) == 2
    assert ke.wait_for_multiple_objects(events, ANY, 0) is None


def test_all_takes_all_or_none(system: System) -> None:
    event, semaphore, mutex = Kevent(EventType.SYNCHRONIZATION), Ksemaphore(1), Kmutex()
    ke, objects = system.ke, (event, semaphore, mutex)
    assert ke.wait_for_multiple_objects(objects, ALL, 0.5) is None
    assert system.clock.now() == 500_000_000
    assert (semaphore.count, mutex.owner) == (1, None), "what was there was left there"
    ke.set_event(event)
    assert ke.wait_for_multiple_objects(objects, ALL, 0) == 0
    assert (event.signaled, semaphore.count, mutex.owner) == (False, 0, ke.current())
    ke.release_mutex(mutex)


def test_a_timer_ends_a_wait_for_several(system: System) -> None:
    timer, event = Ktimer(), Kevent()
    system.ke.set_timer(timer, relative_ms(30))
    assert system.ke.wait_for_multiple_objects([event, timer], ANY, None) == 1
    assert system.clock.now() == 30_000_000


def test_one_to_sixty_four_objects(system: System) -> None:
    for count in (0, MAXIMUM_WAIT_OBJECTS + 1):
        with pytest.raises(UsageFault, match="1 to 64"):
            system.ke.wait_for_multiple_objects([Kevent()] * count, ANY, 0)
    assert system.ke.wait_for_multiple_objects([Kevent(signaled=True)] * 2, ALL, 0) == 0, "the same twice is one"


def test_who_stands_in_line_goes_before_who_waits_for_several(system: System) -> None:
    event = Kevent(EventType.SYNCHRONIZATION)
    line = event.begin_wait()
    assert line is not None
    event.set()
    assert line.done
    assert system.ke.wait_for_multiple_objects([event], ANY, 0) is None


def test_at_dispatch_level_one_may_look_and_not_wait(system: System) -> None:
    event = Kevent(signaled=True)
    with system.ke.raised_irql(DISPATCH_LEVEL):
        assert system.ke.wait_for_multiple_objects([event], ANY, 0) == 0
        with bug_check(0xB8):
            system.ke.wait_for_multiple_objects([event], ANY, 1)


def test_a_pulse_wakes_who_waits_and_leaves_the_event_reset(system: System) -> None:
    event = Kevent()
    waits = [event.begin_wait() for _ in range(2)]
    assert system.ke.pulse_event(event) is False
    assert all(wait is not None and wait.done for wait in waits)
    assert not event.signaled
    assert system.ke.set_event(event) is False
    assert system.ke.reset_event(event) is True
    system.ke.clear_event(event)


# -- races -----------------------------------------------------------------------------------------------------------------


def test_all_against_two_setters() -> None:
    def build() -> Race:
        system, taken = System(), []
        events = [Kevent(EventType.SYNCHRONIZATION) for _ in range(2)]

        def wait() -> None:
            taken.append(system.ke.wait_for_multiple_objects(events, ALL, 3600))

        def check() -> None:
            assert taken == [0]
            assert not any(event.signaled for event in events)

        threads = {"wait": wait, "one": events[0].set, "two": events[1].set}
        return Race(threads, check)

    assert explore(build, granularity=Granularity.LINES, preemptions=1).schedules > 2


def test_two_waits_for_the_same_two_semaphores_do_not_hold_each_other_up() -> None:
    def build() -> Race:
        system = System()
        one, two = Ksemaphore(1), Ksemaphore(1)
        taken: list[int | None] = []

        def wait(*objects: Ksemaphore) -> None:
            taken.append(system.ke.wait_for_multiple_objects(objects, ALL, 3600))
            for semaphore in objects:
                semaphore.release()

        def check() -> None:
            assert taken == [0, 0]
            assert (one.count, two.count) == (1, 1)

        return Race({"there": lambda: wait(one, two), "back": lambda: wait(two, one)}, check)

    assert explore(build, granularity=Granularity.LINES, preemptions=1).schedules > 2


def test_a_release_against_a_time_out_loses_no_count() -> None:
    def build() -> Race:
        system, semaphore, came = System(), Ksemaphore(), []

        def wait() -> None:
            came.append(system.ke.wait_for_single_object(semaphore, 0.1))

        def check() -> None:
            assert semaphore.count + sum(came) == 1

        return Race({"wait": wait, "release": semaphore.release}, check)

    assert explore(build, granularity=Granularity.LINES, preemptions=1).schedules > 2
