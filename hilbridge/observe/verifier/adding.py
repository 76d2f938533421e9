"""AddDevice: what it creates, what it attaches and to what, and what it leaves behind when it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hilbridge.model.status import NtStatus
from hilbridge.observe.verifier.watch import Verifier, place_of_routine

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverObject


def call(
    verifier: Verifier,
    routine: Callable[[DriverObject, DeviceObject[Any]], NtStatus],
    driver: DriverObject,
    physical: DeviceObject[Any],
) -> NtStatus:
    """Call the AddDevice routine of `driver` for a PDO, and look at what it has done.

    Of one that raises nothing is said: C has no such thing, and the Plug and Play manager takes away what it leaves.
    """
    before = driver.devices
    added = verifier.me().added
    added.append(physical)
    try:
        status: object = routine(driver, physical)
    finally:
        added.pop()
    if not isinstance(status, NtStatus):
        return cast("NtStatus", status)  # the bridge says what it thinks of that
    if not status.is_success:
        _failed(verifier, routine, driver, before)
        return status
    new = _new(driver, before)
    if new and all(device.lower_device is None for device in new):
        verifier.report("AddDevice", device=new[0], place=place_of_routine(routine))
    return status


def attaches(verifier: Verifier, source: DeviceObject[Any], target: DeviceObject[Any]) -> None:
    """A device is about to be attached."""
    added = verifier.me().added
    if added and target.device_stack is not added[-1].device_stack:
        verifier.report("PnpSameDeviceObject", device=source, details=f"to {target!r} instead of {added[-1]!r}")


def _failed(verifier: Verifier, routine: object, driver: DriverObject, before: list[DeviceObject[Any]]) -> None:
    for device in _new(driver, before):
        verifier.report("AddDeviceFailed", device=device, place=place_of_routine(routine), details=f"{device!r}")


def _new(driver: DriverObject, before: list[DeviceObject[Any]]) -> list[DeviceObject[Any]]:
    return [device for device in driver.devices if device not in before and not device.delete_pending]
