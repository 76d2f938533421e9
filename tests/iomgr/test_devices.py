"""Device objects: made, named, linked, stacked, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import NameNotFound
from hilbridge.iomgr.namespace import MAX_LINKS, Namespace, normalise
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import APC_LEVEL, DO_DEVICE_HAS_NAME, DO_EXCLUSIVE, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_COLLISION,
    STATUS_OBJECT_NAME_INVALID,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_NOT_FOUND,
    NtStatus,
)
from tests.support import System, TinyDriver, bug_check, now


class Bench(System):
    """A system with one loaded driver, whose devices are made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.driver: DriverObject = self.io.load_driver("d", TinyDriver("d").driver_entry)

    def device(self, name: str | None = None, **options: Any) -> DeviceObject[Any]:
        full = None if name is None else f"\\Device\\{name}"
        return self.io.create_device(self.driver, None, full, **options)

    def names(self) -> list[str | None]:
        found, device = [], self.driver.device_object
        while device is not None:
            found.append(device.name)
            device = device.next_device
        return found


def fails_with(status: NtStatus, call: Callable[[], object]) -> None:
    with pytest.raises(NtStatusError) as caught:
        call()
    assert caught.value.status == status


# -- making --------------------------------------------------------------------------------------------------------------


def test_names_are_flags_too() -> None:
    bench = Bench()
    assert bench.device("Named").flags & DO_DEVICE_HAS_NAME
    assert not bench.device().flags & DO_DEVICE_HAS_NAME
    assert bench.device(exclusive=True).flags & DO_EXCLUSIVE
    assert not bench.device().flags & DO_EXCLUSIVE


def test_a_name_is_taken_once_in_whatever_case() -> None:
    bench = Bench()
    bench.device("Serial0")
    fails_with(STATUS_OBJECT_NAME_COLLISION, lambda: bench.device("Serial0"))
    fails_with(STATUS_OBJECT_NAME_COLLISION, lambda: bench.device("SERIAL0"))
    assert bench.names() == ["\\Device\\Serial0"], "what failed has left nothing in the driver's list"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("Serial0", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\Serial0", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\Devices\\Serial0", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\Device\\Sub\\Serial0", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\DosDevices\\COM1", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\Device\\", STATUS_OBJECT_NAME_INVALID),
    ],
)
def test_devices_live_in_the_device_directory(name: str, status: NtStatus) -> None:
    bench = Bench()
    fails_with(status, lambda: bench.io.create_device(bench.driver, None, name))
    assert bench.names() == []


def test_the_device_directory_is_found_in_whatever_case() -> None:
    bench = Bench()
    device = bench.io.create_device(bench.driver, None, "\\DEVICE\\Serial0")
    assert bench.io.namespace.resolve("\\device\\serial0") == (device, "")


# -- deleting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_deleted_device_leaves_the_list_of_its_driver_and_frees_its_name(which: int) -> None:
    bench = Bench()
    devices = [bench.device(f"D{number}") for number in range(3)]
    bench.io.delete_device(devices[which])
    assert bench.names() == [device.name for device in reversed(devices) if device is not devices[which]]
    with pytest.raises(NameNotFound):
        bench.io.namespace.resolve(f"\\Device\\D{which}")
    bench.device(f"D{which}")


def test_a_device_is_deleted_once() -> None:
    bench = Bench()
    device = bench.device("D")
    bench.io.delete_device(device)
    with bug_check(0xC9, 0x240, device):
        bench.io.delete_device(device)


def test_an_attached_device_is_detached_first() -> None:
    bench = Bench()
    lower, upper = bench.device(), bench.device()
    bench.io.attach_device_to_device_stack(upper, lower)
    with bug_check(0xC9, 0x201, upper):
        bench.io.delete_device(upper)
    assert not upper.delete_pending
    bench.io.detach_device(lower)
    bench.io.delete_device(upper)


def test_an_open_device_is_deleted_at_its_last_close_and_keeps_its_name_until_then() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    one, two = system.open(device), system.open(device)
    assert device.lower_device is not None
    system.io.detach_device(device.lower_device)
    system.io.delete_device(device)
    assert device.delete_pending
    with pytest.raises(NameNotFound):
        system.open(device)
    driver = device.driver_object
    fails_with(STATUS_OBJECT_NAME_COLLISION, lambda: system.io.create_device(driver, None, device.name))
    system.io.close_file(one)
    assert now(driver.device_object) is device
    system.io.close_file(two)
    assert driver.device_object is None
    system.io.create_device(driver, None, device.name)


