"""A device is put into another power state by hand: what an application's wish becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.iomgr.powersend import IS_GONE
from hilbridge.model.codes import DevicePowerState, PowerMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceBusy, DeviceGone, DeviceUnsupported, UsageFault
from hilbridge.model.status import STATUS_NOT_SUPPORTED

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager


def set_power(io: IoManager, device: DeviceObject[Any], state: DevicePowerState | str) -> DevicePowerState:
    """Put the device of this stack into a state, ``"D0"`` to ``"D3"``; returns the one before. At PASSIVE_LEVEL.

    On the way down the drivers are asked first. Raises `DeviceBusy` if one of them refuses, and says which one;
    `DeviceUnsupported` if the bus driver knows no power requests, `DeviceGone` if the device is being removed, `UsageFault` for
    a state that there is not, or a device that is not started; and the fault of a driver that does it wrong.
    """
    target = _state_of(state)
    previous = io.device_power_state(device)
    if previous is DevicePowerState.UNSPECIFIED:
        raise UsageFault(f"{device!r} is not started: it has no power state yet")
    if target > previous:
        answer = io.ask_power(device, PowerMinor.QUERY_POWER, target)
        if answer.status in IS_GONE:
            raise DeviceGone(f"{device!r} is being removed: {answer.why()}", status=answer.status)
        if not answer.status.is_success and answer.status != STATUS_NOT_SUPPORTED:
            raise DeviceBusy(f"{device!r} cannot be put into {target.name}: {answer.why()}", status=answer.status)
    answer = io.ask_power(device, PowerMinor.SET_POWER, target)
    if answer.status == STATUS_NOT_SUPPORTED:
        raise DeviceUnsupported(
            f"{device!r} stays in {previous.name}: its bus driver, {device.bottom.driver_object.name}, has no dispatch routine "
            "for SET_POWER"
        )
    if not answer.status.is_success:
        raise DeviceGone(f"{device!r} is being removed: {answer.why()}", status=answer.status)
    return previous


def _state_of(state: DevicePowerState | str) -> DevicePowerState:
    if isinstance(state, str):
        known = {one.name: one for one in DevicePowerState if one is not DevicePowerState.UNSPECIFIED}
        if state.upper() not in known:
            raise UsageFault(f"there is no power state {state!r}: use one of {', '.join(known)}")
        return known[state.upper()]
    return DevicePowerState(state)
