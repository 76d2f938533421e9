"""From NTSTATUS to exceptions: done once, here, at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hilbridge.model.errors import (
    BridgeClosed,
    DataLost,
    DeviceBusy,
    DeviceFault,
    DeviceGone,
    DevicePermission,
    DeviceUnsupported,
    DriverFault,
    HilbridgeError,
    NtStatusError,
    RequestCancelled,
    UsageFault,
)
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_ACCESS_VIOLATION,
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CANCELLED,
    STATUS_DATA_OVERRUN,
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_DEVICE_REMOVED,
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_FILE_CLOSED,
    STATUS_INVALID_BUFFER_SIZE,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_NO_SUCH_DEVICE,
    STATUS_NOT_SUPPORTED,
    STATUS_SHARING_VIOLATION,
    NtStatus,
)

_CLASSES: dict[int, tuple[type[HilbridgeError], str]] = {
    STATUS_CANCELLED: (RequestCancelled, "was cancelled"),
    STATUS_FILE_CLOSED: (BridgeClosed, "came after the handle was closed"),
    STATUS_DEVICE_NOT_CONNECTED: (DeviceGone, "failed: the device is gone"),
    STATUS_DEVICE_REMOVED: (DeviceGone, "failed: the device was removed"),
    STATUS_DELETE_PENDING: (DeviceGone, "failed: the device is being removed"),
    STATUS_NO_SUCH_DEVICE: (DeviceGone, "failed: there is no such device any more"),
    STATUS_SHARING_VIOLATION: (
        DeviceBusy,
        "was refused: another handle has the device for writing; open it with access='r'",
    ),
    STATUS_ACCESS_DENIED: (DevicePermission, "was refused: the handle lacks that access"),
    STATUS_NOT_SUPPORTED: (DeviceUnsupported, "is more than this device can do"),
    STATUS_INVALID_PARAMETER: (UsageFault, "was refused: a parameter is out of range, or the control code is unknown"),
    STATUS_INVALID_DEVICE_REQUEST: (UsageFault, "makes no sense for this device"),
    STATUS_BUFFER_TOO_SMALL: (UsageFault, "was refused: the buffer is too small"),
    STATUS_INVALID_BUFFER_SIZE: (UsageFault, "was refused: the buffer has the wrong size"),
    STATUS_DATA_OVERRUN: (DataLost, "failed once: this reader fell behind the others, and bytes were dropped for it"),
    STATUS_DRIVER_INTERNAL_ERROR: (DriverFault, "failed in a driver"),
    STATUS_DRIVER_PROCESS_TERMINATED: (DriverFault, "ended with its driver"),
    STATUS_ACCESS_VIOLATION: (DriverFault, "failed: a driver reported more bytes than the buffer holds"),
}


def fault_of(
    status: NtStatus, file: FileObject, what: str, name: str, irp: Irp | None, partial: bytes = b""
) -> HilbridgeError:
    """The exception that says to an application what `status` says to a driver."""
    stack = file.device_object.device_stack
    irp_id, logged = (irp.id, irp.error) if irp is not None else (None, None)
    kind, words = _CLASSES.get(int(status), (DeviceFault, f"failed with {status.name}"))
    message = f"{what} on {name} {words}"
    if logged is not None and logged.status == status:
        message = f"{what} on {name} failed: {logged.message}"
    elif kind is DeviceGone and stack.removed is not None:
        message = f"{what} on {name} failed: {stack.removed.message}"
    elif kind is DriverFault and stack.fault is not None:
        fault = stack.fault.again()
        fault.partial = partial
        fault.irp_id = fault.irp_id or irp_id
        return fault
    fault = kind(message, status=status, irp_id=irp_id, partial=partial)
    if logged is not None:
        fault.information = logged.information
    return fault


def from_nt_status(error: NtStatusError, what: str, name: str) -> HilbridgeError:
    """The same for a routine that failed before there was a request."""
    kind, words = _CLASSES.get(int(error.status), (DeviceFault, error.message))
    if kind in (BridgeClosed, DevicePermission):
        words = f"was refused: {error.message.partition(': ')[2]}"
    fault = kind(f"{what} on {name} {words}", status=error.status)
    fault.information = error.information
    return fault


@contextmanager
def translated(what: str, name: str) -> Iterator[None]:
    """In this block an `NtStatusError` is told as what it means to an application."""
    try:
        yield
    except NtStatusError as error:
        raise from_nt_status(error, what, name) from error
