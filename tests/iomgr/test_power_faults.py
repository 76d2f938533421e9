"""Drivers that do wrong with power requests: each mistake has its name and its driver, and every request its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck
from hilbridge.iomgr import powersend
from hilbridge.model.codes import DISPATCH_LEVEL, PnpMinor, SystemPowerState
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceFault, DriverFault
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_BUSY,
    STATUS_DEVICE_POWER_FAILURE,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.iomgr.powerkit import D0, D1, D3, POWER, QUERY, SET, PowerSystem
from tests.kernel.hangkit import Hang
from tests.support import (
    Dispatch,
    Extension,
    Thread,
    TinyDriver,
    bug_check,
    complete,
    hold,
    now,
    pass_down,
    plug,
    raises,
    wait,
)

S3 = SystemPowerState.SLEEPING3


def fails(status: NtStatus, name: str = "top") -> TinyDriver:
    return TinyDriver(name, {POWER: lambda device, irp: complete(device, irp, status)})


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_a_query_may_be_refused_and_the_answer_says_by_whom() -> None:
    system = PowerSystem(TinyDriver("lower"), fails(STATUS_DEVICE_BUSY), TinyDriver("upper"))
    answer = system.io.ask_power(system.pdo, QUERY, D3)
    assert answer.status == STATUS_DEVICE_BUSY
    assert answer.refused_by is not None and answer.refused_by.driver_object.name == "top"
    assert answer.why() == "driver top answered STATUS_DEVICE_BUSY"
    assert system.bus.log == [] and not system.ke.faults


def test_a_refusal_with_words() -> None:
    def busy(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        device.io.write_error_log_entry(irp, DeviceFault("a measurement is running"))
        return complete(device, irp, STATUS_DEVICE_BUSY)

    system = PowerSystem(TinyDriver("top", {POWER: busy}))
    assert system.io.ask_power(system.pdo, QUERY, D3).why() == "driver top: a measurement is running"


def test_a_request_that_no_driver_knows_was_refused_by_none() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.status = STATUS_NOT_SUPPORTED
    for minor in (QUERY, SET):
        answer = system.io.ask_power(system.pdo, minor, D3)
        assert answer == (STATUS_NOT_SUPPORTED, None, None)
    assert system.pdo.power_state is D0 and not system.ke.faults


# -- SET_POWER may not fail ----------------------------------------------------------------------------------------------


def failing_on_the_way_up(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    def came_back(_device: DeviceObject[Any] | None, irp: Irp, _context: Any) -> NtStatus:
        irp.io_status.status = STATUS_DEVICE_POWER_FAILURE
        return STATUS_SUCCESS

    irp.copy_current_stack_location_to_next()
    irp.set_completion_routine(came_back)
    device.io.call_driver(device.extension.lower, irp)
    return STATUS_DEVICE_POWER_FAILURE


def copying_what_it_sees(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Sets the status that is there already, as many drivers do."""

    def came_back(_device: DeviceObject[Any] | None, irp: Irp, _context: Any) -> NtStatus:
        irp.io_status.status = NtStatus(irp.io_status.status)
        return STATUS_SUCCESS

    irp.copy_current_stack_location_to_next()
    irp.set_completion_routine(came_back)
    return device.io.call_driver(device.extension.lower, irp)


@pytest.mark.parametrize("routine", [failing_on_the_way_up, fails(STATUS_DEVICE_POWER_FAILURE).dispatch[POWER]])
def test_a_set_power_that_fails_is_the_fault_of_who_has_failed_it(routine: Dispatch) -> None:
    system = PowerSystem(
        TinyDriver("lower"), TinyDriver("guilty", {POWER: routine}), TinyDriver("upper", {POWER: copying_what_it_sees})
    )
    with bug_check(0xC9, 0x247) as caught:
        system.io.send_power(system.pdo, SET, D3)
    assert caught.value.driver == "guilty"
    assert "guilty" in str(caught.value) and "IRP_MN_SET_POWER (D3)" in str(caught.value)
    assert system.pdo.device_stack.fault is not None and system.pdo.power_state is D0


