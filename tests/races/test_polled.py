"""The same promises on a bridge that runs by itself: its poller and its workers are threads of the race."""

from __future__ import annotations

import pytest

from hilbridge.testing.interleave import Granularity
from tests.races import polled  # noqa: F401 - fills POLLED
from tests.races.racekit import POLLED, explore_race

SHORT = (
    "read_against_bytes",
    "submitted_read_against_bytes",
    "submitting_a_read_against_bytes_and_a_reader_who_parks",
    "two_readers_who_wait",
    "a_line_without_a_descriptor",
)
"""Races of so few lines that a stop at each of them can be tried; of the others, a sample."""


@pytest.mark.slow
@pytest.mark.parametrize("name", POLLED)
def test_random_orders_of_the_named_points(name: str, seed: int) -> None:
    explore_race(name, preemptions=0, samples=150, sample_preemptions=2, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLLED)
def test_stopped_at_random_lines(name: str, seed: int) -> None:
    explore_race(
        name,
        granularity=Granularity.LINES,
        preemptions=0,
        samples=250,
        sample_preemptions=2,
        seed=seed,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_stopped_at_every_line(name: str) -> None:
    explore_race(name, granularity=Granularity.LINES, preemptions=1)


@pytest.mark.soak
@pytest.mark.parametrize("name", POLLED)
def test_stopped_at_every_line_at_length(name: str) -> None:
    explore_race(name, granularity=Granularity.LINES, preemptions=1)
