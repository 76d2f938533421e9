"""Function codes and flag words of the model, with the values of wdm.h and ntddk.h (mingw-w64's copies were read).

Function codes are enums. Flag words are plain integers: they are tested on every request, and ``IntFlag`` arithmetic
costs half a microsecond each time.
"""

from __future__ import annotations

from enum import IntEnum


class IrpMajor(IntEnum):
    """IRP_MJ_*: the index into a driver's dispatch table."""

    CREATE = 0x00
    CREATE_NAMED_PIPE = 0x01
    CLOSE = 0x02
    READ = 0x03
    WRITE = 0x04
    QUERY_INFORMATION = 0x05
    SET_INFORMATION = 0x06
    QUERY_EA = 0x07
    SET_EA = 0x08
    FLUSH_BUFFERS = 0x09
    QUERY_VOLUME_INFORMATION = 0x0A
    SET_VOLUME_INFORMATION = 0x0B
    DIRECTORY_CONTROL = 0x0C
    FILE_SYSTEM_CONTROL = 0x0D
    DEVICE_CONTROL = 0x0E
    INTERNAL_DEVICE_CONTROL = 0x0F
    SHUTDOWN = 0x10
    LOCK_CONTROL = 0x11
    CLEANUP = 0x12
    CREATE_MAILSLOT = 0x13
    QUERY_SECURITY = 0x14
    SET_SECURITY = 0x15
    POWER = 0x16
    SYSTEM_CONTROL = 0x17
    DEVICE_CHANGE = 0x18
    QUERY_QUOTA = 0x19
    SET_QUOTA = 0x1A
    PNP = 0x1B


IRP_MJ_MAXIMUM_FUNCTION = 0x1B


class PnpMinor(IntEnum):
    """IRP_MN_* of IRP_MJ_PNP that this version sends."""

    START_DEVICE = 0x00
    QUERY_REMOVE_DEVICE = 0x01
    REMOVE_DEVICE = 0x02
    CANCEL_REMOVE_DEVICE = 0x03
    STOP_DEVICE = 0x04
    QUERY_STOP_DEVICE = 0x05
    CANCEL_STOP_DEVICE = 0x06
    SURPRISE_REMOVAL = 0x17


class Irql(IntEnum):
    """Interrupt request levels, with the numbers of 64-bit Windows."""

    PASSIVE = 0
    APC = 1
    DISPATCH = 2
    DEVICE_LOWEST = 3
    DEVICE_HIGHEST = 12
    HIGH = 15


PASSIVE_LEVEL = 0
APC_LEVEL = 1
DISPATCH_LEVEL = 2
DIRQL_LOWEST = 3
DIRQL_HIGHEST = 12
HIGH_LEVEL = 15

# DEVICE_OBJECT.Flags
DO_BUFFERED_IO = 0x4
DO_EXCLUSIVE = 0x8
DO_DIRECT_IO = 0x10
DO_DEVICE_HAS_NAME = 0x40
DO_DEVICE_INITIALIZING = 0x80
DO_BUS_ENUMERATED_DEVICE = 0x1000
DO_POWER_PAGABLE = 0x2000
DO_POWER_INRUSH = 0x4000
# Ours, in the half of the word that Windows leaves free: reads of this device honour ReadParameters.minimum and
# .terminator, so that read_some() and read_until() need no second buffer above the driver.
DO_STREAM_READ = 0x1_0000_0000

# DRIVER_OBJECT.Flags
DRVO_UNLOAD_INVOKED = 0x1
DRVO_LEGACY_DRIVER = 0x2
DRVO_INITIALIZED = 0x10

# IO_STACK_LOCATION.Control
SL_PENDING_RETURNED = 0x01
SL_ERROR_RETURNED = 0x02
SL_INVOKE_ON_CANCEL = 0x20
SL_INVOKE_ON_SUCCESS = 0x40
SL_INVOKE_ON_ERROR = 0x80

# IRP.Flags
IRP_SYNCHRONOUS_API = 0x4
IRP_BUFFERED_IO = 0x10
IRP_INPUT_OPERATION = 0x40
IRP_CREATE_OPERATION = 0x80
IRP_READ_OPERATION = 0x100
IRP_WRITE_OPERATION = 0x200
IRP_CLOSE_OPERATION = 0x400

# FILE_OBJECT.Flags
FO_FILE_OPEN = 0x1
FO_CLEANUP_COMPLETE = 0x4000
FO_HANDLE_CREATED = 0x40000

# Access rights that the I/O manager grants a handle, in CTL_CODE's two-bit form
FILE_ANY_ACCESS = 0
FILE_READ_DATA = 1
FILE_WRITE_DATA = 2

# Device types
FILE_DEVICE_CONTROLLER = 0x04
FILE_DEVICE_SERIAL_PORT = 0x1B
FILE_DEVICE_UNKNOWN = 0x22
FILE_DEVICE_BUS_EXTENDER = 0x2A

# Priority boosts: accepted, without effect
IO_NO_INCREMENT = 0
IO_SERIAL_INCREMENT = 2
