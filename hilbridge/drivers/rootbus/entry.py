"""The root bus driver. Its devices are the PDOs below serial ports, samples, and whatever else is plugged in by hand."""

from __future__ import annotations

from collections.abc import Mapping

from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    FILE_DEVICE_BUS_EXTENDER,
    IrpMajor,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus

_SUCCEEDS = (
    PnpMinor.START_DEVICE,
    PnpMinor.SURPRISE_REMOVAL,
    PnpMinor.QUERY_REMOVE_DEVICE,
    PnpMinor.CANCEL_REMOVE_DEVICE,
    PnpMinor.REMOVE_DEVICE,
)


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Only Plug and Play: nothing else gets down here."""
    driver.unload = lambda _driver: None
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def create_child(driver: DriverObject, moniker: str) -> DeviceObject[str]:
    """A new PDO for what `moniker` names."""
    child = driver.io.create_device(driver, moniker, None, FILE_DEVICE_BUS_EXTENDER)
    child.flags |= DO_BUS_ENUMERATED_DEVICE
    child.flags &= ~DO_DEVICE_INITIALIZING
    return child


def pnp(device: DeviceObject[str], irp: Irp) -> NtStatus:
    """Dispatch routine. The bus driver completes every Plug and Play request of its devices; the status of those that it
    does not know stays as it came.
    """
    minor = irp.current_stack_location.minor_function
    if minor in _SUCCEEDS:
        irp.io_status.status = STATUS_SUCCESS
    status = irp.io_status.status
    device.io.complete_request(irp)
    return status
