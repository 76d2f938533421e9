"""IRP_MJ_SYSTEM_CONTROL, the driver's side: IoWMIRegistrationControl, and WmiSystemControl, which answers.

A driver registers a device; from then on WMI may ask it, with IRPs to the top of its stack that carry the device in
Parameters.WMI.ProviderId. Every other driver passes them on. Who asks is in `hilbridge.iomgr.wmiquery`.

A device that is deregistered is asked nothing more, and `WmiRegAction.DEREGISTER` waits for what it is being asked: so a
driver's functions are never called for a device that has been taken down.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

from hilbridge.iomgr.files import FileRoutines
from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.kernel import culprit
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import WmiDisposition, WmiMinor, WmiRegAction
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverDispatch
from hilbridge.model.errors import DeviceFault, DriverFault, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_EXISTS,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.model.wmi import WmiProvider, WmiRegGuid

_ACTIONS = frozenset(WmiRegAction)
_MINORS = frozenset(WmiMinor)
ANSWER_WITHIN = 30.0
"""Seconds that a driver has for an answer."""


class WmiRegistration:
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
    """The I/O manager's routines about WMI, for drivers. All at PASSIVE_LEVEL."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._wmi: dict[DeviceObject[Any], WmiRegistration] = {}

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
            self._wmi[device] = WmiRegistration(device)
        return STATUS_SUCCESS

    def _wmi_wait(self, device: DeviceObject[Any], asked: list[Kevent]) -> None:
        """Wait for what WMI has sent to a device that is not registered any more. In a failed stack nothing is waited for."""
        wrong = ""
        if not asked or device.device_stack.fault is not None:
            return
        if _answers_now(asked):
            wrong = (
                "in a dispatch routine for a request of WMI to it, and would wait for itself for ever; "
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


def _answers_now(asked: list[Kevent]) -> bool:
    """Whether the calling thread is in a dispatch routine for one of these requests."""
    for frame, _ in traceback.walk_stack(sys._getframe(1)):
        if frame.f_code is IrpRoutines.call_driver.__code__:
            irp = frame.f_locals["irp"]
            if any(irp.user_event is event for event in asked):
                return True
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
