"""The toaster bus: a bus driver. Its module has two kinds of devices: the bus itself, and a PDO for each toaster on it.

What is plugged in and what is pulled out changes the list of children, and is said with IoInvalidateDeviceRelations. The Plug
and Play manager then asks which children there are, and does the rest: it has the PDOs' stacks built, or taken down. A PDO is
deleted in the REMOVE_DEVICE that follows when it was missing in such an answer, and not before: until then the manager
knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.drivers.samples.toaster import public
from hilbridge.drivers.samples.toaster.requests import AGREES, complete
from hilbridge.kernel.mutex import FastMutex
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_BUS_ENUMERATED_DEVICE,
    DO_DEVICE_INITIALIZING,
    FILE_DEVICE_BUS_EXTENDER,
    DevicePowerState,
    IdType,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    RelationType,
    SystemPowerState,
    TextType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    NtStatus,
)

POWER = {
    SystemPowerState.WORKING: DevicePowerState.D0,
    SystemPowerState.SLEEPING1: DevicePowerState.D1,
    SystemPowerState.SLEEPING2: DevicePowerState.D2,
    SystemPowerState.SLEEPING3: DevicePowerState.D2,
    SystemPowerState.HIBERNATE: DevicePowerState.D3,
    SystemPowerState.SHUTDOWN: DevicePowerState.D3,
}
"""How much power a toaster keeps while the system is in such a state."""


class Bus:
    """The extension of the bus's own device."""

    def __init__(self, driver: DriverObject) -> None:
        self.lower: DeviceObject[Any]
        self.physical: DeviceObject[Any]
        self.interface = ""
        self.remove_lock: RemoveLock
        self.mutex = FastMutex(driver.ke)
        """Guards the two below, and what the children remember."""
        self.children: dict[int, DeviceObject[Child]] = {}
        """Serial number -> what is plugged in."""
        self.pulled: list[DeviceObject[Child]] = []
        """What was pulled out, and is not deleted yet."""


class Child:
    """The extension of a PDO."""

    def __init__(self, bus: DeviceObject[Bus], serial: int, hardware_ids: list[str]) -> None:
        self.bus = bus
        self.serial = serial
        self.hardware_ids = hardware_ids
        self.reported_missing = False


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """One dispatch table for both kinds of devices: each routine looks which kind it is called for."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE):
        driver.major_function[major] = open_or_close
    driver.major_function[IrpMajor.DEVICE_CONTROL] = device_control
    driver.major_function[IrpMajor.PNP] = pnp
    driver.major_function[IrpMajor.POWER] = power
    driver.major_function[IrpMajor.SYSTEM_CONTROL] = system_control
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice: the bus itself. It has no name; applications find it by its interface."""
    bus = Bus(driver)
    device = driver.io.create_device(driver, bus, None, FILE_DEVICE_BUS_EXTENDER)
    bus.remove_lock = RemoveLock(driver.ke, device)
    bus.physical = physical
    bus.interface = driver.io.register_device_interface(physical, public.GUID_BUSENUM_TOASTER)
    bus.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= DO_BUFFERED_IO
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


# -- what applications ask of the bus ----------------------------------------------------------------------------------


