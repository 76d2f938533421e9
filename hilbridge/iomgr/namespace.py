r"""The object namespace: ``\Device\Serial0``, and symbolic links to it such as ``\DosDevices\COM1``.

``\\.\COM1`` is how user mode spells ``\DosDevices\COM1``, and ``\??`` is its other name. Names compare without case.
"""

from __future__ import annotations

import threading
from typing import Any

from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NameNotFound, NtStatusError
from hilbridge.model.status import (
    STATUS_OBJECT_NAME_COLLISION,
    STATUS_OBJECT_NAME_INVALID,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_NOT_FOUND,
)

DEVICE_DIRECTORY = "\\Device\\"
DOS_DIRECTORY = "\\DosDevices\\"
MAX_LINKS = 32


def normalise(name: str) -> str:
    r"""``COM1``, ``\\.\COM1`` and ``\??\COM1`` become ``\DosDevices\COM1``; absolute names stay as they are."""
    for prefix in ("\\\\.\\", "\\\\?\\", "\\??\\", "\\DosDevices\\", "\\GLOBAL??\\"):
        if name.lower().startswith(prefix.lower()):
            return DOS_DIRECTORY + name[len(prefix) :]
    if name.startswith("\\"):
        return name
    return DOS_DIRECTORY + name


class Namespace:
    """Names of one bridge. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._devices: dict[str, DeviceObject[Any]] = {}
        self._links: dict[str, tuple[str, str]] = {}
        self._interfaces: dict[str, dict[str, DeviceObject[Any]]] = {}
        """Links that lead to a device itself, which needs no name for that: base -> what may follow it -> device."""

    def insert(self, device: DeviceObject[Any]) -> None:
        """Enter a named device. STATUS_OBJECT_NAME_COLLISION, STATUS_OBJECT_PATH_NOT_FOUND, STATUS_OBJECT_NAME_INVALID."""
        name = device.name
        if name is None:
            return
        if not name.lower().startswith(DEVICE_DIRECTORY.lower()) or "\\" in name[len(DEVICE_DIRECTORY) :]:
            raise NtStatusError(STATUS_OBJECT_PATH_NOT_FOUND, f"device name {name!r}: devices live in \\Device\\")
        if len(name) == len(DEVICE_DIRECTORY):
            raise NtStatusError(STATUS_OBJECT_NAME_INVALID, f"device name {name!r} is empty")
        with self._lock:
            if name.lower() in self._devices:
                raise NtStatusError(STATUS_OBJECT_NAME_COLLISION, f"there is a device {name} already")
            self._devices[name.lower()] = device

    def device(self, name: str) -> DeviceObject[Any] | None:
        """The device of exactly that name, also one that is being deleted; None if there is none."""
        with self._lock:
            return self._devices.get(name.lower())

    def remove(self, device: DeviceObject[Any]) -> None:
        """Take a device's name out; links to it stay, and dangle."""
        if device.name is not None:
            with self._lock:
                if self._devices.get(device.name.lower()) is device:
                    del self._devices[device.name.lower()]

    def link(self, name: str, target: str) -> None:
        r"""IoCreateSymbolicLink. The target need not exist. Links live in ``\DosDevices\``, which has no subdirectories."""
        full = normalise(name)
        short = full[len(DOS_DIRECTORY) :]
        if not full.startswith(DOS_DIRECTORY) or "\\" in short:
            raise NtStatusError(STATUS_OBJECT_PATH_NOT_FOUND, f"link name {name!r}: links live in \\DosDevices\\")
        if not short:
            raise NtStatusError(STATUS_OBJECT_NAME_INVALID, f"link name {name!r} is empty")
        with self._lock:
            if full.lower() in self._links:
                raise NtStatusError(STATUS_OBJECT_NAME_COLLISION, f"there is a name {full} already")
            self._links[full.lower()] = (full, target)

    def unlink(self, name: str) -> None:
        """IoDeleteSymbolicLink."""
        with self._lock:
            if self._links.pop(normalise(name).lower(), None) is None:
                raise NtStatusError(STATUS_OBJECT_NAME_NOT_FOUND, f"there is no name {name}")

    def link_device(self, name: str, device: DeviceObject[Any]) -> None:
        r"""A link to a device itself: ``\??\ROOT#...#{guid}``, with or without a reference string behind it."""
        base, rest = self._split(normalise(name))
        with self._lock:
            self._interfaces.setdefault(base.lower(), {})[rest.lower()] = device

    def unlink_device(self, name: str) -> None:
        """Take it away again; that is no error if it is not there."""
        base, rest = self._split(normalise(name))
        with self._lock:
            there = self._interfaces.get(base.lower(), {})
            there.pop(rest.lower(), None)
            if not there:
                self._interfaces.pop(base.lower(), None)

    def resolve(self, name: str) -> tuple[DeviceObject[Any], str]:
        r"""Find the device; returns it and what is left of the name (with its leading backslash) for FILE_OBJECT.

        Raises `NameNotFound`, which lists the names that there are.
        """
        path = normalise(name)
        with self._lock:
            for _ in range(MAX_LINKS):
                base, rest = self._split(path)
                link = self._links.get(base.lower())
                if link is None:
                    followers = self._interfaces.get(base.lower(), {})
                    device = self._devices.get(base.lower()) or followers.get(rest.lower()) or followers.get("")
                    if device is not None and not device.delete_pending:
                        return device, rest
                    break
                path = normalise(link[1]) + rest
            known = sorted(full[len(DOS_DIRECTORY) :] for full, _ in self._links.values())
        raise NameNotFound(
            f"no device is named {name!r}; this bridge has {', '.join(known) if known else 'no devices: plug one in'}"
        )

    @staticmethod
    def _split(path: str) -> tuple[str, str]:
        parts = path.split("\\", 3)
        if len(parts) < 4:
            return path, ""
        return "\\".join(parts[:3]), "\\" + parts[3]

    def links(self) -> list[tuple[str, str]]:
        """All symbolic links with their targets, sorted."""
        with self._lock:
            return sorted(self._links.values())

    def links_to(self, device: DeviceObject[Any]) -> list[str]:
        """The short names of a device: ``COM1``."""
        name = (device.name or "").lower()
        with self._lock:
            return sorted(
                full[len(DOS_DIRECTORY) :] for full, target in self._links.values() if target.lower() == name and name
            )
