"""NTSTATUS: the one currency in which the driver model reports outcomes.

Values are those of ``ntstatus.h`` (mingw-w64's headers were the source). A status is an *open* ``int`` subclass: a
driver may return a value that is not named here and it still prints, compares and carries its severity.

``bool(status)`` raises. In C, ``if (status)`` is the oldest bug in the book: zero is success and PENDING is not zero.
Ask ``status.is_success`` instead.
"""

from __future__ import annotations

from typing import NoReturn

_NAMES: dict[int, str] = {}


class NtStatus(int):
    """A 32-bit NTSTATUS, unsigned. Severity is bits 31:30 (0 success, 1 informational, 2 warning, 3 error)."""

    __slots__ = ()

    @property
    def severity(self) -> int:
        """0 success, 1 informational, 2 warning, 3 error."""
        return int(self) >> 30 & 3

    @property
    def is_success(self) -> bool:
        """NT_SUCCESS: severity success or informational. PENDING is a success in this sense."""
        return int(self) < 0x8000_0000

    @property
    def is_error(self) -> bool:
        """NT_ERROR: severity 3."""
        return int(self) >= 0xC000_0000

    @property
    def name(self) -> str:
        """``STATUS_CANCELLED``, or ``STATUS_0xC0DE1234`` for a value without a name."""
        return _NAMES.get(int(self)) or f"STATUS_0x{int(self):08X}"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"the truth of {self.name} is ambiguous (zero is success): use .is_success or .is_error")

    def __repr__(self) -> str:
        return f"<{self.name} 0x{int(self):08X}>"

    def __str__(self) -> str:
        return self.name


def _status(name: str, value: int) -> NtStatus:
    _NAMES.setdefault(value, f"STATUS_{name}")
    return NtStatus(value)


STATUS_SUCCESS = _status("SUCCESS", 0x0000_0000)
STATUS_TIMEOUT = _status("TIMEOUT", 0x0000_0102)
STATUS_PENDING = _status("PENDING", 0x0000_0103)
STATUS_SERIAL_MORE_WRITES = _status("SERIAL_MORE_WRITES", 0x4000_0008)
STATUS_SERIAL_COUNTER_TIMEOUT = _status("SERIAL_COUNTER_TIMEOUT", 0x4000_000C)
STATUS_BUFFER_OVERFLOW = _status("BUFFER_OVERFLOW", 0x8000_0005)
STATUS_DEVICE_BUSY = _status("DEVICE_BUSY", 0x8000_0011)
STATUS_VERIFY_REQUIRED = _status("VERIFY_REQUIRED", 0x8000_0016)
STATUS_UNSUCCESSFUL = _status("UNSUCCESSFUL", 0xC000_0001)
STATUS_NOT_IMPLEMENTED = _status("NOT_IMPLEMENTED", 0xC000_0002)
STATUS_ACCESS_VIOLATION = _status("ACCESS_VIOLATION", 0xC000_0005)
STATUS_INVALID_HANDLE = _status("INVALID_HANDLE", 0xC000_0008)
STATUS_INVALID_PARAMETER = _status("INVALID_PARAMETER", 0xC000_000D)
STATUS_NO_SUCH_DEVICE = _status("NO_SUCH_DEVICE", 0xC000_000E)
STATUS_INVALID_DEVICE_REQUEST = _status("INVALID_DEVICE_REQUEST", 0xC000_0010)
STATUS_END_OF_FILE = _status("END_OF_FILE", 0xC000_0011)
STATUS_MORE_PROCESSING_REQUIRED = _status("MORE_PROCESSING_REQUIRED", 0xC000_0016)
STATUS_NO_MEMORY = _status("NO_MEMORY", 0xC000_0017)
STATUS_ACCESS_DENIED = _status("ACCESS_DENIED", 0xC000_0022)
STATUS_BUFFER_TOO_SMALL = _status("BUFFER_TOO_SMALL", 0xC000_0023)
STATUS_OBJECT_NAME_INVALID = _status("OBJECT_NAME_INVALID", 0xC000_0033)
STATUS_OBJECT_NAME_NOT_FOUND = _status("OBJECT_NAME_NOT_FOUND", 0xC000_0034)
STATUS_OBJECT_NAME_COLLISION = _status("OBJECT_NAME_COLLISION", 0xC000_0035)
STATUS_OBJECT_PATH_NOT_FOUND = _status("OBJECT_PATH_NOT_FOUND", 0xC000_003A)
STATUS_DATA_OVERRUN = _status("DATA_OVERRUN", 0xC000_003C)
STATUS_SHARING_VIOLATION = _status("SHARING_VIOLATION", 0xC000_0043)
STATUS_DELETE_PENDING = _status("DELETE_PENDING", 0xC000_0056)
STATUS_INSUFFICIENT_RESOURCES = _status("INSUFFICIENT_RESOURCES", 0xC000_009A)
STATUS_DEVICE_DATA_ERROR = _status("DEVICE_DATA_ERROR", 0xC000_009C)
STATUS_DEVICE_NOT_CONNECTED = _status("DEVICE_NOT_CONNECTED", 0xC000_009D)
STATUS_DEVICE_NOT_READY = _status("DEVICE_NOT_READY", 0xC000_00A3)
STATUS_IO_TIMEOUT = _status("IO_TIMEOUT", 0xC000_00B5)
STATUS_NOT_SUPPORTED = _status("NOT_SUPPORTED", 0xC000_00BB)
STATUS_INTERNAL_ERROR = _status("INTERNAL_ERROR", 0xC000_00E5)
STATUS_IMAGE_ALREADY_LOADED = _status("IMAGE_ALREADY_LOADED", 0xC000_010E)
STATUS_CANCELLED = _status("CANCELLED", 0xC000_0120)
STATUS_FILE_CLOSED = _status("FILE_CLOSED", 0xC000_0128)
STATUS_DRIVER_INTERNAL_ERROR = _status("DRIVER_INTERNAL_ERROR", 0xC000_0183)
STATUS_INVALID_DEVICE_STATE = _status("INVALID_DEVICE_STATE", 0xC000_0184)
STATUS_IO_DEVICE_ERROR = _status("IO_DEVICE_ERROR", 0xC000_0185)
STATUS_INVALID_BUFFER_SIZE = _status("INVALID_BUFFER_SIZE", 0xC000_0206)
STATUS_DEVICE_REMOVED = _status("DEVICE_REMOVED", 0xC000_02B6)
STATUS_FAILED_DRIVER_ENTRY = _status("FAILED_DRIVER_ENTRY", 0xC000_0365)
STATUS_DRIVER_PROCESS_TERMINATED = _status("DRIVER_PROCESS_TERMINATED", 0xC000_0450)
