"""Every ordering of two threads at the named race points ends every request exactly once and loses no byte."""

from __future__ import annotations

import pytest

from hilbridge.testing.interleave import NAMED_POINTS, Granularity
from tests.races import drivers, endings, ends, reads, writes  # noqa: F401 - they fill RACES
from tests.races.racekit import RACES, explore_race, thread_count

SMALL = (
    "completion_against_completion",
    "disowning_against_completion",
    "disowning_against_completion_of_data",
    "disowning_against_completion_through_a_filter",
    "cancel_against_a_way_down_the_stack",
    "insertion_of_a_dpc_against_itself",
    "setting_a_timer_against_its_expiry",
    "cancelling_a_timer_against_its_expiry",
    "two_waits_for_one_synchronization_event",
)
"""Races of so few lines that all pairs of them can be tried."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_every_order_of_the_named_points(name: str, seed: int) -> None:
    """All schedules with two preemptions; of three threads all with one, and some with two."""
    if thread_count(name) == 2:
        explore_race(name, preemptions=2)
    else:
        explore_race(name, preemptions=1, samples=300, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_stopped_at_every_line(name: str, seed: int) -> None:
    """Each thread is stopped once, before each of its lines, and the other goes on as far as it can."""
    if thread_count(name) == 2:
        explore_race(name, granularity=Granularity.LINES, preemptions=1)
    else:
        explore_race(name, granularity=Granularity.LINES, preemptions=0, samples=300, sample_preemptions=2, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_stopped_at_every_pair_of_lines(name: str) -> None:
    explore_race(name, granularity=Granularity.LINES, preemptions=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_stopped_at_every_instruction(name: str) -> None:
    explore_race(name, granularity=Granularity.INSTRUCTIONS, preemptions=1)


@pytest.mark.slow
def test_every_named_point_is_passed() -> None:
    """A routine that is not on the way any more would make a named point an empty promise."""
    passed: set[str] = set()
    for name in RACES:
        passed |= explore_race(name, preemptions=0, samples=1, sample_preemptions=1).points.keys()
    named = {
        f"{place.partition(':')[2]}.{routine.rstrip('+')}"
        for place, routines in NAMED_POINTS.items()
        for routine in routines.split()
    }
    assert passed == named
