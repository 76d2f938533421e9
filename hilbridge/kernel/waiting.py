"""The kernel's routines about waiting: KeWaitFor..., and what signals the objects that are waited for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.event import Kevent
from hilbridge.kernel.semaphore import Kmutex, Ksemaphore
from hilbridge.kernel.wait import MAXIMUM_WAIT_OBJECTS, DispatcherObject, MultipleWait, WaitType
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.errors import BugCheck, UsageFault

if TYPE_CHECKING:
    from hilbridge.kernel.clock import Clock
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.machine import Waitable
    from hilbridge.kernel.processor import Processor
    from hilbridge.model.device import DeviceObject


class WaitRoutines:
    """Waits are at PASSIVE_LEVEL, or with a time-out of 0, which only looks, up to DISPATCH_LEVEL; so are signals."""

    if TYPE_CHECKING:
        clock: Clock

        def current(self) -> Processor: ...

        def bug_check(
            self,
            code: int,
            name: str,
            *parameters: object,
            hint: str = "",
            device: DeviceObject[Any] | None = None,
            holder: DeviceObject[Any] | None = None,
        ) -> BugCheck: ...

        def wait(
            self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = True
        ) -> bool: ...

    def wait_for_single_object(self, what: DispatcherObject, timeout: float | None) -> bool:
        """KeWaitForSingleObject: False when `timeout` (seconds; None = none, 0 = only look) passed first."""
        processor = self._may_wait(timeout)
        wait = what.begin_wait(processor)
        if wait is None:
            return True
        came = False
        try:
            if timeout != 0:
                self.wait(processor, wait, None if timeout is None else round(timeout * 1e9), None, alert=False)
        finally:
            came = what.end_wait(wait)
        return came

    def wait_for_multiple_objects(
        self, objects: Sequence[DispatcherObject], kind: WaitType, timeout: float | None
    ) -> int | None:
        """KeWaitForMultipleObjects. ANY: the lowest index that is signaled, and only that one is taken. ALL: 0, and all are.

        None when `timeout` (seconds; None = none, 0 = only look) passed first; then nothing has been taken.
        """
        if not 1 <= len(objects) <= MAXIMUM_WAIT_OBJECTS:
            raise UsageFault(f"a wait for {len(objects)} objects: 1 to {MAXIMUM_WAIT_OBJECTS}")
        processor = self._may_wait(timeout)
        waits = MultipleWait(list(objects), WaitType(kind), processor)
        deadline = None if timeout is None else self.clock.now() + round(timeout * 1e9)
        while True:
            wait = waits.join()
            try:
                taken = waits.look()
                left = None if deadline is None else deadline - self.clock.now()
                if taken is not None or (left is not None and left <= 0):
                    return taken
                self.wait(processor, wait, left, None, alert=False)
            finally:
                waits.leave()

    def delay_execution_thread(self, seconds: float) -> None:
        """KeDelayExecutionThread: let that much of the kernel's time pass, at PASSIVE_LEVEL."""
        self.wait_for_single_object(Kevent(), seconds)

    def _may_wait(self, timeout: float | None) -> Processor:
        processor = self.current()
        if processor.irql >= DISPATCH_LEVEL and timeout != 0:
            raise self.bug_check(
                0xB8, "ATTEMPTED_SWITCH_FROM_DPC", processor, hint="wait at PASSIVE_LEVEL, or with timeout=0"
            )
        return processor

    # -- signals -----------------------------------------------------------------------------------------------------

    def set_event(self, event: Kevent) -> bool:
        """KeSetEvent: returns the previous state."""
        return event.set()

    def reset_event(self, event: Kevent) -> bool:
        """KeResetEvent: returns the previous state."""
        return event.clear()

    def clear_event(self, event: Kevent) -> None:
        """KeClearEvent."""
        event.clear()

    def pulse_event(self, event: Kevent) -> bool:
        """KePulseEvent: returns the previous state."""
        return event.pulse()

    def release_semaphore(self, semaphore: Ksemaphore, adjustment: int = 1) -> int:
        """KeReleaseSemaphore: returns the previous count. Raises `NtStatusError` STATUS_SEMAPHORE_LIMIT_EXCEEDED."""
        return semaphore.release(adjustment)

    def release_mutex(self, mutex: Kmutex) -> None:
        """KeReleaseMutex, by the thread that owns it; else bug check 0x11."""
        if not mutex.release(self.current()):
            raise self.bug_check(
                0x11, "THREAD_NOT_MUTEX_OWNER", mutex, hint="release a mutex in the thread that has acquired it"
            )