def test_a_bus_driver_that_fails_a_set_power_is_found_as_well() -> None:
    system = PowerSystem(TinyDriver("top", {POWER: copying_what_it_sees}))
    system.bus.status = STATUS_DEVICE_POWER_FAILURE
    with bug_check(0xC9, 0x247) as caught:
        system.io.send_power(system.pdo, SET, D3)
    assert caught.value.driver == "powerbus"


def test_a_set_power_that_a_driver_has_asked_for_may_not_fail_either() -> None:
    system = PowerSystem(fails(STATUS_DEVICE_POWER_FAILURE))
    assert system.ask(SET, D0) == STATUS_PENDING
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and fault.code == 0xC9 and fault.driver == "top"
    assert system.done == []  # drivers of a stack that has failed are not called


def test_a_driver_whose_device_goes_may_fail_it() -> None:
    system = PowerSystem(fails(STATUS_DELETE_PENDING))
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_DELETE_PENDING
    assert not system.ke.faults


# -- who does not let go -------------------------------------------------------------------------------------------------


def test_a_driver_that_keeps_the_irp_is_named() -> None:
    system = PowerSystem(TinyDriver("lower"), TinyDriver("keeps", {POWER: hold}), TinyDriver("upper"))
    with bug_check(0x9F, 3, system.pdo) as caught:
        system.io.send_power(system.pdo, SET, D3)
    assert caught.value.driver == "keeps" and caught.value.irp_id is not None
    assert "has had IRP_MN_SET_POWER (D3) for 60 s" in str(caught.value)
    assert system.clock.now() == 60_000_000_000


def test_the_time_is_up_also_if_nobody_waits() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(QUERY, D3)
    system.machine.advance(59.9)
    assert not system.ke.faults
    system.machine.advance(0.1)
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and fault.parameters[:2] == (3, system.pdo) and fault.driver == "powerbus"


def test_each_request_has_time_of_its_own() -> None:
    """Three that take 40 seconds each: none of them is late."""
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    for _ in range(3):
        system.ask(SET, D3)
    for _ in range(3):
        system.machine.advance(40)
        system.bus.let_go()
    assert len(system.done) == 3 and not system.ke.faults
    assert len(system.ke.timers) == 0


def test_who_waits_in_line_hears_of_the_one_that_is_out() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(SET, D3)
    with bug_check(0x9F, 3) as caught:
        system.io.send_power(system.pdo, SET, D0)
    assert caught.value.driver == "powerbus" and system.bus.log == ["SET D3"]


