"""IRP_MJ_DEVICE_CONTROL: one function per control code, found in a table.

A payload that is too short, in either direction, is STATUS_BUFFER_TOO_SMALL; an unknown code is STATUS_INVALID_PARAMETER,
as Microsoft's serial sample has it (its other samples answer INVALID_DEVICE_REQUEST).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hilbridge.drivers.serial.control import Answer, Away, Control, Needs, Request
from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.drivers.serial.flow import (
    check_outputs,
    drive,
    get_chars,
    get_handflow,
    set_chars,
    set_handflow,
)
from hilbridge.drivers.serial.info import (
    get_config_size,
    get_modem_control,
    get_properties,
    hold_reasons,
    reset_device,
    set_modem_control,
    set_queue_size,
)
from hilbridge.drivers.serial.read import complete_all, serve_readers
from hilbridge.drivers.serial.receive import BUDGET, take_present
from hilbridge.drivers.serial.reset import begin, withdraw_all
from hilbridge.drivers.serial.waitmask import get_wait_mask, set_wait_mask, wait_on_mask
from hilbridge.drivers.serial.write import SENT, queue_setting
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import FILE_WRITE_DATA, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import LineSettings
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)

_STOP_BITS = {code: stop for stop, code in ser.STOP_BITS.items()}
_PARITY = {code: parity for parity, code in ser.PARITY.items()}
_ALL_PURGES = 0xF


def device_control(device: DeviceObject[SerialExtension], irp: Irp) -> NtStatus:
    """Dispatch routine."""
    location = irp.current_stack_location
    parameters = location.parameters.device_io_control
    control = CONTROLS.get(parameters.io_control_code)
    answer: Answer
    if control is None:
        answer = STATUS_INVALID_PARAMETER
    elif parameters.input_buffer_length < control.needs or parameters.output_buffer_length < control.returns:
        answer = STATUS_BUFFER_TOO_SMALL
    else:
        buffer = irp.system_buffer if irp.system_buffer is not None else bytearray()
        data = buffer[: parameters.input_buffer_length]
        request = Request(device, irp, data, location.file_object, parameters.output_buffer_length)
        answer = _answer(request, control)
        if answer is None:
            return STATUS_PENDING
        if callable(answer):
            return queue_setting(device, irp, answer)
    information = 0
    if isinstance(answer, bytes):
        buffer = irp.system_buffer if irp.system_buffer is not None else bytearray()
        information = len(answer)
        buffer[:information] = answer
        answer = STATUS_SUCCESS
    status = answer
    irp.io_status.status = status
    irp.io_status.information = information
    device.io.complete_request(irp)
    return status


def _answer(request: Request, control: Control) -> Answer:
    """What the function says; None: the request waits, or is held."""
    extension: SerialExtension = request.device.extension
    hold, needs = extension.hold, control.line
    while True:
        if hold.active and needs is Needs.LINE and hold.insert(request.irp):
            return None
        if extension.line is None and not extension.serving and needs is not Needs.NOTHING:
            return STATUS_DEVICE_NOT_CONNECTED
        try:
            return control.function(request)
        except Away:
            continue  # since the look at `hold`; at the next one it is held, or the line is back
        except HilbridgeError as error:  # the line refused: its status is the answer
            request.device.io.write_error_log_entry(request.irp, error)
            return error.status


# -- line settings: carried out behind the data that was written before --------------------------------------------------


def _reprogram(request: Request, change: Callable[[LineSettings], LineSettings]) -> Answer:
    """Program the line when it has sent what was written before; `change` is applied to the settings that it has *then*."""
    extension = request.extension

    def apply() -> NtStatus:
        line = extension.line
        if line is None:
            return STATUS_DEVICE_NOT_CONNECTED
        settings = change(extension.settings)
        try:
            line.configure(settings)
        except HilbridgeError as error:
            # "Impossible" is the caller's mistake here, and has that status; the words are those of the line.
            refused = error.again()
            refused.status = STATUS_INVALID_PARAMETER if error.status == STATUS_NOT_SUPPORTED else error.status
            request.device.io.write_error_log_entry(request.irp, refused)
            return refused.status
        extension.settings = settings
        return STATUS_SUCCESS

    return apply


def _set_baud_rate(request: Request) -> Answer:
    rate = ser.unpack_ulong(request.data)
    return _reprogram(request, partial(replace, baudrate=rate)) if rate else STATUS_INVALID_PARAMETER


def _set_line_control(request: Request) -> Answer:
    control = ser.SerialLineControl.unpack(request.data)
    stop, parity = _STOP_BITS.get(control.stop_bits), _PARITY.get(control.parity)
    if stop is None or parity is None or not 5 <= control.word_length <= 8:
        return STATUS_INVALID_PARAMETER
    # 1.5 stop bits exist with 5 data bits only, and 2 stop bits with all others.
    if (stop == 1.5) != (control.word_length == 5 and stop != 1) or (stop == 2 and control.word_length == 5):
        return STATUS_INVALID_PARAMETER
    return _reprogram(request, partial(replace, stopbits=stop, parity=parity, bytesize=control.word_length))


def _get_baud_rate(request: Request) -> Answer:
    return ser.pack_ulong(request.extension.settings.baudrate)


def _get_line_control(request: Request) -> Answer:
    settings = request.extension.settings
    return ser.SerialLineControl(
        ser.STOP_BITS[float(settings.stopbits)], ser.PARITY[settings.parity], settings.bytesize
    ).pack()


# -- modem lines at once, break in its turn ----------------------------------------------------------------------------


def _modem(*, dtr: bool | None = None, rts: bool | None = None) -> Callable[[Request], Answer]:
    def function(request: Request) -> Answer:
        extension = request.extension

        check_outputs(extension, dtr=dtr, rts=rts)
        request.on_line(lambda line: drive(extension, line, dtr=dtr, rts=rts))
        return STATUS_SUCCESS

    return function


def _break(on: bool) -> Callable[[Request], Answer]:
    # In the order of the data, both: a break that began in the middle of a write would garble it, and the kernel itself
    # waits until all is sent before it begins one.
    def function(request: Request) -> Answer:
        def apply() -> NtStatus:
            line = request.extension.line
            if line is None:
                return STATUS_DEVICE_NOT_CONNECTED
            line.set_break(on)
            request.extension.break_on = on
            return STATUS_SUCCESS

        return apply

    return function


def _get_dtrrts(request: Request) -> Answer:
    if not request.on_line(lambda line: line.has_modem_lines):
        return STATUS_NOT_SUPPORTED
    return ser.pack_ulong(request.extension.modem_control)


def _get_modem_status(request: Request) -> Answer:
    return ser.pack_ulong(request.on_line(lambda line: line.modem_status()))


def _look(extension: SerialExtension) -> None:
    """Take what has arrived and not interrupted yet: who counts bytes counts these too. Hold the lock.

    A line does not interrupt for bytes that it no longer holds. So a read that waits for them, and the room in the log, are
    seen to by the DPC, which runs when the lock is released.
    """
    if extension.rx_on and extension.gone is None:
        take_present(extension, BUDGET)
        if extension.inbox or extension.gone_seen is not None:
            extension.device.ke.insert_queue_dpc(extension.rx_dpc)
    extension.absorb()


def _transmitter(request: Request) -> tuple[int, int]:
    """What the line has not sent, and why."""
    extension = request.extension
    try:
        if extension.line is not None:
            return request.on_line(lambda line: (line.output_waiting(), hold_reasons(extension, line)))
    except Away:
        pass
    return 0, 0


def _get_comm_status(request: Request) -> Answer:
    extension = request.extension
    unsent, reasons = _transmitter(request)
    with extension.lock:
        _look(extension)
        reader = extension.reader_of(request.file)
        waiting = extension.log.end - reader.cursor if reader is not None else 0
        queued = sum(
            len(irp.system_buffer or b"") - (irp.driver_context[SENT] or 0)
            for irp in extension.tx_queue
            if irp.current_stack_location.major_function == IrpMajor.WRITE
        )
        errors, extension.errors = extension.errors, 0
    return ser.SerialStatus(errors, reasons, waiting, queued + unsent).pack()


# -- time-outs and purge -------------------------------------------------------------------------------------------------


def _set_timeouts(request: Request) -> Answer:
    timeouts = ser.SerialTimeouts.unpack(request.data)
    # The documentation refuses interval and constant both MAXULONG; the sample refuses only all three. We follow the
    # sample: with the multiplier smaller the combination has a meaning ("no timer"), and programs use it.
    if timeouts[:3] == (ser.MAXULONG,) * 3:
        return STATUS_INVALID_PARAMETER
    request.extension.timeouts = timeouts
    return STATUS_SUCCESS


def _get_timeouts(request: Request) -> Answer:
    return request.extension.timeouts.pack()


def _purge(request: Request) -> Answer:
    mask = ser.unpack_ulong(request.data)
    if not mask or mask & ~_ALL_PURGES:
        return STATUS_INVALID_PARAMETER
    device, extension = request.device, request.extension
    transmit = mask & (ser.SERIAL_PURGE_TXABORT | ser.SERIAL_PURGE_TXCLEAR)
    if transmit and request.file is not None and not request.file.granted_access & FILE_WRITE_DATA:
        return STATUS_ACCESS_DENIED  # who only listens takes nothing away from who writes
    reader = extension.reader_of(request.file)
    aborted: list[Irp] = []
    status = STATUS_SUCCESS
    with extension.lock:
        if mask & ser.SERIAL_PURGE_TXABORT:
            while (irp := extension.tx_queue.remove_next_locked()) is not None:
                irp.io_status.information = irp.driver_context[SENT] or 0
                aborted.append(irp)
        if mask & ser.SERIAL_PURGE_RXABORT and reader is not None:
            while (irp := reader.queue.remove_next_locked()) is not None:
                irp.io_status.information = 0
                aborted.append(irp)
        if mask & ser.SERIAL_PURGE_RXCLEAR and reader is not None:
            # Only this reader's bytes: another one still wants them. What has arrived by now is taken first.
            take_present(extension)
            extension.absorb()
            reader.cursor = reader.scanned = extension.log.end
            reader.missed = 0
        line = extension.line if not extension.asleep else None
        if transmit and line is not None and extension.gone is None:
            try:
                line.discard(tx=True)
            except HilbridgeError as error:  # what has been taken out of the queues ends all the same
                device.io.write_error_log_entry(request.irp, error)
                status = error.status
        done = serve_readers(device)
    aborted = withdraw_all(device, aborted)
    for irp in aborted:
        irp.io_status.status = STATUS_CANCELLED
    complete_all(device, aborted + done)
    device.ke.insert_queue_dpc(extension.tx_dpc)
    return status


# -- our own -------------------------------------------------------------------------------------------------------------


def _peek(request: Request) -> Answer:
    extension = request.extension
    reader = extension.reader_of(request.file)
    if reader is None:
        return STATUS_INVALID_DEVICE_REQUEST
    with extension.lock:
        _look(extension)
        return extension.log.peek(reader.cursor, request.room)


def _unread(request: Request) -> Answer:
    extension = request.extension
    reader = extension.reader_of(request.file)
    if reader is None:
        return STATUS_INVALID_DEVICE_REQUEST
    with extension.lock:
        if reader.cursor < len(request.data):
            return STATUS_INVALID_DEVICE_STATE
        # A read that waits has taken nothing yet: it begins with these bytes, and may end with them.
        reader.cursor = reader.scanned = extension.log.give_back(reader.cursor, bytes(request.data))
        done = serve_readers(request.device)
    complete_all(request.device, done)
    return STATUS_SUCCESS


def _reset(request: Request) -> Answer:
    try:
        flags, steps = ser.unpack_reset(request.data)
    except ValueError:
        return STATUS_INVALID_PARAMETER
    return partial(begin, request.device, request.irp, steps, discard=bool(flags & ser.RESET_DISCARD))


CONTROLS: dict[int, Control] = {
    ser.IOCTL_SERIAL_SET_BAUD_RATE: Control(4, 0, _set_baud_rate),
    ser.IOCTL_SERIAL_GET_BAUD_RATE: Control(0, 4, _get_baud_rate),
    ser.IOCTL_SERIAL_SET_LINE_CONTROL: Control(3, 0, _set_line_control),
    ser.IOCTL_SERIAL_GET_LINE_CONTROL: Control(0, 3, _get_line_control),
    ser.IOCTL_SERIAL_SET_TIMEOUTS: Control(20, 0, _set_timeouts),
    ser.IOCTL_SERIAL_GET_TIMEOUTS: Control(0, 20, _get_timeouts),
    ser.IOCTL_SERIAL_SET_DTR: Control(0, 0, _modem(dtr=True), Needs.LINE),
    ser.IOCTL_SERIAL_CLR_DTR: Control(0, 0, _modem(dtr=False), Needs.LINE),
    ser.IOCTL_SERIAL_SET_RTS: Control(0, 0, _modem(rts=True), Needs.LINE),
    ser.IOCTL_SERIAL_CLR_RTS: Control(0, 0, _modem(rts=False), Needs.LINE),
    ser.IOCTL_SERIAL_GET_DTRRTS: Control(0, 4, _get_dtrrts, Needs.LINE),
    ser.IOCTL_SERIAL_SET_BREAK_ON: Control(0, 0, _break(on=True)),
    ser.IOCTL_SERIAL_SET_BREAK_OFF: Control(0, 0, _break(on=False)),
    ser.IOCTL_SERIAL_GET_MODEMSTATUS: Control(0, 4, _get_modem_status, Needs.LINE),
    ser.IOCTL_SERIAL_GET_COMMSTATUS: Control(0, 20, _get_comm_status, Needs.NOTHING),
    ser.IOCTL_SERIAL_SET_QUEUE_SIZE: Control(8, 0, set_queue_size),
    ser.IOCTL_SERIAL_GET_PROPERTIES: Control(0, 64, get_properties, Needs.LINE),
    ser.IOCTL_SERIAL_CONFIG_SIZE: Control(0, 4, get_config_size),
    ser.IOCTL_SERIAL_RESET_DEVICE: Control(0, 0, reset_device),
    ser.IOCTL_SERIAL_GET_MODEM_CONTROL: Control(0, 4, get_modem_control, Needs.LINE),
    ser.IOCTL_SERIAL_SET_MODEM_CONTROL: Control(4, 0, set_modem_control, Needs.LINE),
    ser.IOCTL_SERIAL_GET_CHARS: Control(0, 6, get_chars),
    ser.IOCTL_SERIAL_SET_CHARS: Control(6, 0, set_chars),
    ser.IOCTL_SERIAL_GET_HANDFLOW: Control(0, 16, get_handflow),
    ser.IOCTL_SERIAL_SET_HANDFLOW: Control(16, 0, set_handflow),
    ser.IOCTL_SERIAL_SET_WAIT_MASK: Control(4, 0, set_wait_mask),
    ser.IOCTL_SERIAL_GET_WAIT_MASK: Control(0, 4, get_wait_mask),
    ser.IOCTL_SERIAL_WAIT_ON_MASK: Control(0, 4, wait_on_mask),
    ser.IOCTL_SERIAL_PURGE: Control(4, 0, _purge),
    ser.IOCTL_HILBRIDGE_PEEK: Control(0, 0, _peek, Needs.NOTHING),
    ser.IOCTL_HILBRIDGE_UNREAD: Control(1, 0, _unread, Needs.NOTHING),
    ser.IOCTL_HILBRIDGE_RESET: Control(12, 8, _reset),
}
