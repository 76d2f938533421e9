"""Lines that interrupt and interrupt: what is a storm and what is traffic, with a descriptor and without; and turns."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck
from hilbridge.kernel.interrupt import RUNS_PER_TURN, STORM_LIMIT, Interrupt, Pin
from hilbridge.model.device import DeviceObject
from hilbridge.model.hardware import CAUSE_RX
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.kernel.interruptkit import LATCHED, Rig, no, yes
from tests.support import PATIENCE, Extension, now, plug, uart, wait

SOME_FD = 1_000_000
"""A number that nobody polls: the hand-cranked machine has no selector."""


def wired(rig: Rig, moved: bool | None) -> Pin:
    """The pin of a line with a descriptor, which reports what it moves, or does not."""
    pin = rig.ke.add_pin(rig.vector, SOME_FD, no)
    pin.moved = moved
    return pin


# -- with a descriptor -----------------------------------------------------------------------------------------------------


def test_a_descriptor_whose_interrupt_is_claimed_while_nothing_moves_is_a_storm() -> None:
    rig = Rig()
    stormy = rig.connect("stormy", yes)
    pin = wired(rig, False)
    for _ in range(STORM_LIMIT - 1):
        rig.vector.dispatch(pin)
    assert not now(rig.vector.dead) and rig.ke.faults == []
    rig.vector.dispatch(pin)
    assert now(rig.vector.dead) and pin.hung
    fault = rig.only_fault
    assert isinstance(fault, BugCheck) and fault.code == 0xF2
    assert fault.parameters == (stormy.isr, stormy.context, stormy, 1)
    assert stormy.device.device_stack.fault is fault


def test_traffic_is_no_storm_however_long_it_lasts() -> None:
    rig = Rig()
    rig.connect("busy", yes)
    pin = wired(rig, False)
    for _ in range(3):
        for _ in range(STORM_LIMIT - 1):
            rig.vector.dispatch(pin)
        pin.moved = True  # a single byte
        rig.vector.dispatch(pin)
        assert pin.moved is False and pin.barren == 0
    assert not rig.vector.dead and rig.ke.faults == []


def test_a_line_that_does_not_say_what_it_moves_is_not_judged() -> None:
    rig = Rig()
    rig.connect("foreign", yes)
    pin = wired(rig, None)
    for _ in range(STORM_LIMIT + 1):
        rig.vector.dispatch(pin)
    assert not rig.vector.dead


@pytest.mark.parametrize("mode", [LATCHED, None])
def test_on_a_shared_or_latched_vector_it_is_a_storm_too(mode: Any) -> None:
    rig = Rig()
    options = {} if mode is None else {"mode": mode}
    rig.connect("first", no, **options)
    rig.connect("second", yes, **options)
    pin = wired(rig, False)
    for _ in range(STORM_LIMIT):
        rig.vector.dispatch(pin)
        rig.machine.run_until_idle()
    fault = rig.only_fault
    assert isinstance(fault, BugCheck) and rig.vector.dead
    assert fault.parameters[3] == 2, "chained"
    assert "first, second" in str(fault), "who of them it was nobody can say"


def test_an_isr_that_claims_and_never_reads_costs_its_own_port_and_nobody_elses(pty: Pty) -> None:
    # On the real poller, where it would keep the thread busy for ever.
    latched = threading.Event()

    def isr(_interrupt: Interrupt, device: DeviceObject[Extension]) -> bool:
        line = device.extension.line
        return line is not None and line.causes() != 0

    deaf = uart("deaf")
    good, line = uart("good"), VirtualLine()
    with Bridge(steering=False) as bridge:
        bridge.plug(pty.path, driver=deaf, name="DEAF")
        plug(bridge, good, "GOOD", line=line)
        tell = bridge.ke.on_fault

        def on_fault(device: Any, fault: Any) -> None:
            tell(device, fault)
            latched.set()

        bridge.ke.on_fault = on_fault
        assert deaf.device.extension.interrupt is not None
        deaf.device.extension.interrupt.isr = isr
        with bridge.open("DEAF") as handle, bridge.open("GOOD") as neighbour:
            request = handle.submit_read(1)
            pty.let_go()
            os.write(pty.board, b"never read")
            served = 0
            while not latched.is_set() and served < 1_000_000:
                line.feed(b"%06d" % served)
                assert neighbour.read(6, timeout=PATIENCE) == b"%06d" % served
                served += 1
            wait(latched)
            assert served > 3, "the other went on while it stormed"
            line.feed(b"well")
            assert neighbour.read(4, timeout=PATIENCE) == b"well"
            assert request.done and request.status.is_error
        (fault,) = bridge.acknowledge_faults()
        assert isinstance(fault, BugCheck) and fault.code == 0xF2 and fault.driver == "deaf"
        turns = bridge.ke.machine.wakeups  # type: ignore[attr-defined]
        line.feed(b"x")
        assert bridge.ke.machine.wakeups - turns <= 3  # type: ignore[attr-defined]


# -- turns -----------------------------------------------------------------------------------------------------------------


def test_a_line_that_stays_asserted_gives_the_others_their_turn() -> None:
    rig = Rig()
    other = rig.ke.vector(6)
    left = [1000]

    def busy() -> bool:
        left[0] -= 1
        loud.moved = True
        return True

    rig.connect("loud", busy)
    rig.connect("quiet", yes, vector=other)
    loud, quiet = rig.pin(lambda: left[0] > 0), rig.pin(vector=other)
    loud.raise_line(CAUSE_RX)
    quiet.raise_line(CAUSE_RX)
    rig.machine.run_until_idle()
    assert rig.calls.index("quiet") == RUNS_PER_TURN
    assert rig.calls.count("loud") == 1000 and rig.ke.faults == []


def test_a_storm_does_not_get_away_by_taking_turns() -> None:
    rig = Rig()
    other = rig.ke.vector(6)
    rig.connect("stormy", yes)
    rig.connect("calm", yes, vector=other)
    stormy, calm = rig.pin(yes), rig.pin(vector=other)
    stormy.raise_line(CAUSE_RX)
    calls = 0
    while not rig.vector.dead:
        calm.raise_line(CAUSE_RX)
        assert rig.machine.step() and rig.machine.step()
        calls += 1
    assert rig.calls.count("stormy") == STORM_LIMIT and rig.calls.count("calm") == calls
    assert rig.calls.index("calm") == RUNS_PER_TURN


def test_a_line_that_drops_now_and_then_is_no_storm() -> None:
    rig = Rig()
    served = [0]

    def isr() -> bool:
        served[0] += 1
        return True

    rig.connect("lively", isr)
    pin = rig.pin(lambda: served[0] % (STORM_LIMIT - 1) != 0)
    for _ in range(2):
        rig.fire(pin)
    assert served == [2 * (STORM_LIMIT - 1)] and not rig.vector.dead


class Flood(VirtualLine):
    """A far end that has always something more to say."""

    def read(self, limit: int) -> bytes:
        data = super().read(limit)
        with self._lock:
            self._received += b"x"
        return data


def test_a_virtual_line_that_floods_starves_nobody_and_is_no_storm() -> None:
    with Bridge.manual() as bridge:
        loud, quiet = Flood(), VirtualLine()
        flooded, calm = uart("loud"), uart("quiet")
        plug(bridge, flooded, "LOUD", line=loud)
        plug(bridge, calm, "QUIET", line=quiet)
        with bridge.open("QUIET") as neighbour:
            loud.feed(b"x")
            for number in range(100):
                quiet.feed(b"%03d" % number)
                assert neighbour.read(3, timeout=1.0) == b"%03d" % number
            while len(flooded.device.extension.received) <= STORM_LIMIT:
                assert bridge.machine.step()
            assert bridge.faults == []
        loud.enable_interrupts(0)


@pytest.mark.parametrize("steering", [True, False])
def test_the_same_on_the_poller(steering: bool, pty: Pty) -> None:
    loud = Flood()
    with Bridge(steering=steering) as bridge:
        flooded = uart("loud")
        plug(bridge, flooded, "LOUD", line=loud)
        bridge.plug(pty.path, name="QUIET")
        with bridge.open("QUIET") as neighbour:
            loud.feed(b"x")
            for number in range(50):
                os.write(pty.board, b"%03d" % number)
                assert neighbour.read(3, timeout=PATIENCE) == b"%03d" % number
        loud.enable_interrupts(0)
        assert bridge.faults == []
