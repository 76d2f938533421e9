"""IRP_MJ_CREATE, IRP_MJ_CLEANUP and IRP_MJ_CLOSE: who shares the port, and what a closed handle leaves behind.

Sharing goes by one rule: one writer, and any number of readers, each with a cursor of its own.
"""

from __future__ import annotations

from hilbridge.drivers.serial.events import forget
from hilbridge.drivers.serial.extension import Reader, SerialExtension
from hilbridge.drivers.serial.read import complete_all, new_queue, serve_readers
from hilbridge.drivers.serial.reset import withdraw_all
from hilbridge.drivers.serial.write import advance
from hilbridge.model.codes import FILE_READ_DATA, FILE_WRITE_DATA
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import PnpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_SHARING_VIOLATION,
    STATUS_SUCCESS,
    NtStatus,
)


def create(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine. A second writer is refused with STATUS_SHARING_VIOLATION.

    A stopped device is opened at once: that needs no hardware, and what is then asked of it waits. One that has agreed to be
    removed is not opened any more.
    """
    extension = device.extension
    location = irp.current_stack_location
    file = location.file_object
    access = location.parameters.create.desired_access
    status = STATUS_SUCCESS
    with extension.lock:
        if extension.life.state is PnpState.REMOVE_PENDING:
            status = STATUS_DELETE_PENDING
        elif extension.gone is not None or not extension.serving:
            status = STATUS_DEVICE_NOT_CONNECTED
        elif access & FILE_WRITE_DATA and extension.writer is not None:
            status = STATUS_SHARING_VIOLATION
        elif file is not None:
            if access & FILE_WRITE_DATA:
                extension.writer = file
            if access & FILE_READ_DATA:
                # The first reader gets what came before it; one that joins others hears what comes from now on.
                extension.absorb()
                reader = Reader(file, extension.log.end if extension.readers else extension.log.base)
                reader.queue = new_queue(device, reader)
                file.fs_context = reader
                extension.readers.append(reader)
                extension.watch_receiver()
    irp.io_status.status = status
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return status


def cleanup(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine: ends this open's queued requests with STATUS_CANCELLED, and nobody else's."""
    extension = device.extension
    file = irp.current_stack_location.file_object
    cancelled: list[Irp] = []
    with extension.lock:
        reader = extension.reader_of(file)
        if reader is not None:
            while (read := reader.queue.remove_next_locked()) is not None:
                read.io_status.information = 0
                cancelled.append(read)
        while (sent := extension.tx_queue.remove_next_locked(lambda queued: queued.file_object is file)) is not None:
            sent.io_status.information = sent.driver_context[0] or 0
            cancelled.append(sent)
        cancelled += forget(extension, file)
        done = serve_readers(device)
    cancelled = withdraw_all(device, cancelled)
    for queued in cancelled:
        queued.io_status.status = STATUS_CANCELLED
    extension.hold.cleanup(file)
    complete_all(device, cancelled + done + advance(device))
    irp.io_status.status = STATUS_SUCCESS
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return STATUS_SUCCESS


def close(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine: the reader's cursor goes; what it has not read stays for who opens the port next."""
    extension = device.extension
    file = irp.current_stack_location.file_object
    with extension.lock:
        reader = extension.reader_of(file)
        if file is not None:
            file.fs_context = None  # a fast read that was on its way when the handle was closed must not take bytes now
        if reader is not None and reader in extension.readers:
            extension.readers.remove(reader)
            extension.trim()
            extension.watch_receiver()
        if extension.writer is file:
            extension.writer = None
        forget(extension, file)  # a mask that was set by a request that was on its way
    irp.io_status.status = STATUS_SUCCESS
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return STATUS_SUCCESS
