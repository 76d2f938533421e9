"""IOCTL_HILBRIDGE_RESET: DTR, RTS and break are set step by step, in the request's turn among the writes.

The request waits in the transmit queue like a setting, and while its steps are carried out nothing is sent (TX_SETTING).
Between two steps a timer runs, and no thread waits. Each step is carried out by a work item under
`SerialExtension.setting_lock`, so the line is not taken away meanwhile.

A reset that does not come to its end leaves nothing behind: the outputs are put back as they were when it began, and only
then does its request end, and is anything else sent. That is so if it is cancelled (by whatever: a cancellation, a purge,
the close of its handle), if a step fails, and if the line goes. If the device is stopped or put to sleep in the middle, the
outputs are put back as well, the request stays where it is in the queue, and begins again with its first step when the line
is back: a board that has seen half a pulse must not be taken for one that was reset.
"""

from __future__ import annotations

import struct
from functools import partial

from hilbridge.drivers.serial.extension import TX_POWER, TX_SETTING, TX_STOP, SerialExtension
from hilbridge.drivers.serial.read import complete_all
from hilbridge.drivers.serial.receive import take_present
from hilbridge.drivers.serial.write import OUTCOME, advance
from hilbridge.drivers.serial.write import transmit_cancelled as write_cancelled
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceGone, DeviceUnsupported, HilbridgeError
from hilbridge.model.hardware import Line
from hilbridge.model.irp import Irp
from hilbridge.model.ntddser import RESET_BREAK, SERIAL_DTR_STATE, SERIAL_RTS_STATE, SerialResetStep
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)

Device = DeviceObject[SerialExtension]

_OUTPUTS = SERIAL_DTR_STATE | SERIAL_RTS_STATE


class Reset:
    """A reset that is being carried out. Guarded by the extension's lock, but for `index`, which is the work item's."""

    __slots__ = (
        "before",
        "discard",
        "index",
        "irp",
        "parked",
        "steps",
        "timer",
        "touched",
        "unread",
        "waits",
        "withdrawn",
    )

    def __init__(self, irp: Irp, steps: tuple[SerialResetStep, ...], *, discard: bool) -> None:
        self.irp = irp
        self.steps = steps
        self.discard = discard
        self.index = 0
        self.unread = 0
        """How many bytes its handle had not read when the first step began."""
        self.before = (0, 0, False)
        """`modem_control`, `modem_known` and `break_on` as they were."""
        self.touched = 0
        self.timer = Ktimer()
        self.waits = False
        """The wait behind the last step has not begun yet."""
        self.parked = False
        """No work item is on its way, and the timer, or who withdraws the request, has to send one."""
        self.withdrawn = False
        """The request has been taken out of the queue, and ends when the outputs are back as they were."""


def begin(device: Device, irp: Irp, steps: tuple[SerialResetStep, ...], *, discard: bool) -> NtStatus:
    """The request has come to its turn: `hilbridge.drivers.serial.write` calls this, under the setting lock."""
    extension = device.extension
    with extension.lock:
        if irp.id not in extension.tx_queue.irps:
            return STATUS_CANCELLED  # and has ended, on the way here
        extension.reset = reset = Reset(irp, steps, discard=discard)
        reset.before = (extension.modem_control, extension.modem_known, extension.break_on)
    device.ke.queue_work_item(partial(_turn, device, reset))
    return STATUS_PENDING


# -- the steps -----------------------------------------------------------------------------------------------------------


def _turn(device: Device, reset: Reset) -> None:
    """Work item: carry out what is due, up to the next wait or the end."""
    extension = device.extension
    status: NtStatus | None = None
    with extension.setting_lock:
        if extension.reset is not reset:
            return  # given up meanwhile: see `give_up`
        try:
            status = _steps(device, reset)
        except HilbridgeError as error:
            device.io.write_error_log_entry(reset.irp, error)
            status = error.status
        except Exception as error:  # noqa: BLE001 - latched: a mistake of the line's, which stays in this stack
            status = device.io.fault(device, error, "carrying out a reset").status
        if status is None:
            return
        if status != STATUS_SUCCESS:
            _put_back(extension, reset)
        with extension.lock:
            extension.reset = None
            extension.tx_held &= ~TX_SETTING
            mine = reset.withdrawn or status == STATUS_SUCCESS or _take_out(extension, reset.irp)
    if mine:
        _complete(device, reset, status)
    complete_all(device, advance(device))


