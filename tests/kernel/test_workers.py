"""System worker threads."""

from __future__ import annotations

import threading

from hilbridge.kernel.workers import Worker
from tests.support import PATIENCE, Thread, raises, wait


def test_no_thread_is_started_before_there_is_work() -> None:
    worker = Worker("test-worker", lambda _error: None)
    assert all(thread.name != "test-worker" for thread in threading.enumerate())
    assert worker.stop() is True


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
    from hilbridge.kernel import workers

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
