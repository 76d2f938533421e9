"""IRP_MJ_SYSTEM_CONTROL: IoWMIRegistrationControl and WmiSystemControl for drivers, and WMI's own side, which asks them.

A driver registers a device; from then on WMI may ask it, with IRPs to the top of its stack that carry the device in
Parameters.WMI.ProviderId. Every other driver passes them on. First of all WMI asks which blocks there are, with
IRP_MN_REGINFO_EX. Windows does so on a system thread, some time after the device was registered (Microsoft,
"IRP_MN_REGINFO_EX"). Here it is done by the first who wants to know: a driver cannot tell the difference, and a port that
nobody asks about pays nothing.

A device that is deregistered is asked nothing more, and `WmiRegAction.DEREGISTER` waits for what it is being asked: so a
driver's functions are never called for a device that has been taken down.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any, NamedTuple

from hilbridge.iomgr.files import FileRoutines
from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.kernel import culprit
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import IrpMajor, WmiDisposition, WmiMinor, WmiRegAction
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverDispatch
from hilbridge.model.errors import DeviceFault, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.irp import IoStackLocation, Irp
from hilbridge.model.parameters import WmiParameters
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_EXISTS,
    STATUS_SUCCESS,
    STATUS_WMI_GUID_NOT_FOUND,
    STATUS_WMI_INSTANCE_NOT_FOUND,
    NtStatus,
)
from hilbridge.model.wmi import WMIREGISTER, WMIUPDATE, WmiProvider, WmiRegGuid, Wnode, normal_guid

_ACTIONS = frozenset(WmiRegAction)
_MINORS = frozenset(WmiMinor)
ANSWER_WITHIN = 30.0
"""Seconds that a driver has for an answer."""


class WmiBlockInfo(NamedTuple):
    """A block that somebody in a stack has registered."""

    provider: DeviceObject[Any]
    """The device that answers."""
    guid: str
    name: str
    instances: tuple[str, ...]


class _Registration:
    """A device that is registered."""

    __slots__ = ("asked", "blocks", "device", "updates")

    def __init__(self, device: DeviceObject[Any]) -> None:
        self.device = device
        self.updates = 0
        """How often the driver has said that its blocks have changed."""
        self.blocks: list[WmiRegGuid] | None = None
        """What REGINFO_EX has said; None until somebody asks, and after UPDATE_GUIDS."""
        self.asked: list[Kevent] = []
        """The events of the requests that are on their way, each set when that request has ended."""


class WmiRoutines(FileRoutines):
    """The I/O manager's routines about WMI. All at PASSIVE_LEVEL."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._wmi: dict[DeviceObject[Any], _Registration] = {}

    # -- for drivers -------------------------------------------------------------------------------------------------

    def wmi_registration_control(self, device: DeviceObject[Any], action: WmiRegAction) -> NtStatus:
        """IoWMIRegistrationControl: WMI may ask `device` about its blocks, or may not any more. At PASSIVE_LEVEL.

        DEREGISTER, and REREGISTER, wait until every request has ended that WMI has sent to the device. To call it in the
        dispatch routine for such a request would be to wait for oneself: a `DriverFault`. DEREGISTER belongs into
        SURPRISE_REMOVAL, and into REMOVE_DEVICE if that was not there before.

        STATUS_INVALID_PARAMETER: there is no such action. Windows' documentation does not say more; here a device that is
        registered already is STATUS_OBJECT_NAME_EXISTS, which is no error; one that is not is STATUS_INVALID_DEVICE_STATE;
        one that is being deleted is STATUS_DELETE_PENDING.
        """
        self._passive("wmi_registration_control")
        if action not in _ACTIONS:
            return STATUS_INVALID_PARAMETER
        if action == WmiRegAction.REGISTER:
            return self._wmi_register(device)
        with self._lock:
            there = self._wmi.get(device)
            if there is not None and action == WmiRegAction.UPDATE_GUIDS:
                there.blocks, there.updates = None, there.updates + 1
            elif there is not None:
                del self._wmi[device]
            asked = there.asked.copy() if there is not None else []
        if there is None:
            return STATUS_INVALID_DEVICE_STATE
        if action != WmiRegAction.UPDATE_GUIDS:
            self._wmi_wait(device, [event for event in asked if not event.signaled])
        return self._wmi_register(device) if action == WmiRegAction.REREGISTER else STATUS_SUCCESS

    def _wmi_register(self, device: DeviceObject[Any]) -> NtStatus:
        with self._lock:
            if device.delete_pending:
                return STATUS_DELETE_PENDING
            if device in self._wmi:
                return STATUS_OBJECT_NAME_EXISTS
            self._wmi[device] = _Registration(device)
        return STATUS_SUCCESS

    def _wmi_wait(self, device: DeviceObject[Any], asked: list[Kevent]) -> None:
        """Wait for what WMI has sent to a device that is not registered any more. In a failed stack nothing is waited for."""
        wrong = ""
        if not asked or device.device_stack.fault is not None:
            return
        if _answers_now(device):
            wrong = (
                "in its dispatch routine for a request of WMI to it, and would wait for itself for ever; "
                "deregister in SURPRISE_REMOVAL or REMOVE_DEVICE"
            )
        elif not all(self.ke.wait_for_single_object(event, 2 * ANSWER_WITHIN) for event in asked):
            # An answer that is awaited has a bound of its own; a dispatch routine that does not return has none.
            wrong = "while its dispatch routine for a request of WMI to it does not return"
        if wrong:
            name = device.driver_object.name
            fault = DriverFault(f"driver {name} deregisters {device!r} {wrong}")
            fault.blame(name, culprit.find(sys._getframe(2)).place)
            raise self.fault(device, fault, "wmi_registration_control")

    def wmi_registered(self, device: DeviceObject[Any]) -> bool:
        """Whether WMI may ask the device."""
        return device in self._wmi and not device.delete_pending

    def _free_device(self, device: DeviceObject[Any]) -> None:
        self._wmi.pop(device, None)  # it should have been deregistered: the verifier says so
        super()._free_device(device)

    def wmi_system_control(
        self, provider: WmiProvider, device: DeviceObject[Any], irp: Irp
    ) -> tuple[WmiDisposition, NtStatus]:
        """WmiSystemControl, in the dispatch routine for SYSTEM_CONTROL: answer for `provider` if `device` is asked.

        Returns what is to be done with the IRP, and its status: an IRP that has been completed is not to be looked at any
        more. `wmi_dispatch` does what is to be done. A function of the provider that raises `NtStatusError`, or a
        `DeviceFault`, answers with that status; with any other exception it fails the stack.
        """
        self._passive("wmi_system_control")
        location = irp.current_stack_location
        wmi, minor = location.parameters.wmi, location.minor_function
        if minor not in _MINORS:
            return WmiDisposition.IRP_NOT_WMI, irp.io_status.status
        if wmi.provider_id is not device:
            return WmiDisposition.IRP_FORWARD, irp.io_status.status
        try:
            status = provider.answer(device, minor, wmi.data_path, wmi.buffer)
        except (NtStatusError, DeviceFault) as error:
            self.write_error_log_entry(irp, error)
            status = error.status
        except Exception as error:  # noqa: BLE001 - latched, and the request ends with it
            status = self.fault(device, error, "its WMI provider").status
        irp.io_status.status = status
        irp.io_status.information = 0  # bytes, of which there are none: the answer is an object
        if not status.is_success or minor in (WmiMinor.REGINFO, WmiMinor.REGINFO_EX):
            return WmiDisposition.IRP_NOT_COMPLETED, status
        self.complete_request(irp)
        return WmiDisposition.IRP_PROCESSED, status

    # -- for who wants to know ---------------------------------------------------------------------------------------

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

    def _wmi_registered_blocks(self, there: _Registration) -> list[WmiRegGuid]:
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
        self, there: _Registration, minor: WmiMinor, data_path: str | int, wnode: Wnode
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


def _answers_now(device: DeviceObject[Any]) -> bool:
    """Whether the calling thread is in the dispatch routine of `device` for a request of WMI to it."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        if frame.f_code is IrpRoutines.call_driver.__code__:
            here: IoStackLocation | None = frame.f_locals.get("here")
            if here is not None and getattr(here.parameters, "provider_id", None) is device:
                return here.device_object is device
    return False


def wmi_dispatch(provider: WmiProvider) -> DriverDispatch:
    """A dispatch routine for IRP_MJ_SYSTEM_CONTROL that answers for `provider` what is for the device, and passes on the rest.

    A device at the bottom of its stack completes the rest, with the status that it came with.
    """

    def system_control(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        disposition, status = device.io.wmi_system_control(provider, device, irp)
        if disposition is WmiDisposition.IRP_PROCESSED:
            return status
        if disposition is WmiDisposition.IRP_NOT_COMPLETED or device.lower_device is None:
            device.io.complete_request(irp)
            return status
        irp.skip_current_stack_location()
        return device.io.call_driver(device.lower_device, irp)

    return system_control
