"""KSPIN_LOCK: raises the thread to DISPATCH_LEVEL and excludes the others; DPCs run when it is released."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hilbridge.model.codes import DISPATCH_LEVEL

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.processor import Processor


class SpinLock:
    """KSPIN_LOCK, used as ``with lock:``. Not recursive: a second acquire by its owner is bug check 0xF, not a hang.

    Every request takes several of these: the two methods look up the processor themselves instead of calling for it.
    """

    __slots__ = ("__weakref__", "_ke", "_local", "_lock", "_old_irql", "owner")

    def __init__(self, ke: Kernel) -> None:
        self._ke = ke
        self._local = ke.local
        self._lock = threading.Lock()
        self._old_irql = 0
        self.owner: Processor | None = None
        ke.spin_locks.add(self)

    @property
    def ke(self) -> Kernel:
        """The kernel that it is a lock of."""
        return self._ke

    def acquire(self) -> None:
        """KeAcquireSpinLock."""
        processor = self._local.processor or self._ke.current()
        if self.owner is processor:
            raise self._ke.bug_check(0xF, "SPIN_LOCK_ALREADY_OWNED", processor, hint="a spin lock is not recursive")
        old = processor.irql
        if old < DISPATCH_LEVEL:
            processor.irql = DISPATCH_LEVEL
        self._lock.acquire()
        self._old_irql = old
        self.owner = processor

    def release(self, *_exception: object) -> None:
        """KeReleaseSpinLock: restores the IRQL, which may run this thread's DPCs."""
        processor = self.owner
        if processor is None or processor is not self._local.processor:
            raise self._ke.bug_check(
                0x10, "SPIN_LOCK_NOT_OWNED", self.owner, hint="release a spin lock where you acquired it"
            )
        old = self._old_irql
        self.owner = None
        self._lock.release()
        processor.irql = old
        if old < DISPATCH_LEVEL and processor.dpcs:
            self._ke.drain_dpcs(processor)

    def break_open(self) -> None:
        """Its owner has been retired: who waits for the lock has it next. For the watchdog.

        What the lock protects may be half done. It belongs to a driver that has failed; to hang everybody who comes near it,
        which may be another device of that driver, would not make it whole.
        """
        self.owner = None
        self._lock.release()

    __enter__ = acquire
    __exit__ = release
