r"""How do I tell an application that something has happened? By the end of a request, or by an event.

After Microsoft's sample ``general/event``. IOCTL_REGISTER_EVENT asks to be told when some time is over. IRP_BASED: then the
request ends, which is pending until then; EVENT_BASED: it ends at once, and an event is set then. A pending request can be
cancelled, by a cancel routine that is written by hand. In the race of DPC, cancellation and CLEANUP who gets that
routine ends the IRP; and the record is freed by who comes to it last, which may be a DPC or a cancel routine on its way.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer
from hilbridge.model.codes import DO_DEVICE_INITIALIZING, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)

IOCTL_REGISTER_EVENT = 0x0022_2000  # METHOD_BUFFERED
REGISTER = struct.Struct("<I4xQq")  # Type, hEvent, and DueTime as in KeSetTimer: units of 100 ns, negative from now
IRP_BASED, EVENT_BASED = 0, 1


class Record:
    """NOTIFY_RECORD: one registration. Guarded by the device's lock."""

    def __init__(
        self, device: DeviceObject[Extension], file: FileObject, irp: Irp | None, event: Kevent | None
    ) -> None:
        self.device = device
        self.file = file
        self.irp = irp  # None if it is about an event, and when somebody has taken the IRP to end it
        self.event = event
        self.timer = Ktimer()
        self.dpc = Kdpc(time_is_over, self, device)
        self.dpc_ran = False  # it has found a cancellation at work, and left the record to that


class Extension:
    """What the driver remembers of its device. `lock` guards all but `handles`."""

    def __init__(self, driver: DriverObject) -> None:
        self.lower: DeviceObject[Any]
        self.lock = driver.ke.spin_lock()
        self.records: list[Record] = []  # those that are not freed, oldest first
        self.gone = False
        self.handles: dict[
            int, Kevent
        ] = {}  # a process of Windows has such a table: put an event in here to register it


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in (IrpMajor.CREATE, IrpMajor.CLOSE):
        driver.major_function[major] = lambda device, irp: complete(device, irp, STATUS_SUCCESS)
    driver.major_function[IrpMajor.CLEANUP] = cleanup
    driver.major_function[IrpMajor.DEVICE_CONTROL] = register
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice."""
    device = driver.io.create_device(driver, Extension(driver), r"\Device\Event_Sample")
    device.extension.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def complete(device: DeviceObject[Any], irp: Irp, status: NtStatus) -> NtStatus:
    """Complete, and return the same status."""
    irp.io_status.status = status
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return status


def register(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine of IRP_MJ_DEVICE_CONTROL."""
    extension, location = device.extension, irp.current_stack_location
    control, file = location.parameters.device_io_control, location.file_object
    assert file is not None
    if control.io_control_code != IOCTL_REGISTER_EVENT:
        return complete(device, irp, STATUS_INVALID_DEVICE_REQUEST)
    kind, handle, due, event = -1, 0, 0, None
    if control.input_buffer_length >= REGISTER.size and irp.system_buffer is not None:
        kind, handle, due = REGISTER.unpack_from(irp.system_buffer)
    if kind not in (IRP_BASED, EVENT_BASED):
        return complete(device, irp, STATUS_INVALID_PARAMETER)
    if kind == EVENT_BASED:
        try:
            event = device.io.reference_object_by_handle(extension.handles.get(handle), Kevent)
        except NtStatusError as error:
            return complete(device, irp, error.status)
    record, status = Record(device, file, irp if event is None else None, event), STATUS_SUCCESS
    with extension.lock:
        if extension.gone or file.fs_context:
            status = STATUS_DELETE_PENDING
        elif event is None:
            irp.set_cancel_routine(cancel)
            # A cancellation that came before found no routine: look. One that has it by now waits for our lock.
            if irp.cancel and irp.set_cancel_routine(None) is not None:
                status = STATUS_CANCELLED
            else:
                irp.mark_pending()
                irp.driver_context[3] = record
                status = STATUS_PENDING
        if status.is_success:
            extension.records.append(record)
            device.ke.set_timer(record.timer, due, dpc=record.dpc)
    if event is not None and not status.is_success:
        device.io.dereference_object(event)
    return status if status == STATUS_PENDING else complete(device, irp, status)


def time_is_over(_dpc: Kdpc, record: Record, _argument1: Any, _argument2: Any) -> None:
    """The timer's DPC, at DISPATCH_LEVEL."""
    device = record.device
    with device.extension.lock:
        irp = record.irp
        if irp is not None and irp.set_cancel_routine(None) is None:
            record.dpc_ran = True  # a cancellation has it, and waits for this lock
            return
        device.extension.records.remove(record)
    if irp is not None:
        complete(device, irp, STATUS_SUCCESS)
    if record.event is not None:
        device.ke.set_event(record.event)
        device.io.dereference_object(record.event)


def cancel(device: DeviceObject[Any] | None, irp: Irp) -> None:
    """The cancel routine. It has been taken from the IRP: nobody else ends that any more."""
    assert device is not None
    device.io.release_cancel_spin_lock(device)  # before the next lock is taken
    with device.extension.lock:
        record: Record = irp.driver_context[3]
        record.irp = None
        if device.ke.cancel_timer(record.timer) or record.dpc_ran:
            device.extension.records.remove(record)  # else the DPC is on its way, finds no IRP, and does that
    complete(device, irp, STATUS_CANCELLED)


def end_records(device: DeviceObject[Extension], file: FileObject | None, status: NtStatus) -> None:
    """End the registrations of this file, or, with None, all; from now on there are no new ones."""
    extension, irps = device.extension, list[Irp]()
    with extension.lock:
        if file is None:
            extension.gone = True
        else:
            file.fs_context = True
        for record in [one for one in extension.records if file in (None, one.file)]:
            if record.irp is not None:
                if record.irp.set_cancel_routine(None) is None:
                    continue  # a cancellation has it
                irps.append(record.irp)
                record.irp = None
            if device.ke.cancel_timer(record.timer):
                extension.records.remove(record)  # else, as above, the DPC does that; an event is still set by it
                if record.event is not None:
                    device.io.dereference_object(record.event)
    for irp in irps:  # never complete a request under a lock of your own
        complete(device, irp, status)


def cleanup(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine: the last handle of a file is closed."""
    end_records(device, irp.current_stack_location.file_object, STATUS_CANCELLED)
    return complete(device, irp, STATUS_SUCCESS)


def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine. The device below has the last word on START_DEVICE."""
    lower, minor = device.extension.lower, irp.current_stack_location.minor_function
    if minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
        end_records(device, None, STATUS_DELETE_PENDING)
    if minor in CHANGES_STATE:  # a clock needs no hardware: it may be stopped, and goes on all the same
        irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(lower)
        device.io.delete_device(device)
    return status