def _take_out(extension: SerialExtension, irp: Irp) -> bool:
    """False: somebody else ends it, or has: the queue, because the device is gone; or a cancellation."""
    return irp.id in extension.tx_queue.irps and extension.tx_queue.remove_locked(irp)


def _steps(device: Device, reset: Reset) -> NtStatus | None:
    """What the request ends with; None: a wait has begun. A success has been taken out of the queue."""
    extension = device.extension
    if reset.index == 0:
        _first(device, reset)
    while True:
        if reset.waits and _wait(device, reset):
            return None
        with extension.lock:
            if reset.withdrawn:
                return STATUS_CANCELLED
            if extension.gone is not None:
                return extension.gone.status
            if reset.index == len(reset.steps):
                if extension.tx_queue.remove_locked(reset.irp):
                    return STATUS_SUCCESS
                reset.parked = True  # a cancellation has it, and is about to withdraw it: it counts
                return None
        step = reset.steps[reset.index]
        reset.index += 1
        try:
            _carry_out(extension, reset, step)
        except HilbridgeError as error:
            raise _at_step(reset, reset.index, error) from error
        reset.waits = True


def _wait(device: Device, reset: Reset) -> bool:
    """Begin, or go on with, the wait behind a step. True: a timer runs.

    A line at the end of a network carries out a step when its turn comes there, and says until then that something is unsent:
    the wait of the step begins behind that, or a pulse would be too short.
    """
    extension = device.extension
    line = extension.line
    left = line.output_waiting() if line is not None else 0
    milliseconds = extension.drain_time_ms(left) if left else reset.steps[reset.index - 1].wait_us / 1000
    reset.waits = left != 0
    if not milliseconds:
        return False
    with extension.lock:
        if not reset.withdrawn:
            reset.parked = True
            device.ke.set_timer(reset.timer, relative_ms(milliseconds), dpc=Kdpc(_due, reset, device))
            return True
    return False


def _first(device: Device, reset: Reset) -> None:
    """Before the first step: see whether all steps are possible, and note (or throw away) what has been received until now."""
    extension = device.extension
    line = extension.line
    if line is not None and not line.has_modem_lines:
        for number, step in enumerate(reset.steps, 1):
            if step.mask & _OUTPUTS:
                raise _at_step(reset, number, DeviceUnsupported(f"{line.name} has no DTR and RTS"))
    with extension.lock:
        take_present(extension)
        extension.absorb()
        reader = extension.reader_of(reset.irp.file_object)
        if reader is not None:
            reset.unread = extension.log.end - reader.cursor
            if reset.discard:
                reader.cursor = reader.scanned = extension.log.end
                reader.missed = 0
        # What has been taken just now may be what a read waits for, of this reader or another: the DPC sees to these.
        device.ke.insert_queue_dpc(extension.rx_dpc)


def _at_step(reset: Reset, number: int, error: HilbridgeError) -> HilbridgeError:
    named = error.again()
    named.message = f"step {number} of the reset ({reset.steps[number - 1]}): {error.message}"
    named.args = (named.message,)
    return named


def _carry_out(extension: SerialExtension, reset: Reset, step: SerialResetStep) -> None:
    if not step.mask:
        return
    with extension.line_lock:
        line = extension.line
        if line is None:
            raise DeviceGone(f"{extension.port_name} is gone", status=STATUS_DEVICE_NOT_CONNECTED)
        reset.touched |= step.mask  # before: one that fails may have had half its effect
        _set(line, step.mask, step.values)
        outputs = step.mask & _OUTPUTS
        extension.modem_control = extension.modem_control & ~outputs | step.values & outputs
        extension.modem_known |= outputs
        if step.mask & RESET_BREAK:
            extension.break_on = bool(step.values & RESET_BREAK)


