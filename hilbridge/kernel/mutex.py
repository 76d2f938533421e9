"""KMUTEX, which its owner may take again and again, and FAST_MUTEX, which he may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.wait import DispatcherObject, signaling
from hilbridge.model.codes import APC_LEVEL

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.processor import Processor


class Kmutex(DispatcherObject):
    """KMUTEX: a thread that has waited for it owns it, and may wait for it again; it releases it as often.

    While a thread owns one it is in a critical region.
    """

    __slots__ = ("_depth", "owner")

    def __init__(self) -> None:
        super().__init__()
        self.owner: Processor | None = None
        self._depth = 0

    def __repr__(self) -> str:
        return "<mutex, free>" if self.owner is None else f"<mutex of {self.owner.thread_name}>"

    @property
    def state(self) -> int:
        """KeReadStateMutex: 1 if it is free, 0 if it is owned, less if it is owned several times over."""
        return 1 - self._depth

    def let_go(self) -> int:
        """Its owner gives it back once; returns the state before. `Kernel.release_mutex` is the driver's routine."""
        with signaling(self):
            previous = 1 - self._depth
            self._depth -= 1
            if not self._depth and self.owner is not None:
                self.owner.mutexes.remove(self)
                self.owner = None
        return previous

    def abandon(self) -> None:
        """Its owner has gone: it is free."""
        self._depth = 1
        self.let_go()

    def _is_open_to(self, thread: Processor | None) -> bool:
        return self.owner is None or self.owner is thread

    def _take(self, thread: Processor | None) -> None:
        assert thread is not None, "who waits for a mutex says who he is"
        self._depth += 1
        if self.owner is None:
            self.owner = thread
            thread.mutexes.append(self)


class FastMutex:
    """FAST_MUTEX, used as ``with mutex:``. At APC_LEVEL while it is held; a second acquire by its owner is bug check 0xBF."""

    __slots__ = ("_free", "_ke", "_old_irql", "owner")

    def __init__(self, ke: Kernel) -> None:
        self._ke = ke
        self._free = Kevent(EventType.SYNCHRONIZATION, signaled=True)
        self._old_irql = 0
        self.owner: Processor | None = None

    def __repr__(self) -> str:
        return "<fast mutex, free>" if self.owner is None else f"<fast mutex of {self.owner.thread_name}>"

    def acquire(self) -> None:
        """ExAcquireFastMutex: below DISPATCH_LEVEL (bug check 0xB8)."""
        self._acquire(None)

    def try_to_acquire(self) -> bool:
        """ExTryToAcquireFastMutex: False if somebody has it."""
        return self._acquire(0)

    def _acquire(self, timeout: float | None) -> bool:
        processor = self._ke.current()
        if self.owner is processor and timeout is None:
            raise self._ke.bug_check(0xBF, "MUTEX_ALREADY_OWNED", self, hint="a fast mutex is not recursive")
        # The level is raised when it has been taken: who waits is at the level at which he came, and only a thread below
        # DISPATCH_LEVEL may.
        if not self._ke.wait_for_single_object(self._free, timeout):
            return False
        self._old_irql = processor.irql
        processor.irql = max(processor.irql, APC_LEVEL)
        self.owner = processor
        return True

    def release(self, *_exception: object) -> None:
        """ExReleaseFastMutex: restores the IRQL."""
        processor = self._ke.current()
        if self.owner is not processor:
            raise self._ke.bug_check(
                0x11, "THREAD_NOT_MUTEX_OWNER", processor, self, hint="release a fast mutex where you acquired it"
            )
        self.owner = None
        irql = self._old_irql
        self._free.set()
        processor.irql = irql

    __enter__ = acquire
    __exit__ = release
