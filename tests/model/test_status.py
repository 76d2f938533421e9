"""NTSTATUS: values, severities, and that nobody asks for its truth."""

from __future__ import annotations

import pytest

from hilbridge.model import status as names
from hilbridge.model.status import (
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_PENDING,
    STATUS_SERIAL_MORE_WRITES,
    STATUS_SUCCESS,
    NtStatus,
)

# ntstatus.h, written down a second time: a slip of the pen in one of the two shows.
NTSTATUS_H = {
    "SUCCESS": 0x00000000,
    "TIMEOUT": 0x00000102,
    "PENDING": 0x00000103,
    "SERIAL_MORE_WRITES": 0x40000008,
    "SERIAL_COUNTER_TIMEOUT": 0x4000000C,
    "BUFFER_OVERFLOW": 0x80000005,
    "DEVICE_BUSY": 0x80000011,
    "VERIFY_REQUIRED": 0x80000016,
    "UNSUCCESSFUL": 0xC0000001,
    "NOT_IMPLEMENTED": 0xC0000002,
    "ACCESS_VIOLATION": 0xC0000005,
    "INVALID_HANDLE": 0xC0000008,
    "INVALID_PARAMETER": 0xC000000D,
    "NO_SUCH_DEVICE": 0xC000000E,
    "INVALID_DEVICE_REQUEST": 0xC0000010,
    "END_OF_FILE": 0xC0000011,
    "MORE_PROCESSING_REQUIRED": 0xC0000016,
    "NO_MEMORY": 0xC0000017,
    "ACCESS_DENIED": 0xC0000022,
    "BUFFER_TOO_SMALL": 0xC0000023,
    "OBJECT_NAME_INVALID": 0xC0000033,
    "OBJECT_NAME_NOT_FOUND": 0xC0000034,
    "OBJECT_NAME_COLLISION": 0xC0000035,
    "OBJECT_PATH_NOT_FOUND": 0xC000003A,
    "DATA_OVERRUN": 0xC000003C,
    "SHARING_VIOLATION": 0xC0000043,
    "DELETE_PENDING": 0xC0000056,
    "INSUFFICIENT_RESOURCES": 0xC000009A,
    "DEVICE_DATA_ERROR": 0xC000009C,
    "DEVICE_NOT_CONNECTED": 0xC000009D,
    "DEVICE_NOT_READY": 0xC00000A3,
    "IO_TIMEOUT": 0xC00000B5,
    "NOT_SUPPORTED": 0xC00000BB,
    "INTERNAL_ERROR": 0xC00000E5,
    "IMAGE_ALREADY_LOADED": 0xC000010E,
    "CANCELLED": 0xC0000120,
    "FILE_CLOSED": 0xC0000128,
    "DRIVER_INTERNAL_ERROR": 0xC0000183,
    "INVALID_DEVICE_STATE": 0xC0000184,
    "IO_DEVICE_ERROR": 0xC0000185,
    "INVALID_BUFFER_SIZE": 0xC0000206,
    "DEVICE_REMOVED": 0xC00002B6,
    "FAILED_DRIVER_ENTRY": 0xC0000365,
    "DRIVER_PROCESS_TERMINATED": 0xC0000450,
}


def test_every_status_has_the_value_of_ntstatus_h() -> None:
    ours = {
        name.removeprefix("STATUS_"): int(value) for name, value in vars(names).items() if isinstance(value, NtStatus)
    }
    assert ours == NTSTATUS_H


@pytest.mark.parametrize("name", NTSTATUS_H)
def test_a_status_prints_as_its_name(name: str) -> None:
    value: NtStatus = getattr(names, f"STATUS_{name}")
    assert str(value) == value.name == f"STATUS_{name}"
    assert repr(value) == f"<STATUS_{name} 0x{NTSTATUS_H[name]:08X}>"


@pytest.mark.parametrize(
    ("status", "severity", "success", "error"),
    [
        (STATUS_SUCCESS, 0, True, False),
        (STATUS_PENDING, 0, True, False),
        (STATUS_SERIAL_MORE_WRITES, 1, True, False),
        (NtStatus(0x7FFF_FFFF), 1, True, False),
        (NtStatus(0x8000_0000), 2, False, False),
        (STATUS_BUFFER_OVERFLOW, 2, False, False),
        (NtStatus(0xBFFF_FFFF), 2, False, False),
        (NtStatus(0xC000_0000), 3, False, True),
        (STATUS_CANCELLED, 3, False, True),
        (NtStatus(0xFFFF_FFFF), 3, False, True),
    ],
)
def test_severity_is_the_two_highest_bits(status: NtStatus, severity: int, success: bool, error: bool) -> None:
    assert status.severity == severity
    assert status.is_success is success
    assert status.is_error is error


@pytest.mark.parametrize("status", [STATUS_SUCCESS, STATUS_PENDING, STATUS_CANCELLED])
def test_asking_for_the_truth_of_a_status_is_an_error_that_says_what_to_ask(status: NtStatus) -> None:
    with pytest.raises(TypeError, match=rf"{status.name} is ambiguous.*\.is_success"):
        bool(status)
    with pytest.raises(TypeError):
        _ = not status


def test_a_value_that_has_no_name_here_still_prints_compares_and_has_a_severity() -> None:
    status = NtStatus(0xC0DE_1234)
    assert status.name == "STATUS_0xC0DE1234"
    assert repr(status) == "<STATUS_0xC0DE1234 0xC0DE1234>"
    assert status == 0xC0DE_1234 and hash(status) == hash(0xC0DE_1234)
    assert status.is_error


def test_a_status_is_a_plain_integer_to_whoever_compares_it() -> None:
    assert STATUS_CANCELLED == 0xC0000120
    assert {STATUS_CANCELLED: "c"}[0xC0000120] == "c"  # type: ignore[index]
    assert NtStatus(0) == STATUS_SUCCESS
