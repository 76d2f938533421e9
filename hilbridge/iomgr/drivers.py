"""Loading and unloading drivers: DriverEntry, the dispatch table's defaults, DriverUnload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.model.codes import (
    DO_DEVICE_INITIALIZING,
    DRVO_INITIALIZED,
    DRVO_LEGACY_DRIVER,
    DRVO_UNLOAD_INVOKED,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverEntry, DriverObject
from hilbridge.model.errors import DriverFault, NtStatusError, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_FAILED_DRIVER_ENTRY,
    STATUS_IMAGE_ALREADY_LOADED,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_OBJECT_NAME_NOT_FOUND,
    NtStatus,
)

_LEFT_ALONE = (IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL)


class DriverRoutines(IrpRoutines):
    """The I/O manager's routines about driver objects."""

    def invalid_device_request(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        """What an entry of the dispatch table holds that the driver did not fill: STATUS_INVALID_DEVICE_REQUEST.

        Plug and Play, power and system control requests arrive with a status that must be kept by who does not know them;
        a filter without an entry for these passes them on, so that it cannot cut its stack in two by omission.
        """
        location = irp.current_stack_location
        if location.major_function in _LEFT_ALONE:
            if device.lower_device is not None:
                irp.skip_current_stack_location()
                return self.call_driver(device.lower_device, irp)
            status = irp.io_status.status
        else:
            status = irp.io_status.status = STATUS_INVALID_DEVICE_REQUEST
            irp.io_status.information = 0
        self.complete_request(irp)
        return status

    def load_driver(
        self, name: str, entry: DriverEntry, parameters: Mapping[str, object] | None = None
    ) -> DriverObject:
        """IoLoadDriver: make the DRIVER_OBJECT and run its DriverEntry, once per bridge and name.

        Raises `NtStatusError` with what DriverEntry returned, or a `DriverFault` if it raised or returned no status. A
        driver that fails is not loaded, and its unload routine is not called.
        """
        if name in self.drivers:
            raise NtStatusError(STATUS_IMAGE_ALREADY_LOADED, f"driver {name!r} is loaded already")
        driver = DriverObject(name, self, self.ke, self.invalid_device_request, parameters)  # type: ignore[arg-type]
        try:
            status = entry(driver, driver.parameters)
        except NtStatusError as error:
            status = error.status
        except Exception as error:
            raise DriverFault(
                f"driver {name} raised {type(error).__name__} in driver_entry: {error}",
                status=STATUS_FAILED_DRIVER_ENTRY,
            ) from error
        if not isinstance(status, NtStatus):
            raise DriverFault(
                f"driver {name}: driver_entry returned {status!r}; return STATUS_SUCCESS or an error status",
                status=STATUS_FAILED_DRIVER_ENTRY,
            )
        if not status.is_success:
            raise NtStatusError(status, f"driver_entry of {name} failed")
        table = driver.major_function
        for major in IrpMajor:
            if table[major] is None:
                table[major] = self.invalid_device_request
        driver.flags |= DRVO_INITIALIZED
        if driver.add_device is not None:
            driver.flags &= ~DRVO_LEGACY_DRIVER
        device = driver.device_object
        while device is not None:
            device.flags &= ~DO_DEVICE_INITIALIZING
            device = device.next_device
        self.drivers[name] = driver
        return driver

    def unload_driver(self, name: str) -> None:
        """IoUnloadDriver: run its unload routine. Its devices must be gone: handles closed, nothing attached above."""
        driver = self.drivers.get(name)
        if driver is None:
            raise NtStatusError(STATUS_OBJECT_NAME_NOT_FOUND, f"no driver {name!r} is loaded")
        if driver.driver_unload is None:
            raise NtStatusError(STATUS_INVALID_DEVICE_REQUEST, f"driver {name!r} has no unload routine")
        device = driver.device_object
        while device is not None:
            if device.handle_count or device.attached_device is not None:
                raise UsageFault(f"driver {name!r} is in use: {device!r} is open, or something is attached to it")
            device = device.next_device
        driver.flags |= DRVO_UNLOAD_INVOKED
        try:
            driver.driver_unload(driver)
        except Exception as error:
            raise DriverFault(f"driver {name} raised {type(error).__name__} in its unload routine: {error}") from error
        finally:
            del self.drivers[name]
