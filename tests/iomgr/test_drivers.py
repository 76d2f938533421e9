"""Loading and unloading drivers, and what a dispatch table holds that its driver did not fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hilbridge import Bridge, DriverFault, UsageFault
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DO_DEVICE_INITIALIZING,
    DRVO_INITIALIZED,
    DRVO_LEGACY_DRIVER,
    DRVO_UNLOAD_INVOKED,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import BugCheck, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DEVICE_NOT_READY,
    STATUS_FAILED_DRIVER_ENTRY,
    STATUS_IMAGE_ALREADY_LOADED,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import Extension, System, TinyDriver, complete, pass_down, plug, raises, succeed

LEFT_ALONE = (IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL)


def entry(work: Callable[[DriverObject], NtStatus | None]) -> Any:
    """A driver_entry that does `work`; what that returns, if not None, is what it returns."""

    def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
        status = work(driver)
        return STATUS_SUCCESS if status is None else status

    return driver_entry


def send(system: System, device: DeviceObject[Any], major: IrpMajor) -> Irp:
    """One request of that kind to a device, and back."""
    irp = system.io.build_synchronous_fsd_request(major, device, Kevent())
    irp.io_status.information = 77
    system.io.call_and_wait(device, irp)
    return irp


# -- loading -------------------------------------------------------------------------------------------------------------


def test_a_driver_is_initialized_when_its_entry_has_succeeded() -> None:
    system = System()
    driver = system.io.load_driver("d", TinyDriver("d").driver_entry)
    assert driver.flags == DRVO_INITIALIZED
    assert system.io.drivers == {"d": driver}


def test_a_driver_without_add_device_stays_a_legacy_driver() -> None:
    system = System()
    driver = system.io.load_driver("d", entry(lambda driver: None))
    assert driver.flags == DRVO_INITIALIZED | DRVO_LEGACY_DRIVER


def test_devices_that_the_entry_creates_are_cleared_of_initializing() -> None:
    system = System()

    def create_two(driver: DriverObject) -> None:
        for number in range(2):
            device = driver.io.create_device(driver, None, f"\\Device\\Early{number}")
            assert device.flags & DO_DEVICE_INITIALIZING

    driver = system.io.load_driver("d", entry(create_two))
    device = driver.device_object
    assert device is not None and device.next_device is not None
    assert not (device.flags | device.next_device.flags) & DO_DEVICE_INITIALIZING
    late = system.io.create_device(driver, None)
    assert late.flags & DO_DEVICE_INITIALIZING, "later ones the driver clears itself"


def test_loading_again_while_loaded() -> None:
    system = System()
    system.io.load_driver("d", TinyDriver("d").driver_entry)
    with pytest.raises(NtStatusError) as caught:
        system.io.load_driver("d", TinyDriver("d").driver_entry)
    assert caught.value.status == STATUS_IMAGE_ALREADY_LOADED


def test_an_entry_that_fails_fails_the_load_with_its_status_and_is_not_unloaded() -> None:
    system = System()
    unloaded: list[object] = []

    def fail(driver: DriverObject) -> NtStatus:
        driver.unload = unloaded.append
        return STATUS_INSUFFICIENT_RESOURCES

    with pytest.raises(NtStatusError) as caught:
        system.io.load_driver("d", entry(fail))
    assert caught.value.status == STATUS_INSUFFICIENT_RESOURCES
    assert unloaded == [] and system.io.drivers == {}
    system.io.load_driver("d", TinyDriver("d").driver_entry)


def test_a_status_error_that_passes_through_the_entry_is_its_status() -> None:
    system = System()
    with pytest.raises(NtStatusError) as caught:
        system.io.load_driver("d", entry(raises(NtStatusError(STATUS_DEVICE_NOT_READY, "not now"))))
    assert caught.value.status == STATUS_DEVICE_NOT_READY


@pytest.mark.parametrize("error", [KeyError("boom"), BugCheck(0x2, "DEVICE_QUEUE_NOT_BUSY"), UsageFault("no")])
def test_an_entry_that_raises_is_the_drivers_fault_by_name(error: Exception) -> None:
    system = System()
    with pytest.raises(DriverFault, match=f"driver d raised {type(error).__name__} in driver_entry") as caught:
        system.io.load_driver("d", entry(raises(error)))
    assert caught.value.status == STATUS_FAILED_DRIVER_ENTRY and caught.value.__cause__ is error
    assert system.io.drivers == {}


@pytest.mark.parametrize("answer", [0, True, "STATUS_SUCCESS"])
def test_an_entry_that_returns_no_status_is_the_drivers_fault(answer: Any) -> None:
    system = System()
    with pytest.raises(DriverFault, match=r"driver_entry returned .*return STATUS_SUCCESS") as caught:
        system.io.load_driver("d", lambda _driver, _parameters: answer)
    assert caught.value.status == STATUS_FAILED_DRIVER_ENTRY
    assert system.io.drivers == {}


def test_an_entry_that_forgets_to_return_is_told_so() -> None:
    with pytest.raises(DriverFault, match="returned None"):
        System().io.load_driver("d", lambda _driver, _parameters: None)  # type: ignore[arg-type, return-value]


# -- the dispatch table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [major for major in IrpMajor if major not in LEFT_ALONE], ids=lambda m: m.name)
def test_an_entry_that_was_not_filled_refuses_the_request(major: IrpMajor) -> None:
    system = System()
    device = system.io.create_device(system.io.load_driver("bare", entry(lambda driver: None)), None)
    irp = send(system, device, major)
    assert irp.io_status.status == STATUS_INVALID_DEVICE_REQUEST
    assert irp.io_status.information == 0


@pytest.mark.parametrize("major", LEFT_ALONE, ids=lambda m: m.name)
def test_plug_and_play_power_and_wmi_keep_the_status_that_they_came_with(major: IrpMajor) -> None:
    system = System()
    device = system.io.create_device(system.io.load_driver("bare", entry(lambda driver: None)), None)
    assert send(system, device, major).io_status.status == STATUS_NOT_SUPPORTED


@pytest.mark.parametrize("major", LEFT_ALONE, ids=lambda m: m.name)
def test_a_filter_that_does_not_know_them_passes_them_down(major: IrpMajor) -> None:
    system = System()
    lower = TinyDriver("lower", {major: lambda device, irp: complete(device, irp, STATUS_DEVICE_NOT_READY)})
    bare = TinyDriver("bare", dict.fromkeys(LEFT_ALONE))
    top = system.stack(lower, bare)
    assert top.driver_object.name == "bare"
    assert send(system, top, major).io_status.status == STATUS_DEVICE_NOT_READY


def test_an_ordinary_request_is_not_passed_down_by_a_driver_that_does_not_know_it() -> None:
    system = System()
    top = system.stack(TinyDriver("lower", {IrpMajor.READ: succeed}), TinyDriver("bare"))
    assert send(system, top, IrpMajor.READ).io_status.status == STATUS_INVALID_DEVICE_REQUEST


def test_a_slot_that_the_entry_set_to_none_gets_the_default() -> None:
    system = System()

    def clear(driver: DriverObject) -> None:
        for major in IrpMajor:
            driver.major_function[major] = None

    driver = system.io.load_driver("d", entry(clear))
    assert all(callable(slot) for slot in driver.major_function)
    assert len(set(driver.major_function)) == 1
    device = system.io.create_device(driver, None)
    assert send(system, device, IrpMajor.READ).io_status.status == STATUS_INVALID_DEVICE_REQUEST


def test_a_whole_device_of_nothing_but_defaults_refuses_to_open() -> None:
    def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        device = driver.io.create_device(driver, Extension(), "\\Device\\Bare")
        driver.io.attach_device_to_device_stack(device, physical)
        return STATUS_SUCCESS

    bare = TinyDriver("bare")
    bare.driver_entry = entry(lambda driver: setattr(driver, "add_device", add_device))  # type: ignore[method-assign]
    with Bridge.manual() as bridge:
        plug(bridge, bare)
        with pytest.raises(UsageFault, match="makes no sense for this device"):
            bridge.open("DUT")
        assert bridge.devices()[0]["opens"] == 0


# -- unloading -----------------------------------------------------------------------------------------------------------


def test_unloading_runs_the_drivers_routine_once_and_forgets_it() -> None:
    system = System()
    unloaded: list[tuple[DriverObject, int]] = []
    driver = system.io.load_driver("d", TinyDriver("d").driver_entry)
    driver.unload = lambda d: unloaded.append((d, system.ke.irql))
    system.io.unload_driver("d")
    assert unloaded == [(driver, 0)]
    assert driver.flags & DRVO_UNLOAD_INVOKED
    with pytest.raises(NtStatusError) as caught:
        system.io.unload_driver("d")
    assert caught.value.status == STATUS_OBJECT_NAME_NOT_FOUND
    system.io.load_driver("d", TinyDriver("d").driver_entry)


def test_a_driver_without_an_unload_routine_stays() -> None:
    system = System()
    system.io.load_driver("d", entry(lambda driver: None))
    with pytest.raises(NtStatusError) as caught:
        system.io.unload_driver("d")
    assert caught.value.status == STATUS_INVALID_DEVICE_REQUEST
    assert "d" in system.io.drivers


def test_a_driver_whose_device_is_open_or_has_something_above_it_stays() -> None:
    system = System()
    lower, upper = TinyDriver("lower"), TinyDriver("upper", dict.fromkeys((IrpMajor.CREATE, IrpMajor.CLOSE), pass_down))
    top = system.stack(lower, upper)
    assert system.io.unload_driver("lower") is False
    assert "is attached to" in system.io.in_use(lower.device.driver_object)
    file = system.open(top)
    assert system.io.unload_driver("upper") is False
    assert "is open" in system.io.in_use(upper.device.driver_object)
    system.io.close_file(file)
    assert "is part of a device stack" in system.io.in_use(upper.device.driver_object)
    for driver in (upper, lower):
        assert driver.__name__ in system.io.drivers
        system.io.detach_device(driver.device.extension.lower)
        system.io.delete_device(driver.device)
        assert driver.__name__ not in system.io.drivers


def test_an_unload_routine_that_raises_is_reported_and_the_driver_is_gone_all_the_same() -> None:
    system = System()
    driver = system.io.load_driver("d", TinyDriver("d").driver_entry)
    driver.unload = raises(KeyError("boom"))
    with pytest.raises(DriverFault, match="driver d raised KeyError in its unload routine"):
        system.io.unload_driver("d")
    assert system.io.drivers == {}


def test_nothing_is_attached_to_a_device_of_a_driver_that_is_being_unloaded() -> None:
    system = System()
    top = system.stack(TinyDriver("d"))
    top.driver_object.flags |= DRVO_UNLOAD_INVOKED
    other = system.io.create_device(system.io.load_driver("other", TinyDriver("other").driver_entry), None)
    with pytest.raises(NtStatusError, match="being removed"):
        system.io.attach_device_to_device_stack(other, top)


# -- through a bridge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 0, True])
def test_an_add_device_that_returns_no_status_is_the_drivers_fault(answer: Any) -> None:
    driver = TinyDriver("odd")
    driver.add_device = lambda driver, physical: answer  # type: ignore[method-assign]
    with Bridge.manual() as bridge, pytest.raises(DriverFault, match="add_device of driver odd returned"):
        plug(bridge, driver)


@pytest.mark.parametrize("error", [KeyError("boom"), NtStatusError(STATUS_INSUFFICIENT_RESOURCES, "no memory")])
def test_an_add_device_that_raises_leaves_nothing_behind(error: Exception) -> None:
    driver = TinyDriver("odd")
    good = driver.add_device

    def add_device(*arguments: Any) -> NtStatus:
        good(*arguments)
        raise error

    driver.add_device = add_device  # type: ignore[method-assign, assignment]
    with Bridge.manual() as bridge:
        with pytest.raises(DriverFault, match="add_device"):
            plug(bridge, driver)
        assert bridge.devices() == []
        assert driver.device.delete_pending and driver.device.lower_device is None
        assert driver.device.driver_object.device_object is None


def test_a_start_that_fails_takes_the_device_out_again() -> None:
    def on_start(_device: DeviceObject[Any], _resources: Any) -> None:
        raise NtStatusError(STATUS_DEVICE_NOT_READY, "not now")

    def pnp(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        try:
            return TinyDriver.pnp(driver, device, irp)
        except NtStatusError as error:
            return complete(device, irp, error.status)

    driver = TinyDriver("late", {IrpMajor.PNP: pnp}, on_start=on_start)
    with Bridge.manual() as bridge:
        with pytest.raises(OSError, match="STATUS_DEVICE_NOT_READY"):
            plug(bridge, driver)
        assert bridge.devices() == []
        driver.on_start = None
        plug(bridge, driver)
        bridge.open("DUT").close()


def test_two_drivers_of_one_module_are_two_drivers() -> None:
    one, two = TinyDriver("one"), TinyDriver("two")
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="A", driver=one.driver_entry)
        bridge.plug("virtual:null", name="B", driver=two.driver_entry)
        assert len(one.devices) == len(two.devices) == 1


def test_one_driver_serves_many_devices() -> None:
    driver = TinyDriver("d")
    with Bridge.manual() as bridge:
        for number in range(3):
            plug(bridge, driver, f"D{number}")
        assert len(driver.devices) == 3
        assert len({device.driver_object for device in driver.devices}) == 1
