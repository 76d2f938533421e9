"""Bulk reading: as many bytes as a pty delivers, from a source that never pauses.

What is compared is throughput in elapsed time. A pty hands over at most 4095 bytes per read and holds some kilobytes, so
the raw reader spends much of its time waiting for the source; the note below the table gives the processor time too.
"""

from __future__ import annotations

import os
import select
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import hilbridge
from benchmarks.harness import (
    Contestant,
    Effort,
    Measurement,
    Row,
    Samples,
    Target,
    cpus,
    interleave,
    paired_ratio,
    walls,
)
from benchmarks.table import format_rate
from hilbridge.testing.fixture import RunningFixture, start_fixture
from hilbridge.testing.peers.source import source_data

BYTES = 4_000_000
CHECKED_BYTES = 300_000
ROUNDS = 30
BUDGET = 15.0
READ = 65536
TIMEOUT_MS = 5000


class WrongDataError(AssertionError):
    """Other bytes came than the source has sent."""


class RawReader:
    """Non-blocking reads, and a poll when there is nothing: the least that a program must do that waits with a bound."""

    def __init__(self, port: str) -> None:
        self._fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def read(self) -> bytes:
        """At least one byte."""
        while True:
            try:
                return os.read(self._fd, READ)
            except BlockingIOError:
                if not self._poll.poll(TIMEOUT_MS):
                    raise TimeoutError("the source is silent") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)


def drain(read: Callable[[], bytes], count: int) -> None:
    """Read `count` bytes and forget them."""
    left = count
    while left > 0:
        left -= len(read())
    if left:
        raise WrongDataError(f"{-left} bytes came that were not sent")


def check(read: Callable[[], bytes], source: RunningFixture, count: int) -> None:
    """Once, off the clock: are they the right bytes?"""
    source.produce(count, line_length=0)
    data = b""
    while len(data) < count:
        data += read()
    if data != source_data(count, 0):
        raise WrongDataError("the bytes that came are not those that were sent")


def measure(effort: Effort) -> Measurement:
    """One row."""
    count = effort.count(BYTES)
    with ExitStack() as stack:
        sources = {name: stack.enter_context(start_fixture("source")) for name in ("ours", "raw")}
        readers: dict[str, Callable[[], bytes]] = {
            "ours": stack.enter_context(hilbridge.open(sources["ours"].port)).read_some,
            "raw": stack.enter_context(RawReader(sources["raw"].port)).read,
        }

        def contestant(read: Callable[[], bytes], source: RunningFixture) -> Contestant:
            check(read, source, CHECKED_BYTES)
            return Contestant(
                lambda number: drain(read, number), count, prepare=lambda: source.produce(count, line_length=0)
            )

        contestants = {name: contestant(read, sources[name]) for name, read in readers.items()}
        samples = interleave(contestants, effort.rounds(ROUNDS), budget=BUDGET)
    return Measurement([row(samples)], samples, [processor_time(samples)])


def row(samples: Samples) -> Row:
    mine, other = walls(samples["ours"]), walls(samples["raw"])
    return Row(
        "bulk: read_some()",
        "raw non-blocking read, poll",
        1 / statistics.median(mine),
        1 / statistics.median(other),
        paired_ratio(other, mine),
        min(other) / min(mine),
        Target(0.6, at_least=True),
        unit="B/s",
        blocks=len(mine),
    )


def processor_time(samples: Samples) -> str:
    mine, other = (1 / statistics.median(cpus(samples[name])) for name in ("ours", "raw"))
    return (
        f"bulk: per second of processor time ours reads {format_rate(mine).removesuffix('/s')}, "
        f"raw {format_rate(other).removesuffix('/s')}; what raw has left over, it waits for the source"
    )
