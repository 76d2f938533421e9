"""Dispatcher objects, remove locks and DPCs, with their threads stopped at every line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.mutex import Kmutex
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.wait import DispatcherObject, WaitType, signaling
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_SUCCESS
from hilbridge.testing.interleave import Exploration, Granularity, Race, RaceFound, explore, stood_still
from tests.support import System, TinyDriver

pytestmark = pytest.mark.slow  # every order of the races, one after the other

OBJECTS = (
    "hilbridge.kernel.wait",
    "hilbridge.kernel.event",
    "hilbridge.kernel.semaphore",
    "hilbridge.kernel.mutex",
    "hilbridge.kernel.dispatcher",
)
ANY, ALL = WaitType.ANY, WaitType.ALL
BOUNDS = pytest.mark.parametrize("preemptions", [1, pytest.param(2, marks=pytest.mark.slow)])
"""Three threads with two preemptions take half a minute."""


def by_lines(build: Callable[[], Race], modules: tuple[str, ...], preemptions: int = 2) -> Exploration:
    return explore(build, granularity=Granularity.LINES, preemptions=preemptions, modules=modules)


def flag() -> Kevent:
    return Kevent(EventType.SYNCHRONIZATION)


def untouched(*objects: DispatcherObject) -> None:
    """Nobody is in line any more."""
    for thing in objects:
        assert not thing._line and not thing._groups, thing


# -- waits for all -------------------------------------------------------------------------------------------------------


def all_against_two_setters() -> Race:
    ke, a, b = System().ke, flag(), flag()
    got: list[Any] = []

    def check() -> None:
        assert got == [0] and not a.signaled and not b.signaled
        untouched(a, b)

    return Race(
        {
            "waits": lambda: got.append(ke.wait_for_multiple_objects([a, b], ALL, None)),
            "a": lambda: ke.set_event(a),
            "b": lambda: ke.set_event(b),
        },
        check,
    )


@BOUNDS
def test_all_against_two_setters(preemptions: int) -> None:
    assert by_lines(all_against_two_setters, OBJECTS, preemptions).schedules > 100 * preemptions


def test_a_setter_that_looks_at_its_own_lock_only_loses_a_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake that the order of locks is there for; the explorer must find it, or the test above proves nothing."""

    def careless(thing: DispatcherObject) -> list[DispatcherObject]:
        thing._lock.acquire()
        return [thing]

    monkeypatch.setattr(DispatcherObject, "_hold", careless)
    with pytest.raises(RaceFound):
        by_lines(all_against_two_setters, OBJECTS)


def test_two_that_wait_for_all_of_the_same_objects_in_other_orders() -> None:
    def build() -> Race:
        ke, a, b = System().ke, Ksemaphore(0, 2), Ksemaphore(0, 2)
        got: list[Any] = []

        def release_both() -> None:
            ke.release_semaphore(a, 2)
            ke.release_semaphore(b, 2)

        def check() -> None:
            assert got == [0, 0] and a.count == b.count == 0
            untouched(a, b)

        return Race(
            {
                "ab": lambda: got.append(ke.wait_for_multiple_objects([a, b], ALL, None)),
                "ba": lambda: got.append(ke.wait_for_multiple_objects([b, a], ALL, None)),
                "release": release_both,
            },
            check,
        )

    by_lines(build, OBJECTS, preemptions=1)


def test_all_against_somebody_who_takes_one_of_them() -> None:
    def build() -> Race:
        ke, a, b = System().ke, flag(), flag()
        got: dict[str, Any] = {}

        def wait_for_all() -> None:
            got["all"] = ke.wait_for_multiple_objects([a, b], ALL, 0.5)

        def take_one() -> None:
            got["one"] = ke.wait_for_single_object(a, 0)

        def set_both() -> None:
            ke.set_event(a)
            ke.set_event(b)

        def check() -> None:
            taken = (got["all"] == 0) + got["one"]
            assert taken <= 1, "one signal was taken twice"
            assert a.signaled is (taken == 0)
            assert b.signaled is (got["all"] is None)
            untouched(a, b)

        return Race({"all": wait_for_all, "one": take_one, "set": set_both}, check)

    by_lines(build, OBJECTS, preemptions=1)


@BOUNDS
def test_any_against_two_setters_takes_one_signal(preemptions: int) -> None:
    def build() -> Race:
        ke, a, b = System().ke, flag(), flag()
        got: list[Any] = []

        def check() -> None:
            (index,) = got
            assert [a.signaled, b.signaled] == [index == 1, index == 0]
            untouched(a, b)

        return Race(
            {
                "waits": lambda: got.append(ke.wait_for_multiple_objects([a, b], ANY, None)),
                "a": lambda: ke.set_event(a),
                "b": lambda: ke.set_event(b),
            },
            check,
        )

    by_lines(build, OBJECTS, preemptions)


