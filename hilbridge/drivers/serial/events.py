"""What happens on the line, for who waits for it: SET_WAIT_MASK, WAIT_ON_MASK, and the events between them.

Each open has a mask, a history and at most one wait of its own, as it would have in Windows, where a port is open once.
An event goes into the history of every mask that has it. A wait ends with the history, which is empty then.

Where an event is found the lock is held, and a wait must not be completed. So events are noted (`note`), and the DPC below,
which runs when the lock is released, ends what they satisfy. As long as no mask is set, ``SerialExtension.watched`` is 0, and
that is all that receiving and sending look at.

Nothing announces two of the events:

* A change of a modem line: few lines interrupt for it (CAUSE_MODEM); then the ISR reads how they are, which quiets a UART, and
  nothing is missed. The others are asked every `SAMPLE_MS` while somebody waits for such a change, and once when somebody
  begins to: of these a change and its reverse within that time are not seen.
* That everything has been sent: the line is asked again after the time that its bytes need, as for a flush.

No line says that it has seen a break or an error, so EV_BREAK and EV_ERR do not happen; nor do EV_PERR, EV_EVENT1 and
EV_EVENT2, which Microsoft's serial sample never raises either. They may be in a mask all the same: programs ask for all.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.drivers.serial.extension import SerialExtension
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.file import FileObject
    from hilbridge.model.irp import Irp

SAMPLE_MS = 50
"""How often the modem lines are looked at while somebody waits for a change of them."""
RECEIVE_EVENTS = ser.SERIAL_EV_RXCHAR | ser.SERIAL_EV_RXFLAG | ser.SERIAL_EV_RX80FULL
MODEM_EVENTS = ser.SERIAL_EV_CTS | ser.SERIAL_EV_DSR | ser.SERIAL_EV_RLSD | ser.SERIAL_EV_RING


class Watch:
    """One open's mask, what has happened of it since it was told last, and its wait."""

    __slots__ = ("file", "history", "mask", "queue")

    def __init__(self, device: DeviceObject[SerialExtension], file: FileObject | None) -> None:
        self.file = file
        self.mask = 0
        self.history = 0
        self.queue = CancelSafeQueue(device.io, device.extension.lock, partial(_cancelled, device))
        """Never more than one that is not being cancelled."""

    def told(self) -> int:
        """What has happened; from now on it is old news."""
        history, self.history = self.history, 0
        return history


class Waits:
    """All that is asked for at one port."""

    __slots__ = ("modem_inbox", "modem_seen", "timer", "tx_drains", "watches")

    def __init__(self) -> None:
        self.watches: list[Watch] = []
        self.timer = Ktimer()
        self.modem_inbox: deque[int] = deque()
        """What the ISR has read, oldest first: as ``SerialExtension.inbox``, without the lock."""
        self.modem_seen: int | None = None
        """The modem lines when they were looked at last; None: not since somebody has asked for them."""
        self.tx_drains = False
        """Something was written, and EV_TXEMPTY is owed for it."""


# -- called with the lock held -----------------------------------------------------------------------------------------


def watch_of(extension: SerialExtension, file: FileObject | None) -> Watch | None:
    """What an open has asked for, if it has."""
    return next((watch for watch in extension.waits.watches if watch.file is file), None)


def update(extension: SerialExtension) -> None:
    """The masks are others: say what is to be looked at."""
    watched = 0
    for watch in extension.waits.watches:
        watched |= watch.mask
    modem = bool(watched & MODEM_EVENTS)
    extension.watched = watched
    extension.rx_watched = bool(watched & RECEIVE_EVENTS)
    if not watched & ser.SERIAL_EV_TXEMPTY:
        extension.waits.tx_drains = False
    if modem != extension.modem_on:
        extension.set_interrupts(modem=modem)


def note(extension: SerialExtension, events: int) -> None:
    """Something has happened."""
    for watch in extension.waits.watches:
        _note_for(extension, watch, events)


def _note_for(extension: SerialExtension, watch: Watch, events: int) -> None:
    if hit := events & watch.mask:
        watch.history |= hit
        if watch.queue.irps:
            extension.device.ke.insert_queue_dpc(extension.event_dpc)


def absorb(extension: SerialExtension) -> None:
    """`SerialExtension.absorb` while a mask is set: looks at what it moves."""
    inbox, log = extension.inbox, extension.log
    start = log.end
    while inbox:
        log.append(inbox.popleft())
    events = ser.SERIAL_EV_RXCHAR
    if extension.watched & ser.SERIAL_EV_RXFLAG:
        # A NUL is an event character as any other: the structure has no way to say "none".
        wanted = bytes((extension.chars.event_char,))
        if log.find(wanted, start, log.end) >= 0:
            events |= ser.SERIAL_EV_RXFLAG
    note(extension, events)
    if extension.watched & ser.SERIAL_EV_RX80FULL:
        size = extension.log_size
        mark = 3 * (size >> 2) + (size >> 4)  # the serial sample's "80 %", which are 81
        for watch in extension.waits.watches:
            reader = extension.reader_of(watch.file)
            if reader is not None and start - reader.cursor < mark <= log.end - reader.cursor:
                _note_for(extension, watch, ser.SERIAL_EV_RX80FULL)


