"""Waiting for several objects: what is taken from which, by whom, and in what order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Deadlock
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.mutex import Kmutex
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.kernel.wait import MAXIMUM_WAIT_OBJECTS, DispatcherObject, Wait, WaitType, begin_wait, end_wait
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INVALID_PARAMETER
from tests.support import System, Thread, bug_check, do, now

ANY, ALL = WaitType.ANY, WaitType.ALL


def flag(signaled: bool = False) -> Kevent:
    """A synchronization event: what is taken from it shows."""
    return Kevent(EventType.SYNCHRONIZATION, signaled)


def states(*objects: DispatcherObject) -> list[bool]:
    return [thing.signaled for thing in objects]


class Lines(System):
    """Waits that stand in line, each with a thread of its own: what a test sees of them is who has got what."""

    def line_up(self, *objects: DispatcherObject, every: bool = False) -> Wait:
        return begin_wait(objects, Thread(self.ke.current).finish(), every=every)


# -- any -----------------------------------------------------------------------------------------------------------------


def test_any_takes_from_the_first_that_is_signaled_and_from_no_other() -> None:
    ke = System().ke
    a, b, c = flag(), flag(signaled=True), flag(signaled=True)
    assert ke.wait_for_multiple_objects([a, b, c], ANY, 0) == 1
    assert states(a, b, c) == [False, False, True]
    assert ke.wait_for_multiple_objects([a, b, c], ANY, 0) == 2
    assert ke.wait_for_multiple_objects([a, b, c], ANY, 0) is None


def test_any_is_satisfied_by_one_of_several_that_come_later() -> None:
    system = Lines()
    a, b = flag(), flag()
    wait = system.line_up(a, b)
    b.set()
    a.set()
    assert end_wait(wait) is True and wait.index == 1
    assert states(a, b) == [True, False], "the second signal is nobody's"


def test_any_leaves_all_lines_when_its_time_is_up() -> None:
    system = System()
    a, b = flag(), flag()
    assert system.ke.wait_for_multiple_objects([a, b], ANY, 1.5) is None
    assert system.clock.now() == 1_500_000_000
    a.set()
    b.set()
    assert states(a, b) == [True, True]


def test_an_object_that_is_named_twice_counts_with_its_first_place() -> None:
    ke = System().ke
    a, b = flag(), flag(signaled=True)
    assert ke.wait_for_multiple_objects([a, b, b], ANY, 0) == 1
    system = Lines()
    wait = system.line_up(a, b, b)
    b.set()
    assert end_wait(wait) is True and wait.index == 1


def test_a_wait_of_no_time_is_allowed_at_dispatch_level_and_no_other() -> None:
    ke, event = System().ke, flag(signaled=True)
    with ke.raised_irql(DISPATCH_LEVEL):
        assert ke.wait_for_multiple_objects([event], ANY, 0) == 0
        assert ke.wait_for_multiple_objects([event], ANY, 0) is None
        for timeout in (None, 0.1):
            with bug_check(0xB8):
                ke.wait_for_multiple_objects([event], ANY, timeout)
        with bug_check(0xB8):
            ke.delay_execution_thread(0.1)


# -- all -----------------------------------------------------------------------------------------------------------------


def test_all_takes_from_all_or_from_none() -> None:
    ke = System().ke
    a, b = flag(signaled=True), flag()
    assert ke.wait_for_multiple_objects([a, b], ALL, 0) is None
    assert states(a, b) == [True, False], "what is there stays there until all is"
    b.set()
    assert ke.wait_for_multiple_objects([a, b], ALL, 0) == 0
    assert states(a, b) == [False, False]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_all_is_satisfied_by_the_last_that_comes(order: tuple[int, ...]) -> None:
    system = Lines()
    objects: list[Any] = [flag(), Ksemaphore(0, 2), Kevent()]
    wait = system.line_up(*objects, every=True)
    set_one: list[Callable[[], Any]] = [objects[0].set, objects[1].release, objects[2].set]
    for number in order[:2]:
        set_one[number]()
        assert not wait.done
        assert objects[number].signaled, "nothing is taken in advance"
    set_one[order[2]]()
    assert now(wait.done)
    assert states(*objects) == [False, False, True], "only a notification event stays"
    assert end_wait(wait) is True


def test_somebody_else_may_take_what_all_still_waits_for() -> None:
    system = Lines()
    a, b = flag(), flag()
    wait = system.line_up(a, b, every=True)
    a.set()
    assert system.ke.wait_for_single_object(a, 0) is True
    b.set()
    assert not wait.done
    a.set()
    assert wait.done is now(True)
    assert states(a, b) == [False, False]


def test_who_waits_for_all_keeps_nobody_back_while_something_lacks() -> None:
    system = Lines()
    a, b = flag(), flag()
    first = system.line_up(a, b, every=True)
    second = system.line_up(a)
    a.set()
    assert (first.done, second.done, a.signaled) == (False, True, False)
    a.set()
    b.set()
    assert now(first.done), "and it has kept its place"


def test_who_waits_for_all_is_served_first_if_he_came_first_and_all_is_there() -> None:
    system = Lines()
    a, b = flag(), flag(signaled=True)
    first = system.line_up(a, b, every=True)
    second = system.line_up(a)
    a.set()
    assert (first.done, second.done, a.signaled, b.signaled) == (True, False, False, False)


def test_a_semaphore_serves_waits_for_any_and_for_all_in_the_order_in_which_they_came() -> None:
    system = Lines()
    semaphore, gate = Ksemaphore(0, 10), Kevent()
    waits = [
        system.line_up(semaphore),
        system.line_up(semaphore, gate, every=True),
        system.line_up(semaphore),
        system.line_up(gate, semaphore, every=True),
    ]
    semaphore.release(1)
    assert [wait.done for wait in waits] == [True, False, False, False]
    semaphore.release(2)
    assert [wait.done for wait in waits] == [True, False, True, False]
    assert semaphore.count == 1
    gate.set()
    assert [wait.done for wait in waits] == [True, True, True, False]
    semaphore.release(1)
    assert [wait.done for wait in waits] == [True] * 4


def test_all_leaves_all_lines_when_its_time_is_up_and_takes_nothing() -> None:
    system = System()
    a, b = flag(signaled=True), flag()
    assert system.ke.wait_for_multiple_objects([a, b], ALL, 1.0) is None
    b.set()
    assert states(a, b) == [True, True]
    assert a._groups == b._groups == 0 and not a._line and not b._line


def test_two_that_wait_for_all_of_overlapping_objects_are_both_served() -> None:
    system = Lines()
    a, b, c = flag(), flag(), flag()
    first, second = system.line_up(a, b, every=True), system.line_up(b, c, every=True)
    for event in (a, c):
        event.set()
    b.set()
    assert (first.done, second.done) == (True, False), "who came first to b"
    assert states(a, b, c) == [False, False, True]
    b.set()
    assert now(second.done)


def test_all_with_a_mutex_that_the_thread_owns_already() -> None:
    ke = System().ke
    mutex, event = Kmutex(), flag(signaled=True)
    ke.wait_for_single_object(mutex, 0)
    assert ke.wait_for_multiple_objects([mutex, event], ALL, 0) == 0
    assert mutex.state == -1, "owned twice"


@pytest.mark.parametrize("kind", [ANY, ALL])
def test_no_objects_and_too_many_objects(kind: WaitType) -> None:
    ke = System().ke
    with pytest.raises(NtStatusError) as caught:
        ke.wait_for_multiple_objects([], kind, 0)
    assert caught.value.status == STATUS_INVALID_PARAMETER
    assert ke.wait_for_multiple_objects([flag(signaled=True) for _ in range(MAXIMUM_WAIT_OBJECTS)], kind, 0) == 0
    with bug_check(0xC, 65):
        ke.wait_for_multiple_objects([flag() for _ in range(65)], kind, 0)


def test_all_of_two_that_are_the_same_is_one() -> None:
    ke, semaphore = System().ke, Ksemaphore(1)
    assert ke.wait_for_multiple_objects([semaphore, semaphore], ALL, 0) == 0
    assert semaphore.count == 0
    assert ke.wait_for_multiple_objects([semaphore, semaphore], ALL, 0.1) is None
    assert semaphore._groups == 0 and not semaphore._line


# -- on the machine ------------------------------------------------------------------------------------------------------


def test_waiting_for_several_runs_the_machine() -> None:
    system = System()
    early, late = Ktimer(EventType.SYNCHRONIZATION), Ktimer()
    system.ke.set_timer(late, relative_ms(20))
    system.ke.set_timer(early, relative_ms(10))
    assert system.ke.wait_for_multiple_objects([late, early], ANY, 5.0) == 1
    assert system.clock.now() == 10_000_000
    system.ke.set_timer(early, relative_ms(3))
    assert system.ke.wait_for_multiple_objects([late, early], ALL, 5.0) == 0
    assert system.clock.now() == 20_000_000
    assert states(late, early) == [True, False]


def test_waiting_for_what_cannot_come_is_a_deadlock_and_leaves_the_lines() -> None:
    system = System()
    a, b = flag(), flag()
    with pytest.raises(Deadlock):
        system.ke.wait_for_multiple_objects([a, b], ALL, None)
    a.set()
    b.set()
    assert states(a, b) == [True, True]


def test_a_delay_lets_time_pass_and_one_of_nothing_what_is_ready_be_done() -> None:
    system = System()
    done: list[str] = []
    system.ke.delay_execution_thread(0.25)
    assert system.clock.now() == 250_000_000
    system.ke.queue_work_item(lambda: done.append("work"))
    system.ke.delay_execution_thread(0)
    assert done == ["work"] and system.clock.now() == 250_000_000


def test_real_threads_wait_for_several_objects() -> None:
    ke = Kernel()
    try:
        a, b, finished = flag(), flag(), Ksemaphore(0, 10)

        def wait_for_all() -> Any:
            index = ke.wait_for_multiple_objects([a, b], ALL, 10.0)
            ke.release_semaphore(finished)
            return index

        threads = [Thread(wait_for_all) for _ in range(2)]
        for _ in range(2):
            ke.set_event(a)
            ke.set_event(b)
            assert ke.wait_for_single_object(finished, 10.0) is True
        assert [thread.finish() for thread in threads] == [0, 0]
        assert states(a, b) == [False, False]
        assert ke.wait_for_multiple_objects([a, b], ANY, 0.01) is None
        ke.delay_execution_thread(0.001)
    finally:
        ke.close()


# -- pulsing, and the driver's names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(EventType))
def test_a_pulse_is_for_those_who_wait_at_that_moment(kind: EventType) -> None:
    system = Lines()
    event, gate = Kevent(kind), Kevent(signaled=True)
    assert system.ke.pulse_event(event) is False
    waits = [system.line_up(event), system.line_up(event, gate, every=True), system.line_up(event)]
    assert system.ke.pulse_event(event) is False
    assert not event.signaled
    everybody = kind is EventType.NOTIFICATION
    assert [wait.done for wait in waits] == [True, everybody, everybody]
    event.set()
    assert system.ke.pulse_event(event) is (kind is EventType.NOTIFICATION)
    assert not event.signaled


def test_the_drivers_routines_return_the_previous_state() -> None:
    ke, event = System().ke, Kevent()
    assert ke.set_event(event) is False
    assert ke.set_event(event) is True
    assert ke.reset_event(event) is True
    assert ke.reset_event(event) is False
    ke.set_event(event)
    do(lambda: ke.clear_event(event))
    assert not event.signaled


def test_what_is_waited_for_can_be_read() -> None:
    shown = repr(Wait((flag(), Ksemaphore(1, 2), Kmutex(), Ktimer()), None, every=True))
    assert shown == (
        "all of <synchronization event, not set>, <semaphore, 1 of 2>, <mutex, free>, <notification timer, not queued>"
    )


def test_an_aborted_wait_takes_nothing() -> None:
    system = Lines()
    for every in (False, True):
        a, b = flag(), flag()
        wait = system.line_up(a, b, every=every)
        wait.abort()
        a.set()
        b.set()
        assert end_wait(wait) is False
        assert states(a, b) == [True, True]
        assert a._groups == b._groups == 0


def test_an_object_must_say_when_it_is_signaled() -> None:
    class Nothing(DispatcherObject):
        pass

    with pytest.raises(AssertionError, match="does not say"):
        assert Nothing().signaled
