"""Function codes and flags, against the numbers of wdm.h and ntddk.h, written down a second time."""

from __future__ import annotations

import pytest

from hilbridge.model import codes
from hilbridge.model.codes import IRP_MJ_MAXIMUM_FUNCTION, IrpMajor, Irql, PnpMinor

# wdm.h, in its order: the index is the code.
MAJORS = [
    "CREATE",
    "CREATE_NAMED_PIPE",
    "CLOSE",
    "READ",
    "WRITE",
    "QUERY_INFORMATION",
    "SET_INFORMATION",
    "QUERY_EA",
    "SET_EA",
    "FLUSH_BUFFERS",
    "QUERY_VOLUME_INFORMATION",
    "SET_VOLUME_INFORMATION",
    "DIRECTORY_CONTROL",
    "FILE_SYSTEM_CONTROL",
    "DEVICE_CONTROL",
    "INTERNAL_DEVICE_CONTROL",
    "SHUTDOWN",
    "LOCK_CONTROL",
    "CLEANUP",
    "CREATE_MAILSLOT",
    "QUERY_SECURITY",
    "SET_SECURITY",
    "POWER",
    "SYSTEM_CONTROL",
    "DEVICE_CHANGE",
    "QUERY_QUOTA",
    "SET_QUOTA",
    "PNP",
]

FLAGS = {
    "DO_BUFFERED_IO": 0x4,
    "DO_EXCLUSIVE": 0x8,
    "DO_DIRECT_IO": 0x10,
    "DO_DEVICE_HAS_NAME": 0x40,
    "DO_DEVICE_INITIALIZING": 0x80,
    "DO_BUS_ENUMERATED_DEVICE": 0x1000,
    "DO_POWER_PAGABLE": 0x2000,
    "DO_POWER_INRUSH": 0x4000,
    "DRVO_UNLOAD_INVOKED": 0x1,
    "DRVO_LEGACY_DRIVER": 0x2,
    "DRVO_INITIALIZED": 0x10,
    "SL_PENDING_RETURNED": 0x01,
    "SL_ERROR_RETURNED": 0x02,
    "SL_INVOKE_ON_CANCEL": 0x20,
    "SL_INVOKE_ON_SUCCESS": 0x40,
    "SL_INVOKE_ON_ERROR": 0x80,
    "IRP_SYNCHRONOUS_API": 0x4,
    "IRP_BUFFERED_IO": 0x10,
    "IRP_INPUT_OPERATION": 0x40,
    "IRP_CREATE_OPERATION": 0x80,
    "IRP_READ_OPERATION": 0x100,
    "IRP_WRITE_OPERATION": 0x200,
    "IRP_CLOSE_OPERATION": 0x400,
    "FO_FILE_OPEN": 0x1,
    "FO_CLEANUP_COMPLETE": 0x4000,
    "FO_HANDLE_CREATED": 0x40000,
    "FILE_ANY_ACCESS": 0,
    "FILE_READ_DATA": 1,
    "FILE_WRITE_DATA": 2,
    "FILE_DEVICE_CONTROLLER": 0x04,
    "FILE_DEVICE_SERIAL_PORT": 0x1B,
    "FILE_DEVICE_UNKNOWN": 0x22,
    "FILE_DEVICE_BUS_EXTENDER": 0x2A,
    "IO_NO_INCREMENT": 0,
    "IO_SERIAL_INCREMENT": 2,
}


def test_the_28_major_functions_have_the_codes_of_wdm_h() -> None:
    assert len(MAJORS) == 28
    assert {major.name: int(major) for major in IrpMajor} == {name: code for code, name in enumerate(MAJORS)}
    assert IRP_MJ_MAXIMUM_FUNCTION == 0x1B == max(IrpMajor)


def test_plug_and_play_minors() -> None:
    assert {minor.name: int(minor) for minor in PnpMinor} == {
        "START_DEVICE": 0x00,
        "QUERY_REMOVE_DEVICE": 0x01,
        "REMOVE_DEVICE": 0x02,
        "CANCEL_REMOVE_DEVICE": 0x03,
        "STOP_DEVICE": 0x04,
        "QUERY_STOP_DEVICE": 0x05,
        "CANCEL_STOP_DEVICE": 0x06,
        "SURPRISE_REMOVAL": 0x17,
    }


@pytest.mark.parametrize(("name", "value"), FLAGS.items())
def test_flags(name: str, value: int) -> None:
    constant = getattr(codes, name)
    assert constant == value
    assert type(constant) is int, "flag words are tested on every request: plain integers, no enum"


def test_the_irql_numbers_are_those_of_64_bit_windows() -> None:
    assert [int(level) for level in (Irql.PASSIVE, Irql.APC, Irql.DISPATCH)] == [0, 1, 2]
    assert (Irql.DEVICE_LOWEST, Irql.DEVICE_HIGHEST, Irql.HIGH) == (3, 12, 15)
    assert (codes.PASSIVE_LEVEL, codes.APC_LEVEL, codes.DISPATCH_LEVEL) == (0, 1, 2)
    assert (codes.DIRQL_LOWEST, codes.DIRQL_HIGHEST, codes.HIGH_LEVEL) == (3, 12, 15)


def test_our_own_device_flag_lies_outside_of_the_word_that_windows_uses() -> None:
    assert codes.DO_STREAM_READ > 0xFFFF_FFFF
