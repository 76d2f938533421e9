"""KSPIN_LOCK: raises the thread to DISPATCH_LEVEL and excludes the others; DPCs run when it is released."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.errors import BugCheck

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.processor import Processor


class SpinLock:
    """KSPIN_LOCK, used as ``with lock:``. Not recursive: a second acquire by its owner is bug check 0xF, not a hang."""

    __slots__ = ("_ke", "_lock", "_old_irql", "owner")

    def __init__(self, ke: Kernel) -> None:
        self._ke = ke
        self._lock = threading.Lock()
        self._old_irql = 0
        self.owner: Processor | None = None

    def acquire(self) -> None:
        """KeAcquireSpinLock."""
        processor = self._ke.current()
        if self.owner is processor:
            raise BugCheck(0xF, "SPIN_LOCK_ALREADY_OWNED", processor, hint="a spin lock is not recursive")
        old = processor.irql
        if old < DISPATCH_LEVEL:
            processor.irql = DISPATCH_LEVEL
        self._lock.acquire()
        self._old_irql = old
        self.owner = processor

    def release(self) -> None:
        """KeReleaseSpinLock: restores the IRQL, which may run this thread's DPCs."""
        processor = self.owner
        if processor is None or processor is not self._ke.current():
            raise BugCheck(0x10, "SPIN_LOCK_NOT_OWNED", self.owner, hint="release a spin lock where you acquired it")
        old = self._old_irql
        self.owner = None
        self._lock.release()
        processor.irql = old
        if old < DISPATCH_LEVEL and processor.dpcs:
            self._ke.drain_dpcs(processor)

    __enter__ = acquire

    def __exit__(self, *exc: object) -> None:
        self.release()
