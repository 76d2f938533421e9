"""CTL_CODE: composing and taking apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilbridge.model.ioctl import (
    METHOD_BUFFERED,
    METHOD_IN_DIRECT,
    METHOD_NEITHER,
    METHOD_OUT_DIRECT,
    ctl_code,
    ioctl_access,
    ioctl_device_type,
    ioctl_function,
    ioctl_method,
)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ((0x1B, 1, METHOD_BUFFERED, 0), 0x001B0004),  # IOCTL_SERIAL_SET_BAUD_RATE, ntddser.h
        ((0x1B, 26, METHOD_BUFFERED, 0), 0x001B0068),  # IOCTL_SERIAL_GET_MODEMSTATUS, ntddser.h
        ((0x22, 0, METHOD_NEITHER, 0), 0x00220003),  # IOCTL_INTERNAL_USB_SUBMIT_URB, usbioctl.h
        ((0x07, 0, METHOD_BUFFERED, 0), 0x00070000),  # IOCTL_DISK_GET_DRIVE_GEOMETRY, winioctl.h
        ((0x2D, 0x202, METHOD_BUFFERED, 1), 0x002D4808),  # IOCTL_STORAGE_EJECT_MEDIA, winioctl.h
        ((0x07, 0x13, METHOD_BUFFERED, 3), 0x0007C04C),  # IOCTL_DISK_FORMAT_TRACKS_EX's word, read and write access
    ],
)
def test_known_codes_come_out_as_in_the_headers(parts: tuple[int, int, int, int], code: int) -> None:
    assert ctl_code(*parts) == code


def test_methods_are_the_two_lowest_bits() -> None:
    assert [METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_OUT_DIRECT, METHOD_NEITHER] == [0, 1, 2, 3]


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFF), st.integers(0, 3), st.integers(0, 3))
def test_what_is_composed_can_be_taken_apart(device: int, function: int, method: int, access: int) -> None:
    code = ctl_code(device, function, method, access)
    assert 0 <= code <= 0xFFFF_FFFF
    assert ioctl_device_type(code) == device
    assert ioctl_function(code) == function
    assert ioctl_method(code) == method
    assert ioctl_access(code) == access


@pytest.mark.parametrize(
    "parts",
    [(0x10000, 0, 0, 0), (-1, 0, 0, 0), (0, 0x1000, 0, 0), (0, -1, 0, 0), (0, 0, 4, 0), (0, 0, -1, 0), (0, 0, 0, 4)],
)
def test_a_part_out_of_range_is_refused_instead_of_running_into_its_neighbour(parts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no such control code"):
        ctl_code(*parts)
