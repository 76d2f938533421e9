"""Drivers with the two kinds of cancel-safe queue, as one: first in first out, or by the driver's own order and limit."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.csq import CancelSafeQueue, CsqIrpContext, IoCsq
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.support import Extension, TinyDriver, complete, complete_cancelled

ROOM = 4
"""So many the ordered queue takes."""


class Ordered(IoCsq):
    """By key, those with equal keys in the order in which they came. Checks that it is called as it should be."""

    def __init__(self, io: Any, keys: dict[int, int]) -> None:
        super().__init__(io)
        self.lock = io.ke.spin_lock()
        self.keys = keys
        self.irps: list[Irp] = []

    def insert(self, irp: Irp, context: Any) -> NtStatus | None:
        assert self.lock.owner is not None
        if context is not None and len(self.irps) >= context:
            return STATUS_DEVICE_BUSY
        self.irps.append(irp)
        self.irps.sort(key=lambda one: self.keys[one.id])
        return STATUS_SUCCESS

    def remove(self, irp: Irp) -> None:
        assert self.lock.owner is not None
        self.irps.remove(irp)

    def peek_next(self, irp: Irp | None, context: Any) -> Irp | None:
        assert self.lock.owner is not None
        later = self.irps if irp is None else self.irps[self.irps.index(irp) + 1 :]
        return next((one for one in later if context is None or one.file_object is context), None)

    def acquire_lock(self) -> None:
        self.lock.acquire()

    def release_lock(self) -> None:
        self.lock.release()

    def complete_canceled(self, irp: Irp) -> None:
        assert self.lock.owner is None and irp not in self.irps
        complete_cancelled(irp)


class QueueDriver(TinyDriver):
    """Queues every read; what it takes out it has until somebody says what becomes of it."""

    def __init__(self, *, ordered: bool) -> None:
        super().__init__("queued", {IrpMajor.READ: self.read, IrpMajor.CLEANUP: self.cleanup})
        self.ordered = ordered
        self.keys: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self.contexts: dict[str, CsqIrpContext] = {}
        self.irps: dict[str, Irp] = {}
        self.taken: dict[str, Irp] = {}
        """Removed from the queue, and not ended."""
        self.next: tuple[str, int, bool, bool] | None = None
        """Of the request that is submitted now: name, key, whether it is limited, whether it is cancelled before."""

    def add_device(self, driver: Any, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        self.csq = Ordered(driver.io, self.keys)
        return status

    @property
    def fifo(self) -> CancelSafeQueue:
        return self.device.extension.queue

    def queued(self) -> list[str]:
        """What is in the list, in order."""
        irps = self.csq.irps if self.ordered else self.fifo.irps.values()
        return [self.names[irp.id] for irp in irps]

    def read(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        assert self.next is not None
        name, key, limited, before = self.next
        self.keys[irp.id], self.names[irp.id], self.irps[name] = key, name, irp
        if before:
            device.io.cancel_irp(irp)
        return self.insert(device, irp, limited=limited)

    def insert(self, device: DeviceObject[Extension], irp: Irp, *, limited: bool) -> NtStatus:
        if not self.ordered:
            self.fifo.insert(irp)
            return STATUS_PENDING
        context = self.contexts[self.names[irp.id]] = CsqIrpContext()
        if not limited:
            self.csq.insert_irp(irp, context)
            return STATUS_PENDING
        status = self.csq.insert_irp_ex(irp, context, ROOM)
        return STATUS_PENDING if status.is_success else complete(device, irp, status)

    def remove_next(self, file: FileObject | None) -> str | None:
        """Take out the first one; of that file, if there is one."""
        if self.ordered:
            irp = self.csq.remove_next_irp(file)
        else:
            with self.fifo.lock:
                irp = self.fifo.remove_next_locked(None if file is None else lambda one: one.file_object is file)
        return self._take(irp)

    def remove(self, name: str) -> str | None:
        """Take out that one."""
        if self.ordered:
            return self._take(self.csq.remove_irp(self.contexts[name]))
        irp = self.irps[name]
        if irp.id not in self.fifo.irps:
            return None  # this queue may be asked for what is in it only
        with self.fifo.lock:
            return self._take(irp if self.fifo.remove_locked(irp) else None)

    def _take(self, irp: Irp | None) -> str | None:
        if irp is None:
            return None
        name = self.names[irp.id]
        assert irp.cancel_routine is None and name not in self.taken
        assert not self.ordered or self.contexts[name].irp is None
        self.taken[name] = irp
        return name

    def end(self, name: str, status: NtStatus) -> None:
        complete(self.device, self.taken.pop(name), status)

    def cleanup(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        """Whatever of that file is queued, or has been taken out, ends."""
        file = irp.current_stack_location.file_object
        while (name := self.remove_next(file)) is not None:
            self.end(name, STATUS_CANCELLED)
        for name, one in list(self.taken.items()):
            if one.file_object is file:
                self.end(name, STATUS_SUCCESS)
        return complete(device, irp)
