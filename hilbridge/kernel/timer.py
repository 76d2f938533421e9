"""KTIMER and the queue that the poller sleeps by.

Due times follow KeSetTimerEx: in units of 100 ns, negative is relative to now, positive absolute on the bridge's clock.
`relative_ms` spares the arithmetic.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from hilbridge.kernel.event import EventType, Signal
from hilbridge.kernel.wait import signaling

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc


def relative_ms(milliseconds: float) -> int:
    """A due time that many milliseconds from now, in KeSetTimerEx's units."""
    return -round(milliseconds * 10_000)


class Ktimer(Signal):
    """KTIMER. Signaled when it expires, and not signaled any more when it is set again; cancelling leaves that as it is.

    A notification timer wakes everybody and stays signaled; a synchronization timer wakes one, and is reset.
    """

    __slots__ = ("dpc", "due", "expired_dpc", "period", "serial")

    def __init__(self, kind: EventType = EventType.NOTIFICATION) -> None:
        super().__init__(kind)
        self.due = 0
        self.period = 0
        self.dpc: Kdpc | None = None
        self.expired_dpc: Kdpc | None = None
        """The DPC of the expiry that was taken last: by now the timer may have been set again, with another one."""
        self.serial = 0
        """Number of the queue entry that counts, or 0 when not queued: older entries of this timer are dead."""

    def __repr__(self) -> str:
        queued = f"due at {self.due} ns" if self.serial else "not queued"
        return f"<{self._kind.name.lower()} timer, {queued}>"


class TimerQueue:
    """All timers of a kernel that run. Cancelled entries are left in the heap and skipped."""

    __slots__ = ("_heap", "_live", "_lock", "_serial")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[int, int, Ktimer]] = []
        self._live = 0
        self._serial = 0

    def set(self, timer: Ktimer, due: int, period: int, dpc: Kdpc | None) -> tuple[bool, bool]:
        """Queue; `due` and `period` in nanoseconds. Returns (was it queued before, is it now the earliest of all)."""
        with self._lock:
            was_queued = timer.serial != 0
            if not was_queued:
                self._live += 1
            self._serial += 1
            timer.serial = self._serial
            timer.due = due
            timer.period = period
            timer.dpc = dpc
            timer._signaled = False
            heappush(self._heap, (due, self._serial, timer))
            self._sweep()
            self._drop_dead()
            return was_queued, self._heap[0][1] == self._serial

    def cancel(self, timer: Ktimer) -> bool:
        """True if it was queued. A DPC that is queued already stays queued, as in Windows."""
        with self._lock:
            was_queued = timer.serial != 0
            if was_queued:
                self._live -= 1
            timer.serial = 0
            self._sweep()
            return was_queued

    def running(self) -> list[Ktimer]:
        """The timers that are queued, in no order."""
        with self._lock:
            return [timer for _, serial, timer in self._heap if serial == timer.serial]

    def next_due(self) -> int | None:
        """When the earliest timer expires (nanoseconds), or None."""
        with self._lock:
            self._drop_dead()
            return self._heap[0][0] if self._heap else None

    def pop_expired(self, now: int) -> Ktimer | None:
        """Take one timer that is due; a periodic one is queued again from when it was due, not from now."""
        with self._lock:
            self._drop_dead()
            if not self._heap or self._heap[0][0] > now:
                return None
            timer = heappop(self._heap)[2]
            timer.expired_dpc = timer.dpc
            # Under our lock: it may not be set anew in between, and then be signaled by this expiry.
            with signaling(timer):
                timer._signaled = True
            if timer.period:
                self._serial += 1
                timer.serial = self._serial
                timer.due += timer.period
                heappush(self._heap, (timer.due, self._serial, timer))
            else:
                timer.serial = 0
                self._live -= 1
            return timer

    def _sweep(self) -> None:
        # A timer that is set again and again leaves an entry each time, and none of them may be due for long.
        if len(self._heap) > 64 + 4 * self._live:
            self._heap = sorted(entry for entry in self._heap if entry[1] == entry[2].serial)

    def _drop_dead(self) -> None:
        heap = self._heap
        while heap and heap[0][1] != heap[0][2].serial:
            heappop(heap)

    def __len__(self) -> int:
        return self._live
