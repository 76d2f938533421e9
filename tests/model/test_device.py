"""DEVICE_OBJECT and DRIVER_OBJECT as they are born, and walking a stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    DO_EXCLUSIVE,
    DRVO_LEGACY_DRIVER,
    FILE_DEVICE_SERIAL_PORT,
    FILE_DEVICE_UNKNOWN,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.file import FileObject
from hilbridge.model.status import NtStatus
from tests.support import Extension, System, TinyDriver, now


def test_a_new_device_is_alone_initializing_idle_and_one_high() -> None:
    system = System()
    driver = system.io.load_driver("d", TinyDriver("d").driver_entry)
    extension = Extension()
    device = system.io.create_device(driver, extension, "\\Device\\New", FILE_DEVICE_SERIAL_PORT, 0x100)
    assert device.extension is extension
    assert device.driver_object is driver and device.io is system.io and device.ke is system.ke
    assert device.flags & ~0x40 == DO_DEVICE_INITIALIZING
    assert (device.stack_size, device.reference_count, device.device_type) == (1, 0, FILE_DEVICE_SERIAL_PORT)
    assert device.characteristics == 0x100
    assert device.attached_device is None and device.lower_device is None
    assert device.current_irp is None and not device.device_queue.busy
    assert device.top is device and device.bottom is device
    assert list(device.walk_up()) == list(device.walk_down()) == [device]
    assert repr(device) == "<DEVICE \\Device\\New of d>"


def test_the_devices_of_a_driver_are_listed_newest_first() -> None:
    system = System()
    driver = system.io.load_driver("d", TinyDriver("d").driver_entry)
    assert now(driver.device_object) is None
    made = [system.io.create_device(driver, number) for number in range(3)]
    listed: list[DeviceObject[Any]] = []
    device = driver.device_object
    while device is not None:
        listed.append(device)
        device = device.next_device
    assert listed == made[::-1]
    assert "(unnamed)" in repr(made[0])


def test_walking_a_stack_up_and_down() -> None:
    system = System()
    top = system.stack(TinyDriver("a"), TinyDriver("b"), TinyDriver("c"))
    down = list(top.walk_down())
    assert [device.driver_object.name for device in down[:3]] == ["c", "b", "a"] and len(down) == 4
    assert list(down[-1].walk_up()) == down[::-1]
    assert all(device.top is top and device.bottom is down[-1] for device in down)
    assert len({id(device.device_stack) for device in down}) == 1, "a stack shares its fault and its cancel lock"


def test_a_driver_object_before_driver_entry_has_touched_it() -> None:
    system = System()
    seen: dict[str, Any] = {}

    class Looking(TinyDriver):
        def driver_entry(self, driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
            seen.update(
                flags=driver.flags,
                name=driver.name,
                slots=list(driver.major_function),
                rest=(driver.add_device, driver.unload, driver.driver_start_io, driver.device_object),
                parameters=(dict(parameters), dict(driver.parameters)),
            )
            return super().driver_entry(driver, parameters)

    driver = system.io.load_driver("looking", Looking("looking").driver_entry, {"speed": 5})
    assert seen["flags"] == DRVO_LEGACY_DRIVER
    assert seen["name"] == "looking"
    assert len(seen["slots"]) == len(IrpMajor) and all(callable(slot) for slot in seen["slots"])
    assert len(set(seen["slots"])) == 1, "one shared default"
    assert seen["rest"] == (None, None, None, None)
    assert seen["parameters"] == ({"speed": 5}, {"speed": 5})
    assert repr(driver) == "<DRIVER looking>"


def test_the_unload_routine_has_a_long_and_a_short_name() -> None:
    driver = System().io.load_driver("d", TinyDriver("d").driver_entry)
    driver.unload = None
    assert driver.driver_unload is None

    def unload(_driver: object) -> None:
        pass

    driver.driver_unload = unload
    assert driver.unload is unload


def test_a_file_object_says_what_it_may() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    assert device.device_type == FILE_DEVICE_UNKNOWN and device.flags == DO_BUFFERED_IO | 0x40
    assert not device.flags & DO_EXCLUSIVE
    for access, shown in ((3, "rw"), (1, "r"), (2, "w"), (0, "no data")):
        file = FileObject(device, "\\rest", access, 9)
        assert repr(file) == f"<FILE 9 on \\Device\\d0 ({shown})>"
        assert file.file_name == "\\rest" and file.irps == {}
