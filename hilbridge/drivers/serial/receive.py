"""Taking bytes from the hardware. Runs in the ISR, or synchronized with it."""

from __future__ import annotations

from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.model.errors import DeviceGone, HilbridgeError
from hilbridge.model.hardware import Line

CHUNK = 4096
"""What one read asks for: a tty's buffer."""
BUDGET = 16 * CHUNK
"""What one interrupt may take: a port that floods gives the others their turn."""
MOST_PRESENT = 1 << 24
"""What a purge takes at most: a line that floods always holds more."""


def take_from_line(line: Line, extension: SerialExtension, *, everything: bool) -> int:
    """Move bytes from the line to the inbox; returns how many. Notes in ``gone_seen`` why the line went, if it did.

    `everything`: the line hung up, or one that cannot be used any more; this is the last chance, so all is taken, whatever
    the budget and the room.
    """
    inbox = extension.inbox
    taken = 0
    try:
        while everything or taken < BUDGET:
            data = line.read(CHUNK)
            if not data:
                break
            inbox.append(data)
            taken += len(data)
            if len(data) < CHUNK // 2 and not everything:
                return taken
    except HilbridgeError as error:
        if extension.gone_seen is None:
            extension.gone_seen = error
        return taken
    if everything and extension.gone_seen is None:
        extension.gone_seen = DeviceGone(f"{line.name} hung up: the device was unplugged, or its other end was closed")
    return taken


def take_modem_status(line: Line, extension: SerialExtension) -> None:
    """The modem status register, read to acknowledge: how the lines were is the DPC's news, however they are by then."""
    try:
        extension.waits.modem_inbox.append(line.modem_status())
    except HilbridgeError:
        return  # it is going, and says so with an interrupt of its own


def take_rest(extension: SerialExtension) -> None:
    """A write has found that the line went: take what it still holds before the reader is told."""
    line, interrupt = extension.line, extension.interrupt
    if line is not None and interrupt is not None:
        interrupt.synchronize(lambda: take_from_line(line, extension, everything=True))


def take_present(extension: SerialExtension, most: int = MOST_PRESENT) -> None:
    """Take what the line holds now, up to about `most` bytes: to throw it away (PURGE), or to count it."""
    line, interrupt = extension.line, extension.interrupt
    if line is not None and interrupt is not None and not extension.asleep:
        interrupt.synchronize(lambda: take_last(line, extension, most))


def take_last(line: Line, extension: SerialExtension, most: int = MOST_PRESENT) -> None:
    """The same where the ISR cannot run, because it is kept out or has been disconnected. Hold the lock."""
    for _ in range(most // BUDGET):
        before = len(extension.inbox)
        take_from_line(line, extension, everything=False)
        if len(extension.inbox) - before < BUDGET // CHUNK:
            return
