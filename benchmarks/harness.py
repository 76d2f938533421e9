"""Measuring contestants against each other on a machine that does not hold still.

A figure alone says little on a shared or virtual machine: its speed changes from second to second. So the contestants
take turns in short blocks (A B C, B C A, C A B, ...), and what is reported is a ratio between neighbours.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Samples = dict[str, list["Sample"]]


class Sample(NamedTuple):
    """One block. All times are in seconds per item."""

    wall: float
    cpu: float
    """Processor time of this process, all its threads."""
    far_cpu: float
    """Processor time of the process at the other end; 0 if nobody asked for it."""

    @property
    def idle(self) -> float:
        """Time in which neither end was working. Below zero if they worked at the same time."""
        return self.wall - self.cpu - self.far_cpu


@dataclass(frozen=True)
class Contestant:
    """Somebody who can do a job `count` times."""

    run: Callable[[int], object]
    count: int
    """Items in a block. A slow contestant gets shorter blocks; what is compared is the time per item."""
    prepare: Callable[[], object] | None = None
    """Called before each block, off the clock."""
    far_pid: int | None = None
    """The process at the other end, if its processor time is wanted too."""


def process_cpu_clock(pid: int) -> int:
    """The clock id of the processor time of another process: what clock_getcpuclockid(3) returns on Linux."""
    return (~pid << 3) | 2


def interleave(contestants: Mapping[str, Contestant], rounds: int, *, budget: float = math.inf) -> Samples:
    """Run every contestant once untimed, then `rounds` times in turns; stops early after `budget` seconds.

    Each round begins with another contestant, so that nobody always follows the same one. At least one round is run.
    """
    names = list(contestants)
    samples: Samples = {name: [] for name in names}
    for contestant in contestants.values():
        run_block(contestant)
    end = time.perf_counter() + budget
    for number in range(max(1, rounds)):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(run_block(contestants[name]))
        if time.perf_counter() >= end:
            break
    return samples


def run_block(contestant: Contestant) -> Sample:
    """Time one block."""
    run, count = contestant.run, contestant.count
    if contestant.prepare is not None:
        contestant.prepare()
    far = None if contestant.far_pid is None else process_cpu_clock(contestant.far_pid)
    far_start = 0 if far is None else time.clock_gettime_ns(far)
    cpu_start = time.process_time_ns()
    start = time.perf_counter_ns()
    run(count)
    wall = time.perf_counter_ns() - start
    cpu = time.process_time_ns() - cpu_start
    far_cpu = 0 if far is None else time.clock_gettime_ns(far) - far_start
    scale = 1e-9 / count
    return Sample(wall * scale, cpu * scale, far_cpu * scale)


# -- from samples to a row of the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What a ratio should be."""

    limit: float
    at_least: bool = False

    def reached_by(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit


@dataclass(frozen=True)
class Row:
    """One line of the table. None stands for what this run did not see."""

    what: str
    against: str
    ours: float | None
    """Seconds for one item, or bytes per second, as `unit` says: the median."""
    peer: float | None
    ratio: float | None
    """The median, and what the target is about."""
    best: float | None
    """The ratio between our best block and the peer's best."""
    target: Target | None = None
    unit: str = "s"
    ratio_unit: str = "x"
    blocks: int = 0
    """How many blocks of ours are behind it."""

    @property
    def reached(self) -> bool | None:
        """None: there is no target, or nothing was measured."""
        return None if self.target is None or self.ratio is None else self.target.reached_by(self.ratio)


@dataclass(frozen=True)
class Measurement:
    """What one group of rows found."""

    rows: list[Row]
    samples: Samples
    notes: list[str] = field(default_factory=list)
    """What a reader must know to judge the rows; printed below the table."""


@dataclass(frozen=True)
class Effort:
    """How much work to spend."""

    quick: bool = False
    repeat: int | None = None

    def rounds(self, full: int) -> int:
        """How many rounds, where a full run makes `full` of them."""
        return self.repeat if self.repeat is not None else 3 if self.quick else full

    def count(self, full: int) -> int:
        """How many items to a block, where a full run makes `full` of them."""
        return max(1, full // 20) if self.quick else full


def walls(samples: Sequence[Sample]) -> list[float]:
    return [sample.wall for sample in samples]


def cpus(samples: Sequence[Sample]) -> list[float]:
    return [sample.cpu for sample in samples]


def paired_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios within each round: what slowed down a whole round falls out."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
