"""Lines that nobody quiets, and service routines that break the rules."""

from __future__ import annotations

import pytest

from hilbridge import BugCheck, DriverFault
from hilbridge.kernel.interrupt import SPURIOUS_LIMIT, STORM_LIMIT, Interrupt
from hilbridge.model.codes import DIRQL_LOWEST, PASSIVE_LEVEL
from tests.kernel.interruptkit import LATCHED, LEVEL, Rig, no, yes
from tests.support import raises

# -- lines that nobody quiets ----------------------------------------------------------------------------------------------


def test_a_line_that_its_routine_does_not_quiet_is_a_storm_and_takes_the_vector_out_of_service() -> None:
    rig = Rig()
    stormy = rig.connect("stormy", yes)
    pin = rig.pin(yes)
    calls = rig.fire(pin)
    assert len(calls) == STORM_LIMIT
    assert rig.vector.dead and pin.hung
    fault = rig.only_fault
    assert isinstance(fault, BugCheck) and fault.code == 0xF2
    assert fault.parameters == (stormy.isr, stormy.context, stormy, 1), "as documented: 1 is a vector of its own"
    assert fault.driver == "stormy" and "interruptkit.py:" in str(fault.place)
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
    assert bad_pin.hung and not good_pin.hung


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
