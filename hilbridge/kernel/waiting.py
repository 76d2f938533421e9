"""The kernel's routines about dispatcher objects: KeSetEvent and its kin, KeWaitForSingleObject, KeWaitForMultipleObjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from hilbridge.kernel import wait as waits
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.faults import FaultRoutines
from hilbridge.kernel.mutex import FastMutex, Kmutex
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.wait import MAXIMUM_WAIT_OBJECTS, DispatcherObject, Wait, WaitType
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INVALID_PARAMETER

if TYPE_CHECKING:
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.processor import Processor


class WaitRoutines(FaultRoutines):
    """Setting what threads wait for is allowed up to DISPATCH_LEVEL; waiting below it, or with ``timeout=0``."""

    if TYPE_CHECKING:

        def wait(
            self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = ...
        ) -> bool: ...

    # -- setting -----------------------------------------------------------------------------------------------------

    def set_event(self, event: Kevent) -> bool:
        """KeSetEvent: returns the previous state."""
        return event.set()

    def reset_event(self, event: Kevent) -> bool:
        """KeResetEvent: returns the previous state."""
        return event.clear()

    def clear_event(self, event: Kevent) -> None:
        """KeClearEvent: as KeResetEvent, without an answer."""
        event.clear()

    def pulse_event(self, event: Kevent) -> bool:
        """KePulseEvent: those who wait at this moment go on; whoever comes later waits. Returns the previous state."""
        return event.pulse()

    def release_semaphore(self, semaphore: Ksemaphore, adjustment: int = 1) -> int:
        """KeReleaseSemaphore: returns the previous count. Raises `NtStatusError` STATUS_SEMAPHORE_LIMIT_EXCEEDED."""
        return semaphore.release(adjustment)

    def release_mutex(self, mutex: Kmutex) -> int:
        """KeReleaseMutex: returns the previous state; 0 means that it is free now. Bug check 0x11 for who does not own it."""
        processor = self.current()
        if mutex.owner is not processor:
            raise self.bug_check(
                0x11, "THREAD_NOT_MUTEX_OWNER", processor, mutex, hint="the thread that owns a mutex releases it"
            )
        return mutex.let_go()

    def fast_mutex(self) -> FastMutex:
        """ExInitializeFastMutex."""
        return FastMutex(self)  # type: ignore[arg-type]

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for_single_object(self, what: DispatcherObject, timeout: float | None) -> bool:
        """KeWaitForSingleObject: False when `timeout` (seconds; None = none, 0 = only look) passed first."""
        processor = self.current()
        if processor.irql >= DISPATCH_LEVEL and timeout != 0:
            self._refuse_to_wait(processor)
        if processor.system_thread is not None:
            processor.system_thread.refuse_if_abandoned()
        wait = what.begin_wait(processor)
        if wait is None:
            return True
        came = False
        try:
            if timeout != 0:
                self._wait(processor, wait, timeout)
        finally:
            came = what.end_wait(wait)
        return came

    def wait_for_multiple_objects(
        self, objects: Sequence[DispatcherObject], kind: WaitType, timeout: float | None
    ) -> int | None:
        """KeWaitForMultipleObjects: the index of the object that came (0 for ALL), or None when `timeout` passed first.

        ANY takes from the first object in the sequence that is signaled, and from no other; ALL takes from all of them in
        one step, and from none before. An object that is named twice counts once. Bug check 0xC for more than 64 objects.
        """
        processor = self.current()
        if len(objects) > MAXIMUM_WAIT_OBJECTS:
            raise self.bug_check(0xC, "MAXIMUM_WAIT_OBJECTS_EXCEEDED", len(objects), hint="wait for 64 objects at most")
        if not objects:
            raise NtStatusError(STATUS_INVALID_PARAMETER, "a wait for no object at all")
        if processor.irql >= DISPATCH_LEVEL and timeout != 0:
            self._refuse_to_wait(processor)
        if processor.system_thread is not None:
            processor.system_thread.refuse_if_abandoned()
        every = kind is WaitType.ALL
        wait = waits.begin_wait(tuple(dict.fromkeys(objects)) if every else objects, processor, every=every)
        if wait.done:
            return wait.index
        came = False
        try:
            if timeout != 0:
                self._wait(processor, wait, timeout)
        finally:
            came = waits.end_wait(wait)
        return wait.index if came else None

    def delay_execution_thread(self, seconds: float) -> None:
        """KeDelayExecutionThread: let that much time pass; 0 lets others go on that are ready. Below DISPATCH_LEVEL."""
        processor = self.current()
        if processor.irql >= DISPATCH_LEVEL:
            self._refuse_to_wait(processor)
        self._wait(processor, Wait((), processor), seconds)

    def _wait(self, processor: Processor, wait: Wait, timeout: float | None) -> None:
        thread = processor.system_thread
        nanoseconds = None if timeout is None else round(timeout * 1e9)
        if thread is None:
            self.wait(processor, wait, nanoseconds, None, alert=False)
        else:
            with thread.waiting(wait):
                self.wait(processor, wait, nanoseconds, None, alert=False)

    def _refuse_to_wait(self, processor: Processor) -> NoReturn:
        raise self.bug_check(
            0xB8, "ATTEMPTED_SWITCH_FROM_DPC", processor, hint="wait at PASSIVE_LEVEL, or with timeout=0"
        )

    # -- critical regions --------------------------------------------------------------------------------------------

    def enter_critical_region(self) -> None:
        """KeEnterCriticalRegion. There are no APCs here that it could hold off: it is counted, so that it can be checked."""
        self.current().critical_regions += 1

    def leave_critical_region(self) -> None:
        """KeLeaveCriticalRegion. Bug check 0xC4/0x3E without the entry."""
        processor = self.current()
        if not processor.critical_regions:
            raise self.bug_check(
                0xC4,
                "DRIVER_VERIFIER_DETECTED_VIOLATION",
                0x3E,
                processor,
                hint="a critical region is left by the thread that has entered it, once",
            )
        processor.critical_regions -= 1

    @property
    def apcs_disabled(self) -> bool:
        """KeAreApcsDisabled: whether the thread is in a critical region. It is while it owns a mutex, too."""
        processor = self.current()
        return bool(processor.critical_regions or processor.mutexes)
