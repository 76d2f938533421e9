"""Drivers that cannot be: each gives a report that names it, nothing hangs, and it can still be unloaded."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import HilbridgeError, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_FAILED_DRIVER_ENTRY,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_COLLISION,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.badinput.badkit import Healthy
from tests.support import System, Thread, TinyDriver, complete, hold, pend, plug, wait


def entry_of(work: Any) -> Any:
    """A module whose driver_entry does `work(driver)`."""
    module = TinyDriver("odd")
    good = module.driver_entry

    def driver_entry(driver: DriverObject, parameters: Any) -> Any:
        good(driver, parameters)
        answer = work(driver)
        return STATUS_SUCCESS if answer is None else answer

    module.driver_entry = driver_entry  # type: ignore[method-assign, assignment]
    return module


@pytest.fixture
def sick(healthy: Healthy) -> Any:
    """Plug in what a test gives; what comes of it is the error. The neighbour must not have noticed."""

    def plug_it(driver: Any) -> HilbridgeError:
        with pytest.raises(HilbridgeError) as caught:
            healthy.bridge.plug("virtual:null", driver=driver, name="sick")
        return caught.value

    yield plug_it
    faults = healthy.bridge.acknowledge_faults()
    healthy.bridge.ke.faults.clear()
    assert len(faults) <= 1
    healthy.check()


# -- driver_entry --------------------------------------------------------------------------------------------------------


def test_a_module_without_driver_entry(sick: Any) -> None:
    error = sick(ModuleType("no_driver"))
    assert isinstance(error, DriverFault) and "no_driver has no driver_entry(driver, parameters)" in str(error)


def test_a_driver_entry_that_raises(sick: Any) -> None:
    def work(_driver: DriverObject) -> None:
        raise ZeroDivisionError("by zero")

    error = sick(entry_of(work))
    assert isinstance(error, DriverFault)
    assert "driver odd raised ZeroDivisionError in driver_entry: by zero" in str(error)


@pytest.mark.parametrize("answer", [0, True, "ok", object()], ids=repr)
def test_a_driver_entry_that_returns_no_status(sick: Any, answer: Any) -> None:
    error = sick(entry_of(lambda _driver: answer))
    assert isinstance(error, DriverFault) and error.status == STATUS_FAILED_DRIVER_ENTRY
    assert "driver odd: driver_entry returned" in str(error) and "STATUS_SUCCESS" in str(error)


def test_a_driver_entry_that_fails_and_leaves_its_device_behind_can_be_tried_again() -> None:
    fails = [True]

    def work(driver: DriverObject) -> NtStatus | None:
        driver.io.create_device(driver, None, "\\Device\\Control")
        driver.io.create_symbolic_link("\\DosDevices\\CONTROL", "\\Device\\Control")
        driver.add_device = None
        return STATUS_NO_SUCH_DEVICE if fails[0] else None

    system = System()
    module = entry_of(work)
    with pytest.raises(NtStatusError, match="driver_entry of odd failed; it has left behind") as caught:
        system.io.load_driver("odd", module.driver_entry)
    assert "\\Device\\Control" in str(caught.value) and "the link \\DosDevices\\CONTROL" in str(caught.value)
    assert system.io.drivers == {} and system.io.namespace.links() == []
    fails[0] = False
    system.io.load_driver("odd", module.driver_entry)


# -- devices -------------------------------------------------------------------------------------------------------------


def test_a_device_that_is_named_twice() -> None:
    system = System()

    def work(driver: DriverObject) -> None:
        driver.io.create_device(driver, None, "\\Device\\Twin")
        driver.io.create_device(driver, None, "\\device\\TWIN")

    with pytest.raises(NtStatusError) as caught:
        system.io.load_driver("odd", entry_of(work).driver_entry)
    assert caught.value.status == STATUS_OBJECT_NAME_COLLISION
    words = str(caught.value)
    assert "driver odd: there is a device \\device\\TWIN already, of driver odd" in words and "left behind" in words
    assert system.io.drivers == {}


def test_a_name_that_another_driver_has() -> None:
    system = System()
    first = TinyDriver("first")
    system.stack(first)
    second = system.io.load_driver("second", TinyDriver("second").driver_entry)
    with pytest.raises(NtStatusError, match=r"driver second: there is a device .*first0 already, of driver first"):
        system.io.create_device(second, None, first.device.name)


def test_attaching_to_a_device_that_is_being_removed() -> None:
    system = System()
    lower = TinyDriver("lower")
    top = system.stack(lower)
    file = system.open(top)
    system.io.detach_device(lower.device.extension.lower)
    system.io.delete_device(top)
    late = system.io.create_device(system.io.load_driver("late", TinyDriver("late").driver_entry), None)
    with pytest.raises(NtStatusError, match=r"driver late: <DEVICE .*lower0 of lower> is being removed") as caught:
        system.io.attach_device_to_device_stack(late, top)
    assert caught.value.status == STATUS_NO_SUCH_DEVICE and late.lower_device is None and top.attached_device is None
    system.io.close_file(file)
    system.io.delete_device(late)
    assert system.io.unload_driver("late") is True


@pytest.mark.parametrize("what", ["itself", "the device above", "the same twice"])
def test_attaching_in_a_circle(what: str) -> None:
    system = System()
    lower, upper = TinyDriver("lower"), TinyDriver("upper")
    top = system.stack(lower, upper)
    source, target = {
        "itself": (top, top),
        "the device above": (lower.device, top),
        "the same twice": (top, lower.device),
    }[what]
    with pytest.raises(DriverFault, match=f"driver {source.driver_object.name} attaches .*go round for ever"):
        system.io.attach_device_to_device_stack(source, target)
    assert top.top is top and list(top.walk_down())[:2] == [top, lower.device], "nothing was changed"
    (fault,) = system.ke.faults
    assert source.device_stack.fault is fault
    for driver in (upper, lower):
        system.io.detach_device(driver.device.extension.lower)
        system.io.delete_device(driver.device)
        assert system.io.unload_driver(driver.__name__) is True


def test_an_add_device_that_attaches_its_device_to_itself(sick: Any) -> None:
    driver = TinyDriver("loop")

    def add_device(loaded: DriverObject, _physical: DeviceObject[Any]) -> NtStatus:
        device = loaded.io.create_device(loaded, None, "\\Device\\Loop")
        loaded.io.attach_device_to_device_stack(device, device)
        return STATUS_SUCCESS

    driver.add_device = add_device  # type: ignore[method-assign, assignment]
    error = sick(driver)
    assert isinstance(error, DriverFault) and "driver loop attaches <DEVICE \\Device\\Loop of loop> to" in str(error)


# -- requests ------------------------------------------------------------------------------------------------------------


def test_a_request_that_is_completed_twice() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        complete(device, irp)
        return complete(device, irp)

    driver = TinyDriver("twice", {IrpMajor.READ: read})
    bridge = Bridge.manual()
    plug(bridge, driver)
    handle = bridge.open("DUT")
    with pytest.raises(BugCheck, match=r"0x44 MULTIPLE_IRP_COMPLETE_REQUESTS .*\(driver twice, .*\.py:\d+\)"):
        handle.read(4)
    assert len(bridge.faults) == 1 and driver.device.device_stack.fault is bridge.faults[0]
    bridge.close()
    assert bridge.io.drivers.keys() <= {"rootbus"}, "it is unloaded"


def test_a_request_that_is_forgotten_is_helped_out_by_the_close() -> None:
    driver = TinyDriver("forgetful", {IrpMajor.READ: hold, IrpMajor.WRITE: pend})
    bridge = Bridge.manual()
    plug(bridge, driver)
    handle = bridge.open("DUT")
    kept, forgotten = handle.submit_write(b"x"), handle.submit_read(4)
    handle.close()
    assert kept.status == STATUS_CANCELLED and forgotten.done and forgotten.disowned
    (fault,) = bridge.faults
    assert "driver forgetful (\\Device\\forgetful0) did not complete" in str(fault)
    bridge.close()
    assert "forgetful" not in bridge.io.drivers


def test_a_driver_that_is_unloaded_while_a_thread_is_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilbridge.iomgr.unload.LOOKS", 3)
    monkeypatch.setattr("hilbridge.iomgr.request.CANCEL_GRACE", 100_000_000)
    inside, leave = threading.Event(), threading.Event()

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.mark_pending()
        inside.set()
        wait(leave)
        complete(device, irp, STATUS_CANCELLED)
        return STATUS_PENDING

    driver = TinyDriver("stuck", {IrpMajor.READ: read})
    bridge = Bridge()
    plug(bridge, driver)
    handle = bridge.open("DUT")
    reader = Thread(lambda: handle.submit_read(4))
    wait(inside)
    assert bridge.io.unload_driver("stuck") is False, "it goes later"
    with pytest.raises(HilbridgeError) as caught:
        bridge.close()
    leave.set()
    reader.finish()
    faults = [str(fault) for fault in (*bridge.faults, caught.value)]
    assert any("driver stuck" in fault and "did not complete" in fault for fault in faults)
    assert any(
        "driver stuck was unloaded while thread" in fault and "dispatch routine for READ" in fault for fault in faults
    )
    assert "stuck" not in bridge.io.drivers