def _set(line: Line, mask: int, values: int) -> None:
    if mask & _OUTPUTS:
        line.set_modem_control(
            dtr=bool(values & SERIAL_DTR_STATE) if mask & SERIAL_DTR_STATE else None,
            rts=bool(values & SERIAL_RTS_STATE) if mask & SERIAL_RTS_STATE else None,
        )
    if mask & RESET_BREAK:
        line.set_break(bool(values & RESET_BREAK))


def _put_back(extension: SerialExtension, reset: Reset) -> None:
    """The outputs that were touched become what they were. One that nobody had set is asserted, as opening a port leaves it.

    Hold the setting lock, and neither of the others.
    """
    control, known, break_on = reset.before
    with extension.line_lock:
        extension.modem_control, extension.modem_known, extension.break_on = reset.before
        line = extension.line
        if line is None or extension.asleep:
            return
        values = control & known | _OUTPUTS & ~known | (RESET_BREAK if break_on else 0)
        for mask in (reset.touched & _OUTPUTS, reset.touched & RESET_BREAK):
            try:
                _set(line, mask, values)
            except HilbridgeError:
                pass  # it went; or it is what has just refused, and the request says so


def _due(dpc: Kdpc, reset: Reset, _a: object, _b: object) -> None:
    """DPC of the timer: the next step is due. A late one finds that somebody else has gone on."""
    device: Device | None = dpc.device
    if device is None:
        return
    with device.extension.lock:
        mine, reset.parked = reset.parked, False
    if mine:
        device.ke.queue_work_item(partial(_turn, device, reset))


def _complete(device: Device, reset: Reset, status: NtStatus) -> None:
    irp = reset.irp
    buffer = irp.system_buffer
    irp.io_status.status = status
    irp.io_status.information = 0
    if status == STATUS_SUCCESS and buffer is not None:
        buffer[:8] = struct.pack("<Q", reset.unread)
        irp.io_status.information = 8
    device.io.complete_request(irp)


# -- how a reset ends before its last step -------------------------------------------------------------------------------


def withdraw(device: Device, irp: Irp) -> bool:
    """It has been taken out of the transmit queue. True: it is being carried out, and ends when the outputs are put back."""
    extension = device.extension
    with extension.lock:
        reset = extension.reset
        if reset is None or reset.irp is not irp:
            return False
        reset.withdrawn = True
        parked, reset.parked = reset.parked, False
        device.ke.cancel_timer(reset.timer)
    if parked:
        device.ke.queue_work_item(partial(_turn, device, reset))
    return True


def transmit_cancelled(device: Device, irp: Irp) -> None:
    """A cancellation has taken an IRP out of the transmit queue."""
    if not withdraw(device, irp):
        write_cancelled(device, irp)


def give_up(device: Device) -> None:
    """The line is about to be taken away, for a while (TX_STOP or TX_POWER is set) or for good (the device is gone).

    The outputs are put back. What is still in the queue begins anew, or ends, when the queue goes on.
    """
    extension = device.extension
    assert extension.tx_held & (TX_STOP | TX_POWER) or extension.gone is not None
    with extension.setting_lock:
        reset = extension.reset
        if reset is None:
            return
        _put_back(extension, reset)
        with extension.lock:
            device.ke.cancel_timer(reset.timer)
            extension.reset = None
            extension.tx_held &= ~TX_SETTING
            if not reset.withdrawn:
                reset.irp.driver_context[OUTCOME] = None
    if reset.withdrawn:
        _complete(device, reset, STATUS_CANCELLED)


def withdraw_all(device: Device, irps: list[Irp]) -> list[Irp]:
    """What a purge or a cleanup has taken out of the queues, without what ends later."""
    return [irp for irp in irps if not withdraw(device, irp)]
