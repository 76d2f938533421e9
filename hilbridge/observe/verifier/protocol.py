"""The status protocol of Plug and Play and power requests: who may answer which, who completes them, and with what.

Such a request arrives with STATUS_NOT_SUPPORTED. Who handles it sets another status; who does not know it passes it on as it
came. Only the bus driver, at the bottom, completes one that has not failed. Microsoft gives 0x213 and 0x23B the same words:
here the first is about Plug and Play, the second about power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.iomgr.powersend import IS_GONE
from hilbridge.model.capabilities import NO_NUMBER, DeviceCapabilities
from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    DevicePowerState,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    PowerStateType,
    RelationType,
    SystemPowerState,
)
from hilbridge.model.parameters import (
    DeviceCapabilitiesParameters,
    PowerParameters,
    QueryDeviceRelationsParameters,
    WmiParameters,
)
from hilbridge.model.status import STATUS_NOT_SUPPORTED
from hilbridge.observe.verifier import remlocks
from hilbridge.observe.verifier.watch import OWN_DRIVER, Verifier

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.irp import IoStackLocation
    from hilbridge.observe.verifier.irp import VerifiedIrp

PROTOCOL = frozenset({IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL})
"""The major functions whose requests arrive with STATUS_NOT_SUPPORTED."""

NT_FAILURE = 0x8000_0000
_NOT_SUPPORTED = int(STATUS_NOT_SUPPORTED)
_PNP = frozenset(int(minor) for minor in PnpMinor)
_POWER = frozenset(int(minor) for minor in PowerMinor)
_MAY_NOT_FAIL = frozenset(
    {
        PnpMinor.STOP_DEVICE,
        PnpMinor.CANCEL_STOP_DEVICE,
        PnpMinor.CANCEL_REMOVE_DEVICE,
        PnpMinor.SURPRISE_REMOVAL,
    }
)
_THE_BUS_DRIVERS = frozenset(
    {
        PnpMinor.QUERY_RESOURCES,
        PnpMinor.QUERY_RESOURCE_REQUIREMENTS,
        PnpMinor.QUERY_DEVICE_TEXT,
        PnpMinor.READ_CONFIG,
        PnpMinor.WRITE_CONFIG,
        PnpMinor.EJECT,
        PnpMinor.SET_LOCK,
        PnpMinor.QUERY_ID,
        PnpMinor.QUERY_BUS_INFORMATION,
    }
)
"""What only the bus driver answers, on the request's way down. (On its way up a filter may change the answer.)"""
_BUS_DRIVER_ANSWERS = frozenset(
    {
        PnpMinor.START_DEVICE,
        PnpMinor.QUERY_STOP_DEVICE,
        PnpMinor.STOP_DEVICE,
        PnpMinor.CANCEL_STOP_DEVICE,
        PnpMinor.QUERY_REMOVE_DEVICE,
        PnpMinor.REMOVE_DEVICE,
        PnpMinor.CANCEL_REMOVE_DEVICE,
        PnpMinor.SURPRISE_REMOVAL,
    }
)
_GOES = {
    PnpMinor.QUERY_REMOVE_DEVICE: "NsRemoveLockQueryMnRemove",
    PnpMinor.REMOVE_DEVICE: "NsRemoveLockMnRemove",
    PnpMinor.SURPRISE_REMOVAL: "NsRemoveLockMnSurpriseRemove",
}
"""Requests that no function or filter driver may fail with STATUS_NOT_SUPPORTED, with their own rules."""


class Protocol:
    """What is noted about one such request, by stack location."""

    __slots__ = ("arrived", "came_back")

    def __init__(self) -> None:
        self.arrived: dict[int, tuple[int, Any]] = {}
        """The status and Information that were in it when it arrived there."""
        self.came_back: dict[int, int] = {}
        """The status with which it had come back there when a completion routine kept it."""


def arrived(irp: VerifiedIrp, location: int, device: DeviceObject[Any]) -> None:
    """The request is about to be handed to the driver of that location."""
    notes = irp.protocol
    if notes is None:
        notes = irp.protocol = Protocol()
    notes.arrived[location] = int(irp.io_status.status), irp.io_status.information
    if location == irp.stack_count:
        there = irp.stack[location - 1]
        minor = there.minor_function
        if there.major_function == IrpMajor.PNP and minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
            irp.verifier.relations.goes(device, surprise=minor == PnpMinor.SURPRISE_REMOVAL)


