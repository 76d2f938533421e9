"""PoRequestPowerIrp and its kin: the facts of ReactOS' kernel-mode test (kmtests, PoIrp), and what Microsoft documents."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge
from hilbridge.model.codes import (
    DIRQL_LOWEST,
    DISPATCH_LEVEL,
    DO_POWER_PAGABLE,
    PASSIVE_LEVEL,
    DevicePowerState,
    PnpMinor,
    PowerAction,
    PowerMinor,
    PowerStateType,
    SystemPowerState,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault, NtStatusError, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_BUSY,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER_2,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.observe.verifier.options import Verify
from tests.iomgr.powerkit import D0, D1, D2, D3, POWER, QUERY, SET, WAKE, PowerSystem, lets_through
from tests.support import Extension, TinyDriver, bug_check, now, plug


class Seen:
    """Three devices that skip, as in the kernel-mode test, and what each of them and the callback has seen."""

    def __init__(self, minor: PowerMinor, state: Any, **extra: Any) -> None:
        self.irps: list[Irp] = []
        self.dispatches: list[tuple[str, int, int, Any, NtStatus]] = []
        self.calls: list[Any] = []
        self.system = PowerSystem(
            TinyDriver("middle", {POWER: lets_through(self.note)}), TinyDriver("top", {POWER: lets_through(self.note)})
        )
        self.middle = self.system.pdo.attached_device
        assert self.middle is not None
        self.context = object()
        self.status = self.system.io.request_power_irp(self.middle, minor, state, self.callback, self.context, **extra)

    def note(self, device: DeviceObject[Extension], irp: Irp) -> None:
        self.irps.append(irp)
        name = device.driver_object.name
        self.dispatches.append((name, irp.stack_count, irp.current_location, irp.thread, irp.io_status.status))

    def callback(self, *arguments: Any) -> None:
        irp = self.irps[0]
        self.calls.append((irp.current_location, irp.current_stack_location.parameters.others, arguments))


@pytest.mark.parametrize(("minor", "state"), [(SET, D3), (QUERY, D2)])
def test_the_facts_of_the_kernel_mode_test(minor: PowerMinor, state: DevicePowerState) -> None:
    seen = Seen(minor, state)
    assert seen.status == STATUS_PENDING  # also if all is over by then
    # The device that was asked for is the middle one; the IRP comes to the top of its stack, and has two locations more.
    expected = [(name, 5, 3, None, STATUS_NOT_SUPPORTED) for name in ("top", "middle")]
    assert seen.dispatches == expected
    assert seen.system.bus.log == [f"{minor.name.removesuffix('_POWER')} {state.name}"]
    arguments = (seen.middle, minor, state, seen.context)
    ((location, stored, told),) = seen.calls
    assert location == 4 and tuple(stored) == arguments
    assert told[:4] == arguments and told[4] is seen.irps[0].io_status
    assert told[4].status == STATUS_SUCCESS
    assert seen.irps[0].state == IrpState.FREED


def test_the_location_of_the_callback_is_that_of_who_has_asked() -> None:
    """For blame: the device that was asked for is the PDO, as a rule, which is the bus driver's."""
    seen: list[Any] = []

    def on_start(device: DeviceObject[Extension], _resources: Any) -> None:
        device.po.request_power_irp(device.bottom, SET, D0)

    top = TinyDriver("asks", {POWER: lets_through(lambda _device, irp: seen.append(irp.stack[-2]))}, on_start=on_start)
    PowerSystem(top)
    assert [location.device_object for location in seen] == [top.device]


@pytest.mark.parametrize("minor", [PowerMinor.POWER_SEQUENCE, 0x55])
def test_another_minor_code_is_refused(minor: Any) -> None:
    seen = Seen(minor, D3)
    assert seen.status == STATUS_INVALID_PARAMETER_2
    assert not seen.dispatches and not seen.calls


def test_the_callback_may_be_left_out() -> None:
    system = PowerSystem()
    assert system.io.request_power_irp(system.pdo, SET, D3) == STATUS_PENDING
    assert system.bus.log == ["SET D3"] and not system.ke.faults


def test_parameters_are_those_of_a_power_irp() -> None:
    seen: list[Any] = []
    note = lets_through(lambda _device, irp: seen.append(irp.current_stack_location.parameters.power))
    system = PowerSystem(TinyDriver("top", {POWER: note}))
    system.ask(SET, D1)
    system.io.send_power(system.pdo, SET, SystemPowerState.SLEEPING3, action=PowerAction.SLEEP)
    assert seen == [
        (PowerStateType.DEVICE, D1, PowerAction.NONE, 0),
        (PowerStateType.SYSTEM, SystemPowerState.SLEEPING3, PowerAction.SLEEP, 0),
    ]


