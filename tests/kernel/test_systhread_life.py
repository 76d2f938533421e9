"""The life of system threads: whose mistakes they make, how they take turns, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, Deadlock, DriverFault
from hilbridge.kernel import systhread
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.mutex import Kmutex
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.systhread import SystemThread, SystemThreadEnded
from hilbridge.kernel.wait import WaitType
from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
)
from tests.support import PATIENCE, Extension, System, Thread, TinyDriver, bug_check, now, pend, plug, raises


class Bench(System):
    """A system with a driver of one device."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = TinyDriver("d")
        self.device = self.stack(self.driver)

    def thread(self, routine: Any, context: Any = None) -> SystemThread:
        return self.ke.create_system_thread(self.device, routine, context)


@contextmanager
def real_kernel() -> Iterator[tuple[Kernel, Any]]:
    """A kernel on real time, and something that can own threads."""
    ke = Kernel()
    try:
        yield ke, Bench().device.driver_object
    finally:
        ke.close()


# -- what holds on both machines -----------------------------------------------------------------------------------------


def test_a_thread_runs_its_routine_at_passive_level_on_a_thread_of_its_own_and_is_signaled_at_its_end() -> None:
    bench = Bench()
    seen: list[Any] = []

    def routine(context: Any) -> None:
        seen.append((context, bench.ke.irql, threading.get_ident() != main, bench.ke.current().system_thread))

    main = threading.get_ident()
    thread = bench.thread(routine, "context")
    assert not now(thread.signaled) and seen == [], "it has its turn when the crank comes to it"
    assert bench.ke.wait_for_single_object(thread, None) is True
    assert seen == [("context", PASSIVE_LEVEL, True, thread)]
    assert bench.ke.wait_for_single_object(thread, 0) is True, "it stays signaled"
    assert thread.exit_status == STATUS_SUCCESS and bench.ke.system_threads == []


def test_a_real_thread_does_the_same() -> None:
    with real_kernel() as (ke, owner):
        go, seen = Kevent(), []

        def routine(context: Any) -> None:
            assert ke.wait_for_single_object(go, 10.0)
            seen.append((context, threading.current_thread().name))

        thread = ke.create_system_thread(owner, routine, 5)
        assert ke.wait_for_single_object(thread, 0.001) is False
        ke.set_event(go)
        assert ke.wait_for_single_object(thread, 10.0) is True
        assert seen == [(5, "hilbridge-routine")]
        assert repr(thread) == "<system thread routine of driver d, ended>"


def test_a_thread_can_end_itself_with_a_status_from_deep_inside() -> None:
    bench = Bench()
    after: list[int] = []

    def deep(_context: Any) -> None:
        try:
            bench.ke.terminate_system_thread(STATUS_UNSUCCESSFUL)
        except Exception:  # noqa: BLE001 - what a driver may do
            after.append(1)
        after.append(2)

    thread = bench.thread(deep)
    assert bench.ke.wait_for_single_object(thread, None)
    assert thread.exit_status == STATUS_UNSUCCESSFUL and after == [] and bench.ke.faults == []
    with pytest.raises(NtStatusError) as caught:
        bench.ke.terminate_system_thread()
    assert caught.value.status == STATUS_INVALID_PARAMETER


def test_threads_are_made_at_passive_level() -> None:
    bench = Bench()
    with bench.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA, "create_system_thread", DISPATCH_LEVEL):
        bench.thread(lambda _: None)


# -- whose mistake it is -------------------------------------------------------------------------------------------------


def test_what_a_thread_raises_fails_the_stack_of_its_device() -> None:
    bench = Bench()
    boom = KeyError("boom")
    thread = bench.thread(raises(boom))
    assert bench.ke.wait_for_single_object(thread, None)
    fault = bench.device.device_stack.fault
    assert fault is not None and fault.__cause__ is boom and "in a system thread" in str(fault)


