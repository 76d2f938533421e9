"""The driver's side: down on the way down, up on the way up, and from a state of the system to one of the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge
from hilbridge.iomgr.powerpolicy import PowerPolicy
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.capabilities import DeviceCapabilities
from hilbridge.model.codes import (
    DISPATCH_LEVEL,
    PASSIVE_LEVEL,
    DevicePowerState,
    IrpMajor,
    PnpMinor,
    PowerAction,
    SystemPowerState,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DriverFault
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_BUSY,
    STATUS_DEVICE_POWER_FAILURE,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.iomgr.powerkit import D0, D1, D2, D3, POWER, QUERY, SET, PowerSystem, locked, words
from tests.support import Extension, TinyDriver, bug_check, now, plug

S0, S1, S3 = SystemPowerState.WORKING, SystemPowerState.SLEEPING1, SystemPowerState.SLEEPING3


class Powered(TinyDriver):
    """A driver with a `PowerPolicy`, that writes down how it is called and by what the bus driver has been asked by then."""

    def __init__(self, name: str, *, owner: bool = True, **options: Any) -> None:
        super().__init__(name, {POWER: self.dispatch_power}, **options)
        self.owner = owner
        self.calls: list[str] = []
        self.levels: set[int] = set()
        self.answers: dict[str, NtStatus] = {}
        self.before: Callable[[], object] = lambda: None
        self.policy: PowerPolicy
        self.lock: RemoveLock

    def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        device = self.device
        self.lock = RemoveLock(driver.ke, device)
        self.policy = PowerPolicy(
            device,
            device.extension.lower,
            physical=physical if self.owner else None,
            remove_lock=self.lock,
            power_up=lambda _device, previous: self.called("up from", previous),
            power_down=lambda _device, target: self.called("down to", target),
            query_power=lambda _device, target: self.called("may go to", target),
        )
        return status

    def called(self, what: str, state: DevicePowerState) -> NtStatus:
        self.before()
        self.calls.append(f"{what} {state.name}")
        if what != "may go to":
            self.levels.add(self.device.ke.irql)
            assert self.lock.count  # also of the request for the system that this one belongs to
        return self.answers.get(what, STATUS_SUCCESS)

    def dispatch_power(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        return self.policy.dispatch(device, irp)

    def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE:
            self.lock.acquire("removal")
            self.lock.release_and_wait("removal")
        return super().pnp(device, irp)


def powered(**options: Any) -> tuple[PowerSystem, Powered]:
    driver = Powered("powered", **options)
    system = PowerSystem(driver)
    driver.before = lambda: driver.calls.append("bus:" + ",".join(system.bus.log))
    return system, driver


# -- states of the device ------------------------------------------------------------------------------------------------


def test_down_before_the_bus_and_up_after_it() -> None:
    system, driver = powered()
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_SUCCESS
    assert driver.calls == ["bus:", "down to D3"] and driver.policy.state is D3
    driver.calls.clear()
    system.bus.log.clear()
    assert system.io.send_power(system.pdo, SET, D0) == STATUS_SUCCESS
    assert driver.calls == ["bus:SET D0", "up from D3"] and driver.policy.state is D0
    assert driver.lock.count == 0 and driver.levels == {PASSIVE_LEVEL}


def test_the_same_state_again_leaves_the_hardware_alone() -> None:
    system, driver = powered()
    for state in (D0, D0, D3, D3):
        assert system.io.send_power(system.pdo, SET, state) == STATUS_SUCCESS
    assert driver.calls == ["bus:SET D0,SET D0", "down to D3"]
    assert system.bus.log == ["SET D0", "SET D0", "SET D3", "SET D3"]


def test_a_device_that_was_never_started_counts_as_on() -> None:
    driver = Powered("powered")
    system = PowerSystem(driver, start=False)
    assert driver.policy.state is D0
    system.io.send_power(system.pdo, SET, D0)
    assert driver.calls == []


def test_deeper_and_deeper() -> None:
    system, driver = powered()
    driver.before = lambda: None
    for state in (D1, D2, D3, D0):
        system.io.send_power(system.pdo, SET, state)
    assert driver.calls == ["down to D1", "down to D2", "down to D3", "up from D3"]


def test_the_lock_is_held_until_the_drivers_below_are_done() -> None:
    system, driver = powered()
    system.bus.holds = True
    for state in (D3, D0):
        system.ask(SET, state)
        assert driver.lock.count == now(1)
        system.bus.let_go()
        assert driver.lock.count == now(0)
    assert [status for _, status in system.done] == [STATUS_SUCCESS, STATUS_SUCCESS]


def test_at_dispatch_level_a_worker_goes_on() -> None:
    system, driver = powered()
    driver.before = lambda: None
    with system.ke.raised_irql(DISPATCH_LEVEL):
        assert system.ask(SET, D3) == STATUS_PENDING
        assert driver.calls == now([])
    system.machine.run_until_idle()
    system.bus.holds = True
    system.ask(SET, D0)
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.bus.let_go()
        assert driver.calls == now(["down to D3"]) and system.done == [("SET D3", STATUS_SUCCESS)]
    system.machine.run_until_idle()
    assert driver.calls == ["down to D3", "up from D3"] and driver.levels == {PASSIVE_LEVEL}
    assert [name for name, _ in system.done] == ["SET D3", "SET D0"] and driver.lock.count == 0


def test_a_query_is_the_drivers_to_refuse() -> None:
    system, driver = powered()
    assert system.io.send_power(system.pdo, QUERY, D3) == STATUS_SUCCESS
    driver.answers["may go to"] = STATUS_DEVICE_BUSY
    answer = system.io.ask_power(system.pdo, QUERY, D3)
    assert answer.why() == "driver powered answered STATUS_DEVICE_BUSY"
    assert system.bus.log == ["QUERY D3"] and driver.lock.count == 0


@pytest.mark.parametrize(("what", "states"), [("down to", [D3]), ("up from", [D3, D0])])
def test_a_callback_that_fails_is_its_drivers_fault(what: str, states: list[DevicePowerState]) -> None:
    system, driver = powered()
    driver.answers[what] = STATUS_DEVICE_POWER_FAILURE
    with bug_check(0xC9, 0x247) as caught:
        for state in states:
            system.io.send_power(system.pdo, SET, state)
    assert caught.value.driver == "powered" and driver.lock.count == 0
    assert driver.policy.state is (D0 if what == "down to" else D3)


@pytest.mark.parametrize("level", [PASSIVE_LEVEL, DISPATCH_LEVEL])
def test_a_callback_that_raises(level: int) -> None:
    system, driver = powered()

    def breaks() -> None:
        raise ZeroDivisionError

    driver.before = breaks
    with system.ke.raised_irql(level):
        system.ask(SET, D3)
    system.machine.run_until_idle()
    (fault,) = system.ke.faults
    assert isinstance(fault, DriverFault) and fault.driver == "powered" and "ZeroDivisionError" in str(fault)
    assert system.done == [] and len(system.ke.timers) == 0


def test_a_bus_that_does_not_come_up() -> None:
    system, driver = powered()
    system.io.send_power(system.pdo, SET, D3)
    driver.calls.clear()
    system.bus.status = STATUS_DELETE_PENDING
    assert system.io.send_power(system.pdo, SET, D0) == STATUS_DELETE_PENDING
    assert driver.calls == [] and driver.policy.state is D3 and driver.lock.count == 0


def test_after_the_removal_has_begun_the_device_is_left_alone() -> None:
    system, driver = powered()
    driver.lock.acquire()
    driver.lock.release_and_wait()
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_DELETE_PENDING
    assert driver.calls == [] and not system.ke.faults


def test_without_callbacks_or_a_lock() -> None:
    """A filter that has nothing to say. The state is the stack's all the same."""
    driver = Powered("plain", owner=False)
    system = PowerSystem(driver)
    driver.policy = PowerPolicy(driver.device, driver.device.extension.lower)
    for state in (D3, D0):
        assert system.io.send_power(system.pdo, SET, state) == STATUS_SUCCESS
        assert driver.policy.state is state
    assert system.io.send_power(system.pdo, QUERY, D3) == STATUS_SUCCESS