def open_or_close(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine: the bus can be opened. A toaster without a function driver cannot."""
    known = isinstance(device.extension, Bus)
    return complete(device, irp, STATUS_SUCCESS if known else STATUS_INVALID_DEVICE_REQUEST)


def device_control(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine: a toaster is plugged in, pulled out, or its eject button is pressed."""
    bus = device.extension
    if not isinstance(bus, Bus):
        return complete(device, irp, STATUS_INVALID_DEVICE_REQUEST)
    if not (status := bus.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    arguments = irp.current_stack_location.parameters.device_io_control
    data = bytes(irp.system_buffer or b"")[: arguments.input_buffer_length]
    if len(data) < public.PLUGIN.size:
        status = STATUS_INVALID_PARAMETER
    else:
        size, serial = public.PLUGIN.unpack_from(data)
        if size != public.PLUGIN.size:
            status = STATUS_INVALID_PARAMETER
        elif arguments.io_control_code == public.IOCTL_PLUGIN_HARDWARE:
            status = plug_in(device, serial, data[size:])
        elif arguments.io_control_code == public.IOCTL_UNPLUG_HARDWARE:
            status = unplug(device, serial)
        elif arguments.io_control_code == public.IOCTL_EJECT_HARDWARE:
            status = eject(device, serial)
        else:
            status = STATUS_INVALID_DEVICE_REQUEST
    status = complete(device, irp, status)
    bus.remove_lock.release(irp)
    return status


def plug_in(device: DeviceObject[Bus], serial: int, ids: bytes) -> NtStatus:
    """Somebody plugs a toaster in."""
    bus = device.extension
    try:
        hardware_ids = [one for one in ids.decode("utf-16-le").split("\0") if one]
    except UnicodeDecodeError:
        return STATUS_INVALID_PARAMETER
    if not serial or not hardware_ids:
        return STATUS_INVALID_PARAMETER
    driver = device.driver_object
    # A fast mutex raises to APC_LEVEL, and devices are made at PASSIVE_LEVEL. So the PDO is made first, and it may be in vain.
    child = driver.io.create_device(driver, Child(device, serial, hardware_ids), None, FILE_DEVICE_BUS_EXTENDER)
    child.flags |= DO_BUS_ENUMERATED_DEVICE
    child.flags &= ~DO_DEVICE_INITIALIZING
    with bus.mutex:
        taken = bus.children.setdefault(serial, child) is not child
    if taken:
        driver.io.delete_device(child)
        return STATUS_INVALID_PARAMETER
    driver.io.invalidate_device_relations(bus.physical, RelationType.BUS)
    return STATUS_SUCCESS


def unplug(device: DeviceObject[Bus], serial: int) -> NtStatus:
    """Somebody pulls a toaster out, without asking; 0: all of them."""
    bus = device.extension
    with bus.mutex:
        serials = [serial] if serial else list(bus.children)
        if any(one not in bus.children for one in serials):
            return STATUS_INVALID_PARAMETER
        bus.pulled += [bus.children.pop(one) for one in serials]
    device.io.invalidate_device_relations(bus.physical, RelationType.BUS)
    return STATUS_SUCCESS


def eject(device: DeviceObject[Bus], serial: int) -> NtStatus:
    """Somebody presses the eject button: the drivers are asked, and IRP_MN_EJECT follows if they agree. 0: all buttons."""
    bus = device.extension
    with bus.mutex:
        children = [child for one, child in bus.children.items() if serial in (0, one)]
    if serial and not children:
        return STATUS_INVALID_PARAMETER
    for child in children:
        device.io.request_device_eject(child)
    return STATUS_SUCCESS


# -- Plug and Play: the bus --------------------------------------------------------------------------------------------


def pnp(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine."""
    return child_pnp(device, irp) if isinstance(device.extension, Child) else bus_pnp(device, irp)


def bus_pnp(device: DeviceObject[Bus], irp: Irp) -> NtStatus:
    """The bus is a function driver of the device that it stands on: what it does not know it passes on untouched."""
    bus, location = device.extension, irp.current_stack_location
    if not (status := bus.remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    minor = location.minor_function
    if minor == PnpMinor.START_DEVICE:
        status = device.io.forward_and_wait(bus.lower, irp)
        if status.is_success:
            device.io.set_device_interface_state(bus.interface, True)
        complete(device, irp, status)
        bus.remove_lock.release(irp)
        return status
    if minor == PnpMinor.QUERY_DEVICE_RELATIONS and location.parameters.query_device_relations.type == RelationType.BUS:
        irp.io_status.information = report(device)
        irp.io_status.status = STATUS_SUCCESS
    elif minor in AGREES:
        irp.io_status.status = STATUS_SUCCESS
    if minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
        device.io.set_device_interface_state(bus.interface, False)
    irp.skip_current_stack_location()
    status = device.io.call_driver(bus.lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        bus.remove_lock.release_and_wait(irp)
        delete_children(device)
        device.io.detach_device(bus.lower)
        device.io.delete_device(device)
    else:
        bus.remove_lock.release(irp)
    return status


def report(device: DeviceObject[Bus]) -> list[DeviceObject[Any]]:
    """The children that there are, each with a reference for who has asked. From now on the manager knows what is missing."""
    bus = device.extension
    with bus.mutex:
        for child in bus.pulled:
            child.extension.reported_missing = True
        return [device.io.reference_object(child) for child in bus.children.values()]


def delete_children(device: DeviceObject[Bus]) -> None:
    """The bus goes, and no toaster has a driver any more."""
    bus = device.extension
    with bus.mutex:
        children = [*bus.children.values(), *bus.pulled]
        bus.children.clear()
        bus.pulled.clear()
    for child in children:
        device.io.delete_device(child)


# -- Plug and Play: a toaster's PDO ------------------------------------------------------------------------------------


def child_pnp(device: DeviceObject[Child], irp: Irp) -> NtStatus:
    """The bus driver completes every request of its PDOs. The status of those that it does not know stays as it came."""
    child, location = device.extension, irp.current_stack_location
    minor = location.minor_function
    answer: Any = irp.io_status.information
    known = minor in AGREES or minor == PnpMinor.START_DEVICE
    if minor == PnpMinor.QUERY_ID:
        answer = ids(child, location.parameters.query_id.id_type)
        known = answer is not None
    elif minor == PnpMinor.QUERY_DEVICE_TEXT:
        text = location.parameters.query_device_text.device_text_type
        answer = (
            f"Toaster {child.serial}" if text == TextType.DESCRIPTION else f"slot {child.serial} of the toaster bus"
        )
        known = True
    elif minor == PnpMinor.QUERY_CAPABILITIES:
        capabilities = location.parameters.device_capabilities.capabilities
        capabilities.removable = capabilities.eject_supported = capabilities.surprise_removal_ok = True
        capabilities.unique_id = True
        capabilities.device_d1 = capabilities.wake_from_d1 = True
        capabilities.device_wake = DevicePowerState.D1
        capabilities.device_state.update(POWER)
        capabilities.address = capabilities.ui_number = child.serial
        known = True
    elif minor == PnpMinor.QUERY_DEVICE_RELATIONS:
        known = location.parameters.query_device_relations.type == RelationType.TARGET_DEVICE
        answer = [device.io.reference_object(device)] if known else answer
    elif minor == PnpMinor.EJECT:
        known = unplug(child.bus, child.serial).is_success
    status = complete(device, irp, STATUS_SUCCESS if known else irp.io_status.status, answer)
    if minor == PnpMinor.REMOVE_DEVICE and child.reported_missing:
        bus = child.bus.extension
        with bus.mutex:
            bus.pulled.remove(device)
        device.io.delete_device(device)
    return status


def ids(child: Child, kind: IdType) -> str | list[str] | None:
    """What a toaster is called: the first hardware id is that of the device itself."""
    if kind == IdType.DEVICE_ID:
        return child.hardware_ids[0]
    if kind == IdType.HARDWARE_IDS:
        return child.hardware_ids
    return str(child.serial) if kind == IdType.INSTANCE_ID else None


# -- power and WMI -----------------------------------------------------------------------------------------------------


def power(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine: the bus passes it on; a PDO, which has no switch, agrees."""
    if isinstance(device.extension, Child):
        knows = irp.current_stack_location.minor_function in (PowerMinor.SET_POWER, PowerMinor.QUERY_POWER)
        return complete(device, irp, STATUS_SUCCESS if knows else irp.io_status.status)
    irp.skip_current_stack_location()
    return device.po.call_driver(device.extension.lower, irp)


def system_control(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Dispatch routine: neither the bus nor a PDO publishes anything."""
    if isinstance(device.extension, Child):
        return complete(device, irp, irp.io_status.status, irp.io_status.information)
    irp.skip_current_stack_location()
    return device.io.call_driver(device.extension.lower, irp)
