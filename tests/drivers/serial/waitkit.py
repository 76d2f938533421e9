"""What the tests of wait masks share."""

from __future__ import annotations

from hilbridge import Handle, Request
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_SUCCESS
from tests.drivers.serial.serialkit import Port, end_of


def set_mask(port: Port, mask: int, handle: Handle | None = None) -> None:
    request = port.control(ser.IOCTL_SERIAL_SET_WAIT_MASK, ser.pack_ulong(mask), handle=handle)
    assert request.status == STATUS_SUCCESS


def get_mask(port: Port, handle: Handle | None = None) -> int:
    return ser.unpack_ulong(port.control(ser.IOCTL_SERIAL_GET_WAIT_MASK, size=4, handle=handle).data)


def wait(port: Port, handle: Handle | None = None) -> Request:
    """A wait, and what follows from it at this moment."""
    request = (handle or port.handle).submit_ioctl(ser.IOCTL_SERIAL_WAIT_ON_MASK, size=4)
    port.settle()
    return request


def told(request: Request) -> int:
    """What a wait was told; it has to have ended well."""
    status, data = end_of(request)
    assert status == STATUS_SUCCESS
    return ser.unpack_ulong(data)
