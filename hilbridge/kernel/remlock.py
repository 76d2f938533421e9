"""IO_REMOVE_LOCK: a device does not go away while somebody uses it.

Who uses the device acquires the lock, and releases it afterwards. REMOVE_DEVICE calls `release_and_wait`: from then on nobody
gets it any more, and the call returns when the last user has released it. A file object may have one as well, for the
run-down in CLEANUP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

from hilbridge.kernel.event import Kevent
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.device import DeviceObject

_VERIFIER = "DRIVER_VERIFIER_DETECTED_VIOLATION"


class RemoveLock:
    """IO_REMOVE_LOCK, initialised (IoInitializeRemoveLock). Tags say who holds it; None is a tag as any other.

    `device` is whose driver is to blame for misuse, where the calling thread does not run a driver's code.
    """

    __slots__ = ("_device", "_idle", "_ke", "_lock", "_tags", "removed")

    def __init__(self, ke: Kernel, device: DeviceObject[object] | None = None) -> None:
        self._ke = ke
        self._device = device
        self._lock = ke.new_lock()
        self._tags: Counter[Hashable] = Counter()
        self._idle = Kevent()
        self.removed = False
        """`release_and_wait` has been called: nobody gets the lock any more."""

    @property
    def count(self) -> int:
        """How often it is held."""
        with self._lock:
            return self._tags.total()

    @property
    def tags(self) -> dict[Hashable, int]:
        """Who holds it, and how often."""
        with self._lock:
            return {tag: count for tag, count in self._tags.items() if count}

    def acquire(self, tag: Hashable = None) -> NtStatus:
        """IoAcquireRemoveLock, up to DISPATCH_LEVEL: STATUS_SUCCESS, or STATUS_DELETE_PENDING: leave the device alone."""
        with self._lock:
            if self.removed:
                return STATUS_DELETE_PENDING
            self._tags[tag] += 1
            return STATUS_SUCCESS

    def release(self, tag: Hashable = None) -> None:
        """IoReleaseRemoveLock, up to DISPATCH_LEVEL. Bug check 0xC4/0xD5 if nobody holds it with that tag."""
        with self._lock:
            known = self._tags[tag] > 0
            if known:
                self._tags[tag] -= 1
            last = self.removed and not self._tags.total()
        if not known:
            raise self._ke.bug_check(
                0xC4,
                _VERIFIER,
                0xD5,
                self,
                tag,
                hint="release the lock with the tag of an acquire",
                holder=self._device,
            )
        if last:
            self._idle.set()

    def release_and_wait(self, tag: Hashable = None, timeout: float | None = None) -> bool:
        """IoReleaseRemoveLockAndWait, at PASSIVE_LEVEL, in REMOVE_DEVICE: give up one's own acquisition and wait for the rest.

        Bug check 0xC4/0xD6 if nobody holds it with that tag. Returns False if `timeout` (seconds; None: without a bound of its
        own, the request that removes the device has one) passed first.
        """
        with self._lock:
            known = self._tags[tag] > 0
            if known:
                self._tags[tag] -= 1
                self.removed = True
            idle = not self._tags.total()
        if not known:
            raise self._ke.bug_check(
                0xC4, _VERIFIER, 0xD6, self, tag, hint="acquire the lock for the removal itself", holder=self._device
            )
        return idle or self._ke.wait_for_single_object(self._idle, timeout)

    def __repr__(self) -> str:
        return f"<remove lock{' (removed)' if self.removed else ''}, held by {self.tags}>"
