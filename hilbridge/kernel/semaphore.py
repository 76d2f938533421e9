"""KSEMAPHORE and KMUTEX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilbridge.kernel.wait import DispatcherObject
from hilbridge.model.errors import NtStatusError, UsageFault
from hilbridge.model.status import STATUS_SEMAPHORE_LIMIT_EXCEEDED

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor

MAXLONG = 0x7FFF_FFFF


class Ksemaphore(DispatcherObject):
    """KSEMAPHORE: signaled while its count is above 0; each wait that it satisfies takes one."""

    __slots__ = ("_count", "limit")

    def __init__(self, count: int = 0, limit: int = MAXLONG) -> None:
        super().__init__()
        if not 0 <= count <= limit or limit < 1:
            raise UsageFault(f"a semaphore of {count} with the limit {limit}: the count is between 0 and the limit")
        self._count = count
        self.limit = limit

    def _is_signaled(self, processor: Processor | None) -> bool:
        return self._count > 0

    def _take(self, processor: Processor | None) -> None:
        self._count -= 1

    def release(self, adjustment: int = 1) -> int:
        """KeReleaseSemaphore: add `adjustment` to the count; returns what the count was.

        Raises `NtStatusError` STATUS_SEMAPHORE_LIMIT_EXCEEDED, and changes nothing, where that would be more than the limit.
        """
        if adjustment < 1:
            raise UsageFault(f"a semaphore was released by {adjustment}: at least 1")
        with self._lock:
            previous = self._count
            if previous + adjustment > self.limit:
                raise NtStatusError(
                    STATUS_SEMAPHORE_LIMIT_EXCEEDED, f"{previous} and {adjustment} are more than the limit {self.limit}"
                )
            self._count += adjustment
            woken = self._hand_out()
        self._wake(woken)
        return previous

    @property
    def count(self) -> int:
        """KeReadStateSemaphore."""
        return self._count


class Kmutex(DispatcherObject):
    """KMUTEX: owned by one thread at a time, which may acquire it again and has to release it as often."""

    __slots__ = ("_depth", "owner")

    def __init__(self) -> None:
        super().__init__()
        self.owner: Processor | None = None
        """The processor of the thread that has it."""
        self._depth = 0

    def _is_signaled(self, processor: Processor | None) -> bool:
        return self.owner is None or (processor is not None and self.owner is processor)

    def _take(self, processor: Processor | None) -> None:
        self.owner = processor
        self._depth += 1

    def release(self, processor: Processor) -> bool:
        """One release by `processor`; False if it is not the owner. `Kernel.release_mutex` is what drivers call."""
        with self._lock:
            if self.owner is not processor:
                return False
            self._depth -= 1
            woken = []
            if not self._depth:
                self.owner = None
                woken = self._hand_out()
        self._wake(woken)
        return True
