"""What the tests of fixtures share: a client of a port, and the end of a process. Every wait has a deadline."""

from __future__ import annotations

import os
import re
import select
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONG = 20.0
"""Seconds. Nothing takes that long; a loaded machine gets it before a test calls it a failure."""

SHORT = 0.05
"""Seconds to look whether something comes that must not come."""


class Client:
    """A program that has opened a port: raw, non-blocking, every wait with a deadline."""

    def __init__(self, node: str) -> None:
        self.fd = os.open(node, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        tty.setraw(self.fd, termios.TCSANOW)  # the default would throw away what has arrived already
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def write(self, data: bytes) -> None:
        assert os.write(self.fd, data) == len(data)

    def read(self, count: int, within: float = LONG) -> bytes:
        """Exactly `count` bytes, or a failure that shows what came instead."""
        deadline = time.monotonic() + within
        data = b""
        while len(data) < count:
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            assert ready, f"{len(data)} of {count} bytes came: {data[-200:]!r}"
            data += os.read(self.fd, count - len(data))
        return data

    def until(self, pattern: bytes, within: float = LONG) -> bytes:
        """Everything up to the first match of `pattern` at the end of what has come."""
        deadline = time.monotonic() + within
        data = b""
        while not re.search(pattern + rb"\Z", data):
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            assert ready, f"{pattern!r} did not come, but {data!r}"
            data += os.read(self.fd, 1)
        return data

    def hears_nothing(self) -> bool:
        return not self._poll.poll(SHORT * 1000)

    def sees_hangup(self, within: float = LONG) -> bool:
        """Reads what is left, and waits for the end: an empty read or EIO, as the kernel reports a hang-up."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0 and self._poll.poll(left * 1000):
            try:
                if not os.read(self.fd, 4096):
                    return True
            except OSError:
                return True
        return False


@contextmanager
def client(node: str) -> Iterator[Client]:
    opened = Client(node)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def process_handle(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def ends(handle: int, within: float = LONG) -> bool:
    """Whether the process of a pidfd ends in time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(within * 1000))


def board_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "board.yaml"
    file.write_text(f"schema: 1\nkind: board\n{text}")
    return file
