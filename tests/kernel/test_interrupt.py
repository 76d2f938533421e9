"""Vectors, chains and pins: who is called, in which order, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import BugCheck
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.interrupt import SPURIOUS_LIMIT, Interrupt, InterruptMode
from hilbridge.model.codes import DIRQL_LOWEST, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_MODEM, CAUSE_RX, CAUSE_TX
from tests.kernel.interruptkit import LATCHED, LEVEL, Rig, no, yes
from tests.support import System, Thread, bug_check, raises, wait

# -- chains --------------------------------------------------------------------------------------------------------------


def test_a_level_chain_is_called_in_the_order_of_connection_and_stops_at_the_first_claim() -> None:
    rig = Rig()
    rig.connect("a", no)
    rig.connect("b", yes)
    rig.connect("c", yes)
    assert rig.fire(rig.pin()) == ["a", "b"]


def test_a_level_chain_runs_again_while_the_line_is_asserted() -> None:
    rig = Rig()
    left = [3]

    def quiet_one() -> bool:
        left[0] -= 1
        return True

    rig.connect("a", no)
    rig.connect("b", quiet_one)
    assert rig.fire(rig.pin(lambda: left[0] > 0)) == ["a", "b"] * 3


def test_a_latched_chain_is_called_to_its_end_until_a_full_pass_finds_nobody() -> None:
    rig = Rig()
    wants = {"a": 1, "b": 2, "c": 0}

    def edge(name: str) -> Callable[[], bool]:
        def isr() -> bool:
            wants[name] -= 1
            return wants[name] >= 0

        return isr

    for name in wants:
        rig.connect(name, edge(name), mode=LATCHED)
    # Pass 1: a and b claim. Pass 2: b claims. Pass 3: nobody.
    assert rig.fire(rig.pin()) == ["a", "b", "c"] * 3


def test_a_latched_line_is_not_looked_at_again() -> None:
    rig = Rig()
    rig.connect("a", no, mode=LATCHED)
    assert rig.fire(rig.pin(yes)) == ["a"]


def test_the_context_and_the_interrupt_reach_the_routine() -> None:
    rig = Rig()
    seen: list[Any] = []

    def isr(interrupt: Interrupt, context: Any) -> bool:
        seen.append((interrupt, context, rig.ke.irql))
        return True

    interrupt = Interrupt(rig.vector, rig.device("a"), isr, {"my": "context"}, LEVEL, True)
    rig.ke.connect_to_vector(interrupt)
    rig.fire(rig.pin())
    assert seen == [(interrupt, {"my": "context"}, DIRQL_LOWEST)]


@pytest.mark.parametrize("irql", [3, 7, 12])
def test_the_routine_runs_at_the_vectors_irql_and_dpcs_after_it(irql: int) -> None:
    rig = Rig(irql)
    story: list[Any] = []
    dpc = Kdpc(lambda *_: story.append(("dpc", rig.ke.irql)))

    def isr() -> bool:
        story.append(("isr", rig.ke.irql))
        rig.ke.insert_queue_dpc(dpc)
        return True

    rig.connect("a", isr)
    rig.fire(rig.pin())
    assert story == [("isr", irql), ("dpc", DISPATCH_LEVEL)]
    assert rig.ke.irql == PASSIVE_LEVEL


def test_dpcs_wait_until_the_whole_chain_has_been_called() -> None:
    rig = Rig()
    dpc = Kdpc(lambda *_: rig.calls.append("dpc"))
    rig.connect("a", lambda: rig.ke.insert_queue_dpc(dpc) and False)
    rig.connect("b", yes)
    assert rig.fire(rig.pin()) == ["a", "b", "dpc"]


@pytest.mark.parametrize("irql", [2, 13, 0])
def test_a_device_interrupts_at_dirql(irql: int) -> None:
    with bug_check(0xC8, irql):
        System().ke.vector(9, irql)


def test_vectors_are_found_by_number_and_new_ones_get_a_free_one() -> None:
    ke = System().ke
    assert ke.vector(5) is ke.vector(5)
    first, second = ke.vector(), ke.vector()
    assert first.number == 0x30 and second.number == 0x31


def test_a_vector_is_free_again_when_its_last_line_is_taken_off() -> None:
    rig = Rig()
    one, two = rig.pin(), rig.pin()
    rig.ke.remove_pin(one)
    assert one.closed and not two.closed, "its descriptor may be closed now"
    assert rig.ke.vector(5) is rig.vector
    rig.ke.remove_pin(two)
    assert rig.ke.vector(5) is not rig.vector


# -- sharing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        ((LEVEL, True), (LEVEL, True), True),
        ((LATCHED, True), (LATCHED, True), True),
        ((LEVEL, False), (LEVEL, True), False),
        ((LEVEL, True), (LEVEL, False), False),
        ((LEVEL, False), (LEVEL, False), False),
        ((LEVEL, True), (LATCHED, True), False),
        ((LATCHED, True), (LEVEL, True), False),
    ],
)
def test_who_may_join_a_chain(
    first: tuple[InterruptMode, bool], second: tuple[InterruptMode, bool], fits: bool
) -> None:
    rig = Rig()
    device = rig.device("a")
    assert rig.ke.connect_to_vector(Interrupt(rig.vector, device, lambda *_: True, None, *first))
    assert rig.ke.connect_to_vector(Interrupt(rig.vector, device, lambda *_: True, None, *second)) is fits
    assert len(rig.vector.chain) == 1 + fits


def test_a_routine_that_is_disconnected_is_not_called_and_its_place_closes() -> None:
    rig = Rig()
    rig.connect("a", no)
    middle = rig.connect("b", yes)
    rig.connect("c", yes)
    pin = rig.pin()
    rig.vector.disconnect(middle)
    assert rig.fire(pin) == ["a", "c"]
    rig.vector.disconnect(middle)
    assert rig.fire(pin) == ["a", "c"]


@pytest.mark.parametrize("mode", [LEVEL, LATCHED])
def test_a_routine_that_is_disconnected_while_the_chain_is_being_walked_is_not_called(mode: InterruptMode) -> None:
    rig = Rig()

    def isr() -> bool:
        rig.vector.disconnect(second)
        return False

    rig.connect("a", isr, mode=mode)
    second = rig.connect("b", yes, mode=mode)
    assert rig.fire(rig.pin()) == ["a"]
    assert second.connected is False and not rig.ke.faults


def test_waiting_until_a_routine_is_idle_outlasts_its_present_run() -> None:
    rig = Rig()
    inside, go_on = threading.Event(), threading.Event()
    story: list[str] = []

    def isr(_interrupt: Interrupt, _context: Any) -> bool:
        inside.set()
        wait(go_on)
        story.append("isr ends")
        return True

    interrupt = Interrupt(rig.vector, rig.device("a"), isr, None, LEVEL, True)
    rig.ke.connect_to_vector(interrupt)
    runs = Thread(interrupt.serve)
    wait(inside)

    def disconnect() -> None:
        interrupt.wait_idle()
        story.append("idle")

    waits = Thread(disconnect)
    go_on.set()
    runs.finish()
    waits.finish()
    assert story == ["isr ends", "idle"]


# -- synchronizing with the routine ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 2, None, "anything"])
def test_synchronizing_returns_the_routines_own_value(value: object) -> None:
    rig = Rig(7)
    interrupt = rig.connect("a", yes)
    seen: list[int] = []

    def routine() -> object:
        seen.append(rig.ke.irql)
        return value

    assert interrupt.synchronize(routine) == value
    assert seen == [7] and rig.ke.irql == PASSIVE_LEVEL


def test_while_a_synchronized_routine_runs_the_service_routine_does_not() -> None:
    rig = Rig()
    story: list[str] = []

    def isr(*_: Any) -> bool:
        story.append("isr")
        return True

    interrupt = Interrupt(rig.vector, rig.device("a"), isr, None, LEVEL, True)
    rig.ke.connect_to_vector(interrupt)
    inside, go_on = threading.Event(), threading.Event()

    def routine() -> None:
        inside.set()
        wait(go_on)
        story.append("synchronized")

    holder = Thread(lambda: interrupt.synchronize(routine))
    wait(inside)
    server = Thread(interrupt.serve)
    go_on.set()
    holder.finish()
    assert server.finish() is True
    assert story == ["synchronized", "isr"]


def test_a_synchronized_routine_that_raises_restores_irql_and_lets_the_service_routine_run() -> None:
    rig = Rig()
    interrupt = rig.connect("a", yes)
    with pytest.raises(KeyError):
        interrupt.synchronize(raises(KeyError()))
    assert rig.ke.irql == PASSIVE_LEVEL
    assert rig.fire(rig.pin()) == ["a"]


@pytest.mark.parametrize("swallow", [True, False])
def test_a_service_routine_that_synchronizes_with_itself_is_told_instead_of_hanging(swallow: bool) -> None:
    rig = Rig()

    def isr() -> bool:
        try:
            interrupt.synchronize(lambda: None)
        except BugCheck:
            if not swallow:
                raise
        return True

    interrupt = rig.connect("dev", isr)
    rig.fire(rig.pin())
    fault = rig.only_fault
    assert isinstance(fault, BugCheck) and fault.code == 0xF and fault.parameters == (interrupt,)
    assert fault.driver == "dev" and "test_interrupt.py" in str(fault.place)
    assert interrupt.device.device_stack.fault is fault
    assert rig.ke.irql == PASSIVE_LEVEL


def test_a_synchronized_routine_that_synchronizes_again_is_told_too() -> None:
    rig = Rig()
    interrupt = rig.connect("dev", yes)
    other = Interrupt(rig.vector, interrupt.device, yes, None, LEVEL, True, synchronize_with=interrupt)  # type: ignore[arg-type]
    with bug_check(0xF, other):
        interrupt.synchronize(lambda: other.synchronize(lambda: None))
    assert interrupt.synchronize(lambda: "free again") == "free again"
    assert rig.ke.irql == PASSIVE_LEVEL


def test_who_synchronizes_on_another_thread_waits_as_ever() -> None:
    rig = Rig()
    interrupt = rig.connect("dev", yes)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        wait(leave)

    holder = Thread(lambda: interrupt.synchronize(hold))
    wait(inside)
    second = Thread(lambda: interrupt.synchronize(lambda: "mine"))
    second.join(0.05)
    assert second.is_alive()
    leave.set()
    holder.finish()
    assert second.finish() == "mine" and rig.ke.faults == []


def test_synchronizing_from_above_the_interrupts_irql_is_bug_check_9() -> None:
    rig = Rig()
    interrupt = rig.connect("dev", yes)
    with rig.ke.raised_irql(HIGH_LEVEL), bug_check(0x9, HIGH_LEVEL, rig.vector.irql):
        interrupt.synchronize(lambda: None)


def test_dpcs_queued_by_a_synchronized_routine_run_when_it_is_over() -> None:
    rig = Rig()
    story: list[str] = []
    dpc = Kdpc(lambda *_: story.append("dpc"))
    rig.connect("a", yes).synchronize(lambda: story.append("routine") if rig.ke.insert_queue_dpc(dpc) else None)
    assert story == ["routine", "dpc"]


def test_dpcs_of_a_caller_at_dispatch_level_wait_until_he_comes_down() -> None:
    rig = Rig()
    story: list[str] = []
    dpc = Kdpc(lambda *_: story.append("dpc"))
    interrupt = rig.connect("a", lambda: rig.ke.insert_queue_dpc(dpc))
    pin = rig.pin()
    with rig.ke.raised_irql(DISPATCH_LEVEL):
        interrupt.synchronize(lambda: rig.ke.insert_queue_dpc(dpc))
        assert story == [] and rig.ke.irql == DISPATCH_LEVEL
    assert story == ["dpc"]
    with rig.ke.raised_irql(DISPATCH_LEVEL):
        rig.vector.dispatch(pin)
        assert story == ["dpc"] and rig.ke.irql == DISPATCH_LEVEL
    assert story == ["dpc", "dpc"]


# -- pins ----------------------------------------------------------------------------------------------------------------


def test_a_pin_tells_the_causes_it_has_seen_once_and_only_the_enabled_ones() -> None:
    rig = Rig()
    pin = rig.pin()
    pin.enable(CAUSE_RX | CAUSE_MODEM)
    pin.saw(CAUSE_RX | CAUSE_TX)
    assert pin.take() == CAUSE_RX
    assert pin.take() == 0
    pin.enable(0)
    pin.saw(CAUSE_RX | CAUSE_GONE)
    assert pin.take() == CAUSE_GONE, "that the device has gone cannot be masked"


def test_a_cause_that_is_not_enabled_does_not_interrupt() -> None:
    rig = Rig()
    rig.connect("a", yes)
    pin = rig.pin()
    pin.enable(CAUSE_TX)
    assert rig.fire(pin) == []
    pin.raise_line(CAUSE_GONE)
    rig.machine.run_until_idle()
    assert rig.calls == ["a"]


def test_a_line_that_is_asserted_interrupts_as_soon_as_it_may() -> None:
    rig = Rig()
    asserted = [True]

    def isr() -> bool:
        mine, asserted[0] = asserted[0], False
        return mine

    rig.connect("a", isr)
    pin = rig.pin(lambda: asserted[0])
    pin.enable(0)
    pin.enable(CAUSE_RX)
    rig.machine.run_until_idle()
    assert rig.calls and asserted == [False]


def test_what_a_driver_enables_for_itself_is_not_replaced_by_what_was_masked_before() -> None:
    rig = Rig()
    pin = rig.pin()
    pin.raise_line(CAUSE_RX)
    rig.machine.run_until_idle()
    assert (pin.enabled, pin.masked) == (0, CAUSE_RX)
    pin.enable(CAUSE_TX)
    rig.connect("a", yes)
    assert (pin.enabled, pin.masked) == (CAUSE_TX, 0)


def test_what_was_raised_before_anybody_was_connected_is_delivered_on_connection() -> None:
    rig = Rig()
    pin = rig.pin()
    pin.raise_line(CAUSE_GONE)
    rig.machine.run_until_idle()
    causes: list[int] = []
    rig.connect("a", lambda: causes.append(pin.take()) or True)  # type: ignore[func-returns-value]
    rig.machine.run_until_idle()
    assert causes == [CAUSE_GONE]
    assert not rig.ke.faults


def test_a_line_that_nobody_serves_is_masked_until_somebody_connects() -> None:
    rig = Rig()
    asserted = [True]
    pin = rig.pin(lambda: asserted[0])
    for _ in range(SPURIOUS_LIMIT + 10):
        pin.raise_line(CAUSE_RX)
        rig.machine.run_until_idle()
    assert not rig.ke.faults and not rig.vector.dead, "nobody is to blame"
    assert pin.enabled == 0

    def isr() -> bool:
        mine, asserted[0] = asserted[0], False
        return mine

    rig.connect("a", isr)
    rig.machine.run_until_idle()
    assert set(rig.calls) == {"a"} and asserted == [False]
    assert pin.enabled == CAUSE_RX
