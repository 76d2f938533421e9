"""System threads on a hand-cranked machine: real threads of which one runs at a time, and only when the crank says so.

Whoever turns the crank hands the baton to a thread and sleeps until it comes back: when the thread waits for something, or
ends. So a thread's turn is one step of the machine, as a DPC is, and everything happens in the same order each time.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.systhread import SystemThread


class Fiber:
    """A system thread, what it sleeps on, and what those sleep on who have given it a turn."""

    __slots__ = ("back", "deadline", "gate", "late", "number", "over", "thread", "waker", "what")

    def __init__(self, thread: SystemThread, number: int) -> None:
        self.thread = thread
        self.number = number
        self.gate = threading.Event()
        self.back = threading.Event()
        self.what: Waitable | None = None
        self.deadline: int | None = None
        self.waker: FiberWaker | None = None
        """What it waits with now; None when it has been woken, or does not wait."""
        self.late = False
        self.over = False


class FiberWaker:
    """Gives a thread its next turn. For one wait only: a wake-up that is left over from an earlier one changes nothing."""

    __slots__ = ("_fiber", "_ready")

    def __init__(self, fiber: Fiber, ready: deque[Fiber]) -> None:
        self._fiber = fiber
        self._ready = ready

    def wake(self) -> None:
        """It may go on."""
        fiber = self._fiber
        if fiber.waker is self:
            fiber.waker = None
            self._ready.append(fiber)


class Fibers:
    """All system threads of one machine."""

    def __init__(self) -> None:
        self.ready: deque[Fiber] = deque()
        """Those that could go on, first come first served."""
        self._live: dict[SystemThread, Fiber] = {}
        self._number = 0

    def start(self, thread: SystemThread) -> None:
        """It has its first turn when the crank comes to it."""
        self._number += 1
        self._live[thread] = fiber = Fiber(thread, self._number)
        self.ready.append(fiber)

    def park(self, thread: SystemThread, what: Waitable, deadline: int | None) -> bool:
        """Called by the thread itself: give the baton back until `what` is done. False if the clock has passed `deadline`."""
        fiber = self._live[thread]
        while not what.done:
            fiber.what, fiber.deadline, fiber.late = what, deadline, False
            fiber.waker = waker = FiberWaker(fiber, self.ready)
            what.add_waker(waker)
            fiber.back.set()
            fiber.gate.wait()
            fiber.gate.clear()
            if fiber.late:
                return what.done
        return True

    def next_due(self) -> int | None:
        """When the earliest of their waits is over (nanoseconds), or None."""
        return min(
            (fiber.deadline for fiber in self._live.values() if fiber.waker is not None and fiber.deadline is not None),
            default=None,
        )

    def step(self, now: int) -> bool:
        """Give one thread a turn; False if none is ready."""
        late = [f for f in self._live.values() if f.waker is not None and f.deadline is not None and f.deadline <= now]
        for fiber in sorted(late, key=lambda f: (f.deadline, f.number)):
            fiber.waker, fiber.late = None, True
            self.ready.append(fiber)
        if not self.ready:
            return False
        fiber = self.ready.popleft()
        thread = fiber.thread.thread
        if thread is None:
            fiber.thread.thread = thread = threading.Thread(
                target=self._live_out, name=f"hilbridge-{fiber.thread.name}", daemon=True, args=(fiber,)
            )
            thread.start()
        else:
            fiber.gate.set()
        fiber.back.wait()
        fiber.back.clear()
        if fiber.over:
            thread.join()  # it has given the baton back with its last line
        return True

    def _live_out(self, fiber: Fiber) -> None:
        try:
            fiber.thread.run()
        finally:
            del self._live[fiber.thread]
            fiber.over = True
            fiber.back.set()

    def describe(self) -> str:
        """Those that wait, and what for."""
        return "; ".join(
            f"{fiber.thread!r} waits for {fiber.what!r} ({fiber.thread.where() or 'place unknown'})"
            for fiber in self._live.values()
            if fiber.waker is not None
        )
