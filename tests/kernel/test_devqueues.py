"""Device queues of a driver's own: KeInsertDeviceQueue and its kin, with the queue's lock."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.devqueue import DeviceQueue
from hilbridge.model.errors import BugCheck
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus
from tests.support import PATIENCE, System, Thread, TinyDriver, bug_check, complete, now


def test_the_first_entry_is_the_callers_to_start_and_the_others_wait() -> None:
    ke = System().ke
    queue = ke.device_queue()
    assert ke.insert_device_queue(queue, "a") is False and now(queue.busy)
    assert ke.insert_device_queue(queue, "b") is True and ke.insert_device_queue(queue, "c") is True
    assert [ke.remove_device_queue(queue) for _ in range(3)] == ["b", "c", None]
    assert not now(queue.busy)
    with bug_check(0x2):
        ke.remove_device_queue(queue)
    assert queue.lock is not None and queue.lock.owner is None and ke.irql == 0


def test_keys_order_what_waits_and_removal_by_key_begins_anew_behind_the_last() -> None:
    ke = System().ke
    queue = ke.device_queue()
    assert ke.insert_by_key_device_queue(queue, "current", 5) is False
    for key in (30, 10, 20):
        assert ke.insert_by_key_device_queue(queue, key, key) is True
    assert ke.remove_by_key_device_queue(queue, 15) == 20
    assert ke.remove_by_key_device_queue(queue, 31) == 10
    assert ke.remove_by_key_device_queue(queue, 0) == 30
    assert ke.remove_by_key_device_queue(queue, 0) is None


def test_an_entry_is_taken_out_of_the_middle_once() -> None:
    ke = System().ke
    queue: DeviceQueue[Any] = ke.device_queue()
    entries = [object() for _ in range(3)]
    for entry in entries:
        ke.insert_device_queue(queue, entry)
    assert ke.remove_entry_device_queue(queue, entries[0]) is False, "it is in progress, not queued"
    assert ke.remove_entry_device_queue(queue, entries[1]) is True
    assert ke.remove_entry_device_queue(queue, entries[1]) is False
    assert ke.remove_device_queue(queue) is entries[2]


def test_a_devices_own_queue_is_locked_by_its_queue_lock() -> None:
    system = System()
    device = system.stack()
    assert device.device_queue.lock is device.queue_lock
    with device.queue_lock, bug_check(0xF):
        system.ke.remove_device_queue(device.device_queue)


def test_the_routines_may_be_called_at_dispatch_level() -> None:
    ke = System().ke
    queue = ke.device_queue()
    with ke.raised_irql(DISPATCH_LEVEL):
        ke.insert_device_queue(queue, 1)
        assert ke.irql == DISPATCH_LEVEL
        assert ke.remove_device_queue(queue) is None


def test_threads_that_insert_and_remove_lose_nothing_and_start_one_at_a_time() -> None:
    system = System()
    queue: DeviceQueue[int] = system.ke.device_queue()
    done: list[int] = []
    inside = threading.Lock()

    def serve(entry: int) -> None:
        current: int | None = entry
        while current is not None:
            assert inside.acquire(blocking=False), "two entries are in progress"
            done.append(current)
            inside.release()
            current = system.ke.remove_device_queue(queue)

    def insert(first: int) -> None:
        start.wait()
        for number in range(first, first + 300):
            if not system.ke.insert_device_queue(queue, number):
                serve(number)

    start = threading.Barrier(2, timeout=PATIENCE)
    for thread in [Thread(lambda first=first: insert(first)) for first in (0, 1000)]:  # type: ignore[misc]
        thread.finish()
    assert sorted(done) == [*range(300), *range(1000, 1300)] and not queue.busy


def test_a_driver_that_swallows_the_bug_check_of_an_idle_queue_is_found_out() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        with contextlib.suppress(BugCheck):
            device.ke.remove_device_queue(device.device_queue)
        return complete(device, irp)

    system = System()
    top = system.stack(TinyDriver("d", {IrpMajor.READ: read}))
    assert system.read(system.open(top), 1).status.is_error
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and fault.code == 0x2 and "driver d" in str(fault)
    assert top.device_stack.fault is fault
