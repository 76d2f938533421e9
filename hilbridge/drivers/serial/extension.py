"""What the serial driver remembers: per device (`SerialExtension`) and per open (`Reader`).

One spin lock, ``lock``, guards all of it but ``inbox``. The ISR runs at DIRQL and must not take that lock; it appends to
``inbox``, a deque, whose append and popleft are atomic, and everybody who holds the lock empties it first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from hilbridge.drivers.serial import events
from hilbridge.drivers.serial.receivelog import ReceiveLog
from hilbridge.kernel.timer import Ktimer
from hilbridge.model.codes import DevicePowerState
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import CAUSE_MODEM, CAUSE_RX, CAUSE_TX, Line, LineSettings
from hilbridge.model.ntddser import SERIAL_DTR_CONTROL, SERIAL_RTS_CONTROL, SerialChars, SerialTimeouts
from hilbridge.model.pnp_life import PnpLife

if TYPE_CHECKING:
    from hilbridge.drivers.serial.reset import Reset
    from hilbridge.iomgr.csq import CancelSafeQueue
    from hilbridge.iomgr.hold import HoldQueue
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.interrupt import Interrupt
    from hilbridge.kernel.remlock import RemoveLock
    from hilbridge.kernel.spinlock import SpinLock
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.file import FileObject
    from hilbridge.model.irp import Irp

LOG_SIZE = 1 << 20
"""Unread bytes after which a port takes no more, so that the OS's buffer and the flow control push back."""

LONGEST_DRAIN_CHECK_MS = 100.0

# Why nothing is sent, although something may be queued: the bits of `SerialExtension.tx_held`.
TX_SETTING = 0x1  # a setting is being carried out; until it is nothing is sent, also if its IRP has been cancelled
TX_STOP = 0x2  # the device is stopped, or has agreed to be
TX_POWER = 0x4  # it is not in D0


class Reader:
    """One open with read access: a cursor over the receive log, and the reads that wait.

    ``started`` is the read whose time-outs run: always the oldest of the queue. It has taken nothing yet; its bytes lie in
    the log until it ends, which is why a cancelled read loses none.
    """

    __slots__ = (
        "cursor",
        "file",
        "interval_armed",
        "interval_ms",
        "interval_timer",
        "limit",
        "missed",
        "queue",
        "scanned",
        "started",
        "started_at",
        "timeouts",
        "total_armed",
        "total_timer",
    )

    def __init__(self, file: FileObject, cursor: int) -> None:
        self.file = file
        self.cursor = cursor
        self.queue: CancelSafeQueue
        self.missed = 0
        """Bytes that this reader lost because it fell behind the others by more than the log holds."""
        self.started: Irp | None = None
        self.timeouts = SerialTimeouts()
        """SERIAL_TIMEOUTS as they were when the started read was started."""
        self.started_at = 0
        """Position of the log's end when the started read was started."""
        self.limit = 0
        """How many bytes end the started read: its length, or 1 in the "exactly one byte" case."""
        self.scanned = 0
        """Position up to which the terminator has been looked for: no byte is searched twice."""
        self.total_timer = Ktimer()
        self.total_armed = False
        self.interval_timer = Ktimer()
        self.interval_armed = False
        self.interval_ms = 0


