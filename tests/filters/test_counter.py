"""The counting filter: anywhere in a stack, it sees every request, changes none, and leaves with its device."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, DeviceTimeout, DriverFault, UsageFault
from hilbridge.filters import counter
from hilbridge.model.codes import DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_DIRECT_IO, DO_STREAM_READ, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.status import STATUS_CANCELLED
from hilbridge.virtual.line import VirtualLine
from tests.support import PNP_AT_START, TinyDriver, answer, pend, plug, raises

PLACES = [
    pytest.param({"upper_filters": ["counter"]}, id="above"),
    pytest.param({"lower_filters": ["counter"]}, id="below"),
]


def counts(bridge: Bridge, name: str = "DUT") -> dict[str, int]:
    (numbers,) = [v for k, v in bridge.statistics()["drivers"].items() if k == f"{name}/counter"]
    return dict(numbers)


def names(devices: list[DeviceObject[Any]]) -> list[str]:
    return [device.driver_object.name for device in devices]


def test_above_it_sees_every_request_by_its_kind() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:loop", name="DUT", upper_filters=["counter"])
        with bridge.open("DUT") as handle:
            handle.write(b"hello")
            assert handle.read(5) == b"hello"
            handle.write(b"a\nb")
            assert handle.readline() == b"a\n"
            assert handle.baudrate == 115200
            handle.flush()
        assert counts(bridge) == {
            "CREATE": 1,
            "CLOSE": 1,
            "READ": 2,
            "WRITE": 2,
            "FLUSH_BUFFERS": 1,
            "DEVICE_CONTROL": 1,
            "CLEANUP": 1,
            "PNP": PNP_AT_START,
        }


def test_below_the_function_driver_it_sees_what_that_sends_down() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:loop", name="DUT", lower_filters=["counter"])
        with bridge.open("DUT") as handle:
            handle.write(b"hello")
            assert handle.read(5) == b"hello"
        assert counts(bridge) == {"PNP": PNP_AT_START}, "the serial driver completes the others itself"


def test_where_it_sits() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:loop", name="A", upper_filters=["counter"])
        bridge.plug("virtual:loop", name="B", lower_filters=["counter"])
        bridge.plug("virtual:loop", name="C", upper_filters=["counter", "counter"], lower_filters=["counter"])
        assert names(bridge.stack("A")) == ["counter", "serial", "rootbus"]
        assert names(bridge.stack("B")) == ["serial", "counter", "rootbus"]
        assert names(bridge.stack("C")) == ["counter", "counter", "serial", "counter", "rootbus"]
        assert [device.stack_size for device in bridge.stack("C")] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("flags", [DO_BUFFERED_IO, DO_DIRECT_IO, 0, DO_BUFFERED_IO | DO_STREAM_READ])
def test_it_looks_like_the_device_below(flags: int) -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d", flags=flags), upper_filters=["counter"])
        top, below, _ = bridge.stack("DUT")
        assert top.flags & (DO_BUFFERED_IO | DO_DIRECT_IO | DO_STREAM_READ) == flags
        assert not top.flags & DO_DEVICE_INITIALIZING and top.name is None
        assert top.device_type == below.device_type


def test_it_changes_nothing_that_passes() -> None:
    with Bridge.manual() as bridge:
        driver = TinyDriver("d", {IrpMajor.READ: answer(b"data"), IrpMajor.WRITE: pend})
        plug(bridge, driver, upper_filters=["counter", counter])
        with bridge.open("DUT") as handle:
            assert handle.read(4) == b"data"
            request = handle.submit_write(b"x")
            assert request.cancel() is True
            assert request.status == STATUS_CANCELLED
            with pytest.raises(DeviceTimeout):
                handle.write(b"x", timeout=1.0)
            with pytest.raises(UsageFault):
                handle.flush()
        assert bridge.faults == []


def test_a_thousand_requests_are_counted_one_by_one() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="DUT", upper_filters=["counter"])
        with bridge.open("DUT") as handle:
            for _ in range(1000):
                handle.write(b"x")
        assert counts(bridge)["WRITE"] == 1000


def test_each_device_has_its_own_numbers() -> None:
    with Bridge.manual() as bridge:
        for name in ("A", "B"):
            bridge.plug("virtual:loop", name=name, upper_filters=["counter"])
        with bridge.open("A") as handle:
            handle.write(b"x")
        assert counts(bridge, "A")["WRITE"] == 1
        assert counts(bridge, "B") == {"PNP": PNP_AT_START}


def test_a_major_function_that_the_driver_does_not_know_is_counted_and_refused_below() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d"), upper_filters=["counter"])
        with bridge.open("DUT") as handle, pytest.raises(UsageFault, match="makes no sense"):
            handle.read(1)
        assert counts(bridge)["READ"] == 1


def test_it_leaves_with_its_device() -> None:
    with Bridge.manual() as bridge:
        for _ in range(3):
            bridge.plug("virtual:loop", name="DUT", upper_filters=["counter"], lower_filters=["counter"])
            devices = bridge.stack("DUT")
            bridge.unplug("DUT")
            assert bridge.devices() == []
            assert all(device.delete_pending and device.lower_device is None for device in devices)
            assert all(device.attached_device is None for device in devices)
        assert bridge.io.drivers["counter"].device_object is None


def test_it_counts_the_removal_of_an_open_device() -> None:
    line = VirtualLine()
    with Bridge.manual() as bridge:
        bridge.plug(line, name="DUT", upper_filters=["counter"])
        handle = bridge.open("DUT")
        request = handle.submit_read(4)
        line.unplug()
        bridge.machine.run_until_idle()
        assert request.done
        assert counts(bridge)["PNP"] == PNP_AT_START + 1
        handle.close()
        assert bridge.devices() == []


def test_a_fault_below_passes_through_it_and_names_the_driver_below() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("bad", {IrpMajor.READ: raises(KeyError("boom"))}), upper_filters=["counter"])
        with bridge.open("DUT") as handle, pytest.raises(DriverFault, match="KeyError: 'boom'"):
            handle.read(1)
        (fault,) = bridge.acknowledge_faults()
        assert "READ" in str(fault)
