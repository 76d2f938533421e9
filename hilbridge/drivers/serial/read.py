"""IRP_MJ_READ: when a read ends, and with how much.

A read ends by one of: its `terminator` (ours), its `minimum` (ours), the SERIAL_TIMEOUTS table (ntddser.h, "SERIAL_TIMEOUTS
structure"), the removal of the device. Until it ends it has taken nothing from the receive log.
"""

from __future__ import annotations

from functools import partial

from hilbridge.drivers.serial.extension import Reader, SerialExtension
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import relative_ms
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DataLost, DriverFault
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.ntddser import MAXULONG
from hilbridge.model.parameters import ReadParameters
from hilbridge.model.status import (
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_DATA_OVERRUN,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_TIMEOUT,
    NtStatus,
)

SHORTEST_MS = 0.0001
"""One unit of KeSetTimerEx: a shorter wait would be none, and the timer would expire for ever without time passing."""


def read(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine. Completes at once what the log can satisfy, else queues the read on its reader's queue."""
    extension = device.extension
    location = irp.current_stack_location
    reader = extension.reader_of(location.file_object)
    if reader is None:
        return _complete_now(device, irp, STATUS_INVALID_DEVICE_REQUEST)
    if location.parameters.read.length == 0:
        return _complete_now(device, irp, STATUS_SUCCESS)
    with extension.lock:
        extension.reads_wait = True  # before the look into the inbox: see `isr`
        extension.absorb()
        first = reader.started is None and not reader.queue.irps
        status: NtStatus | None = None
        queued = False
        if first:
            _begin(extension, reader, irp)
            status = _try_to_end(extension, reader, irp)
            if status is not None:
                _stopped(extension, reader)
                extension.trim()
                extension.watch_receiver()
                extension.reads_wait = any(r.queue.irps for r in extension.readers) or extension.rx_watched
        if status is None:
            queued = reader.queue.insert_locked(irp)
            if first and queued:
                _arm(device, reader)
                extension.watch_receiver()
            elif first:
                _stopped(extension, reader)
    if status is not None:
        device.io.complete_request(irp)
        return status
    if not queued:
        # Cancelled before it got here. It has been marked pending by now, so PENDING is what this routine returns.
        _nothing(irp, STATUS_CANCELLED)
        device.io.complete_request(irp)
    return STATUS_PENDING


def fast_read(
    device: DeviceObject[SerialExtension], file: FileObject, length: int, minimum: int, terminator: bytes
) -> bytes | None:
    """Fast I/O: a read that can end with what has arrived already. Nothing may be waiting before it."""
    extension = device.extension
    reader: Reader | None = file.fs_context
    if reader is None or (not extension.inbox and reader.cursor == extension.log.end):
        return None
    with extension.lock:
        if reader.queue.irps or reader.missed or file.fs_context is None:
            return None
        log, inbox, cursor = extension.log, extension.inbox, reader.cursor
        alone = len(extension.readers) == 1
        if alone and log.base == log.end and len(inbox) == 1 and not terminator and not extension.watched:
            # The commonest case by far: one piece has arrived, it is what was asked for, and nobody else wants it.
            count = len(inbox[0])
            if count == length or 0 < minimum <= count <= length:
                data = inbox.popleft()
                log.pass_by(count)
                reader.cursor = cursor + count
                return data
        extension.absorb()
        available = log.end - cursor
        if terminator:
            count = log.find(terminator, cursor, cursor + (min(length, available))) - cursor
        elif available >= length:
            count = length
        else:
            count = available if 0 < minimum <= available else 0
        if count <= 0:
            return None
        data = log.peek(cursor, count)
        reader.cursor = cursor = cursor + count
        if alone:
            log.trim(cursor)
        else:
            extension.trim()
        if not extension.rx_on:
            extension.watch_receiver()
        return data


def _complete_now(device: DeviceObject[SerialExtension], irp: Irp, status: NtStatus) -> NtStatus:
    irp.io_status.status = status
    irp.io_status.information = 0
    device.io.complete_request(irp)
    return status


def _nothing(irp: Irp, status: NtStatus) -> NtStatus:
    irp.io_status.status = status
    irp.io_status.information = 0
    return status


def new_queue(device: DeviceObject[SerialExtension], reader: Reader) -> CancelSafeQueue:
    """The cancel-safe queue of one reader's reads."""
    return CancelSafeQueue(device.io, device.extension.lock, partial(_read_cancelled, device, reader))


# -- starting and ending a read; the lock is held -----------------------------------------------------------------------


def _begin(extension: SerialExtension, reader: Reader, irp: Irp) -> None:
    """The read has become the oldest one: now its time-outs are sampled and begin to run."""
    parameters = irp.current_stack_location.parameters.read
    timeouts = reader.timeouts = extension.timeouts
    reader.started = irp
    reader.started_at = extension.log.end
    reader.scanned = reader.cursor
    reader.limit = parameters.length
    if (
        not parameters.minimum
        and timeouts.read_interval_timeout == MAXULONG
        and timeouts.read_total_timeout_multiplier == MAXULONG
        and timeouts.read_total_timeout_constant != MAXULONG
    ):
        reader.limit = 1


def _try_to_end(extension: SerialExtension, reader: Reader, irp: Irp) -> NtStatus | None:
    """End the read if it can end now: fill in its status, take its bytes. None: it goes on waiting."""
    log = extension.log
    available = log.end - reader.cursor
    parameters = irp.current_stack_location.parameters.read
    length = parameters.length
    if reader.missed:
        lost = DataLost(f"this reader fell behind the others, and {reader.missed} bytes were dropped for it")
        lost.information, reader.missed = reader.missed, 0
        extension.device.io.write_error_log_entry(irp, lost)
        return _nothing(irp, STATUS_DATA_OVERRUN)
    if parameters.terminator:
        terminator = parameters.terminator
        end = log.find(terminator, reader.scanned, reader.cursor + min(available, length))
        if end >= 0:
            return take(extension, reader, irp, end - reader.cursor, STATUS_SUCCESS)
        reader.scanned = max(reader.cursor, log.end - len(terminator) + 1)
        if available >= length:
            return take(extension, reader, irp, length, STATUS_BUFFER_OVERFLOW)
    elif available >= length or 0 < parameters.minimum <= available:
        return take(extension, reader, irp, min(available, length), STATUS_SUCCESS)
    elif not parameters.minimum and reader.timeouts.read_interval_timeout == MAXULONG:
        timeouts = reader.timeouts
        if not timeouts.read_total_timeout_multiplier and not timeouts.read_total_timeout_constant:
            return take(extension, reader, irp, available, STATUS_SUCCESS)
        # "If one byte or more is there": at the start everything that is; later, as many as the case waits for.
        enough = reader.started_at > reader.cursor or available >= reader.limit
        if available and enough and timeouts.read_total_timeout_constant != MAXULONG:
            wanted = length if reader.started_at > reader.cursor else reader.limit
            return take(extension, reader, irp, min(available, wanted), STATUS_SUCCESS)
    if extension.gone is not None:
        # What the device said before it went is delivered before the news that it went.
        if available:
            return take(extension, reader, irp, min(available, length), STATUS_SUCCESS)
        return _nothing(irp, extension.gone.status if extension.gone.status.is_error else STATUS_DEVICE_NOT_CONNECTED)
    return None


def take(extension: SerialExtension, reader: Reader, irp: Irp, count: int, status: NtStatus) -> NtStatus:
    """Copy `count` bytes into the IRP and move the reader's cursor."""
    if count:
        buffer = irp.system_buffer
        if buffer is None:
            raise DriverFault("a read of a buffered device came without a system buffer")
        extension.log.copy_into(reader.cursor, count, buffer)
        reader.cursor += count
    irp.io_status.status = status
    irp.io_status.information = count
    return status


def _arm(device: DeviceObject[SerialExtension], reader: Reader) -> None:
    """Start the timers of the started read, if SERIAL_TIMEOUTS gives it any."""
    timeouts = reader.timeouts
    irp = reader.started
    if not any(timeouts[:3]) or irp is None:
        return
    parameters: ReadParameters = irp.current_stack_location.parameters.read
    if parameters.minimum or parameters.terminator:
        return
    interval, multiplier, constant = timeouts[:3]
    if interval == MAXULONG:
        total = (
            0
            if constant == MAXULONG
            else constant
            if multiplier == MAXULONG
            else parameters.length * multiplier + constant
        )
        reader.interval_ms = 0
    else:
        total = parameters.length * multiplier + constant
        reader.interval_ms = interval
    if total:
        reader.total_armed = True
        device.ke.set_timer(reader.total_timer, relative_ms(total), dpc=Kdpc(_total_timeout, reader, device))
    watch_interval(device, reader)


def watch_interval(device: DeviceObject[SerialExtension], reader: Reader) -> None:
    """Start the interval timer once the started read has its first byte."""
    extension = device.extension
    if reader.interval_ms and not reader.interval_armed and extension.log.end > reader.cursor:
        reader.interval_armed = True
        device.ke.set_timer(
            reader.interval_timer, relative_ms(reader.interval_ms), dpc=Kdpc(_interval_timeout, reader, device)
        )


def _stopped(extension: SerialExtension, reader: Reader) -> None:
    """The started read is over."""
    reader.started = None
    reader.limit = 0
    reader.interval_ms = 0
    timers = extension.device.ke
    if reader.total_armed:
        reader.total_armed = False
        timers.cancel_timer(reader.total_timer)
    if reader.interval_armed:
        reader.interval_armed = False
        timers.cancel_timer(reader.interval_timer)


def serve_readers(device: DeviceObject[SerialExtension]) -> list[Irp]:
    """End every read that can end now, oldest first, and start the next. Hold the lock; complete the result without it."""
    extension = device.extension
    done: list[Irp] = []
    for reader in extension.readers:
        while (irp := reader.queue.head_locked()) is not None:
            fresh = irp is not reader.started
            if fresh:
                if reader.started is not None:
                    _stopped(extension, reader)
                _begin(extension, reader, irp)
                device.io.irp_started(device, irp)
            if not _can_be_taken(extension, reader, irp, done):
                if fresh:
                    _arm(device, reader)
                else:
                    watch_interval(device, reader)
                break
        else:
            if reader.started is not None:
                # Somebody took it out of the queue: a purge, a cleanup, a cancellation. Its time-outs go with it, and the
                # next read is the first one again.
                _stopped(extension, reader)
    extension.trim()
    extension.watch_receiver()
    extension.reads_wait = any(reader.queue.irps for reader in extension.readers) or extension.rx_watched
    return done


def _can_be_taken(extension: SerialExtension, reader: Reader, irp: Irp, done: list[Irp]) -> bool:
    """End one read, if it can end; False if it goes on waiting.

    The read's bytes are taken *before* it is taken out of its queue. If a cancellation was faster, the cursor goes back to
    where it was: the lock is held, so nobody has seen it move.
    """
    cursor, missed = reader.cursor, reader.missed
    if _try_to_end(extension, reader, irp) is None:
        return False
    if reader.queue.remove_locked(irp):
        done.append(irp)
    else:
        reader.cursor, reader.missed = cursor, missed
    _stopped(extension, reader)
    return True


# -- how a read can end before its bytes are there -----------------------------------------------------------------------


def complete_all(device: DeviceObject[SerialExtension], irps: list[Irp]) -> None:
    """Complete, in order, without any lock."""
    for irp in irps:
        device.io.complete_request(irp)


def _read_cancelled(device: DeviceObject[SerialExtension], reader: Reader, irp: Irp) -> None:
    """A cancellation has taken the read out of its queue: STATUS_CANCELLED, Information 0; its bytes stay in the log."""
    extension = device.extension
    with extension.lock:
        if reader.started is irp:
            _stopped(extension, reader)
        extension.absorb()
        done = serve_readers(device)
    _nothing(irp, STATUS_CANCELLED)
    device.io.complete_request(irp)
    complete_all(device, done)


def _total_timeout(dpc: Kdpc, reader: Reader, _a: object, _b: object) -> None:
    """DPC of the total timer. It may be late: queued for a read that has ended since. Then the timer is not signaled."""
    _expire(dpc, reader, lambda: reader.total_armed and reader.total_timer.signaled)


def _interval_timeout(dpc: Kdpc, reader: Reader, _a: object, _b: object) -> None:
    """DPC of the interval timer: the gap is counted from the last arrival."""
    device: DeviceObject[SerialExtension] | None = dpc.device
    if device is None:
        return
    extension = device.extension
    with extension.lock:
        extension.absorb()
        gap_ms = (device.ke.clock.now() - extension.last_rx) / 1e6
        if reader.interval_armed and reader.interval_timer.signaled and gap_ms < reader.interval_ms:
            device.ke.set_timer(
                reader.interval_timer, relative_ms(max(reader.interval_ms - gap_ms, SHORTEST_MS)), dpc=dpc
            )
            return
    _expire(dpc, reader, lambda: reader.interval_armed and reader.interval_timer.signaled)


def _expire(dpc: Kdpc, reader: Reader, still_due: object) -> None:
    """The started read has run out of time: STATUS_TIMEOUT with what there is (Win32 calls that success)."""
    device: DeviceObject[SerialExtension] | None = dpc.device
    if device is None or not callable(still_due):
        return
    extension = device.extension
    done: list[Irp] = []
    with extension.lock:
        extension.absorb()
        irp = reader.started
        if irp is None or not still_due():
            return
        done = serve_readers(device)
        if reader.started is irp and reader.queue.remove_locked(irp):
            length = irp.current_stack_location.parameters.read.length
            take(extension, reader, irp, min(extension.log.end - reader.cursor, length), STATUS_TIMEOUT)
            _stopped(extension, reader)
            done.append(irp)
            done += serve_readers(device)
    complete_all(device, done)
