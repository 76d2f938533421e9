"""What is plugged into a bridge: names, drivers, filters and settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

import hilbridge
from hilbridge import Bridge, DeviceGone, DriverFault, HilbridgeError, NameNotFound, UsageFault
from hilbridge.drivers.samples import null
from hilbridge.filters import counter
from hilbridge.model.codes import IrpMajor
from hilbridge.model.driver import DriverObject
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, STATUS_UNSUCCESSFUL, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import PNP_AT_START


def counts(bridge: Bridge, name: str) -> list[dict[str, int]]:
    """The numbers of every counter in a stack, top first. (By name there is one, and they may be several.)"""
    return [
        device.extension.statistics()
        for device in bridge.stack(name)
        if isinstance(device.extension, counter.CounterExtension)
    ]


# -- names -------------------------------------------------------------------------------------------------------------


def test_devices_are_called_com1_com2_and_so_on(bridge: Bridge) -> None:
    assert [bridge.plug("virtual:loop") for _ in range(3)] == ["COM1", "COM2", "COM3"]
    bridge.unplug("COM2")
    assert bridge.plug("virtual:loop") == "COM2"


ALIASES = ["COM7", "com7", "\\\\.\\COM7", "\\??\\COM7", "\\DosDevices\\COM7", "\\Device\\Serial0", "\\device\\serial0"]


@pytest.mark.parametrize("alias", ALIASES)
def test_every_name_of_a_device_opens_it(bridge: Bridge, alias: str) -> None:
    bridge.plug("virtual:loop", name="COM7")
    with bridge.open(alias) as port:
        port.write(b"abc")
        assert port.read(3) == b"abc"
        assert port.name == alias


def test_name_that_does_not_exist_lists_those_that_do(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", name="board")
    bridge.plug("virtual:loop", name="probe")
    for lookup in (bridge.open, bridge.unplug, bridge.stack):
        with pytest.raises(NameNotFound, match=r"borad.*board.*probe") as missing:
            lookup("borad")
        assert missing.value.exit_code == 4


def test_open_never_plugs(bridge: Bridge, pty: Pty) -> None:
    for name in (pty.path, "virtual:loop", ""):
        with pytest.raises(NameNotFound):
            bridge.open(name)
    assert bridge.devices() == []


@pytest.mark.parametrize("same", ["COM1", "com1", "Com1"])
def test_name_that_is_taken_is_refused(bridge: Bridge, same: str) -> None:
    bridge.plug("virtual:loop")
    with pytest.raises(UsageFault, match="already"):
        bridge.plug("virtual:loop", name=same)
    assert [device["name"] for device in bridge.devices()] == ["COM1"]


@pytest.mark.parametrize("prefix", ["\\\\.\\", "\\??\\", "\\DosDevices\\"])
def test_name_that_means_the_same_is_refused_and_the_device_keeps_its_name(bridge: Bridge, prefix: str) -> None:
    bridge.plug("virtual:loop")
    with pytest.raises(HilbridgeError):
        bridge.plug("virtual:loop", name=f"{prefix}COM1")
    with bridge.open("COM1") as port:
        port.write(b"abc")
        assert port.read(3) == b"abc"


@pytest.mark.parametrize("name", ["a\\b", "\\", "a\\"])
def test_name_that_could_never_be_opened_is_refused(bridge: Bridge, name: str) -> None:
    with pytest.raises(UsageFault):
        bridge.plug("virtual:loop", name=name)
    assert bridge.devices() == []


@pytest.mark.parametrize("name", ["board", "the board on my desk", "käse", "a.b-c_d", "COM1000"])
def test_name_may_be_anything_readable(bridge: Bridge, name: str) -> None:
    assert bridge.plug("virtual:loop", name=name) == name
    with bridge.open(name) as port:
        port.write(b"x")
        assert port.read(1) == b"x"


def test_refused_plug_takes_no_name_and_closes_the_line(bridge: Bridge) -> None:
    bridge.plug("virtual:loop")
    line = VirtualLine()
    with pytest.raises(UsageFault):
        bridge.plug(line, driver="no such driver")
    with pytest.raises(DeviceGone):
        line.write(b"x")
    assert bridge.plug("virtual:loop") == "COM2"


# -- drivers -----------------------------------------------------------------------------------------------------------


def null_entry(driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
    return null.driver_entry(driver, parameters)


@pytest.mark.parametrize(
    "driver",
    ["null", "hilbridge.drivers.samples.null", null, null.driver_entry, null_entry],
    ids=["name", "package.module", "module", "driver_entry", "a function"],
)
def test_driver_may_be_given_as(bridge: Bridge, driver: Any) -> None:
    name = bridge.plug("virtual:null", driver=driver)
    assert bridge.devices()[0]["stack"][0].endswith("\\Device\\Null")
    with bridge.open(name) as port:
        assert port.write(b"into nothing") == 12


def test_driver_is_loaded_once_for_all_its_devices(bridge: Bridge) -> None:
    for _ in range(3):
        bridge.plug("virtual:loop")
    assert len({id(bridge.stack(name)[0].driver_object) for name in ("COM1", "COM2", "COM3")}) == 1


def test_two_drivers_of_one_module_are_two(bridge: Bridge) -> None:
    """Also if they are functions in the same file, as in most tests."""
    loaded: list[str] = []

    def first(driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
        loaded.append("first")
        return counter.driver_entry(driver, parameters)

    def second(driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
        loaded.append("second")
        return counter.driver_entry(driver, parameters)

    bridge.plug("virtual:loop", upper_filters=[first, second])
    assert loaded == ["first", "second"]
    assert len(counts(bridge, "COM1")) == 2


def test_two_modules_with_the_same_last_name_are_two(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, source in (("pack_a", counter), ("pack_b", null)):
        module = ModuleType(f"{package}.echo")
        module.driver_entry = source.driver_entry  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.echo", module)
    bridge.plug("virtual:loop", upper_filters=["pack_a.echo"], name="filtered")
    bridge.plug("virtual:null", driver="pack_b.echo", name="nothing")
    with bridge.open("nothing") as nothing:
        assert nothing.write(b"abc") == 3


def failing(how: str) -> Callable[[DriverObject, Mapping[str, object]], Any]:
    def driver_entry(driver: DriverObject, parameters: Mapping[str, object]) -> Any:
        match how:
            case "driver_entry raises":
                raise ZeroDivisionError("oops")
            case "driver_entry returns an error":
                return STATUS_INSUFFICIENT_RESOURCES
            case "driver_entry returns nothing":
                return None
            case "add_device is missing":
                return STATUS_SUCCESS
            case "add_device raises":
                driver.add_device = lambda driver, physical: 1 // 0  # type: ignore[assignment,return-value]
            case "add_device returns an error":
                driver.add_device = lambda driver, physical: STATUS_UNSUCCESSFUL
            case "add_device returns nothing":
                driver.add_device = lambda driver, physical: None  # type: ignore[assignment,return-value]
            case _:
                raise AssertionError(how)
        return STATUS_SUCCESS

    return driver_entry


FAILINGS = [
    "driver_entry raises",
    "driver_entry returns an error",
    "driver_entry returns nothing",
    "add_device is missing",
    "add_device raises",
    "add_device returns an error",
    "add_device returns nothing",
]


@pytest.mark.parametrize("where", ["driver", "upper_filters", "lower_filters"])
@pytest.mark.parametrize("how", FAILINGS)
def test_driver_that_fails_is_named_and_leaves_nothing_behind(bridge: Bridge, how: str, where: str) -> None:
    bridge.plug("virtual:loop", name="healthy")
    line = VirtualLine()
    driver: Any = failing(how) if where == "driver" else ["counter", failing(how)]
    with pytest.raises(DriverFault) as fault:
        bridge.plug(line, name="sick", **{where: driver})
    assert fault.value.exit_code == 9
    with pytest.raises(DeviceGone):
        line.write(b"x")
    assert [device["name"] for device in bridge.devices()] == ["healthy"]
    assert [name for name, _ in bridge.io.namespace.links()] == ["\\DosDevices\\healthy"]
    with bridge.open("healthy") as port:
        port.write(b"abc")
        assert port.read(3) == b"abc"
    assert bridge.plug("virtual:loop", name="sick") == "sick"


@pytest.mark.parametrize(
    ("driver", "kind", "says"),
    [
        ("nothing", UsageFault, "cancel, cancel-startio, counter, event, null, serial, sioctl"),
        ("no.such.module", UsageFault, "no.such.module"),
        ("hilbridge.model.status", DriverFault, "driver_entry"),
        (hilbridge, DriverFault, "driver_entry"),
    ],
)
def test_unknown_driver(bridge: Bridge, driver: Any, kind: type[HilbridgeError], says: str) -> None:
    with pytest.raises(kind, match=says):
        bridge.plug("virtual:loop", driver=driver)
    assert bridge.devices() == []


# -- filters -----------------------------------------------------------------------------------------------------------


def test_filters_above_and_below_see_what_passes(bridge: Bridge) -> None:
    """Requests of applications end at the serial driver, which owns the hardware: below it only Plug and Play is seen."""
    name = bridge.plug("virtual:loop", upper_filters=["counter"], lower_filters=["counter"])
    above, below = 0, 1
    assert counts(bridge, name) == [{"PNP": PNP_AT_START}, {"PNP": PNP_AT_START}]
    with bridge.open(name) as port:
        for _ in range(3):
            port.write(b"abcd")
            assert port.read(4) == b"abcd"
        port.flush()
        assert port.baudrate == 115200
        seen = counts(bridge, name)
    assert seen[above] == {
        "CREATE": 1,
        "WRITE": 3,
        "READ": 3,
        "FLUSH_BUFFERS": 1,
        "DEVICE_CONTROL": 1,
        "PNP": PNP_AT_START,
    }
    assert seen[below] == {"PNP": PNP_AT_START}
    seen = counts(bridge, name)
    assert (seen[above]["CLEANUP"], seen[above]["CLOSE"]) == (1, 1)


def test_order_of_filters_is_from_the_bottom_up(bridge: Bridge) -> None:
    order: list[str] = []

    def tracer(label: str) -> ModuleType:
        module = ModuleType(label)

        def driver_entry(driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
            counter.driver_entry(driver, parameters)
            counted = driver.major_function[IrpMajor.WRITE]

            def write(device: Any, irp: Any) -> NtStatus:
                order.append(label)
                status: NtStatus = counted(device, irp)
                return status

            driver.major_function[IrpMajor.WRITE] = write
            return STATUS_SUCCESS

        module.driver_entry = driver_entry  # type: ignore[attr-defined]
        return module

    name = bridge.plug(
        "virtual:loop", lower_filters=[tracer("a"), tracer("b")], upper_filters=[tracer("c"), tracer("d")]
    )
    assert [device.driver_object.name for device in bridge.stack(name)] == ["d", "c", "serial", "b", "a", "rootbus"]
    with bridge.open(name) as port:
        port.write(b"x")
    assert order == ["d", "c"]


def test_every_way_of_reading_works_through_filters(bridge: Bridge) -> None:
    line = VirtualLine()
    name = bridge.plug(line, upper_filters=["counter"] * 5, lower_filters=["counter"] * 5)
    with bridge.open(name) as port:
        line.feed(b"some\nline\nfour")
        assert port.read_some(5) == b"some\n"
        assert port.readline() == b"line\n"
        assert port.read(4) == b"four"
        with pytest.raises(TimeoutError):
            port.read(1)
        request = port.submit_read(1)
        request.cancel()
        line.feed(b"x")
        assert port.read(1) == b"x"
        line.unplug()
        with pytest.raises(DeviceGone):
            port.read(1)


def test_string_instead_of_a_list_of_filters_is_refused(bridge: Bridge) -> None:
    """Each of its characters would be taken for a filter."""
    with pytest.raises(UsageFault, match="list"):
        bridge.plug("virtual:loop", upper_filters="counter")
    assert bridge.devices() == []


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"baudrate": 0},
        {"baudrate": -1},
        {"baudrate": 1.5},
        {"baudrate": "9600"},
        {"baudrate": True},
        {"baudrate": None},
        {"baudrate": 1 << 32},
        {"baudrate": 10**30},
        {"bytesize": 9},
        {"bytesize": "8"},
        {"parity": "even"},
        {"parity": None},
        {"stopbits": 3},
        {"stopbits": "1"},
        {"speed": 9600},
    ],
    ids=str,
)
def test_impossible_setting_is_the_callers_mistake(bridge: Bridge, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageFault, match=next(iter(wrong))) as refused:
        bridge.plug("virtual:loop", **wrong)
    assert refused.value.exit_code == 2
    assert bridge.devices() == []
    assert bridge.faults == []


# -- what drivers publish ------------------------------------------------------------------------------------------------


def test_a_port_publishes_what_it_is(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", name="dut", baudrate=9600)
    published = bridge.properties("dut")
    assert published["MSSerial_PortName"] == {"PortName": "dut"}
    assert published["MSSerial_CommInfo"]["BaudRate"] == 9600
    with pytest.raises(NameNotFound):
        bridge.properties("nothing")


def test_a_driver_that_publishes_nothing_has_no_properties(bridge: Bridge) -> None:
    bridge.plug("virtual:null", name="nul")
    assert bridge.properties("nul") == {}
