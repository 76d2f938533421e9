"""Serial I/O controls: codes and payload layouts of ntddser.h, written down a second time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilbridge.model import ntddser
from hilbridge.model.ioctl import ioctl_access, ioctl_device_type, ioctl_function
from hilbridge.model.ntddser import SerialLineControl, SerialStatus, SerialTimeouts, pack_ulong, unpack_ulong

CODES = {
    "SET_BAUD_RATE": 0x001B0004,
    "SET_LINE_CONTROL": 0x001B000C,
    "SET_BREAK_ON": 0x001B0010,
    "SET_BREAK_OFF": 0x001B0014,
    "SET_TIMEOUTS": 0x001B001C,
    "GET_TIMEOUTS": 0x001B0020,
    "SET_DTR": 0x001B0024,
    "CLR_DTR": 0x001B0028,
    "SET_RTS": 0x001B0030,
    "CLR_RTS": 0x001B0034,
    "PURGE": 0x001B004C,
    "GET_BAUD_RATE": 0x001B0050,
    "GET_LINE_CONTROL": 0x001B0054,
    "GET_MODEMSTATUS": 0x001B0068,
    "GET_COMMSTATUS": 0x001B006C,
    "GET_DTRRTS": 0x001B0078,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_codes(name: str, code: int) -> None:
    assert getattr(ntddser, f"IOCTL_SERIAL_{name}") == code


def test_our_own_codes_are_in_the_vendors_ranges() -> None:
    ours = {ntddser.IOCTL_HILBRIDGE_PEEK: 1, ntddser.IOCTL_HILBRIDGE_UNREAD: 1, ntddser.IOCTL_HILBRIDGE_RESET: 2}
    for code, access in ours.items():
        assert ioctl_device_type(code) >= 0x8000
        assert ioctl_function(code) >= 0x800
        assert ioctl_access(code) == access


def test_layouts_are_little_endian_and_have_the_sizes_of_c() -> None:
    assert SerialTimeouts(1, 2, 3, 4, 5).pack() == bytes.fromhex("01000000 02000000 03000000 04000000 05000000")
    assert SerialLineControl(2, 1, 8).pack() == bytes([2, 1, 8])
    assert SerialStatus(1, 2, 3, 4, True, False).pack() == bytes.fromhex(
        "01000000 02000000 03000000 04000000 0100 0000"
    )
    assert pack_ulong(115200) == bytes.fromhex("00c20100")
    assert unpack_ulong(bytes.fromhex("00c20100ff")) == 115200


@given(st.lists(st.integers(0, 0xFFFF_FFFF), min_size=5, max_size=5))
def test_timeouts_come_back_as_they_were_packed(values: list[int]) -> None:
    timeouts = SerialTimeouts(*values)
    assert SerialTimeouts.unpack(timeouts.pack()) == timeouts
    assert SerialTimeouts.unpack(bytearray(timeouts.pack() + b"more")) == timeouts


def test_status_and_line_control_come_back_as_they_were_packed() -> None:
    status = SerialStatus(1, 2, 3, 4, True, True)
    assert SerialStatus.unpack(status.pack()) == status
    control = SerialLineControl(1, 4, 7)
    assert SerialLineControl.unpack(control.pack()) == control


def test_the_default_time_outs_are_none_at_all() -> None:
    assert SerialTimeouts() == (0, 0, 0, 0, 0)