def test_what_a_drivers_thread_raises_fails_the_stacks_of_all_its_devices() -> None:
    bench = Bench()
    second, other = bench.stack(bench.driver), bench.stack(TinyDriver("other"))
    bench.ke.create_system_thread(bench.device.driver_object, raises(KeyError()))
    bench.machine.run_until_idle()
    fault = bench.device.device_stack.fault
    assert fault is not None and second.device_stack.fault is fault
    assert other.device_stack.fault is None
    assert bench.ke.faults == [fault]


def test_the_thread_of_a_driver_without_devices_is_told_of_all_the_same() -> None:
    bench = Bench()
    driver = bench.io.load_driver("bare", TinyDriver("bare").driver_entry)
    bench.ke.create_system_thread(driver, raises(KeyError("boom")))
    bench.machine.run_until_idle()
    (fault,) = bench.ke.faults
    assert "a system thread of driver bare" in str(fault)


@pytest.mark.parametrize("what", ["irql", "region"])
def test_a_thread_ends_at_passive_level_and_outside_of_critical_regions(what: str) -> None:
    bench = Bench()

    def routine(_context: Any) -> None:
        if what == "irql":
            bench.ke.current().irql = APC_LEVEL
        else:
            bench.ke.enter_critical_region()

    bench.thread(routine)
    bench.machine.run_until_idle()
    fault = bench.device.device_stack.fault
    assert isinstance(fault, BugCheck) and fault.code == 0x20
    assert fault.parameters == (0, int(what == "region"), APC_LEVEL if what == "irql" else 0)


def test_a_mutex_that_a_thread_takes_with_it_is_free_again_and_the_driver_is_told() -> None:
    bench = Bench()
    mutex = Kmutex()

    def routine(_context: Any) -> None:
        for _ in range(2):
            bench.ke.wait_for_single_object(mutex, None)

    bench.thread(routine)
    assert bench.ke.wait_for_single_object(Kevent(), 0.001) is False
    fault = bench.device.device_stack.fault
    assert isinstance(fault, BugCheck) and fault.code == 0x4000008A
    assert bench.ke.wait_for_single_object(mutex, 0) is True


# -- in turns ------------------------------------------------------------------------------------------------------------


def test_threads_hand_over_where_they_wait_and_nowhere_else() -> None:
    def story() -> list[str]:
        bench = Bench()
        turn, said = [Kevent(EventType.SYNCHRONIZATION) for _ in range(3)], []

        def routine(number: int) -> None:
            for round_ in range(3):
                bench.ke.wait_for_single_object(turn[number], None)
                said.append(f"{number}.{round_}")
                bench.ke.set_event(turn[(number + 1) % 3])
                said.append(f"{number} goes on")

        threads = [bench.thread(routine, number) for number in range(3)]
        bench.machine.run_until_idle()
        assert said == []
        turn[0].set()
        assert bench.ke.wait_for_multiple_objects(threads, WaitType.ALL, None) == 0
        return said

    first = story()
    assert first == [line for r in range(3) for n in range(3) for line in (f"{n}.{r}", f"{n} goes on")]
    assert all(story() == first for _ in range(20))


