"""SET_WAIT_MASK, GET_WAIT_MASK, WAIT_ON_MASK. What they wait for is in ``events.py``."""

from __future__ import annotations

from hilbridge.drivers.serial.control import Answer, Request
from hilbridge.drivers.serial.events import (
    MODEM_EVENTS,
    RECEIVE_EVENTS,
    Watch,
    end_wait,
    look_at_modem_lines,
    unsent,
    update,
    watch_of,
)
from hilbridge.drivers.serial.read import complete_all
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_CANCELLED, STATUS_INVALID_PARAMETER, STATUS_SUCCESS


def set_wait_mask(request: Request) -> Answer:
    """IOCTL_SERIAL_SET_WAIT_MASK. A wait of this handle ends, with mask 0; of its history what is in the new mask stays."""
    mask = ser.unpack_ulong(request.data)
    if mask & ~ser.SERIAL_EV_ALL:
        return STATUS_INVALID_PARAMETER
    device, extension = request.device, request.extension
    with extension.lock:
        watch = watch_of(extension, request.file)
        if watch is None:
            watch = Watch(device, request.file)
            extension.waits.watches.append(watch)
        # What has happened by now has happened under the old mask.
        if mask & RECEIVE_EVENTS:
            extension.reads_wait = True  # before the look into the inbox: see `isr`
        extension.absorb()
        if not extension.watched & MODEM_EVENTS:
            extension.waits.modem_seen = None
            extension.waits.modem_inbox.clear()
        if (mask | extension.watched) & MODEM_EVENTS:
            look_at_modem_lines(extension)
        done = end_wait(watch)
        watch.mask = mask
        watch.history &= mask
        update(extension)
        if mask & ser.SERIAL_EV_TXEMPTY and (extension.tx_queue.irps or unsent(extension)):
            extension.waits.tx_drains = True
            device.ke.insert_queue_dpc(extension.event_dpc)
    complete_all(device, done)
    return STATUS_SUCCESS


def get_wait_mask(request: Request) -> Answer:
    """IOCTL_SERIAL_GET_WAIT_MASK."""
    with request.extension.lock:
        watch = watch_of(request.extension, request.file)
        return ser.pack_ulong(watch.mask if watch is not None else 0)


def wait_on_mask(request: Request) -> Answer:
    """IOCTL_SERIAL_WAIT_ON_MASK. Ends at once if something has happened since the last one."""
    device, extension, irp = request.device, request.extension, request.irp
    with extension.lock:
        watch = watch_of(extension, request.file)
        if watch is None or not watch.mask:
            return STATUS_INVALID_PARAMETER
        if watch.mask & RECEIVE_EVENTS:
            extension.absorb()
        if watch.mask & MODEM_EVENTS:
            look_at_modem_lines(extension)
        # An earlier wait that something has satisfied, and which only has not been told yet, is over.
        done = end_wait(watch) if watch.history else []
        ended: Answer = None
        if watch.queue.head_locked() is not None:
            ended = STATUS_INVALID_PARAMETER
        elif watch.history:  # nobody waited
            ended = ser.pack_ulong(watch.told())
        elif extension.gone is not None:
            ended = extension.gone.status
        elif not watch.queue.insert_locked(irp):
            irp.io_status.status = STATUS_CANCELLED
            irp.io_status.information = 0
            done.append(irp)
        elif watch.mask & MODEM_EVENTS:
            device.ke.insert_queue_dpc(extension.event_dpc)
    complete_all(device, done)
    return ended
