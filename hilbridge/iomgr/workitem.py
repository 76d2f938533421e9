"""Work items: IoAllocateWorkItem and IoQueueWorkItem. What a DPC may not do, a system worker thread does at PASSIVE_LEVEL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hilbridge.iomgr.unload import UnloadRoutines
from hilbridge.kernel.culprit import calls_driver
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject

WorkRoutine = Callable[[DeviceObject[Any], Any], object]


class WorkItem:
    """IO_WORKITEM: queued once at a time. It is off the queue before its routine is called, which may queue or free it."""

    __slots__ = ("_idle", "device", "freed")

    def __init__(self, device: DeviceObject[Any]) -> None:
        self.device = device
        self.freed = False
        self._idle: list[None] = [None]  # taking the token is atomic: of two who queue it only one gets it

    def __repr__(self) -> str:
        return f"<work item of {self.device!r}{' (freed)' if self.freed else ''}>"

    @property
    def queued(self) -> bool:
        """Whether it waits for a worker."""
        return not self._idle

    def claim(self) -> bool:
        """Mark as queued; False if it is queued already."""
        try:
            self._idle.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Mark as not queued."""
        self._idle.append(None)


class WorkItemRoutines(UnloadRoutines):
    """The I/O manager's routines about work items. Up to DISPATCH_LEVEL."""

    @staticmethod
    def allocate_work_item(device: DeviceObject[Any]) -> WorkItem:
        """IoAllocateWorkItem."""
        return WorkItem(device)

    def queue_work_item(self, item: WorkItem, routine: WorkRoutine, context: Any = None) -> None:
        """IoQueueWorkItem: ``routine(device, context)`` is called once, on a system worker thread.

        Items begin in the order in which they were queued, and do not wait for one another's end: one may wait for what
        another does. Until the routine has returned the device does not go, nor its driver. Bug check 0xE4 if the item is
        queued already, or freed; 0xE1 if the routine returns at raised IRQL. What is queued when its stack fails is dropped.
        """
        self.ke.current()  # a retired processor is refused
        if item.freed or not item.claim():
            what = "has been freed" if item.freed else "is queued already"
            raise self.bug_check(0xE4, "WORKER_INVALID", item, hint=f"the work item {what}", device=item.device)
        self.reference_object(item.device)
        self.ke.machine.queue_item(partial(self._run_work_item, item, item.device, routine, context))

    @calls_driver("work_item", "a work item", lambda frame: frame["device"])
    def _run_work_item(self, item: WorkItem, device: DeviceObject[Any], routine: WorkRoutine, context: Any) -> None:
        item.release()  # from here on it may be the routine's, or gone
        processor = self.ke.current()
        irql, processor.irql = processor.irql, PASSIVE_LEVEL  # a crank is turned at APC_LEVEL, too
        try:
            if device.device_stack.fault is None:
                routine(device, context)
            if processor.irql != PASSIVE_LEVEL:
                raise self.bug_check(
                    0xE1,
                    "WORKER_THREAD_RETURNED_AT_BAD_IRQL",
                    routine,
                    processor.irql,
                    item,
                    hint="a work item returns at PASSIVE_LEVEL",
                    device=device,
                )
        except BaseException as error:  # noqa: BLE001 - latched
            processor.irql = PASSIVE_LEVEL
            self.fault(device, error, "a work item")
        finally:
            self.dereference_object(device)
        processor.irql = irql
        if processor.dpcs and irql < DISPATCH_LEVEL:
            self.ke.drain_dpcs(processor)  # what a routine has queued that did not lower its IRQL

    def free_work_item(self, item: WorkItem) -> None:
        """IoFreeWorkItem: not while it is queued. Its own routine may."""
        if item.queued or item.freed:
            what = "is still queued" if item.queued else "has been freed before"
            raise self.bug_check(0xE4, "WORKER_INVALID", item, hint=f"the work item {what}", device=item.device)
        item.freed = True