def test_a_request_for_the_system_waits_for_the_devices_and_blames_who_has_that() -> None:
    """The policy owner has the one, and waits for the other, which a driver below it keeps."""

    def owner(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if isinstance(irp.current_stack_location.parameters.power.state, SystemPowerState):
            irp.mark_pending()
            device.po.request_power_irp(device, SET, D3)
            return STATUS_PENDING
        return pass_down(device, irp)

    system = PowerSystem(TinyDriver("keeps"), TinyDriver("owner", {POWER: owner}))
    system.pdo.top.lower_device.driver_object.major_function[POWER] = hold  # type: ignore[union-attr]
    with bug_check(0x9F, 3) as caught:
        system.io.send_power(system.pdo, SET, S3)
    assert caught.value.driver == "keeps"


def test_who_waits_inside_its_dispatch_routine_is_not_blamed_as_well() -> None:
    """It must not wait there; but the one who keeps the IRP is another. The end of the wait is no second fault."""

    def waits(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        return complete(device, irp, device.io.forward_and_wait(device.extension.lower, irp))

    system = PowerSystem(TinyDriver("waits", {POWER: waits}))
    system.bus.holds = True
    with bug_check(0x9F, 3) as caught:
        system.io.send_power(system.pdo, SET, D3)
    assert caught.value.driver == "powerbus" and len(system.ke.faults) == 1


def test_the_timer_is_nobodys() -> None:
    """A driver that asks, and is unloaded before the end, has not left a timer of its own behind."""
    system = PowerSystem(asks_when_read(lambda *_: None, []), start=False)
    system.bus.holds = True
    system.io.send_pnp(system.pdo, PnpMinor.START_DEVICE)
    (timer,) = system.ke.timers.running()
    assert timer.dpc is not None and timer.dpc.device is None


def test_what_comes_after_its_time_changes_nothing() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(SET, D3)
    (irp,) = system.bus.held
    system.machine.advance(60)
    assert irp.state == now(IrpState.PENDING)
    system.bus.let_go()
    assert irp.state == IrpState.FREED
    assert len(system.ke.faults) == 1 and system.pdo.power_state is D0 and system.done == []


def test_a_request_ends_while_its_time_is_up() -> None:
    """Once, by one of the two."""
    outcomes: set[tuple[int, int]] = set()

    def build() -> Race:
        system = PowerSystem()
        system.bus.holds = True
        system.ask(SET, D3)

        def check() -> None:
            outcomes.add((len(system.done), len(system.ke.faults)))
            assert len(system.ke.timers) == 0
            assert system.pdo.device_stack.power is not None and system.pdo.device_stack.power.sent() == []

        return Race({"late": lambda: system.machine.advance(60), "done": system.bus.let_go}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=("hilbridge.iomgr.powersend",))
    assert outcomes == {(1, 0), (0, 1)}


# -- dispatch routines ---------------------------------------------------------------------------------------------------


def raises_irql(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    device.ke.current().irql = DISPATCH_LEVEL
    return complete(device, irp)


def completes_and_raises(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    complete(device, irp)
    raise RuntimeError("afterwards")


@pytest.mark.parametrize(
    ("routine", "what"),
    [
        (raises(RuntimeError("no power")), "RuntimeError: no power"),
        (completes_and_raises, "RuntimeError: afterwards"),
        (lambda _device, _irp: None, "returned None for IRP_MN_SET_POWER"),
        (lambda _device, _irp: STATUS_SUCCESS, "returned STATUS_SUCCESS .* without completing it"),
        (raises_irql, "IRQL leak"),
    ],
)
def test_a_dispatch_routine_that_does_wrong(routine: Callable[..., Any], what: str) -> None:
    system = PowerSystem(TinyDriver("lower"), TinyDriver("guilty", {POWER: routine}), TinyDriver("upper"))
    with pytest.raises(DriverFault, match=what) as caught:
        system.io.send_power(system.pdo, SET, D3)
    assert caught.value.driver == "guilty"
    assert system.ke.irql == 0 and len(system.ke.timers) == 0
    with pytest.raises(DriverFault):
        system.io.send_power(system.pdo, SET, D3)
    assert system.io.request_power_irp(system.pdo, SET, D3) == STATUS_DRIVER_PROCESS_TERMINATED
    assert len(system.ke.faults) == 1


def test_a_completion_routine_that_never_lets_go() -> None:
    def keeps(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(lambda *_: STATUS_MORE_PROCESSING_REQUIRED)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    system = PowerSystem(TinyDriver("keeps", {POWER: keeps}), TinyDriver("upper"))
    with bug_check(0x9F, 3) as caught:
        system.io.send_power(system.pdo, SET, D1)
    assert caught.value.driver == "keeps"


# -- callbacks -----------------------------------------------------------------------------------------------------------


def asks_when_read(callback: Callable[..., Any], target: list[Any]) -> TinyDriver:
    """A driver that asks for power of `target`, or of its PDO, in its START."""

    def on_start(device: DeviceObject[Extension], _resources: Any) -> None:
        device.po.request_power_irp(target[0] if target else device.bottom, SET, D3, callback)

    return TinyDriver("asks", on_start=on_start)


def test_a_callback_that_raises_is_its_drivers_fault_not_the_pdos() -> None:
    system = PowerSystem(asks_when_read(raises(RuntimeError("told too much")), []), start=False)
    system.io.send_pnp(system.pdo, PnpMinor.START_DEVICE)
    (fault,) = system.ke.faults
    assert isinstance(fault, DriverFault) and fault.driver == "asks"
    assert "RuntimeError: told too much in its power completion routine" in str(fault)
    assert len(system.ke.timers) == 0


def test_a_stack_that_fails_tells_who_has_asked_from_another_one() -> None:
    """By a worker at PASSIVE_LEVEL: a stack fails at any level, under any lock of its drivers."""
    told: list[Any] = []
    target: list[Any] = []
    system = PowerSystem(TinyDriver("victim"))
    system.bus.holds = True
    target.append(system.pdo)
    other = system.stack_on_bus(asks_when_read(lambda *a: told.append((a[4].status, a[0].ke.irql)), target))
    assert system.bus.log == ["SET D3"]
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.io.fault(system.pdo.top, RuntimeError("broken"), "a test")
        assert told == []
    system.machine.run_until_idle()
    assert told == [(STATUS_DRIVER_PROCESS_TERMINATED, 0)]
    system.bus.let_go()  # too late, and harmless
    assert len(told) == 1 and other.device_stack.fault is None


def test_who_has_failed_is_not_called_back() -> None:
    told: list[Any] = []
    target: list[Any] = []
    system = PowerSystem(TinyDriver("victim"))
    system.bus.holds = True
    target.append(system.pdo)
    other = system.stack_on_bus(asks_when_read(told.append, target))
    system.io.fault(other.top, RuntimeError("broken"), "a test")
    system.bus.let_go()
    assert told == []
    assert system.ask(SET, D0) == STATUS_PENDING and system.bus.log == ["SET D3", "SET D0"]


# -- a bridge ------------------------------------------------------------------------------------------------------------


def test_a_device_whose_driver_fails_a_set_power_is_started_again() -> None:
    once = [STATUS_DEVICE_POWER_FAILURE]

    def power(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        return complete(device, irp, once.pop()) if once else pass_down(device, irp)

    with Bridge.manual() as bridge:
        driver = TinyDriver("bad", {POWER: power})
        plug(bridge, driver)
        with bug_check(0xC9, 0x247):
            bridge.io.send_power(driver.device.bottom, SET, D3)
        bridge.machine.run_until_idle()
        assert bridge.io.send_power(driver.device.bottom, SET, D3) == STATUS_SUCCESS
        assert len(bridge.acknowledge_faults()) == 1


def test_a_driver_that_keeps_the_irp_on_a_machine_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own timer tells who waits."""
    monkeypatch.setattr(powersend, "POWER_TIMEOUT", 0.05)
    with Bridge(crash_dumps=False, restarts=0) as bridge:
        driver = TinyDriver("keeps", {POWER: hold})
        plug(bridge, driver)
        with bug_check(0x9F, 3) as caught:
            bridge.io.send_power(driver.device.bottom, SET, D3)
        assert caught.value.driver == "keeps"
        bridge.acknowledge_faults()


@pytest.mark.parametrize("how", ["loop", "call"])
def test_a_dispatch_routine_that_hangs_is_the_watchdogs_to_find(how: str) -> None:
    """The request ends with the stack, for who waits on another thread; the thread that hangs finds its way out."""
    hang = Hang(how)
    with Bridge(crash_dumps=False, restarts=0) as bridge:
        watchdog = bridge.ke.watchdog
        watchdog.stop()  # its thread: here the test looks itself
        driver = TinyDriver("hangs", {POWER: hang})
        plug(bridge, driver)
        pdo = driver.device.bottom
        first = Thread(lambda: bridge.io.send_power(pdo, SET, D3))
        wait(hang.entered)
        second = Thread(lambda: bridge.io.send_power(pdo, SET, D0))  # in line behind it
        watchdog.look(0)
        watchdog.look(2 * bridge.ke.limits.dispatch)
        with bug_check(0xEA) as caught:
            second.finish()
        assert caught.value.driver == "hangs"
        hang.leave.set()
        with bug_check(0xEA):
            first.finish()
        bridge.acknowledge_faults()
