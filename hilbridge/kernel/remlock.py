"""IO_REMOVE_LOCK: a device does not go away while somebody uses it.

Who uses the device acquires the lock, and releases it afterwards. REMOVE_DEVICE calls `release_and_wait`: from then on nobody
gets it any more, and the call returns when the last user has released it. A file object may have one as well, for the
run-down in CLEANUP.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.culprit import running_device
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import PASSIVE_LEVEL
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.device import DeviceObject

PATIENCE = 50.0
"""Seconds that a removal waits: less than the watchdog and who has sent REMOVE_DEVICE do, so that it can say what is held."""

_VERIFIER = "DRIVER_VERIFIER_DETECTED_VIOLATION"


class RemoveLock:
    """IO_REMOVE_LOCK. Tags say who holds it: the IRP, or any other hashable object; None is a tag as any other.

    Tags are always checked. `device` is whose driver is to blame for misuse, where the calling thread runs no driver's code.
    """

    __slots__ = ("_device", "_idle", "_ke", "_lock", "_tags", "removed")

    def __new__(cls, ke: Kernel, device: DeviceObject[Any] | None = None) -> RemoveLock:  # noqa: ARG004
        """Of the kernel's own class: a verifier has one that remembers who holds it."""
        return super().__new__(ke.remove_lock_class if cls is RemoveLock else cls)

    def __init__(self, ke: Kernel, device: DeviceObject[Any] | None = None) -> None:
        """IoInitializeRemoveLock: once."""
        if hasattr(self, "_tags"):
            raise ke.bug_check(0xC4, _VERIFIER, 0xD7, self, hint="a remove lock is initialized once", holder=device)
        self._ke = ke
        self._device = device
        self._lock = threading.Lock()
        self._tags: Counter[Hashable] = Counter()
        self._idle = Kevent()
        self.removed = False
        """`release_and_wait` has been called: nobody gets the lock any more."""

    def __repr__(self) -> str:
        return f"<remove lock{' (removed)' if self.removed else ''}, held by {self.tags}>"

    @property
    def count(self) -> int:
        """How often it is held."""
        with self._lock:
            return self._tags.total()

    @property
    def tags(self) -> dict[Hashable, int]:
        """Who holds it, and how often."""
        with self._lock:
            return dict(self._tags)

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
            known = self._give_back(tag)
            last = self.removed and not self._tags
        if not known:
            raise self._mismatch(0xD5, tag, "release the lock with the tag of an acquire")
        if last:
            self._idle.set()

    def release_and_wait(self, tag: Hashable = None, timeout: float | None = None) -> bool:
        """IoReleaseRemoveLockAndWait, at PASSIVE_LEVEL, in REMOVE_DEVICE: give up one's own acquisition and wait for the rest.

        After the request was passed down, and before the device is detached. Bug check 0xC4/0xD6 if nobody holds it with that
        tag, 0xA at raised IRQL. Returns False if `timeout` (seconds) passed first. Without one the bound is `PATIENCE`: it is
        a fault of the driver, which says who holds the lock still, if that passes.
        """
        ke = self._ke
        irql = ke.irql
        if irql != PASSIVE_LEVEL:
            raise ke.bug_check(
                0xA, "IRQL_NOT_LESS_OR_EQUAL", "release_and_wait", irql, hint="call release_and_wait at PASSIVE_LEVEL"
            )
        with self._lock:
            known = self._give_back(tag)
            self.removed = self.removed or known
            idle = not self._tags
        if not known:
            raise self._mismatch(0xD6, tag, "acquire the lock for the removal itself")
        if idle:
            self._idle.set()  # for somebody else who has begun to wait before, and for whom this was the last
            return True
        if ke.wait_for_single_object(self._idle, PATIENCE if timeout is None else timeout):
            return True
        if timeout is not None:
            return False
        fault = DriverFault(f"{self!r} was not released within {PATIENCE:g} s of the removal")
        device = running_device() or self._device
        if device is not None:
            ke.latch_fault(device, fault, "release_and_wait")
        raise fault

    def _give_back(self, tag: Hashable) -> bool:
        """Under the lock. False if it is not held with that tag."""
        left = self._tags.get(tag, 0) - 1
        if left > 0:
            self._tags[tag] = left
        elif left == 0:
            del self._tags[tag]
        return left >= 0

    def _mismatch(self, rule: int, tag: Hashable, hint: str) -> BugCheck:
        return self._ke.bug_check(
            0xC4, _VERIFIER, rule, self, tag, hint=f"{hint}; it is held by {self.tags}", holder=self._device
        )
