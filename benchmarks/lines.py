"""Reading 64-byte lines while there is always more to read.

What is compared is elapsed time per line, as a user sees it. That is fair as long as the lines come faster than anybody
asks for them, so that is measured too: a contestant of its own takes the same bytes from the same kind of source with raw
reads, and does nothing with them. If a line of ours does not take at least twice as long as that, the source has become
the limit and the note below the table says so; then compare processor time, which the note gives as well (of the whole
process: our poller's share is in it).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from itertools import repeat

import serial

import hilbridge
from benchmarks.bulk import RawReader, drain
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
from benchmarks.table import format_time
from hilbridge.testing.fixture import RunningFixture, start_fixture

LINE = 64
OUR_LINES = 10_000
PYSERIAL_LINES = 400
ROUNDS = 20
BUDGET = 25.0
TIMEOUT = 5.0
TARGET = Target(100, at_least=True)


class WrongLineError(AssertionError):
    """The last line of a block is not the one that was due: something was lost or came twice."""


def check_last(line: bytes, count: int) -> None:
    if int(line) != count - 1 or len(line) != LINE:
        raise WrongLineError(f"line {count - 1} was due, {line!r} came")


def iterating(handle: hilbridge.Handle) -> Callable[[int], None]:
    """``for line in handle``. One iterator for all blocks: what it may hold in advance is not thrown away."""
    lines = iter(handle)

    def run(count: int) -> None:
        line = b""
        for _, line in zip(range(count), lines, strict=False):  # noqa: B007 - the last one is looked at
            pass
        check_last(line, count)

    return run


def calling(read_line: Callable[[], bytes]) -> Callable[[int], None]:
    """A call for each line."""

    def run(count: int) -> None:
        line = b""
        for _ in repeat(None, count):
            line = read_line()
        check_last(line, count)

    return run


def measure(effort: Effort) -> Measurement:
    """Two rows: iteration, and `readline`."""
    with ExitStack() as stack:

        def source() -> RunningFixture:
            return stack.enter_context(start_fixture("source"))

        def contestant(run: Callable[[int], object], count: int, lines: RunningFixture) -> Contestant:
            return Contestant(run, count, prepare=lambda: lines.produce(count * LINE, line_length=LINE))

        count, few = effort.count(OUR_LINES), effort.count(PYSERIAL_LINES)
        contestants = {}
        for name, way in (("iteration", iterating), ("readline", lambda handle: calling(handle.readline))):
            lines = source()
            handle = stack.enter_context(hilbridge.open(lines.port))
            contestants[name] = contestant(way(handle), count, lines)
        lines = source()
        device = stack.enter_context(serial.Serial(lines.port, timeout=TIMEOUT))
        contestants["pyserial"] = contestant(calling(lambda: device.read_until(b"\n")), few, lines)
        lines = source()
        raw = stack.enter_context(RawReader(lines.port))
        contestants["raw"] = contestant(lambda number: drain(raw.read, number * LINE), count, lines)
        samples = interleave(contestants, effort.rounds(ROUNDS), budget=BUDGET)
    rows = [
        row("64-byte lines: for line in handle", "iteration", samples),
        row("64-byte lines: readline()", "readline", samples),
    ]
    return Measurement(rows, samples, [limits(samples)])


def row(what: str, name: str, samples: Samples) -> Row:
    mine, other = walls(samples[name]), walls(samples["pyserial"])
    return Row(
        what,
        "pyserial read_until(b'\\n')",
        statistics.median(mine),
        statistics.median(other),
        paired_ratio(other, mine),
        min(other) / min(mine),
        TARGET,
        blocks=len(mine),
    )


def limits(samples: Samples) -> str:
    """Whether elapsed time was a fair measure."""
    supply = statistics.median(walls(samples["raw"]))
    fastest = min(statistics.median(walls(samples[name])) for name in ("iteration", "readline"))
    verdict = (
        "the source is not the limit"
        if fastest >= 2 * supply
        else "the source is the limit: compare the processor times"
    )
    times = ", ".join(f"{name} {format_time(statistics.median(cpus(blocks)))}" for name, blocks in samples.items())
    return (
        f"lines: a line is there every {format_time(supply)}, ours takes one every {format_time(fastest)}: {verdict}; "
        f"processor time per line: {times}"
    )
