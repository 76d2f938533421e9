"""A bus driver in the smallest form: a function driver whose device has children, which it reports when it is asked."""

from __future__ import annotations

from typing import Any

from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    FILE_DEVICE_BUS_EXTENDER,
    IrpMajor,
    PnpMinor,
    RelationType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import QueryDeviceRelationsParameters
from hilbridge.model.status import STATUS_SUCCESS, NtStatus
from tests.observe.verifier.stage import Device, Stage
from tests.support import Extension, TinyDriver

BUS = QueryDeviceRelationsParameters(RelationType.BUS)
TARGET = QueryDeviceRelationsParameters(RelationType.TARGET_DEVICE)


class TinyBus(TinyDriver):
    """``child(device, irp)`` is called for the requests of a child, which are then completed as they are."""

    def __init__(self, child: Any = None, *, children: int = 1) -> None:
        super().__init__("bus")
        self.child = child
        self.count = children
        self.children: list[Device] = []
        self.reported: list[Device] = []
        """What it says when it is asked for what hangs on its bus."""

    def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        for number in range(self.count):
            child = driver.io.create_device(driver, Extension(), None, FILE_DEVICE_BUS_EXTENDER)
            child.flags |= DO_BUS_ENUMERATED_DEVICE
            child.flags &= ~DO_DEVICE_INITIALIZING
            child.extension.notes.append(number)
            self.children.append(child)
        self.reported = list(self.children)
        return status

    def pnp(self, device: Device, irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        minor = location.minor_function
        if device in self.children:
            return self._child(device, irp, minor)
        if minor == PnpMinor.QUERY_DEVICE_RELATIONS and location.parameters == BUS:
            block: Any = irp.io_status
            block.information = [device.io.reference_object(child) for child in self.reported]
            irp.io_status.status = STATUS_SUCCESS
        elif minor == PnpMinor.REMOVE_DEVICE:
            for child in self.children:
                if not child.delete_pending:
                    device.io.delete_device(child)
        return super().pnp(device, irp)

    def _child(self, device: Device, irp: Irp, minor: int) -> NtStatus:
        if minor <= PnpMinor.CANCEL_STOP_DEVICE or minor == PnpMinor.SURPRISE_REMOVAL:
            irp.io_status.status = STATUS_SUCCESS
        if self.child is not None:
            self.child(device, irp)
        status = irp.io_status.status
        device.io.complete_request(irp)
        return status


def plug_bus(stage: Stage, child: Any = None, *, children: int = 1) -> TinyBus:
    bus = TinyBus(child, children=children)
    stage.drivers.append(bus)
    stage.bridge.plug("virtual:null", name="BUS", driver=bus)
    return bus


def relations(stage: Stage, bus: TinyBus) -> None:
    """Ask it what hangs on its bus, and give the references back, as the Plug and Play manager does."""
    irp = stage.send(bus.device, IrpMajor.PNP, PnpMinor.QUERY_DEVICE_RELATIONS, BUS)
    block: Any = irp.io_status
    for child in block.information or ():
        if child.pointer_count:
            stage.io.dereference_object(child)
