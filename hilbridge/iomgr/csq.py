"""IO_CSQ: a queue of IRPs in which cancellation is somebody else's problem.

The order of steps here *is* the solution of the documented races; do not tidy it:

* insert: mark pending, put into the list, set the cancel routine, then look at ``irp.cancel``. A cancel that came before
  the routine was set found nothing to call; the look finds it.
* remove: take the cancel routine first. If it is gone, a cancellation owns the IRP and is waiting for the queue's lock to
  take it out of the list; leave it alone.
* cancel routine: let go of the cancel lock, then take the queue's lock. The other order would be a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.spinlock import SpinLock
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp

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
