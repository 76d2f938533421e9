"""What the drivers of the toaster and their applications know of each other: ids, interfaces, control codes."""

from __future__ import annotations

import struct

from hilbridge.model.codes import FILE_DEVICE_BUS_EXTENDER, FILE_DEVICE_UNKNOWN, FILE_READ_DATA
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code

GUID_BUSENUM_TOASTER = "{D35F7840-6A0C-11D2-B841-00C04FAD5171}"
"""Device interface class of the bus."""
GUID_TOASTER = "{781EF630-72B2-11D2-B852-00C04FAD5171}"
"""Device interface class of each toaster."""
GUID_CLASS_TOASTER = "{B85B7C50-6A01-11D2-B841-00C04FAD5171}"
HARDWARE_ID = f"{GUID_CLASS_TOASTER}\\MsToaster"

IOCTL_PLUGIN_HARDWARE = ctl_code(FILE_DEVICE_BUS_EXTENDER, 0, METHOD_BUFFERED, FILE_READ_DATA)  # 0x002A4000
IOCTL_UNPLUG_HARDWARE = ctl_code(FILE_DEVICE_BUS_EXTENDER, 1, METHOD_BUFFERED, FILE_READ_DATA)  # 0x002A4004
IOCTL_EJECT_HARDWARE = ctl_code(FILE_DEVICE_BUS_EXTENDER, 2, METHOD_BUFFERED, FILE_READ_DATA)  # 0x002A4008

PLUGIN = struct.Struct("<II")
"""BUSENUM_PLUGIN_HARDWARE, without the ids behind it: Size, SerialNo. The other two codes take the same two numbers."""

IOCTL_TOAST = ctl_code(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, 0)
"""Ours: ends when the toast pops up."""
IOCTL_POP = ctl_code(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, 0)
"""Ours: the toast pops up now."""


def plugin(serial: int, *hardware_ids: str) -> bytes:
    """The payload of IOCTL_PLUGIN_HARDWARE: ids as a list of UTF-16 strings, each ended by a zero, and one more zero."""
    ids = "".join(f"{one}\0" for one in hardware_ids or (HARDWARE_ID,)) + "\0"
    return PLUGIN.pack(PLUGIN.size, serial) + ids.encode("utf-16-le")


def serial_of(serial: int) -> bytes:
    """The payload of the other two: which toaster; 0 is all of them."""
    return PLUGIN.pack(PLUGIN.size, serial)