def test_the_callback_runs_after_every_completion_routine() -> None:
    order: list[str] = []

    def came_back(_device: DeviceObject[Any] | None, _irp: Irp, name: str) -> NtStatus:
        order.append(name)
        return STATUS_SUCCESS

    def routine(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back, device.driver_object.name)
        return device.io.call_driver(device.extension.lower, irp)

    system = PowerSystem(TinyDriver("lower", {POWER: routine}), TinyDriver("upper", {POWER: routine}))
    system.io.request_power_irp(system.pdo, SET, D3, lambda *_: order.append("callback"))
    assert order == ["lower", "upper", "callback"]


def test_a_request_that_is_pended_tells_when_it_ends() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    assert system.ask(SET, D3) == STATUS_PENDING
    assert system.done == []
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.bus.let_go()
    assert system.done == [("SET D3", STATUS_SUCCESS)]


def test_what_the_stack_answers_is_what_the_callback_is_told() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.status = STATUS_DEVICE_BUSY
    system.ask(QUERY, D3)
    assert system.done == [("QUERY D3", STATUS_DEVICE_BUSY)]
    assert not system.ke.faults


def test_states_of_the_system_are_not_the_drivers_to_ask_for() -> None:
    system = PowerSystem()
    with pytest.raises(DriverFault, match=r"SET_POWER was asked for with .*SLEEPING3.*give a DevicePowerState"):
        system.ask(SET, SystemPowerState.SLEEPING3)
    with pytest.raises(DriverFault, match=r"WAIT_WAKE was asked for with .*D3.*give a SystemPowerState"):
        system.ask(WAKE, D3)


def test_memory_that_there_is_not() -> None:
    statuses: list[NtStatus] = []

    def on_start(device: DeviceObject[Extension], _resources: Any) -> None:
        statuses.append(device.po.request_power_irp(device.extension.lower, SET, D0))

    with Bridge.manual(verify=Verify(seed=1)) as bridge:
        driver = TinyDriver("asks", on_start=on_start)
        io: Any = bridge.io
        io.forced.refuse = _refuses_irps
        plug(bridge, driver)
        assert statuses == [STATUS_INSUFFICIENT_RESOURCES]


def _refuses_irps(what: str) -> None:
    if what == "an IRP":
        raise NtStatusError(STATUS_INSUFFICIENT_RESOURCES, "no")


# -- IRQL ----------------------------------------------------------------------------------------------------------------


def levels(system: PowerSystem, pagable: bool) -> list[int]:
    seen: list[int] = []
    top = system.pdo.top
    top.driver_object.major_function[POWER] = lets_through(lambda device, _irp: seen.append(device.ke.irql))
    if pagable:
        top.flags |= DO_POWER_PAGABLE
    with system.ke.raised_irql(DISPATCH_LEVEL):
        assert system.ask(SET, D3) == STATUS_PENDING
        if not pagable:
            assert seen == [DISPATCH_LEVEL]
    system.machine.run_until_idle()
    return seen


def test_a_request_is_sent_at_the_level_of_who_asks() -> None:
    assert levels(PowerSystem(TinyDriver("top")), pagable=False) == [DISPATCH_LEVEL]


def test_a_stack_that_is_pagable_is_asked_at_passive_level() -> None:
    system = PowerSystem(TinyDriver("top"))
    assert levels(system, pagable=True) == [PASSIVE_LEVEL]
    assert system.done == [("SET D3", STATUS_SUCCESS)]


def test_a_wait_wake_of_a_pagable_stack_is_sent_at_passive_level() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.pdo.top.flags |= DO_POWER_PAGABLE
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.io.request_wait_wake(system.pdo, SystemPowerState.SLEEPING3)
        assert not now(system.bus.log)
    system.machine.run_until_idle()
    assert system.bus.log == ["WAKE"]


def test_nobody_asks_above_dispatch_level() -> None:
    system = PowerSystem()
    with system.ke.raised_irql(DIRQL_LOWEST), bug_check(0xA, "request_power_irp", DIRQL_LOWEST):
        system.ask(SET, D3)


def test_nobody_waits_at_dispatch_level() -> None:
    system = PowerSystem()
    with system.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA, "ask_power"):
        system.io.send_power(system.pdo, SET, D3)
    assert system.bus.log == []


# -- states --------------------------------------------------------------------------------------------------------------


def test_set_power_state_returns_the_previous_one() -> None:
    system = PowerSystem()
    po = system.pdo.po
    assert po.set_power_state(system.pdo, PowerStateType.DEVICE, D2) == D0
    assert po.set_power_state(system.pdo, PowerStateType.DEVICE, D3) == D2
    system_state = po.set_power_state(system.pdo, PowerStateType.SYSTEM, SystemPowerState.SLEEPING1)
    assert system_state is SystemPowerState.WORKING
    assert po.device_power_state(system.pdo) is D3


