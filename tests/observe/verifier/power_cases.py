"""A faulty driver and its clean twin for each rule about the status of power requests, and who completes them."""

from __future__ import annotations

from typing import Any

from hilbridge.model.codes import DevicePowerState, PowerMinor, PowerStateType, SystemPowerState
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import PowerParameters
from hilbridge.model.status import STATUS_NOT_SUPPORTED, STATUS_SUCCESS, STATUS_UNSUCCESSFUL, NtStatus
from tests.observe.verifier.stage import Device, Stage, case, send_power
from tests.support import complete, pass_down, succeed

UNKNOWN = 0x0F
"""A minor function that there is not."""


def _as_it_came(device: Device, irp: Irp) -> NtStatus:
    status = irp.io_status.status
    device.io.complete_request(irp)
    return status


def _with(status: NtStatus) -> Any:
    def power(device: Device, irp: Irp) -> NtStatus:
        irp.io_status.status = status
        return pass_down(device, irp)

    return power


@case("PowerStatusChanged")
def power_status_changed(stage: Stage, wrong: bool) -> None:
    send_power(stage, _with(STATUS_SUCCESS) if wrong else pass_down, minor=UNKNOWN)


@case("PowerTurnedIntoNotSupported")
def power_turned_into_not_supported(stage: Stage, wrong: bool) -> None:
    lower = _with(STATUS_NOT_SUPPORTED) if wrong else pass_down
    send_power(stage, lower, _with(STATUS_SUCCESS))


@case("PowerUnknownCompleted")
def power_unknown_completed(stage: Stage, wrong: bool) -> None:
    send_power(stage, succeed if wrong else pass_down, minor=UNKNOWN)


@case("PowerUntouchedCompleted")
def power_untouched_completed(stage: Stage, wrong: bool) -> None:
    send_power(stage, _as_it_came if wrong else pass_down)


def _fails(stage: Stage, state: PowerParameters, wrong: bool) -> None:
    """It fails the request itself; the clean twin fails the query, which it may."""

    def power(device: Device, irp: Irp) -> NtStatus:
        return complete(device, irp, STATUS_UNSUCCESSFUL)

    send_power(stage, power, minor=PowerMinor.SET_POWER if wrong else PowerMinor.QUERY_POWER, parameters=state)


@case("PowerUpFail")
def power_up_fail(stage: Stage, wrong: bool) -> None:
    _fails(stage, PowerParameters(PowerStateType.DEVICE, DevicePowerState.D0), wrong)


@case("PowerDownFail")
def power_down_fail(stage: Stage, wrong: bool) -> None:
    _fails(stage, PowerParameters(PowerStateType.SYSTEM, SystemPowerState.SLEEPING3), wrong)