# -- releases against time-outs ------------------------------------------------------------------------------------------


def test_a_semaphore_that_is_released_as_the_time_is_up() -> None:
    outcomes: set[bool] = set()

    def build() -> Race:
        ke, semaphore = System().ke, Ksemaphore(0, 1)
        got: list[bool] = []

        def check() -> None:
            assert semaphore.count == (0 if got == [True] else 1), "a unit was lost or made"
            untouched(semaphore)
            outcomes.update(got)

        return Race(
            {
                "waits": lambda: got.append(ke.wait_for_single_object(semaphore, 0.1)),
                "releases": lambda: ke.release_semaphore(semaphore),
            },
            check,
        )

    by_lines(build, OBJECTS, preemptions=2)
    assert outcomes == {True, False}


def test_a_mutex_that_is_released_as_the_time_of_the_next_is_up() -> None:
    owners: set[bool] = set()

    def build() -> Race:
        ke, mutex = System().ke, Kmutex()
        got: list[bool] = []
        taken = Kevent()

        def hold_it() -> None:
            ke.wait_for_single_object(mutex, None)
            ke.set_event(taken)
            ke.release_mutex(mutex)

        def want_it() -> None:
            ke.wait_for_single_object(taken, None)
            came = ke.wait_for_single_object(mutex, 0.1)
            assert (mutex.owner is ke.current()) is came
            assert ke.current().mutexes == ([mutex] if came else [])
            if came:
                ke.release_mutex(mutex)
            got.append(came)

        def check() -> None:
            assert mutex.state == 1 and mutex.owner is None
            untouched(mutex)
            owners.update(got)

        return Race({"holds": hold_it, "wants": want_it}, check)

    by_lines(build, OBJECTS, preemptions=2)
    assert owners == {True, False}


def test_a_pulse_against_a_wait_that_begins() -> None:
    outcomes: set[bool] = set()

    def build() -> Race:
        ke, event = System().ke, Kevent()
        got: list[bool] = []

        def check() -> None:
            assert not event.signaled
            untouched(event)
            outcomes.update(got)

        return Race(
            {
                "waits": lambda: got.append(ke.wait_for_single_object(event, 0.1)),
                "pulses": lambda: ke.pulse_event(event),
            },
            check,
        )

    by_lines(build, OBJECTS)
    assert outcomes == {True, False}


# -- remove locks --------------------------------------------------------------------------------------------------------

LOCKS = ("hilbridge.kernel.remlock", "hilbridge.kernel.wait", "hilbridge.kernel.event")


def removal_against_users(users: int) -> Callable[[], Race]:
    def build() -> Race:
        ke = System().ke
        lock = RemoveLock(ke)
        inside, gone, refused = [0], [False], [0]

        def remove() -> None:
            assert lock.acquire("remove") == STATUS_SUCCESS
            lock.release_and_wait("remove")
            assert inside == [0], "the device goes while somebody is inside"
            gone[0] = True

        def use(number: int) -> None:
            status = lock.acquire(number)
            if status == STATUS_DELETE_PENDING:
                refused[0] += 1
                return
            inside[0] += 1
            assert not gone[0], "let in after the device had gone"
            inside[0] -= 1
            lock.release(number)

        def check() -> None:
            assert gone[0] and lock.removed and not lock.tags
            assert lock.acquire() == STATUS_DELETE_PENDING

        threads: dict[str, Callable[[], object]] = {f"user{n}": lambda n=n: use(n) for n in range(users)}  # type: ignore[misc]
        return Race({"remove": remove, **threads}, check)

    return build


@pytest.mark.parametrize(
    ("users", "preemptions"),
    [(1, 2), (2, 1), pytest.param(1, 3, marks=pytest.mark.slow), pytest.param(2, 2, marks=pytest.mark.slow)],
)
def test_removal_against_acquire_and_release(users: int, preemptions: int) -> None:
    by_lines(removal_against_users(users), (*LOCKS, __name__), preemptions)


def test_a_release_that_looks_whether_it_is_the_last_outside_of_the_lock_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def careless(lock: RemoveLock, tag: Any = None) -> None:
        removed = lock.removed
        with lock._lock:
            lock._give_back(tag)
        if removed and not lock._tags:
            lock._idle.set()

    monkeypatch.setattr(RemoveLock, "release", careless)
    with pytest.raises(RaceFound):
        by_lines(removal_against_users(1), (*LOCKS, __name__), 2)


# -- DPCs ----------------------------------------------------------------------------------------------------------------

DPCS = ("hilbridge.kernel.kernel", "hilbridge.kernel.dpc", __name__)


