"""IO_STACK_LOCATION.Parameters: a union with one arm per major function.

``sl.parameters.read.length`` reads as it does in C. Touching the wrong arm, which in C silently reads somebody else's
bytes, is an error here. The arms are immutable, so that a stack location can be copied by sharing them; a filter that
changes a parameter puts a new arm into the next location (``_replace``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

from hilbridge.model.capabilities import DeviceCapabilities
from hilbridge.model.codes import IdType, PowerAction, PowerStateType, RelationType, TextType
from hilbridge.model.errors import DriverFault


class Parameters:
    """The union. An arm returns itself for its own name and refuses all others."""

    __slots__ = ()

    def _wrong(self, arm: str) -> NoReturn:
        raise DriverFault(
            f"Parameters.{arm} was read, but this stack location carries {type(self).__name__}: check major_function"
        )

    @property
    def create(self) -> CreateParameters:
        """Parameters.Create."""
        self._wrong("create")

    @property
    def read(self) -> ReadParameters:
        """Parameters.Read."""
        self._wrong("read")

    @property
    def write(self) -> WriteParameters:
        """Parameters.Write."""
        self._wrong("write")

    @property
    def device_io_control(self) -> DeviceIoControlParameters:
        """Parameters.DeviceIoControl."""
        self._wrong("device_io_control")

    @property
    def start_device(self) -> StartDeviceParameters:
        """Parameters.StartDevice."""
        self._wrong("start_device")

    @property
    def query_device_relations(self) -> QueryDeviceRelationsParameters:
        """Parameters.QueryDeviceRelations."""
        self._wrong("query_device_relations")

    @property
    def query_interface(self) -> QueryInterfaceParameters:
        """Parameters.QueryInterface."""
        self._wrong("query_interface")

    @property
    def device_capabilities(self) -> DeviceCapabilitiesParameters:
        """Parameters.DeviceCapabilities."""
        self._wrong("device_capabilities")

    @property
    def query_id(self) -> QueryIdParameters:
        """Parameters.QueryId."""
        self._wrong("query_id")

    @property
    def query_device_text(self) -> QueryDeviceTextParameters:
        """Parameters.QueryDeviceText."""
        self._wrong("query_device_text")

    @property
    def power(self) -> PowerParameters:
        """Parameters.Power."""
        self._wrong("power")

    @property
    def wmi(self) -> WmiParameters:
        """Parameters.WMI."""
        self._wrong("wmi")

    @property
    def others(self) -> OthersParameters:
        """Parameters.Others."""
        self._wrong("others")


class _Create(NamedTuple):
    desired_access: int
    share_access: int = 0


class CreateParameters(_Create, Parameters):
    """IRP_MJ_CREATE. Access is FILE_READ_DATA | FILE_WRITE_DATA; the sharing word has the same bits."""

    __slots__ = ()

    @property
    def create(self) -> CreateParameters:
        return self


class _Read(NamedTuple):
    length: int
    key: int = 0
    byte_offset: int = 0
    minimum: int = 0
    terminator: bytes = b""


class ReadParameters(_Read, Parameters):
    """IRP_MJ_READ.

    `minimum` and `terminator` are ours, for devices with DO_STREAM_READ: `minimum` > 0 ends the read as soon as that
    many bytes are there (it takes up to `length`); `terminator` ends it with the first occurrence of these bytes, which
    are included. Without them a read obeys SERIAL_TIMEOUTS.
    """

    __slots__ = ()

    @property
    def read(self) -> ReadParameters:
        return self


class _Write(NamedTuple):
    length: int
    key: int = 0
    byte_offset: int = 0


class WriteParameters(_Write, Parameters):
    """IRP_MJ_WRITE."""

    __slots__ = ()

    @property
    def write(self) -> WriteParameters:
        return self


class _DeviceIoControl(NamedTuple):
    output_buffer_length: int
    input_buffer_length: int
    io_control_code: int
    type3_input_buffer: bytes | bytearray | memoryview | None = None


class DeviceIoControlParameters(_DeviceIoControl, Parameters):
    """IRP_MJ_DEVICE_CONTROL and IRP_MJ_INTERNAL_DEVICE_CONTROL."""

    __slots__ = ()

    @property
    def device_io_control(self) -> DeviceIoControlParameters:
        return self


class _StartDevice(NamedTuple):
    allocated_resources: Any = None


class StartDeviceParameters(_StartDevice, Parameters):
    """IRP_MN_START_DEVICE: what the device was given (`hilbridge.model.hardware.SerialResources`, ...)."""

    __slots__ = ()

    @property
    def start_device(self) -> StartDeviceParameters:
        return self


class _QueryDeviceRelations(NamedTuple):
    type: RelationType


class QueryDeviceRelationsParameters(_QueryDeviceRelations, Parameters):
    """IRP_MN_QUERY_DEVICE_RELATIONS."""

    __slots__ = ()

    @property
    def query_device_relations(self) -> QueryDeviceRelationsParameters:
        return self


class _QueryInterface(NamedTuple):
    interface_type: str
    version: int
    interface: Any
    interface_specific_data: Any = None


class QueryInterfaceParameters(_QueryInterface, Parameters):
    """IRP_MN_QUERY_INTERFACE: `interface_type` is a GUID in braces; the driver fills the object `interface` in."""

    __slots__ = ()

    @property
    def query_interface(self) -> QueryInterfaceParameters:
        return self


class _DeviceCapabilities(NamedTuple):
    capabilities: DeviceCapabilities


class DeviceCapabilitiesParameters(_DeviceCapabilities, Parameters):
    """IRP_MN_QUERY_CAPABILITIES: drivers write into the object that the arm points to."""

    __slots__ = ()

    @property
    def device_capabilities(self) -> DeviceCapabilitiesParameters:
        return self


class _QueryId(NamedTuple):
    id_type: IdType


class QueryIdParameters(_QueryId, Parameters):
    """IRP_MN_QUERY_ID."""

    __slots__ = ()

    @property
    def query_id(self) -> QueryIdParameters:
        return self


class _QueryDeviceText(NamedTuple):
    device_text_type: TextType
    locale_id: int = 0x0409


class QueryDeviceTextParameters(_QueryDeviceText, Parameters):
    """IRP_MN_QUERY_DEVICE_TEXT; 0x0409 is the locale of American English."""

    __slots__ = ()

    @property
    def query_device_text(self) -> QueryDeviceTextParameters:
        return self


class _Power(NamedTuple):
    type: PowerStateType
    state: int
    shutdown_type: PowerAction = PowerAction.NONE
    system_context: int = 0


class PowerParameters(_Power, Parameters):
    """IRP_MN_SET_POWER and IRP_MN_QUERY_POWER; `state` is a SystemPowerState or a DevicePowerState, as `type` says.

    In IRP_MN_WAIT_WAKE `state` is the lowest system state from which the device is to wake it.
    """

    __slots__ = ()

    @property
    def power(self) -> PowerParameters:
        return self


class _Wmi(NamedTuple):
    provider_id: Any
    data_path: str | int
    buffer_size: int = 0
    buffer: Any = None


class WmiParameters(_Wmi, Parameters):
    """IRP_MJ_SYSTEM_CONTROL: `provider_id` is the DEVICE_OBJECT that is asked, `data_path` the GUID of the data block.

    In REGINFO and REGINFO_EX `data_path` is WMIREGISTER or WMIUPDATE. `buffer` is a `hilbridge.model.wmi.Wnode`.
    """

    __slots__ = ()

    @property
    def wmi(self) -> WmiParameters:
        return self


class _Others(NamedTuple):
    argument1: Any = None
    argument2: Any = None
    argument3: Any = None
    argument4: Any = None


class OthersParameters(_Others, Parameters):
    """Parameters.Others: four anonymous arguments."""

    __slots__ = ()

    @property
    def others(self) -> OthersParameters:
        return self


NO_PARAMETERS = OthersParameters()
