"""Power requests and the removal of their device: what waits ends before, what is out by its drivers, and nothing is left."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL, DO_POWER_PAGABLE, IrpMajor, PnpMinor, SystemPowerState
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BridgeClosed, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.iomgr.powerkit import D0, D1, D3, POWER, QUERY, SET, PowerSystem, locked
from tests.support import Extension, Thread, TinyDriver, bug_check, hold, now, plug, wait

SURPRISE, REMOVE = PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE
S3 = SystemPowerState.SLEEPING3


@pytest.mark.parametrize("minor", [SURPRISE, REMOVE])
def test_what_waits_in_line_ends_before_the_drivers_are_told(minor: PnpMinor) -> None:
    """A driver's removal may wait for a lock that the callback of such a request releases."""
    told: list[Any] = []
    top = TinyDriver("top")
    system = PowerSystem(top)
    system.bus.holds = True
    system.ask(SET, D3)
    system.ask(SET, D0)
    system.ask(QUERY, D3)
    routine = top.pnp

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        told.append(list(system.done))
        system.bus.let_go()
        return routine(device, irp)

    top.device.driver_object.major_function[IrpMajor.PNP] = pnp
    system.io.send_pnp(system.pdo, minor)
    assert told == [[("SET D0", STATUS_DELETE_PENDING), ("QUERY D3", STATUS_DELETE_PENDING)]]
    assert system.done[2:] == [("SET D3", STATUS_SUCCESS)]
    assert system.bus.log == ["SET D3"] and not system.ke.faults and len(system.ke.timers) == 0


@pytest.mark.parametrize("minor", [SURPRISE, REMOVE])
def test_afterwards_nothing_is_sent_any_more(minor: PnpMinor) -> None:
    system = PowerSystem(TinyDriver("top"))
    system.io.send_pnp(system.pdo, minor)
    assert system.ask(SET, D3) == STATUS_DELETE_PENDING
    assert system.io.send_power(system.pdo, SET, D3) == STATUS_DELETE_PENDING
    with pytest.raises(NtStatusError, match=r"STATUS_DELETE_PENDING: .* takes no power requests any more"):
        system.io.request_wait_wake(system.pdo, S3)
    assert system.done == [] and system.bus.log == []


def test_irps_that_were_never_sent_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    system = PowerSystem(TinyDriver("top"))
    made: list[Irp] = []
    allocate = system.io.allocate_irp

    def noted(size: int) -> Irp:
        made.append(allocate(size))
        return made[-1]

    monkeypatch.setattr(system.io, "allocate_irp", noted)
    system.bus.holds = True
    system.ask(SET, D3)
    system.ask(SET, D0)  # waits, and ends without having been sent
    system.pdo.top.flags |= DO_POWER_PAGABLE
    with system.ke.raised_irql(DISPATCH_LEVEL):
        system.io.request_wait_wake(system.pdo, S3)  # a worker is to send it
    system.io.fault(system.pdo.top, RuntimeError("broken"), "a test")
    system.machine.run_until_idle()
    assert system.ask(SET, D1) == STATUS_DRIVER_PROCESS_TERMINATED  # not even taken in
    assert system.bus.log == ["SET D3"]
    assert [irp.state for irp in made] == [IrpState.PENDING] + 3 * [IrpState.FREED]
    system.bus.let_go()
    assert made[0].state == IrpState.FREED


def test_a_device_that_starts_again_takes_requests_again() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.io.send_power(system.pdo, SET, D3)
    system.io.send_pnp(system.pdo, REMOVE)
    system.io.send_pnp(system.pdo, PnpMinor.START_DEVICE)
    assert system.pdo.power_state is D0
    assert system.io.send_power(system.pdo, SET, D1) == STATUS_SUCCESS


def test_a_driver_may_power_its_device_down_while_it_is_removed() -> None:
    statuses: list[NtStatus] = []
    top = TinyDriver("top")
    system = PowerSystem(top)
    routine = top.pnp

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        statuses.append(device.po.request_power_irp(device.bottom, SET, D3))
        return routine(device, irp)

    top.device.driver_object.major_function[IrpMajor.PNP] = pnp
    system.io.send_pnp(system.pdo, REMOVE)
    assert statuses == [STATUS_PENDING] and system.bus.log == ["SET D3"]


def test_who_keeps_a_request_beyond_the_removal_is_named() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.holds = True
    system.ask(SET, D3)
    system.io.send_pnp(system.pdo, REMOVE)
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and fault.driver == "powerbus"
    assert (fault.code, fault.parameters[:2]) == (0x9F, (1, system.pdo))
    assert "was removed, and IRP_MN_SET_POWER (D3) is still out" in str(fault)
    system.bus.let_go()
    assert system.pdo.power_state is D0 and len(system.ke.faults) == 1


def test_a_wait_wake_that_is_forgotten_is_the_fault_of_who_has_asked() -> None:
    """Not of the bus driver, which has it: it waits for the device, or for a cancellation."""

    def on_start(device: DeviceObject[Extension], _resources: Any) -> None:
        device.po.request_wait_wake(device.bottom, S3)

    system = PowerSystem(TinyDriver("forgets", on_start=on_start))
    assert system.bus.armed
    system.io.send_pnp(system.pdo, REMOVE)
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and fault.driver == "forgets" and fault.parameters[0] == 1
    assert "cancel it in REMOVE_DEVICE" in str(fault)
    assert not now(system.bus.armed)  # it was cancelled for it


