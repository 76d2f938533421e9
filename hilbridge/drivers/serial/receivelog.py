"""The receive log: what has arrived and not every reader has read.

Bytes have positions: the n-th byte that the device ever said is at position n. A reader is a cursor, the position of the
next byte that it will read. The log keeps the bytes from the slowest cursor on. Reading moves a cursor; nobody else
notices. A read that has not ended has taken nothing, so that a cancelled one has nothing to give back.
"""

from __future__ import annotations


class ReceiveLog:
    """Bytes by position. Not locked: its owner is."""

    __slots__ = ("_data", "base", "end")

    def __init__(self) -> None:
        self._data = bytearray()
        self.base = 0
        """Position of the oldest byte that is kept."""
        self.end = 0
        """Position that the next byte to arrive will have."""

    def __len__(self) -> int:
        return len(self._data)

    def append(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._data += data
        self.end += len(data)

    def pass_by(self, count: int) -> None:
        """`count` bytes have arrived and been read at once: they were never kept. Only where nothing is kept."""
        self.base += count
        self.end += count

    def peek(self, cursor: int, limit: int) -> bytes:
        """Up to `limit` bytes from `cursor` on."""
        start = cursor - self.base
        return bytes(memoryview(self._data)[start : start + limit])

    def copy_into(self, cursor: int, count: int, buffer: bytearray) -> None:
        """Copy `count` bytes from `cursor` on to the front of `buffer`."""
        start = cursor - self.base
        buffer[:count] = memoryview(self._data)[start : start + count]

    def find(self, terminator: bytes, cursor: int, end: int) -> int:
        """Position just behind the first occurrence of `terminator` in [cursor, end), or -1."""
        at = self._data.find(terminator, cursor - self.base, end - self.base)
        return -1 if at < 0 else self.base + at + len(terminator)

    def trim(self, oldest_cursor: int) -> None:
        """Forget what lies before `oldest_cursor`. Cheap: a bytearray drops its front without moving the rest."""
        count = oldest_cursor - self.base
        if count > 0:
            del self._data[:count]
            self.base = oldest_cursor

    def give_back(self, cursor: int, data: bytes) -> int:
        """Put `data`, which had been read up to `cursor`, back before it; returns the cursor that reads it again."""
        start = cursor - len(data)
        missing = self.base - start
        if missing > 0:
            # Only what has been trimmed must be put back: the rest is still here, for a slower reader.
            self._data[:0] = data[:missing]
            self.base = start
        return start