def test_a_name_that_was_given_to_another_device_is_not_taken_from_it() -> None:
    bench = Bench()
    old = bench.device("D")
    bench.io.delete_device(old)
    new = bench.device("D")
    bench.io.namespace.remove(old)
    assert bench.io.namespace.resolve("\\Device\\D")[0] is new


def test_a_device_that_is_deleted_while_it_is_being_opened_is_not_opened() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    refuse = system.io.refuse_if_dead

    def delete_meanwhile(device: DeviceObject[Any]) -> None:
        refuse(device)
        assert device.lower_device is not None
        system.io.detach_device(device.lower_device)
        system.io.delete_device(device)

    system.io.refuse_if_dead = delete_meanwhile  # type: ignore[method-assign]
    with pytest.raises((NameNotFound, NtStatusError)):
        system.open(device)
    assert device.reference_count == 0 and device.driver_object.device_object is None


# -- stacks --------------------------------------------------------------------------------------------------------------


def test_attaching_goes_to_the_top_of_the_targets_stack_and_says_where() -> None:
    bench = Bench()
    bottom, middle, top, late = (bench.device() for _ in range(4))
    assert bench.io.attach_device_to_device_stack(middle, bottom) is bottom
    assert bench.io.attach_device_to_device_stack(top, bottom) is middle, "not the device that was asked for"
    assert bench.io.attach_device_to_device_stack(late, middle) is top
    assert [device.stack_size for device in (bottom, middle, top, late)] == [1, 2, 3, 4]
    assert list(late.walk_down()) == [late, top, middle, bottom]
    assert len({id(device.device_stack) for device in (bottom, middle, top, late)}) == 1


def test_stack_sizes_are_not_computed_again_on_detach() -> None:
    bench = Bench()
    bottom, middle, top = (bench.device() for _ in range(3))
    bench.io.attach_device_to_device_stack(middle, bottom)
    bench.io.attach_device_to_device_stack(top, bottom)
    bench.io.detach_device(middle)
    assert middle.attached_device is None and top.lower_device is None
    assert (middle.stack_size, top.stack_size) == (2, 3)
    assert middle.top is middle and bottom.top is middle


def test_detaching_what_is_not_attached_is_bug_check_c9_202() -> None:
    bench = Bench()
    device = bench.device()
    with bug_check(0xC9, 0x202, device):
        bench.io.detach_device(device)


def test_nothing_is_attached_to_a_device_that_goes() -> None:
    bench = Bench()
    lower, upper = bench.device(), bench.device()
    bench.io.delete_device(lower)
    fails_with(STATUS_NO_SUCH_DEVICE, lambda: bench.io.attach_device_to_device_stack(upper, lower))
    fails_with(STATUS_DELETE_PENDING, lambda: bench.io.attach_device_to_device_stack(lower, upper))
    assert upper.lower_device is None and lower.attached_device is None


def test_an_irp_has_a_location_for_every_device_of_the_stack() -> None:
    seen: list[tuple[str, int, int]] = []

    def look(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        seen.append((device.driver_object.name, irp.current_location, irp.stack_count))
        irp.copy_current_stack_location_to_next()
        return device.io.call_driver(device.extension.lower, irp)

    system = System()
    top = system.stack(*(TinyDriver(name, {IrpMajor.READ: look}) for name in "cba"))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent())
    system.io.call_and_wait(top, irp)
    assert seen == [("a", 4, 4), ("b", 3, 4), ("c", 2, 4)]


# -- IRQL ----------------------------------------------------------------------------------------------------------------


def test_device_routines_are_called_at_passive_level() -> None:
    bench = Bench()
    lower, upper = bench.device(), bench.device()
    calls = (
        lambda: bench.device(),
        lambda: bench.io.attach_device_to_device_stack(upper, lower),
        lambda: bench.io.create_symbolic_link("COM1", "\\Device\\D"),
        lambda: bench.io.delete_symbolic_link("COM1"),
    )
    for call in calls:
        with bench.ke.raised_irql(APC_LEVEL), bug_check(0xA):
            call()
    assert upper.lower_device is None and bench.io.namespace.links() == []


# -- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    ["COM1", "com1", "\\\\.\\COM1", "\\??\\COM1", "\\DosDevices\\COM1", "\\dosdevices\\Com1", "\\GLOBAL??\\COM1"],
)
def test_every_spelling_of_a_short_name_finds_the_device(spelling: str) -> None:
    bench = Bench()
    device = bench.device("Serial0")
    bench.io.create_symbolic_link("\\DosDevices\\COM1", "\\Device\\Serial0")
    assert bench.io.namespace.resolve(spelling) == (device, "")
    assert bench.io.namespace.resolve(spelling + "\\a\\b") == (device, "\\a\\b")
    assert normalise(spelling).lower() == "\\dosdevices\\com1"


