"""The hand-cranked machine: the whole model on one thread and a virtual clock, for tests.

A blocking call turns the crank itself: it runs what is ready, and when nothing is, it moves the clock to the next timer.
When not even a timer is left, nothing can ever happen any more, and it raises `Deadlock` with the list of what waits.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.dpc import move_dpcs
from hilbridge.kernel.fibers import Fibers
from hilbridge.model.errors import Deadlock, DriverFault, UsageFault

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.processor import Processor
    from hilbridge.kernel.systhread import SystemThread

STOP_TURNS = 10_000
"""How often the crank is turned at the end before what goes on for ever is dropped."""
DEFERRED_TURN = 1_000_000
"""What a turn of deferred DPCs takes, in nanoseconds of virtual time, when there is nothing else to do."""


class ManualMachine:
    """A machine that moves only when it is told to."""

    watched = False

    def __init__(self, ke: Kernel, clock: VirtualClock, describe_pending: Callable[[], str]) -> None:
        self._ke = ke
        self._clock = clock
        self._describe_pending = describe_pending
        self._raised: deque[Pin] = deque()
        self._work: deque[Callable[[], None]] = deque()
        self._deferred: deque[Kdpc] = deque()
        self._stopped = False
        self._fibers = Fibers()

    # -- Machine -----------------------------------------------------------------------------------------------------

    def add_pin(self, pin: Pin) -> None:
        """Virtual lines only: what another process does cannot be put on a virtual clock."""
        if pin.fd >= 0:
            raise UsageFault(
                "a hand-cranked machine cannot watch a real descriptor: use a virtual: device, or Bridge() for real ports"
            )

    def forget_pin(self, pin: Pin) -> None:
        """Watch it no more."""
        pin.closed = True

    def silence_pin(self, pin: Pin) -> None:
        """Watch it no more."""
        pin.hung = True

    def ring(self) -> None:
        """The crank looks by itself."""

    def interest_changed(self, pin: Pin) -> None:
        """A line that asserts already, and only now may interrupt, does so now."""
        if not pin.closed and not pin.hung and pin.level():
            self.raise_pin(pin)

    def raise_pin(self, pin: Pin) -> None:
        """Queue the pin's chain for the next turn of the crank."""
        if not pin.raised:
            pin.raised = True
            self._raised.append(pin)

    def defer_pin(self, pin: Pin) -> None:
        """To the back of the queue."""
        self.raise_pin(pin)

    def defer_dpcs(self, processor: Processor) -> None:
        """The crank goes on with them when nothing else is ready."""
        processor.let_others_first()
        move_dpcs(processor.dpcs, self._deferred)

    def timer_changed(self) -> None:
        """The crank looks at the timers by itself."""

    def queue_work(self, work: Callable[[], None]) -> None:
        """Queue for the next turn."""
        self._work.append(work)

    def queue_callback(self, callback: Callable[[], None]) -> None:
        """Queue for the next turn."""
        self._work.append(callback)

    def queue_item(self, work: Callable[[], None]) -> None:
        """Queue for the next turn."""
        self._work.append(work)

    def wait(
        self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = True
    ) -> bool:
        """Turn the crank until `what` is done or the virtual clock has passed the deadline.

        A system thread does not turn it: it hands the baton back to whoever does.
        """
        deadline = None if timeout is None else self._clock.now() + timeout
        if processor.system_thread is not None:
            return self._fibers.park(processor.system_thread, what, deadline)
        while not what.done:
            if processor.sigint:
                # A periodic timer can keep the crank turning for ever: Ctrl-C must end it.
                processor.sigint = False
                raise KeyboardInterrupt
            busy = bool(self._deferred) and not self._ready()
            if self.step():
                if not busy:
                    continue
                # Nothing but a turn of DPCs. On a real machine that takes time; if it took none here, DPCs that queue one
                # another for ever would keep the crank turning, and no deadline would ever come.
                self._clock.advance_to(self._clock.now() + DEFERRED_TURN)
                if deadline is None or self._clock.now() < deadline:
                    continue
                return bool(what.done)
            due = self.next_due()
            if deadline is not None and (due is None or due > deadline):
                self._clock.advance_to(deadline)
                return False
            if due is None:
                raise Deadlock(f"nothing is left that could happen; waiting are: {self.describe_waiting()}")
            self._clock.advance_to(due)
        return True

    def start_thread(self, thread: SystemThread) -> None:
        """The crank gives it its turns; it goes on until it waits or ends."""
        self._fibers.start(thread)

    def join_thread(self, thread: SystemThread, timeout: float) -> bool:
        """Turn the crank until nothing is ready. False if the thread has not ended then: no time passes for it."""
        with contextlib.suppress(Deadlock):  # others that never come to rest
            self.run_until_idle(STOP_TURNS)
        return thread.ended

    def serve_briefly(self, processor: Processor, pin: Pin, served: int) -> bool:
        """Nothing happens here that nobody cranks."""
        return False

    def unpark(self, pin: Pin) -> None:
        """Pins are not parked here."""

    def retire(self, processor: Processor | None, thread: int) -> None:
        """What it had queued is run by who turns the crank next."""
        if processor is not None:
            self.defer_dpcs(processor)

    def describe(self) -> str:
        """One line."""
        return f"hand-cranked machine at {self._clock.now()} ns"

    def stop(self) -> None:
        """Do what is still to be done; DPCs that queue one another for ever are dropped and reported."""
        try:
            self.run_until_idle(STOP_TURNS)
        except Deadlock:
            if not self._deferred:
                raise
            drivers = sorted({dpc.device.driver_object.name for dpc in self._deferred if dpc.device is not None})
            self._deferred.clear()
            self._ke.log_fault(DriverFault(f"DPCs of {', '.join(drivers) or 'nobody'} queue themselves again for ever"))
        self._stopped = True

    def abandon(self) -> None:
        """Nothing is shared with the parent."""

    # -- the crank ---------------------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether anything but deferred DPCs is ready."""
        due = self.next_due()
        return bool(
            self._raised
            or self._work
            or self._ke.finalized
            or self._fibers.ready
            or (due is not None and due <= self._clock.now())
        )

    def next_due(self) -> int | None:
        """When the earliest timer expires, or the earliest wait of a system thread is over (nanoseconds); None: never."""
        timer, thread = self._ke.timers.next_due(), self._fibers.next_due()
        return timer if thread is None else thread if timer is None else min(timer, thread)

    def describe_waiting(self) -> str:
        """The requests that have not ended, and the system threads that wait, in words."""
        return "; ".join(part for part in (self._describe_pending() or "no IRPs", self._fibers.describe()) if part)

    def step(self) -> bool:
        """Do one thing that is ready: an interrupt, else an expired timer, else a piece of work, else a system thread's turn,
        else a turn of the DPCs that had no room in an earlier one. False: nothing was.
        """
        if self._raised:
            pin = self._raised.popleft()
            pin.raised = False
            if not pin.closed and not pin.hung:
                pin.vector.dispatch(pin)
            return True
        if self._ke.finalized:
            self._work.append(self._ke.finalized.popleft())
        timer = self._ke.timers.pop_expired(self._clock.now())
        if timer is not None:
            self._ke.expire(timer)
            return True
        if self._work:
            try:
                self._work.popleft()()
            except Exception as error:  # noqa: BLE001 - latched
                self._ke.callback_raised(error)
            return True
        if self._fibers.step(self._clock.now()):
            return True
        if self._deferred:
            processor = self._ke.current()
            move_dpcs(self._deferred, processor.dpcs)
            self._ke.drain_dpcs(processor)
            return True
        return False

    def run_until_idle(self, limit: int = 100_000) -> int:
        """Turn the crank until nothing is ready (the clock stands still). Returns the number of steps."""
        for steps in range(limit):
            if not self.step():
                return steps
        raise Deadlock(f"the machine did not come to rest in {limit} steps")

    def advance(self, seconds: float) -> None:
        """Let that much virtual time pass, running every timer at its moment."""
        end = self._clock.now() + round(seconds * 1e9)
        while True:
            self.run_until_idle()
            due = self.next_due()
            if due is None or due > end:
                break
            self._clock.advance_to(due)
        self._clock.advance_to(end)
        self.run_until_idle()
