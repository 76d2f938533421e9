"""KSPIN_LOCK: IRQL, exclusion, and the two ways of misusing it."""

from __future__ import annotations

import threading

import pytest

from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL
from tests.support import PATIENCE, System, Thread, bug_check, wait


def test_a_held_lock_means_dispatch_level_and_its_release_restores() -> None:
    ke = System().ke
    lock = ke.spin_lock()
    with lock:
        assert ke.irql == DISPATCH_LEVEL
        assert lock.owner is ke.current()
    assert ke.irql == PASSIVE_LEVEL and lock.owner is None


def test_acquiring_at_a_higher_irql_stays_there() -> None:
    ke = System().ke
    with ke.raised_irql(HIGH_LEVEL):
        with ke.spin_lock():
            assert ke.irql == HIGH_LEVEL
        assert ke.irql == HIGH_LEVEL


def test_nested_locks_restore_in_turn() -> None:
    ke = System().ke
    outer, inner = ke.spin_lock(), ke.spin_lock()
    with outer:
        with inner:
            assert ke.irql == DISPATCH_LEVEL
        assert ke.irql == DISPATCH_LEVEL, "the outer one is still held"
    assert ke.irql == PASSIVE_LEVEL


def test_a_block_that_raises_releases_the_lock() -> None:
    ke = System().ke
    lock = ke.spin_lock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock:
        pass
    assert ke.irql == PASSIVE_LEVEL


def test_a_second_acquire_by_the_owner_is_bug_check_f_and_not_a_hang() -> None:
    ke = System().ke
    lock = ke.spin_lock()
    with lock:
        with bug_check(0xF, ke.current()):
            lock.acquire()
        assert ke.irql == DISPATCH_LEVEL and lock.owner is ke.current(), "the first acquire stands"
    assert ke.irql == PASSIVE_LEVEL


def test_releasing_what_nobody_holds_is_bug_check_10() -> None:
    ke = System().ke
    with bug_check(0x10, None):
        ke.spin_lock().release()
    assert ke.irql == PASSIVE_LEVEL


def test_releasing_another_threads_lock_is_bug_check_10_and_leaves_it_held() -> None:
    ke = System().ke
    lock = ke.spin_lock()
    held, done = threading.Event(), threading.Event()

    def hold() -> int:
        with lock:
            held.set()
            wait(done)
            return ke.irql

    holder = Thread(hold)
    wait(held)
    with bug_check(0x10):
        lock.release()
    assert lock.owner is not None
    assert ke.irql == PASSIVE_LEVEL
    done.set()
    assert holder.finish() == DISPATCH_LEVEL


def test_the_lock_excludes_other_threads() -> None:
    ke = System().ke
    lock = ke.spin_lock()
    total = [0]
    start = threading.Barrier(4, timeout=PATIENCE)

    def add() -> None:
        start.wait()
        for _ in range(500):
            with lock:
                seen = total[0]
                inside.append(1)
                assert len(inside) == 1
                total[0] = seen + 1
                inside.pop()

    inside: list[int] = []
    for thread in [Thread(add) for _ in range(4)]:
        thread.finish()
    assert total == [2000]


def test_releasing_at_dispatch_level_does_not_run_dpcs() -> None:
    ke = System().ke
    lock, ran = ke.spin_lock(), []
    with ke.raised_irql(DISPATCH_LEVEL):
        with lock:
            ke.insert_queue_dpc(Kdpc(lambda *_: ran.append(1)))
        assert ran == []
    assert ran == [1]


def test_releasing_runs_the_dpcs_that_were_queued_meanwhile_without_the_lock() -> None:
    ke = System().ke
    lock = ke.spin_lock()
    seen: list[object] = []

    def routine(*_: object) -> None:
        seen.append(lock.owner)
        with lock:
            seen.append(ke.irql)

    with lock:
        ke.insert_queue_dpc(Kdpc(routine))
        assert seen == []
    assert seen == [None, DISPATCH_LEVEL]
