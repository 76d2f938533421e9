"""What callers see: one exception class per culprit.

Inside the model there are only statuses; the application interface and the command line translate once, here. Every
error keeps the NTSTATUS (``.status``), the IRP's id (``.irp_id``) where there was one, and the bytes that had been
received when it happened (``.partial``). Each class also derives from the builtin that a caller would catch anyway.
"""

from __future__ import annotations

import re
from typing import Self

from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_CANCELLED,
    STATUS_DATA_OVERRUN,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_INTERNAL_ERROR,
    STATUS_INVALID_PARAMETER,
    STATUS_IO_DEVICE_ERROR,
    STATUS_IO_TIMEOUT,
    STATUS_NO_SUCH_DEVICE,
    STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_SHARING_VIOLATION,
    NtStatus,
)


class HilbridgeError(Exception):
    """Root of everything that hilbridge raises on purpose.

    ``exit_code`` is what the command line exits with when this error ends it.
    """

    exit_code = 70
    default_status: NtStatus = STATUS_INTERNAL_ERROR

    def __init__(
        self, message: str, *, status: NtStatus | None = None, irp_id: int | None = None, partial: bytes = b""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.default_status if status is None else status
        self.irp_id = irp_id
        self.partial = partial
        self.information = 0
        """How much a request had moved when it failed: what a write got out."""

    def __str__(self) -> str:
        return self.message

    def add_words(self, words: str) -> None:
        """Append to the message: what else is known by who passes the error on."""
        self.message += words
        self.args = (self.message,)

    def again(self) -> Self:
        """A copy to raise once more: an exception object keeps the traceback of its first raise."""
        # Not copy.copy(): that calls the class with `args`, and not every class takes its arguments in that form.
        twin = type(self).__new__(type(self))
        twin.args = self.args
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self
        return twin


class UsageFault(HilbridgeError, ValueError):
    """The caller asked for something that cannot be."""

    exit_code = 2
    default_status = STATUS_INVALID_PARAMETER


class NameNotFound(UsageFault):
    """No device of this bridge has that name."""

    exit_code = 4
    default_status = STATUS_OBJECT_NAME_NOT_FOUND


class RequestCancelled(UsageFault):
    """The request was cancelled by its caller, or its handle was closed, before it was done."""

    exit_code = 1
    default_status = STATUS_CANCELLED


class BridgeClosed(UsageFault):
    """The bridge or the handle was closed, or belongs to the parent of a forked process."""


class Deadlock(UsageFault):
    """A hand-cranked machine was asked to wait, and nothing is left that could happen."""


class DriverFault(HilbridgeError, RuntimeError):
    """A driver made a mistake: it raised, hung, or broke a rule of the model."""

    exit_code = 9
    default_status = STATUS_DRIVER_INTERNAL_ERROR
    driver: str | None = None
    """The name of the driver, where it is known."""
    place: str | None = None
    """``file:line`` of the driver's own code, where it is known."""
    finding: object = None
    """What the driver verifier has to say about it, if one watches."""

    def blame(self, driver: str | None, place: str | None) -> None:
        """Say whose mistake it is, and where; only once, and only what is known. The message ends with it."""
        if self.driver is not None or self.place is not None:
            return
        self.driver, self.place = driver, place
        named = driver is None or re.search(rf"\b{re.escape(driver)}\b", self.message)
        known = [] if named else [f"driver {driver}"]
        if place is not None:
            known.append(place)
        if known:
            self.add_words(f" ({', '.join(known)})")


class BugCheck(DriverFault):
    """A rule of the driver model was broken. ``code`` and ``parameters`` are those of Windows' bug check."""

    def __init__(self, code: int, name: str, *parameters: object, hint: str = "") -> None:
        shown = ", ".join(f"0x{p:X}" if p.__class__ is int else str(p) for p in parameters)
        super().__init__(f"bug check 0x{code:X} {name} ({shown})" + (f": {hint}" if hint else ""))
        self.code = code
        self.name = name
        self.parameters = parameters


class NtStatusError(HilbridgeError):
    """A routine that hands back an object could not: in C it would have returned this status instead.

    A driver that lets it pass out of driver_entry, AddDevice or START_DEVICE fails these with the status.
    """

    def __init__(self, status: NtStatus, message: str) -> None:
        super().__init__(f"{status.name}: {message}", status=status)
        self.words = message
        """The message without the status."""


class DeviceFault(HilbridgeError, OSError):
    """The device or the operating system refused or failed."""

    exit_code = 7
    default_status = STATUS_IO_DEVICE_ERROR


class DeviceGone(DeviceFault, ConnectionError):
    """The device was unplugged, or its other end hung up. What it said before is in ``.partial`` or already delivered."""

    default_status = STATUS_DEVICE_NOT_CONNECTED


class DeviceNotFound(DeviceFault, FileNotFoundError):
    """There is no such device node, port or host."""

    exit_code = 4
    default_status = STATUS_NO_SUCH_DEVICE


class DeviceBusy(DeviceFault):
    """Somebody else has the device; the message says who."""

    exit_code = 5
    default_status = STATUS_SHARING_VIOLATION


class DevicePermission(DeviceFault, PermissionError):
    """The operating system does not let this user open the device."""

    exit_code = 6
    default_status = STATUS_ACCESS_DENIED


class DeviceTimeout(DeviceFault, TimeoutError):
    """The deadline passed. Nothing was consumed; ``.partial`` shows what was there."""

    exit_code = 8
    default_status = STATUS_IO_TIMEOUT


class DataLost(DeviceFault):
    """This reader fell behind the others of the same port by more than the receive log holds; the message says by how much."""

    default_status = STATUS_DATA_OVERRUN


class DeviceUnsupported(DeviceFault):
    """The device cannot do that (a pty has no modem lines; an adapter lacks a baud rate)."""

    exit_code = 2
    default_status = STATUS_NOT_SUPPORTED


class ConfigError(HilbridgeError, ValueError):
    """A file says something that cannot be. The message starts with ``file:line:column``."""

    exit_code = 3
    default_status = STATUS_INVALID_PARAMETER


class InternalFault(HilbridgeError, RuntimeError):
    """hilbridge itself is wrong. Please report it."""
