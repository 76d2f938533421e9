"""DISPATCHER_HEADER and KWAIT_BLOCK: objects that threads wait for, and the waits that stand in line at them.

Each object has a lock of its own and a line of waits, first come first served. Whoever signals an object serves its line:
as long as the object is signaled the first wait in line takes from it what there is to take. So a synchronization event wakes
one thread, a notification event all of them.

A wait for *any* of several objects stands in all their lines, and is satisfied once: that is decided by a token, taken from
a list, as in `hilbridge.iomgr.request`. A wait for *all* takes from all objects in one step or from none. That step needs
the locks of all of them; whoever signals an object at whose line such a wait stands takes these locks, too, always in the
order in which the objects were made, and only then changes anything. Signaling an object at which nobody waits for several
takes one lock.

Lock order: the timer queue's lock, then objects' locks by `_order`. Nothing else is taken under an object's lock.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.kernel.machine import WakerLike
    from hilbridge.kernel.processor import Processor

_orders = itertools.count()

MAXIMUM_WAIT_OBJECTS = 64


class WaitType(IntEnum):
    """WAIT_TYPE."""

    ALL = 0
    ANY = 1


class Wait:
    """One thread's wait. `done` when it is over: satisfied, with the `index` of the object that came, or `aborted`."""

    __slots__ = ("_token", "_waker", "aborted", "done", "every", "index", "objects", "thread")

    def __init__(self, objects: Sequence[DispatcherObject], thread: Processor | None, *, every: bool = False) -> None:
        self.objects = objects
        self.thread = thread
        self.every = every
        """Whether it waits for all objects."""
        self.done = False
        self.aborted = False
        self.index = -1
        self._token: list[None] = [None]
        self._waker: WakerLike | None = None

    def add_waker(self, waker: WakerLike) -> None:
        """Wake `waker` when the wait is over; the order of the two lines makes a wake-up in between visible."""
        self._waker = waker
        if self.done:
            waker.wake()

    def claim(self) -> bool:
        """Decide that the wait is over now; False if somebody has decided before."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def settle(self, index: int) -> None:
        """It is satisfied. Under an object's lock: a waiter whose time is just up finds it when he leaves the line."""
        self.index = index
        self.done = True

    def wake(self) -> None:
        """Wake the thread, if it sleeps already."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def abort(self) -> None:
        """End it without an object. Takes no lock; the thread leaves the lines itself."""
        if self.claim():
            self.aborted = self.done = True
            self.wake()

    def __repr__(self) -> str:
        return ("all of " if self.every else "") + (", ".join(map(repr, self.objects)) or "some time to pass")


class DispatcherObject:
    """What all objects that can be waited for have in common. A subclass says when it is signaled, and what a wait takes."""

    __slots__ = ("_groups", "_line", "_lock", "_order")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: deque[Wait] = deque()
        self._groups = 0
        """How many of the waits in line are for all of several objects."""
        self._order = next(_orders)

    @property
    def signaled(self) -> bool:
        """Whether a wait for it would be over at once."""
        return self._is_open_to(None)

    @property
    def waited_for(self) -> bool:
        """Whether a thread stands in line for it at this moment."""
        return bool(self._line)

    def _is_open_to(self, thread: Processor | None) -> bool:
        """Whether a wait of `thread` (None: of one that owns nothing) is satisfied. Under the lock."""
        raise AssertionError(f"{type(self).__name__} does not say when it is signaled")

    def _take(self, thread: Processor | None) -> None:
        """A wait of `thread` was satisfied. Under the lock."""

    # -- waiting for one ---------------------------------------------------------------------------------------------

    def begin_wait(self, thread: Processor | None = None) -> Wait | None:
        """Take what there is (None), or a place in the line."""
        with self._lock:
            if self._is_open_to(thread):
                self._take(thread)
                return None
            wait = Wait((self,), thread)
            self._line.append(wait)
            return wait

    def end_wait(self, wait: Wait) -> bool:
        """Leave the line; True if the object came before that after all."""
        with self._lock:
            self._leave(wait)
            return wait.done and not wait.aborted

    def _leave(self, wait: Wait) -> None:
        try:
            self._line.remove(wait)
        except ValueError:  # whoever has satisfied it has taken it out
            return
        if wait.every:
            self._groups -= 1

    # -- signaling ---------------------------------------------------------------------------------------------------

    def _hold(self) -> list[DispatcherObject]:
        """Lock what is needed to signal this object, and return it: itself, and all that a wait for all in its line needs."""
        held = [self]
        self._lock.acquire()
        while self._groups:
            needed = {thing for wait in self._line if wait.every for thing in wait.objects}
            if needed.issubset(held):
                break
            # Not while our own lock is held: two threads that do this from two ends would wait for each other. What has
            # changed in between is seen when all are held.
            let_go(held)
            held = hold_all({self, *needed})
        return held

    def _serve(self) -> list[Wait]:
        """Under the locks of `_hold`: give to those in line what there is; returns whom to wake when the locks are free."""
        line = self._line
        woken: list[Wait] = []
        passed: list[Wait] = []
        while line and self._is_open_to(None):
            wait = line.popleft()
            if not wait.every:
                if wait.claim():  # else it is over already, by another object or with its thread
                    self._take(wait.thread)
                    wait.settle(wait.objects.index(self))
                    woken.append(wait)
            elif not all(thing._is_open_to(wait.thread) for thing in wait.objects):
                passed.append(wait)
            else:
                self._groups -= 1
                if wait.claim():
                    for thing in wait.objects:
                        thing._take(wait.thread)
                        thing._leave(wait)
                    wait.settle(0)
                    woken.append(wait)
        line.extendleft(reversed(passed))
        return woken


class signaling:  # noqa: N801 - reads as a statement
    """``with signaling(thing):`` change its state; behind the block those in line have got what there is, and wake up."""

    __slots__ = ("_held", "_thing", "_woken")

    def __init__(self, thing: DispatcherObject) -> None:
        self._thing = thing
        self._woken: list[Wait] = []
        self._held: list[DispatcherObject] = []

    def __enter__(self) -> signaling:
        self._held = self._thing._hold()
        return self

    def serve(self) -> None:
        """Serve the line now, before the block goes on."""
        if self._thing._line:
            self._woken += self._thing._serve()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.serve()
        finally:
            let_go(self._held)
        for wait in self._woken:
            wait.wake()


def hold_all(things: set[DispatcherObject]) -> list[DispatcherObject]:
    """Take the locks of all of them, in the one order that everybody keeps to."""
    ordered = sorted(things, key=_by_order)
    for thing in ordered:
        thing._lock.acquire()
    return ordered


def let_go(held: list[DispatcherObject]) -> None:
    """Give the locks back."""
    for thing in held:
        thing._lock.release()


def _by_order(thing: DispatcherObject) -> int:
    return thing._order


def begin_wait(objects: Sequence[DispatcherObject], thread: Processor, *, every: bool) -> Wait:
    """Wait for any, or for `every` one: done at once if that can be, else with a place in each line. `end_wait` follows."""
    wait = Wait(objects, thread, every=every)
    held = hold_all(set(objects))
    try:
        if every:
            if all(thing._is_open_to(thread) for thing in objects):
                for thing in objects:
                    thing._take(thread)
                wait.settle(0)
        else:
            for index, thing in enumerate(objects):
                if thing._is_open_to(thread):
                    thing._take(thread)
                    wait.settle(index)
                    break
        if not wait.done:
            for thing in held:
                thing._line.append(wait)
                thing._groups += every
    finally:
        let_go(held)
    return wait


def end_wait(wait: Wait) -> bool:
    """Leave all lines; True if the wait was satisfied before that. Until the last is left it may still be."""
    for thing in wait.objects:
        with thing._lock:
            thing._leave(wait)
    return wait.done and not wait.aborted
