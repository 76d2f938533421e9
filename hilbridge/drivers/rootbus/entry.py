r"""The root bus driver. Its devices are the PDOs below serial ports, samples, and whatever else is plugged in by hand.

It has no device of its own on its bus: its children are made by the Plug and Play manager's hand, and go by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    FILE_DEVICE_BUS_EXTENDER,
    IdType,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    RelationType,
    TextType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus


@dataclass(slots=True)
class RootChild:
    """DEVICE_EXTENSION of a PDO: what was plugged in, under which name, for which driver."""

    moniker: str
    name: str = ""
    driver: str = "unknown"


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Only Plug and Play and power: nothing else gets down here."""
    driver.unload = lambda _driver: None
    driver.major_function[IrpMajor.PNP] = pnp
    driver.major_function[IrpMajor.POWER] = power
    return STATUS_SUCCESS


def create_child(
    driver: DriverObject, moniker: str, name: str = "", function: str = "unknown"
) -> DeviceObject[RootChild]:
    """A new PDO for what `moniker` names."""
    child = driver.io.create_device(driver, RootChild(moniker, name, function), None, FILE_DEVICE_BUS_EXTENDER)
    child.flags |= DO_BUS_ENUMERATED_DEVICE
    child.flags &= ~DO_DEVICE_INITIALIZING
    return child


def pnp(device: DeviceObject[RootChild], irp: Irp) -> NtStatus:
    """Dispatch routine. The bus driver completes every Plug and Play request of its devices; the status of those that it
    does not know stays as it came.
    """
    answer = _ANSWERS.get(irp.current_stack_location.minor_function)
    if answer is not None and answer(device, irp):
        irp.io_status.status = STATUS_SUCCESS
    status = irp.io_status.status
    device.io.complete_request(irp)
    return status


def power(device: DeviceObject[RootChild], irp: Irp) -> NtStatus:
    """Dispatch routine. What hangs here has no power switch of its own: it is in the state that its drivers say it is in."""
    if irp.current_stack_location.minor_function in (PowerMinor.SET_POWER, PowerMinor.QUERY_POWER):
        irp.io_status.status = STATUS_SUCCESS
    status = irp.io_status.status
    device.io.complete_request(irp)
    return status


def _nothing_to_do(_device: DeviceObject[RootChild], _irp: Irp) -> bool:
    return True


def _query_id(device: DeviceObject[RootChild], irp: Irp) -> bool:
    child = device.extension
    kind = irp.current_stack_location.parameters.query_id.id_type
    if kind == IdType.DEVICE_ID:
        irp.io_status.information = f"ROOT\\{child.driver}"
    elif kind == IdType.HARDWARE_IDS:
        irp.io_status.information = [f"ROOT\\{child.driver}"]
    elif kind == IdType.INSTANCE_ID:
        irp.io_status.information = child.name
    else:
        return False
    return True


def _query_text(device: DeviceObject[RootChild], irp: Irp) -> bool:
    if irp.current_stack_location.parameters.query_device_text.device_text_type != TextType.LOCATION_INFORMATION:
        return False
    irp.io_status.information = device.extension.moniker
    return True


def _query_capabilities(_device: DeviceObject[RootChild], irp: Irp) -> bool:
    capabilities = irp.current_stack_location.parameters.device_capabilities.capabilities
    capabilities.removable = capabilities.surprise_removal_ok = True
    return True


def _query_relations(device: DeviceObject[RootChild], irp: Irp) -> bool:
    if irp.current_stack_location.parameters.query_device_relations.type != RelationType.TARGET_DEVICE:
        return False
    irp.io_status.information = [device.io.reference_object(device)]
    return True


_ANSWERS: dict[int, Callable[[DeviceObject[RootChild], Irp], bool]] = {
    PnpMinor.START_DEVICE: _nothing_to_do,
    PnpMinor.QUERY_STOP_DEVICE: _nothing_to_do,
    PnpMinor.STOP_DEVICE: _nothing_to_do,
    PnpMinor.CANCEL_STOP_DEVICE: _nothing_to_do,
    PnpMinor.QUERY_REMOVE_DEVICE: _nothing_to_do,
    PnpMinor.CANCEL_REMOVE_DEVICE: _nothing_to_do,
    PnpMinor.SURPRISE_REMOVAL: _nothing_to_do,
    PnpMinor.REMOVE_DEVICE: _nothing_to_do,
    PnpMinor.QUERY_ID: _query_id,
    PnpMinor.QUERY_DEVICE_TEXT: _query_text,
    PnpMinor.QUERY_CAPABILITIES: _query_capabilities,
    PnpMinor.QUERY_DEVICE_RELATIONS: _query_relations,
}
"""What this bus driver knows; each says whether it has answered."""
