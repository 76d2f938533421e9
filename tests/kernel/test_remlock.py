"""IO_REMOVE_LOCK: who is inside, who is let in, and when the device may go."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import DriverFault
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.remlock import PATIENCE, RemoveLock
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.support import Extension, System, TinyDriver, bug_check, complete, do, hold, now


def test_it_is_acquired_and_released_as_often() -> None:
    lock = RemoveLock(System().ke)
    assert [lock.acquire(), lock.acquire(), lock.acquire("tag")] == [STATUS_SUCCESS] * 3
    assert lock.tags == {None: 2, "tag": 1} and lock.count == 3
    lock.release("tag")
    lock.release()
    lock.release()
    assert not lock.tags


def test_the_only_holder_does_not_wait_and_nobody_is_let_in_afterwards() -> None:
    lock = RemoveLock(System().ke)
    lock.acquire("remove")
    assert not now(lock.removed)
    assert lock.release_and_wait("remove") is True
    assert now(lock.removed)
    assert lock.acquire() == STATUS_DELETE_PENDING
    assert lock.acquire("remove") == STATUS_DELETE_PENDING
    assert not lock.tags


def test_removal_waits_for_everybody_who_is_inside() -> None:
    system = System()
    lock = RemoveLock(system.ke)
    story: list[Any] = []

    def leave(_dpc: Kdpc, tag: str, _a: Any, _b: Any) -> None:
        story.append((tag, system.clock.now() // 1_000_000, lock.acquire()))
        lock.release(tag)

    for number, tag in enumerate(("a", "b"), 1):
        lock.acquire(tag)
        system.ke.set_timer(Ktimer(), relative_ms(10 * number), 0, Kdpc(leave, tag))
    lock.acquire("remove")
    lock.release_and_wait("remove")
    assert story == [("a", 10, STATUS_DELETE_PENDING), ("b", 20, STATUS_DELETE_PENDING)]
    assert system.clock.now() == 20_000_000


def test_who_waits_is_woken_also_when_the_last_one_would_wait_himself() -> None:
    system = System()
    device = system.stack(TinyDriver("removed"))
    lock = RemoveLock(system.ke)
    gone: list[str] = []

    def remove(tag: str) -> None:
        assert lock.release_and_wait(tag) is True
        gone.append(tag)

    for tag in ("first", "second"):
        lock.acquire(tag)
    system.ke.create_system_thread(device, remove, "first")
    system.machine.run_until_idle()
    assert now(gone) == []
    remove("second")
    system.machine.run_until_idle()
    assert gone == ["second", "first"]
    assert system.clock.now() == 0


def test_acquire_and_release_are_allowed_at_dispatch_level_and_waiting_is_not() -> None:
    ke = System().ke
    lock = RemoveLock(ke)
    with ke.raised_irql(DISPATCH_LEVEL):
        assert lock.acquire(1) == STATUS_SUCCESS
        lock.release(1)
        assert lock.acquire(2) == STATUS_SUCCESS
        with bug_check(0xA, "release_and_wait"):
            lock.release_and_wait(2)
    assert not lock.removed
    lock.release_and_wait(2)


@pytest.mark.parametrize("acquired", [[], ["other"], [None]])
def test_releasing_what_was_not_acquired_is_bug_check_c4_d5(acquired: list[Any]) -> None:
    lock = RemoveLock(System().ke)
    for tag in acquired:
        lock.acquire(tag)
    with bug_check(0xC4, 0xD5, lock, "tag"):
        lock.release("tag")
    assert lock.tags == dict.fromkeys(acquired, 1)


def test_releasing_once_too_often_is_bug_check_c4_d5() -> None:
    lock = RemoveLock(System().ke)
    lock.acquire("tag")
    lock.release("tag")
    with bug_check(0xC4, 0xD5):
        lock.release("tag")


def test_removing_with_a_tag_that_was_not_acquired_is_bug_check_c4_d6() -> None:
    lock = RemoveLock(System().ke)
    lock.acquire("irp")
    with bug_check(0xC4, 0xD6, lock, "other"):
        lock.release_and_wait("other")
    assert not now(lock.removed) and lock.acquire("x") == STATUS_SUCCESS
    lock.release("x")
    lock.release_and_wait("irp")
    with bug_check(0xC4, 0xD6):
        lock.release_and_wait("irp")
    assert now(lock.removed)


def test_initializing_it_twice_is_bug_check_c4_d7() -> None:
    ke = System().ke
    lock = RemoveLock(ke)
    lock.acquire("tag")
    with bug_check(0xC4, 0xD7, lock):
        lock.__init__(ke)  # type: ignore[misc]
    assert lock.tags == {"tag": 1}


def test_whoever_never_releases_it_is_named_with_what_he_holds() -> None:
    system = System()
    lock = RemoveLock(system.ke)
    lock.acquire("remove")
    lock.acquire("the forgotten one")
    with pytest.raises(DriverFault, match=r"held by \{'the forgotten one': 1\}> was not released"):
        lock.release_and_wait("remove")
    assert system.clock.now() == PATIENCE * 1e9


def test_a_removal_with_a_time_of_its_own_is_told_that_it_has_passed() -> None:
    system = System()
    lock = RemoveLock(system.ke)
    lock.acquire("read")
    lock.acquire("remove")
    assert lock.release_and_wait("remove", timeout=0.5) is False
    assert system.clock.now() == 500_000_000
    lock.release("read")
    assert not lock.tags


def test_it_is_a_fault_of_the_driver_that_removes_its_device() -> None:
    system = System()
    driver = TinyDriver("leaky", {IrpMajor.CLEANUP: run_down})
    system.stack(driver)
    file = system.open(driver.device)
    file.fs_context = RemoveLock(system.ke)
    file.fs_context.acquire("forgotten")
    with pytest.raises(DriverFault, match=r"held by \{'forgotten': 1\}"):
        system.io.close_file(file)
    fault = driver.device.device_stack.fault
    assert isinstance(fault, DriverFault) and fault.driver == "leaky"


# -- for a file: CLEANUP waits until its requests are over ----------------------------------------------------------------


def run_down(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    file = irp.current_stack_location.file_object
    assert file is not None
    lock: RemoveLock = file.fs_context
    assert lock.acquire(irp) == STATUS_SUCCESS
    lock.release_and_wait(irp)
    return complete(device, irp)


def read_under_the_lock(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    file = irp.current_stack_location.file_object
    assert file is not None
    status: NtStatus = file.fs_context.acquire(irp)
    if not status.is_success:
        return complete(device, irp, status)
    return hold(device, irp)


def test_a_lock_for_each_file_runs_the_file_down() -> None:
    system = System()
    driver = TinyDriver("d", {IrpMajor.READ: read_under_the_lock, IrpMajor.CLEANUP: run_down})
    system.stack(driver)
    file, other = system.open(driver.device), system.open(driver.device)
    file.fs_context, other.fs_context = RemoveLock(system.ke), RemoveLock(system.ke)
    request = system.read(file, 4)
    assert request.status == STATUS_PENDING
    assert system.read(other, 4).status == STATUS_PENDING
    (irp, foreign) = driver.device.extension.held

    def end(*_: Any) -> None:
        complete(driver.device, irp, STATUS_CANCELLED)
        file.fs_context.release(irp)

    system.ke.set_timer(Ktimer(), relative_ms(100), 0, Kdpc(lambda *_: do(end)))
    system.io.close_file(file)
    assert system.clock.now() == 100_000_000, "CLEANUP has waited for the read"
    assert request.status == STATUS_CANCELLED
    assert other.fs_context.tags == {foreign: 1}, "and not for that of the other file"


def test_on_real_time_the_last_release_wakes_the_remover() -> None:
    ke = Kernel()
    try:
        lock = RemoveLock(ke)
        lock.acquire("remove")
        lock.acquire("timer")
        ke.set_timer(Ktimer(), relative_ms(5), 0, Kdpc(lambda *_: lock.release("timer")))
        lock.release_and_wait("remove")
        assert not lock.tags
    finally:
        ke.close()