class SerialExtension:
    """DEVICE_EXTENSION of a serial port."""

    __slots__ = (
        "asleep",
        "break_on",
        "chars",
        "device",
        "errors",
        "event_dpc",
        "line_lock",
        "gone",
        "gone_seen",
        "handflow",
        "hold",
        "inbox",
        "interrupt",
        "last_rx",
        "life",
        "limits",
        "line",
        "lock",
        "log",
        "log_size",
        "lower",
        "modem_control",
        "modem_known",
        "modem_on",
        "port_name",
        "power_state",
        "readers",
        "reads_wait",
        "remove_lock",
        "reset",
        "rx_dpc",
        "rx_on",
        "rx_watched",
        "setting_lock",
        "settings",
        "timeouts",
        "tx_armed",
        "tx_dpc",
        "tx_held",
        "tx_on",
        "tx_queue",
        "tx_started",
        "tx_timer",
        "tx_total_timer",
        "waits",
        "watched",
        "writer",
    )

    device: DeviceObject[SerialExtension]
    lower: DeviceObject[Any]
    tx_queue: CancelSafeQueue
    rx_dpc: Kdpc
    tx_dpc: Kdpc
    event_dpc: Kdpc
    hold: HoldQueue
    """Control requests that need the line, while it is away: see `hilbridge.drivers.serial.hardware`."""
    remove_lock: RemoveLock
    """Held by power requests. The others are in queues, which the removal empties."""

    def __init__(self, lock: SpinLock, line_lock: SpinLock, setting_lock: SpinLock) -> None:  # noqa: PLR0915 - one line for each thing that there is
        self.lock = lock
        self.setting_lock = setting_lock
        """Held while a setting is carried out, which may take long, and to take the line away. The outermost of the three."""
        self.line_lock = line_lock
        """Held by whoever uses the line for a control request, and to take the line away: a closed descriptor's number may
        be somebody else's the next moment. Taken before ``lock`` where both are."""
        self.port_name = ""
        self.line: Line | None = None
        """None before the start, while the device is stopped, and when it is gone."""
        self.interrupt: Interrupt | None = None
        self.life = PnpLife()
        self.power_state = DevicePowerState.D0
        self.asleep = False
        """The line is there, and is left alone: only its "gone" is heard."""
        # What the line is to be programmed with again, after a stop or a sleep.
        self.settings = LineSettings()
        self.timeouts = SerialTimeouts()
        self.chars = SerialChars()
        self.handflow = SERIAL_DTR_CONTROL, SERIAL_RTS_CONTROL
        """What SET_HANDFLOW has said of DTR and RTS where they are no handshake; that is in `settings`."""
        self.limits: tuple[int, int] | None = None
        """XonLimit and XoffLimit, once somebody has set them."""
        self.modem_control = 0
        self.modem_known = 0
        """Which bits of `modem_control` somebody has set: the others are left as the line has them."""
        self.break_on = False
        self.errors = 0
        self.gone: HilbridgeError | None = None
        """Why the line went; set once, under the lock."""
        self.gone_seen: HilbridgeError | None = None
        """The same as the ISR, or a write, has seen it: the DPC's news."""
        # Receiving.
        self.inbox: deque[bytes] = deque()
        self.log = ReceiveLog()
        self.log_size = LOG_SIZE
        self.last_rx = 0
        self.rx_on = False
        self.reads_wait = False
        """Whether a read waits, or is about to: then the ISR queues its DPC. See `hilbridge.drivers.serial.isr`."""
        self.readers: list[Reader] = []
        # Sending: `tx_queue` holds writes, flushes and settings in the order of their arrival; `tx_started` is its head.
        self.writer: FileObject | None = None
        self.tx_held = 0
        """TX_SETTING, TX_STOP, TX_POWER: while any of them is set, what is to be sent waits in the queue. Under the lock."""
        self.reset: Reset | None = None
        """The one that is being carried out; TX_SETTING is set meanwhile. Changed under the setting lock and the lock."""
        self.tx_on = False
        self.tx_started: Irp | None = None
        self.tx_timer = Ktimer()
        self.tx_total_timer = Ktimer()
        self.tx_armed = False
        # Who waits for events: see `hilbridge.drivers.serial.events`.
        self.waits = events.Waits()
        self.watched = 0
        """All masks together: 0 is all that receiving and sending look at while there is none."""
        self.rx_watched = self.modem_on = False
        """Whether any of them is about received bytes, or about modem lines, which then may interrupt."""

    def absorb(self) -> None:
        """Move what the ISR has taken from the hardware into the log. Hold the lock."""
        inbox, log = self.inbox, self.log
        if not inbox:
            return
        if self.watched:
            events.absorb(self)
        else:
            while inbox:
                log.append(inbox.popleft())
        if self.timeouts.read_interval_timeout:
            self.last_rx = self.device.ke.clock.now()
        if len(self.readers) > 1:
            self._leave_behind()

    def _leave_behind(self) -> None:
        # With several readers, one that does not read must not hold up the others: who falls behind the foremost by more
        # than the log's size loses what is further back, and is told. Bytes that nobody has read are lost to nobody, and a
        # single reader never loses any: for these the port stops taking bytes instead.
        oldest = max(reader.cursor for reader in self.readers) - self.log_size
        for reader in self.readers:
            if reader.cursor < oldest and reader.limit <= self.log_size:
                reader.missed += oldest - reader.cursor
                reader.cursor = oldest
                reader.scanned = max(reader.scanned, oldest)

    def watch_receiver(self) -> None:
        """Take bytes from the line while some reader has room for them. Hold the lock.

        Otherwise they are left to the OS's buffer and its flow control. The room is that of the log, or of the started
        read if that is larger: such a read must be able to end. Without any reader nothing is taken; the bytes wait in the
        OS for who opens the port next.
        """
        end = self.log.end
        room = any(end - r.cursor < self.log_size or end - r.cursor < r.limit for r in self.readers)
        if room != self.rx_on:
            self.set_interrupts(rx=room)

    def set_interrupts(self, *, rx: bool | None = None, tx: bool | None = None, modem: bool | None = None) -> None:
        """Program the line's interrupt enable register, while the ISR, which does the same, is kept out.

        Without an interrupt, which is so while the device is stopped, and in its sleep the wish is only noted.
        """

        def program() -> None:
            if rx is not None:
                self.rx_on = rx
            if tx is not None:
                self.tx_on = tx
            if modem is not None:
                self.modem_on = modem
            self.program_interrupts()

        interrupt = self.interrupt  # looked at once: a removal takes it away without our lock
        if interrupt is None:
            self.rx_on = self.rx_on if rx is None else rx
            self.tx_on = self.tx_on if tx is None else tx
            self.modem_on = self.modem_on if modem is None else modem
        else:
            interrupt.synchronize(program)

    def program_interrupts(self) -> None:
        """The same for the ISR itself."""
        line = self.line
        if line is not None and not self.asleep:
            causes = (CAUSE_RX if self.rx_on else 0) | (CAUSE_TX if self.tx_on else 0)
            line.enable_interrupts(causes | CAUSE_MODEM if self.modem_on else causes)

    def trim(self) -> None:
        """Forget what every reader has read. Hold the lock. With no reader left, all is kept for the next one."""
        readers = self.readers
        if len(readers) == 1:
            self.log.trim(readers[0].cursor)
        elif readers:
            self._leave_behind()
            self.log.trim(min(reader.cursor for reader in readers))

    def drain_time_ms(self, waiting: int) -> float:
        """After which time to look again whether the line has sent `waiting` bytes."""
        settings = self.settings
        bits = settings.bytesize + 2 + (settings.parity != "N")
        needed = waiting * bits * 1000 / max(settings.baudrate, 1)
        return min(max(needed, 1.0), LONGEST_DRAIN_CHECK_MS)

    @property
    def serving(self) -> bool:
        """Whether requests are accepted: the line is there, or is only lent and comes back."""
        return self.line is not None or (self.gone is None and self.tx_held & TX_STOP != 0)

    def reader_of(self, file: FileObject | None) -> Reader | None:
        """The reader that belongs to an open."""
        return file.fs_context if file is not None else None
