"""What the driver verifier costs: a serial round trip and a null IRP, with it and without.

The round trip is that of `roundtrip`, on a virtual line whose two ends are in this process, so that no scheduler has a say.
With the verifier's default the serial driver still serves by fast I/O what it can; the second row turns fast I/O off on both
sides, so that every request is an IRP and all of its checks are paid for.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat

from benchmarks.harness import Contestant, Effort, Measurement, Row, Samples, Target, interleave, paired_ratio, walls
from benchmarks.roundtrip import exchanges
from hilbridge import Bridge
from hilbridge.iomgr.manager import IoManager
from hilbridge.observe.verifier.options import Verify

TRIPS = 200
WRITES = 500
ROUNDS = 60
BUDGET = 15.0


class SlowIoManager(IoManager):
    """Every request is an IRP."""

    fast_io = False


@contextmanager
def loop(verify: bool | Verify, io_manager: type[IoManager] = IoManager) -> Iterator[Callable[[int], None]]:
    """Round trips over a line that is wired to itself."""
    with Bridge(verify=verify, io_manager=io_manager) as bridge, bridge.open(bridge.plug("virtual:loop")) as handle:
        yield exchanges(handle.write, handle.read)


@contextmanager
def null(verify: bool) -> Iterator[Callable[[int], None]]:
    """Writes to the null device, which has no fast I/O: each is an IRP."""
    with Bridge(verify=verify) as bridge, bridge.open(bridge.plug("virtual:null")) as handle:

        def writes(count: int) -> None:
            write = handle.write
            for _ in repeat(None, count):
                write(b"x")

        yield writes


def measure(effort: Effort) -> Measurement:
    """Three rows: a round trip, a round trip of IRPs, a null IRP."""
    with ExitStack() as stack:
        enter = stack.enter_context
        trips, writes = effort.count(TRIPS), effort.count(WRITES)
        contestants = {
            "trip": Contestant(enter(loop(False)), trips),
            "verified trip": Contestant(enter(loop(True)), trips),
            "irp trip": Contestant(enter(loop(False, SlowIoManager)), trips),
            "verified irp trip": Contestant(enter(loop(Verify(fast_io=False))), trips),
            "null": Contestant(enter(null(False)), writes),
            "verified null": Contestant(enter(null(True)), writes),
        }
        samples = interleave(contestants, effort.rounds(ROUNDS), budget=BUDGET)
    return Measurement(rows(samples), samples)


def rows(samples: Samples) -> list[Row]:
    def row(what: str, mine: str, peer: str, limit: float) -> Row:
        above, below = walls(samples[mine]), walls(samples[peer])
        return Row(
            what,
            "the same without",
            statistics.median(above),
            statistics.median(below),
            paired_ratio(above, below),
            min(above) / min(below),
            Target(limit),
            blocks=len(above),
        )

    return [
        row("verified round trip, virtual line", "verified trip", "trip", 2),
        row("verified round trip of IRPs", "verified irp trip", "irp trip", 2),
        row("verified IRP, null device", "verified null", "null", 5),
    ]
