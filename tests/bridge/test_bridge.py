"""The bridge: plugging, names, stacks, filters, looking, and the end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest

import hilbridge
from hilbridge import (
    Bridge,
    BridgeClosed,
    DeviceBusy,
    DeviceGone,
    DeviceNotFound,
    DriverFault,
    HilbridgeError,
    NameNotFound,
    RequestCancelled,
    UsageFault,
)
from hilbridge.drivers.samples import null
from hilbridge.filters import counter
from hilbridge.model.codes import IrpMajor
from hilbridge.model.driver import DriverObject
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, STATUS_UNSUCCESSFUL, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import PATIENCE, Thread, wait


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge.manual() as bridge:
        yield bridge


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


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
        ("nothing", UsageFault, "counter, null, serial"),
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
    assert counts(bridge, name) == [{"PNP": 1}, {"PNP": 1}]
    with bridge.open(name) as port:
        for _ in range(3):
            port.write(b"abcd")
            assert port.read(4) == b"abcd"
        port.flush()
        assert port.baudrate == 115200
        seen = counts(bridge, name)
    assert seen[above] == {"CREATE": 1, "WRITE": 3, "READ": 3, "FLUSH_BUFFERS": 1, "DEVICE_CONTROL": 1, "PNP": 1}
    assert seen[below] == {"PNP": 1}
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


# -- looking -----------------------------------------------------------------------------------------------------------


def test_pending_lists_every_irp_with_its_age_and_holder_oldest_first(bridge: Bridge) -> None:
    line = VirtualLine(room=0)
    with bridge.open(bridge.plug(line)) as port, bridge.open(bridge.plug("virtual:line")) as other:
        port.submit_read(4)
        bridge.machine.advance(2)
        port.submit_write(b"abc")
        other.submit_read(1)
        bridge.machine.advance(1)
        listed = bridge.pending()
        assert [(p.device, p.what, p.age) for p in listed] == [
            ("COM1", "read(4)", 3.0),
            ("COM1", "write of 3 bytes", 1.0),
            ("COM2", "read(1)", 1.0),
        ]
        assert {p.holder for p in listed[:2]} == {"driver serial (\\Device\\Serial0)"}
        assert sorted(p.irp_id for p in listed) == [p.irp_id for p in listed]
        port.cancel_io()
        assert [p.device for p in bridge.pending()] == ["COM2"]


def test_statistics(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", upper_filters=["counter"])
    bridge.plug("virtual:line")
    with bridge.open("COM1") as port, bridge.open("COM2") as other:
        port.write(b"abc")
        other.submit_read(1)
        numbers = bridge.statistics()
    assert (numbers["devices"], numbers["pending"], numbers["timers"], numbers["faults"]) == (2, 1, 0, [])
    assert numbers["drivers"]["COM1/counter"]["WRITE"] == 1


def test_statistics_of_the_same_driver_twice_in_a_stack(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", upper_filters=["counter", "counter"])
    with bridge.open("COM1") as port:
        port.write(b"abc")
    assert [n.get("WRITE") for n in bridge.statistics()["drivers"].values()] == [1, 1]


def test_devices(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", upper_filters=["counter"])
    with bridge.open("COM1"), bridge.open("COM1", access="r"):
        [device] = bridge.devices()
    assert device["name"] == "COM1"
    assert device["moniker"] == "virtual:loop"
    assert device["state"] == "started"
    assert device["stack"] == ["counter (unnamed)", "serial \\Device\\Serial0", "rootbus (unnamed)"]
    assert device["opens"] == 2
    assert device["fault"] == ""


def test_access_must_be_one_of_three(bridge: Bridge) -> None:
    bridge.plug("virtual:loop")
    with pytest.raises(UsageFault, match="'rw'"):
        bridge.open("COM1", access="a")


# -- vectors and steering ----------------------------------------------------------------------------------------------


def test_devices_on_one_vector(bridge: Bridge) -> None:
    lines = [VirtualLine(f"virtual:{n}") for n in range(4)]
    handles = [bridge.open(bridge.plug(line, vector=5)) for line in lines]
    assert {device.extension.interrupt.vector.number for h in handles for device in bridge.stack(h.name)[:1]} == {5}
    for n, line in enumerate(lines):
        line.feed(bytes([n]) * 3)
    assert [handle.read(3) for handle in handles] == [bytes([n]) * 3 for n in range(4)]
    bridge.unplug("COM2")
    lines[3].feed(b"abc")
    assert handles[3].read(3) == b"abc"


@pytest.mark.parametrize("steering", [True, False])
@pytest.mark.parametrize("vector", [None, 7])
def test_ports_with_and_without_steering_and_sharing(steering: bool, vector: int | None) -> None:
    ptys = [Pty() for _ in range(4)]
    with Bridge(steering=steering) as bridge:
        handles = [bridge.open(bridge.plug(pty.path, vector=vector)) for pty in ptys]

        def talk(n: int) -> None:
            for turn in range(100):
                data = bytes([n, turn]) * 4
                os.write(ptys[n].board, data)
                assert handles[n].read(8) == data
                handles[n].write(data)
                assert ptys[n].hear(8) == data

        threads = [Thread(lambda n=n: talk(n)) for n in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.finish()
        for handle in handles:
            handle.close()
    for pty in ptys:
        pty.close()


@pytest.mark.parametrize("steering", [True, False])
def test_unplug_while_a_thread_waits(pty: Pty, steering: bool) -> None:
    with Bridge(steering=steering) as bridge:
        handle = bridge.open(bridge.plug(pty.path))
        os.write(pty.board, b"last")
        reader = Thread(lambda: handle.read(10, timeout=None))
        while handle.in_waiting < 4 or not bridge.pending():
            assert reader.is_alive()
        bridge.unplug("COM1")
        with pytest.raises(DeviceGone) as gone:
            reader.finish()
        assert gone.value.partial == b"last"
        handle.close()


def test_many_ports() -> None:
    """More than EVENTS_PER_TURN, all with something to say at once."""
    ptys = [Pty() for _ in range(100)]
    with Bridge() as bridge:
        handles = [bridge.open(bridge.plug(pty.path)) for pty in ptys]
        assert [h.name for h in handles] == [f"COM{n}" for n in range(1, 101)]
        requests = [handle.submit_read(4) for handle in handles]
        for n, pty in enumerate(ptys):
            os.write(pty.board, n.to_bytes(4, "big"))
        assert [int.from_bytes(r.result(PATIENCE), "big") for r in requests] == list(range(100))
        for n, handle in enumerate(handles):
            handle.write(n.to_bytes(4, "little"))
        assert [int.from_bytes(pty.hear(4), "little") for pty in ptys] == list(range(100))
        requests = [handle.submit_read(4) for handle in handles]
        for name in [handle.name for handle in handles[::2]]:
            bridge.unplug(name)
        for n, pty in enumerate(ptys):
            if n % 2:
                os.write(pty.board, b"alive"[:4])
        assert [r.result(PATIENCE) for r in requests[1::2]] == [b"aliv"] * 50
        for request in requests[::2]:
            with pytest.raises(DeviceGone):
                request.result(PATIENCE)
        for handle in handles:
            handle.close()
    for pty in ptys:
        pty.close()


# -- plug, unplug, replug ----------------------------------------------------------------------------------------------


def test_unplugged_name_is_free_again(bridge: Bridge) -> None:
    for turn in range(10):
        line = VirtualLine()
        assert bridge.plug(line, name="board") == "board"
        with bridge.open("board") as port:
            line.feed(bytes([turn]))
            assert port.read(1) == bytes([turn])
        bridge.unplug("board")
        assert bridge.devices() == []
        assert bridge.io.namespace.links() == []


def test_replug_of_a_pty(pty: Pty) -> None:
    with Bridge() as bridge:
        for turn in range(10):
            name = bridge.plug(pty.path, name="board")
            with bridge.open(name) as port:
                os.write(pty.board, bytes([turn]) * 3)
                assert port.read(3) == bytes([turn]) * 3
            bridge.unplug(name)


def test_port_is_given_back_although_a_handle_is_open(pty: Pty) -> None:
    """As after a real unplug: whoever holds the old handle does not keep the port from the next."""
    with Bridge() as bridge:
        old = bridge.open(bridge.plug(pty.path, name="before"))
        bridge.unplug("before")
        with bridge.open(bridge.plug(pty.path, name="after")) as new:
            os.write(pty.board, b"abc")
            assert new.read(3) == b"abc"
            with pytest.raises(DeviceGone):
                old.read(1)
        old.close()


def test_name_of_a_device_that_lingers_says_what_to_do(bridge: Bridge) -> None:
    bridge.plug("virtual:loop", name="board")
    handle = bridge.open("board")
    bridge.unplug("board")
    with pytest.raises(UsageFault, match="close"):
        bridge.plug("virtual:loop", name="board")
    handle.close()
    bridge.plug("virtual:loop", name="board")


def test_what_came_before_the_unplug_is_not_the_next_devices(bridge: Bridge) -> None:
    line = VirtualLine()
    bridge.plug(line, name="board")
    with bridge.open("board") as port:
        line.feed(b"old")
        bridge.machine.run_until_idle()
        assert port.in_waiting == 3
    bridge.unplug("board")
    bridge.plug("virtual:loop", name="board")
    with bridge.open("board") as port:
        assert port.in_waiting == 0


def test_unplug_touches_no_neighbour(bridge: Bridge) -> None:
    mine, theirs = VirtualLine(), VirtualLine("virtual:other")
    bridge.plug(mine)
    with bridge.open(bridge.plug(theirs)) as other:
        request = other.submit_read(3)
        bridge.unplug("COM1")
        theirs.feed(b"abc")
        assert request.result() == b"abc"


def test_plugging_and_unplugging_from_several_threads() -> None:
    with Bridge() as bridge:

        def work(n: int) -> None:
            for _ in range(20):
                name = bridge.plug("virtual:loop", name=f"board{n}")
                with bridge.open(name) as port:
                    port.write(b"abc")
                    assert port.read(3) == b"abc"
                bridge.unplug(name)

        threads = [Thread(lambda n=n: work(n)) for n in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.finish()
        assert bridge.devices() == []


def test_read_that_is_about_to_be_completed_when_the_device_goes_keeps_its_bytes() -> None:
    """The driver has taken the bytes and not yet said so, on one thread, while another takes the device away."""
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.model.irp import Irp

    arrived, go_on = threading.Event(), threading.Event()

    class Slow(IoManager):
        fast_io = False

        def complete_request(self, irp: Irp, _boost: int = 0) -> None:
            if irp.user_request is not None and irp.io_status.information:
                arrived.set()
                wait(go_on)
            super().complete_request(irp, _boost)

    line = VirtualLine()
    with Bridge(io_manager=Slow) as bridge:
        handle = bridge.open(bridge.plug(line))
        line.feed(b"abc")
        reader = Thread(lambda: handle.read(3))
        wait(arrived)
        unplugger = Thread(lambda: bridge.unplug("COM1"))
        while not handle.file.device_object.device_stack.removed:
            assert unplugger.is_alive()
        go_on.set()
        unplugger.finish()
        assert reader.finish() == b"abc"
        handle.close()


# -- the end -----------------------------------------------------------------------------------------------------------


def test_close_ends_everything(pty: Pty) -> None:
    bridge = Bridge()
    handle = bridge.open(bridge.plug(pty.path))
    requests = [handle.submit_read(5) for _ in range(10)]
    reader = Thread(lambda: handle.read(5, timeout=None))
    while len(bridge.pending()) < 11:
        assert reader.is_alive()
    bridge.close()
    assert all(request.done for request in requests)
    assert handle.closed
    with pytest.raises((BridgeClosed, RequestCancelled)):
        reader.finish()
    with Bridge() as another:
        another.plug(pty.path)


def test_closing_twice_does_nothing(bridge: Bridge) -> None:
    bridge.close()
    bridge.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.plug("virtual:loop"),
        lambda b: b.open("COM1"),
        lambda b: b.unplug("COM1"),
    ],
)
def test_closed_bridge_refuses_every_call(bridge: Bridge, call: Callable[[Bridge], object]) -> None:
    bridge.plug("virtual:loop")
    bridge.close()
    with pytest.raises(BridgeClosed, match="closed"):
        call(bridge)


def test_closed_bridge_can_still_be_looked_at(bridge: Bridge) -> None:
    bridge.plug("virtual:loop")
    bridge.close()
    assert bridge.devices() == []
    assert bridge.pending() == []
    assert bridge.statistics()["devices"] == 0


def test_bridges_know_nothing_of_each_other() -> None:
    with Bridge.manual() as one, Bridge.manual() as other:
        assert one.plug("virtual:loop") == other.plug("virtual:loop") == "COM1"
        with one.open("COM1") as mine, other.open("COM1") as theirs:
            mine.write(b"abc")
            assert theirs.in_waiting == 0
            assert mine.read(3) == b"abc"


def test_hand_cranked_bridge_refuses_a_real_port(bridge: Bridge, pty: Pty) -> None:
    with pytest.raises(UsageFault, match="virtual"):
        bridge.plug(pty.path)
    assert bridge.devices() == []
    with Bridge() as real, real.open(real.plug(pty.path)) as port:
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"


def test_machine_is_for_hand_cranked_bridges_only() -> None:
    with Bridge() as bridge, pytest.raises(UsageFault, match="manual"):
        _ = bridge.machine


# -- hilbridge.open ----------------------------------------------------------------------------------------------------


def test_open_plugs_into_a_bridge_of_its_own(pty: Pty) -> None:
    with hilbridge.open(pty.path, baudrate=9600) as port:
        assert port.baudrate == 9600
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"
        bridge = port.bridge
    with pytest.raises(BridgeClosed):
        bridge.open("COM1")
    with hilbridge.open(pty.path):
        pass


def test_open_that_fails_leaves_nothing_behind(pty: Pty) -> None:
    threads = threading.active_count()
    wrongs: list[dict[str, Any]] = [{"baudrate": 0}, {"access": "x"}, {"nonsense": 1}]
    for wrong in wrongs:
        with pytest.raises(UsageFault):
            hilbridge.open(pty.path, **wrong)
    with pytest.raises(DeviceNotFound):
        hilbridge.open("/dev/ttyNotThere")
    assert threading.active_count() == threads


def test_second_open_of_the_same_port_is_told_that_it_is_we(pty: Pty) -> None:
    with hilbridge.open(pty.path), pytest.raises(DeviceBusy, match="already open in this process"):
        hilbridge.open(pty.path)


def test_open_for_reading_only(pty: Pty) -> None:
    with hilbridge.open(pty.path, access="r") as port:
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"
        with pytest.raises(PermissionError):
            port.write(b"x")
