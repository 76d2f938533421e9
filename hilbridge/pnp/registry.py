"""Drivers by name. Each is imported when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from hilbridge.model.driver import DriverEntry, DriverObject
from hilbridge.model.errors import DriverFault, NtStatusError, UsageFault

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager

DRIVERS = {
    "serial": "hilbridge.drivers.serial.entry",
    "event": "hilbridge.drivers.samples.event",
    "null": "hilbridge.drivers.samples.null",
    "sioctl": "hilbridge.drivers.samples.sioctl",
    "cancel": "hilbridge.drivers.samples.cancel",
    "toaster": "hilbridge.drivers.samples.toaster.function",
    "toasterbus": "hilbridge.drivers.samples.toaster.bus",
    "toasterfilter": "hilbridge.drivers.samples.toaster.filter",
    "cancel-startio": "hilbridge.drivers.samples.cancel_startio",
    "counter": "hilbridge.filters.counter",
}
"""Name -> the module that has its ``driver_entry``."""

BY_HARDWARE_ID = {"{B85B7C50-6A01-11D2-B841-00C04FAD5171}\\MsToaster": "toaster"}
"""Hardware id -> the driver, by name, that a device of that id gets: for devices that bus drivers of ours find."""

DriverLike = str | ModuleType | Callable[..., object]


def find_driver(driver: DriverLike) -> tuple[str, DriverEntry]:
    """A driver's name and entry, from a name of ours, ``package.module``, a module, or the ``driver_entry`` itself."""
    if callable(driver):
        module = getattr(driver, "__module__", "driver").rpartition(".")[2]
        function = getattr(driver, "__name__", "driver_entry")
        # A module may hold several drivers; what is loaded under one name is not loaded again.
        return module if function == "driver_entry" else f"{module}.{function}", driver  # type: ignore[return-value]
    if isinstance(driver, str):
        name = driver
        path = DRIVERS.get(driver, driver)
        if path == driver and "." not in driver:
            raise UsageFault(
                f"no driver is called {driver!r}; there are {', '.join(sorted(DRIVERS))}, or use package.module"
            )
        try:
            driver = import_module(path)
        except ImportError as error:
            raise UsageFault(f"driver {name!r} could not be imported: {error}") from error
    else:
        name = driver.__name__
    entry = getattr(driver, "driver_entry", None)
    if not callable(entry):
        raise DriverFault(f"{driver.__name__} has no driver_entry(driver, parameters)")
    return name.rpartition(".")[2], entry


class Drivers:
    """The drivers of one system: each is loaded once, when it is first needed."""

    def __init__(self, io: IoManager) -> None:
        self._io = io
        self._entries: dict[str, DriverEntry] = {}

    def load(self, driver: DriverLike) -> DriverObject:
        """The driver, loaded. Raises `UsageFault` if there is none of that name, `DriverFault` if it does not load."""
        plain, entry = find_driver(driver)
        # Two modules may end in the same name, and a file may hold several drivers: a name alone does not tell them apart.
        name, number = plain, 1
        while (loaded := self._io.drivers.get(name)) is not None:
            if self._entries.get(name) == entry:
                return loaded
            number += 1
            name = f"{plain}-{number}"
        try:
            loaded = self._io.load_driver(name, entry)
        except NtStatusError as error:
            raise DriverFault(f"driver {name} did not load: {error.message}", status=error.status) from error
        self._entries[name] = entry
        return loaded