def test_a_wait_wake_that_is_cancelled_in_the_removal() -> None:
    told: list[NtStatus] = []
    top = TinyDriver("careful")

    def on_start(device: DeviceObject[Extension], _resources: Any) -> None:
        device.extension.held.append(
            device.po.request_wait_wake(device.bottom, S3, lambda *a: told.append(a[4].status))
        )

    top.on_start = on_start
    system = PowerSystem(top)
    routine = top.pnp

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == REMOVE:
            device.io.cancel_irp(device.extension.held.pop())
        return routine(device, irp)

    top.device.driver_object.major_function[IrpMajor.PNP] = pnp
    system.io.send_pnp(system.pdo, REMOVE)
    assert told == [STATUS_CANCELLED] and not system.ke.faults


def test_a_stack_that_fails_ends_a_wait_wake_too() -> None:
    told: list[Any] = []
    system = PowerSystem(TinyDriver("top"))
    system.io.request_wait_wake(system.pdo, S3)
    system.io.fault(system.pdo.top, RuntimeError("broken"), "a test")
    with pytest.raises(NtStatusError) as caught:
        system.io.request_wait_wake(system.pdo, S3, lambda *a: told.append(a))
    assert caught.value.status == STATUS_DRIVER_PROCESS_TERMINATED
    system.bus.wake()  # too late, and harmless
    assert told == [] and len(system.ke.faults) == 1


# -- a bridge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
def test_a_removal_waits_for_a_request_whose_driver_holds_the_lock(verify: bool) -> None:
    """The driver below lets go later; until then the removal waits, and afterwards nothing is left."""
    lower, upper = TinyDriver("slow", {POWER: hold}, named=False), TinyDriver("upper")
    locked(upper)
    with Bridge.manual(verify=verify) as bridge:
        plug(bridge, upper, name="dut", lower_filters=[lower])
        ended: list[NtStatus] = []
        io, pdo = bridge.io, upper.device.bottom
        io.request_power_irp(pdo, SET, D3, lambda *told: ended.append(told[4].status))
        (irp,) = lower.device.extension.held

        def later(*_: Any) -> None:
            irp.io_status.status = STATUS_DELETE_PENDING
            io.complete_request(irp)

        bridge.ke.set_timer(Ktimer(), relative_ms(5), dpc=Kdpc(later, None, lower.device))
        bridge.unplug("dut")
        assert ended == [STATUS_DELETE_PENDING]
        assert bridge.findings == [] and not bridge.faults


def test_a_bridge_that_closes_names_who_keeps_a_request() -> None:
    driver = TinyDriver("keeps", {POWER: hold})
    bridge = Bridge.manual()
    plug(bridge, driver)
    bridge.io.request_power_irp(driver.device.bottom, SET, D3)
    pdo = driver.device.bottom
    bridge.close()
    (fault,) = bridge.faults
    assert isinstance(fault, BugCheck) and (fault.code, fault.driver) == (0x9F, "keeps")
    with pytest.raises(BridgeClosed):
        bridge.io.send_power(pdo, SET, D3)


def test_who_waits_hears_of_the_bridges_end() -> None:
    entered = threading.Event()

    def keeps(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        status = hold(device, irp)
        entered.set()
        return status

    driver = TinyDriver("keeps", {POWER: keeps})
    bridge = Bridge(crash_dumps=False)
    plug(bridge, driver)
    pdo = driver.device.bottom
    first = Thread(lambda: bridge.io.send_power(pdo, SET, D3))
    wait(entered)
    bridge.close()
    with bug_check(0x9F, 1) as caught:
        first.finish()
    assert caught.value.driver == "keeps"


def test_a_request_that_meets_the_removal() -> None:
    """Whoever is first: each request ends once, or is refused."""
    outcomes: set[tuple[NtStatus, ...]] = set()

    def build() -> Race:
        system = PowerSystem(TinyDriver("top"))
        answers: list[NtStatus] = []

        def asks() -> None:
            for state in (D3, D0):
                answers.append(system.ask(SET, state))  # noqa: PERF401 - each line is a point of the race

        def removes() -> None:
            system.io.send_pnp(system.pdo, SURPRISE)

        def check() -> None:
            sent = answers.count(STATUS_PENDING)
            assert len(answers) == 2 and len(system.done) == sent and not system.ke.faults
            assert len(system.ke.timers) == 0
            outcomes.add(tuple(status for _, status in system.done))

        return Race({"asks": asks, "removes": removes}, check)

    explore(
        build,
        granularity=Granularity.LINES,
        preemptions=1,
        samples=200,
        modules=("hilbridge.iomgr.power", "hilbridge.iomgr.powersend", "hilbridge.iomgr.powerqueue"),
    )
    assert {(), (STATUS_SUCCESS,), (STATUS_SUCCESS, STATUS_SUCCESS)} <= outcomes
