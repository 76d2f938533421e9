"""What one IRP costs, and one more filter, in units of an empty Python function call.

The IRP is a write of one byte to the null device: created, sent down the stack, completed, returned. That each write
really was an IRP of its own is checked by their numbers, and that it went through the filters by what these counted.

The unit is what ``python -m timeit -s "def f(): pass" "f()"`` measures: the loop around the call is in it, as it is in
the loop around the write.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat

import hilbridge
from benchmarks.harness import Contestant, Effort, Measurement, Row, Samples, Target, interleave, paired_ratio, walls

FILTERS = 4
WRITES = 2_000
CALLS = 100_000
ROUNDS = 100
BUDGET = 15.0


class NotAnIrpError(AssertionError):
    """The writes did not take the way that was to be measured."""


def call_empty(count: int) -> None:
    def f() -> None:
        pass

    for _ in repeat(None, count):
        f()


@contextmanager
def null_device(filters: int) -> Iterator[Callable[[int], None]]:
    """Writes to a null device below `filters` filters; checked at the end."""
    writes = 0
    with hilbridge.Bridge() as bridge:
        name = bridge.plug("virtual:null", upper_filters=["counter"] * filters)
        with bridge.open(name) as handle:

            def run(count: int) -> None:
                nonlocal writes
                write = handle.write
                for _ in repeat(None, count):
                    write(b"x")
                writes += count

            first = irp_number(handle)
            yield run
            irps = irp_number(handle) - first - 1
        if irps != writes:
            raise NotAnIrpError(f"{writes} writes made {irps} IRPs")
        # The two writes that asked for the number have been counted, too.
        counted = [device.extension.counts[WRITE] for device in bridge.stack(name)[:filters]]
        if counted != [writes + 2] * filters:
            raise NotAnIrpError(f"of {writes + 2} writes the filters have seen {counted}")


WRITE = 4
"""IRP_MJ_WRITE."""


def irp_number(handle: hilbridge.Handle) -> int:
    request = handle.submit_write(b"x")
    request.wait()
    assert request.irp is not None
    return request.irp.id


def measure(effort: Effort) -> Measurement:
    """Two rows: one IRP, one more filter."""
    with ExitStack() as stack:
        contestants = {
            "call": Contestant(call_empty, effort.count(CALLS)),
            "irp": Contestant(stack.enter_context(null_device(0)), effort.count(WRITES)),
            "filtered irp": Contestant(stack.enter_context(null_device(FILTERS)), effort.count(WRITES)),
        }
        samples = interleave(contestants, effort.rounds(ROUNDS), budget=BUDGET)
    return Measurement(rows(samples), samples)


def rows(samples: Samples) -> list[Row]:
    call, irp, filtered = (walls(samples[name]) for name in ("call", "irp", "filtered irp"))
    per_filter = [(high - low) / FILTERS for high, low in zip(filtered, irp, strict=True)]
    best_filter = (min(filtered) - min(irp)) / FILTERS
    unit = statistics.median(call)

    def row(what: str, mine: list[float], best: float, limit: float) -> Row:
        return Row(
            what,
            "empty Python call",
            statistics.median(mine),
            unit,
            paired_ratio(mine, call),
            best / min(call),
            Target(limit),
            ratio_unit="calls",
            blocks=len(mine),
        )

    return [
        row("one IRP, null device", irp, min(irp), 300),
        row(f"one more filter ({FILTERS} against none)", per_filter, best_filter, 55),
    ]
