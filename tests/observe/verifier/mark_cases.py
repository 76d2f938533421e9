"""A faulty driver and its clean twin for each rule about marking an IRP pending, and returning what one has done."""

from __future__ import annotations

from typing import Any, cast

from hilbridge.model.codes import (
    DevicePowerState,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    PowerStateType,
    RelationType,
    SystemPowerState,
)
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import (
    NO_PARAMETERS,
    Parameters,
    PowerParameters,
    QueryDeviceRelationsParameters,
)
from hilbridge.model.status import STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.observe.verifier.stage import Device, Stage, case, end, filter_with, hold
from tests.support import complete, pass_down


def _late(wrong: bool) -> Any:
    def routine(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        if wrong:
            irp.mark_pending()
        return status

    return routine


@case("MarkedWhilePendingBelow")
def marked_while_pending_below(stage: Stage, wrong: bool) -> None:
    bottom = stage.plug(hold, filters=(filter_with(_late(wrong)),))
    stage.submit()
    end(bottom)


def _holds(stage: Stage, wrong: bool, major: IrpMajor, minor: int, parameters: Parameters = NO_PARAMETERS) -> None:
    """A lower filter holds the request; the upper one has passed it down, and marks it then."""
    late = _late(wrong)

    def upper(device: Device, irp: Irp, *proper: Any) -> NtStatus:
        if not armed and proper:
            return cast("NtStatus", proper[0](device, irp))
        return cast("NtStatus", late(device, irp))

    def lower(device: Device, irp: Irp, *proper: Any) -> NtStatus:
        if not armed and proper:
            return cast("NtStatus", proper[0](device, irp))
        return hold(device, irp)

    armed: list[bool] = []
    below = filter_with(lower, major, "lower")
    device = stage.plug(filters=(below, filter_with(upper, major, "upper")))
    armed.append(True)
    stage.send(device, major, minor, parameters)
    armed.clear()
    pass_down(below.device, below.device.extension.held.pop())


@case("MarkStartDevice")
def mark_start_device(stage: Stage, wrong: bool) -> None:
    _holds(stage, wrong, IrpMajor.PNP, PnpMinor.START_DEVICE)


@case("MarkQueryRelations")
def mark_query_relations(stage: Stage, wrong: bool) -> None:
    arm = QueryDeviceRelationsParameters(RelationType.REMOVAL)
    _holds(stage, wrong, IrpMajor.PNP, PnpMinor.QUERY_DEVICE_RELATIONS, arm)


@case("MarkPower")
def mark_power(stage: Stage, wrong: bool) -> None:
    arm = PowerParameters(PowerStateType.DEVICE, DevicePowerState.D3)
    _holds(stage, wrong, IrpMajor.POWER, PowerMinor.SET_POWER, arm)


@case("MarkPowerDown")
def mark_power_down(stage: Stage, wrong: bool) -> None:
    arm = PowerParameters(PowerStateType.SYSTEM, SystemPowerState.SLEEPING3)
    _holds(stage, wrong, IrpMajor.POWER, PowerMinor.SET_POWER, arm)


@case("MarkDevicePower")
def mark_device_power(stage: Stage, wrong: bool) -> None:
    arm = PowerParameters(PowerStateType.SYSTEM, SystemPowerState.WORKING)
    _holds(stage, wrong, IrpMajor.POWER, PowerMinor.SET_POWER, arm)


@case("MarkingQueuedIrps")
def marking_queued_irps(stage: Stage, wrong: bool) -> None:
    def start_io(device: Device, irp: Irp) -> None:
        device.extension.held.append(irp)

    def read(device: Device, irp: Irp) -> NtStatus:
        if not wrong:
            irp.mark_pending()
        device.io.start_packet(device, irp)
        if wrong:
            irp.mark_pending()
        return STATUS_PENDING

    device = stage.plug(read, start_io=start_io)
    stage.submit()
    end(device)
    stage.at_dispatch(lambda: device.io.start_next_packet(device))


@case("PendedCompletedRequest")
def pended_completed_request(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        complete(device, irp)
        return STATUS_PENDING if wrong else STATUS_SUCCESS

    stage.read(read)


@case("SuspiciousReturn")
def suspicious_return(stage: Stage, wrong: bool) -> None:
    """Of a filter above, which returns what it was given, nothing is said."""

    def read(device: Device, irp: Irp) -> NtStatus:
        complete(device, irp)
        return cast("NtStatus", 7) if wrong else STATUS_SUCCESS

    stage.plug(read, filters=(filter_with(pass_down),))
    stage.submit()
