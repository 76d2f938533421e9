"""KDEVICE_QUEUE: one busy flag, a list, and the lock that keeps both.

The methods here expect the lock to be held. The routines of the kernel (`hilbridge.kernel.devqueues`, KeInsertDeviceQueue and
its kin) take it; a driver that has to look at something else in the same step takes it itself.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Generic, TypeVar

from hilbridge.model.errors import BugCheck

if TYPE_CHECKING:
    from hilbridge.kernel.spinlock import SpinLock

EntryT = TypeVar("EntryT")


class DeviceQueue(Generic[EntryT]):
    """KDEVICE_QUEUE. An insert into an idle queue makes it busy and queues nothing: the caller starts the packet.

    Entries are IRPs in a device's own queue, and whatever a driver likes in one that it has made with `ke.device_queue`.
    """

    __slots__ = ("_entries", "_serial", "busy", "lock")

    def __init__(self, lock: SpinLock | None = None) -> None:
        self.lock = lock
        self.busy = False
        self._entries: list[tuple[int, int, EntryT]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def insert(self, entry: EntryT, key: int | None = None) -> bool:
        """Queue, under the lock: True if queued, False if the queue was idle.

        Without a key the entry goes to the tail. With one it goes before the first entry that has a larger key.
        """
        if not self.busy:
            self.busy = True
            return False
        self._serial += 1
        if key is None:
            last = self._entries[-1][0] if self._entries else 0
            self._entries.append((last, self._serial, entry))
        else:
            insort(self._entries, (key, self._serial, entry), key=lambda queued: queued[:2])
        return True

    def remove(self) -> EntryT | None:
        """The head, or None and the queue is idle. Bug check 0x2 when it was idle already."""
        self._must_be_busy()
        if self._entries:
            return self._entries.pop(0)[2]
        self.busy = False
        return None

    def remove_by_key(self, key: int) -> EntryT | None:
        """The first entry with a key of at least `key`; behind the last one it begins anew, with the head."""
        self._must_be_busy()
        for index, queued in enumerate(self._entries):
            if queued[0] >= key:
                return self._entries.pop(index)[2]
        return self.remove()

    def remove_entry(self, entry: EntryT) -> bool:
        """True if it was queued (and now is not). The queue stays busy."""
        for index, queued in enumerate(self._entries):
            if queued[2] is entry:
                del self._entries[index]
                return True
        return False

    def _must_be_busy(self) -> None:
        if not self.busy:
            make = BugCheck if self.lock is None else self.lock.ke.bug_check
            raise make(0x2, "DEVICE_QUEUE_NOT_BUSY", hint="every started packet is followed by one start_next_packet")
