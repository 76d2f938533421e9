"""WMI as drivers see it: data blocks of named properties, and what a request about them carries.

A *data block* is known by its GUID. It has one or more *instances*, and each of these has the same properties. In C the
buffer of a request is a WNODE_XXX structure: bytes, laid out as the block's class in a MOF file says. Here it is a `Wnode`
that carries Python objects: who asks and who answers are in one process, and there is no compiler for MOF that could read
the bytes. So no buffer is ever too small, except for one that is no `Wnode` at all.

`WmiProvider` is WMILIB_CONTEXT with a WmiSystemControl that answers for it: blocks that can be read and not written, with
neither methods nor events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hilbridge.model.codes import WmiMinor
from hilbridge.model.errors import DriverFault
from hilbridge.model.guid import normal_guid
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_SUCCESS,
    STATUS_WMI_GUID_NOT_FOUND,
    STATUS_WMI_INSTANCE_NOT_FOUND,
    STATUS_WMI_ITEMID_NOT_FOUND,
    STATUS_WMI_READ_ONLY,
    NtStatus,
)

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject

WMIREGISTER = 0
"""Parameters.WMI.DataPath of REGINFO and REGINFO_EX: all blocks are asked for, anew."""
WMIUPDATE = 1
"""The same: the driver has said that its blocks have changed."""

WmiQuery = Callable[["DeviceObject[Any]"], Mapping[str, object]]
"""DpWmiQueryDataBlock(device), at PASSIVE_LEVEL: the properties of one instance as they are now, by their names."""

_REGINFO = (WmiMinor.REGINFO, WmiMinor.REGINFO_EX)
_SWITCHES = (
    WmiMinor.ENABLE_EVENTS,
    WmiMinor.DISABLE_EVENTS,
    WmiMinor.ENABLE_COLLECTION,
    WmiMinor.DISABLE_COLLECTION,
)


class WmiRegGuid(NamedTuple):
    """WMIREGGUID: a block that a driver registers, as REGINFO_EX tells of it."""

    guid: str
    name: str
    """The block's class, as a MOF file would call it."""
    instances: tuple[str, ...]
    """The names of its instances."""


class Wnode:
    """WNODE_XXX: what a request asks for, and its answer.

    `data` is, in the answer to REGINFO and REGINFO_EX, a list of `WmiRegGuid`; to QUERY_ALL_DATA, the properties of every
    instance by its name; to QUERY_SINGLE_INSTANCE, the properties of that instance. In a CHANGE request it is the new value.
    """

    __slots__ = ("data", "instance", "item")

    def __init__(self, instance: str | int = 0, item: str = "", data: object = None) -> None:
        self.instance = instance
        """WNODE_SINGLE_INSTANCE.InstanceIndex, or the instance's name."""
        self.item = item
        """WNODE_SINGLE_ITEM.ItemId: the name of the property."""
        self.data = data

    def __repr__(self) -> str:
        item = f", item {self.item!r}" if self.item else ""
        return f"<WNODE instance {self.instance!r}{item}: {self.data!r}>"


class WmiBlock(NamedTuple):
    """A block that a provider has: its name, and a function for its only instance, or one for each instance by its name."""

    name: str
    query: WmiQuery | Mapping[str, WmiQuery]

    def instances(self, device: DeviceObject[Any]) -> Mapping[str, WmiQuery]:
        r"""The instances by their names.

        In Windows the only instance is named after the PDO's instance path, with a number: ``USB\VID_...\5&1_0``. Here it is
        named after the device that answers, ``Serial0_0``, since most physical devices have no name.
        """
        if callable(self.query):
            name = (device.name or device.driver_object.name).rpartition("\\")[2]
            return {f"{name}_0": self.query}
        return self.query


class WmiProvider:
    """WMILIB_CONTEXT: the blocks of a driver, by their GUIDs. One serves all devices of the driver.

    Raises `DriverFault` for what is no GUID, for a name or a GUID that is there twice, and for a block without instances.
    """

    def __init__(self, blocks: Mapping[str, WmiBlock]) -> None:
        self.blocks: dict[str, WmiBlock] = {}
        names: set[str] = set()
        for written, block in blocks.items():
            guid = normal_guid(written)
            if guid is None:
                raise DriverFault(f"WMI block {block.name}: {written!r} is no GUID in braces")
            if guid in self.blocks or block.name in names:
                raise DriverFault(f"WMI block {block.name} {guid} is there twice, by its name or its GUID")
            if not callable(block.query) and not block.query:
                raise DriverFault(f"WMI block {block.name} has no instances")
            self.blocks[guid] = block
            names.add(block.name)

    def registration(self, device: DeviceObject[Any]) -> list[WmiRegGuid]:
        """DpWmiQueryReginfo: what there is to register for `device`."""
        return [WmiRegGuid(guid, block.name, tuple(block.instances(device))) for guid, block in self.blocks.items()]

    def answer(self, device: DeviceObject[Any], minor: int, data_path: object, wnode: object) -> NtStatus:
        """Answer a request for `device`, in the request's own `wnode`; returns its status. Raises what the functions raise.

        The statuses are those of Microsoft, "Processing WMI IRPs in a DispatchSystemControl Routine", and where the driver has
        no routine for it those of the WMILIB callbacks: methods STATUS_INVALID_DEVICE_REQUEST, changes STATUS_WMI_READ_ONLY,
        switching events or collection on and off STATUS_SUCCESS. What is wrong in the question comes before "read only".
        """
        if not isinstance(wnode, Wnode):
            return STATUS_BUFFER_TOO_SMALL  # smaller than sizeof(WNODE_TOO_SMALL): it cannot even be told what it lacks
        if minor in _REGINFO:
            wnode.data = self.registration(device)
            return STATUS_SUCCESS
        block = self.blocks.get(normal_guid(data_path) or "")
        if block is None:
            return STATUS_WMI_GUID_NOT_FOUND
        if minor in _SWITCHES:
            return STATUS_SUCCESS
        instances = block.instances(device)
        if minor == WmiMinor.QUERY_ALL_DATA:
            wnode.data = {name: _properties(block, query, device) for name, query in instances.items()}
            return STATUS_SUCCESS
        query = _chosen(instances, wnode.instance)
        if query is None:
            return STATUS_WMI_INSTANCE_NOT_FOUND
        if minor == WmiMinor.EXECUTE_METHOD:
            return STATUS_INVALID_DEVICE_REQUEST
        if minor == WmiMinor.QUERY_SINGLE_INSTANCE:
            wnode.data = _properties(block, query, device)
            return STATUS_SUCCESS
        if minor == WmiMinor.CHANGE_SINGLE_ITEM and wnode.item not in _properties(block, query, device):
            return STATUS_WMI_ITEMID_NOT_FOUND
        return STATUS_WMI_READ_ONLY


def _chosen(instances: Mapping[str, WmiQuery], instance: str | int) -> WmiQuery | None:
    if isinstance(instance, int):
        return list(instances.values())[instance] if 0 <= instance < len(instances) else None
    return instances.get(instance)


def _properties(block: WmiBlock, query: WmiQuery, device: DeviceObject[Any]) -> dict[str, object]:
    """What the driver's function says now: a copy, so that nobody sees what it changes later."""
    found: object = query(device)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise DriverFault(
            f"driver {device.driver_object.name}: the function of WMI block {block.name} returned {found!r}; "
            "return a mapping from the names of properties to their values"
        )
    return dict(found)
