"""Loading drivers: DriverEntry, the dispatch table's defaults, driver extensions, reinitialization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.iomgr.build import BuildRoutines
from hilbridge.iomgr.unload import UnloadRoutines
from hilbridge.model.codes import (
    DO_DEVICE_INITIALIZING,
    DRVO_INITIALIZED,
    DRVO_LEGACY_DRIVER,
    DRVO_REINIT_REGISTERED,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverEntry, DriverObject, Reinitialize
from hilbridge.model.errors import DriverFault, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_FAILED_DRIVER_ENTRY,
    STATUS_IMAGE_ALREADY_LOADED,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_OBJECT_NAME_COLLISION,
    NtStatus,
)

_LEFT_ALONE = (IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL)
REINITIALIZATIONS = 100
"""How often a driver may ask in a row to be called once more."""


class DriverRoutines(UnloadRoutines, BuildRoutines):
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
        driver that fails is not loaded, and its unload routine is not called; what it has left behind is said in the error,
        and taken away.
        """
        loaded = self.drivers.get(name)
        if loaded is not None:
            going = "; it is being unloaded, and something uses it still" if loaded.unload_pending else ""
            raise NtStatusError(STATUS_IMAGE_ALREADY_LOADED, f"driver {name!r} is loaded already{going}")
        driver = DriverObject(name, self, self.ke, self.invalid_device_request, parameters)  # type: ignore[arg-type]
        try:
            self._run_entry(driver, entry)
        except (NtStatusError, DriverFault) as error:
            left = self._take_away(driver)
            if left:
                error.add_words(f"; it has left behind {left}")
            raise
        table = driver.major_function
        for major in IrpMajor:
            if table[major] is None:
                table[major] = self.invalid_device_request
        driver.flags |= DRVO_INITIALIZED
        if driver.add_device is not None:
            driver.flags &= ~DRVO_LEGACY_DRIVER
        for device in driver.devices:
            device.flags &= ~DO_DEVICE_INITIALIZING
        self.drivers[name] = driver
        self._reinitialize(driver)
        return driver

    @staticmethod
    def _run_entry(driver: DriverObject, entry: DriverEntry) -> None:
        name = driver.name
        try:
            status = entry(driver, driver.parameters)
        except NtStatusError as error:
            status = error.status
            if status.is_error:
                raise NtStatusError(status, f"driver_entry of {name} failed: {error.words}") from error
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

    # -- reinitialization and extensions -----------------------------------------------------------------------------

    @staticmethod
    def register_driver_reinitialization(driver: DriverObject, routine: Reinitialize, context: Any = None) -> None:
        """IoRegisterDriverReinitialization: from driver_entry, to be called once more when that is over.

        ``routine(driver, context, count)``: `count` says how often it has been called. It may register itself again.
        """
        driver.reinitialize.append((routine, context))
        driver.flags |= DRVO_REINIT_REGISTERED

    def _reinitialize(self, driver: DriverObject) -> None:
        for _ in range(REINITIALIZATIONS):
            if not driver.reinitialize:
                break
            routine, context = driver.reinitialize.pop(0)
            driver.count += 1
            try:
                routine(driver, context, driver.count)
            except Exception as error:  # noqa: BLE001 - latched
                self._reinitialization_failed(driver, f"raised {type(error).__name__}: {error}", error)
        else:
            driver.reinitialize.clear()
            self._reinitialization_failed(driver, f"asked to be called more than {REINITIALIZATIONS} times", None)
        driver.flags &= ~DRVO_REINIT_REGISTERED

    def _reinitialization_failed(self, driver: DriverObject, what: str, cause: BaseException | None) -> None:
        # The driver is loaded, and may do its work: what went wrong is kept with the faults, and marks its device.
        fault = DriverFault(f"the reinitialization routine of driver {driver.name} {what}")
        fault.__cause__ = cause
        self.fault(driver.device_object, fault, "its reinitialization routine")

    @staticmethod
    def allocate_driver_object_extension(driver: DriverObject, identification: Any, extension: Any) -> Any:
        """IoAllocateDriverObjectExtension: keep an object of the driver's under a key of its choice; returns it.

        Raises `NtStatusError` STATUS_OBJECT_NAME_COLLISION if there is one with that key. It goes with the driver.
        """
        if identification in driver.extensions:
            raise NtStatusError(
                STATUS_OBJECT_NAME_COLLISION, f"driver {driver.name} has an extension {identification!r} already"
            )
        driver.extensions[identification] = extension
        return extension

    @staticmethod
    def get_driver_object_extension(driver: DriverObject, identification: Any) -> Any:
        """IoGetDriverObjectExtension: the object that is kept under that key, or None."""
        return driver.extensions.get(identification)
