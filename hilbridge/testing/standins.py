"""What stands in for `threading`, `queue` and `select` in the bridge's modules while races are explored.

Whatever would block hands the baton on instead; whatever would start a thread gives the scheduler one more. Time-outs are
over on the virtual clock: when nobody can go on, or, if they are short, at any moment.
"""

from __future__ import annotations

import queue
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import ModuleType
from typing import Any

from hilbridge.testing.baton import Actor, Go, Scheduler

PATIENCE = 1_000_000_000
"""Nanoseconds. A wait with a shorter time-out may time out at any moment, one with a longer only when all is still."""


def wait(scheduler: Scheduler, ready: Callable[[], bool], why: str, timeout: int | None) -> bool:
    """Wait until `ready()`; False when `timeout` (nanoseconds) has passed first."""
    if timeout is None:
        return scheduler.block(ready, why) is Go.READY
    due = scheduler.now() + timeout
    go = scheduler.block(ready, why, due=due, may_crank=True, may_time_out=timeout < PATIENCE)
    if go is Go.STILL:
        scheduler.stood_still += max(0, due - scheduler.now())
    if go is not Go.READY:
        scheduler.pass_time(due)
    return go is Go.READY


def nanoseconds(seconds: float | None) -> int | None:
    """A time-out as threading and select have it: None or negative is none at all."""
    return None if seconds is None or seconds < 0 else round(seconds * 1e9)


class CooperativeLock:
    """`threading.Lock` or `RLock`."""

    __slots__ = ("_count", "_made_at", "_reentrant", "_scheduler", "holder", "is_signal")

    def __init__(self, scheduler: Scheduler, made_at: str, *, reentrant: bool) -> None:
        self._scheduler = scheduler
        self._made_at = made_at
        self._reentrant = reentrant
        self._count = 0
        self.holder: Actor | None = None
        self.is_signal = False
        """It keeps nobody out: it was released by another thread than the one that took it, or that one waits for it itself."""
        scheduler.locks.append(self)

    def __repr__(self) -> str:
        return f"the lock of {self._made_at}" + (f", held by {self.holder.name}" if self.holder is not None else "")

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As in threading."""
        me = self._scheduler.current
        if self._count:
            if self._reentrant and self.holder is me:
                self._count += 1
                return True
            self.is_signal = self.is_signal or self.holder is me
            if not blocking or not wait(self._scheduler, self._is_free, repr(self), nanoseconds(timeout)):
                return False
        self._count = 1
        self.holder = me
        return True

    def _is_free(self) -> bool:
        return self._count == 0

    def release(self) -> None:
        """As in threading."""
        if not self._count:
            raise RuntimeError("release unlocked lock")
        self.is_signal = self.is_signal or self.holder is not self._scheduler.current
        self._count -= 1
        if not self._count:
            self.holder = None

    def locked(self) -> bool:
        """As in threading."""
        return self._count > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class CooperativeEvent:
    """`threading.Event`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False

    def is_set(self) -> bool:
        """As in threading."""
        return self._set

    def set(self) -> None:
        """As in threading."""
        self._set = True

    def clear(self) -> None:
        """As in threading."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """As in threading."""
        return self._set or wait(self._scheduler, self.is_set, "for an event", nanoseconds(timeout))


class CooperativeThread:
    """`threading.Thread`: a servant of the race."""

    def __init__(self, scheduler: Scheduler, target: Callable[..., object], name: str, args: tuple[Any, ...]) -> None:
        self._scheduler = scheduler
        self._target = target
        self._args = args
        self.name = name
        self.actor: Actor | None = None

    def start(self) -> None:
        """As in threading."""
        self.actor = self._scheduler.spawn(self.name, lambda: self._target(*self._args))

    def is_alive(self) -> bool:
        """As in threading."""
        return self.actor is not None and not self.actor.finished

    def join(self, timeout: float | None = None) -> None:
        """As in threading."""
        if self.is_alive():
            wait(self._scheduler, lambda: not self.is_alive(), f"for the end of {self.name}", nanoseconds(timeout))


class CooperativeQueue:
    """`queue.SimpleQueue`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """As in queue."""
        self._items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As in queue."""
        there = bool(self._items)
        if not there and block:
            there = wait(self._scheduler, lambda: bool(self._items), "for a queue", nanoseconds(timeout))
        if not there:
            raise queue.Empty
        return self._items.popleft()

    def empty(self) -> bool:
        """As in queue."""
        return not self._items


class CooperativePoll:
    """`select.poll` or `select.epoll`, on real descriptors. `unit`: nanoseconds in one of its time-outs."""

    def __init__(self, scheduler: Scheduler, real: Any, unit: float) -> None:
        self._scheduler = scheduler
        self._real = real
        self._unit = unit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """As in select."""
        limit = () if maxevents < 0 else (maxevents,)
        ready: list[tuple[int, int]] = self._real.poll(0, *limit)
        if ready or timeout == 0:
            return ready
        patience = None if timeout is None or timeout < 0 else round(timeout * self._unit)
        if not wait(self._scheduler, lambda: bool(self._real.poll(0)), "for a descriptor", patience):
            return []
        return self._real.poll(0, *limit)  # type: ignore[no-any-return]


class _StandIn:
    """A module of which some names are other than usual."""

    def __init__(self, scheduler: Scheduler, module: ModuleType) -> None:
        self._scheduler = scheduler
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Threading(_StandIn):
    def _lock(self, *, reentrant: bool) -> CooperativeLock:
        frame = sys._getframe(2)
        return CooperativeLock(self._scheduler, f"{frame.f_globals['__name__']}:{frame.f_lineno}", reentrant=reentrant)

    def Lock(self) -> CooperativeLock:  # noqa: N802 - as in threading
        return self._lock(reentrant=False)

    def RLock(self) -> CooperativeLock:  # noqa: N802
        return self._lock(reentrant=True)

    def Event(self) -> CooperativeEvent:  # noqa: N802
        return CooperativeEvent(self._scheduler)

    def Thread(  # noqa: N802
        self, *, target: Callable[..., object], name: str, daemon: bool = False, args: tuple[Any, ...] = ()
    ) -> CooperativeThread:
        return CooperativeThread(self._scheduler, target, name, args)


class _Queue(_StandIn):
    def SimpleQueue(self) -> CooperativeQueue:  # noqa: N802 - as in queue
        return CooperativeQueue(self._scheduler)


class _Select(_StandIn):
    def epoll(self) -> CooperativePoll:
        return CooperativePoll(self._scheduler, select.epoll(), 1e9)

    def poll(self) -> CooperativePoll:
        return CooperativePoll(self._scheduler, select.poll(), 1e6)


def stand_ins(scheduler: Scheduler) -> dict[ModuleType, object]:
    """Module -> what stands in for it."""
    return {
        threading: _Threading(scheduler, threading),
        queue: _Queue(scheduler, queue),
        select: _Select(scheduler, select),
    }
