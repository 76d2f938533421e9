"""DEVICE_CAPABILITIES: what a device can do, as its bus driver and the drivers above it fill it in."""

from __future__ import annotations

from dataclasses import dataclass, field

from hilbridge.model.codes import DevicePowerState, SystemPowerState

NO_NUMBER = 0xFFFF_FFFF
"""What Address and UINumber hold until somebody knows better (as the request arrives in Windows)."""


def _full_power_while_working() -> dict[SystemPowerState, DevicePowerState]:
    states: dict[SystemPowerState, DevicePowerState] = {
        state: DevicePowerState.D3 for state in SystemPowerState if state is not SystemPowerState.UNSPECIFIED
    }
    states[SystemPowerState.WORKING] = DevicePowerState.D0
    return states


@dataclass(slots=True)
class DeviceCapabilities:
    """DEVICE_CAPABILITIES (wdm.h), of IRP_MN_QUERY_CAPABILITIES. The names are those of C."""

    size: int = 64
    version: int = 1
    device_d1: bool = False
    device_d2: bool = False
    lock_supported: bool = False
    eject_supported: bool = False
    removable: bool = False
    dock_device: bool = False
    unique_id: bool = False
    silent_install: bool = False
    raw_device_ok: bool = False
    surprise_removal_ok: bool = False
    wake_from_d0: bool = False
    wake_from_d1: bool = False
    wake_from_d2: bool = False
    wake_from_d3: bool = False
    address: int = NO_NUMBER
    ui_number: int = NO_NUMBER
    device_state: dict[SystemPowerState, DevicePowerState] = field(default_factory=_full_power_while_working)
    """The highest-powered state that the device can keep while the system is in that state."""
    system_wake: SystemPowerState = SystemPowerState.UNSPECIFIED
    device_wake: DevicePowerState = DevicePowerState.UNSPECIFIED
    d1_latency: int = 0
    """In units of 100 microseconds, as in C; also the two below."""
    d2_latency: int = 0
    d3_latency: int = 0