class Queued:
    """A DPC, what was done with it, and how often it has run."""

    def __init__(self) -> None:
        system = System()
        self.ke = system.ke
        self.ran: list[int] = []
        self.removed: list[bool] = []
        self.inserted: list[bool] = []

        def routine(*_: Any) -> None:
            self.ran.append(1)

        self.dpc = Kdpc(routine, None, system.stack(TinyDriver("d")))

    def insert(self) -> None:
        with self.ke.raised_irql(DISPATCH_LEVEL):
            self.inserted.append(self.ke.insert_queue_dpc(self.dpc))

    def remove(self) -> None:
        self.removed.append(self.ke.remove_queue_dpc(self.dpc))

    def check(self) -> None:
        assert len(self.ran) + sum(self.removed) == sum(self.inserted), (self.ran, self.removed, self.inserted)
        assert not self.dpc.queued and not self.ke.faults


def test_removing_a_dpc_against_its_run() -> None:
    outcomes: set[tuple[int, int]] = set()

    def build() -> Race:
        queued = Queued()

        def insert() -> None:
            for _ in range(2):
                queued.insert()

        def check() -> None:
            queued.check()
            outcomes.add((len(queued.ran), sum(queued.removed)))

        return Race({"inserts": insert, "removes": queued.remove}, check)

    by_lines(build, DPCS)
    # The last: it was taken out, and not yet marked so, when it was to be inserted again. That insertion was refused.
    assert outcomes == {(2, 0), (1, 1), (0, 1)}


@BOUNDS
def test_two_that_insert_and_one_that_removes(preemptions: int) -> None:
    def build() -> Race:
        queued = Queued()

        def check() -> None:
            queued.check()
            assert any(queued.inserted)

        return Race({"one": queued.insert, "other": queued.insert, "removes": queued.remove}, check)

    by_lines(build, DPCS, preemptions)


# -- system threads ------------------------------------------------------------------------------------------------------


@BOUNDS
def test_a_system_thread_is_ended_wherever_it_is_just_then(preemptions: int) -> None:
    def build() -> Race:
        ke = Kernel(VirtualClock())
        owner = System().stack(TinyDriver("d")).driver_object
        event = flag()
        thread = ke.create_system_thread(owner, lambda _: [ke.wait_for_single_object(event, None) for _ in range(2)])

        def check() -> None:
            assert thread.ended and stood_still() == 0
            untouched(event)

        def close() -> None:
            ke.close()
            assert ke.faults == []

        return Race({"sets": lambda: ke.set_event(event), "ends": thread.abandon}, check, close)

    by_lines(build, (*OBJECTS, "hilbridge.kernel.systhread"), preemptions)


def test_who_waits_for_a_thread_sees_its_end_and_all_that_it_did() -> None:
    def build() -> Race:
        ke = Kernel(VirtualClock())
        owner = System().stack(TinyDriver("d")).driver_object
        done: list[Any] = []

        def start_and_wait() -> None:
            thread = ke.create_system_thread(owner, done.append, "done")
            assert ke.wait_for_single_object(thread, None) is True
            assert done == ["done"]

        def check() -> None:
            assert stood_still() == 0 and ke.system_threads == []

        return Race({"waits": start_and_wait}, check, ke.close)

    by_lines(build, (*OBJECTS, "hilbridge.kernel.systhread"))


def test_a_thread_in_turns_among_threads_that_are_stopped_anywhere() -> None:
    def build() -> Race:
        system = System()
        ke, device = system.ke, system.stack(TinyDriver("d"))
        asked, answered, log = flag(), flag(), []

        def serve(_context: Any) -> None:
            for _ in range(2):
                ke.wait_for_single_object(asked, None)
                log.append("served")
                ke.set_event(answered)

        thread = ke.create_system_thread(device, serve)

        def ask() -> None:
            ke.set_event(asked)
            ke.wait_for_single_object(answered, None)
            log.append("answered")

        def check() -> None:
            assert thread.ended and log == ["served", "answered"] * 2
            untouched(asked, answered)

        lock = Kmutex()

        def in_turn() -> None:
            ke.wait_for_single_object(lock, None)
            ask()
            ke.release_mutex(lock)

        def last() -> None:
            in_turn()
            ke.wait_for_single_object(thread, None)

        return Race({"one": in_turn, "two": last}, check, ke.close)

    by_lines(build, (*OBJECTS, "hilbridge.kernel.fibers"), preemptions=1)


def test_the_block_that_signals_serves_once() -> None:
    """Not a race: what `signaling` has served inside the block it does not serve again."""
    event = Kevent(EventType.SYNCHRONIZATION)
    first, second = event.begin_wait(), event.begin_wait()
    assert first is not None and second is not None
    with signaling(event) as signal:
        event._signaled = True
        signal.serve()
        assert (first.done, second.done) == (True, False)
    assert (first.done, second.done) == (True, False)
