"""KSEMAPHORE: a number of things that threads wait for, and take one of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilbridge.kernel.wait import DispatcherObject, signaling
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INVALID_PARAMETER, STATUS_SEMAPHORE_LIMIT_EXCEEDED

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor


MAXLONG = 0x7FFF_FFFF


class Ksemaphore(DispatcherObject):
    """KSEMAPHORE: signaled while `count` is above 0. Each wait that is satisfied takes 1."""

    __slots__ = ("_count", "limit")

    def __init__(self, count: int = 0, limit: int = MAXLONG) -> None:
        super().__init__()
        if not 0 <= count <= limit or limit == 0:
            raise NtStatusError(STATUS_INVALID_PARAMETER, f"a semaphore of {count} with limit {limit}")
        self._count = count
        self.limit = limit

    def __repr__(self) -> str:
        return f"<semaphore, {self._count} of {self.limit}>"

    @property
    def count(self) -> int:
        """KeReadStateSemaphore."""
        return self._count

    def release(self, adjustment: int = 1) -> int:
        """Add `adjustment`; returns the previous count. `Kernel.release_semaphore` is the driver's routine.

        Raises `NtStatusError` STATUS_SEMAPHORE_LIMIT_EXCEEDED if that is more than the limit, or negative; then nothing
        changes and nobody wakes up.
        """
        with signaling(self):
            previous = self._count
            if adjustment < 0 or previous + adjustment > self.limit:
                raise NtStatusError(
                    STATUS_SEMAPHORE_LIMIT_EXCEEDED, f"{previous} + {adjustment}, and the limit is {self.limit}"
                )
            self._count = previous + adjustment
        return previous

    def _is_open_to(self, thread: Processor | None) -> bool:
        return self._count > 0

    def _take(self, thread: Processor | None) -> None:
        self._count -= 1
