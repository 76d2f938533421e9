"""What runs over a serial wire: frames of bits, what a receiver makes of them, and the pace at which they are sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from hilbridge.kernel.clock import MS, SECOND
from hilbridge.kernel.dpc import HardwareDpc, Kdpc
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.timer import Ktimer
from hilbridge.model.hardware import LineSettings

BREAK = -1
"""In the place of a character: the wire is held low, for at least as long as a character takes."""
CATCH_UP = 1 * MS
"""How long after an expiry that came late whoever refills the transmitter is taken to have been in time, in nanoseconds."""


class Received(NamedTuple):
    """One entry of a receive FIFO: the character, and the three error bits that a line status register has for it."""

    byte: int
    framing: bool = False
    parity: bool = False
    is_break: bool = False


def bits_of(settings: LineSettings) -> float:
    """How many bit times a character takes: start bit, data, parity, stop bits."""
    return 1 + settings.bytesize + (settings.parity != "N") + settings.stopbits


def duration(settings: LineSettings, characters: int) -> int:
    """How long so many characters take, back to back, in nanoseconds: rounded up, and once only."""
    half_bits = round(2 * bits_of(settings)) * characters
    return -(-half_bits * SECOND // (2 * settings.baudrate))


def parity_bit(data: int, parity: str) -> int:
    """What the parity bit of `data` has to be."""
    return {"E": data.bit_count() & 1, "O": ~data.bit_count() & 1, "M": 1, "S": 0}[parity]


@lru_cache(maxsize=4096)
def sample(byte: int, sender: LineSettings, receiver: LineSettings) -> tuple[Received, ...]:
    """What a receiver makes of one character, or of `BREAK`, that was sent with other settings, or with the same ones.

    It does what a UART does: it waits for a falling edge, and samples in the middle of each of *its* bits. So a rate that is
    off by a few per cent does no harm; a receiver that is much too fast may see several characters, one that is much too slow
    mistakes start bits for noise. Each character is looked at alone, with an idle wire behind it: what the next one would do
    to a receiver that is still busy with this one is not modelled, so that the outcome never depends on the moment.
    """
    if byte == BREAK:  # it lasts until any receiver has seen it
        return (Received(0, framing=True, is_break=True),)
    data = byte & ((1 << sender.bytesize) - 1)
    wave = [0, *((data >> n) & 1 for n in range(sender.bytesize))]
    if sender.parity != "N":
        wave.append(parity_bit(data, sender.parity))
    return tuple(_characters(wave, sender.baudrate, receiver))


def _characters(wave: list[int], rate: int, receiver: LineSettings) -> Iterator[Received]:
    has_parity = receiver.parity != "N"
    edge: int | None = 0
    while edge is not None:
        # The middle of the receiver's k-th bit lies in this bit of the sender.
        places = [
            edge + (2 * k + 1) * rate // (2 * receiver.baudrate) for k in range(receiver.bytesize + has_parity + 2)
        ]
        levels = [wave[place] if place < len(wave) else 1 for place in places]
        if levels[0]:  # shorter than half a bit: noise
            edge = _falling_edge(wave, places[0])
            continue
        data = sum(bit << n for n, bit in enumerate(levels[1 : receiver.bytesize + 1]))
        stop = levels[-1]
        if not any(levels):
            yield Received(0, framing=True, is_break=True)
        else:
            wrong = has_parity and levels[-2] != parity_bit(data, receiver.parity)
            yield Received(data, framing=not stop, parity=wrong)
        edge = _falling_edge(wave, places[-1])


def _falling_edge(wave: list[int], start: int) -> int | None:
    """Where the wire goes from high to low, behind `start`."""
    steps = zip(wave[start:], wave[start + 1 :], strict=False)
    return next((start + 1 + n for n, step in enumerate(steps) if step == (1, 0)), None)


class Crystal(Ktimer):
    """A timer of the kernel that hardware runs by, in nanoseconds.

    It is set at any IRQL: a UART counts on while a service routine reads its registers, and no rule about drivers' timers is
    about it. Its routine is called at DISPATCH_LEVEL and belongs to no driver.
    """

    __slots__ = ("_tick", "ke")

    def __init__(self, ke: Kernel, routine: Callable[[], None]) -> None:
        super().__init__()
        self.ke = ke

        def run(_dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
            routine()

        self._tick = HardwareDpc(run)

    def start(self, when: int) -> None:
        """Expire at `when`."""
        earliest = self.ke.timers.set(self, when, 0, self._tick)[1]
        if earliest:
            self.ke.machine.timer_changed()

    def stop(self) -> None:
        """Do not expire. What has expired just now may still call the routine."""
        self.ke.timers.cancel(self)


class Outcome(Enum):
    """What has become of a character at the other end."""

    TAKEN = 0
    TAKEN_AND_INTERRUPTS = 1
    """Its receiver has just begun to interrupt: that is served before it gets the next one."""
    NOT_YET = 2
    """It has to be offered again."""


class Transmitter:
    """A FIFO and a shift register, which lets one character after the other out at the programmed rate.

    All but `tick` is called with the lock of the wire held; so are `may_send` and `deliver`. `deliver(character, settings)`
    hands out a character in the moment in which its last stop bit ends. `settled` is called after each expiry, without the
    lock.
    """

    def __init__(
        self,
        ke: Kernel,
        lock: threading.Lock,
        *,
        settings: Callable[[], LineSettings],
        may_send: Callable[[], bool],
        deliver: Callable[[int, LineSettings], Outcome],
        settled: Callable[[], None],
    ) -> None:
        self.ke = ke
        self._lock = lock
        self._settings = settings
        self._may_send = may_send
        self._deliver = deliver
        self._settled = settled
        self._timer = Crystal(ke, self.tick)
        self.fifo: deque[int] = deque()
        self.urgent: int | None = None
        """XON or XOFF: goes before everything in the FIFO, and is not held up by the other end."""
        self.break_on = False
        self._break_timer = Crystal(ke, self._break_seen)
        self._drowned = False
        """A break has been held at some moment of the character in the shift register: nobody gets it."""
        self._shifting: int | None = None
        self._format = settings()
        """With what the character in the shift register is sent: settings that change meanwhile are the next one's."""
        self._anchor = ke.clock.now()
        self._count = 0
        self._late_at: int | None = None

    @property
    def unsent(self) -> int:
        """Characters that are not out yet, with the one in the shift register."""
        return len(self.fifo) + (self._shifting is not None)

    @property
    def end(self) -> int:
        """When the character in the shift register is out, or the last one was.

        Reckoned from the first one of an unbroken row: rounded to a nanosecond, but never twice.
        """
        return self._anchor + duration(self._format, self._count)

    def put(self, data: bytes | bytearray | memoryview, room: int) -> int:
        """Into the FIFO, of which the shift register takes the first at once; returns how many went in."""
        data = memoryview(data)
        taken = 0
        while taken < len(data) and (free := room - len(self.fifo)) > 0:
            self.fifo.extend(data[taken : taken + free])
            taken = min(len(data), taken + free)
            if not self.kick():
                break
        return taken

    def kick(self) -> bool:
        """Begin with the next character, if there is one that may be sent and none is under way."""
        if self._shifting is not None or not self._load():
            return False
        self._timer.start(self.end)
        return True

    def set_break(self, on: bool) -> None:
        """Force the wire low, or let it go. The shift register does not notice: what it sends meanwhile is lost.

        The far end knows a break from a character when the wire has been low for as long as one.
        """
        if on and not self.break_on:
            self._drowned = True
            self._break_timer.start(self.ke.clock.now() + duration(self._settings(), 1))
        elif not on:
            self._break_timer.stop()
        self.break_on = on

    def clear(self) -> None:
        """The FIFO is emptied; what is in the shift register still goes out."""
        self.fifo.clear()

    def stop(self) -> None:
        """The power is off."""
        self._timer.stop()
        self._break_timer.stop()
        self.fifo.clear()
        self.urgent = self._shifting = None
        self.break_on = False

    def tick(self) -> None:
        """A character is out, or several: on real time more than one may be due by now."""
        with self._lock:
            now, outcome = self.ke.clock.now(), Outcome.TAKEN
            while (character := self._shifting) is not None and self.end <= now and outcome is Outcome.TAKEN:
                self._late_at = now if now > self.end else None
                if not self._drowned:
                    outcome = self._deliver(character, self._format)
                if outcome is not Outcome.NOT_YET:
                    self._shifting = None  # only now: what it leads to on the other side may come back, and kick us
                    self._load()
            if self._shifting is not None:
                self._timer.start(max(now + (MS if outcome is Outcome.NOT_YET else 0), self.end))
        self._settled()

    def _break_seen(self) -> None:
        with self._lock:
            if self.break_on:
                self._deliver(BREAK, self._settings())
        self._settled()

    def _load(self) -> bool:
        if self.urgent is not None:
            self._shifting, self.urgent = self.urgent, None
        elif self.fifo and self._may_send():
            self._shifting = self.fifo.popleft()
        else:
            return False
        now, end, settings = self.ke.clock.now(), self.end, self._settings()
        # An expiry that came late is ours, and not of whoever refills the FIFO because of it: else each would cost some pace.
        in_time = now <= end or (self._late_at is not None and now - self._late_at < CATCH_UP)
        if not in_time or settings != self._format:
            self._anchor, self._count, self._format = end if in_time else now, 0, settings
        self._count += 1
        self._drowned = self.break_on
        return True
