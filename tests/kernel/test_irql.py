"""Processors and IRQL: per thread, raised and restored."""

from __future__ import annotations

import pytest

from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL
from tests.support import System, Thread, bug_check


def test_a_thread_gets_its_processor_once_and_starts_passive() -> None:
    ke = System().ke
    processor = ke.current()
    assert ke.current() is processor
    assert processor.irql == ke.irql == PASSIVE_LEVEL
    assert not processor.dpcs and processor.inside == 0


def test_processors_are_numbered_and_named_by_their_threads() -> None:
    ke = System().ke
    mine = ke.current()
    other = Thread(ke.current).finish()
    assert other is not mine
    assert (mine.number, other.number) == (0, 1)
    assert "IRQL 0" in repr(mine) and mine.thread_name in repr(mine)


def test_two_kernels_share_nothing() -> None:
    one, two = System().ke, System().ke
    with one.raised_irql(DISPATCH_LEVEL):
        assert (one.irql, two.irql) == (DISPATCH_LEVEL, PASSIVE_LEVEL)


def test_irql_is_raised_for_the_block_and_for_this_thread_only() -> None:
    ke = System().ke
    with ke.raised_irql(APC_LEVEL):
        assert ke.irql == APC_LEVEL
        with ke.raised_irql(DISPATCH_LEVEL):
            assert ke.irql == DISPATCH_LEVEL
            assert Thread(lambda: ke.irql).finish() == PASSIVE_LEVEL
            with ke.raised_irql(DISPATCH_LEVEL):
                assert ke.irql == DISPATCH_LEVEL
        assert ke.irql == APC_LEVEL
    assert ke.irql == PASSIVE_LEVEL


def test_irql_is_restored_when_the_block_raises() -> None:
    ke = System().ke
    with pytest.raises(KeyError), ke.raised_irql(HIGH_LEVEL):
        raise KeyError
    assert ke.irql == PASSIVE_LEVEL


@pytest.mark.parametrize("level", [PASSIVE_LEVEL, APC_LEVEL, HIGH_LEVEL + 1])
def test_raising_downward_or_out_of_range_is_bug_check_9(level: int) -> None:
    ke = System().ke
    with ke.raised_irql(DISPATCH_LEVEL):
        with bug_check(0x9, DISPATCH_LEVEL, level):
            ke.raised_irql(level).__enter__()
        assert ke.irql == DISPATCH_LEVEL


def test_lowering_below_dispatch_runs_the_queued_dpcs_and_lowering_to_it_does_not() -> None:
    ke = System().ke
    ran: list[int] = []
    dpc = Kdpc(lambda _dpc, _context, _a, _b: ran.append(ke.irql))
    with ke.raised_irql(APC_LEVEL):
        with ke.raised_irql(DISPATCH_LEVEL):
            with ke.raised_irql(HIGH_LEVEL):
                ke.insert_queue_dpc(dpc)
            assert ran == [], "still at DISPATCH_LEVEL"
        assert ran == [DISPATCH_LEVEL], "APC_LEVEL is below it"
    assert ran == [DISPATCH_LEVEL]
