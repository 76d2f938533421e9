"""System threads of drivers: on real time, and one at a time on the hand-cranked machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, Deadlock, DriverFault
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.model.device import DeviceObject
from tests.support import Extension, TinyDriver


def plugged(bridge: Bridge) -> DeviceObject[Extension]:
    driver = TinyDriver("threaded")
    bridge.plug("virtual:null", name="DUT", driver=driver)
    return driver.device


@pytest.fixture(params=["manual", "real time"])
def make(request: pytest.FixtureRequest) -> Callable[[], Bridge]:
    return Bridge.manual if request.param == "manual" else Bridge


def test_a_thread_runs_with_its_context_and_can_be_waited_for(make: Callable[[], Bridge]) -> None:
    with make() as bridge:
        seen: list[Any] = []
        thread = bridge.ke.create_system_thread(plugged(bridge), seen.append, "context")
        assert bridge.ke.wait_for_single_object(thread, 10)
        assert seen == ["context"]
        assert thread.ended
        assert not bridge.ke.system_threads


def test_work_is_handed_over_by_a_semaphore_and_the_end_by_an_event(make: Callable[[], Bridge]) -> None:
    with make() as bridge:
        ke, work, done = bridge.ke, Ksemaphore(), Kevent(EventType.SYNCHRONIZATION)
        jobs: list[int] = []
        results: list[int] = []

        def body(_context: object) -> None:
            while True:
                ke.wait_for_single_object(work, None)
                if not jobs:
                    return
                results.append(jobs.pop(0) ** 2)
                ke.set_event(done)

        thread = ke.create_system_thread(plugged(bridge), body)
        for number in range(5):
            jobs.append(number)
            ke.release_semaphore(work)
            assert ke.wait_for_single_object(done, 10)
        ke.release_semaphore(work)
        assert ke.wait_for_single_object(thread, 10)
        assert results == [0, 1, 4, 9, 16]


def test_what_a_thread_raises_fails_its_device(make: Callable[[], Bridge]) -> None:
    with make() as bridge:
        device = plugged(bridge)

        def body(_context: object) -> None:
            raise RuntimeError("no")

        bridge.ke.wait_for_single_object(bridge.ke.create_system_thread(device, body), 10)
        assert "raised RuntimeError: no in a system thread" in str(device.device_stack.fault)
        bridge.acknowledge_faults()


# -- by hand ---------------------------------------------------------------------------------------------------------------


def test_by_hand_time_passes_only_when_all_wait() -> None:
    with Bridge.manual() as bridge:
        ke, story = bridge.ke, []

        def body(name: str, period: float) -> Callable[[object], None]:
            def run(_context: object) -> None:
                for _ in range(3):
                    ke.delay_execution_thread(period)
                    story.append((name, ke.clock.now() // 1_000_000))

            return run

        device = plugged(bridge)
        threads = [
            ke.create_system_thread(device, body("slow", 0.3)),
            ke.create_system_thread(device, body("fast", 0.1)),
        ]
        bridge.machine.advance(2)
        assert all(thread.ended for thread in threads)
        assert story == [("fast", 100), ("fast", 200), ("slow", 300), ("fast", 300), ("slow", 600), ("slow", 900)]


def test_by_hand_a_deadlock_names_the_threads_that_wait() -> None:
    with Bridge.manual() as bridge:
        ke, never = bridge.ke, Kevent()

        def forever(_context: object) -> None:
            ke.wait_for_single_object(never, None)

        ke.create_system_thread(plugged(bridge), forever)
        with pytest.raises(Deadlock, match="system thread forever of driver threaded> waits"):
            ke.wait_for_single_object(Kevent(), None)
        never.set()
        bridge.machine.run_until_idle()


def test_by_hand_a_thread_that_is_left_behind_is_reported_and_ended() -> None:
    bridge = Bridge.manual()
    never = Kevent()

    def forgotten(_context: object) -> None:
        bridge.ke.wait_for_single_object(never, None)

    thread = bridge.ke.create_system_thread(plugged(bridge), forgotten)
    bridge.close()
    assert thread.thread is not None
    assert not thread.thread.is_alive()
    (fault,) = bridge.faults
    assert isinstance(fault, DriverFault)
    assert fault.driver == "threaded"
    assert "system thread forgotten of driver threaded> had not ended" in str(fault)
