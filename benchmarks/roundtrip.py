"""A 16-byte round trip on a pty echo: write 16 bytes, read them back.

The same round trip takes ten times as long when the other end happens to run on the other CPU: then each message has to
wake a sleeping CPU, and on a virtual machine that costs far more than all the rest. The scheduler changes its mind within
milliseconds or minutes, and nothing here may tell it what to do: pinned processes would measure a machine that nobody has.
A median over both cases would only say which of the two was more frequent today. So the blocks are sorted by what their
time went into:

* "busy": one end or the other was always working, and handed over without delay, as on one CPU. This row is about the work
  that a library does.
* "wake-ups": for a good part of the time both ends slept. This row is about how often a library lets a thread sleep.

To tell them apart, the processor time of both ends is subtracted from the elapsed time. What is left is short if nobody
waited for a CPU. The yardstick is the echo's own work, a read and a write, which is the same for all contestants. A case
that made up less than a seventh of the blocks is not reported: what there is of it are blocks in which the case changed.

The contestants have an echo process each, all alike. They cannot share one, because we lock our port against others; and
a process that has just served somebody else would be found by the scheduler where that one left it.
"""

from __future__ import annotations

import os
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import repeat

import serial

import hilbridge
from benchmarks.harness import Contestant, Effort, Measurement, Row, Samples, Target, interleave, walls
from hilbridge.testing.fixture import start_fixture

MESSAGE = b"0123456789abcdef"
TRIPS = 100
ROUNDS = 300
BUDGET = 30.0
TIMEOUT = 5.0

IDLE_LIMIT = 2.0
"""A block is "busy" if per trip both ends together slept for less than so many times the echo's own work."""
FEWEST = 0.15
"""A case that makes up less than this part of somebody's blocks is not reported."""

Trips = Callable[[int], None]


class WrongEchoError(AssertionError):
    """Something else came back than was sent: the figures would mean nothing."""


def exchanges(write: Callable[[bytes], object], read: Callable[[int], bytes]) -> Trips:
    """Round trips with a library's write and read."""

    def trips(count: int) -> None:
        for _ in repeat(None, count):
            write(MESSAGE)
            if read(16) != MESSAGE:
                raise WrongEchoError

    return trips


@contextmanager
def ours(port: str) -> Iterator[Trips]:
    with hilbridge.open(port) as handle:
        yield exchanges(handle.write, handle.read)


@contextmanager
def raw(port: str) -> Iterator[Trips]:
    """The least that Python can do: a blocking write and blocking reads, without a time-out or a way to cancel."""
    fd = os.open(port, os.O_RDWR | os.O_NOCTTY)

    def trips(count: int) -> None:
        write, read = os.write, os.read
        for _ in repeat(None, count):
            write(fd, MESSAGE)
            data = read(fd, 16)
            while len(data) < 16:
                data += read(fd, 16 - len(data))
            if data != MESSAGE:
                raise WrongEchoError

    try:
        yield trips
    finally:
        os.close(fd)


@contextmanager
def pyserial(port: str) -> Iterator[Trips]:
    with serial.Serial(port, timeout=TIMEOUT) as device:
        yield exchanges(device.write, device.read)


class ReaderThread:
    """What applications build around pyserial: a thread that reads into a buffer, and a condition to wait on.

    Its reads are those of pyserial's own ``serial.threaded.ReaderThread``.
    """

    def __init__(self, device: serial.Serial) -> None:
        self._device = device
        self._buffer = bytearray()
        self._arrived = threading.Condition()
        self._alive = True
        self._thread = threading.Thread(target=self._run, name="pyserial reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        device, arrived = self._device, self._arrived
        while self._alive:
            data = device.read(device.in_waiting or 1)
            with arrived:
                self._buffer += data
                arrived.notify()

    def read(self, count: int) -> bytes:
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._buffer) >= count, TIMEOUT):
                raise TimeoutError(f"{len(self._buffer)} of {count} bytes came")
            data = bytes(self._buffer[:count])
            del self._buffer[:count]
        return data

    def close(self) -> None:
        self._alive = False
        self._device.cancel_read()
        self._thread.join()


@contextmanager
def reader_thread(port: str) -> Iterator[Trips]:
    with serial.Serial(port, timeout=1) as device:
        reader = ReaderThread(device)

        def trips(count: int) -> None:
            write, read = device.write, reader.read
            for _ in repeat(None, count):
                write(MESSAGE)
                if read(16) != MESSAGE:
                    raise WrongEchoError

        try:
            yield trips
        finally:
            reader.close()


CONTESTANTS: dict[str, Callable[[str], AbstractContextManager[Trips]]] = {
    "ours": ours,
    "raw": raw,
    "pyserial": pyserial,
    "reader thread": reader_thread,
}
PEERS: list[tuple[str, str, Target | None]] = [
    ("raw", "raw os.write, os.read", None),
    ("pyserial", "pyserial write, read(16)", Target(1.25)),
    ("reader thread", "pyserial reader thread", Target(1.0)),
]


def measure(effort: Effort) -> Measurement:
    """Six rows: three peers, busy and with wake-ups."""
    with ExitStack() as stack:
        echoes = {name: stack.enter_context(start_fixture("echo")) for name in CONTESTANTS}
        contestants = {
            name: Contestant(
                stack.enter_context(make(echoes[name].port)), effort.count(TRIPS), far_pid=echoes[name].pid
            )
            for name, make in CONTESTANTS.items()
        }
        samples = interleave(contestants, effort.rounds(ROUNDS), budget=BUDGET)
    busy, slept = by_case(samples)
    rows = [compare("16-byte round trip, busy", busy, samples, *peer, pure=True) for peer in PEERS]
    rows += [compare("16-byte round trip, wake-ups", slept, samples, *peer, pure=False) for peer in PEERS]
    share = ", ".join(f"{name} {len(busy[name])} of {len(samples[name])}" for name in samples)
    return Measurement(rows, samples, [f"round trip: busy blocks (the others waited for wake-ups): {share}"])


def by_case(samples: Samples) -> tuple[Samples, Samples]:
    """The blocks without and with wake-ups."""
    limit = IDLE_LIMIT * min(block.far_cpu for blocks in samples.values() for block in blocks)
    busy = {name: [block for block in blocks if block.idle < limit] for name, blocks in samples.items()}
    slept = {name: [block for block in blocks if block.idle >= limit] for name, blocks in samples.items()}
    return busy, slept


def compare(
    what: str, case: Samples, samples: Samples, name: str, against: str, target: Target | None, *, pure: bool
) -> Row:
    """One row: us and one peer, in one of the cases.

    The fastest block of a case that is not `pure` is one in which the case changed midway: it is no "best".
    """
    mine, other = walls(case["ours"]), walls(case[name])
    if not mine or not other or any(len(case[who]) < FEWEST * len(samples[who]) for who in ("ours", name)):
        return Row(what, against, None, None, None, None, target, blocks=len(mine))
    ours_median, peer_median = statistics.median(mine), statistics.median(other)
    return Row(
        what,
        against,
        ours_median,
        peer_median,
        ours_median / peer_median,
        min(mine) / min(other) if pure else None,
        target,
        blocks=len(mine),
    )
