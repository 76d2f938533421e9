"""KEVENT, and waiting for one: at PASSIVE_LEVEL only, because whoever waits higher holds up his processor."""

from __future__ import annotations

import threading
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.kernel.machine import WakerLike


class EventType(IntEnum):
    """EVENT_TYPE."""

    NOTIFICATION = 0
    SYNCHRONIZATION = 1


class EventWait:
    """One thread's wait for an event."""

    __slots__ = ("_waker", "done")

    def __init__(self) -> None:
        self.done = False
        self._waker: WakerLike | None = None

    def add_waker(self, waker: WakerLike) -> None:
        """Wake `waker` when the event comes; the order of the two lines makes a wake-up in between visible."""
        self._waker = waker
        if self.done:
            waker.wake()

    def satisfy(self) -> None:
        """The event has come."""
        self.done = True
        waker = self._waker
        if waker is not None:
            waker.wake()


class Kevent:
    """KEVENT. A notification event wakes everybody and stays set; a synchronization event wakes one, and is reset."""

    __slots__ = ("_kind", "_lock", "_signaled", "_waits")

    def __init__(self, kind: EventType = EventType.NOTIFICATION, signaled: bool = False) -> None:
        self._kind = kind
        self._lock = threading.Lock()
        self._signaled = signaled
        self._waits: deque[EventWait] = deque()

    def set(self) -> bool:
        """KeSetEvent: returns the previous state."""
        with self._lock:
            previous = self._signaled
            if self._kind is EventType.NOTIFICATION:
                self._signaled = True
                woken = list(self._waits)
                self._waits.clear()
            elif self._waits:
                woken = [self._waits.popleft()]
            else:
                self._signaled = True
                woken = []
            for wait in woken:
                # In here: a waiter whose time is just up must find that it was woken, not that it is in no line.
                wait.done = True
        for wait in woken:
            wait.satisfy()
        return previous

    def clear(self) -> bool:
        """KeResetEvent: returns the previous state."""
        with self._lock:
            previous, self._signaled = self._signaled, False
            return previous

    @property
    def signaled(self) -> bool:
        """KeReadStateEvent."""
        return self._signaled

    def begin_wait(self) -> EventWait | None:
        """Take the signal (None), or a place in the line of those who wait."""
        with self._lock:
            if self._signaled:
                if self._kind is EventType.SYNCHRONIZATION:
                    self._signaled = False
                return None
            wait = EventWait()
            self._waits.append(wait)
            return wait

    def end_wait(self, wait: EventWait) -> bool:
        """Leave the line; True if the event came before that after all."""
        with self._lock:
            if not wait.done:
                self._waits.remove(wait)
            return wait.done
