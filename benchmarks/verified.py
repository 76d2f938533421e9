"""What the driver verifier costs: a serial round trip and a null IRP, with it and without.

The round trip is that of `roundtrip`, on a virtual line whose two ends are in this process. With the verifier's default the
serial driver still serves by fast I/O what it can; the other rows turn fast I/O off on both sides, so that every request is an
IRP and all of its checks are paid for.

An IRP that has to wait is handed from the reader to the poller's thread and back, and what that takes is for the machine to
say: the interpreter's lock changes hands, and on an idle machine a CPU has to wake up. A request that takes longer finds its
reader asleep more often, so that the verifier can cost more there than the work of its checks. The row of the work alone has
the same requests on a bridge that is cranked by the reader itself: one thread, which never waits.
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
def loop(
    verify: bool | Verify, io_manager: type[IoManager] = IoManager, make: Callable[..., Bridge] = Bridge
) -> Iterator[Callable[[int], None]]:
    """Round trips over a line that is wired to itself."""
    with make(verify=verify, io_manager=io_manager) as bridge, bridge.open(bridge.plug("virtual:loop")) as handle:
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
    """Four rows: a round trip, a round trip of IRPs, the work alone of the latter, a null IRP."""
    with ExitStack() as stack:
        enter = stack.enter_context
        trips, writes = effort.count(TRIPS), effort.count(WRITES)
        contestants = {
            "trip": Contestant(enter(loop(False)), trips),
            "verified trip": Contestant(enter(loop(True)), trips),
            "irp trip": Contestant(enter(loop(False, SlowIoManager)), trips),
            "verified irp trip": Contestant(enter(loop(Verify(fast_io=False))), trips),
            "irp work": Contestant(enter(loop(False, SlowIoManager, Bridge.manual)), trips),
            "verified irp work": Contestant(enter(loop(Verify(fast_io=False), make=Bridge.manual)), trips),
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
        row("verified round trip of IRPs, the work alone", "verified irp work", "irp work", 2),
        row("verified IRP, null device", "verified null", "null", 5),
    ]
