"""A UART made of Python, modelled on the 16550: FIFOs, pace, modem lines, and what goes wrong on a wire.

The driver cannot tell it from hardware. What is sent takes the time that the rate and the format say, on the clock of the
bridge that it is plugged into, virtual or the system's: the kernel's timers are its crystal. Its far end is another UART (a
null modem), itself (a loop), or in a test's hand.

What a 16550 has and the seam to the driver, `hilbridge.model.hardware.Line`, cannot carry is which character had which error:
the characters arrive as they were received, and `errors` counts.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Self

from hilbridge.kernel.clock import MS
from hilbridge.kernel.interrupt import Pin
from hilbridge.model.errors import DeviceGone, DeviceUnsupported, UsageFault
from hilbridge.model.hardware import (
    CAUSE_GONE,
    CAUSE_MODEM,
    CAUSE_RX,
    CAUSE_TX,
    MSR_CTS,
    MSR_DCD,
    MSR_DSR,
    MSR_RI,
    InterruptPin,
    LineSettings,
)
from hilbridge.virtual.wire import Crystal, Outcome, Received, Transmitter, duration, sample

FIFO_SIZE = 16
TRIGGERS = (1, 4, 8, 14)
"""What a 16550's FIFO control register offers: characters in the receive FIFO that make it interrupt."""
TIMEOUT_CHARACTERS = 4
"""Fewer than that interrupt after so many character times without a new one, and without anybody who reads."""
HALT_AT, RESUME_AT = 12, 4
"""With flow control: characters in the receive FIFO at which the far end is asked to wait, and to go on. XOFF may have to wait
for a character of our own, and the far end has begun with another one when it gets it: there is room for these."""
HOST_LATENCY = 100 * MS
"""On the system's clock: how long a FIFO has to be full before a character is lost, in nanoseconds. Python's threads hold each
other up for milliseconds, in which a real port's driver, in the kernel, would have emptied it: nobody is slow who is not
slower than that. Meanwhile the wire waits. On a virtual clock nobody is held up, and the seventeenth character is lost."""
XON, XOFF = 0x11, 0x13
UNLIMITED = 1 << 62


@dataclass(slots=True)
class LineErrors:
    """How often each bit of the line status register was set."""

    overrun: int = 0
    """Characters that were lost, because the receive FIFO was full."""
    parity: int = 0
    framing: int = 0
    breaks: int = 0


