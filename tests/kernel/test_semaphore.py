"""KSEMAPHORE: counted, bounded, first come first served."""

from __future__ import annotations

import pytest

from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INVALID_PARAMETER, STATUS_SEMAPHORE_LIMIT_EXCEEDED
from tests.support import System, Thread


def test_each_wait_takes_one_until_none_is_left() -> None:
    ke, semaphore = System().ke, Ksemaphore(2, 5)
    assert [ke.wait_for_single_object(semaphore, 0) for _ in range(3)] == [True, True, False]
    assert semaphore.count == 0 and not semaphore.signaled


def test_release_returns_the_previous_count() -> None:
    ke, semaphore = System().ke, Ksemaphore(0, 5)
    assert ke.release_semaphore(semaphore) == 0
    assert ke.release_semaphore(semaphore, 3) == 1
    assert ke.release_semaphore(semaphore, 0) == 4
    assert semaphore.count == 4


@pytest.mark.parametrize("adjustment", [3, 100, -1])
def test_more_than_the_limit_is_refused_and_changes_nothing(adjustment: int) -> None:
    ke, semaphore = System().ke, Ksemaphore(3, 5)
    with pytest.raises(NtStatusError) as caught:
        ke.release_semaphore(semaphore, adjustment)
    assert caught.value.status == STATUS_SEMAPHORE_LIMIT_EXCEEDED
    assert semaphore.count == 3
    assert ke.release_semaphore(semaphore, 2) == 3, "up to the limit is allowed"


def test_more_than_the_limit_is_refused_also_if_somebody_would_take_it_at_once() -> None:
    semaphore = Ksemaphore(0, 1)
    wait = semaphore.begin_wait()
    assert wait is not None
    with pytest.raises(NtStatusError):
        semaphore.release(2)
    assert not wait.done
    semaphore.release()
    assert wait.done


def test_a_release_of_several_wakes_as_many_in_order() -> None:
    semaphore = Ksemaphore(0, 10)
    waits = [wait for _ in range(4) if (wait := semaphore.begin_wait()) is not None]
    semaphore.release(3)
    assert [wait.done for wait in waits] == [True, True, True, False]
    assert semaphore.count == 0
    semaphore.release(3)
    assert waits[3].done and semaphore.count == 2


@pytest.mark.parametrize(("count", "limit"), [(-1, 5), (6, 5), (0, 0), (0, -1)])
def test_a_semaphore_that_cannot_be(count: int, limit: int) -> None:
    with pytest.raises(NtStatusError) as caught:
        Ksemaphore(count, limit)
    assert caught.value.status == STATUS_INVALID_PARAMETER


def test_no_more_threads_are_inside_than_it_counts() -> None:
    ke = Kernel()
    try:
        semaphore, inside, most = Ksemaphore(2, 2), 0, 0
        change = ke.spin_lock()

        def enter_and_leave() -> None:
            nonlocal inside, most
            for _ in range(50):
                assert ke.wait_for_single_object(semaphore, 10.0)
                with change:
                    inside += 1
                    most = max(most, inside)
                with change:
                    inside -= 1
                ke.release_semaphore(semaphore)

        for thread in [Thread(enter_and_leave) for _ in range(4)]:
            thread.finish()
        assert most <= 2 and semaphore.count == 2
    finally:
        ke.close()
