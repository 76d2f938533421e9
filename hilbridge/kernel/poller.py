"""The poller: one thread, one selector over the descriptors of all devices. It is the interrupt source.

It sleeps until a descriptor is ready, a timer is due, or somebody rings its eventfd; there is no periodic wake-up. It
takes each ready pin to its vector, where the ISR chain and then the DPCs run on this thread.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.dpc import move_dpcs
from hilbridge.kernel.pollmask import CAUSES, MASKS, POLL_GONE, poll_mask
from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.kernel.steering import LockWaker, alertable, steer
from hilbridge.kernel.workers import JOIN_SECONDS, Worker, WorkerPool
from hilbridge.model.errors import DriverFault, InternalFault

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.processor import Processor
    from hilbridge.kernel.systhread import SystemThread
    from hilbridge.model.device import DeviceObject

EVENTS_PER_TURN = 64
TIMERS_PER_TURN = 64
BREATH = 0.001
"""How long the poller sleeps after a turn that used up a budget, in seconds, unless something happens."""
FORGET_SECONDS = 5.0
BRIEF_MS = 1
LEASE = 50_000_000
"""How long a pin may stay parked without being used before the poller watches it again, in nanoseconds."""


class Poller:
    """The machine on real time: the poller thread, the system worker and the callback thread."""

    watched = True

    def __init__(self, ke: Kernel, *, steering: bool = True) -> None:
        self._ke = ke
        self._steering = steering
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._pins: dict[int, Pin] = {}
        self._raised: deque[Pin] = deque()
        self._deferred: deque[Kdpc] = deque()
        self._overran = False
        """In this turn somebody had more to do than his budget. Only the poller's own thread sets and reads it."""
        self._sleeping_until: int | None = 0
        self._leases: set[Pin] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._generation = 0
        """Counts the pollers: one that is retired is followed by another, and must not go on if it comes back."""
        self._ended = threading.Event()
        self._stopping = False
        self._stopped = False
        self.wakeups = 0
        """Turns of the poller's loop: it stands still while nothing happens."""
        self._worker = Worker("hilbridge-worker", ke.work_item_raised)
        self._items = WorkerPool("hilbridge-item", ke.work_item_raised)
        self._callbacks = Worker("hilbridge-callbacks", ke.callback_raised)

    # -- pins --------------------------------------------------------------------------------------------------------

    def add_pin(self, pin: Pin) -> None:
        """Begin to watch a pin."""
        self._start()
        if pin.fd < 0:
            return
        with pin.lock:
            self._pins[pin.fd] = pin
            self._register(pin)

    def _register(self, pin: Pin) -> None:
        self._epoll.register(pin.fd, poll_mask(pin.enabled))
        pin.registered = True

    def _unregister(self, pin: Pin) -> None:
        if pin.registered:
            pin.registered = False
            self._epoll.unregister(pin.fd)

    def forget_pin(self, pin: Pin) -> None:
        """Watch it no more; waits until a steering thread has let go of it."""
        with pin.lock:
            pin.closed = True
            pin.parked = False
            if pin.fd >= 0:
                self._unregister(pin)
                if self._pins.get(pin.fd) is pin:
                    del self._pins[pin.fd]
            steerer = pin.steerer
            if steerer is None or steerer is self._ke.current():
                return
            if pin.let_go is None:
                pin.let_go = threading.Event()
            steerer.waker.wake()
        if not pin.let_go.wait(FORGET_SECONDS):
            raise InternalFault(f"a thread that waits on {pin.vector!r} did not let go of it in {FORGET_SECONDS} s")

    def interest_changed(self, pin: Pin) -> None:
        """Tell whoever watches the pin."""
        with pin.lock:
            if pin.registered:
                self._epoll.modify(pin.fd, poll_mask(pin.enabled))
            elif pin.parked:
                pin.parked = False
                self._register(pin)
            elif pin.steerer is not None and pin.steerer is not self._ke.current():
                pin.steerer.waker.wake()

    def raise_pin(self, pin: Pin) -> None:
        """Run the pin's chain on the poller thread."""
        # Asserted is asserted, however often. A virtual line cannot hang up: one that is said to has been silenced.
        if not (pin.raised or (pin.hung and pin.fd < 0)):
            pin.raised = True
            self._raised.append(pin)
            self._ring()

    def defer_pin(self, pin: Pin) -> None:
        """The line is still asserted, and its turn is over: once more, after the others."""
        if not self._ke.current().is_poller:
            self.raise_pin(pin)
        elif not pin.raised:
            pin.raised = self._overran = True
            self._raised.append(pin)

    def defer_dpcs(self, processor: Processor) -> None:
        """The poller goes on with them in its next turn; it keeps its own where they are."""
        if self._stopping:
            return
        processor.let_others_first()
        if processor.is_poller:
            self._overran = True
            return
        self._start()
        move_dpcs(processor.dpcs, self._deferred)
        self._ring()

    def timer_changed(self) -> None:
        """Wake the poller if it sleeps longer than the new earliest timer allows."""
        self._start()
        due, until = self._ke.timers.next_due(), self._sleeping_until
        if due is not None and (until is None or due < until):
            self._ring()

    def _ring(self) -> None:
        if not self._stopped:
            os.eventfd_write(self._bell, 1)

    # -- threads -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None:
            return
        with self._lock:
            if self._stopping:
                raise InternalFault("the poller has been stopped")
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        """Start a poller thread. Hold the lock."""
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="hilbridge-poller", args=(self._generation, self._ended), daemon=True
        )
        self._thread.start()

    def queue_work(self, work: Callable[[], None]) -> None:
        """Run `work` at PASSIVE_LEVEL on the system worker."""
        self._worker.put(work)

    def queue_callback(self, callback: Callable[[], None]) -> None:
        """Run an application's callback on a thread that never is a processor."""
        self._callbacks.put(callback)

    def queue_item(self, work: Callable[[], None]) -> None:
        """Run a driver's work item at PASSIVE_LEVEL on one of several worker threads."""
        self._items.put(work)

    @staticmethod
    def start_thread(thread: SystemThread) -> None:
        """A thread of a driver."""
        thread.thread = threading.Thread(target=thread.run, name=f"hilbridge-{thread.name}", daemon=True)
        thread.thread.start()

    @staticmethod
    def join_thread(thread: SystemThread, timeout: float) -> bool:
        """Wait for its end."""
        if thread.thread is not None and thread.thread is not threading.current_thread():
            thread.thread.join(timeout)
        return thread.ended

    def stop(self) -> None:
        """End the threads."""
        for thread in self._items.stop():
            self._ke.watchdog.condemn(thread)
        self._stop_worker(self._worker)
        with self._lock:
            self._stopping = True
            poller, ended = self._thread, self._ended
        if poller is not None and poller is not threading.current_thread():
            self._ring()
            if not ended.wait(JOIN_SECONDS) and not self._ke.watchdog.condemn(poller.ident or 0):
                raise InternalFault("the poller did not stop, and no driver is to be seen on it")
            if poller is self._thread:
                poller.join(JOIN_SECONDS)  # else it has been retired: it ends when its driver lets it
        self._stopped = True
        self._epoll.close()
        os.close(self._bell)
        self._stop_worker(self._callbacks)

    def _stop_worker(self, worker: Worker) -> None:
        if not worker.stop():
            self._ke.watchdog.condemn(worker.thread)
            worker.stop()

    def retire(self, processor: Processor | None, thread: int) -> None:
        """Go on without a thread on which a driver hangs."""
        if processor is not None:
            for pin in list(self._pins.values()):
                with pin.lock:
                    if pin.steerer is processor:
                        self._free(pin)
            move_dpcs(processor.dpcs, self._deferred)
        with self._lock:
            if self._thread is not None and self._thread.ident == thread:
                self._generation += 1
                self._ended.set()
                if self._stopping:
                    self._thread = None
                else:
                    self._begin()
        for worker in (self._worker, self._callbacks):
            if worker.thread == thread:
                worker.replace()
        self._items.retire(thread)
        if self._deferred and not self._stopping:
            self._start()
        self._ring()

    def abandon(self) -> None:
        """In a forked child."""
        self._stopping = self._stopped = True
        self._epoll.close()
        os.close(self._bell)

    def describe(self) -> str:
        """One line."""
        return f"poller with {len(self._pins)} descriptors, {self.wakeups} wake-ups"

    def _run(self, generation: int, ended: threading.Event) -> None:
        try:
            self._loop(generation)
        except ProcessorRetired:
            return  # another one polls already
        except BaseException as error:
            # Without its poller the bridge is deaf. Nobody may be left waiting for it: fail everything, and say so.
            self._ke.latch_fault(None, InternalFault(f"the poller died: {error!r}"), "the poller")
            raise
        finally:
            ended.set()

    def _loop(self, generation: int) -> None:
        ke, epoll, pins, raised = self._ke, self._epoll, self._pins, self._raised
        processor, deferred = ke.current(), self._deferred
        processor.is_poller = True
        while not self._stopping and self._generation == generation:
            now = ke.clock.now()
            for _ in range(TIMERS_PER_TURN):
                if (timer := ke.timers.pop_expired(now)) is None:
                    break
                ke.expire(timer)
            else:
                self._overran = True
            move_dpcs(deferred, processor.dpcs)
            if processor.dpcs:
                ke.drain_dpcs(processor)
            # Announce how long we sleep *before* looking at the queue a last time: a timer that is set in between sees
            # the announcement and rings.
            self._sleeping_until = None
            due = ke.timers.next_due()
            self._sleeping_until = due
            if self._leases:
                lease = self._end_leases()
                due = lease if due is None else min(due, lease)
            timeout = None if due is None else max(0.0, (due - ke.clock.now()) / 1e9)
            if self._overran:
                # Somebody is never done. If the poller only looked and went on, it would keep the interpreter busy: a thread
                # that waits for its lock is not told when it is let go of for a moment, and starves. So others get a
                # moment that they can notice.
                self._overran = False
                timeout = BREATH
            elif raised or processor.dpcs:
                timeout = 0
            for fd, event in epoll.poll(timeout, EVENTS_PER_TURN):
                if fd == self._bell:
                    os.eventfd_read(self._bell)
                    continue
                pin = pins.get(fd)
                if pin is None or pin.closed:
                    continue
                if event & POLL_GONE:
                    self.silence_pin(pin)
                pin.saw(CAUSES[event])
                self._dispatch(pin)
            self.wakeups += 1
            for _ in range(len(raised)):
                pin = raised.popleft()
                pin.raised = False  # before it is served: what happens from now on asserts it anew
                if not pin.closed:
                    self._dispatch(pin)
            while ke.finalized:
                self._worker.put(ke.finalized.popleft())

    def _dispatch(self, pin: Pin) -> None:
        try:
            pin.vector.dispatch(pin)
            pin.served += 1
            steerer = pin.steerer
            if steerer is not None:
                # It was claimed while we served it: the claimer must look again at what we have fetched.
                steerer.waker.wake()
        except ProcessorRetired:
            raise
        except BaseException as error:  # noqa: BLE001 - latched
            # What drivers raise is caught where it is called; this is a line, or we ourselves. It costs its own device.
            self.silence_pin(pin)
            devices: list[DeviceObject[Any] | None] = [interrupt.device for interrupt in pin.vector.chain]
            for device in devices or [None]:
                self._ke.latch_fault(device, error, "its line")

    def _end_leases(self) -> int:
        """Watch every pin that has been parked and not used since the last look; returns when to look again."""
        for pin in list(self._leases):
            if pin.parked_lately:
                pin.parked_lately = False
                continue
            self._leases.discard(pin)
            self.unpark(pin)
        return self._ke.clock.now() + LEASE

    def unpark(self, pin: Pin) -> None:
        """Watch a parked pin again."""
        with pin.lock:
            if pin.parked:
                pin.parked = False
                if not pin.closed and not pin.hung:
                    self._register(pin)

    def silence_pin(self, pin: Pin) -> None:
        """Watch it no more, without waiting for anybody who does just now.

        For a descriptor that hung up, which is ready for ever, whatever the mask; and for a device whose driver broke.
        """
        with pin.lock:
            pin.hung = True
            pin.parked = False
            self._unregister(pin)

    def ring(self) -> None:
        """Turn the loop once. Takes no lock: also finalizers call it."""
        self._ring()

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait(
        self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = True
    ) -> bool:
        """Wait for `what`, steering `pin` to this thread if it is free."""
        deadline = None if timeout is None else self._ke.clock.now() + timeout
        if processor.is_poller:
            raise DriverFault(
                "the poller thread was asked to wait: never wait in an ISR, a DPC or a completion routine"
            )
        if pin is not None and self._steering and self._claim(pin, processor):
            waker = self._ke.waker(processor)
            try:
                what.add_waker(waker)
                if steer(processor, what, pin, waker, deadline, self._ke.clock, pin.vector.dispatch):
                    return True
            finally:
                self._give_back(pin, processor)
        return self._sleep(processor, what, deadline, alert)

    def serve_briefly(self, processor: Processor, pin: Pin, served: int) -> bool:
        """Serve `pin` in the calling thread if it interrupts within a millisecond.

        Afterwards the pin is not given back to the poller but *parked*: the caller has got his answer and is likely to ask
        again, and to be woken for what he is about to fetch himself would cost the poller two thread switches per request.
        A parked pin is on a lease: the poller looks after `LEASE`, and watches the pin again if it has not been used. Who
        makes a request that waits takes it out of the parking at once (`unpark`). When nothing happens nothing is parked,
        and the poller sleeps.
        """
        if not self._steering or processor.dpcs or processor.irql or not self._claim(pin, processor):
            return False
        waker = processor.waker or self._ke.waker(processor)
        enabled = pin.enabled
        try:
            if pin.served != served:
                return True  # the poller was faster: what it has fetched is there
            if waker.watched != (pin.fd, MASKS[enabled]):
                waker.watch(pin.fd, MASKS[enabled])
            ready = waker.poll.poll(BRIEF_MS)
            if not ready:
                return False
            for fd, event in ready:
                if fd == waker.fd:
                    waker.drain()
                    continue
                if event & POLL_GONE:
                    pin.hung = True
                pin.saw(CAUSES[event])
                pin.vector.dispatch(pin)
                pin.served += 1
            return True
        finally:
            with pin.lock:
                # Closed, hung up, asked to let go, or to be asked for something else than it was: not to be parked.
                park = pin.steerer is processor and not (
                    pin.closed or pin.hung or pin.let_go is not None or pin.enabled != enabled
                )
                if park:
                    pin.parked = pin.parked_lately = True
                    pin.steerer = None
            if not park:
                self._give_back(pin, processor)
            elif pin not in self._leases:
                self._leases.add(pin)
                self._ring()

    def _sleep(self, processor: Processor, what: Waitable, deadline: int | None, alert: bool) -> bool:
        waker = LockWaker()
        what.add_waker(waker)
        while not what.done:
            left = None if deadline is None else deadline - self._ke.clock.now()
            if left is not None and left <= 0:
                return False
            if alert:
                with alertable(processor):
                    waker.sleep(left)
            else:
                waker.sleep(left)
                # A driver goes on. Perhaps nothing else has moved for long, and the watchdog sleeps: this wakes it.
                processor.touch()
        return True

    def _claim(self, pin: Pin, processor: Processor) -> bool:
        if pin.fd < 0 or processor.dpcs or processor.irql:
            return False
        with pin.lock:
            if pin.steerer is not None or pin.closed or pin.hung:
                return False
            if processor.waker is None:
                self._ke.waker(processor)  # whoever finds a steerer may wake it
            pin.steerer = processor
            if pin.registered:
                self._unregister(pin)
            pin.parked = False
            return True

    def _give_back(self, pin: Pin, processor: Processor) -> None:
        waker = self._ke.waker(processor)
        with pin.lock:
            if pin.closed or pin.hung:
                # The number may be somebody else's the next time it is seen: forget it here as well.
                waker.watch(-1, 0)
            if pin.steerer is processor:  # else this thread was retired meanwhile, and the pin taken from it
                self._free(pin)

    def _free(self, pin: Pin) -> None:
        """Nobody steers it any more: the poller watches it again. Hold its lock."""
        pin.steerer = None
        if not (pin.closed or pin.hung):
            self._register(pin)
        if pin.let_go is not None:
            pin.let_go.set()
