"""Vectors, chains and pins: who is called, in which order, how often; and what happens to a line that nobody quiets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import BugCheck, DriverFault, HilbridgeError
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.interrupt import SPURIOUS_LIMIT, STORM_LIMIT, Interrupt, InterruptMode, Pin, Vector
from hilbridge.model.codes import DIRQL_LOWEST, DISPATCH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_MODEM, CAUSE_RX, CAUSE_TX
from tests.support import System, Thread, TinyDriver, bug_check, raises, wait

LEVEL, LATCHED = InterruptMode.LEVEL_SENSITIVE, InterruptMode.LATCHED


class Rig:
    """One vector, and devices on it that are level-sensitive lines with a counter of what they want to be asked for."""

    def __init__(self, irql: int = DIRQL_LOWEST) -> None:
        self.system = System()
        self.ke, self.machine = self.system.ke, self.system.machine
        self.vector = self.ke.vector(5, irql)
        self.calls: list[str] = []
        self.failed: list[DeviceObject[Any] | None] = []
        self.ke.on_fault = lambda device, _fault: self.failed.append(device)

    def device(self, name: str) -> DeviceObject[Any]:
        return self.system.stack(TinyDriver(name))

    def pin(self, level: Callable[[], bool] = lambda: False, vector: Vector | None = None) -> Pin:
        pin = self.ke.add_pin(vector or self.vector, -1, level)
        self.machine.add_pin(pin)
        pin.enabled = CAUSE_RX  # not through enable(): a line that is asserted would interrupt at once
        return pin

    def connect(
        self,
        name: str,
        isr: Callable[..., Any],
        *,
        mode: InterruptMode = LEVEL,
        share: bool = True,
        vector: Vector | None = None,
    ) -> Interrupt:
        def called(interrupt: Interrupt, context: Any) -> Any:
            self.calls.append(name)
            return isr()

        interrupt = Interrupt(vector or self.vector, self.device(name), called, name, mode, share)
        assert self.ke.connect_to_vector(interrupt)
        return interrupt

    def fire(self, pin: Pin) -> list[str]:
        """Assert the line and turn the crank; returns who was called."""
        self.calls.clear()
        pin.raise_line(CAUSE_RX)
        self.machine.run_until_idle()
        return list(self.calls)

    @property
    def only_fault(self) -> HilbridgeError:
        (fault,) = self.ke.faults
        return fault


def yes() -> bool:
    return True


def no() -> bool:
    return False


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


# -- lines that nobody quiets ----------------------------------------------------------------------------------------------


def test_a_line_that_its_routine_does_not_quiet_is_a_storm_and_takes_the_vector_out_of_service() -> None:
    rig = Rig()
    stormy = rig.connect("stormy", yes)
    pin = rig.pin(yes)
    calls = rig.fire(pin)
    assert len(calls) == STORM_LIMIT
    assert rig.vector.dead and pin.closed
    fault = rig.only_fault
    assert isinstance(fault, BugCheck) and fault.code == 0xF2
    assert fault.parameters == (rig.vector, stormy.device)
    assert "does not quiet" in str(fault) and "out of service" in str(fault)
    assert stormy.device.device_stack.fault is fault and rig.failed == [stormy.device]
    assert rig.fire(pin) == [], "no more interrupts"
    assert rig.ke.irql == PASSIVE_LEVEL


def test_a_latched_routine_that_always_claims_is_a_storm_too() -> None:
    rig = Rig()
    rig.connect("stormy", yes, mode=LATCHED)
    rig.fire(rig.pin())
    assert rig.vector.dead and getattr(rig.only_fault, "code", None) == 0xF2


def test_one_dispatch_less_than_the_limit_is_no_storm() -> None:
    rig = Rig()
    left = [STORM_LIMIT - 1]

    def isr() -> bool:
        left[0] -= 1
        return True

    rig.connect("busy", isr)
    rig.fire(rig.pin(lambda: left[0] > 0))
    assert left == [0] and not rig.vector.dead and not rig.ke.faults


def test_a_line_that_nobody_claims_takes_the_vector_out_of_service_after_the_limit() -> None:
    rig = Rig()
    a, b = rig.connect("a", no), rig.connect("b", no)
    calls = rig.fire(rig.pin(yes))
    assert len(calls) == 2 * SPURIOUS_LIMIT
    fault = rig.only_fault
    assert getattr(fault, "code", None) == 0xF2 and "claims" in str(fault)
    assert rig.vector.dead
    assert a.device.device_stack.fault is fault and b.device.device_stack.fault is fault


def test_every_device_on_a_dead_vector_is_told_so_that_its_requests_end() -> None:
    rig = Rig()
    a, b = rig.connect("a", yes), rig.connect("b", no)
    rig.fire(rig.pin(yes))
    assert rig.failed == [a.device, b.device]


def test_single_interrupts_that_nobody_claims_count_only_in_a_row() -> None:
    rig = Rig()
    answers = iter(([False] * (SPURIOUS_LIMIT - 1) + [True]) * 3 + [False])
    rig.connect("a", lambda: next(answers))
    pin = rig.pin()
    for _ in range(3 * SPURIOUS_LIMIT):
        rig.fire(pin)
    assert not rig.vector.dead
    rig.fire(pin)
    assert not rig.vector.dead


def test_a_busy_neighbour_does_not_hide_a_line_that_nobody_claims() -> None:
    rig = Rig()
    current: list[str] = []
    rig.connect("good", lambda: current == ["good"])
    good, bad = rig.pin(), rig.pin()
    for _ in range(SPURIOUS_LIMIT):
        current[:] = ["good"]
        rig.fire(good)
        current[:] = ["bad"]
        rig.fire(bad)
    assert rig.vector.dead


def test_nobody_joins_a_vector_that_is_out_of_service() -> None:
    rig = Rig()
    rig.connect("stormy", yes)
    rig.fire(rig.pin(yes))
    late = Interrupt(rig.vector, rig.device("late"), lambda *_: True, None, LEVEL, True)
    assert rig.ke.connect_to_vector(late) is False


def test_other_vectors_go_on() -> None:
    rig = Rig()
    other = rig.ke.vector(6)
    rig.connect("stormy", yes)
    rig.connect("calm", yes, vector=other)
    calm = rig.pin(vector=other)
    rig.fire(rig.pin(yes))
    assert rig.vector.dead and not other.dead
    assert rig.fire(calm) == ["calm"]


# -- routines that break the rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 0, 1, "yes"])
def test_a_routine_answers_true_or_false_and_nothing_else(answer: object) -> None:
    rig = Rig()
    bad = rig.connect("bad", lambda: answer)
    rig.fire(rig.pin())
    fault = rig.only_fault
    assert isinstance(fault, DriverFault) and f"returned {answer!r}" in str(fault)
    assert bad.device.device_stack.fault is fault


def test_a_routine_that_raises_is_latched_disconnected_and_irql_is_restored() -> None:
    rig = Rig()
    boom = KeyError("boom")
    bad = rig.connect("bad", raises(boom))
    pin = rig.pin()
    assert rig.fire(pin) == ["bad"]
    fault = rig.only_fault
    assert isinstance(fault, DriverFault) and fault.__cause__ is boom
    assert "interrupt service routine" in str(fault)
    assert bad.device.device_stack.fault is fault and rig.failed == [bad.device]
    assert rig.ke.irql == PASSIVE_LEVEL
    assert rig.vector.chain == ()
    assert rig.fire(pin) == []


def test_a_routine_that_returns_at_another_irql_is_bug_check_c4_111() -> None:
    rig = Rig()

    def isr() -> bool:
        rig.ke.current().irql += 1
        return True

    rig.connect("bad", isr)
    rig.fire(rig.pin())
    fault = rig.only_fault
    assert isinstance(fault, BugCheck) and (fault.code, fault.parameters[0]) == (0xC4, 0x111)
    assert rig.ke.irql == PASSIVE_LEVEL


def test_the_rest_of_the_chain_runs_at_the_right_irql_whatever_one_routine_left_behind() -> None:
    rig = Rig()
    seen: list[int] = []

    def leaks() -> bool:
        rig.ke.current().irql += 5
        raise KeyError

    rig.connect("leaks", leaks, mode=LATCHED)

    def looks() -> bool:
        seen.append(rig.ke.irql)
        return False

    rig.connect("next", looks, mode=LATCHED)
    rig.fire(rig.pin())
    assert set(seen) == {DIRQL_LOWEST}


def test_when_one_driver_of_a_shared_vector_fails_the_others_keep_it() -> None:
    # The failed driver's device still asserts its line, and nobody claims that: the others must not be blamed for it.
    rig = Rig()
    data = [0]

    def good() -> bool:
        mine, data[0] = data[0] > 0, 0
        return mine

    bad = rig.connect("bad", raises(KeyError()))
    neighbour = rig.connect("good", good)
    bad_pin, good_pin = rig.pin(yes), rig.pin(lambda: data[0] > 0)
    rig.fire(bad_pin)
    assert [type(fault.__cause__) for fault in rig.ke.faults] == [KeyError], rig.ke.faults
    assert rig.failed == [bad.device]
    assert neighbour.device.device_stack.fault is None and not rig.vector.dead
    data[0] = 1
    assert rig.fire(good_pin) == ["good"] and data == [0]
    assert bad_pin.closed and not good_pin.closed


def test_a_driver_that_failed_elsewhere_is_not_asked_any_more() -> None:
    rig = Rig()
    broken = rig.connect("broken", yes)
    rig.connect("good", yes)
    rig.ke.latch_fault(broken.device, KeyError("in its dispatch routine"), "a test")
    assert rig.fire(rig.pin()) == ["good"]


def test_a_fault_is_latched_once_however_often_it_is_reported() -> None:
    rig = Rig()
    device = rig.device("a")
    fault = rig.ke.latch_fault(device, KeyError("x"), "here")
    assert rig.ke.latch_fault(device, fault, "there") is fault
    assert rig.ke.faults == [fault] and rig.failed == [device]


def test_the_first_fault_of_a_stack_is_the_one_that_stays() -> None:
    rig = Rig()
    device = rig.device("a")
    first = rig.ke.latch_fault(device, KeyError("first"), "here")
    rig.ke.latch_fault(device, KeyError("second"), "here")
    assert device.device_stack.fault is first
    assert len(rig.ke.faults) == 2
