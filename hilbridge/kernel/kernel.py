"""The kernel of one bridge: `driver.ke`. Processors, IRQL, DPCs, timers, events, interrupt vectors, and the fault log."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from hilbridge.kernel import sigint
from hilbridge.kernel.clock import Clock, SystemClock
from hilbridge.kernel.culprit import calls_driver, driver_waits
from hilbridge.kernel.devqueues import DeviceQueueRoutines
from hilbridge.kernel.dpc import HIGH, Kdpc
from hilbridge.kernel.faults import FaultRoutines
from hilbridge.kernel.interrupt import Interrupt, Pin, Vector
from hilbridge.kernel.limits import Limits
from hilbridge.kernel.machine import Machine, Waitable
from hilbridge.kernel.poller import Poller
from hilbridge.kernel.processor import Processor, ProcessorLocal, ProcessorRetired
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.spinlock import SpinLock
from hilbridge.kernel.steering import Waker
from hilbridge.kernel.systhread import ThreadRoutines
from hilbridge.kernel.timer import Ktimer, TimerQueue
from hilbridge.kernel.waiting import WaitRoutines
from hilbridge.kernel.watchdog import Watchdog
from hilbridge.model.codes import DIRQL_HIGHEST, DIRQL_LOWEST, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject

DPCS_PER_TURN = 64
"""How many DPCs run in one go, before other devices have their turn."""
DPCS_PER_LOOK = 16
"""After so many the clock is looked at."""
TURN = 2_000_000
"""How long they may take, after the first look: nanoseconds."""


class Kernel(WaitRoutines, ThreadRoutines, FaultRoutines, DeviceQueueRoutines):
    """Everything below the I/O manager. One per bridge; there is no global state."""

    vector_class: type[Vector] = Vector
    remove_lock_class: type[RemoveLock] = RemoveLock

    def __init__(self, clock: Clock | None = None, machine: Callable[[Kernel], Machine] | None = None) -> None:
        super().__init__()
        self.clock: Clock = clock or SystemClock()
        self.timers = TimerQueue()
        self.finalized: deque[Callable[[], None]] = deque()
        """Work that finalizers leave behind: they may run anywhere, also where a lock is held, and only append here."""
        self.local = ProcessorLocal()
        """Where the calling thread finds its processor; `current` makes one where there is none yet."""
        self._lock = threading.Lock()
        self._processor_count = 0
        self._processors: weakref.WeakValueDictionary[int, Processor] = weakref.WeakValueDictionary()
        self.spin_locks: weakref.WeakSet[SpinLock] = weakref.WeakSet()
        """Every spin lock that there is: those that a retired processor holds are broken open."""
        self.limits = Limits()
        self.watchdog = Watchdog(self)
        self._wakers: weakref.WeakSet[Waker] = weakref.WeakSet()
        self._vectors: dict[int, Vector] = {}
        self.machine: Machine = machine(self) if machine else Poller(self)

    # -- processors and IRQL -----------------------------------------------------------------------------------------

    def current(self) -> Processor:
        """KeGetCurrentProcessor: the calling thread's. Raises `ProcessorRetired` where a driver has hung on it."""
        return self.local.processor or self._new_processor()

    def _new_processor(self) -> Processor:
        if self.local.processor is not None:  # there is one, and it is false
            raise ProcessorRetired
        with self._lock:
            thread = threading.current_thread()
            processor = Processor(self._processor_count, thread.name, self)
            self._processor_count += 1
            self._processors[threading.get_ident()] = processor
            if thread is threading.main_thread():
                sigint.watch(processor)
        self.local.processor = processor
        if self.machine.watched:
            processor.rest()
        return processor

    def processors(self) -> dict[int, Processor]:
        """Every thread that has a processor here, by its identifier."""
        with self._lock:
            return dict(self._processors)

    def waker(self, processor: Processor) -> Waker:
        """The thread's waker: an eventfd that lives as long as the thread, or until the kernel closes."""
        if processor.waker is None:
            processor.waker = Waker()
            self._wakers.add(processor.waker)
        return processor.waker

    @property
    def irql(self) -> int:
        """KeGetCurrentIrql."""
        return self.current().irql

    @contextmanager
    def raised_irql(self, irql: int) -> Iterator[None]:
        """KeRaiseIrql ... KeLowerIrql. Lowering below DISPATCH_LEVEL runs this thread's DPCs."""
        processor = self.current()
        old = processor.irql
        if not old <= irql <= HIGH_LEVEL:
            raise self.bug_check(0x9, "IRQL_NOT_GREATER_OR_EQUAL", old, irql, hint="an IRQL is raised, then restored")
        processor.irql = irql
        try:
            yield
        finally:
            processor.irql = old
            if old < DISPATCH_LEVEL and processor.dpcs:
                self.drain_dpcs(processor)

    def spin_lock(self) -> SpinLock:
        """KeInitializeSpinLock."""
        return SpinLock(self)

    # -- DPCs --------------------------------------------------------------------------------------------------------

    def insert_queue_dpc(self, dpc: Kdpc, argument1: Any = None, argument2: Any = None) -> bool:
        """KeInsertQueueDpc: on this processor. False if it is queued already; then the arguments are lost."""
        if not dpc.claim(argument1, argument2):
            return False
        processor = self.current()
        dpc.queue = dpcs = processor.dpcs
        if dpc.importance == HIGH:
            dpcs.appendleft(dpc)
        else:
            dpcs.append(dpc)
        if processor.irql < DISPATCH_LEVEL:
            self.drain_dpcs(processor)
        return True

    def drain_dpcs(self, processor: Processor) -> None:
        """Run this thread's queued DPCs at DISPATCH_LEVEL, one after the other; never nested.

        There is a budget for one turn: a DPC that queues itself again for ever would otherwise never give back the thread,
        which may be an application's, or the poller that serves all the other devices. What is left when it is used up runs
        in a later turn, on the machine. The clock is only read when there are many.
        """
        if processor.draining:
            return
        processor.draining = True
        old = processor.irql
        processor.irql = DISPATCH_LEVEL
        try:
            dpcs = processor.dpcs
            left = DPCS_PER_LOOK
            looks: list[int] = []
            while dpcs:
                try:
                    dpc = dpcs.popleft()
                except IndexError:  # another thread has removed the last one
                    break
                self.run_dpc(dpc)
                left -= 1
                if not left and dpcs:
                    looks.append(self.clock.now())
                    if len(looks) * DPCS_PER_LOOK >= DPCS_PER_TURN or looks[-1] - looks[0] >= TURN:
                        self.machine.defer_dpcs(processor)
                        break
                    left = DPCS_PER_LOOK
        finally:
            processor.irql = old
            processor.draining = False

    @calls_driver("dpc", "a DPC", lambda frame: frame["dpc"].device)
    def run_dpc(self, dpc: Kdpc) -> None:
        """Run one DPC. What its routine raises is latched. One of a stack that has failed is dropped."""
        argument1, argument2 = dpc.release()
        if dpc.device is not None and dpc.device.device_stack.fault is not None:
            return
        try:
            dpc.routine(dpc, dpc.context, argument1, argument2)
        except BaseException as error:  # noqa: BLE001 - latched
            self.current().irql = DISPATCH_LEVEL
            self.routine_raised(dpc.device, dpc.routine, error, "a DPC")

    @staticmethod
    def remove_queue_dpc(dpc: Kdpc) -> bool:
        """KeRemoveQueueDpc: True if it was queued; it does not run then. False: it runs, or is about to, or was not queued."""
        return dpc.withdraw()

    # -- timers ------------------------------------------------------------------------------------------------------

    def set_timer(self, timer: Ktimer, due: int, period: int = 0, dpc: Kdpc | None = None) -> bool:
        """KeSetTimerEx. `due` in units of 100 ns (negative: from now), `period` in ms. True if it was queued already.

        An absolute `due` that has passed, as 0 has, is now: there is nothing that a periodic timer would have to catch up on.
        """
        if not self.local.processor:
            self.current()  # a retired one is refused
        now = self.clock.now()
        when = max(due * 100, now) if due >= 0 else now - due * 100
        was_queued, earliest = self.timers.set(timer, when, period * 1_000_000, dpc)
        if earliest:
            self.machine.timer_changed()
        return was_queued

    def cancel_timer(self, timer: Ktimer) -> bool:
        """KeCancelTimer: True if it was queued. A DPC that it has queued already still runs."""
        return self.timers.cancel(timer)

    def expire(self, timer: Ktimer) -> None:
        """A timer is due, and signaled: queue its DPC on this processor."""
        dpc = timer.expired_dpc
        if dpc is not None:
            self.insert_queue_dpc(dpc)

    # -- waiting -----------------------------------------------------------------------------------------------------

    @driver_waits
    def wait(
        self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = True
    ) -> bool:
        """Wait on the machine; False when `timeout` (nanoseconds) passed first."""
        if processor.put_off:
            processor.catch_up()  # perhaps that is what it is about to wait for
        return self.machine.wait(processor, what, timeout, pin, alert)

    def queue_work_item(self, work: Callable[[], None]) -> None:
        """ExQueueWorkItem: run `work` at PASSIVE_LEVEL on the system worker thread, in the order in which it was queued.

        For work that is the system's own, and short. A driver's goes through `IoManager.queue_work_item`.
        """
        self.current()  # a retired one is refused
        self.machine.queue_work(partial(self.run_work_item, work))

    @calls_driver("work_item", "a work item", lambda frame: frame["self"].owner_of_work(frame["work"]))
    def run_work_item(self, work: Callable[[], None]) -> None:
        """Run a work item, on whose thread ever."""
        self.current()  # the thread has a processor, so that it can be retired
        work()

    def owner_of_work(self, work: Any) -> DeviceObject[Any] | None:
        """The device that a work item belongs to, if it says so, or if one driver alone can be meant. For blame."""
        while isinstance(work, partial):
            work = work.func
        owner = getattr(work, "__self__", work)
        device = getattr(owner, "device", None)
        return (
            device if isinstance(device, DeviceObject) else self.owner_of_module(str(getattr(work, "__module__", "")))
        )

    # -- interrupt vectors -------------------------------------------------------------------------------------------

    def vector(self, number: int | None = None, irql: int = DIRQL_LOWEST) -> Vector:
        """Find the vector with that number, or make it. Without a number: a new one, the lowest that is free."""
        if not DIRQL_LOWEST <= irql <= DIRQL_HIGHEST:
            raise self.bug_check(0xC8, "IRQL_UNEXPECTED_VALUE", irql, hint="device interrupts are at DIRQL 3 to 12")
        with self._lock:
            if number is None:
                number = next(n for n in range(0x30, 0x10000) if n not in self._vectors)
            return self._vectors.setdefault(number, self.vector_class(self, number, irql))

    def vectors(self) -> list[Vector]:
        """Every vector that there is."""
        with self._lock:
            return list(self._vectors.values())

    def add_pin(self, vector: Vector, fd: int, level: Callable[[], bool]) -> Pin:
        """Solder a device's interrupt line to `vector`."""
        pin = Pin(vector, fd, level)
        vector.pins.append(pin)
        vector.set_steering()
        return pin

    def remove_pin(self, pin: Pin) -> None:
        """Take the line off. When this returns its descriptor may be closed."""
        self.machine.forget_pin(pin)
        vector = pin.vector
        if pin in vector.pins:
            vector.pins.remove(pin)
            vector.set_steering()  # who is alone now may serve his own interrupts again
        with self._lock:
            if not vector.pins and not vector.chain:
                self._vectors.pop(vector.number, None)

    @staticmethod
    def connect_to_vector(interrupt: Interrupt) -> bool:
        """Put a service routine on its vector; False if the vector is not shareable with it."""
        return interrupt.vector.connect(interrupt)

    # -- life --------------------------------------------------------------------------------------------------------

    def leave(self, processor: Processor) -> None:
        """A thread leaves the model (its `inside` is 0 again): a SIGINT that came meanwhile is due."""
        if processor.sigint and processor.irql == PASSIVE_LEVEL:
            processor.sigint = False
            raise KeyboardInterrupt

    def close(self) -> None:
        """Stop the machine and give back what threads hold. Says, as a `RuntimeWarning`, which threads a driver still holds."""
        self.end_system_threads()
        self.machine.stop()
        self.watchdog.stop()
        self._close_wakers()
        left = self.watchdog.left_behind()
        if left:
            warnings.warn(f"the bridge is closed, but not all of its threads have ended: {left}", RuntimeWarning, 2)

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self.watchdog.abandon()
        self.machine.abandon()
        self._close_wakers()

    def _close_wakers(self) -> None:
        for waker in list(self._wakers):
            waker.close()
