"""A processor: a thread while it is inside the model. It has an IRQL and a DPC queue.

IRQL here is bookkeeping, not exclusion: it says what code may do (wait, or not), and when queued DPCs run. Only locks
keep two threads apart.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.steering import Waker


class ProcessorRetired(BaseException):
    """The calling thread's processor has been retired: a driver hung on it, and that driver's stack has been failed.

    No `Exception`, so that an ``except Exception`` of the driver does not hold the thread back on its way out.
    """


class Processor:
    """One thread's state inside one kernel."""

    __slots__ = (
        "__weakref__",
        "catching_up",
        "dpcs",
        "draining",
        "inside",
        "irql",
        "is_poller",
        "number",
        "offers",
        "put_off",
        "sigint",
        "thread_name",
        "waker",
    )

    def __init__(self, number: int, thread_name: str) -> None:
        self.number = number
        self.thread_name = thread_name
        self.irql: int = 0
        self.dpcs: deque[Kdpc] = deque()
        self.draining = False
        self.inside = 0
        """How deep this thread is in calls that SIGINT must not tear apart; see `hilbridge.kernel.sigint`."""
        self.sigint = False
        """A SIGINT came while `inside` was not 0; it is delivered at the next wait, or on the way out."""
        self.is_poller = False
        self.offers = 0
        """How many completion routines run inside one another on this thread."""
        self.put_off: deque[Callable[[], None]] = deque()
        """Completions that wait until the stack is less deep; see `hilbridge.iomgr.irps`."""
        self.catching_up = False
        self.waker: Waker | None = None

    def catch_up(self) -> None:
        """Do what has been put off, in order. What raises does not keep back the rest; the first error is raised at the end."""
        before, self.catching_up = self.catching_up, True
        failed: BaseException | None = None
        try:
            while self.put_off:
                try:
                    self.put_off.popleft()()
                except BaseException as error:  # noqa: BLE001 - raised below
                    failed = failed or error
        finally:
            self.catching_up = before
        if failed is not None:
            raise failed

    def __repr__(self) -> str:
        return f"<processor {self.number} ({self.thread_name}) at IRQL {self.irql}>"


class ProcessorLocal(threading.local):
    """Where a thread finds its processor. The class attribute is what a new thread sees."""

    processor: Processor | None = None
    at_end: Any = None
    """What an I/O manager keeps here to hear of the thread's end."""