def test_a_device_is_in_d0_from_its_start_on() -> None:
    system = PowerSystem(TinyDriver("top"), start=False)
    io = system.io
    assert io.device_power_state(system.pdo.top) is now(DevicePowerState.UNSPECIFIED)
    io.send_pnp(system.pdo, PnpMinor.START_DEVICE)
    assert [io.device_power_state(d) for d in system.pdo.walk_up()] == [D0, D0]


def test_a_device_that_does_not_start_has_no_state() -> None:
    def fails(_device: DeviceObject[Extension], _resources: Any) -> None:
        raise RuntimeError("no")

    system = PowerSystem(TinyDriver("top", on_start=fails), start=False)
    with pytest.raises(DriverFault):
        system.io.send_pnp(system.pdo, PnpMinor.START_DEVICE)
    assert system.io.device_power_state(system.pdo) is DevicePowerState.UNSPECIFIED


def test_a_set_power_that_has_ended_well_is_the_state_of_all_devices() -> None:
    system = PowerSystem(TinyDriver("top"))
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_SUCCESS
    assert [d.power_state for d in system.pdo.walk_up()] == [D3, D3]
    system.io.send_power(system.pdo, QUERY, D0)
    assert system.pdo.power_state is now(D3)
    system.io.send_power(system.pdo, SET, SystemPowerState.HIBERNATE)
    assert system.pdo.top.system_power_state is SystemPowerState.HIBERNATE
    assert system.pdo.power_state is D3


def test_po_is_the_io_manager() -> None:
    """PoCallDriver is IoCallDriver, and PoStartNextPowerIrp does nothing: both since Windows Vista."""
    system = PowerSystem()
    assert system.pdo.po is system.io
    irp = system.io.allocate_irp(1)
    before = irp.state, irp.current_location
    system.pdo.po.start_next_power_irp(irp)
    assert (irp.state, irp.current_location) == before


# -- WAIT_WAKE -----------------------------------------------------------------------------------------------------------


def test_a_wait_wake_ends_when_the_device_wakes() -> None:
    system = PowerSystem(TinyDriver("top"))
    irp = system.io.request_wait_wake(system.pdo, SystemPowerState.SLEEPING3, system.callback)
    assert system.done == [] and system.bus.armed == [irp]
    system.bus.wake()
    assert system.done == [("WAIT_WAKE SLEEPING3", STATUS_SUCCESS)]


def test_a_wait_wake_is_cancelled_by_who_has_asked() -> None:
    system = PowerSystem(TinyDriver("top"))
    irp = system.io.request_wait_wake(system.pdo, SystemPowerState.SLEEPING3, system.callback)
    assert system.io.cancel_irp(irp) is True
    assert system.done == [("WAIT_WAKE SLEEPING3", STATUS_CANCELLED)]
    assert system.io.cancel_irp(irp) is False  # it is nobody's any more; that harms nobody
    assert not system.ke.faults


def test_a_second_wait_wake_is_the_bus_drivers_to_refuse() -> None:
    system = PowerSystem()
    system.io.request_wait_wake(system.pdo, SystemPowerState.SLEEPING3)
    assert system.ask(WAKE, SystemPowerState.SLEEPING1) == STATUS_PENDING
    assert system.done == [("WAIT_WAKE SLEEPING1", STATUS_DEVICE_BUSY)]


def test_a_wait_wake_stands_in_nobodys_way() -> None:
    system = PowerSystem()
    system.io.request_wait_wake(system.pdo, SystemPowerState.SLEEPING3, system.callback)
    system.machine.advance(1000)  # and has no time-out
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_SUCCESS
    assert system.bus.armed and not system.ke.faults


# -- the system's own ----------------------------------------------------------------------------------------------------


def test_the_system_sends_two_kinds_only() -> None:
    system = PowerSystem()
    with pytest.raises(UsageFault, match="SET_POWER and QUERY_POWER"):
        system.io.send_power(system.pdo, WAKE, SystemPowerState.SLEEPING3)


def test_the_verifier_has_nothing_to_say() -> None:
    with Bridge.manual(verify=True) as bridge:
        driver = TinyDriver("quiet")
        plug(bridge, driver)
        io, pdo = bridge.io, driver.device.bottom
        ended: list[NtStatus] = []
        assert io.send_power(pdo, SET, D3) == STATUS_SUCCESS
        assert io.request_power_irp(pdo, SET, D0, lambda *told: ended.append(told[4].status)) == STATUS_PENDING
        assert ended == [STATUS_SUCCESS]
        assert bridge.findings == []
