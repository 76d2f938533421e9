"""Power states of devices, as an application asks for them."""

from __future__ import annotations

import pytest

from hilbridge import Bridge, DeviceBusy, NameNotFound, UsageFault
from hilbridge.model.codes import DevicePowerState, IrpMajor, PowerMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_DEVICE_BUSY, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.support import Extension, TinyDriver, complete, pass_down, plug


def power_of(bridge: Bridge, name: str) -> str:
    return next(str(device["power"]) for device in bridge.devices() if device["name"] == name)


def test_a_port_sleeps_and_wakes_as_it_was_left() -> None:
    with Bridge.manual(verify=True) as bridge:
        line = VirtualLine()
        bridge.plug(line, name="dut", baudrate=9600)
        with bridge.open("dut") as port:
            port.dtr = True
            assert bridge.power("dut", "D3") is DevicePowerState.D0
            assert power_of(bridge, "dut") == "D3"
            waiting = port.submit_write(b"held")
            bridge.machine.run_until_idle()
            assert not waiting.done
            assert bridge.power("dut", "d0") is DevicePowerState.D3
            assert waiting.wait(1.0)
            assert line.sent == b"held"
        assert bridge.findings == []


def test_a_driver_may_refuse_to_sleep() -> None:
    def power(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == PowerMinor.QUERY_POWER:
            return complete(device, irp, STATUS_DEVICE_BUSY)
        return pass_down(device, irp)

    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("awake", {IrpMajor.POWER: power}))
        with pytest.raises(DeviceBusy, match=r"cannot be put into D2.*awake"):
            bridge.power("DUT", "D2")
        assert power_of(bridge, "DUT") == "D0"


def test_what_is_no_state_and_no_device() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("dut"))
        with pytest.raises(UsageFault, match="use one of D0, D1, D2, D3"):
            bridge.power("DUT", "off")
        with pytest.raises(NameNotFound):
            bridge.power("nothing", "D0")
        bridge.stop("DUT")
        bridge.start("DUT")
        assert power_of(bridge, "DUT") == "D0"