# -- states of the system ------------------------------------------------------------------------------------------------


def test_the_owner_turns_a_system_state_into_one_of_the_device() -> None:
    system, driver = powered()
    assert system.io.send_power(system.pdo, QUERY, S3) == STATUS_SUCCESS
    assert system.io.send_power(system.pdo, SET, S3, action=PowerAction.SLEEP) == STATUS_SUCCESS
    assert system.bus.log == ["QUERY SLEEPING3", "QUERY D3", "SET SLEEPING3", "SET D3"]
    assert driver.policy.state is D3 and driver.lock.count == 0
    assert system.io.send_power(system.pdo, SET, S0) == STATUS_SUCCESS
    assert system.bus.log[4:] == ["SET WORKING", "SET D0"] and driver.policy.state is D0


def test_which_state_is_in_the_capabilities() -> None:
    system, driver = powered()
    driver.policy.capabilities = DeviceCapabilities(device_state={S0: D0, S1: D1, S3: D2})
    for state in (S1, S0, S3):
        system.io.send_power(system.pdo, SET, state)
    assert [asked for asked in system.bus.log if " D" in asked] == ["SET D1", "SET D0", "SET D2"]


def test_the_systems_request_ends_after_the_devices() -> None:
    order: list[str] = []

    def ended(_device: DeviceObject[Any] | None, irp: Irp, name: str) -> NtStatus:
        order.append(name)
        if irp.pending_returned:
            irp.mark_pending()
        return STATUS_SUCCESS

    def note(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(ended, words(irp))
        return device.io.call_driver(device.extension.lower, irp)

    system = PowerSystem(Powered("powered"), TinyDriver("upper", {POWER: note}))
    system.io.send_power(system.pdo, SET, S3)
    assert order == ["SET D3", "SET SLEEPING3"]


def test_the_devices_turn_comes_when_nothing_else_is_out() -> None:
    system, driver = powered()
    bus, dispatch = system.bus, system.bus.power

    def slow_device(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        bus.holds = words(irp) == "QUERY D2"
        return dispatch(device, irp)

    bus.driver.major_function[POWER] = slow_device
    system.ask(QUERY, D2)
    timer = Ktimer()
    system.ke.set_timer(timer, relative_ms(100), dpc=Kdpc(lambda *_: bus.let_go(), None, system.pdo))
    assert system.io.send_power(system.pdo, SET, S3) == STATUS_SUCCESS
    assert bus.log == ["QUERY D2", "SET SLEEPING3", "SET D3"] and timer.signaled and driver.policy.state is D3


def test_back_in_s0_the_system_does_not_wait_for_the_device() -> None:
    system, driver = powered()
    system.io.send_power(system.pdo, SET, S3)
    assert driver.policy.state is now(D3)
    bus, dispatch = system.bus, system.bus.power

    def slow_device(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        bus.holds = isinstance(irp.current_stack_location.parameters.power.state, DevicePowerState)
        return dispatch(device, irp)

    bus.driver.major_function[POWER] = slow_device
    assert system.io.send_power(system.pdo, SET, S0) == STATUS_SUCCESS
    assert driver.policy.state is now(D3) and driver.lock.count == 1
    bus.let_go()
    assert driver.policy.state is D0 and driver.lock.count == 0


def test_a_device_that_refuses_refuses_the_systems_query_too() -> None:
    system, driver = powered()
    driver.answers["may go to"] = STATUS_DEVICE_BUSY
    answer = system.io.ask_power(system.pdo, QUERY, S3)
    assert answer.status == STATUS_DEVICE_BUSY and answer.why() == "driver powered answered STATUS_DEVICE_BUSY"
    assert system.bus.log == ["QUERY SLEEPING3"] and driver.lock.count == 0


def test_a_system_state_that_is_refused_below_does_not_reach_the_device() -> None:
    system, driver = powered()
    system.bus.status = STATUS_CANCELLED
    assert system.io.send_power(system.pdo, QUERY, S3) == STATUS_CANCELLED
    assert system.bus.log == ["QUERY SLEEPING3"] and driver.calls == [] and driver.lock.count == 0


def test_a_filter_passes_system_states_on() -> None:
    system, driver = powered(owner=False)
    assert system.io.send_power(system.pdo, SET, S3) == STATUS_SUCCESS
    assert system.bus.log == ["SET SLEEPING3"] and driver.calls == [] and driver.lock.count == 0


def test_a_wait_wake_is_passed_on() -> None:
    system, driver = powered()
    irp = system.io.request_wait_wake(system.pdo, S3, system.callback)
    assert driver.lock.count == 0 and system.bus.armed
    system.io.cancel_irp(irp)
    assert system.done == [("WAIT_WAKE SLEEPING3", STATUS_CANCELLED)]


# -- a bridge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [PASSIVE_LEVEL, DISPATCH_LEVEL])
def test_a_stack_of_three_under_the_verifier(level: int) -> None:
    with Bridge.manual(verify=True) as bridge:
        below, owner, above = (
            Powered("below", owner=False, named=False),
            Powered("owner"),
            Powered("above", owner=False),
        )
        above.named = False
        plug(bridge, owner, name="dut", lower_filters=[below], upper_filters=[above])
        pdo, io = owner.device.bottom, bridge.io
        for state in (S3, S0, S1, S0):
            assert io.send_power(pdo, SET, state) == STATUS_SUCCESS
        for device_state in (D2, D0):
            with bridge.ke.raised_irql(level):
                assert io.request_power_irp(pdo, SET, device_state) == STATUS_PENDING
            bridge.machine.run_until_idle()
        downs_and_ups = ["down to D3", "up from D3"] * 2 + ["down to D2", "up from D2"]
        for driver in (below, owner, above):
            assert driver.calls == downs_and_ups and driver.levels == {PASSIVE_LEVEL}
            assert driver.policy.state is D0 and driver.lock.count == 0
        assert bridge.findings == []
        bridge.unplug("dut")
        assert not bridge.faults and bridge.findings == []


def test_a_removal_in_the_middle_of_it() -> None:
    """The device's request waits below; the removal waits for the lock, and the driver below lets go when it is told to."""
    held: list[Irp] = []

    def keeps(_device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        held.append(irp)
        return STATUS_PENDING

    below = TinyDriver("below", {POWER: keeps}, named=False)

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.SURPRISE_REMOVAL:
            for one in held:
                one.io_status.status = STATUS_DELETE_PENDING
                device.io.complete_request(one)
        return below.pnp(device, irp)

    below.dispatch[IrpMajor.PNP] = pnp
    with Bridge.manual(verify=True) as bridge:
        owner = Powered("owner")
        plug(bridge, owner, name="dut", lower_filters=[below])
        ended: list[NtStatus] = []
        bridge.io.request_power_irp(owner.device.bottom, SET, D3, lambda *told: ended.append(told[4].status))
        assert owner.lock.count == 1 and not ended
        bridge.unplug("dut")
        assert ended == [STATUS_DELETE_PENDING] and owner.lock.count == 0
        assert not bridge.faults and bridge.findings == []


def test_a_worker_goes_on_below_a_driver_that_waits_for_its_removal() -> None:
    """On the crank that the driver above turns. The verifier knows whose work item that is."""
    with Bridge.manual(verify=True) as bridge:
        below, owner = Powered("below", owner=False, named=False), TinyDriver("owner")
        locked(owner)
        plug(bridge, owner, name="dut", lower_filters=[below])
        ended: list[NtStatus] = []
        with bridge.ke.raised_irql(DISPATCH_LEVEL):
            bridge.io.request_power_irp(owner.device.bottom, SET, D3, lambda *told: ended.append(told[4].status))
        bridge.unplug("dut")
        assert ended == [STATUS_SUCCESS] and below.calls == ["down to D3"]
        assert not bridge.faults and bridge.findings == []
