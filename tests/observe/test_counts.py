"""How many of what."""

from __future__ import annotations

import threading

from hilbridge.bridge.bridge import Bridge
from hilbridge.observe.counts import Counts
from hilbridge.observe.observed import observed_by
from hilbridge.virtual.line import VirtualLine
from tests.support import PNP_AT_START


def test_numbers_of_a_small_run() -> None:
    counts = Counts()
    with Bridge.manual(**observed_by(counts)) as bridge:
        line = VirtualLine()
        bridge.plug(line, upper_filters=["counter"])
        with bridge.open("COM1") as port:
            port.write(b"ab")
            request = port.submit_read(1)
            line.feed(b"x")
            assert request.result() == b"x"
            port.submit_read(1).cancel()
        numbers = counts.numbers()
    asked = 7  # questions to the PDO before there was a stack above it: what it is, and what it can do
    others = 6
    irps = asked + PNP_AT_START + others
    assert numbers == {
        "irps": irps, "completed": irps, "cancelled": 1, "interrupts": 1, "unclaimed": 0, "dpcs": 1, "faults": 0,
        "PNP": asked + PNP_AT_START, "CREATE": 1, "WRITE": 1, "READ": 2, "CLEANUP": 1, "CLOSE": 1,
    }  # fmt: skip
    assert tuple(numbers)[: len(Counts.NAMES)] == Counts.NAMES
    assert counts["completed"] == counts["irps"] == asked + PNP_AT_START + others + 1, "REMOVE_DEVICE is the last one"


def test_no_count_is_lost_between_threads() -> None:
    counts = Counts()
    rounds, threads = 200, 4
    with Bridge(**observed_by(counts)) as bridge:
        names = [bridge.plug(VirtualLine(f"virtual:{n}", loop=True)) for n in range(threads)]

        def work(name: str) -> None:
            with bridge.open(name) as port:
                for _ in range(rounds):
                    port.write(b"x")
                    port.read(1)

        workers = [threading.Thread(target=work, args=(name,)) for name in names]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert not any(worker.is_alive() for worker in workers)
    assert counts["WRITE"] == counts["READ"] == rounds * threads
    assert counts["irps"] == counts["completed"]
    assert counts["faults"] == 0