@pytest.mark.parametrize("spelling", ["COM1", "\\??\\COM1", "\\\\.\\COM1", "\\DosDevices\\COM1"])
def test_a_link_is_one_name_however_it_was_spelled(spelling: str) -> None:
    bench = Bench()
    device = bench.device("Serial0")
    bench.io.create_symbolic_link(spelling, "\\Device\\Serial0")
    fails_with(STATUS_OBJECT_NAME_COLLISION, lambda: bench.io.create_symbolic_link("com1", "\\Device\\Other"))
    assert bench.io.namespace.resolve("COM1")[0] is device
    assert bench.io.namespace.links() == [("\\DosDevices\\COM1", "\\Device\\Serial0")]
    bench.io.delete_symbolic_link("\\??\\com1")
    fails_with(STATUS_OBJECT_NAME_NOT_FOUND, lambda: bench.io.delete_symbolic_link("COM1"))


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a\\b", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\Device\\Alias", STATUS_OBJECT_PATH_NOT_FOUND),
        ("\\Elsewhere\\COM1", STATUS_OBJECT_PATH_NOT_FOUND),
        ("", STATUS_OBJECT_NAME_INVALID),
        ("\\DosDevices\\", STATUS_OBJECT_NAME_INVALID),
    ],
)
def test_a_link_that_nobody_could_find_is_refused(name: str, status: NtStatus) -> None:
    bench = Bench()
    fails_with(status, lambda: bench.io.create_symbolic_link(name, "\\Device\\D"))
    assert bench.io.namespace.links() == []


def test_a_link_may_be_made_before_its_target_and_outlives_it() -> None:
    bench = Bench()
    bench.io.create_symbolic_link("COM1", "\\Device\\Serial0")
    with pytest.raises(NameNotFound, match="COM1"):
        bench.io.namespace.resolve("COM1")
    device = bench.device("Serial0")
    assert bench.io.namespace.resolve("COM1")[0] is device
    bench.io.delete_device(device)
    with pytest.raises(NameNotFound):
        bench.io.namespace.resolve("COM1")


def test_a_link_to_a_link_adds_up_what_is_left_of_the_name() -> None:
    bench = Bench()
    device = bench.device("Serial0")
    bench.io.create_symbolic_link("INNER", "\\Device\\Serial0\\channel")
    bench.io.create_symbolic_link("OUTER", "\\??\\INNER")
    assert bench.io.namespace.resolve("OUTER\\file") == (device, "\\channel\\file")


def test_links_in_a_circle_end() -> None:
    bench = Bench()
    bench.io.create_symbolic_link("A", "\\??\\B")
    bench.io.create_symbolic_link("B", "\\??\\A")
    with pytest.raises(NameNotFound):
        bench.io.namespace.resolve("A")


def test_a_long_chain_of_links_is_followed_up_to_a_limit() -> None:
    bench = Bench()
    device = bench.device("D")
    for number in range(MAX_LINKS + 1):
        bench.io.create_symbolic_link(f"L{number}", f"\\??\\L{number - 1}" if number else "\\Device\\D")
    assert bench.io.namespace.resolve(f"L{MAX_LINKS - 2}")[0] is device
    with pytest.raises(NameNotFound):
        bench.io.namespace.resolve(f"L{MAX_LINKS}")


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    bench = Bench()
    with pytest.raises(NameNotFound, match="no devices: plug one in"):
        bench.io.namespace.resolve("COM1")
    for number in (2, 1):
        bench.io.create_symbolic_link(f"COM{number}", "\\Device\\D")
    with pytest.raises(NameNotFound, match=r"'COM9'; this bridge has COM1, COM2"):
        bench.io.namespace.resolve("COM9")


def test_the_short_names_of_a_device() -> None:
    bench = Bench()
    device, unnamed = bench.device("Serial0"), bench.device()
    for name in ("COM2", "COM1"):
        bench.io.create_symbolic_link(name, "\\device\\SERIAL0")
    bench.io.create_symbolic_link("OTHER", "\\Device\\Serial1")
    assert bench.io.namespace.links_to(device) == ["COM1", "COM2"]
    assert bench.io.namespace.links_to(unnamed) == []


def test_two_namespaces_share_nothing() -> None:
    one, two = Namespace(), Namespace()
    one.link("COM1", "\\Device\\D")
    assert two.links() == []
