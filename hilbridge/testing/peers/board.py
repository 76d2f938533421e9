"""The scripted board on a pty: the machine of `hilbridge.testing.board`, given a clock and a line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hilbridge.model.errors import DeviceGone
from hilbridge.testing.board import BoardMachine
from hilbridge.testing.peers.base import Done
from hilbridge.testing.peers.stream import StreamPeer

if TYPE_CHECKING:
    from hilbridge.files.board import Board


class BoardPeer(StreamPeer):
    """A scripted board. While its line is full the board stands still, time included, as firmware does in putc()."""

    def __init__(self, board: Board, *, held: bool = False) -> None:
        super().__init__()
        self._lost_ns = 0
        self._blocked_since: int | None = None
        self._machine = BoardMachine(board, time.monotonic_ns(), powered=not held)

    def wants_input(self) -> bool:
        return not self._queue and self._machine.wants_input

    def work(self, now_ns: int) -> None:
        if not self._pty.open:
            return
        if self._queue:
            self._blocked_since = now_ns if self._blocked_since is None else self._blocked_since
            return
        if self._blocked_since is not None:
            self._lost_ns += now_ns - self._blocked_since
            self._blocked_since = None
        self._machine.advance(now_ns - self._lost_ns)
        self.send(self._machine.take_output())

    def deadline(self, now_ns: int) -> int | None:
        due = self._machine.next_deadline()
        return None if due is None or self._queue or not self._pty.open else due + self._lost_ns

    def received(self, data: bytes, now_ns: int) -> None:
        self.work(now_ns)  # settles the time that was lost while the line was full
        self._machine.receive(data, now_ns - self._lost_ns)
        self.send(self._machine.take_output())

    def reset(self, now_ns: int, done: Done) -> None:
        if not self._pty.open:
            done(DeviceGone("the port was unplugged"))
            return
        if self._blocked_since is not None:
            self._lost_ns += now_ns - self._blocked_since
            self._blocked_since = None
        self._machine.reset(now_ns - self._lost_ns)
        self.send(self._machine.take_output())
        done(None)
