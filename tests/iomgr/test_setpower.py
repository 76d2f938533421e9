"""A device is put into another power state by hand."""

from __future__ import annotations

import pytest

from hilbridge import Bridge
from hilbridge.iomgr.setpower import set_power
from hilbridge.model.codes import DevicePowerState, PnpMinor
from hilbridge.model.errors import DeviceBusy, DeviceGone, DeviceUnsupported, UsageFault
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_DEVICE_BUSY, STATUS_NOT_SUPPORTED
from tests.iomgr.powerkit import D0, D2, D3, POWER, PowerSystem
from tests.support import TinyDriver, complete, now, plug


def test_down_is_asked_first_and_up_is_not() -> None:
    system = PowerSystem(TinyDriver("top"))
    assert set_power(system.io, system.pdo, "D3") is D0
    assert set_power(system.io, system.pdo, "d0") is D3
    assert set_power(system.io, system.pdo, DevicePowerState.D2) is D0
    assert system.bus.log == ["QUERY D3", "SET D3", "SET D0", "QUERY D2", "SET D2"]
    assert system.io.device_power_state(system.pdo.top) is D2


def test_a_refusal_names_the_driver_and_changes_nothing() -> None:
    busy = TinyDriver("busy", {POWER: lambda device, irp: complete(device, irp, STATUS_DEVICE_BUSY)})
    system = PowerSystem(busy)
    with pytest.raises(DeviceBusy, match="cannot be put into D3: driver busy answered STATUS_DEVICE_BUSY") as caught:
        set_power(system.io, system.pdo, "D3")
    assert caught.value.status == STATUS_DEVICE_BUSY
    assert system.bus.log == [] and system.pdo.power_state is D0


def test_a_bus_without_power_says_so() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.bus.status = STATUS_NOT_SUPPORTED
    with pytest.raises(DeviceUnsupported, match="stays in D0: its bus driver, powerbus, has no dispatch routine"):
        set_power(system.io, system.pdo, "D3")


def test_a_device_that_goes() -> None:
    system = PowerSystem(TinyDriver("top"))
    system.io.send_pnp(system.pdo, PnpMinor.SURPRISE_REMOVAL)
    with pytest.raises(DeviceGone, match="is being removed") as caught:
        set_power(system.io, system.pdo, "D0")
    assert caught.value.status == STATUS_DELETE_PENDING
    with pytest.raises(DeviceGone):
        set_power(system.io, system.pdo, "D3")


@pytest.mark.parametrize("state", ["D4", "UNSPECIFIED", "", "off"])
def test_states_that_there_are_not(state: str) -> None:
    system = PowerSystem()
    with pytest.raises(UsageFault, match="use one of D0, D1, D2, D3"):
        set_power(system.io, system.pdo, state)
    assert system.bus.log == []


def test_a_device_that_is_not_started() -> None:
    system = PowerSystem(start=False)
    with pytest.raises(UsageFault, match="is not started"):
        set_power(system.io, system.pdo, "D0")


def test_on_a_bridge_with_the_verifier() -> None:
    with Bridge.manual(verify=True) as bridge:
        driver = TinyDriver("dut")
        plug(bridge, driver)
        assert set_power(bridge.io, driver.device.bottom, "D3") is D0
        assert driver.device.power_state is now(D3)
        assert set_power(bridge.io, driver.device.bottom, "D0") is D3
        assert bridge.findings == []
