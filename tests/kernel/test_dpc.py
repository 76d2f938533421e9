"""KDPC: queued once, run when IRQL drops, never nested."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge import DriverFault
from hilbridge.kernel.dpc import DpcImportance, HardwareDpc, Kdpc
from hilbridge.kernel.kernel import DPCS_PER_TURN
from hilbridge.model.codes import DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.errors import BugCheck
from tests.support import PATIENCE, System, Thread, TinyDriver, raises


def test_a_dpc_inserted_at_passive_level_has_run_when_the_insert_returns() -> None:
    ke = System().ke
    ran: list[Any] = []
    dpc = Kdpc(lambda *arguments: ran.append((*arguments, ke.irql)), "context")
    assert ke.insert_queue_dpc(dpc, 1, 2) is True
    assert ran == [(dpc, "context", 1, 2, DISPATCH_LEVEL)]
    assert ke.irql == PASSIVE_LEVEL and not dpc.queued


def test_a_queued_dpc_is_not_queued_again_and_the_new_arguments_are_lost() -> None:
    ke = System().ke
    ran: list[Any] = []
    dpc = Kdpc(lambda _dpc, _context, a, b: ran.append((a, b)))
    with ke.raised_irql(DISPATCH_LEVEL):
        assert ke.insert_queue_dpc(dpc, "first", 1) is True
        assert dpc.queued
        assert ke.insert_queue_dpc(dpc, "second", 2) is False
        assert ran == []
    assert ran == [("first", 1)]
    assert ke.insert_queue_dpc(dpc, "third", 3) is True
    assert ran == [("first", 1), ("third", 3)]


def test_dpcs_run_in_the_order_of_their_insertion() -> None:
    ke = System().ke
    ran: list[int] = []
    dpcs = [Kdpc(lambda _d, number, _a, _b: ran.append(number), number) for number in range(5)]
    with ke.raised_irql(DISPATCH_LEVEL):
        for dpc in dpcs:
            ke.insert_queue_dpc(dpc)
    assert ran == [0, 1, 2, 3, 4]


def test_a_dpc_that_is_inserted_by_a_dpc_runs_after_it_and_not_inside_it() -> None:
    ke = System().ke
    story: list[str] = []
    second = Kdpc(lambda *_: story.append("second"))

    def first(*_: Any) -> None:
        story.append("first begins")
        ke.insert_queue_dpc(second)
        with ke.raised_irql(DISPATCH_LEVEL):
            pass
        story.append("first ends")

    ke.insert_queue_dpc(Kdpc(first))
    assert story == ["first begins", "first ends", "second"]


def test_a_dpc_may_queue_itself_again_from_its_own_routine() -> None:
    ke = System().ke
    ran: list[Any] = []

    def routine(dpc: Kdpc, _context: Any, left: int, _b: Any) -> None:
        assert not dpc.queued, "it may be queued again from the moment it is taken off"
        ran.append(left)
        if left:
            assert ke.insert_queue_dpc(dpc, left - 1) is True
            assert ke.insert_queue_dpc(dpc, 99) is False

    ke.insert_queue_dpc(Kdpc(routine), 3)
    assert ran == [3, 2, 1, 0]


def test_ten_thousand_requeues_need_no_deep_stack() -> None:
    system = System()
    ke = system.ke
    ran = [0]

    def routine(dpc: Kdpc, *_: Any) -> None:
        ran[0] += 1
        if ran[0] < 10_000:
            ke.insert_queue_dpc(dpc)

    ke.insert_queue_dpc(Kdpc(routine))
    system.machine.run_until_idle()  # in turns: see test_budgets
    assert ran == [10_000]


def test_a_dpc_runs_on_the_thread_that_inserted_it() -> None:
    ke = System().ke
    ran: list[int] = []
    dpc = Kdpc(lambda *_: ran.append(threading.get_ident()))

    def insert() -> int:
        with ke.raised_irql(DISPATCH_LEVEL):
            ke.insert_queue_dpc(dpc)
        return threading.get_ident()

    assert [Thread(insert).finish()] == ran


def test_of_many_threads_that_insert_one_dpc_at_a_time_one_queues_it() -> None:
    ke = System().ke
    go, let_go = threading.Barrier(4, timeout=PATIENCE), threading.Barrier(4, timeout=PATIENCE)
    ran: list[Any] = []
    dpc = Kdpc(lambda _d, _c, a, _b: ran.append(a))

    def insert(number: int) -> bool:
        with ke.raised_irql(DISPATCH_LEVEL):
            go.wait()
            queued = ke.insert_queue_dpc(dpc, number)
            let_go.wait()
        return queued

    for _ in range(50):
        ran.clear()
        queued = [thread.finish() for thread in [Thread(lambda n=n: insert(n)) for n in range(4)]]  # type: ignore[misc]
        assert queued.count(True) == 1
        assert ran == [queued.index(True)]


def test_what_a_dpc_raises_is_latched_on_its_device_and_the_next_dpcs_run() -> None:
    system = System()
    device = system.stack(TinyDriver("driver"))
    ran: list[int] = []
    boom = KeyError("boom")

    def broken(*_: Any) -> None:
        system.ke.current().irql = HIGH_LEVEL
        raise boom

    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.ke.insert_queue_dpc(Kdpc(broken, None, device))
        system.ke.insert_queue_dpc(Kdpc(lambda *_: ran.append(system.ke.irql)))
    assert ran == [DISPATCH_LEVEL]
    assert system.ke.irql == PASSIVE_LEVEL
    (fault,) = system.ke.faults
    assert isinstance(fault, DriverFault) and fault.__cause__ is boom
    assert "driver driver of \\Device\\driver0 raised KeyError" in str(fault) and "in a DPC" in str(fault)
    assert device.device_stack.fault is fault


def test_a_bug_check_in_a_dpc_is_latched_as_it_is() -> None:
    system = System()
    check = BugCheck(0x2, "DEVICE_QUEUE_NOT_BUSY")
    system.ke.insert_queue_dpc(Kdpc(raises(check)))
    assert system.ke.faults == [check]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_nothing_that_a_dpc_raises_ends_the_thread_that_runs_it(error: BaseException) -> None:
    system = System()
    system.ke.insert_queue_dpc(Kdpc(raises(error)))
    assert len(system.ke.faults) == 1 and system.ke.faults[0].__cause__ is error


def test_the_arguments_of_a_dpc_that_has_run_are_not_kept_alive() -> None:
    ke = System().ke
    dpc = Kdpc(lambda *_: None)
    ke.insert_queue_dpc(dpc, "a", "b")
    assert dpc.argument1 is None and dpc.argument2 is None


# -- importance ----------------------------------------------------------------------------------------------------------


def test_a_dpc_of_high_importance_goes_to_the_head_and_all_others_to_the_tail() -> None:
    ke = System().ke
    ran: list[str] = []

    def made(name: str, importance: DpcImportance) -> Kdpc:
        dpc = Kdpc(lambda *_: ran.append(name))
        dpc.importance = importance
        return dpc

    with ke.raised_irql(DISPATCH_LEVEL):
        for name, importance in (
            ("medium", DpcImportance.MEDIUM),
            ("low", DpcImportance.LOW),
            ("high", DpcImportance.HIGH),
            ("medium high", DpcImportance.MEDIUM_HIGH),
            ("higher", DpcImportance.HIGH),
        ):
            assert ke.insert_queue_dpc(made(name, importance)) is True
    assert ran == ["higher", "high", "medium", "low", "medium high"]


def test_importance_counts_when_it_is_queued() -> None:
    ke = System().ke
    ran: list[str] = []
    first, second = Kdpc(lambda *_: ran.append("first")), Kdpc(lambda *_: ran.append("second"))
    with ke.raised_irql(DISPATCH_LEVEL):
        ke.insert_queue_dpc(first)
        ke.insert_queue_dpc(second)
        second.importance = DpcImportance.HIGH
    with ke.raised_irql(DISPATCH_LEVEL):
        ke.insert_queue_dpc(first)
        ke.insert_queue_dpc(second)
    assert ran == ["first", "second", "second", "first"]


# -- taking one back -----------------------------------------------------------------------------------------------------


def test_a_dpc_that_is_removed_does_not_run_and_can_be_queued_again() -> None:
    ke = System().ke
    ran: list[Any] = []
    dpc = Kdpc(lambda _d, _c, a, _b: ran.append(a))
    assert ke.remove_queue_dpc(dpc) is False, "it never was queued"
    with ke.raised_irql(DISPATCH_LEVEL):
        ke.insert_queue_dpc(dpc, "first")
        assert ke.remove_queue_dpc(dpc) is True
        assert ke.remove_queue_dpc(dpc) is False
        assert not dpc.queued and dpc.argument1 is None
    assert ran == []
    with ke.raised_irql(DISPATCH_LEVEL):
        ke.insert_queue_dpc(dpc, "second")
        ke.remove_queue_dpc(dpc)
        assert ke.insert_queue_dpc(dpc, "third") is True
    assert ran == ["third"]
    assert ke.remove_queue_dpc(dpc) is False, "it has run"


def test_a_dpc_that_is_removed_and_queued_again_goes_to_the_tail() -> None:
    ke = System().ke
    ran: list[int] = []
    dpcs = [Kdpc(lambda _d, number, _a, _b: ran.append(number), number) for number in range(3)]
    with ke.raised_irql(DISPATCH_LEVEL):
        for dpc in dpcs:
            ke.insert_queue_dpc(dpc)
        ke.remove_queue_dpc(dpcs[0])
        ke.insert_queue_dpc(dpcs[0])
    assert ran == [1, 2, 0]


def test_a_dpc_does_not_remove_itself_while_it_runs_unless_it_has_queued_itself() -> None:
    ke = System().ke
    seen: list[bool] = []

    def routine(dpc: Kdpc, *_: Any) -> None:
        seen.append(ke.remove_queue_dpc(dpc))
        ke.insert_queue_dpc(dpc)
        seen.append(ke.remove_queue_dpc(dpc))

    ke.insert_queue_dpc(Kdpc(routine))
    assert seen == [False, True]


def test_another_thread_removes_a_dpc_from_the_queue_of_the_one_that_has_inserted_it() -> None:
    ke = System().ke
    ran: list[int] = []
    dpc = Kdpc(lambda *_: ran.append(1))
    with ke.raised_irql(DISPATCH_LEVEL):
        ke.insert_queue_dpc(dpc)
        assert Thread(lambda: ke.remove_queue_dpc(dpc)).finish() is True
    assert ran == []


def test_a_dpc_that_was_put_off_to_a_later_turn_can_be_removed_there() -> None:
    system = System()
    ran: list[int] = []
    late = Kdpc(lambda *_: ran.append(0))

    def again(dpc: Kdpc, *_: Any) -> None:
        ran.append(1)
        if len(ran) < 200:
            system.ke.insert_queue_dpc(dpc)

    with system.ke.raised_irql(DISPATCH_LEVEL):
        for _ in range(DPCS_PER_TURN):
            system.ke.insert_queue_dpc(Kdpc(lambda *_: ran.append(1)))
        system.ke.insert_queue_dpc(late)
        system.ke.insert_queue_dpc(Kdpc(again))
    assert len(ran) == DPCS_PER_TURN and late.queued, "its turn is over"
    assert system.ke.remove_queue_dpc(late) is True
    system.machine.run_until_idle()
    assert set(ran) == {1} and len(ran) == 200


def test_who_was_removed_is_not_looked_for_when_a_turn_lets_the_others_first() -> None:
    ke = System().ke
    ran: list[str] = []
    high = Kdpc(lambda *_: ran.append("high"))
    high.importance = DpcImportance.HIGH
    other = Kdpc(lambda *_: ran.append("other"))
    processor = ke.current()
    with ke.raised_irql(HIGH_LEVEL):
        ke.insert_queue_dpc(other)
        ke.insert_queue_dpc(high)
        processor.let_others_first()
        assert list(processor.dpcs) == [other, high]
        assert ke.remove_queue_dpc(other) is True
        assert ke.remove_queue_dpc(high) is True
        processor.let_others_first()
    assert ran == []


def test_a_dpc_of_hardware_is_nobodys_whoever_makes_and_queues_it() -> None:
    """A driver that fails takes its own DPCs with it. This one still runs, and is not laid at that driver's door."""
    system = System()
    device = system.stack(TinyDriver("driver"))
    made: list[HardwareDpc] = []
    ran: list[int] = []

    def outer(*_: Any) -> None:
        made.append(HardwareDpc(lambda *_: ran.append(system.ke.irql)))
        system.ke.insert_queue_dpc(made[0])

    system.ke.insert_queue_dpc(Kdpc(outer, None, device))
    assert ran == [DISPATCH_LEVEL]
    device.device_stack.fault = DriverFault("broken")
    system.ke.insert_queue_dpc(made[0])
    assert ran == [DISPATCH_LEVEL] * 2
    assert made[0].device is None and not made[0].queued
