"""KMUTEX and FAST_MUTEX: owners, and those who are none."""

from __future__ import annotations

from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.mutex import FastMutex, Kmutex
from hilbridge.kernel.processor import Processor
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL
from tests.support import System, Thread, TinyDriver, bug_check, do, now


def test_a_mutex_is_owned_by_the_thread_that_waited_for_it() -> None:
    ke, mutex = System().ke, Kmutex()
    assert mutex.state == 1 and now(mutex.signaled)
    assert ke.wait_for_single_object(mutex, None) is True
    assert mutex.owner is ke.current()
    assert mutex.state == 0 and not now(mutex.signaled)
    assert Thread(lambda: ke.wait_for_single_object(mutex, 0)).finish() is False
    assert ke.release_mutex(mutex) == 0
    assert now(mutex.owner) is None and mutex.signaled


def test_its_owner_may_take_it_again_and_gives_it_back_as_often() -> None:
    ke, mutex = System().ke, Kmutex()
    for _ in range(3):
        assert ke.wait_for_single_object(mutex, 0) is True
    assert mutex.state == -2
    assert [ke.release_mutex(mutex) for _ in range(3)] == [-2, -1, 0]
    assert Thread(lambda: ke.wait_for_single_object(mutex, 0)).finish() is True


def test_who_does_not_own_it_does_not_release_it() -> None:
    system = System()
    ke, mutex = system.ke, Kmutex()
    with bug_check(0x11, ke.current(), mutex):
        ke.release_mutex(mutex)

    def take() -> None:
        ke.wait_for_single_object(mutex, 0)

    Thread(take).finish()
    with bug_check(0x11):
        ke.release_mutex(mutex)
    assert not mutex.signaled, "it is the other's still"


def test_a_foreign_release_fails_the_stack_of_the_driver_that_does_it() -> None:
    system = System()
    device = system.stack(TinyDriver("driver"))
    mutex = Kmutex()
    system.ke.insert_queue_dpc(Kdpc(lambda *_: do(lambda: system.ke.release_mutex(mutex)), None, device))
    assert getattr(device.device_stack.fault, "code", None) == 0x11


def test_a_released_mutex_goes_to_the_first_in_line() -> None:
    ke, mutex = System().ke, Kmutex()
    one: Processor = Thread(ke.current).finish()
    two: Processor = Thread(ke.current).finish()
    ke.wait_for_single_object(mutex, 0)
    waits = [mutex.begin_wait(thread) for thread in (one, two)]
    ke.release_mutex(mutex)
    assert mutex.owner is one
    assert one.mutexes == [mutex]
    assert [wait is not None and wait.done for wait in waits] == [True, False]


def test_owning_one_is_being_in_a_critical_region() -> None:
    ke, mutex = System().ke, Kmutex()
    assert not now(ke.apcs_disabled)
    ke.wait_for_single_object(mutex, 0)
    ke.wait_for_single_object(mutex, 0)
    assert now(ke.apcs_disabled)
    ke.release_mutex(mutex)
    assert now(ke.apcs_disabled)
    ke.release_mutex(mutex)
    assert not now(ke.apcs_disabled)


def test_critical_regions_are_counted_for_each_thread() -> None:
    ke = System().ke
    ke.enter_critical_region()
    ke.enter_critical_region()
    ke.leave_critical_region()
    assert now(ke.apcs_disabled)
    assert Thread(lambda: ke.apcs_disabled).finish() is False
    ke.leave_critical_region()
    assert not now(ke.apcs_disabled)
    with bug_check(0xC4, 0x3E):
        ke.leave_critical_region()


# -- fast mutexes --------------------------------------------------------------------------------------------------------


def test_a_fast_mutex_is_held_at_apc_level() -> None:
    ke = System().ke
    mutex = ke.fast_mutex()
    with mutex:
        assert ke.irql == APC_LEVEL and mutex.owner is ke.current()
        assert repr(mutex) == f"<fast mutex of {ke.current().thread_name}>"
    assert ke.irql == PASSIVE_LEVEL and repr(mutex) == "<fast mutex, free>"
    with ke.raised_irql(APC_LEVEL):
        with mutex:
            assert now(ke.irql) == APC_LEVEL
        assert now(ke.irql) == APC_LEVEL


def test_a_fast_mutex_is_not_recursive() -> None:
    ke = System().ke
    mutex = ke.fast_mutex()
    with mutex:
        with bug_check(0xBF, mutex):
            mutex.acquire()
        assert mutex.try_to_acquire() is False
    assert mutex.try_to_acquire() is True
    mutex.release()


def test_a_fast_mutex_is_released_by_its_owner_only() -> None:
    ke = System().ke
    mutex = ke.fast_mutex()
    with bug_check(0x11):
        mutex.release()
    Thread(mutex.acquire).finish()
    with bug_check(0x11):
        mutex.release()
    assert mutex.try_to_acquire() is False and ke.irql == PASSIVE_LEVEL


def test_a_fast_mutex_is_not_waited_for_at_dispatch_level() -> None:
    ke = System().ke
    mutex = FastMutex(ke)
    with ke.raised_irql(DISPATCH_LEVEL):
        with bug_check(0xB8):
            mutex.acquire()
        assert now(ke.irql) == DISPATCH_LEVEL


def test_mutexes_exclude_real_threads() -> None:
    ke = Kernel()
    try:
        slow, fast, numbers, started = Kmutex(), ke.fast_mutex(), [0, 0], Ksemaphore(0, 3)

        def count() -> None:
            ke.release_semaphore(started)
            for _ in range(200):
                assert ke.wait_for_single_object(slow, 10.0)
                value = numbers[0]
                with fast:
                    numbers[1] += 1
                numbers[0] = value + 1
                ke.release_mutex(slow)

        for thread in [Thread(count) for _ in range(3)]:
            thread.finish()
        assert numbers == [600, 600]
    finally:
        ke.close()