def first_time(verifier: Verifier, irp: VerifiedIrp, there: IoStackLocation) -> None:
    """A driver sends a request of its own."""
    arm = there.parameters
    if there.major_function != IrpMajor.PNP or not isinstance(arm, DeviceCapabilitiesParameters):
        return
    blank = DeviceCapabilities()
    given = arm.capabilities
    for name, has, wants in (
        ("CapabilitiesVersion", given.version, blank.version),
        ("CapabilitiesSize", given.size, blank.size),
        ("CapabilitiesAddress", given.address, NO_NUMBER),
        ("CapabilitiesUINumber", given.ui_number, NO_NUMBER),
    ):
        if has != wants:
            verifier.report(name, irp=irp, details=f"{has:#x} instead of {wants:#x}")


def passed_down(
    verifier: Verifier, irp: VerifiedIrp, caller: DeviceObject[Any] | None, major: int, minor: int, arm: object
) -> None:
    """The driver of `caller` passes the request on. `arm`: its parameters."""
    notes = irp.protocol
    if notes is None or major == IrpMajor.SYSTEM_CONTROL:
        return
    pnp = major == IrpMajor.PNP
    if isinstance(arm, QueryDeviceRelationsParameters):
        verifier.relations.answer(irp, arm, caller)
    if pnp:
        remlocks.goes_down(verifier, irp, caller, minor)
    status = int(irp.io_status.status)
    came, information = notes.arrived.get(irp.reached, (status, irp.io_status.information))
    what = f"IRP_MN {minor:#x} with {irp.io_status.status}, and it came with {came:#010x}"
    unknown = minor not in (_PNP if pnp else _POWER)
    if status >= NT_FAILURE and status not in (_NOT_SUPPORTED, came):
        verifier.report("PnpFailurePassedDown" if pnp else "PowerFailurePassedDown", irp=irp, details=what)
    elif unknown and status != came:
        verifier.report("PnpStatusChanged" if pnp else "PowerStatusChanged", irp=irp, details=what)
    elif unknown and irp.io_status.information != information:
        verifier.report("InformationChanged", irp=irp, details=what)
    elif status == _NOT_SUPPORTED != came:
        verifier.report("PnpTurnedIntoNotSupported" if pnp else "PowerTurnedIntoNotSupported", irp=irp, details=what)
    elif not pnp:
        return
    elif came == _NOT_SUPPORTED and status < NT_FAILURE and (minor in _THE_BUS_DRIVERS or _asks_for_pdo(arm)):
        verifier.report("AnsweredForTheBus", irp=irp, details=what)
    elif status == _NOT_SUPPORTED and minor in (PnpMinor.REMOVE_DEVICE, PnpMinor.SURPRISE_REMOVAL):
        _not_handled(verifier, irp, caller, what)


def _not_handled(verifier: Verifier, irp: VerifiedIrp, caller: DeviceObject[Any] | None, what: str) -> None:
    """Function drivers only, which here are those whose device has a name: a filter may have nothing to say to it."""
    if caller is None or caller.name is None:
        return
    if caller.driver_object.major_function[IrpMajor.PNP] != caller.io.invalid_device_request:  # that has its own rule
        verifier.report("RequiredPnpNotHandled", irp=irp, device=caller, details=what)


def _asks_for_pdo(arm: object) -> bool:
    return isinstance(arm, QueryDeviceRelationsParameters) and arm.type == RelationType.TARGET_DEVICE


def completed(verifier: Verifier, irp: VerifiedIrp, device: DeviceObject[Any]) -> None:
    """complete_request has been called by the driver of `device`, which has the request."""
    location = irp.stack[irp.current_location - 1]
    if location.major_function == IrpMajor.PNP:
        _pnp(verifier, irp, device, location)
    elif location.major_function == IrpMajor.POWER:
        _power(verifier, irp, device, location)
    elif device.lower_device is not None and irp.reached >= irp.current_location:
        arm = location.parameters
        if not isinstance(arm, WmiParameters) or arm.provider_id is not device:
            verifier.report("WmiForward", irp=irp, device=device)


def _came(irp: VerifiedIrp) -> tuple[bool, int | None, Any]:
    """Whether it has come back from below; the status with which it came last, and the Information."""
    notes = irp.protocol
    if notes is None:
        return False, None, None
    here = irp.current_location
    if irp.reached < here:
        return True, notes.came_back.get(here), None
    return False, *notes.arrived.get(here, (None, None))


