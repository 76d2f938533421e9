"""Dispatcher objects: what a thread can wait for, one at a time or several at once.

A wait for one object stands in that object's line, and is *handed* what it waits for: whoever sets a synchronization event
satisfies the first in line, and the event is not even signaled in between. That is how exactly one is woken, in order.

A wait for several objects stands in no line. It is *told* when one of them changes, looks at all of them at once, and takes
what it was promised (one, or all) or nothing. All of them are locked for that look, in the order of their numbers, which is
the same for everybody: so two such waits cannot wait for each other, and none takes a part of what it needs. A line has
precedence over it: a signal that somebody in line can be handed is gone before such a wait looks.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.kernel.machine import WakerLike
    from hilbridge.kernel.processor import Processor

_serials = itertools.count(1)

MAXIMUM_WAIT_OBJECTS = 64


class WaitType(IntEnum):
    """WAIT_TYPE."""

    ALL = 0
    ANY = 1


class EventWait:
    """One thread's wait."""

    __slots__ = ("_waker", "done", "processor")

    def __init__(self, processor: Processor | None = None) -> None:
        self.done = False
        self.processor = processor
        self._waker: WakerLike | None = None

    def add_waker(self, waker: WakerLike) -> None:
        """Wake `waker` when the wait is over; the order of the two lines makes a wake-up in between visible."""
        self._waker = waker
        if self.done:
            waker.wake()

    def satisfy(self) -> None:
        """It is over."""
        self.done = True
        waker = self._waker
        if waker is not None:
            waker.wake()


class DispatcherObject:
    """Base class: the line of those who wait for it, and those who want to be told."""

    __slots__ = ("_lock", "_serial", "_told", "_waits")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial = next(_serials)
        self._waits: deque[EventWait] = deque()
        self._told: list[EventWait] = []
        """Waits for several objects, of which this is one."""

    def _is_signaled(self, processor: Processor | None) -> bool:
        """Whether a wait of that thread would end at once. Hold the lock."""
        raise TypeError(f"{type(self).__name__} does not say when it is signaled")

    def _take(self, processor: Processor | None) -> None:
        """A wait of that thread is satisfied by it: what that changes. Hold the lock; it is signaled."""

    def begin_wait(self, processor: Processor | None = None) -> EventWait | None:
        """Take the signal (None), or a place in the line of those who wait."""
        with self._lock:
            if self._is_signaled(processor):
                self._take(processor)
                return None
            wait = EventWait(processor)
            self._waits.append(wait)
            return wait

    def end_wait(self, wait: EventWait) -> bool:
        """Leave the line; True if the wait was satisfied before that after all."""
        with self._lock:
            if not wait.done:
                self._waits.remove(wait)
            return wait.done

    def _hand_out(self) -> list[EventWait]:
        """The state has changed: satisfy those in line, first come first served. Hold the lock; wake them without it."""
        woken: list[EventWait] = []
        waits = self._waits
        while waits and self._is_signaled(waits[0].processor):
            wait = waits.popleft()
            self._take(wait.processor)
            # In here: a waiter whose time is just up must find that it was woken, not that it is in no line.
            wait.done = True
            woken.append(wait)
        return woken + self._told

    @staticmethod
    def _wake(woken: list[EventWait]) -> None:
        for wait in woken:
            wait.satisfy()

    @property
    def signaled(self) -> bool:
        """Whether a wait would end at once. Only for looking."""
        with self._lock:
            return self._is_signaled(None)


class MultipleWait:
    """A wait for several objects: it joins them, looks, and leaves."""

    __slots__ = ("_kind", "_objects", "_ordered", "_processor", "_wait")

    def __init__(self, objects: list[DispatcherObject], kind: WaitType, processor: Processor) -> None:
        self._objects = objects
        self._ordered = sorted({id(one): one for one in objects}.values(), key=lambda one: one._serial)
        self._kind = kind
        self._processor = processor
        self._wait: EventWait | None = None

    def look(self) -> int | None:
        """Take what the wait is for: the lowest index that is signaled, or all (0). None: not yet, and nothing was taken."""
        for one in self._ordered:
            one._lock.acquire()
        try:
            ready = [one._is_signaled(self._processor) for one in self._objects]
            if self._kind is WaitType.ANY:
                for index, is_ready in enumerate(ready):
                    if is_ready:
                        self._objects[index]._take(self._processor)
                        return index
            elif all(ready):
                for one in self._ordered:
                    one._take(self._processor)
                return 0
            return None
        finally:
            for one in reversed(self._ordered):
                one._lock.release()

    def join(self) -> EventWait:
        """Be told of every change from now on. Look *afterwards*: a change before that may have gone untold."""
        wait = self._wait = EventWait(self._processor)
        for one in self._ordered:
            with one._lock:
                one._told.append(wait)
        return wait

    def leave(self) -> None:
        """Be told no more."""
        wait, self._wait = self._wait, None
        for one in self._ordered:
            with one._lock:
                one._told[:] = [other for other in one._told if other is not wait]
