"""The interrupt service routine and its DPC.

The ISR says False when the line did not interrupt. Otherwise it takes what has arrived, quiets the line, queues the DPC,
and says True. It runs at DIRQL and takes no lock of the driver.
"""

from __future__ import annotations

from hilbridge.drivers.serial.events import end_all
from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.drivers.serial.read import complete_all, serve_readers
from hilbridge.drivers.serial.receive import take_from_line, take_modem_status
from hilbridge.drivers.serial.write import advance
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.model.device import DeviceObject
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_MODEM, CAUSE_RX, CAUSE_TX

INBOX_CHUNKS = 16


def isr(interrupt: Interrupt, extension: SerialExtension) -> bool:
    """Service routine. Context: the device extension."""
    line = extension.line
    causes = line.causes() if line is not None else 0
    if not causes or line is None:
        return False
    taken = 0
    if causes & (CAUSE_RX | CAUSE_GONE):
        taken = take_from_line(line, extension, everything=causes & CAUSE_GONE != 0)
    if causes & CAUSE_MODEM:
        take_modem_status(line, extension)  # here: a UART interrupts until the register has been read
        interrupt.device.ke.insert_queue_dpc(extension.event_dpc)
    full = len(extension.inbox) >= INBOX_CHUNKS
    if full or causes & CAUSE_TX:
        # Quiet the line. Receiving goes on when the DPC has weighed the room that is left: until then the OS's buffer
        # and the flow control hold the rest.
        if causes & CAUSE_TX:
            extension.tx_on = False
            interrupt.device.ke.insert_queue_dpc(extension.tx_dpc)
        if full:
            extension.rx_on = False
        extension.program_interrupts()
    # Whether somebody waits is asked *after* the bytes are in the inbox, and who is about to wait says so *before* he looks
    # into the inbox (`read`). So either he sees the bytes or we see him. If nobody waits the bytes stay in the inbox until
    # somebody takes them. It is not asked whether the inbox
    # still holds anything: another thread may have moved the bytes on to the log without looking for the reads that wait.
    if full or (taken and extension.reads_wait) or extension.gone_seen is not None:
        interrupt.device.ke.insert_queue_dpc(extension.rx_dpc)
    return True


def receive_dpc(dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
    """DPC: moves what the ISR took into the log and ends the reads that it satisfies; or ends everything, if the line went.

    The reason of a removal is kept in the extension, not in the DPC's arguments: a DPC that is queued already loses its new
    ones.
    """
    device: DeviceObject[SerialExtension] | None = dpc.device
    if device is None:
        return
    extension = device.extension
    with extension.lock:
        # The order counts: what had been received when the line went is in the inbox before `gone_seen` is set. Looked at
        # the other way round, the news could overtake the last bytes.
        seen = extension.gone_seen
        extension.absorb()
        news = extension.gone is None and seen is not None
        if news:
            extension.gone = seen
            device.device_stack.removed = extension.gone
        done = serve_readers(device)
        if extension.gone is not None:
            done += end_all(extension, extension.gone.status)
    complete_all(device, done)
    if news:
        # Reads first: what the device said is delivered before anybody hears that it went.
        complete_all(device, advance(device))
        device.io.invalidate_device_state(device)
