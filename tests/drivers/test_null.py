"""The null device: writes vanish, reads find the end of file, and it is a whole driver."""

from __future__ import annotations

import pytest

from hilbridge import Bridge, DriverFault, NameNotFound, UsageFault
from hilbridge.drivers.samples import null
from hilbridge.model.codes import DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, IrpMajor
from hilbridge.model.status import STATUS_END_OF_FILE, STATUS_SUCCESS


def test_writes_vanish_and_say_how_much_they_were() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null")
        with bridge.open("COM1") as handle:
            for data in (b"", b"x", bytearray(b"abc"), memoryview(b"many" * 1000)):
                assert handle.write(data) == len(data)
                request = handle.submit_write(data)
                assert request.done and (request.status, request.information) == (STATUS_SUCCESS, len(data))


def test_reads_find_the_end_of_file() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null")
        with bridge.open("COM1") as handle:
            request = handle.submit_read(16)
            assert request.done and (request.status, request.data) == (STATUS_END_OF_FILE, b"")
            with pytest.raises(OSError, match="STATUS_END_OF_FILE"):
                handle.read(16)


def test_flush_succeeds_and_controls_are_refused() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null")
        with bridge.open("COM1") as handle:
            handle.flush()
            with pytest.raises(UsageFault, match="makes no sense for this device"):
                handle.ioctl(0x222000)
            with pytest.raises(UsageFault, match="packets, not a stream"):
                handle.read_some()


def test_it_is_a_device_stack_of_two() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="NUL")
        top, bottom = bridge.stack("NUL")
        assert top.name == "\\Device\\Null" and top.stack_size == 2
        assert top.flags & DO_BUFFERED_IO and not top.flags & DO_DEVICE_INITIALIZING
        assert top.extension is bottom and bottom.driver_object.name == "rootbus"
        assert bottom.extension.moniker == "virtual:null"
        assert top.driver_object.major_function[IrpMajor.READ] is null.read
        bridge.open("\\Device\\Null").close()
        bridge.open("nul").close()


def test_there_is_one_null_device() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="ONE")
        with pytest.raises(DriverFault, match="STATUS_OBJECT_NAME_COLLISION"):
            bridge.plug("virtual:null", name="TWO")
        assert [device["name"] for device in bridge.devices()] == ["ONE"]
        with bridge.open("ONE") as handle:
            assert handle.write(b"x") == 1


def test_unplugged_it_is_gone_and_it_can_be_plugged_in_again() -> None:
    with Bridge.manual() as bridge:
        for _ in range(3):
            bridge.plug("virtual:null", name="NUL")
            top, bottom = bridge.stack("NUL")
            bridge.unplug("NUL")
            assert top.delete_pending and bottom.delete_pending and top.lower_device is None
            for name in ("NUL", "\\Device\\Null"):
                with pytest.raises(NameNotFound):
                    bridge.open(name)


def test_an_open_one_goes_when_it_is_closed() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="NUL")
        handle = bridge.open("NUL")
        bridge.unplug("NUL")
        assert bridge.devices()[0]["state"] == "surprise-removed"
        handle.close()
        assert bridge.devices() == []
        bridge.plug("virtual:null", name="NUL")


def test_many_opens_share_it() -> None:
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null")
        handles = [bridge.open("COM1") for _ in range(5)]
        assert bridge.devices()[0]["opens"] == 5
        for handle in handles:
            assert handle.write(b"x") == 1
            handle.close()
        assert bridge.devices()[0]["opens"] == 0
