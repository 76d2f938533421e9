"""The transmit queue: IRP_MJ_WRITE, IRP_MJ_FLUSH_BUFFERS, and settings that must not overtake data.

All three wait in one queue, in the order of their arrival. A write is sent as far as the line accepts it; what is left
goes out when the line interrupts because it has room again. A flush, and a change of the baud rate or the format, waits
until the line has sent everything, which no line can announce: the driver looks again after the time that the bytes need.

While the device is stopped or asleep they wait in the same queue, and their time-outs run: SERIAL_TIMEOUTS are a promise to
the caller, who does not know that the port is lent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hilbridge.drivers.serial.extension import TX_POWER, TX_SETTING, TX_STOP, SerialExtension
from hilbridge.drivers.serial.receive import take_rest
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import relative_ms
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceGone, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.ntddser import SERIAL_EV_TXEMPTY
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_TIMEOUT,
    NtStatus,
)

SENT = 0
"""Index in ``irp.driver_context``: how many bytes of a write the line has accepted."""
APPLY = 1
"""Index in ``irp.driver_context``: the function that carries out a setting, and returns the status. A flush has none.

One that returns `STATUS_PENDING` sees to the rest itself: TX_SETTING stays set until it clears it, and it ends the IRP. So does
`hilbridge.drivers.serial.reset`."""
OUTCOME = 2
"""Index in ``irp.driver_context``: what that function returned; `STATUS_PENDING` while it is at work."""


def write(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine. Sends at once what the line accepts, if nothing is queued before it."""
    extension = device.extension
    data = irp.system_buffer
    if data is None:
        return _end(device, irp, STATUS_INVALID_DEVICE_REQUEST, 0)
    irp.driver_context[SENT] = 0
    status: NtStatus | None = None
    with extension.lock:
        if not extension.tx_queue.irps and not extension.tx_held:
            if extension.gone is not None:
                status = extension.gone.status
            else:
                status = _send(extension, irp, data)
            if status is not None:
                irp.io_status.status = status
                irp.io_status.information = irp.driver_context[SENT]
        queued = status is not None or _enqueue(device, irp)
    if status is not None:
        device.io.complete_request(irp)
        return status
    if not queued:
        _end(device, irp, STATUS_CANCELLED, irp.driver_context[SENT])
    return STATUS_PENDING


def fast_write(
    device: DeviceObject[SerialExtension],
    file: FileObject,
    data: bytes | bytearray | memoryview,
    make_irp: Callable[[bytes | bytearray | memoryview], Irp],
) -> int | Irp | None:
    """Fast I/O: a write that the line accepts at once, with nothing queued before it. The rest of one that it accepts in
    part becomes an IRP while the lock is still held, so that no other write can come in between.
    """
    extension = device.extension
    with extension.lock:
        if extension.tx_queue.irps or extension.tx_held:
            return None
        line = extension.line  # under the lock: another one may be in its place after a stop
        if extension.gone is not None or line is None or extension.writer is not file:
            return None
        try:
            count = line.write(data)
        except HilbridgeError:
            return None  # the IRP will find out again, and tell
        if extension.watched & SERIAL_EV_TXEMPTY:
            _sent_something(extension)
        if count == len(data):
            return count
        try:
            irp = make_irp(data)
        except NtStatusError as error:  # the handle was closed just now; the line has got a part all the same
            error.information = count
            raise
        irp.driver_context[SENT] = count
        queued = _enqueue(device, irp)
    if not queued:
        _end(device, irp, STATUS_CANCELLED, count)
    return irp


