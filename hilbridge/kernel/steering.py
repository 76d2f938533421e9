"""How a thread waits: asleep on a lock, or steering its own device's interrupt to itself.

A thread that waits for a read has nothing else to do. If its device's vector is not shared, it takes the pin from the
poller, polls the descriptor itself, and runs ISR, DPC and completion right there. That saves two thread switches per
read, which is most of what a small read costs.

The hand-over is the dangerous part, and these rules make it safe:

* The pin's lock decides who watches: the poller (`registered`), one steering thread (`steerer`), or nobody (`closed`).
* Both may be in the ISR for a moment, when the poller had already seen the descriptor ready. The interrupt's own lock
  keeps them apart; the second finds no bytes, and that is not an error.
* Whoever completes the request without being the waiter wakes it through its eventfd, so nobody sleeps on a descriptor
  that has nothing more to say.
* On its way out, whatever happened, the thread gives the pin back; a descriptor that hung up is given back to nobody.
* `forget_pin` waits until the steerer has let go, so that a closed descriptor's number is never polled by mistake.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING

from hilbridge.kernel.pollmask import CAUSES, POLL_GONE, poll_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilbridge.kernel.clock import Clock
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.processor import Processor


class LockWaker:
    """Wakes a thread that sleeps on a lock. Used for one wait, then thrown away: no stale wake-up can reach another."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Let the sleeper go."""
        try:
            self._lock.release()
        except RuntimeError:  # woken before
            return

    def sleep(self, timeout: int | None) -> bool:
        """Sleep until woken; False when `timeout` (nanoseconds) passed first."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0) / 1e9)


class Waker:
    """Wakes a thread that sleeps in poll(): an eventfd, kept for the thread's life. Stale wake-ups cost one turn."""

    __slots__ = ("__weakref__", "_closed", "_owner", "fd", "poll", "watched")

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)
        self.watched: tuple[int, int] = (-1, 0)
        """The device descriptor and mask that `poll` holds now."""
        self._closed = False
        self._owner = threading.get_ident()

    def wake(self) -> None:
        """Wake the sleeper, from any thread. The sleeper itself is awake: it needs no system call."""
        if threading.get_ident() != self._owner and not self._closed:
            os.eventfd_write(self.fd, 1)

    def drain(self) -> None:
        """Forget wake-ups."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def watch(self, fd: int, mask: int) -> None:
        """Poll for `mask` on `fd` (mask 0 and fd -1: for nothing but wake-ups)."""
        old_fd, old_mask = self.watched
        if (fd, mask) == (old_fd, old_mask):
            return
        if old_fd >= 0 and old_fd != fd:
            self.poll.unregister(old_fd)
        if fd >= 0:
            self.poll.register(fd, mask)
        self.watched = (fd, mask)

    def close(self) -> None:
        """Give the eventfd back."""
        if not self._closed:
            self._closed = True
            os.close(self.fd)

    __del__ = close


def steer(
    processor: Processor,
    what: Waitable,
    pin: Pin,
    waker: Waker,
    deadline: int | None,
    clock: Clock,
    dispatch: Callable[[Pin], None],
) -> bool:
    """Wait for `what` while serving `pin`, which this thread has claimed.

    False when `deadline` passed first, or when there is nothing left to serve because the pin was closed or hung up, or
    another device came onto its vector.
    """
    while not (what.done or pin.closed or pin.hung or pin.shared):
        timeout: float | None = None
        if deadline is not None:
            left = deadline - clock.now()
            if left <= 0:
                return False
            timeout = left / 1e6
        waker.watch(pin.fd, poll_mask(pin.enabled))
        with alertable(processor):
            events = waker.poll.poll(timeout)
        for fd, event in events:
            if fd == waker.fd:
                waker.drain()
            elif not pin.closed:
                if event & POLL_GONE:
                    pin.hung = True
                pin.saw(CAUSES[event])
                dispatch(pin)
                pin.served += 1
    return what.done


class alertable:  # noqa: N801 - reads as a statement
    """The one place where SIGINT may strike: while the thread sleeps for its caller. Everywhere else `inside` is not 0."""

    __slots__ = ("_inside", "_processor")

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._inside = processor.inside

    def __enter__(self) -> None:
        processor = self._processor
        processor.inside = 0
        if processor.sigint:
            processor.sigint = False
            processor.inside = self._inside
            raise KeyboardInterrupt

    def __exit__(self, *exc: object) -> None:
        self._processor.inside = self._inside
