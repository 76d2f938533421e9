"""What the tests of WMI share: toasters that publish something, in stacks of one or several drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge.iomgr.wmi import wmi_dispatch
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor, WmiRegAction
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import WmiParameters
from hilbridge.model.status import STATUS_SUCCESS, NtStatus
from hilbridge.model.wmi import WmiBlock, WmiProvider, Wnode
from tests.support import Extension, System, TinyDriver

INFO = "{BBA21300-6DD3-11D2-B844-00C04FAD5171}"
SLOTS = "{8209EC2A-2D6B-11D2-BA49-00A0C9062910}"
ABSENT = "{00000000-0000-0000-0000-000000000001}"

Device = DeviceObject[Extension]
Query = Callable[[Device], dict[str, object]]


def info(device: Device) -> dict[str, object]:
    return {"Driver": device.driver_object.name, "Asked": len(device.extension.notes)}


def slot(number: int) -> Query:
    return lambda _device: {"Slot": number}


def provider(query: Any = info) -> WmiProvider:
    """Two blocks: ``Info`` with one instance, ``Slot`` with two."""
    return WmiProvider({INFO: WmiBlock("Info", query), SLOTS: WmiBlock("Slot", {"left": slot(1), "right": slot(2)})})


def noting(dispatch: Any) -> Any:
    """The same dispatch routine; each request is noted: its minor function and its data path."""

    def routine(device: Device, irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        device.extension.notes.append((location.minor_function, location.parameters.wmi.data_path))
        status: NtStatus = dispatch(device, irp)
        return status

    return routine


def toaster(name: str = "toaster", query: Any = info, *, named: bool = True) -> TinyDriver:
    """A driver that answers for `provider(query)`, and notes what it is asked."""
    return TinyDriver(name, {IrpMajor.SYSTEM_CONTROL: noting(wmi_dispatch(provider(query)))}, named=named)


class Kitchen(System):
    """A stack whose drivers are registered, those that are not told otherwise."""

    def __init__(self, *drivers: TinyDriver, registered: bool = True) -> None:
        super().__init__()
        self.drivers = drivers or (toaster(),)
        self.top = self.stack(*self.drivers)
        self.device = self.drivers[0].device
        if registered:
            for driver in self.drivers:
                if IrpMajor.SYSTEM_CONTROL in driver.dispatch:
                    assert self.control(driver.device) == STATUS_SUCCESS

    def control(self, device: Device, action: WmiRegAction = WmiRegAction.REGISTER) -> NtStatus:
        return self.io.wmi_registration_control(device, action)

    def send(self, provider_id: object, minor: int, guid: str | int = INFO, buffer: object = None) -> Irp:
        """A request as a driver of somebody's own sends it, to the top of the stack; it has come back."""
        irp = self.io.build_synchronous_fsd_request(
            IrpMajor.SYSTEM_CONTROL,
            self.top,
            Kevent(),
            minor=minor,
            parameters=WmiParameters(provider_id, guid, 0, Wnode() if buffer is None else buffer),
        )
        self.io.call_and_wait(self.top, irp)
        return irp