def flush(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine of IRP_MJ_FLUSH_BUFFERS: done when all earlier writes have left the port."""
    return queue_setting(device, irp, None)


def queue_setting(device: DeviceObject[SerialExtension], irp: Irp, apply: Callable[[], NtStatus] | None) -> NtStatus:
    """Carry out `apply()` when everything that was written before has been sent; its return value ends the IRP.

    It is called at PASSIVE_LEVEL, on a system worker thread: the far end of an RFC2217 line may take seconds to agree to a
    new baud rate, and no other port may wait for that.
    """
    extension = device.extension
    irp.driver_context[APPLY] = apply
    with extension.lock:
        gone = extension.gone
        queued = gone is None and _enqueue(device, irp)
    if gone is not None:
        return _end(device, irp, gone.status, 0)
    if queued:
        _complete_all(device, advance(device))
    else:
        _end(device, irp, STATUS_CANCELLED, 0)
    return STATUS_PENDING


def _end(device: DeviceObject[SerialExtension], irp: Irp, status: NtStatus, information: int) -> NtStatus:
    irp.io_status.status = status
    irp.io_status.information = information
    device.io.complete_request(irp)
    return status


def _send(extension: SerialExtension, irp: Irp, data: bytearray) -> NtStatus | None:
    """Give the line as much as it takes. None: there is more to send. Hold the lock."""
    line = extension.line
    context = irp.driver_context
    sent: int = context[SENT]
    if line is None:
        return STATUS_DEVICE_NOT_CONNECTED
    try:
        while sent < len(data):
            count = line.write(memoryview(data)[sent:] if sent else data)
            if count == 0:
                return None
            sent += count
            context[SENT] = sent
            if extension.watched & SERIAL_EV_TXEMPTY:
                _sent_something(extension)
    except HilbridgeError as error:
        if extension.gone_seen is None and isinstance(error, DeviceGone):
            # The reader learns what the writer has learnt, after it has been given what the line still holds: the DPC
            # runs when our lock is released.
            take_rest(extension)
            extension.gone_seen = extension.gone_seen or error
            extension.device.ke.insert_queue_dpc(extension.rx_dpc)
        return error.status
    return STATUS_SUCCESS


def _sent_something(extension: SerialExtension) -> None:
    """When it has left the port, and nothing has come behind it, that is an event. Hold the lock."""
    extension.waits.tx_drains = True
    extension.device.ke.insert_queue_dpc(extension.event_dpc)


def _enqueue(device: DeviceObject[SerialExtension], irp: Irp) -> bool:
    """Put it at the tail, and see to it that it is started if it is the head. False: it was cancelled already."""
    extension = device.extension
    if not extension.tx_queue.insert_locked(irp):
        return False
    if extension.tx_queue.head_locked() is irp:
        _start(device, irp)
    return True


def _start(device: DeviceObject[SerialExtension], irp: Irp) -> None:
    """The IRP has become the head of the queue: its time-out begins to run. Hold the lock."""
    extension = device.extension
    extension.tx_started = irp
    if irp.current_stack_location.major_function == IrpMajor.WRITE:
        timeouts = extension.timeouts
        total = (
            len(irp.system_buffer or b"") * timeouts.write_total_timeout_multiplier
            + timeouts.write_total_timeout_constant
        )
        if total:
            extension.tx_armed = True
            device.ke.set_timer(extension.tx_total_timer, relative_ms(total), dpc=Kdpc(_write_timeout, irp, device))
        if not extension.tx_on:
            extension.set_interrupts(tx=True)


def _stop(device: DeviceObject[SerialExtension]) -> None:
    extension = device.extension
    extension.tx_started = None
    device.ke.cancel_timer(extension.tx_timer)
    if extension.tx_armed:
        extension.tx_armed = False
        device.ke.cancel_timer(extension.tx_total_timer)
    if extension.tx_on:
        extension.set_interrupts(tx=False)


def advance(device: DeviceObject[SerialExtension]) -> list[Irp]:
    """Move the queue on as far as it goes; returns what has ended, to be completed without the lock."""
    extension = device.extension
    done: list[Irp] = []
    with extension.lock:
        held = extension.tx_held
        if held and extension.gone is None:
            if held & (TX_STOP | TX_POWER):
                _begin_head(device)
            return done  # whoever is at it comes back when it is done
        queue = extension.tx_queue
        while (irp := _begin_head(device)) is not None:
            status = _progress(device, irp)
            if status is None:
                return done
            _stop(device)
            if queue.remove_locked(irp):
                irp.io_status.status = status
                irp.io_status.information = irp.driver_context[SENT] or 0
                done.append(irp)
    return done


def _begin_head(device: DeviceObject[SerialExtension]) -> Irp | None:
    """The head of the queue; if it was not begun yet its time-out runs from now on. None: nothing is queued. Hold the lock."""
    extension = device.extension
    irp = extension.tx_queue.head_locked()
    if irp is None:
        _stop(device)
        if extension.waits.tx_drains:  # what was queued behind the last write has ended as well
            device.ke.insert_queue_dpc(extension.event_dpc)
    elif irp is not extension.tx_started:
        _stop(device)
        _start(device, irp)
        device.io.irp_started(device, irp)
    return irp


def _progress(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus | None:
    """Do what the head of the queue asks for, as far as it goes. None: not yet over."""
    extension = device.extension
    if extension.gone is not None:
        return extension.gone.status
    if irp.current_stack_location.major_function == IrpMajor.WRITE:
        status = _send(extension, irp, irp.system_buffer or bytearray())
        if status is None and not extension.tx_on:
            extension.set_interrupts(tx=True)
        return status
    line = extension.line
    if line is None:
        return STATUS_DEVICE_NOT_CONNECTED
    try:
        waiting = line.output_waiting()
        if waiting:
            due = relative_ms(extension.drain_time_ms(waiting))
            device.ke.set_timer(extension.tx_timer, due, dpc=Kdpc(transmit_dpc, None, device))
            return None
    except HilbridgeError as error:
        return error.status
    if irp.driver_context[APPLY] is None:
        return STATUS_SUCCESS
    outcome: NtStatus | None = irp.driver_context[OUTCOME]
    if outcome is None:
        irp.driver_context[OUTCOME] = STATUS_PENDING
        extension.tx_held |= TX_SETTING
        device.ke.queue_work_item(partial(_carry_out, device, irp))
    return None if outcome is None or outcome == STATUS_PENDING else outcome


def _carry_out(device: DeviceObject[SerialExtension], irp: Irp) -> None:
    """Work item: a setting has come to its turn. The line is not taken away meanwhile: see `SerialExtension.setting_lock`.

    If the device has been stopped or put to sleep before we got here its turn is over, and comes again.
    """
    extension = device.extension
    outcome: NtStatus | None = None
    with extension.setting_lock:
        try:
            if not extension.tx_held & (TX_STOP | TX_POWER):
                outcome = irp.driver_context[APPLY]()
        except HilbridgeError as error:
            device.io.write_error_log_entry(irp, error)
            outcome = error.status
        except Exception as error:  # noqa: BLE001 - latched: a mistake of the line's, which stays in this stack
            outcome = device.io.fault(device, error, "carrying out a setting").status
    if outcome == STATUS_PENDING:
        return  # it goes on by itself, and may have ended by now
    with extension.lock:
        irp.driver_context[OUTCOME] = outcome
        extension.tx_held &= ~TX_SETTING
    _complete_all(device, advance(device))


def transmit_dpc(dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
    """DPC: the line has room again, or a drain is to be looked at again."""
    device: DeviceObject[SerialExtension] | None = dpc.device
    if device is None:
        raise DriverFault("the transmit DPC belongs to no device")
    _complete_all(device, advance(device))


def transmit_cancelled(device: DeviceObject[SerialExtension], irp: Irp) -> None:
    """A cancellation has taken an IRP out of the queue. A write reports what the line has accepted of it."""
    _end(device, irp, STATUS_CANCELLED, irp.driver_context[SENT] or 0)
    _complete_all(device, advance(device))


def _write_timeout(dpc: Kdpc, irp: Irp, _a: object, _b: object) -> None:
    """DPC of the write's total timer; late ones find another head, or none."""
    device: DeviceObject[SerialExtension] | None = dpc.device
    if device is None:
        return
    extension = device.extension
    with extension.lock:
        mine = extension.tx_started is irp and extension.tx_armed and extension.tx_queue.remove_locked(irp)
        if mine:
            _stop(device)
    if mine:
        _end(device, irp, STATUS_TIMEOUT, irp.driver_context[SENT])
        _complete_all(device, advance(device))


def _complete_all(device: DeviceObject[SerialExtension], irps: list[Irp]) -> None:
    for irp in irps:
        device.io.complete_request(irp)