class VirtualUart:
    """A `Line`. `feed`, `sent`, `drive` and `ring` are its far end, if that is in the test's hand; `pair` makes two.

    With `loop`, TX is wired to RX, RTS to CTS, and DTR to DSR and DCD. DTR and RTS go on when it is plugged in, as they do when
    a kernel opens a port.
    """

    def __init__(self, name: str = "virtual:uart", *, loop: bool = False, trigger: int = 8) -> None:
        self.name = name
        self.settings = LineSettings()
        """How it is programmed."""
        self.far_settings: LineSettings | None = None
        """How the far end in the test's hand is programmed; None: always as this one."""
        self.sent = bytearray()
        """What the far end in the test's hand has got: with other settings, what it makes of it."""
        self.errors = LineErrors()
        """What went wrong on the way in."""
        self._peer: VirtualUart | None = self if loop else None
        self._lock = threading.Lock()  # of the whole wire
        self._pin: InterruptPin | None = None
        self._enabled = 0
        self._on = self._unplugged = self._told_gone = self._closed = False
        self._tx: Transmitter | None = None
        # Receiving.
        self._fifo: deque[int] = deque()
        self._trigger = 0
        self._timeout: Crystal | None = None
        self._timeout_runs = self._timed_out = False
        self._touched = 0
        """When a character came, or was read, last."""
        self._full_since = 0
        self._halted = False
        """The far end has been asked to wait."""
        self._xoff_seen = False
        # Modem lines.
        self._dtr = self._rts = self._ringing = False
        self._inputs_seen = 0
        self._inputs_changed = False
        # The hand.
        self._hand: Transmitter | None = None
        self._far_dtr = self._far_rts = True
        self._far_xoff_seen = False
        self.trigger = trigger

    @classmethod
    def pair(
        cls, first: str = "virtual:uart0", second: str = "virtual:uart1", *, trigger: int = 8
    ) -> tuple[Self, Self]:
        """Two UARTs and a null modem between them: RTS to CTS, DTR to DSR and DCD, both ways."""
        one, other = cls(first, trigger=trigger), cls(second, trigger=trigger)
        one._peer, other._peer = other, one
        other._lock = one._lock
        return one, other

    # -- Line --------------------------------------------------------------------------------------------------------

    @property
    def has_modem_lines(self) -> bool:
        """A UART has them."""
        return True

    def fileno(self) -> int:
        """There is no descriptor."""
        return -1

    def connect(self, pin: InterruptPin) -> None:
        """Solder to the pin, whose kernel has the clock from now on. The first time, the power goes on."""
        if not isinstance(pin, Pin):
            raise UsageFault(
                f"{self.name} runs by the clock of a bridge: plug it in, it cannot be connected to {pin!r}"
            )
        pin.moved = False
        self._pin = pin
        with self._lock:
            ke = pin.vector.ke
            if self._tx is None or self._tx.ke is not ke:
                self._power(on=False)
                self._tx = Transmitter(
                    ke,
                    self._lock,
                    settings=lambda: self.settings,
                    may_send=self._may_send,
                    deliver=self._deliver,
                    settled=self._settle,
                )
                self._hand = Transmitter(
                    ke,
                    self._lock,
                    settings=lambda: self.far_settings or self.settings,
                    may_send=self._hand_may_send,
                    deliver=self._arrive,
                    settled=self._settle,
                )
                self._timeout = Crystal(ke, self._nothing_came)
                self._power(on=not (self._closed or self._unplugged))
        self._settle()

    def enable_interrupts(self, causes: int) -> None:
        """Interrupt enable register. A cause that holds already, and may interrupt only now, does."""
        with self._lock:
            self._enabled = causes
        if self._pin is not None:
            self._pin.enable(causes)
        self._assert()

    def causes(self) -> int:
        """Interrupt identification register."""
        if self._pin is not None:
            self._pin.take()
        with self._lock:
            causes = self._level()
            if causes & CAUSE_MODEM:
                # A 16550 wants its modem status register read. The seam says that this call acknowledges, and the driver looks
                # at the lines in its DPC only: it would be interrupted until then.
                self._inputs_changed = False
            if causes & CAUSE_GONE:
                self._told_gone = True  # said once: like a descriptor that hung up, it is not watched any more
        return causes

    def asserted(self) -> bool:
        """Whether it still interrupts."""
        with self._lock:
            return self._level() != 0

    def read(self, limit: int) -> bytes:
        """Receive buffer register, as often as there is something in it."""
        with self._lock:
            data = bytes(self._fifo.popleft() for _ in range(min(limit, len(self._fifo))))
            if not data and (self._unplugged or self._closed):
                raise DeviceGone(f"{self.name} was unplugged")
            if data:
                self._taken()
        if data and self._pin is not None:
            self._pin.moved = True
            self._settle()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Transmit holding register: into the FIFO, as much as there is room for."""
        with self._lock:
            if self._unplugged or self._closed:
                raise DeviceGone(f"{self.name} was unplugged")
            count = self._transmitter().put(data, FIFO_SIZE)
        if count and self._pin is not None:
            self._pin.moved = True
        self._assert()
        return count

    def configure(self, settings: LineSettings) -> None:
        """Line control register and divisor latch. The character that is under way is sent as it was begun."""
        if settings.baudrate <= 0:
            raise DeviceUnsupported(f"{self.name} cannot do {settings.baudrate} baud")
        if (settings.stopbits == 1.5 and settings.bytesize != 5) or (settings.stopbits == 2 and settings.bytesize == 5):
            raise DeviceUnsupported(
                f"{self.name} cannot do {settings.stopbits:g} stop bits with {settings.bytesize} data bits"
            )
        if settings.dsrdtr:
            raise DeviceUnsupported(f"{self.name} has no DSR/DTR flow control: rtscts, or xonxoff")
        with self._lock:
            self.settings = settings
            if not settings.xonxoff:
                self._xoff_seen = self._far_xoff_seen = False
            if not (settings.xonxoff or settings.rtscts):
                self._halted = False
            self._outputs_changed()
            self._kick()
        self._settle()

    def modem_status(self) -> int:
        """Modem status register."""
        with self._lock:
            return self._inputs()

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Modem control register. With `rtscts`, RTS is off also while the receive FIFO is too full."""
        with self._lock:
            self._dtr = self._dtr if dtr is None else dtr
            self._rts = self._rts if rts is None else rts
            self._outputs_changed()
        self._settle()

    def set_break(self, on: bool) -> None:
        """Line control register, bit 6. What is sent meanwhile is lost; the far end notices one as long as a character."""
        with self._lock:
            self._transmitter().set_break(on)
        self._settle()

    def output_waiting(self) -> int:
        """Characters in the transmit FIFO and the shift register."""
        with self._lock:
            return self._tx.unsent if self._tx is not None else 0

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        """FIFO control register: empty the FIFOs. What is in the shift register still goes out."""
        with self._lock:
            if rx:
                self._fifo.clear()
                self._taken()
            if tx and self._tx is not None:
                self._tx.clear()
        self._settle()

    def close(self) -> None:
        """Power off: its outputs fall, what it has not sent is lost. Dead afterwards."""
        with self._lock:
            self._closed = True
            self._power(on=False)
        self._settle()

    # -- the far end, and other hands --------------------------------------------------------------------------------

    @property
    def trigger(self) -> int:
        """So many characters in the receive FIFO interrupt: 1, 4, 8 or 14. Assign to change it."""
        return self._trigger

    @trigger.setter
    def trigger(self, characters: int) -> None:
        if characters not in TRIGGERS:
            raise UsageFault(f"a 16550 interrupts at 1, 4, 8 or 14 characters, not at {characters}")
        self._trigger = characters
        self._assert()

    def feed(self, data: bytes) -> None:
        """The far end in the test's hand sends: one character after the other, each in its time."""
        with self._lock:
            self._free_hand()
            hand = self._hand
            if hand is None:
                raise UsageFault(f"{self.name} has no power, and hears nothing: plug it in first")
            if self._on:
                hand.put(data, UNLIMITED)

    def drive(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """The far end in the test's hand sets its DTR (our DSR and DCD) and RTS (our CTS). Both are on at first."""
        with self._lock:
            self._free_hand()
            self._far_dtr = self._far_dtr if dtr is None else dtr
            self._far_rts = self._far_rts if rts is None else rts
            self._look_at_inputs()
        self._settle()

    def far_break(self, on: bool) -> None:
        """The far end in the test's hand holds a break, or lets it go: one 0x00 here. What is fed meanwhile is lost."""
        with self._lock:
            self._free_hand()
            if self._on and self._hand is not None:
                self._hand.set_break(on)

    def ring(self, on: bool = True) -> None:
        """The ring indicator, which no null modem connects."""
        with self._lock:
            self._ringing = on
            self._look_at_inputs()
        self._settle()

    def unplug(self) -> None:
        """It is pulled out. What it had received can still be read; what it had not sent is lost, and its outputs fall."""
        with self._lock:
            self._unplugged = True
            self._power(on=False)
        self._settle()

    @property
    def break_on(self) -> bool:
        """Whether it holds a break."""
        return self._tx is not None and self._tx.break_on

    @property
    def untaken(self) -> int:
        """Characters that are on their way in, and that the driver has not taken."""
        with self._lock:
            return len(self._fifo) + (self._hand.unsent if self._hand is not None else 0)

    def _free_hand(self) -> None:
        if self._peer is not None:
            other = "itself" if self._peer is self else self._peer.name
            raise UsageFault(
                f"the far end of {self.name} is {other}, and not in your hand: make one without loop or pair"
            )

    # -- sending: with the lock --------------------------------------------------------------------------------------

    def _transmitter(self) -> Transmitter:
        if self._tx is None:
            raise UsageFault(f"{self.name} has no power: plug it in first")
        return self._tx

    def _may_send(self) -> bool:
        return not self._xoff_seen and (not self.settings.rtscts or self._inputs() & MSR_CTS != 0)

    def _hand_may_send(self) -> bool:
        return not self._far_xoff_seen and (not self.settings.rtscts or self._rts_output())

    def _deliver(self, character: int, settings: LineSettings) -> Outcome:
        if self._peer is not None:
            return self._peer._arrive(character, settings)
        for received in sample(character, settings, self.far_settings or self.settings):
            if self.settings.xonxoff and received.byte in (XON, XOFF):
                self._far_xoff_seen = received.byte == XOFF
            elif not received.is_break:
                self.sent.append(received.byte)
        self._kick()
        return Outcome.TAKEN

    def _kick(self) -> None:
        """What held up a transmitter may be over."""
        if self._on and self._tx is not None:
            self._tx.kick()
        if self._on and self._hand is not None:
            self._hand.kick()

    # -- receiving: with the lock ------------------------------------------------------------------------------------

    def _arrive(self, character: int, settings: LineSettings) -> Outcome:
        """A character has come in."""
        if not self._on or self._timeout is None:
            return Outcome.TAKEN  # by nobody
        ke = self._timeout.ke
        now = ke.clock.now()
        if len(self._fifo) >= FIFO_SIZE and ke.machine.watched and now - self._full_since < HOST_LATENCY:
            return Outcome.NOT_YET
        before = self._level() & CAUSE_RX
        for received in sample(character, settings, self.settings):
            self._put(received, now)
        self._touched = now
        if self._fifo and not self._timeout_runs:
            self._timeout_runs = True
            self._timeout.start(now + duration(self.settings, TIMEOUT_CHARACTERS))
        if len(self._fifo) >= HALT_AT:
            self._halt(True)
        return Outcome.TAKEN_AND_INTERRUPTS if not before and self._level() & CAUSE_RX else Outcome.TAKEN

    def _put(self, received: Received, now: int) -> None:
        errors = self.errors
        errors.breaks += received.is_break
        errors.framing += received.framing and not received.is_break
        errors.parity += received.parity
        if self.settings.xonxoff and received.byte in (XON, XOFF) and not (received.framing or received.parity):
            self._xoff_seen = received.byte == XOFF
            self._kick()
        elif len(self._fifo) >= FIFO_SIZE:
            errors.overrun += 1  # the one in the shift register is lost, and not those in the FIFO
        else:
            self._fifo.append(received.byte)
            if len(self._fifo) == FIFO_SIZE:
                self._full_since = now

    def _taken(self) -> None:
        """Somebody has read, or emptied the FIFO."""
        self._timed_out = self._unplugged and bool(self._fifo)
        if self._timeout is not None:
            self._touched = self._timeout.ke.clock.now()
        if len(self._fifo) <= RESUME_AT:
            self._halt(False)

    def _halt(self, on: bool) -> None:
        """Ask the far end to wait, or to go on, in whatever way is agreed upon."""
        if on == self._halted or not self._on or not (self.settings.rtscts or self.settings.xonxoff):
            return
        self._halted = on
        if self.settings.rtscts:
            self._outputs_changed()
        elif self._tx is not None:
            self._tx.urgent = XOFF if on else XON  # in the place of the other one, if that is not out yet
            self._tx.kick()

    def _nothing_came(self) -> None:
        """The time-out of the receive FIFO. It is not set anew for each character; instead it looks when the last one came."""
        with self._lock:
            crystal = self._timeout
            if crystal is not None and self._on:
                due = self._touched + duration(self.settings, TIMEOUT_CHARACTERS)
                self._timeout_runs = bool(self._fifo) and due > crystal.ke.clock.now()
                if self._timeout_runs:
                    crystal.start(due)
                else:
                    self._timed_out = bool(self._fifo)
        self._assert()

    # -- modem lines and power: with the lock ------------------------------------------------------------------------

    def _rts_output(self) -> bool:
        return self._rts and not (self._halted and self.settings.rtscts)

    def _inputs(self) -> int:
        peer = self._peer
        dtr, rts = (self._far_dtr, self._far_rts) if peer is None else (peer._dtr, peer._rts_output())
        return (MSR_DSR | MSR_DCD if dtr else 0) | (MSR_CTS if rts else 0) | (MSR_RI if self._ringing else 0)

    def _look_at_inputs(self) -> None:
        inputs = self._inputs()
        if inputs != self._inputs_seen:
            self._inputs_seen, self._inputs_changed = inputs, True
            self._kick()

    def _outputs_changed(self) -> None:
        if self._peer is None:
            self._kick()  # the hand waits for our RTS
        else:
            self._peer._look_at_inputs()

    def _power(self, *, on: bool) -> None:
        self._on = self._dtr = self._rts = on
        if on:
            self._inputs_seen = self._inputs()
        else:
            for part in (self._tx, self._hand, self._timeout):
                if part is not None:
                    part.stop()
            self._timeout_runs = self._halted = self._xoff_seen = self._far_xoff_seen = False
            self._timed_out = bool(self._fifo)
        self._outputs_changed()

    # -- the interrupt -----------------------------------------------------------------------------------------------

    def _level(self) -> int:
        if self._closed:
            return 0
        causes = 0
        if len(self._fifo) >= self._trigger or (self._timed_out and self._fifo):
            causes = CAUSE_RX
        if self._on and self._tx is not None and not self._tx.fifo:
            causes |= CAUSE_TX
        if self._inputs_changed:
            causes |= CAUSE_MODEM
        causes &= self._enabled
        if self._unplugged and not self._told_gone:
            causes |= CAUSE_GONE
        return causes

    def _assert(self) -> None:
        with self._lock:
            causes = self._level()
        pin = self._pin
        if causes and pin is not None:
            pin.raise_line(causes)

    def _settle(self) -> None:
        """What has happened to this end may make either interrupt. Without the lock: the kernel may ask us for our level."""
        self._assert()
        if self._peer is not None and self._peer is not self:
            self._peer._assert()