def _pnp(verifier: Verifier, irp: VerifiedIrp, device: DeviceObject[Any], location: IoStackLocation) -> None:
    minor, status = location.minor_function, int(irp.io_status.status)
    back, came, information = _came(irp)
    words = f"IRP_MN {minor:#x} with {irp.io_status.status}"

    def report(name: str) -> None:
        verifier.report(name, irp=irp, device=device, details=words)

    relations = verifier.relations
    relations.answer(irp, location.parameters, device)
    fails = _failed(status)
    if fails and not (back and came == status):
        if minor == PnpMinor.REMOVE_DEVICE:
            report("RemoveFailed")
        elif minor in _MAY_NOT_FAIL:
            report("MayNotFail")
    if device.lower_device is None and not back:
        relations.answered_by_pdo(irp, location.parameters, device)
        if minor not in _PNP and came is not None:
            if status != came:
                report("PnpStatusChanged")
            elif irp.io_status.information != information:
                report("InformationChanged")
        elif minor in _BUS_DRIVER_ANSWERS and status == _NOT_SUPPORTED and _of_a_bus(device):
            report("BusDriverSilent")
    elif not back:
        if minor not in _PNP:
            report("PnpUnknownCompleted")
        elif status == _NOT_SUPPORTED:
            report(_GOES.get(PnpMinor(minor)) or _into_not_supported("Pnp", came))
        elif not fails:
            report("PnpIrpCompletion")
    elif status == _NOT_SUPPORTED:
        if came not in (None, status):
            report(_GOES.get(PnpMinor(minor), "PnpTurnedIntoNotSupported"))
    elif minor == PnpMinor.START_DEVICE and not fails and _failed(came):
        report("StartFailureHidden")


def _of_a_bus(device: DeviceObject[Any]) -> bool:
    """Of a bus of drivers', that is: what the bridge's own bus driver says is the bridge's affair."""
    return bool(device.flags & DO_BUS_ENUMERATED_DEVICE) and device.driver_object.name != OWN_DRIVER


def _failed(status: int | None) -> bool:
    return status is not None and status >= NT_FAILURE and status != _NOT_SUPPORTED


def _into_not_supported(kind: str, came: int | None) -> str:
    return f"{kind}UntouchedCompleted" if came in (None, _NOT_SUPPORTED) else f"{kind}TurnedIntoNotSupported"


def _power(verifier: Verifier, irp: VerifiedIrp, device: DeviceObject[Any], location: IoStackLocation) -> None:
    minor, status = location.minor_function, int(irp.io_status.status)
    back, came, _ = _came(irp)
    if device.lower_device is None and not back:
        return
    words = f"IRP_MN {minor:#x} with {irp.io_status.status}"

    def report(name: str) -> None:
        verifier.report(name, irp=irp, device=device, details=words)

    if status == _NOT_SUPPORTED:
        if not back:
            report("PowerUnknownCompleted" if minor not in _POWER else _into_not_supported("Power", came))
        elif came not in (None, status):
            report("PowerTurnedIntoNotSupported")
    elif status < NT_FAILURE:
        if not back:
            report("PowerUnknownCompleted" if minor not in _POWER else "PowerIrpCompletion")
    elif not back and minor not in _POWER:
        report("PowerUnknownCompleted")
    elif minor == PowerMinor.SET_POWER and not (back and came == status) and status not in IS_GONE:
        report("PowerUpFail" if _goes_up(location.parameters) else "PowerDownFail")


def _goes_up(arm: object) -> bool:
    if not isinstance(arm, PowerParameters):
        return False
    return arm.state == (DevicePowerState.D0 if arm.type == PowerStateType.DEVICE else SystemPowerState.WORKING)


def mark_rule(location: IoStackLocation) -> str:
    """The rule that is broken by who marks such a request pending when he has passed it down already."""
    major, minor, arm = location.major_function, location.minor_function, location.parameters
    if major == IrpMajor.PNP and minor == PnpMinor.START_DEVICE:
        return "MarkStartDevice"
    if major == IrpMajor.PNP and minor == PnpMinor.QUERY_DEVICE_RELATIONS:
        return "MarkQueryRelations"
    if major != IrpMajor.POWER:
        return "MarkedWhilePendingBelow"
    if minor != PowerMinor.SET_POWER or not isinstance(arm, PowerParameters) or arm.type != PowerStateType.SYSTEM:
        return "MarkPower"
    return "MarkDevicePower" if _goes_up(arm) else "MarkPowerDown"
