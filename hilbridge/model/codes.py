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
    """IRP_MN_* of IRP_MJ_PNP. 0x0E and 0x18 are not assigned."""

    START_DEVICE = 0x00
    QUERY_REMOVE_DEVICE = 0x01
    REMOVE_DEVICE = 0x02
    CANCEL_REMOVE_DEVICE = 0x03
    STOP_DEVICE = 0x04
    QUERY_STOP_DEVICE = 0x05
    CANCEL_STOP_DEVICE = 0x06
    QUERY_DEVICE_RELATIONS = 0x07
    QUERY_INTERFACE = 0x08
    QUERY_CAPABILITIES = 0x09
    QUERY_RESOURCES = 0x0A
    QUERY_RESOURCE_REQUIREMENTS = 0x0B
    QUERY_DEVICE_TEXT = 0x0C
    FILTER_RESOURCE_REQUIREMENTS = 0x0D
    READ_CONFIG = 0x0F
    WRITE_CONFIG = 0x10
    EJECT = 0x11
    SET_LOCK = 0x12
    QUERY_ID = 0x13
    QUERY_PNP_DEVICE_STATE = 0x14
    QUERY_BUS_INFORMATION = 0x15
    DEVICE_USAGE_NOTIFICATION = 0x16
    SURPRISE_REMOVAL = 0x17
    DEVICE_ENUMERATED = 0x19


class PowerMinor(IntEnum):
    """IRP_MN_* of IRP_MJ_POWER."""

    WAIT_WAKE = 0x00
    POWER_SEQUENCE = 0x01
    SET_POWER = 0x02
    QUERY_POWER = 0x03


class WmiMinor(IntEnum):
    """IRP_MN_* of IRP_MJ_SYSTEM_CONTROL."""

    QUERY_ALL_DATA = 0x00
    QUERY_SINGLE_INSTANCE = 0x01
    CHANGE_SINGLE_INSTANCE = 0x02
    CHANGE_SINGLE_ITEM = 0x03
    ENABLE_EVENTS = 0x04
    DISABLE_EVENTS = 0x05
    ENABLE_COLLECTION = 0x06
    DISABLE_COLLECTION = 0x07
    REGINFO = 0x08
    EXECUTE_METHOD = 0x09
    REGINFO_EX = 0x0B


class WmiRegAction(IntEnum):
    """WMIREG_ACTION_*: what IoWMIRegistrationControl is asked to do."""

    REGISTER = 1
    DEREGISTER = 2
    REREGISTER = 3
    UPDATE_GUIDS = 4


class WmiDisposition(IntEnum):
    """SYSCTL_IRP_DISPOSITION: what WmiSystemControl has made of a request, and what its caller has to do with it."""

    IRP_PROCESSED = 0
    """It has been completed: return its status."""
    IRP_NOT_COMPLETED = 1
    """Its status is set: complete it."""
    IRP_NOT_WMI = 2
    """Its minor function is none of WMI's: pass it down."""
    IRP_FORWARD = 3
    """It is for another device: pass it down."""


class SystemPowerState(IntEnum):
    """SYSTEM_POWER_STATE."""

    UNSPECIFIED = 0
    WORKING = 1
    SLEEPING1 = 2
    SLEEPING2 = 3
    SLEEPING3 = 4
    HIBERNATE = 5
    SHUTDOWN = 6


class DevicePowerState(IntEnum):
    """DEVICE_POWER_STATE: D0 is fully on, a higher number uses less power."""

    UNSPECIFIED = 0
    D0 = 1
    D1 = 2
    D2 = 3
    D3 = 4


class PowerStateType(IntEnum):
    """POWER_STATE_TYPE: which of the two a power request is about."""

    SYSTEM = 0
    DEVICE = 1


class PowerAction(IntEnum):
    """POWER_ACTION: why the system changes its state."""

    NONE = 0
    RESERVED = 1
    SLEEP = 2
    HIBERNATE = 3
    SHUTDOWN = 4
    SHUTDOWN_RESET = 5
    SHUTDOWN_OFF = 6
    WARM_EJECT = 7


class RelationType(IntEnum):
    """DEVICE_RELATION_TYPE of IRP_MN_QUERY_DEVICE_RELATIONS."""

    BUS = 0
    EJECTION = 1
    POWER = 2
    REMOVAL = 3
    TARGET_DEVICE = 4
    SINGLE_BUS = 5
    TRANSPORT = 6


class DeviceProperty(IntEnum):
    """DEVICE_REGISTRY_PROPERTY of IoGetDeviceProperty, those that there are."""

    DEVICE_DESCRIPTION = 0x0
    HARDWARE_ID = 0x1
    COMPATIBLE_IDS = 0x2
    FRIENDLY_NAME = 0x9
    LOCATION_INFORMATION = 0xA
    ENUMERATOR_NAME = 0xF
    ADDRESS = 0x10
    UI_NUMBER = 0x11
    REMOVAL_POLICY = 0x13


class RemovalPolicy(IntEnum):
    """DEVICE_REMOVAL_POLICY: what the drivers of a device have to expect."""

    EXPECT_NO_REMOVAL = 1
    EXPECT_ORDERLY_REMOVAL = 2
    EXPECT_SURPRISE_REMOVAL = 3


