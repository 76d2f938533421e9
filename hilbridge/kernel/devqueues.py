"""KDEVICE_QUEUE for drivers: KeInsertDeviceQueue and its kin, which take the queue's own lock.

A driver that does one thing at a time, and does not want StartIo, keeps a queue of these for itself. The rule: who is answered
False by an insertion starts the entry; who is done with an entry removes the next one, and starts that, until there is none.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from hilbridge.model.devqueue import DeviceQueue

if TYPE_CHECKING:
    from hilbridge.kernel.spinlock import SpinLock

EntryT = TypeVar("EntryT")


class DeviceQueueRoutines:
    """The kernel's routines about device queues. Up to DISPATCH_LEVEL; they run at DISPATCH_LEVEL."""

    if TYPE_CHECKING:

        def spin_lock(self) -> SpinLock: ...

    def device_queue(self) -> DeviceQueue[Any]:
        """KeInitializeDeviceQueue: an idle queue with a spin lock of its own, for entries of any kind."""
        return DeviceQueue(self.spin_lock())

    @staticmethod
    def insert_device_queue(queue: DeviceQueue[EntryT], entry: EntryT) -> bool:
        """KeInsertDeviceQueue: at the tail. False if the queue was idle: it is busy now, and the caller starts the entry."""
        with _lock(queue):
            return queue.insert(entry)

    @staticmethod
    def insert_by_key_device_queue(queue: DeviceQueue[EntryT], entry: EntryT, key: int) -> bool:
        """KeInsertByKeyDeviceQueue: before the first entry with a larger key. Returns as `insert_device_queue`."""
        with _lock(queue):
            return queue.insert(entry, key)

    @staticmethod
    def remove_device_queue(queue: DeviceQueue[EntryT]) -> EntryT | None:
        """KeRemoveDeviceQueue: the next entry, or None, and the queue is idle. Bug check 0x2 if it was idle before."""
        with _lock(queue):
            return queue.remove()

    @staticmethod
    def remove_by_key_device_queue(queue: DeviceQueue[EntryT], key: int) -> EntryT | None:
        """KeRemoveByKeyDeviceQueue: the first entry with a key of at least `key`, else the head. As `remove_device_queue`."""
        with _lock(queue):
            return queue.remove_by_key(key)

    @staticmethod
    def remove_entry_device_queue(queue: DeviceQueue[EntryT], entry: EntryT) -> bool:
        """KeRemoveEntryDeviceQueue: True if it was queued. The queue stays busy: what is in progress is not touched."""
        with _lock(queue):
            return queue.remove_entry(entry)


def _lock(queue: DeviceQueue[Any]) -> AbstractContextManager[Any]:
    lock = queue.lock
    assert lock is not None, "a queue without a lock is not shared: call its methods"
    return lock
