"""Devices: how they are set up when they are started, and what removal and unloading leave behind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from hilbridge.iomgr.base import holder_of
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    DO_DIRECT_IO,
    DO_POWER_PAGABLE,
    IrpMajor,
    PnpMinor,
)
from hilbridge.observe.verifier.watch import Verifier, place_of_routine

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverDispatch, DriverObject
    from hilbridge.observe.verifier.irp import VerifiedIrp


def started(verifier: Verifier, top: DeviceObject[Any], default: DriverDispatch) -> None:
    """START_DEVICE is about to be sent: every driver has added its device."""
    for device in top.walk_down():
        lower, add_device = device.lower_device, device.driver_object.add_device
        report = partial(verifier.report, place=place_of_routine(add_device))
        if device.flags & DO_DEVICE_INITIALIZING:
            report("DeviceInitializing", device=device)
        if device.flags & DO_BUFFERED_IO and device.flags & DO_DIRECT_IO:
            report("BufferedAndDirect", device=device)
        if device.driver_object.add_device is not None and device.driver_object.major_function[IrpMajor.PNP] == default:
            report("RequiredMajorMissing", device=device)
        if lower is None or device.name is not None or not any(below.name for below in lower.walk_down()):
            continue  # only a filter above the function driver, whose device has the name, must look like what is below it
        how = DO_BUFFERED_IO | DO_DIRECT_IO
        if device.flags & how != lower.flags & how:
            report("CheckDeviceObjectFlags", device=device)
        if lower.flags & DO_POWER_PAGABLE and not device.flags & DO_POWER_PAGABLE:
            report("PowerPagableNotInherited", device=device)
        if device.device_type != lower.device_type:
            report("DeviceTypeNotCopied", device=device)


def needs_pdo(verifier: Verifier, device: DeviceObject[Any], routine: str) -> None:
    """A driver calls a routine that is for PDOs."""
    if device.lower_device is not None and verifier.running():
        verifier.report("PdoNeeded", details=f"{routine} of {device!r}")


def connects(verifier: Verifier, device: DeviceObject[Any]) -> None:
    """A service routine is about to be connected: in START_DEVICE only when the devices below have been started."""
    inner = verifier.innermost_dispatch()
    if inner is None or inner.device is not device or device.lower_device is None:
        return
    irp = cast("VerifiedIrp", inner.irp)
    if inner.major != IrpMajor.PNP or inner.minor != PnpMinor.START_DEVICE:
        return
    notes = irp.protocol
    if holder_of(irp) is not device or notes is None or irp.current_location not in notes.came_back:
        verifier.report("StartDeviceWait", irp=irp, device=device)


def removed(verifier: Verifier, device: DeviceObject[Any]) -> None:
    """The dispatch routine of `device` has returned from REMOVE_DEVICE."""
    if device.flags & DO_BUS_ENUMERATED_DEVICE:
        return  # the hardware may still be there
    place = place_of_routine(device.driver_object.major_function[IrpMajor.PNP])
    if device.lower_device is not None:
        verifier.report("RemoveWithoutDetach", device=device, place=place)
    elif not device.delete_pending:
        verifier.report("RemoveWithoutDelete", device=device, place=place)


def in_surprise_removal(verifier: Verifier, name: str, device: DeviceObject[Any]) -> None:
    """A device is being detached or deleted: not while its driver handles SURPRISE_REMOVAL."""
    for running in reversed(verifier.running()):
        if running.kind != "dispatch":
            continue
        if running.major == IrpMajor.PNP and running.minor == PnpMinor.SURPRISE_REMOVAL:
            verifier.report(name, device=device)
        return


def unloaded(verifier: Verifier, driver: DriverObject) -> None:
    """The unload routine of `driver` has returned."""
    for device in driver.devices:
        if not device.delete_pending:
            rule = "WmiRegisteredAtUnload" if device.io.wmi_registered(device) else "DeviceLeftAtUnload"
            place = place_of_routine(driver.driver_unload)
            verifier.report(rule, device=device, driver=driver.name, place=place)
