"""How long the code of drivers may take before they count as hung."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. ``bridge.ke.limits = Limits(dispatch=60)`` holds from the next look of the watchdog on.

    An ISR should take 25 us and a DPC 100 us, and both hold up a processor that other devices wait for; Windows gives a DPC
    20 s. A dispatch, cancel or completion routine holds up its own callers above all. The defaults are far above what any
    of these needs, in Python and on a loaded machine, and short enough that somebody who waits does not go for a walk: what
    is reported as hung must be hung.
    """

    isr: float = 2.0
    """An interrupt service routine, or a routine that is synchronized with it."""
    dpc: float = 2.0
    """A DPC, with all that it calls."""
    dispatch: float = 10.0
    """A dispatch routine, without what it waits for. A wait has its own deadline or none; see `pnp`."""
    completion: float = 10.0
    cancel: float = 10.0
    start_io: float = 10.0
    work_item: float = 10.0
    system_thread: float = float("inf")
    """A thread of a driver's own may do what it likes: nobody waits for it. What it calls has its own limit."""
    pnp: float = 60.0
    """A dispatch routine for PNP or POWER that waits, for instance for the driver below: UMDF's host time-out. Reads, writes
    and control requests may wait for as long as their callers like."""

    @property
    def shortest(self) -> float:
        """The shortest of them."""
        return min(self.isr, self.dpc, self.dispatch, self.completion, self.cancel, self.start_io, self.work_item)
