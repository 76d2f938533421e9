"""What the tests of handles share: one port on virtual time, and one on a pty."""

from __future__ import annotations

import os
from typing import Any

from hilbridge import Bridge
from hilbridge.iomgr.manager import IoManager
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty

SOON = 0.02


class Virtual:
    """One port on virtual time."""

    def __init__(self, io_manager: type[IoManager] = IoManager, **options: Any) -> None:
        self.bridge = Bridge.manual(io_manager=io_manager)
        self.line = VirtualLine(**options)
        self.handle = self.bridge.open(self.bridge.plug(self.line))

    @property
    def seconds(self) -> float:
        return self.bridge.ke.clock.now() / 1e9

    def feed(self, data: bytes) -> None:
        self.line.feed(data)
        self.bridge.machine.run_until_idle()


class Real:
    """One port on a pty: `board` is the far end."""

    def __init__(self, *, steering: bool) -> None:
        self.pty = Pty()
        self.bridge = Bridge(steering=steering)
        self.handle = self.bridge.open(self.bridge.plug(self.pty.path))

    def say(self, data: bytes) -> None:
        assert os.write(self.pty.board, data) == len(data)

    def say_in_pieces(self, data: bytes, size: int) -> None:
        for at in range(0, len(data), size):
            self.say(data[at : at + size])

    def close(self) -> None:
        self.bridge.close()
        self.pty.close()


def write_all(fd: int, data: bytes) -> None:
    os.set_blocking(fd, True)
    while data:
        data = data[os.write(fd, data) :]
    os.set_blocking(fd, False)
