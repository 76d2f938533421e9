"""KDEVICE_QUEUE: one busy flag and a list. Callers hold the device's queue lock."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from hilbridge.model.errors import BugCheck

if TYPE_CHECKING:
    from hilbridge.model.irp import Irp


class DeviceQueue:
    """KDEVICE_QUEUE. An insert into an idle queue makes it busy and queues nothing: the caller starts the packet."""

    __slots__ = ("_entries", "_serial", "busy")

    def __init__(self) -> None:
        self.busy = False
        self._entries: list[tuple[int, int, Irp]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def insert(self, irp: Irp, key: int | None = None) -> bool:
        """KeInsertDeviceQueue / KeInsertByKeyDeviceQueue: True if queued, False if the queue was idle.

        Without a key the entry goes to the tail. With one it goes before the first entry that has a larger key.
        """
        if not self.busy:
            self.busy = True
            return False
        self._serial += 1
        if key is None:
            last = self._entries[-1][0] if self._entries else 0
            self._entries.append((last, self._serial, irp))
        else:
            insort(self._entries, (key, self._serial, irp), key=lambda entry: entry[:2])
        return True

    def remove(self) -> Irp | None:
        """KeRemoveDeviceQueue: the head, or None and the queue is idle. Bug check 0x2 when it was idle already."""
        self._must_be_busy()
        if self._entries:
            return self._entries.pop(0)[2]
        self.busy = False
        return None

    def remove_by_key(self, key: int) -> Irp | None:
        """KeRemoveByKeyDeviceQueue: the first entry with a key of at least `key`, else the head."""
        self._must_be_busy()
        for index, entry in enumerate(self._entries):
            if entry[0] >= key:
                return self._entries.pop(index)[2]
        return self.remove()

    def remove_entry(self, irp: Irp) -> bool:
        """KeRemoveEntryDeviceQueue: True if it was queued (and now is not)."""
        for index, entry in enumerate(self._entries):
            if entry[2] is irp:
                del self._entries[index]
                return True
        return False

    def _must_be_busy(self) -> None:
        if not self.busy:
            raise BugCheck(
                0x2, "DEVICE_QUEUE_NOT_BUSY", hint="every started packet is followed by one start_next_packet"
            )
