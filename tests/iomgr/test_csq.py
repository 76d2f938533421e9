"""IO_CSQ: insertion, removal and cancellation in every documented order.

The orders that need two threads are played on one: a cancel is started from within the very line where the other thread
would come in between.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.spinlock import SpinLock
from hilbridge.model.codes import SL_PENDING_RETURNED, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import CancelRoutine, Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.support import PATIENCE, Extension, System, Thread, TinyDriver, bug_check, complete


class ScriptedIrp(Irp):
    """An IRP that does something of the test's before or after its cancel routine is swapped."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.before_swap: Callable[[CancelRoutine | None], None] = lambda _routine: None
        self.after_swap: Callable[[CancelRoutine | None], None] = lambda _routine: None

    def set_cancel_routine(self, routine: CancelRoutine | None) -> CancelRoutine | None:
        self.before_swap(routine)
        previous = super().set_cancel_routine(routine)
        self.after_swap(routine)
        return previous


class Queue(System):
    """A device whose reads arrive in ``arrived``; the test puts them into the queue itself."""

    def __init__(self) -> None:
        super().__init__()
        self.io.irp_class = ScriptedIrp
        self.arrived: list[ScriptedIrp] = []
        self.cancelled: list[Irp] = []
        self.lock_when_cancelled: list[object] = []
        self.driver = TinyDriver("d", {IrpMajor.READ: self._arrive})
        self.stack(self.driver)
        self.device = self.driver.device
        self.file = self.open(self.device)
        self.queue = CancelSafeQueue(self.io, self.ke.spin_lock(), self._complete_cancelled)
        self.insert_on_arrival = False

    def _arrive(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        assert isinstance(irp, ScriptedIrp)
        self.arrived.append(irp)
        if self.insert_on_arrival:
            self.queue.insert(irp)
        return STATUS_PENDING

    def _complete_cancelled(self, irp: Irp) -> None:
        self.cancelled.append(irp)
        self.lock_when_cancelled.append(self.queue.lock.owner)
        complete(self.device, irp, STATUS_CANCELLED)

    def arrive(self) -> tuple[IoRequest, ScriptedIrp]:
        request = self.read(self.file, 4)
        return request, self.arrived[-1]

    def inserted(self) -> tuple[IoRequest, ScriptedIrp]:
        request, irp = self.arrive()
        assert self.queue.insert(irp) is True
        return request, irp


# -- the plain uses ------------------------------------------------------------------------------------------------------


def test_what_is_inserted_is_pending_and_cancellable() -> None:
    system = Queue()
    _, irp = system.inserted()
    assert irp.state == IrpState.PENDING
    assert irp.current_stack_location.control & SL_PENDING_RETURNED
    assert irp.cancel_routine is not None
    assert len(system.queue) == 1 and list(system.queue) == [irp]


def test_first_in_first_out() -> None:
    system = Queue()
    irps = [system.inserted()[1] for _ in range(4)]
    with system.queue.lock:
        assert system.queue.head_locked() is irps[0]
        assert [system.queue.remove_next_locked() for _ in range(5)] == [*irps, None]
        assert system.queue.head_locked() is None
    assert all(irp.cancel_routine is None for irp in irps), "who removes an IRP owns its end"


def test_removing_by_a_wish_leaves_the_others_in_their_order() -> None:
    system = Queue()
    irps = [system.inserted()[1] for _ in range(4)]
    with system.queue.lock:
        assert system.queue.remove_next_locked(lambda irp: irp.id % 2 == irps[1].id % 2) is irps[1]
        assert system.queue.remove_next_locked(lambda irp: False) is None
        assert list(system.queue) == [irps[0], irps[2], irps[3]]


def test_removing_a_certain_irp_works_once() -> None:
    system = Queue()
    _, irp = system.inserted()
    with system.queue.lock:
        assert system.queue.remove_locked(irp) is True
        assert system.queue.remove_locked(irp) is False
    assert len(system.queue) == 0


def test_a_removed_irp_is_not_cancelled_any_more() -> None:
    system = Queue()
    request, irp = system.inserted()
    with system.queue.lock:
        system.queue.remove_next_locked()
    assert system.io.cancel_irp(irp) is False
    complete(system.device, irp, STATUS_SUCCESS, 0)
    assert request.status == STATUS_SUCCESS and system.cancelled == []


def test_a_cancelled_irp_leaves_the_queue_and_ends_without_the_queues_lock() -> None:
    system = Queue()
    first, second = system.inserted(), system.inserted()
    assert system.io.cancel_irp(first[1]) is True
    assert first[0].status == STATUS_CANCELLED and not second[0].done
    assert list(system.queue) == [second[1]]
    assert system.lock_when_cancelled == [None]
    assert system.device.device_stack.cancel_lock.owner is None and system.ke.irql == 0


def test_walking_the_queue_while_it_is_emptied_is_safe() -> None:
    system = Queue()
    irps = [system.inserted()[1] for _ in range(3)]
    seen = []
    with system.queue.lock:
        for irp in system.queue:
            seen.append(irp)
            system.queue.remove_locked(irp)
    assert seen == irps


# -- cancelled before, during and after the insertion --------------------------------------------------------------------


def test_an_irp_that_was_cancelled_before_is_not_queued_but_ends_at_once() -> None:
    system = Queue()
    request, irp = system.arrive()
    assert system.io.cancel_irp(irp) is False
    assert system.queue.insert(irp) is False
    assert request.status == STATUS_CANCELLED and system.cancelled == [irp]
    assert len(system.queue) == 0 and irp.cancel_routine is None
    assert system.lock_when_cancelled == [None]


def test_the_locked_insertion_of_a_cancelled_irp_leaves_its_end_to_the_caller() -> None:
    system = Queue()
    request, irp = system.arrive()
    system.io.cancel_irp(irp)
    with system.queue.lock:
        assert system.queue.insert_locked(irp) is False
    assert system.cancelled == [] and not request.done
    complete(system.device, irp, STATUS_CANCELLED)
    assert request.status == STATUS_CANCELLED


def test_a_cancel_just_before_the_routine_is_set_is_found_by_the_look_after_it() -> None:
    system = Queue()
    request, irp = system.arrive()

    def cancel(routine: CancelRoutine | None) -> None:
        irp.before_swap = lambda _routine: None
        assert routine is not None
        assert system.io.cancel_irp(irp) is False, "there was nothing to call"

    irp.before_swap = cancel
    assert system.queue.insert(irp) is False
    assert request.status == STATUS_CANCELLED and system.cancelled == [irp] and len(system.queue) == 0


def test_a_cancel_just_after_the_routine_is_set_owns_the_end_and_the_insertion_stands() -> None:
    # The canceller has taken the routine and waits for the queue's lock, which the inserting thread holds.
    system = Queue()
    request, irp = system.arrive()
    cancellers: list[Thread] = []
    taken = threading.Event()

    def cancel(routine: CancelRoutine | None) -> None:
        irp.after_swap = lambda _routine: taken.set()
        assert routine is not None
        cancellers.append(Thread(lambda: system.io.cancel_irp(irp)))
        assert taken.wait(PATIENCE)

    irp.after_swap = cancel
    assert system.queue.insert(irp) is True, "the canceller completes it, not the one who inserts"
    assert cancellers[0].finish() is True
    assert request.status == STATUS_CANCELLED
    assert system.cancelled == [irp] and len(system.queue) == 0


# -- cancelled around the removal ----------------------------------------------------------------------------------------


def held_up_canceller(system: Queue, irp: ScriptedIrp) -> Thread:
    """A thread that has taken the cancel routine and waits for the queue's lock, which the caller holds."""
    taken = threading.Event()
    irp.after_swap = lambda _routine: taken.set()
    thread = Thread(lambda: system.io.cancel_irp(irp))
    assert taken.wait(PATIENCE)
    irp.after_swap = lambda _routine: None
    return thread


def test_an_irp_whose_cancellation_is_under_way_is_left_alone() -> None:
    system = Queue()
    (request, irp), (_, behind) = system.inserted(), system.inserted()
    with system.queue.lock:
        canceller = held_up_canceller(system, irp)
        assert system.queue.head_locked() is behind
        assert system.queue.remove_locked(irp) is False
        assert system.queue.remove_next_locked() is behind
        assert system.queue.remove_next_locked() is None
        assert not request.done
    assert canceller.finish() is True
    assert request.status == STATUS_CANCELLED and len(system.queue) == 0


def test_a_cancel_that_comes_while_it_is_being_removed_finds_nothing_to_call() -> None:
    system = Queue()
    request, irp = system.inserted()
    outcome: list[bool] = []

    def cancel(_routine: CancelRoutine | None) -> None:
        irp.after_swap = lambda _routine: None
        outcome.append(system.io.cancel_irp(irp))

    irp.after_swap = cancel
    with system.queue.lock:
        assert system.queue.remove_locked(irp) is True
    assert outcome == [False] and irp.cancel
    complete(system.device, irp, STATUS_SUCCESS, 0)
    assert request.status == STATUS_SUCCESS and system.cancelled == []


def test_the_cancel_lock_is_not_held_while_the_queues_lock_is_waited_for() -> None:
    # The other order of the two locks would be a deadlock with whoever cancels a second IRP while he holds the queue.
    system = Queue()
    (_, irp), (_, other) = system.inserted(), system.inserted()
    with system.queue.lock:
        canceller = held_up_canceller(system, irp)
        reached = threading.Event()

        def look() -> None:
            system.io.acquire_cancel_spin_lock(system.device)
            system.io.release_cancel_spin_lock(system.device)
            reached.set()

        looker = Thread(look)
        assert reached.wait(PATIENCE), "the cancel lock is held by a thread that waits for the queue"
        looker.finish()
    canceller.finish()
    assert list(system.queue) == [other]


def test_cancelling_with_the_queues_lock_in_hand_is_bug_check_f_and_not_a_hang() -> None:
    system = Queue()
    _, irp = system.inserted()
    with system.queue.lock, pytest.raises(Exception) as caught:
        system.io.cancel_irp(irp)
    assert getattr(caught.value, "code", None) == 0xF


def test_the_queues_lock_is_the_drivers() -> None:
    system = Queue()
    lock = SpinLock(system.ke)
    queue = CancelSafeQueue(system.io, lock, lambda irp: None)
    assert queue.lock is lock
    _, irp = system.arrive()
    with lock, bug_check(0xF):
        queue.insert(irp)


# -- for real ------------------------------------------------------------------------------------------------------------


def test_cancellers_and_removers_at_the_same_time_end_every_request_once(seed: int) -> None:
    system = Queue()
    system.insert_on_arrival = True
    rng = random.Random(seed)
    for _ in range(60):
        requests = [system.read(system.file, 4) for _ in range(8)]
        start = threading.Barrier(3, timeout=PATIENCE)
        order = rng.sample(requests, len(requests))

        def cancel(order: list[IoRequest] = order, start: threading.Barrier = start) -> None:
            start.wait()
            for request in order:
                request.cancel()

        def serve(start: threading.Barrier = start) -> int:
            start.wait()
            served = 0
            while True:
                with system.queue.lock:
                    irp = system.queue.remove_next_locked()
                if irp is None:
                    return served
                complete(system.device, irp, STATUS_SUCCESS, 0)
                served += 1

        system.cancelled.clear()
        canceller, servers = Thread(cancel), [Thread(serve) for _ in range(2)]
        canceller.finish()
        served = sum(server.finish() for server in servers)
        assert all(request.done for request in requests) and len(system.queue) == 0
        assert served + len(system.cancelled) == len(requests)
        assert [r.status for r in requests].count(STATUS_CANCELLED) == len(system.cancelled)
    assert system.ke.faults == []
