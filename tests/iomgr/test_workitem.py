"""IO_WORKITEM: run once for each time it is queued, at PASSIVE_LEVEL, with its device kept."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, BugCheck
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.support import Extension, TinyDriver, bug_check, now

Device = DeviceObject[Extension]


@pytest.fixture
def bridge() -> Any:
    bridge = Bridge.manual()
    yield bridge
    bridge.close()


def plugged(bridge: Bridge) -> Device:
    driver = TinyDriver("worker")
    bridge.plug("virtual:null", name="DUT", driver=driver)
    return driver.device


def test_it_runs_once_at_passive_level_with_device_and_context(bridge: Bridge) -> None:
    device, seen = plugged(bridge), []
    item = bridge.io.allocate_work_item(device)

    def routine(given: Device, context: object) -> None:
        seen.append((given, context, given.ke.irql))

    with bridge.ke.raised_irql(DISPATCH_LEVEL):
        bridge.io.queue_work_item(item, routine, "context")
    assert now(item.queued)
    bridge.machine.run_until_idle()
    assert seen == [(device, "context", PASSIVE_LEVEL)]
    assert not now(item.queued)
    bridge.io.free_work_item(item)
    assert item.freed


def test_its_own_routine_may_queue_it_again_and_free_it(bridge: Bridge) -> None:
    device, runs = plugged(bridge), list[int]()
    item = bridge.io.allocate_work_item(device)

    def routine(given: Device, _context: object) -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            given.io.queue_work_item(item, routine)
        else:
            given.io.free_work_item(item)

    bridge.io.queue_work_item(item, routine)
    bridge.machine.run_until_idle()
    assert runs == [0, 1, 2]
    assert item.freed


def test_the_device_is_kept_until_the_routine_has_returned(bridge: Bridge) -> None:
    device, seen = plugged(bridge), []
    item = bridge.io.allocate_work_item(device)
    before = device.pointer_count
    bridge.io.queue_work_item(item, lambda given, _context: seen.append(given.pointer_count))
    assert device.pointer_count == before + 1
    bridge.machine.run_until_idle()
    assert (seen, device.pointer_count) == ([before + 1], before)


def test_queueing_what_is_queued_or_freed(bridge: Bridge) -> None:
    device = plugged(bridge)
    item = bridge.io.allocate_work_item(device)
    bridge.io.queue_work_item(item, lambda _device, _context: None)
    with bug_check(0xE4, item) as caught:
        bridge.io.queue_work_item(item, lambda _device, _context: None)
    assert caught.value.driver == "worker"
    with bug_check(0xE4, item):
        bridge.io.free_work_item(item)
    bridge.machine.run_until_idle()
    bridge.io.free_work_item(item)
    with bug_check(0xE4, item):
        bridge.io.queue_work_item(item, lambda _device, _context: None)


def test_what_it_raises_and_the_irql_that_it_leaves_behind_fail_its_device() -> None:
    def raises(_device: Device, _context: object) -> None:
        raise RuntimeError("no")

    def raised(device: Device, _context: object) -> None:
        device.ke.current().irql = DISPATCH_LEVEL

    for routine, words in ((raises, "raised RuntimeError: no in a work item"), (raised, "0xE1")):
        bridge = Bridge.manual()
        device = plugged(bridge)
        bridge.io.queue_work_item(bridge.io.allocate_work_item(device), routine)
        bridge.machine.run_until_idle()
        assert words in str(device.device_stack.fault)
        assert bridge.ke.irql == PASSIVE_LEVEL
        bridge.close()


def test_two_who_queue_it_at_once() -> None:
    def build() -> Race:
        bridge = Bridge.manual()
        device, runs, refused = plugged(bridge), [], []
        item = bridge.io.allocate_work_item(device)

        def queue() -> None:
            try:
                bridge.io.queue_work_item(item, lambda _device, _context: runs.append(1))
            except BugCheck:
                refused.append(1)

        def check() -> None:
            bridge.machine.run_until_idle()
            # A bug check has failed the device: then a routine that was queued is not called any more.
            assert len(runs) + len(refused) in (1, 2)
            assert device.pointer_count == 0 or not refused
            assert not item.queued

        return Race({"one": queue, "two": queue}, check, bridge.close)

    assert explore(build, granularity=Granularity.LINES, preemptions=1).schedules > 2
