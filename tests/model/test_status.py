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
    "WAIT_0": 0x00000000,
    "WAIT_1": 0x00000001,
    "WAIT_3": 0x00000003,
    "ALERTED": 0x00000101,
    "TIMEOUT": 0x00000102,
    "PENDING": 0x00000103,
    "MORE_ENTRIES": 0x00000105,
    "OBJECT_NAME_EXISTS": 0x40000000,
    "SERIAL_MORE_WRITES": 0x40000008,
    "SERIAL_COUNTER_TIMEOUT": 0x4000000C,
    "BUFFER_OVERFLOW": 0x80000005,
    "DEVICE_POWERED_OFF": 0x8000000F,
    "DEVICE_OFF_LINE": 0x80000010,
    "DEVICE_BUSY": 0x80000011,
    "VERIFY_REQUIRED": 0x80000016,
    "NO_MORE_ENTRIES": 0x8000001A,
    "UNSUCCESSFUL": 0xC0000001,
    "NOT_IMPLEMENTED": 0xC0000002,
    "INVALID_INFO_CLASS": 0xC0000003,
    "INFO_LENGTH_MISMATCH": 0xC0000004,
    "ACCESS_VIOLATION": 0xC0000005,
    "INVALID_HANDLE": 0xC0000008,
    "INVALID_PARAMETER": 0xC000000D,
    "NO_SUCH_DEVICE": 0xC000000E,
    "INVALID_DEVICE_REQUEST": 0xC0000010,
    "END_OF_FILE": 0xC0000011,
    "MORE_PROCESSING_REQUIRED": 0xC0000016,
    "NO_MEMORY": 0xC0000017,
    "INVALID_LOCK_SEQUENCE": 0xC000001E,
    "ACCESS_DENIED": 0xC0000022,
    "BUFFER_TOO_SMALL": 0xC0000023,
    "OBJECT_TYPE_MISMATCH": 0xC0000024,
    "OBJECT_NAME_INVALID": 0xC0000033,
    "OBJECT_NAME_NOT_FOUND": 0xC0000034,
    "OBJECT_NAME_COLLISION": 0xC0000035,
    "DEVICE_ALREADY_ATTACHED": 0xC0000038,
    "OBJECT_PATH_INVALID": 0xC0000039,
    "OBJECT_PATH_NOT_FOUND": 0xC000003A,
    "OBJECT_PATH_SYNTAX_BAD": 0xC000003B,
    "DATA_OVERRUN": 0xC000003C,
    "DATA_ERROR": 0xC000003E,
    "SHARING_VIOLATION": 0xC0000043,
    "MUTANT_NOT_OWNED": 0xC0000046,
    "SEMAPHORE_LIMIT_EXCEEDED": 0xC0000047,
    "DELETE_PENDING": 0xC0000056,
    "PROCEDURE_NOT_FOUND": 0xC000007A,
    "INSUFFICIENT_RESOURCES": 0xC000009A,
    "DEVICE_DATA_ERROR": 0xC000009C,
    "DEVICE_NOT_CONNECTED": 0xC000009D,
    "DEVICE_POWER_FAILURE": 0xC000009E,
    "DEVICE_NOT_READY": 0xC00000A3,
    "IO_TIMEOUT": 0xC00000B5,
    "NOT_SUPPORTED": 0xC00000BB,
    "DEVICE_DOES_NOT_EXIST": 0xC00000C0,
    "REQUEST_NOT_ACCEPTED": 0xC00000D0,
    "CANT_WAIT": 0xC00000D8,
    "INTERNAL_ERROR": 0xC00000E5,
    "INVALID_USER_BUFFER": 0xC00000E8,
    "INVALID_PARAMETER_1": 0xC00000EF,
    "INVALID_PARAMETER_2": 0xC00000F0,
    "IMAGE_ALREADY_LOADED": 0xC000010E,
    "CANCELLED": 0xC0000120,
    "FILE_CLOSED": 0xC0000128,
    "SERIAL_NO_DEVICE_INITED": 0xC0000150,
    "DEVICE_CONFIGURATION_ERROR": 0xC0000182,
    "DRIVER_INTERNAL_ERROR": 0xC0000183,
    "INVALID_DEVICE_STATE": 0xC0000184,
    "IO_DEVICE_ERROR": 0xC0000185,
    "DEVICE_PROTOCOL_ERROR": 0xC0000186,
    "MUTANT_LIMIT_EXCEEDED": 0xC0000191,
    "INVALID_BUFFER_SIZE": 0xC0000206,
    "REQUEST_ABORTED": 0xC0000240,
    "PLUGPLAY_NO_DEVICE": 0xC000025E,
    "DRIVER_UNABLE_TO_LOAD": 0xC000026C,
    "NO_MATCH": 0xC0000272,
    "WMI_GUID_NOT_FOUND": 0xC0000295,
    "WMI_INSTANCE_NOT_FOUND": 0xC0000296,
    "WMI_ITEMID_NOT_FOUND": 0xC0000297,
    "WMI_TRY_AGAIN": 0xC0000298,
    "DEVICE_REMOVED": 0xC00002B6,
    "WMI_READ_ONLY": 0xC00002C6,
    "WMI_SET_FAILURE": 0xC00002C7,
    "PNP_REBOOT_REQUIRED": 0xC00002D2,
    "POWER_STATE_INVALID": 0xC00002D3,
    "FAILED_DRIVER_ENTRY": 0xC0000365,
    "DRIVER_FAILED_PRIOR_UNLOAD": 0xC000038E,
    "DRIVER_PROCESS_TERMINATED": 0xC0000450,
    "RESOURCE_IN_USE": 0xC0000708,
}


def test_every_status_has_the_value_of_ntstatus_h() -> None:
    ours = {
        name.removeprefix("STATUS_"): int(value) for name, value in vars(names).items() if isinstance(value, NtStatus)
    }
    assert ours == NTSTATUS_H


@pytest.mark.parametrize("name", sorted(NTSTATUS_H.keys() - {"WAIT_0"}))
def test_a_status_prints_as_its_name(name: str) -> None:
    value: NtStatus = getattr(names, f"STATUS_{name}")
    assert str(value) == value.name == f"STATUS_{name}"
    assert repr(value) == f"<STATUS_{name} 0x{NTSTATUS_H[name]:08X}>"


def test_of_two_names_for_one_value_the_better_known_is_printed() -> None:
    assert str(names.STATUS_WAIT_0) == "STATUS_SUCCESS"


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
