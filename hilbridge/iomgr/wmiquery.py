"""IRP_MJ_SYSTEM_CONTROL, WMI's side: which blocks a stack publishes, and what their properties are now.

First of all a registered device is asked which blocks it has, with IRP_MN_REGINFO_EX. Windows does so on a system thread, some
time after the device was registered (Microsoft, "IRP_MN_REGINFO_EX"). Here it is done by the first who wants to know: a
driver cannot tell the difference, and a port that nobody asks about pays nothing.

What comes back is an answer of a driver's: it is looked at before it is handed on, and one that is none fails the stack.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hilbridge.iomgr.wmi import ANSWER_WITHIN, WmiRegistration, WmiRoutines
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor, WmiMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.guid import normal_guid
from hilbridge.model.parameters import WmiParameters
from hilbridge.model.status import (
    STATUS_NOT_SUPPORTED,
    STATUS_WMI_GUID_NOT_FOUND,
    STATUS_WMI_INSTANCE_NOT_FOUND,
    NtStatus,
)
from hilbridge.model.wmi import WMIREGISTER, WMIUPDATE, WmiRegGuid, Wnode


class WmiBlockInfo(NamedTuple):
    """A block that somebody in a stack has registered."""

    provider: DeviceObject[Any]
    """The device that answers."""
    guid: str
    name: str
    instances: tuple[str, ...]


class WmiQueries(WmiRoutines):
    """The I/O manager's routines about WMI, for who wants to know something. All at PASSIVE_LEVEL."""

    def wmi_blocks(self, device: DeviceObject[Any]) -> list[WmiBlockInfo]:
        """Every block that is registered in the stack of `device`, from the top down. Raises as `query_wmi` does."""
        self._passive("wmi_blocks")
        self.refuse_if_dead(device)
        found: list[WmiBlockInfo] = []
        for one in device.top.walk_down():
            there = self._wmi.get(one)
            if there is not None and not one.delete_pending:
                found += (WmiBlockInfo(one, *block) for block in self._wmi_registered_blocks(there))
        return found

    def query_wmi(self, device: DeviceObject[Any], block: str, instance: str | int | None = None) -> dict[str, object]:
        """IoWMIQuerySingleInstance: the properties of one instance of a block, by their names.

        `block`: its GUID, or its name. `instance`: its name or its number; it may be left out if there is only one. If several
        drivers of the stack have the block it is that of `device` if it has one, else the uppermost.

        Raises `NtStatusError`: STATUS_WMI_GUID_NOT_FOUND and STATUS_WMI_INSTANCE_NOT_FOUND, which say what there is, or what
        the driver has answered. Raises the stack's fault if it has failed.
        """
        info = self._wmi_find_block(device, block)
        if instance is None:
            if len(info.instances) != 1:
                raise NtStatusError(STATUS_WMI_INSTANCE_NOT_FOUND, _which_instance(info, "say which"))
            instance = 0
        answer = self._wmi_query(info, WmiMinor.QUERY_SINGLE_INSTANCE, Wnode(instance))
        if not isinstance(answer, dict):
            raise self._wmi_wrong_answer(info, answer)
        return answer

    def query_wmi_all(self, device: DeviceObject[Any], block: str) -> dict[str, dict[str, object]]:
        """IoWMIQueryAllData: the properties of every instance of a block, by the instances' names. Else as `query_wmi`."""
        return self._wmi_all_instances(self._wmi_find_block(device, block))

    def wmi_properties(self, device: DeviceObject[Any]) -> dict[str, dict[str, object]]:
        """All that the stack of `device` publishes: properties by the name of their block.

        A block of several instances is there once for each, as ``Channel[A]``. Of blocks with the same name the uppermost comes
        first; the next one is ``Channel#2``.
        """
        found: dict[str, dict[str, object]] = {}
        for info in self.wmi_blocks(device):
            instances = self._wmi_all_instances(info)
            for name, properties in instances.items():
                key = info.name if len(instances) == 1 else f"{info.name}[{name}]"
                again = sum(known == key or known.startswith(f"{key}#") for known in found)
                found[f"{key}#{again + 1}" if again else key] = properties
        return found

    # -- asking ------------------------------------------------------------------------------------------------------

    def _wmi_find_block(self, device: DeviceObject[Any], block: str) -> WmiBlockInfo:
        there = self.wmi_blocks(device)
        guid = normal_guid(block)
        fitting = [info for info in there if (info.guid == guid if guid else info.name == block)]
        if not fitting:
            names = ", ".join(f"{info.name} {info.guid}" for info in there) or "none at all"
            raise NtStatusError(
                STATUS_WMI_GUID_NOT_FOUND, f"the stack of {device!r} has no WMI block {block}; there are: {names}"
            )
        return next((info for info in fitting if info.provider is device), fitting[0])

    def _wmi_registered_blocks(self, there: WmiRegistration) -> list[WmiRegGuid]:
        """What the device has registered: it is asked if that is not known. Two who want to know at once ask twice."""
        with self._lock:
            known, updates = there.blocks, there.updates
        if known is not None:
            return known
        wnode = Wnode()
        answer = self._wmi_ask(there, WmiMinor.REGINFO_EX, WMIUPDATE if updates else WMIREGISTER, wnode)
        if answer is None:
            return []
        status, error = answer
        device = there.device
        if not status.is_success:
            raise error or NtStatusError(
                status,
                f"driver {device.driver_object.name} has registered {device!r} with WMI, and does not say what blocks it has: "
                "answer IRP_MN_REGINFO_EX if Parameters.WMI.ProviderId is your device, as wmi_dispatch does",
            )
        blocks = wnode.data
        if not isinstance(blocks, list) or not all(isinstance(one, WmiRegGuid) for one in blocks):
            what = f"{device!r} answered IRP_MN_REGINFO_EX with {blocks!r}: return a list of WmiRegGuid"
            raise self.fault(device, DriverFault(what), "IRP_MN_REGINFO_EX")
        with self._lock:
            if there.updates == updates:  # else the driver has said meanwhile that this is out of date
                there.blocks = blocks
        return blocks

    def _wmi_all_instances(self, info: WmiBlockInfo) -> dict[str, dict[str, object]]:
        answer = self._wmi_query(info, WmiMinor.QUERY_ALL_DATA, Wnode())
        if not isinstance(answer, dict) or not all(isinstance(properties, dict) for properties in answer.values()):
            raise self._wmi_wrong_answer(info, answer)
        return answer

    def _wmi_query(self, info: WmiBlockInfo, minor: WmiMinor, wnode: Wnode) -> object:
        there = self._wmi.get(info.provider)
        answer = self._wmi_ask(there, minor, info.guid, wnode) if there is not None else None
        what = f"WMI block {info.name} of {info.provider!r}"
        if answer is None:
            raise NtStatusError(STATUS_WMI_GUID_NOT_FOUND, f"{what} is gone: the device has just been deregistered")
        status, error = answer
        if status == STATUS_WMI_INSTANCE_NOT_FOUND:
            raise NtStatusError(status, _which_instance(info, f"there is no {wnode.instance!r}"))
        if not status.is_success:
            nobody = ", as it does for requests that nobody has answered" if status == STATUS_NOT_SUPPORTED else ""
            raise error or NtStatusError(status, f"{what}: the stack answered so{nobody}")
        return wnode.data

    def _wmi_ask(
        self, there: WmiRegistration, minor: WmiMinor, data_path: str | int, wnode: Wnode
    ) -> tuple[NtStatus, HilbridgeError | None] | None:
        """Send a request for a device, and wait for its end. None: it has been deregistered. Raises its stack's fault."""
        device = there.device
        self.refuse_if_dead(device)
        event, top = Kevent(), device.top
        with self._lock:
            # Under the lock under which it is deregistered: either this request is waited for, or it is not sent.
            if self._wmi.get(device) is not there or device.delete_pending:
                return None
            there.asked.append(event)
        try:
            parameters = WmiParameters(device, data_path, 0, wnode)
            irp = self.build_synchronous_fsd_request(
                IrpMajor.SYSTEM_CONTROL, top, event, minor=minor, parameters=parameters
            )
            status, _ = self._send(top, irp, event, ANSWER_WITHIN, f"IRP_MN_{minor.name}")
        finally:
            event.set()  # also if a dispatch routine has raised, or has not answered in time
            with self._lock:
                there.asked.remove(event)
        self.refuse_if_dead(device)  # a function of the driver has raised
        return status, irp.error

    def _wmi_wrong_answer(self, info: WmiBlockInfo, answer: object) -> HilbridgeError:
        what = f"{info.provider!r} answered a request for WMI block {info.name} with {answer!r}: return dicts of properties"
        return self.fault(info.provider, DriverFault(what), "its dispatch routine for SYSTEM_CONTROL")


def _which_instance(info: WmiBlockInfo, words: str) -> str:
    return f"WMI block {info.name} of {info.provider!r} has the instances {', '.join(info.instances)}: {words}"
