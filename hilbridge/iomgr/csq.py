"""IO_CSQ: queues of IRPs in which cancellation is somebody else's problem.

`CancelSafeQueue` is the queue that most drivers want: first in, first out, under a lock of the driver's. `IoCsq` is the one of
the book: the driver brings the list, the lock and the order, and overrides six methods.

The order of steps here *is* the solution of the documented races; do not tidy it:

* insert: put into the list, mark pending, set the cancel routine, then look at ``irp.cancel``. A cancel that came before
  the routine was set found nothing to call; the look finds it.
* remove: take the cancel routine first. If it is gone, a cancellation owns the IRP and is waiting for the queue's lock to
  take it out of the list; leave it alone.
* cancel routine: let go of the cancel lock, then take the queue's lock. The other order would be a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.spinlock import SpinLock
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager


class CancelSafeQueue:
    """A first-in, first-out cancel-safe queue under a lock of the driver's.

    Methods named ``*_locked`` expect the lock to be held. `complete_canceled` is called without it.
    """

    __slots__ = ("_complete_canceled", "_io", "irps", "lock")

    def __init__(self, io: IoManager, lock: SpinLock, complete_canceled: Callable[[Irp], None]) -> None:
        self._io = io
        self.lock = lock
        self.irps: dict[int, Irp] = {}
        """What is queued, oldest first. For looking only."""
        self._complete_canceled = complete_canceled

    def __len__(self) -> int:
        return len(self.irps)

    def __iter__(self) -> Iterator[Irp]:
        """The queued IRPs, oldest first. Hold the lock."""
        return iter(list(self.irps.values()))

    def insert(self, irp: Irp) -> bool:
        """IoCsqInsertIrp. False if the IRP had been cancelled already: it has then been completed as such."""
        with self.lock:
            queued = self.insert_locked(irp)
        if not queued:
            self._complete_canceled(irp)
        return queued

    def insert_locked(self, irp: Irp) -> bool:
        """Queue it; False if it had been cancelled already: the caller completes it, after letting go of the lock."""
        irp.mark_pending()
        self.irps[irp.id] = irp
        irp.set_cancel_routine(self._cancel)
        if irp.cancel and irp.set_cancel_routine(None) is not None:
            del self.irps[irp.id]
            return False
        return True

    def head_locked(self) -> Irp | None:
        """The oldest IRP that no cancellation has taken; it stays in the queue, cancellable."""
        for irp in self.irps.values():
            if irp.cancel_routine is not None:
                return irp
        return None

    def remove_locked(self, irp: Irp) -> bool:
        """IoCsqRemoveIrp: take it out and own it; False if a cancellation owns it already."""
        if irp.set_cancel_routine(None) is None:
            return False
        del self.irps[irp.id]
        return True

    def remove_next_locked(self, matches: Callable[[Irp], bool] | None = None) -> Irp | None:
        """IoCsqRemoveNextIrp: the oldest that matches and is not being cancelled, or None."""
        for irp in list(self.irps.values()):
            if (matches is None or matches(irp)) and self.remove_locked(irp):
                return irp
        return None

    def _cancel(self, device: DeviceObject[Any] | None, irp: Irp) -> None:
        if device is not None:
            self._io.release_cancel_spin_lock(device)
        with self.lock:
            self.irps.pop(irp.id, None)
        self._complete_canceled(irp)


class CsqIrpContext:
    """IO_CSQ_IRP_CONTEXT: a name for one queued IRP, by which `IoCsq.remove_irp` finds it, if it is still there."""

    __slots__ = ("irp",)

    def __init__(self) -> None:
        self.irp: Irp | None = None


class IoCsq:
    """IO_CSQ: the cancel-safe queue whose list, lock and order are the driver's. Up to DISPATCH_LEVEL.

    A driver derives from it and overrides `insert`, `remove`, `peek_next`, `acquire_lock`, `release_lock` and
    `complete_canceled`, its CSQ callbacks. It calls `insert_irp`, `remove_next_irp` and `remove_irp`, never the callbacks
    themselves. ``irp.driver_context[3]`` belongs to the queue while the IRP is in it.
    """

    def __init__(self, io: IoManager) -> None:
        self.io = io

    # -- what the driver overrides -----------------------------------------------------------------------------------

    def insert(self, irp: Irp, context: Any) -> NtStatus | None:
        """CSQ_INSERT_IRP, CSQ_INSERT_IRP_EX: put it into the list, or refuse with an error status. Called with the lock held.

        `context` is what `insert_irp_ex` was given, else None. `insert_irp` does not look at the status.
        """
        raise TypeError(f"{type(self).__name__} does not override insert")

    def remove(self, irp: Irp) -> None:
        """CSQ_REMOVE_IRP: take it out of the list. Called with the lock held."""
        raise TypeError(f"{type(self).__name__} does not override remove")

    def peek_next(self, irp: Irp | None, context: Any) -> Irp | None:
        """CSQ_PEEK_NEXT_IRP: the next one behind `irp` (None: the first) that `context` means, or None. Lock held.

        `context` is that of `remove_next_irp`: a file, say, or None for any.
        """
        raise TypeError(f"{type(self).__name__} does not override peek_next")

    def acquire_lock(self) -> None:
        """CSQ_ACQUIRE_LOCK."""
        raise TypeError(f"{type(self).__name__} does not override acquire_lock")

    def release_lock(self) -> None:
        """CSQ_RELEASE_LOCK."""
        raise TypeError(f"{type(self).__name__} does not override release_lock")

    def complete_canceled(self, irp: Irp) -> None:
        """CSQ_COMPLETE_CANCELED_IRP: complete it with STATUS_CANCELLED. It is out of the list; the lock is not held."""
        raise TypeError(f"{type(self).__name__} does not override complete_canceled")

    # -- what the driver calls ---------------------------------------------------------------------------------------

    def insert_irp(self, irp: Irp, context: CsqIrpContext | None = None) -> None:
        """IoCsqInsertIrp: queue it and mark it pending. With a `context` it can be found again by `remove_irp`.

        One that has been cancelled already is put in, taken out again, and handed to `complete_canceled`.
        """
        self._insert(irp, context, None, may_refuse=False)

    def insert_irp_ex(self, irp: Irp, context: CsqIrpContext | None = None, insert_context: Any = None) -> NtStatus:
        """IoCsqInsertIrpEx: as `insert_irp`, but `insert` may refuse: its error status is returned, and the IRP not marked
        pending.
        """
        return self._insert(irp, context, insert_context, may_refuse=True)

    def _insert(self, irp: Irp, context: CsqIrpContext | None, insert_context: Any, *, may_refuse: bool) -> NtStatus:
        with self._locked():
            if context is not None:
                context.irp = irp
            irp.driver_context[3] = context
            status = self.insert(irp, insert_context)
            if may_refuse and status is not None and not status.is_success:
                self._forget(irp)
                return status
            irp.mark_pending()
            irp.set_cancel_routine(self._cancel)
            cancelled = irp.cancel and irp.set_cancel_routine(None) is not None
            if cancelled:
                self.remove(irp)
                self._forget(irp)
        if cancelled:
            self.complete_canceled(irp)
        return STATUS_SUCCESS

    def remove_next_irp(self, peek_context: Any = None) -> Irp | None:
        """IoCsqRemoveNextIrp: the first one that `peek_context` means and that no cancellation has taken, or None."""
        with self._locked():
            irp = self.peek_next(None, peek_context)
            while irp is not None:
                if irp.set_cancel_routine(None) is not None:
                    self.remove(irp)
                    self._forget(irp)
                    return irp
                irp = self.peek_next(irp, peek_context)
        return None

    def remove_irp(self, context: CsqIrpContext) -> Irp | None:
        """IoCsqRemoveIrp: the IRP that was inserted with this context; None if it was cancelled or removed meanwhile."""
        with self._locked():
            irp = context.irp
            if irp is None or irp.set_cancel_routine(None) is None:
                return None
            self.remove(irp)
            self._forget(irp)
        return irp

    def _cancel(self, device: DeviceObject[Any] | None, irp: Irp) -> None:
        if device is not None:
            self.io.release_cancel_spin_lock(device)
        with self._locked():
            self.remove(irp)
            self._forget(irp)
        self.complete_canceled(irp)

    @staticmethod
    def _forget(irp: Irp) -> None:
        """It is out of the list: its context means nothing any more. Under the lock."""
        context, irp.driver_context[3] = irp.driver_context[3], None
        if context is not None:
            context.irp = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire_lock()
        try:
            yield
        finally:
            self.release_lock()
