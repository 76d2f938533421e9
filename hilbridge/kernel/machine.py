"""What makes the model move: a poller thread on real time, or a test's hand on virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.processor import Processor
    from hilbridge.kernel.systhread import SystemThread


class Waitable(Protocol):
    """Something that is done once, and then stays done. A request is one."""

    done: bool

    def add_waker(self, waker: WakerLike) -> None:
        """Call ``waker.wake()`` when it is done; at once if it is done already."""


class WakerLike(Protocol):
    """Something that can be woken from any thread."""

    def wake(self) -> None:
        """Wake it. Waking twice, or too late, does no harm."""


class Machine(Protocol):
    """The part of a kernel that waits for the outside world."""

    watched: bool
    """Whether the watchdog looks at its threads. Not where time is a test's."""

    def add_pin(self, pin: Pin) -> None:
        """Begin to watch a pin."""

    def forget_pin(self, pin: Pin) -> None:
        """Watch it no more. When this returns nobody polls its descriptor, so that it may be closed."""

    def silence_pin(self, pin: Pin) -> None:
        """Watch it no more, at once: it hung up, or its driver broke. `forget_pin` still follows."""

    def ring(self) -> None:
        """There is something in ``ke.finalized``. Takes no lock."""

    def interest_changed(self, pin: Pin) -> None:
        """``pin.enabled`` has changed."""

    def raise_pin(self, pin: Pin) -> None:
        """A pin was asserted by hand; its chain is to run on the machine."""

    def defer_pin(self, pin: Pin) -> None:
        """As `raise_pin`, for a line whose chain has just run and whose turn is over."""

    def defer_dpcs(self, processor: Processor) -> None:
        """`processor` has DPCs left, and has used up its turn: run them on the machine, after what else is ready."""

    def timer_changed(self) -> None:
        """There is a timer that is due earlier than all others."""

    def queue_work(self, work: Callable[[], None]) -> None:
        """Run `work` at PASSIVE_LEVEL on a system worker thread."""

    def queue_callback(self, callback: Callable[[], None]) -> None:
        """Run an application's callback, outside of the model."""

    def queue_item(self, work: Callable[[], None]) -> None:
        """The same for the work item of a driver, which may wait for another one that runs meanwhile."""

    def start_thread(self, thread: SystemThread) -> None:
        """Run ``thread.run`` on a thread of its own."""

    def join_thread(self, thread: SystemThread, timeout: float) -> bool:
        """Wait until it has ended; False if it did not in `timeout` seconds."""

    def wait(
        self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = True
    ) -> bool:
        """Wait until `what` is done; False when `timeout` (nanoseconds, None = none) passed first.

        `pin`, if given, is the interrupt line that the waiting thread may serve itself meanwhile. `alert`: whether SIGINT
        ends the wait; it does not where a driver waits.
        """

    def serve_briefly(self, processor: Processor, pin: Pin, served: int) -> bool:
        """Let the calling thread take `pin`'s next interrupt, if it comes within a millisecond. False if it did not.

        The wait cannot be cancelled, which is why it is that short. For a caller who expects an answer at once. `served` is
        what ``pin.served`` was before the caller looked for bytes.
        """

    def unpark(self, pin: Pin) -> None:
        """Somebody waits for this pin's interrupts, and will not come for them himself."""

    def retire(self, processor: Processor | None, thread: int) -> None:
        """A driver hangs on that thread, and its processor, if it had one, is closed: go on without it.

        What it was doing for others is done by other threads: interrupts, DPCs that it had queued, work items.
        """

    def describe(self) -> str:
        """One line for `hilbridge list` and for bug reports."""

    def stop(self) -> None:
        """End all threads. Waits for them, with a bound."""

    def abandon(self) -> None:
        """In a forked child: let go of descriptors; the threads are the parent's."""