def test_time_passes_for_threads_as_for_timers() -> None:
    bench = Bench()
    log: list[tuple[str, int]] = []

    def sleeper(step: int) -> None:
        for _ in range(3):
            bench.ke.delay_execution_thread(step / 1000)
            log.append((f"{step}", bench.clock.now() // 1_000_000))

    threads = [bench.thread(sleeper, 10), bench.thread(sleeper, 15)]
    assert bench.ke.wait_for_multiple_objects(threads, WaitType.ALL, None) == 0
    assert log == [("10", 10), ("15", 15), ("10", 20), ("10", 30), ("15", 30), ("15", 45)]


def test_a_thread_that_waits_with_a_time_is_told_that_it_has_passed_or_not() -> None:
    bench = Bench()
    event, answers = Kevent(EventType.SYNCHRONIZATION), []

    def routine(_context: Any) -> None:
        answers.append(bench.ke.wait_for_single_object(event, 0.5))
        answers.append(bench.ke.wait_for_single_object(event, 0.5))

    bench.thread(routine)
    bench.machine.advance(0.6)
    assert answers == [False]
    event.set()
    bench.machine.advance(0.0)
    assert answers == [False, True]


def test_a_wake_up_that_comes_too_late_does_not_end_the_next_wait() -> None:
    bench = Bench()
    driver = TinyDriver("reader", {IrpMajor.READ: pend})
    file = bench.open(bench.stack(driver))
    request, answers = bench.read(file, 4), []

    def routine(_context: Any) -> None:
        ke = bench.ke
        answers.append(ke.wait(ke.current(), request, 1_000_000, None))
        answers.append(ke.wait_for_single_object(Kevent(), 1.0))

    bench.thread(routine)
    bench.machine.advance(0.5)
    bench.io.cancel_io_ex(file)
    assert request.done
    bench.machine.run_until_idle()
    assert answers == [False], "it waits for the event still"
    bench.machine.advance(1.0)
    assert answers == [False, False]


def test_nothing_but_threads_that_yield_lets_the_crank_end() -> None:
    bench = Bench()
    order: list[int] = []

    def routine(number: int) -> None:
        for _ in range(3):
            order.append(number)
            bench.ke.delay_execution_thread(0)

    for number in range(2):
        bench.thread(routine, number)
    bench.machine.run_until_idle()
    assert order == [0, 1] * 3


def test_a_deadlock_names_the_threads_what_they_wait_for_and_where() -> None:
    bench = Bench()
    event, mutex = Kevent(), Kmutex()

    def routine(_context: Any) -> None:
        bench.ke.wait_for_multiple_objects([event, mutex], WaitType.ALL, None)

    bench.ke.wait_for_single_object(mutex, None)
    thread = bench.thread(routine)
    with pytest.raises(Deadlock) as caught:
        bench.ke.wait_for_single_object(thread, None)
    said = str(caught.value)
    assert "<system thread routine of driver d> waits for all of <notification event, not set>, <mutex of Main" in said
    assert f"test_systhread_life.py:{routine.__code__.co_firstlineno + 1}" in said
    thread.abandon()
    assert bench.ke.wait_for_single_object(thread, None) is True


def test_a_thread_of_a_bridge_serves_requests_of_the_application() -> None:
    with Bridge.manual() as bridge:
        work: list[Any] = []
        count = Ksemaphore(0, 100)
        driver = TinyDriver("worker", {IrpMajor.READ: pend})
        plug(bridge, driver)
        device = driver.device
        device.extension.notes.append("device")
        stop = Kevent()

        def serve(extension: Extension) -> None:
            while bridge.ke.wait_for_multiple_objects([stop, count], WaitType.ANY, None) == 1:
                with extension.queue.lock:
                    irp = extension.queue.remove_next_locked()
                if irp is not None and irp.system_buffer is not None:
                    bridge.ke.delay_execution_thread(0.010)
                    irp.system_buffer[:2] = b"ok"
                    irp.io_status.status, irp.io_status.information = STATUS_SUCCESS, 2
                    bridge.io.complete_request(irp)
                    work.append(bridge.ke.clock.now())

        thread = bridge.ke.create_system_thread(device, serve, device.extension)
        with bridge.open("DUT") as handle:
            for _ in range(2):
                bridge.ke.release_semaphore(count)
                assert handle.read(2, timeout=1.0) == b"ok"
        assert work == [10_000_000, 20_000_000]
        bridge.ke.set_event(stop)
        bridge.ke.wait_for_single_object(thread, 1.0)


# -- the end -------------------------------------------------------------------------------------------------------------


def test_a_thread_that_ends_when_it_is_told_is_no_fault() -> None:
    bench = Bench()
    stop = Kevent()
    bench.thread(lambda _: bench.ke.wait_for_single_object(stop, None))
    bench.machine.run_until_idle()
    stop.set()
    bench.ke.close()
    assert bench.ke.faults == []


def test_a_thread_that_waits_when_the_bridge_closes_is_ended_and_its_driver_named() -> None:
    bench = Bench()
    after: list[str] = []

    def routine(_context: Any) -> None:
        try:
            bench.ke.wait_for_single_object(Kevent(), None)
        except Exception:  # noqa: BLE001 - what a driver may do
            after.append("swallowed")
        finally:
            after.append("out")

    thread = bench.thread(routine)
    bench.ke.close()
    (fault,) = bench.ke.faults
    assert thread.ended and after == ["out"]
    assert isinstance(fault, DriverFault) and fault.driver == "d" and "test_systhread_life.py" in str(fault.place)
    assert "<system thread routine of driver d> had not ended when the bridge closed" in str(fault)
    assert "ended from outside" in str(fault)


def test_a_real_thread_that_waits_when_the_bridge_closes_is_ended_and_its_driver_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(systhread, "END_SECONDS", 0.01)
    with real_kernel() as (ke, owner):
        threads = [
            ke.create_system_thread(owner, lambda _: ke.delay_execution_thread(3600)),
            ke.create_system_thread(owner, lambda _: ke.wait_for_multiple_objects([Kevent()], WaitType.ANY, None)),
        ]
    assert [thread.ended for thread in threads] == [True, True]
    assert [getattr(fault, "driver", None) for fault in ke.faults] == ["d", "d"]


def test_a_real_thread_that_does_not_let_go_is_left_behind_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systhread, "END_SECONDS", 0.01)
    monkeypatch.setattr(systhread, "TOLD_SECONDS", 0.01)
    gate = threading.Event()
    with real_kernel() as (ke, owner):
        ke.create_system_thread(owner, lambda _: gate.wait(10.0))
    gate.set()
    (fault,) = ke.faults
    assert "neither returns nor waits" in str(fault)
    assert isinstance(fault, DriverFault) and "test_systhread_life.py" in str(fault.place)


@pytest.mark.parametrize("manual", [True, False])
def test_a_thread_that_swallows_whatever_it_is_told_is_held_where_it_is(
    manual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systhread, "END_SECONDS", 0.01)
    monkeypatch.setattr(systhread, "TOLD_SECONDS", 0.2)
    bench = Bench()
    ke = bench.ke if manual else Kernel()
    enough: list[bool] = []

    def deaf(_context: Any) -> None:
        while not enough:
            try:
                ke.wait_for_single_object(Kevent(), None)
            except BaseException:  # noqa: BLE001 - what a driver should not do
                continue

    thread = ke.create_system_thread(bench.device, deaf)
    ke.close()
    (fault,) = ke.faults
    assert "neither returns nor waits" in str(fault) and not now(thread.ended)
    enough.append(True)
    thread.abandon()
    if manual:
        bench.machine.run_until_idle()
    assert thread.thread is not None
    thread.thread.join(PATIENCE)
    assert now(thread.ended)


def test_no_thread_is_made_when_the_bridge_closes() -> None:
    bench = Bench()
    bench.ke.close()
    with pytest.raises(NtStatusError) as caught:
        bench.thread(lambda _: None)
    assert caught.value.status == STATUS_DELETE_PENDING


def test_the_threads_of_a_stack_that_has_failed_are_ended_at_their_next_wait() -> None:
    bench = Bench()
    other = bench.stack(TinyDriver("other"))
    event = Kevent(signaled=True)
    told: list[str] = []

    def waiting(name: str) -> None:
        try:
            bench.ke.wait_for_single_object(Kevent(), None)
        except SystemThreadEnded:
            told.append(name)
            raise

    def busy(name: str) -> None:
        try:
            while bench.ke.wait_for_single_object(event, None):
                bench.ke.delay_execution_thread(0.001)
        except SystemThreadEnded:
            told.append(name)
            raise

    threads = [
        bench.thread(waiting, "waiting"),
        bench.thread(busy, "busy"),
        bench.ke.create_system_thread(bench.device.driver_object, waiting, "the driver's"),
    ]
    foreign = bench.ke.create_system_thread(other, waiting, "foreign")
    bench.machine.run_until_idle()
    bench.ke.latch_fault(bench.device, KeyError("boom"), "a test")
    assert bench.ke.wait_for_multiple_objects(threads, WaitType.ALL, 1.0) == 0
    assert sorted(told) == ["busy", "the driver's", "waiting"]
    assert not foreign.ended
    foreign.abandon()
    bench.machine.run_until_idle()
    bench.ke.close()


def test_a_driver_with_another_device_that_works_keeps_its_own_thread() -> None:
    bench = Bench()
    second = bench.stack(bench.driver)
    stop = Kevent()
    thread = bench.ke.create_system_thread(
        bench.device.driver_object, lambda _: bench.ke.wait_for_single_object(stop, None)
    )
    bench.machine.run_until_idle()
    bench.ke.latch_fault(bench.device, KeyError("boom"), "a test")
    bench.machine.run_until_idle()
    assert not now(thread.ended)
    bench.ke.latch_fault(second, KeyError("boom"), "a test")
    bench.machine.run_until_idle()
    assert now(thread.ended)


def test_a_thread_that_is_made_for_a_stack_that_has_failed_does_not_run() -> None:
    bench = Bench()
    ran: list[int] = []
    bench.ke.latch_fault(bench.device, KeyError("boom"), "a test")
    thread = bench.thread(lambda _: ran.append(1))
    assert bench.ke.wait_for_single_object(thread, None) is True
    assert ran == []


def test_a_driver_that_is_unloaded_with_a_thread_left_is_told_so() -> None:
    bench = Bench()
    loaded = bench.io.load_driver("leaver", TinyDriver("leaver").driver_entry)
    thread = bench.ke.create_system_thread(loaded, lambda _: bench.ke.wait_for_single_object(Kevent(), None))
    bench.machine.run_until_idle()
    with pytest.raises(
        DriverFault,
        match=r"left behind <system thread <lambda> of driver leaver> \(at tests/kernel/test_systhread_life",
    ):
        bench.io.unload_driver("leaver")
    bench.machine.run_until_idle()
    assert thread.ended


def wait_for(context: tuple[Kernel, Kevent]) -> None:
    ke, event = context
    ke.wait_for_single_object(event, None)


def test_a_driver_stops_its_thread_in_its_unload_routine() -> None:
    for manual in (True, False):
        bridge = Bridge.manual() if manual else Bridge()
        with bridge:
            driver = TinyDriver("d")
            plug(bridge, driver)
            stop = Kevent()
            loaded = driver.device.driver_object
            thread = bridge.ke.create_system_thread(loaded, wait_for, (bridge.ke, stop))

            def unload(_driver: Any, ke: Kernel = bridge.ke, stop: Kevent = stop, end: SystemThread = thread) -> None:
                ke.set_event(stop)
                assert ke.wait_for_single_object(end, 5.0)

            loaded.driver_unload = unload
        assert thread.ended and bridge.faults == []


def test_an_application_waits_for_a_system_thread_as_for_anything() -> None:
    with real_kernel() as (ke, owner):
        mutex, turns = Kmutex(), []

        def routine(name: str) -> None:
            for _ in range(20):
                assert ke.wait_for_single_object(mutex, 10.0)
                turns.append(name)
                ke.release_mutex(mutex)

        threads = [ke.create_system_thread(owner, routine, name) for name in "ab"]
        other = Thread(lambda: ke.wait_for_multiple_objects(threads, WaitType.ALL, 10.0))
        assert ke.wait_for_multiple_objects(threads, WaitType.ALL, 10.0) == 0
        assert other.finish() == 0
        assert sorted(turns) == ["a"] * 20 + ["b"] * 20
