"""CTL_CODE: how an I/O control code says who, what, how and with which access.

``(DeviceType << 16) | (Access << 14) | (Function << 2) | Method`` (Microsoft, "Defining I/O control codes").
"""

from __future__ import annotations

METHOD_BUFFERED = 0
METHOD_IN_DIRECT = 1
METHOD_OUT_DIRECT = 2
METHOD_NEITHER = 3


def ctl_code(device_type: int, function: int, method: int, access: int) -> int:
    """Compose an I/O control code. Ranges: device type 16 bits, access 2, function 12, method 2."""
    if not (0 <= device_type <= 0xFFFF and 0 <= function <= 0xFFF and 0 <= method <= 3 and 0 <= access <= 3):
        raise ValueError(f"no such control code: type {device_type:#x}, function {function:#x}, {method=}, {access=}")
    return device_type << 16 | access << 14 | function << 2 | method


def ioctl_method(code: int) -> int:
    """The transfer method: one of METHOD_*."""
    return code & 3


def ioctl_access(code: int) -> int:
    """The access that the handle must have been granted: FILE_READ_DATA | FILE_WRITE_DATA, or 0 for any."""
    return code >> 14 & 3


def ioctl_function(code: int) -> int:
    """The function number; 0x800 and up are a vendor's own."""
    return code >> 2 & 0xFFF


def ioctl_device_type(code: int) -> int:
    """The FILE_DEVICE_* number; 0x8000 and up are a vendor's own."""
    return code >> 16 & 0xFFFF