def look_at_modem_lines(extension: SerialExtension) -> None:
    """Compare the modem lines with how they were seen last."""
    _hear_of_modem_lines(extension)
    line = extension.line
    if line is None or extension.asleep or extension.gone is not None:
        return
    try:
        if not line.has_modem_lines:
            return
        status = line.modem_status()
    except HilbridgeError:
        return  # it is going, and says so with an interrupt of its own
    _compare_modem_lines(extension, status)


def _hear_of_modem_lines(extension: SerialExtension) -> None:
    """The same with what the ISR has read: also a change that is over by now."""
    inbox = extension.waits.modem_inbox
    while inbox:
        _compare_modem_lines(extension, inbox.popleft())


def _compare_modem_lines(extension: SerialExtension, status: int) -> None:
    before, extension.waits.modem_seen = extension.waits.modem_seen, status
    if before is None:
        return
    changed, events = before ^ status, 0
    for bit, event in (
        (MSR_CTS, ser.SERIAL_EV_CTS),
        (MSR_DSR, ser.SERIAL_EV_DSR),
        (MSR_DCD, ser.SERIAL_EV_RLSD),
    ):
        if changed & bit:
            events |= event
    if changed & before & MSR_RI:  # the trailing edge, as a UART has it (TERI)
        events |= ser.SERIAL_EV_RING
    if events:
        note(extension, events)


def forget(extension: SerialExtension, file: FileObject | None) -> list[Irp]:
    """The open ends, and its mask with it. Its wait is returned, to be completed."""
    watch = watch_of(extension, file)
    if watch is None:
        return []
    extension.waits.watches.remove(watch)
    update(extension)
    irp = watch.queue.remove_next_locked()
    if irp is None:
        return []
    irp.io_status.information = 0
    return [irp]


def end_wait(watch: Watch, status: NtStatus = STATUS_SUCCESS) -> list[Irp]:
    """End the wait, if there is one: with what has happened, or, if nothing has, with `status` and a mask of 0."""
    irp = watch.queue.remove_next_locked()
    if irp is None:
        return []
    answer(irp, watch.told(), status)
    return [irp]


def end_all(extension: SerialExtension, status: NtStatus) -> list[Irp]:
    """The device has gone: nothing will happen any more. What has happened is told first."""
    return [irp for watch in extension.waits.watches for irp in end_wait(watch, status)]


def answer(irp: Irp, events: int, status: NtStatus) -> None:
    """Fill in the end of a wait."""
    told = events or status == STATUS_SUCCESS
    irp.io_status.status = STATUS_SUCCESS if told else status
    irp.io_status.information = 4 if told else 0
    if told and irp.system_buffer is not None:
        irp.system_buffer[:4] = ser.pack_ulong(events)


def _satisfied(extension: SerialExtension) -> list[Irp]:
    return [irp for watch in extension.waits.watches if watch.history for irp in end_wait(watch)]


# -- the DPC, the timer, and cancellation ------------------------------------------------------------------------------


def event_dpc(dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
    """DPC: something has been noted, a modem line may have changed, or it is time to look again."""
    device: DeviceObject[SerialExtension] | None = dpc.device
    if device is None:
        return
    extension = device.extension
    with extension.lock:
        if _modem_awaited(extension):
            look_at_modem_lines(extension)
        else:
            _hear_of_modem_lines(extension)
        again = _look_at_transmitter(extension)
        done = _satisfied(extension)
        line = extension.line
        there = line is not None and not extension.asleep and extension.gone is None
        if line is not None and there and line.has_modem_lines and _modem_awaited(extension):
            again = min(again or SAMPLE_MS, SAMPLE_MS)
        if again:
            device.ke.set_timer(extension.waits.timer, relative_ms(again), dpc=dpc)
        else:
            device.ke.cancel_timer(extension.waits.timer)
    for irp in done:
        device.io.complete_request(irp)


def _modem_awaited(extension: SerialExtension) -> bool:
    return any(watch.mask & MODEM_EVENTS and watch.queue.irps for watch in extension.waits.watches)


def _look_at_transmitter(extension: SerialExtension) -> float:
    """EV_TXEMPTY, once everything that was written has left the port; else after how many milliseconds to look again."""
    if not extension.waits.tx_drains or extension.tx_queue.irps or extension.line is None or extension.asleep:
        return 0.0  # with the end of the queue, or when the line is back
    waiting = unsent(extension)
    if waiting:
        return extension.drain_time_ms(waiting)
    extension.waits.tx_drains = False
    note(extension, ser.SERIAL_EV_TXEMPTY)
    return 0.0


def unsent(extension: SerialExtension) -> int:
    """What the line has not sent, if it is there and says so."""
    line = extension.line
    if line is None or extension.asleep or extension.gone is not None:
        return 0
    try:
        return line.output_waiting()
    except HilbridgeError:
        return 0


def _cancelled(device: DeviceObject[SerialExtension], irp: Irp) -> None:
    irp.io_status.status = STATUS_CANCELLED
    irp.io_status.information = 0
    device.io.complete_request(irp)
