"""Whose mistake it is: named from the frames of the thread, latched before it is raised, whatever the driver swallows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault
from hilbridge.kernel import culprit
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.support import (
    Extension,
    System,
    TinyDriver,
    answer,
    bug_check,
    complete,
    do,
    hold,
    now,
    pass_down,
    plug,
    raises,
    uart,
)

HERE = Path(__file__).name


def complete_twice(device: DeviceObject[Any], irp: Irp, swallow: type[BaseException] = Exception) -> None:
    """The classic: the second completion is the mistake, and the driver does not want to know."""
    complete(device, irp)
    try:
        device.io.complete_request(irp)  # the line that is to be named
    except swallow:
        pass


def line_of_the_mistake() -> str:
    text = Path(__file__).read_text().splitlines()
    return f"{HERE}:{next(n for n, line in enumerate(text, 1) if '# the line that is to be named' in line)}"


class Shop:
    """A device whose driver breaks a rule and swallows the bug check, and one beside it that is to notice nothing."""

    def __init__(self, driver: TinyDriver, line: VirtualLine | None = None) -> None:
        self.bridge = Bridge.manual(restarts=0)
        self.driver = driver
        plug(self.bridge, driver, "BAD", line=line)
        plug(self.bridge, TinyDriver("good", {IrpMajor.READ: answer(b"good")}), "GOOD")
        self.handle = self.bridge.open("BAD")
        self.other = self.bridge.open("BAD")
        self.neighbour = self.bridge.open("GOOD")

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.check()
        self.bridge.close()

    def check(self) -> None:
        (fault,) = self.bridge.faults
        assert isinstance(fault, BugCheck) and fault.code == 0x44
        assert self.driver.device.device_stack.fault is fault
        assert fault.driver == self.driver.__name__
        assert fault.place is not None and fault.place.endswith(line_of_the_mistake())
        assert f"driver {fault.driver}, {fault.place}" in str(fault)
        with pytest.raises(BugCheck, match="0x44"):
            self.handle.read(1)
        assert self.neighbour.read(4) == b"good"
        assert self.bridge.ke.irql == PASSIVE_LEVEL
        self.bridge.acknowledge_faults()


@pytest.mark.parametrize("swallow", [Exception, BaseException])
def test_a_double_completion_that_a_dispatch_routine_swallows(swallow: type[BaseException]) -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        complete_twice(device, irp, swallow)
        return STATUS_SUCCESS

    with Shop(TinyDriver("bad", {IrpMajor.READ: read, IrpMajor.WRITE: hold})) as shop:
        queued = shop.other.submit_write(b"queued")
        with pytest.raises(BugCheck, match="0x44"):
            shop.handle.read(4)
        assert queued.done and queued.status.is_error


@pytest.mark.parametrize("swallow", [Exception, BaseException])
def test_one_that_a_dpc_swallows(swallow: type[BaseException]) -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.ke.insert_queue_dpc(Kdpc(lambda *_: complete_twice(device, irp, swallow), None, device))
        return STATUS_PENDING

    with Shop(TinyDriver("bad", {IrpMajor.READ: read, IrpMajor.WRITE: hold})) as shop:
        queued = shop.other.submit_write(b"queued")
        with pytest.raises(BugCheck, match="0x44"):
            shop.handle.read(4)
        assert queued.done and queued.status.is_error


def test_one_that_an_isr_swallows() -> None:
    driver = uart("bad")
    driver.dispatch[IrpMajor.READ] = hold
    line = VirtualLine()

    def isr(_interrupt: Interrupt, device: DeviceObject[Extension]) -> bool:
        line.causes()
        line.read(100)
        complete_twice(device, device.extension.held[0])
        return True

    with Shop(driver, line) as shop:
        shop.driver.device.extension.interrupt.isr = isr  # type: ignore[union-attr]
        first, second = shop.handle.submit_read(4), shop.other.submit_read(4)
        line.feed(b"x")
        shop.bridge.machine.run_until_idle()
        assert first.done and first.status == STATUS_SUCCESS
        with pytest.raises(BugCheck, match="0x44"):
            second.result()


def test_one_that_a_completion_routine_swallows() -> None:
    done: list[Irp] = []

    def routine(device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        assert device is not None
        complete_twice(device, done[0])
        return STATUS_SUCCESS

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if not done:
            done.append(irp)
            return hold(device, irp)
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(routine)
        return device.io.call_driver(device.extension.lower, irp)

    lower = TinyDriver("lower", {IrpMajor.READ: answer(b"data"), IrpMajor.WRITE: hold}, named=False)
    upper = TinyDriver("upper", {IrpMajor.READ: read, IrpMajor.WRITE: pass_down})
    with Bridge.manual() as bridge:
        plug(bridge, lower, "BAD", upper_filters=[upper])
        handle, other = bridge.open("BAD"), bridge.open("BAD")
        other.submit_read(4)
        queued = other.submit_write(b"queued")
        with pytest.raises(BugCheck, match="0x44"):
            handle.read(4)
        (fault,) = bridge.acknowledge_faults()
        assert isinstance(fault, BugCheck) and fault.driver == "upper", "not the driver that happened to complete"
        assert str(fault.place).endswith(line_of_the_mistake())
        assert queued.done and queued.status.is_error


def test_a_spin_lock_that_is_taken_twice_and_the_exception_swallowed() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        with device.queue_lock:
            try:
                device.queue_lock.acquire()
            except BugCheck:
                pass
        return complete(device, irp)

    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("bad", {IrpMajor.READ: read}))
        with bridge.open("DUT") as handle, pytest.raises(BugCheck, match="SPIN_LOCK_ALREADY_OWNED"):
            handle.read(1)
        (fault,) = bridge.acknowledge_faults()
        assert isinstance(fault, BugCheck) and fault.driver == "bad" and HERE in str(fault.place)


def test_a_wait_at_dispatch_level_that_a_dpc_swallows() -> None:
    event = Kevent()
    system = System()
    device = system.stack(TinyDriver("waits"))

    def quiet(_dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        try:
            system.ke.wait_for_single_object(event, 1.0)
        except BugCheck:
            pass

    system.ke.insert_queue_dpc(Kdpc(quiet, None, device))
    (fault,) = system.ke.faults
    assert isinstance(fault, BugCheck) and fault.code == 0xB8 and device.device_stack.fault is fault


def test_what_a_failed_stack_does_wrong_afterwards_is_raised_and_not_latched_again() -> None:
    system = System()
    device = system.stack(TinyDriver("bad"))
    first = system.ke.bug_check(0xC8, "IRQL_UNEXPECTED_VALUE", device=device)
    second = system.ke.bug_check(0xC8, "IRQL_UNEXPECTED_VALUE", device=device)
    assert first is not second
    assert system.ke.faults == [first] and device.device_stack.fault is first


def test_a_rule_that_no_driver_broke_is_only_raised() -> None:
    system = System()
    with bug_check(0x9) as caught, system.ke.raised_irql(DISPATCH_LEVEL), system.ke.raised_irql(PASSIVE_LEVEL):
        pass
    assert system.ke.faults == []
    assert caught.value.driver is None


def test_the_device_that_is_given_is_to_blame_whoever_runs() -> None:
    system = System()
    guilty = system.stack(TinyDriver("guilty"))
    held: list[BugCheck] = []

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        held.append(device.ke.bug_check(0x2A, "INCONSISTENT_IRP", device=guilty))
        return complete(device, irp)

    top = system.stack(TinyDriver("innocent", {IrpMajor.READ: read}))
    request = system.read(system.open(top), 1)
    assert request.done and request.status == STATUS_SUCCESS
    assert guilty.device_stack.fault is held[0] and top.device_stack.fault is None


# -- exceptions -----------------------------------------------------------------------------------------------------------


def test_the_place_of_an_exception_is_the_drivers_own_line_and_not_the_librarys() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        Path("/nowhere/to/be/found").read_text()
        return complete(device, irp)

    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("bad", {IrpMajor.READ: read}))
        with bridge.open("DUT") as handle, pytest.raises(DriverFault) as caught:
            handle.read(1)
        line = read.__code__.co_firstlineno + 1
        assert caught.value.place is not None and caught.value.place.endswith(f"{HERE}:{line}")
        assert str(caught.value).endswith(f"({caught.value.place})"), "the driver is named in the message already"
        bridge.acknowledge_faults()


def test_the_frames_of_the_model_and_of_the_library_are_nobodys_code() -> None:
    frame = sys._getframe()
    assert culprit.is_foreign(frame)
    seen: list[bool] = []
    system = System()
    system.ke.insert_queue_dpc(Kdpc(lambda *_: seen.append(culprit.is_foreign(sys._getframe(1)))))
    assert seen == [False], "run_dpc is ours"


# -- DPCs of nobody -------------------------------------------------------------------------------------------------------


def other_device(bridge: Bridge) -> Callable[[], bytes]:
    plug(bridge, TinyDriver("good", {IrpMajor.READ: answer(b"good")}), "GOOD")
    handle = bridge.open("GOOD")
    return lambda: handle.read(4)


def test_a_dpc_without_a_device_is_that_of_the_driver_that_made_it() -> None:
    def on_start(device: DeviceObject[Extension], _resources: Any) -> None:
        device.extension.dpc = Kdpc(raises(KeyError("boom")))

    driver = TinyDriver("bad", on_start=on_start)
    with Bridge.manual() as bridge:
        neighbour = other_device(bridge)
        plug(bridge, driver)
        assert driver.device.extension.dpc.device is not None
        bridge.ke.insert_queue_dpc(driver.device.extension.dpc)
        assert driver.device.device_stack.fault is not None
        assert neighbour() == b"good"
        bridge.acknowledge_faults()


def test_one_that_was_made_where_no_driver_ran_is_that_of_the_driver_that_queues_it() -> None:
    dpc = Kdpc(raises(KeyError("boom")))
    assert now(dpc.device) is None

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        device.ke.insert_queue_dpc(dpc)
        return complete(device, irp)

    driver = TinyDriver("bad", {IrpMajor.READ: read})
    with Bridge.manual() as bridge:
        neighbour = other_device(bridge)
        plug(bridge, driver)
        with bridge.open("DUT") as handle, pytest.raises(DriverFault, match="driver bad"):
            handle.read(1)
        assert now(dpc.device) is driver.device and type(dpc) is Kdpc, "from now on it costs what the others cost"
        assert neighbour() == b"good"
        bridge.acknowledge_faults()


def test_one_that_nobody_made_and_nobody_queued_is_that_of_its_module() -> None:
    def lonely(*_: Any) -> None:
        raise KeyError("boom")

    lonely.__module__ = "a_driver"
    add_device = TinyDriver("x").add_device

    def own(driver: Any, physical: Any) -> NtStatus:
        return mine.__class__.add_device(mine, driver, physical)

    own.__module__ = "a_driver"
    assert add_device is not None
    mine = TinyDriver("bad")
    mine.add_device = own  # type: ignore[method-assign]
    with Bridge.manual() as bridge:
        neighbour = other_device(bridge)
        plug(bridge, mine)
        bridge.ke.insert_queue_dpc(Kdpc(lonely))
        assert mine.device.device_stack.fault is not None
        assert neighbour() == b"good"
        bridge.acknowledge_faults()


def test_one_whose_driver_is_not_to_be_found_is_reported_and_fails_nobody() -> None:
    with Bridge.manual() as bridge:
        neighbour = other_device(bridge)
        boom = KeyError("boom")
        bridge.ke.insert_queue_dpc(Kdpc(lambda *_: do(raises(boom))))
        (fault,) = bridge.acknowledge_faults()
        assert fault.__cause__ is boom and "a DPC" in str(fault)
        assert neighbour() == b"good"
