"""IO_STACK_LOCATION.Parameters: one arm per major function, and no reading of somebody else's."""

from __future__ import annotations

import pytest

from hilbridge import DriverFault
from hilbridge.model.capabilities import NO_NUMBER, DeviceCapabilities
from hilbridge.model.codes import DevicePowerState, IdType, PowerStateType, RelationType, SystemPowerState, TextType
from hilbridge.model.parameters import (
    NO_PARAMETERS,
    CreateParameters,
    DeviceCapabilitiesParameters,
    DeviceIoControlParameters,
    OthersParameters,
    Parameters,
    PowerParameters,
    QueryDeviceRelationsParameters,
    QueryDeviceTextParameters,
    QueryIdParameters,
    QueryInterfaceParameters,
    ReadParameters,
    StartDeviceParameters,
    WmiParameters,
    WriteParameters,
)

ARMS: dict[str, Parameters] = {
    "create": CreateParameters(3, 1),
    "read": ReadParameters(16, 1, 2, 3, b"\n"),
    "write": WriteParameters(16, 1, 2),
    "device_io_control": DeviceIoControlParameters(8, 4, 0x1B0004, b"raw"),
    "start_device": StartDeviceParameters("resources"),
    "query_device_relations": QueryDeviceRelationsParameters(RelationType.BUS),
    "query_interface": QueryInterfaceParameters("{guid}", 1, None),
    "device_capabilities": DeviceCapabilitiesParameters(DeviceCapabilities()),
    "query_id": QueryIdParameters(IdType.DEVICE_ID),
    "query_device_text": QueryDeviceTextParameters(TextType.DESCRIPTION),
    "power": PowerParameters(PowerStateType.DEVICE, DevicePowerState.D3),
    "wmi": WmiParameters(None, "{guid}"),
    "others": OthersParameters(1, 2, 3, 4),
}


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_reached_by_its_own_name(arm: str) -> None:
    assert getattr(ARMS[arm], arm) is ARMS[arm]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("wrong", ARMS)
def test_any_other_arm_is_the_drivers_mistake(arm: str, wrong: str) -> None:
    if arm == wrong:
        return
    with pytest.raises(DriverFault, match=rf"Parameters\.{wrong} was read.*{type(ARMS[arm]).__name__}"):
        getattr(ARMS[arm], wrong)


def test_fields_have_their_names_from_c() -> None:
    read = ReadParameters(16, 1, 2, 3, b"\n")
    assert (read.length, read.key, read.byte_offset, read.minimum, read.terminator) == (16, 1, 2, 3, b"\n")
    control = DeviceIoControlParameters(8, 4, 0x1B0004, b"raw")
    assert control.output_buffer_length == 8
    assert control.input_buffer_length == 4
    assert control.io_control_code == 0x1B0004
    assert control.type3_input_buffer == b"raw"
    assert CreateParameters(3, 1).desired_access == 3
    assert StartDeviceParameters("r").allocated_resources == "r"


def test_arms_are_immutable_so_that_a_copied_location_may_share_them() -> None:
    read = ReadParameters(16)
    with pytest.raises(AttributeError):
        read.length = 8  # type: ignore[misc]
    longer = read._replace(length=32)
    assert (read.length, longer.read.length) == (16, 32)
    assert isinstance(longer, ReadParameters)


def test_a_location_without_parameters_has_the_anonymous_arm() -> None:
    assert NO_PARAMETERS.others == (None, None, None, None)
    assert not hasattr(NO_PARAMETERS, "__dict__"), "arms are made for every request"


def test_capabilities_arrive_as_windows_sends_them() -> None:
    capabilities = DeviceCapabilities()
    assert (capabilities.version, capabilities.address, capabilities.ui_number) == (1, 0xFFFF_FFFF, NO_NUMBER)
    assert capabilities.device_state[SystemPowerState.WORKING] is DevicePowerState.D0
    assert SystemPowerState.UNSPECIFIED not in capabilities.device_state
    DeviceCapabilities().device_state[SystemPowerState.HIBERNATE] = DevicePowerState.D0
    assert capabilities.device_state[SystemPowerState.HIBERNATE] is DevicePowerState.D3, "each has a table of its own"
