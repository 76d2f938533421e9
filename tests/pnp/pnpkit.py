"""A bus whose slots the test fills, and drivers that write down what they are asked."""

from __future__ import annotations

from typing import Any

from hilbridge import Bridge
from hilbridge.model.codes import (
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    FILE_DEVICE_BUS_EXTENDER,
    IdType,
    PnpMinor,
    RelationType,
    TextType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus
from tests.support import Extension, TinyDriver, complete, plug

GADGET_ID = "TOY\\Gadget"


class Slot:
    """DEVICE_EXTENSION of a PDO of the bus."""

    def __init__(self, serial: str, ids: list[str], **can: Any) -> None:
        self.serial = serial
        self.ids = ids
        self.can = can
        """Capabilities that are not the default."""
        self.asked: list[str] = []
        self.ejected = False
        self.reported_missing = False


class Watched(TinyDriver):
    """A driver that notes what it is asked in one list for all devices, and refuses what it is told to."""

    def __init__(self, name: str, log: list[str] | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.log: list[str] = [] if log is None else log
        self.refuses: dict[PnpMinor, NtStatus] = {}
        self.state = 0
        """What IRP_MN_QUERY_PNP_DEVICE_STATE is answered."""
        self.removal_relations: list[DeviceObject[Any]] = []
        self.words: HilbridgeError | None = None

    def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        minor = PnpMinor(location.minor_function)
        if not minor.name.startswith("QUERY") or minor in (
            PnpMinor.QUERY_REMOVE_DEVICE,
            PnpMinor.QUERY_STOP_DEVICE,
        ):
            self.log.append(f"{self.__name__} {minor.name.removesuffix('_DEVICE')}")
        refusal = self.refuses.get(minor)
        if refusal is not None:
            if self.words is not None:
                device.io.write_error_log_entry(irp, self.words)
            return complete(device, irp, refusal)
        if minor == PnpMinor.QUERY_PNP_DEVICE_STATE:
            irp.io_status.information |= self.state
            irp.io_status.status = STATUS_SUCCESS
        elif (
            minor == PnpMinor.QUERY_DEVICE_RELATIONS
            and location.parameters.query_device_relations.type == RelationType.REMOVAL
            and self.removal_relations
        ):
            irp.io_status.information = [device.io.reference_object(other) for other in self.removal_relations]
            irp.io_status.status = STATUS_SUCCESS
        elif minor in (
            PnpMinor.QUERY_STOP_DEVICE,
            PnpMinor.STOP_DEVICE,
            PnpMinor.CANCEL_STOP_DEVICE,
            PnpMinor.QUERY_REMOVE_DEVICE,
            PnpMinor.CANCEL_REMOVE_DEVICE,
        ):
            irp.io_status.status = STATUS_SUCCESS
        return super().pnp(device, irp)


class Bus(Watched):
    """A bus driver, its function device and the PDOs of its slots in one module, as bus drivers are."""

    def __init__(self, name: str = "toybus", log: list[str] | None = None) -> None:
        super().__init__(name, log, named=False)
        self.slots: dict[str, DeviceObject[Slot]] = {}
        self.gone: list[DeviceObject[Slot]] = []
        self.report: list[Any] | None = None
        """What to report instead of the truth."""
        self.breaks: Exception | None = None
        """Raised for everything that a PDO is asked."""

    def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        """A bus that is started anew looks what is plugged in, and makes PDOs for that."""
        status = super().add_device(driver, physical)
        found, self.slots, self.gone = self.slots, {}, []
        for serial, pdo in found.items():
            self.fill(serial, *pdo.extension.ids, **pdo.extension.can)
        return status

    def fill(self, serial: str, *ids: str, **can: Any) -> DeviceObject[Slot]:
        """Put a device into a slot. Nobody knows of it until `say`, or `tell` in the test."""
        driver = self.device.driver_object
        pdo = driver.io.create_device(
            driver, Slot(serial, list(ids or (GADGET_ID,)), **can), None, FILE_DEVICE_BUS_EXTENDER
        )
        pdo.flags |= DO_BUS_ENUMERATED_DEVICE
        pdo.flags &= ~DO_DEVICE_INITIALIZING
        self.slots[serial] = pdo
        return pdo

    def pull(self, serial: str) -> DeviceObject[Slot]:
        """Pull the device out of its slot."""
        pdo = self.slots.pop(serial)
        self.gone.append(pdo)
        return pdo

    def say(self) -> None:
        """IoInvalidateDeviceRelations."""
        self.device.io.invalidate_device_relations(self.device.bottom)

    def pnp(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        if isinstance(device.extension, Slot):
            return self._slot(device, irp)
        location = irp.current_stack_location
        minor = location.minor_function
        if (
            minor == PnpMinor.QUERY_DEVICE_RELATIONS
            and location.parameters.query_device_relations.type == RelationType.BUS
        ):
            told = list(self.slots.values()) if self.report is None else self.report
            for pdo in told:
                device.io.reference_object(pdo)
            for pdo in self.gone:
                pdo.extension.reported_missing = True
            irp.io_status.information = told
            irp.io_status.status = STATUS_SUCCESS
        if minor == PnpMinor.REMOVE_DEVICE:
            for pdo in (*self.slots.values(), *self.gone):
                if not pdo.delete_pending:
                    device.io.delete_device(pdo)
            self.slots.clear()
        return super().pnp(device, irp)

    def _slot(self, pdo: DeviceObject[Slot], irp: Irp) -> NtStatus:
        if self.breaks is not None:
            raise self.breaks
        location, slot = irp.current_stack_location, pdo.extension
        minor = PnpMinor(location.minor_function)
        slot.asked.append(minor.name)
        answer: Any = None
        known = not minor.name.startswith("QUERY") or minor in (
            PnpMinor.QUERY_REMOVE_DEVICE,
            PnpMinor.QUERY_STOP_DEVICE,
        )
        if minor == PnpMinor.QUERY_ID:
            answer = {
                IdType.DEVICE_ID: slot.ids[0],
                IdType.HARDWARE_IDS: slot.ids[:1],
                IdType.COMPATIBLE_IDS: slot.ids[1:],
                IdType.INSTANCE_ID: slot.serial,
            }.get(location.parameters.query_id.id_type)
        elif minor == PnpMinor.QUERY_DEVICE_TEXT:
            kind = location.parameters.query_device_text.device_text_type
            answer = "a gadget" if kind == TextType.DESCRIPTION else f"slot {slot.serial}"
        elif minor == PnpMinor.QUERY_CAPABILITIES:
            for name, value in slot.can.items():
                setattr(location.parameters.device_capabilities.capabilities, name, value)
            known = True
        elif minor == PnpMinor.EJECT:
            slot.ejected = True
            self.pull(slot.serial)
        elif minor == PnpMinor.REMOVE_DEVICE and slot.reported_missing:
            complete(pdo, irp)
            pdo.io.delete_device(pdo)
            return STATUS_SUCCESS
        if answer is not None:
            irp.io_status.information = answer
            known = True
        return complete(pdo, irp, STATUS_SUCCESS if known else irp.io_status.status, irp.io_status.information)


class Tree:
    """A bridge with a bus in it, and a driver installed for what is put into its slots."""

    def __init__(self, bridge: Bridge, **gadget: Any) -> None:
        self.bridge = bridge
        self.log: list[str] = []
        self.bus = Bus(log=self.log)
        self.gadget = Watched("gadget", self.log, **gadget)
        bridge.install(self.gadget, GADGET_ID)
        plug(bridge, self.bus, name="bus")

    def put(self, serial: str, *ids: str, **can: Any) -> DeviceObject[Slot]:
        """A device is put into a slot, and the bus says so."""
        pdo = self.bus.fill(serial, *ids, **can)
        self.settle()
        return pdo

    def pull(self, serial: str) -> DeviceObject[Slot]:
        pdo = self.bus.pull(serial)
        self.settle()
        return pdo

    def settle(self) -> None:
        self.bus.say()
        self.bridge.machine.run_until_idle()

    def states(self) -> dict[str, str]:
        return {device["name"]: device["state"] for device in self.bridge.devices()}

    def look(self, name: str) -> dict[str, Any]:
        return next(device for device in self.bridge.devices() if device["name"] == name)
