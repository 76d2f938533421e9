"""A peer with an outgoing queue: what the pty does not take now goes later, and nothing is lost."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Mapping

from hilbridge.model.errors import DeviceGone
from hilbridge.testing.peers.base import CHUNK, Done, Peer, Pty, spoken


class StreamPeer(Peer):
    """Base of the peers that talk by themselves. The master is non-blocking; the loop says when there is room again."""

    def __init__(self) -> None:
        self._pty = Pty()
        self.nodes = (self._pty.node,)
        os.set_blocking(self._pty.master, False)
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._sent = 0
        self._waiting: deque[tuple[int, Done]] = deque()

    @property
    def backlog(self) -> int:
        """Bytes that the pty has not taken yet."""
        return self._queued - self._sent

    def send(self, data: bytes, done: Done | None = None) -> None:
        """Queue `data`, and write at once what the pty takes. `done` is called when the last byte went."""
        if data:
            self._queue.append(memoryview(data))
            self._queued += len(data)
        if done is not None:
            self._waiting.append((self._queued, done))
        self.flush()

    def flush(self) -> None:
        """Write what the pty takes."""
        while self._queue:
            try:
                taken = os.write(self._pty.master, self._queue[0])
            except BlockingIOError:
                break
            self._sent += taken
            if taken == len(self._queue[0]):
                self._queue.popleft()
            else:
                self._queue[0] = self._queue[0][taken:]
        while self._waiting and self._waiting[0][0] <= self._sent:
            self._waiting.popleft()[1](None)

    def drop(self, why: str) -> None:
        """Forget what is queued; whoever waits for it is told `why`."""
        self._queue.clear()
        self._queued = self._sent
        while self._waiting:
            self._waiting.popleft()[1](DeviceGone(why))

    def watched(self) -> Mapping[int, int]:
        if not self._pty.open:
            return {}
        mask = (select.POLLOUT if self._queue else 0) | (select.POLLIN if self.wants_input() else 0)
        return {self._pty.master: mask} if mask else {}

    def wants_input(self) -> bool:
        """Whether to read what clients send now."""
        return True

    def ready(self, descriptor: int, now_ns: int) -> None:
        if self._queue:
            self.flush()
        if self.wants_input():
            try:
                data = os.read(descriptor, CHUNK)
            except BlockingIOError:
                return
            self.received(data, now_ns)

    def received(self, data: bytes, now_ns: int) -> None:
        """A client sent `data`."""

    def say(self, what: object, now_ns: int, done: Done) -> None:
        if self._pty.open:
            self.send(spoken(what), done)
        else:
            done(DeviceGone("the port was unplugged"))

    def hang_up(self, done: Done) -> None:
        self.drop("the port was unplugged")
        self._pty.close()
        done(None)

    def close(self) -> None:
        self._pty.close()
