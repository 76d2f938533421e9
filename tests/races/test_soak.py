"""The same races, with more preemptions than an ordinary run has time for."""

from __future__ import annotations

import random
import time

import pytest

from hilbridge.testing.interleave import Granularity
from tests.races import drivers, endings, ends, polled, reads, writes  # noqa: F401 - they fill the tables
from tests.races.racekit import POLLED, RACES, explore_race


@pytest.mark.soak
def test_random_orders(seed: int, soak_seconds: float) -> None:
    """Any race, at any granularity, with up to four preemptions."""
    draw = random.Random(seed)
    names = sorted(RACES | POLLED)
    end = time.monotonic() + soak_seconds
    while time.monotonic() < end:
        explore_race(
            draw.choice(names),
            granularity=draw.choice(list(Granularity)),
            preemptions=0,
            samples=100,
            sample_preemptions=draw.randint(1, 4),
            seed=draw.getrandbits(32),
            everywhere=True,
        )


@pytest.mark.soak
def test_three_preemptions_at_named_points(seed: int, soak_seconds: float) -> None:
    """All of them, race after race, for as long as there is time; the seed says which races come first."""
    names = sorted(RACES)
    random.Random(seed).shuffle(names)
    end = time.monotonic() + soak_seconds
    for name in names:
        if time.monotonic() > end:
            break
        explore_race(name, preemptions=3)
