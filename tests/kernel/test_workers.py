"""System worker threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge.kernel import workers
from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.kernel.workers import POOL_LIMIT, Worker, WorkerPool
from tests.support import PATIENCE, Thread, raises, wait


def test_no_thread_is_started_before_there_is_work() -> None:
    worker = Worker("test-worker", lambda _error: None)
    assert all(thread.name != "test-worker" for thread in threading.enumerate())
    assert worker.stop() is True


def test_a_thread_that_is_given_up_behind_its_work_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog's exception is raised wherever the thread is: also when the item that took so long has just returned."""
    untold: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: untold.append(args.exc_value))
    errors: list[BaseException] = []
    pool = WorkerPool("test-pool", errors.append)
    done, threads = threading.Event(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        monkeypatch.setattr(pool, "_threads", Retiring())
        done.set()

    class Retiring(list[threading.Thread]):
        def __iter__(self) -> Any:
            raise ProcessorRetired

    pool.put(work)
    wait(done)
    (thread,) = threads
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not untold
    assert not errors


def test_work_is_done_in_order_on_one_thread_of_its_own() -> None:
    errors: list[BaseException] = []
    worker = Worker("test-worker", errors.append)
    done, names = threading.Event(), []
    for number in range(100):
        worker.put(lambda number=number: names.append((number, threading.current_thread().name)))  # type: ignore[misc]
    worker.put(done.set)
    wait(done)
    assert names == [(number, "test-worker") for number in range(100)]
    assert worker.stop() is True and not errors


def test_what_work_raises_is_reported_and_the_next_work_is_done() -> None:
    errors: list[BaseException] = []
    worker = Worker("test-worker", errors.append)
    boom, leave = KeyError("boom"), SystemExit(3)
    done = threading.Event()
    for work in (raises(boom), raises(leave), done.set):
        worker.put(work)
    wait(done)
    assert errors == [boom, leave]
    assert worker.stop()


def test_stopping_does_what_is_queued_first() -> None:
    worker = Worker("test-worker", lambda _error: None)
    gate, done = threading.Event(), []
    worker.put(lambda: wait(gate))
    for number in range(10):
        worker.put(lambda number=number: done.append(number))  # type: ignore[misc]
    stopper = Thread(worker.stop)
    gate.set()
    assert stopper.finish() is True
    assert done == list(range(10))


def test_after_the_stop_nothing_is_dropped_the_caller_does_it() -> None:
    errors: list[BaseException] = []
    worker = Worker("test-worker", errors.append)
    worker.stop()
    done: list[str] = []
    worker.put(lambda: done.append(threading.current_thread().name))
    assert done == [threading.current_thread().name]
    boom = KeyError()
    worker.put(raises(boom))
    assert errors == [boom]


def test_a_worker_can_be_stopped_by_its_own_work() -> None:
    worker = Worker("test-worker", lambda _error: None)
    outcome: list[bool] = []
    done = threading.Event()

    def stop() -> None:
        outcome.append(worker.stop())
        done.set()

    worker.put(stop)
    wait(done)
    assert outcome == [True]


def test_a_worker_that_hangs_is_not_waited_for_for_ever(monkeypatch: object) -> None:
    gate = threading.Event()
    worker = Worker("test-worker", lambda _error: None)
    worker.put(lambda: wait(gate))
    before = workers.JOIN_SECONDS
    workers.JOIN_SECONDS = 0.01
    try:
        assert worker.stop() is False
    finally:
        workers.JOIN_SECONDS = before
        gate.set()
    for thread in threading.enumerate():
        if thread.name == "test-worker":
            thread.join(PATIENCE)


# -- the pool ------------------------------------------------------------------------------------------------------------


def pool_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("test-pool-")]


def test_a_pool_starts_a_thread_only_when_it_needs_one_more() -> None:
    pool = WorkerPool("test-pool", lambda _error: None)
    assert pool_threads() == []
    gate, busy = threading.Event(), threading.Barrier(2, timeout=PATIENCE)

    def work() -> None:
        busy.wait()
        wait(gate)

    for count in (1, 2, 3):
        pool.put(work)
        busy.wait()
        assert len(pool_threads()) == count
    gate.set()
    assert pool.stop() == [] and pool_threads() == []


def test_work_that_waits_holds_up_no_other_up_to_the_limit() -> None:
    pool = WorkerPool("test-pool", lambda _error: None)
    gate, order = threading.Event(), []
    together = threading.Barrier(POOL_LIMIT + 1, timeout=PATIENCE)

    def meet() -> None:
        together.wait()
        wait(gate)

    for _ in range(POOL_LIMIT):
        pool.put(meet)
    together.wait()
    pool.put(lambda: order.append(1))
    assert len(pool_threads()) == POOL_LIMIT and order == []
    gate.set()
    assert pool.stop() == [], "what is queued is done first"
    assert order == [1]


def test_what_the_work_of_a_pool_raises_is_reported() -> None:
    errors: list[BaseException] = []
    pool = WorkerPool("test-pool", errors.append)
    boom, again = KeyError("boom"), KeyError("again")
    pool.put(raises(boom))
    assert pool.stop() == []
    pool.put(raises(again))
    assert errors == [boom, again], "after the stop the caller does it"


def test_a_pool_can_be_stopped_by_its_own_work() -> None:
    pool = WorkerPool("test-pool", lambda _error: None)
    outcome: list[list[int]] = []
    done = threading.Event()

    def stop() -> None:
        outcome.append(pool.stop())
        done.set()

    pool.put(stop)
    wait(done)
    assert outcome == [[]]


def test_a_thread_of_a_pool_that_hangs_is_given_up_and_what_waits_for_it_goes_on() -> None:
    pool = WorkerPool("test-pool", lambda _error: None)
    gate, inside, ran = threading.Event(), threading.Event(), []
    hung: list[int] = []

    def hang() -> None:
        hung.append(threading.get_ident())
        inside.set()
        wait(gate)

    pool.put(hang)
    wait(inside)
    (thread,) = pool_threads()
    pool.retire(0)
    pool.retire(hung[0])
    done = threading.Event()
    pool.put(lambda: ran.append(threading.get_ident()))
    pool.put(done.set)
    wait(done)
    assert pool.stop() == []
    assert len(ran) == 1 and ran != hung
    gate.set()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "when it comes back it ends"


def test_a_pool_says_which_of_its_threads_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool("test-pool", lambda _error: None)
    gate, inside = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        wait(gate)

    pool.put(hang)
    wait(inside)
    (thread,) = pool_threads()
    monkeypatch.setattr(workers, "JOIN_SECONDS", 0.01)
    assert pool.stop() == [thread.ident]
    pool.retire(thread.ident or 0)
    assert pool.stop() == [], "its place was taken, by one that had only to end"
    gate.set()
    thread.join(PATIENCE)