# PNP_DEVICE_STATE, the answer to IRP_MN_QUERY_PNP_DEVICE_STATE
PNP_DEVICE_DISABLED = 0x01
PNP_DEVICE_DONT_DISPLAY_IN_UI = 0x02
PNP_DEVICE_FAILED = 0x04
PNP_DEVICE_REMOVED = 0x08
PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED = 0x10
PNP_DEVICE_NOT_DISABLEABLE = 0x20


class IdType(IntEnum):
    """BUS_QUERY_ID_TYPE of IRP_MN_QUERY_ID."""

    DEVICE_ID = 0
    HARDWARE_IDS = 1
    COMPATIBLE_IDS = 2
    INSTANCE_ID = 3
    DEVICE_SERIAL_NUMBER = 4
    CONTAINER_ID = 5


class TextType(IntEnum):
    """DEVICE_TEXT_TYPE of IRP_MN_QUERY_DEVICE_TEXT."""

    DESCRIPTION = 0
    LOCATION_INFORMATION = 1


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
DO_VERIFY_VOLUME = 0x2
DO_BUFFERED_IO = 0x4
DO_EXCLUSIVE = 0x8
DO_DIRECT_IO = 0x10
DO_MAP_IO_BUFFER = 0x20
DO_DEVICE_HAS_NAME = 0x40
DO_DEVICE_INITIALIZING = 0x80
DO_SHUTDOWN_REGISTERED = 0x800
DO_BUS_ENUMERATED_DEVICE = 0x1000
DO_POWER_PAGABLE = 0x2000
DO_POWER_INRUSH = 0x4000
DO_DEVICE_TO_BE_RESET = 0x0400_0000
# Ours, in the half of the word that Windows leaves free: reads of this device honour ReadParameters.minimum and
# .terminator, so that read_some() and read_until() need no second buffer above the driver.
DO_STREAM_READ = 0x1_0000_0000

# DRIVER_OBJECT.Flags
DRVO_UNLOAD_INVOKED = 0x1
DRVO_LEGACY_DRIVER = 0x2
DRVO_BUILTIN_DRIVER = 0x4
DRVO_REINIT_REGISTERED = 0x8
DRVO_INITIALIZED = 0x10

# DEVICE_OBJECT.Characteristics
FILE_REMOVABLE_MEDIA = 0x1
FILE_AUTOGENERATED_DEVICE_NAME = 0x80
FILE_DEVICE_SECURE_OPEN = 0x100
FILE_CHARACTERISTIC_PNP_DEVICE = 0x800

# IO_STACK_LOCATION.Control
SL_PENDING_RETURNED = 0x01
SL_ERROR_RETURNED = 0x02
SL_INVOKE_ON_CANCEL = 0x20
SL_INVOKE_ON_SUCCESS = 0x40
SL_INVOKE_ON_ERROR = 0x80

# IRP.Flags
IRP_NOCACHE = 0x1
IRP_PAGING_IO = 0x2
IRP_SYNCHRONOUS_API = 0x4
IRP_ASSOCIATED_IRP = 0x8
IRP_BUFFERED_IO = 0x10
IRP_DEALLOCATE_BUFFER = 0x20
IRP_INPUT_OPERATION = 0x40
IRP_CREATE_OPERATION = 0x80
IRP_READ_OPERATION = 0x100
IRP_WRITE_OPERATION = 0x200
IRP_CLOSE_OPERATION = 0x400
IRP_DEFER_IO_COMPLETION = 0x800
IRP_OB_QUERY_NAME = 0x1000
IRP_HOLD_DEVICE_QUEUE = 0x2000

# FILE_OBJECT.Flags
FO_FILE_OPEN = 0x1
FO_SYNCHRONOUS_IO = 0x2
FO_ALERTABLE_IO = 0x4
FO_CLEANUP_COMPLETE = 0x4000
FO_HANDLE_CREATED = 0x40000
FO_FILE_OPEN_CANCELLED = 0x20_0000
FO_SKIP_COMPLETION_PORT = 0x0200_0000
FO_SKIP_SET_EVENT = 0x0400_0000

# Access rights that the I/O manager grants a handle, in CTL_CODE's two-bit form
FILE_ANY_ACCESS = 0
FILE_READ_DATA = 1
FILE_WRITE_DATA = 2
DELETE = 0x1_0000

# What an open allows the others, in IRP_MJ_CREATE's sharing word
FILE_SHARE_READ = 1
FILE_SHARE_WRITE = 2
FILE_SHARE_DELETE = 4

# Type fields of the model's objects
IO_TYPE_DEVICE = 3
IO_TYPE_DRIVER = 4
IO_TYPE_FILE = 5
IO_TYPE_IRP = 6

# Device types
FILE_DEVICE_CONTROLLER = 0x04
FILE_DEVICE_SERIAL_PORT = 0x1B
FILE_DEVICE_UNKNOWN = 0x22
FILE_DEVICE_BUS_EXTENDER = 0x2A

# Priority boosts: accepted, without effect
IO_NO_INCREMENT = 0
IO_SERIAL_INCREMENT = 2
