"""System threads on the hand-cranked machine: real threads, of which one runs at a time.

Whoever turns the crank has the baton. A thread whose turn it is gets it, and gives it back when it waits or ends. The two
locks of a `Fiber` are the baton's two ways; who does not have it sleeps on one of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.kernel.timer import Ktimer

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.systhread import SystemThread


class Fiber:
    """One system thread, and where it stands."""

    def __init__(self, ke: Kernel, body: SystemThread) -> None:
        self._ke = ke
        self.body = body
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._waits_for: Waitable | None = None
        self._timer: Ktimer | None = None
        self._cancelled = False
        self.thread = threading.Thread(target=self._run, name=f"hilbridge-{body.name}", daemon=True)
        body.thread = self.thread
        self.thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._cancelled:
                self.body.run()
        finally:
            self._back.release()

    @property
    def ready(self) -> bool:
        """Whether it could go on."""
        what, timer = self._waits_for, self._timer
        return what is None or what.done or (timer is not None and timer.signaled)

    def resume(self) -> None:
        """Hand it the baton; returns when it has it back."""
        self._go.release()
        self._back.acquire()

    def wait(self, what: Waitable, timeout: int | None) -> bool:
        """In the thread itself: give the baton back until `what` is done; False when `timeout` (nanoseconds) passed first."""
        timers = self._ke.timers
        self._waits_for = what
        if timeout is not None:
            self._timer = Ktimer()
            timers.set(self._timer, self._ke.clock.now() + timeout, 0, None)
        self._back.release()
        self._go.acquire()
        if self._timer is not None:
            timers.cancel(self._timer)
        self._waits_for = self._timer = None
        if self._cancelled and not what.done:
            raise ProcessorRetired
        return what.done

    def cancel(self) -> None:
        """The machine stops: a thread that still waits is told so, in every wait, until it has ended."""
        self._cancelled = True
        if not self.body.ended and self.thread.is_alive():
            self.resume()
