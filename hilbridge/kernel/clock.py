"""The clock is an object: the system's monotonic one, or one that a test moves by hand."""

from __future__ import annotations

import time
from typing import Protocol

MS = 1_000_000
"""Nanoseconds in a millisecond."""
SECOND = 1_000_000_000
"""Nanoseconds in a second."""


class Clock(Protocol):
    """Monotonic time in nanoseconds."""

    def now(self) -> int:
        """The time, in nanoseconds since some fixed moment."""


class SystemClock:
    """The system's monotonic clock."""

    __slots__ = ()

    now = staticmethod(time.monotonic_ns)


class VirtualClock:
    """A clock that stands still until somebody moves it."""

    __slots__ = ("_now",)

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        """The time, in nanoseconds."""
        return self._now

    def advance_to(self, when: int) -> None:
        """Move to `when` (nanoseconds); a moment in the past changes nothing."""
        self._now = max(self._now, when)
