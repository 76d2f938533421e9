"""What the tests of the hardware layer share: ptys, a pin, other processes that hold a port. Every wait has a bound."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hilbridge.hal.serial_line import SerialLine, open_serial_line
from hilbridge.model.hardware import Line, LineSettings

TOP = Path(__file__).resolve().parents[2]
PATIENCE = 10.0
SETTINGS = LineSettings()


class FakePin:
    """The kernel's end of the interrupt line, as far as a line sees it."""

    def __init__(self) -> None:
        self.moved: bool | None = None
        self.seen = 0
        self.enabled: list[int] = []

    def take(self) -> int:
        seen, self.seen = self.seen, 0
        return seen

    def enable(self, causes: int) -> None:
        self.enabled.append(causes)

    def raise_line(self, causes: int) -> None:
        self.seen |= causes


class Pty:
    """A raw pty: `board` is the master, where the device would be; `path` is what is opened as the port."""

    def __init__(self) -> None:
        self.board, self.keeper = os.openpty()
        tty.setraw(self.keeper)
        os.set_blocking(self.board, False)
        self.path = os.ttyname(self.keeper)

    def open(self, settings: LineSettings = SETTINGS, *, flush_on_open: bool = False) -> SerialLine:
        return open_serial_line(self.path, settings, flush_on_open=flush_on_open)

    def hear(self, count: int) -> bytes:
        """What the board hears: `count` bytes."""
        return collect(self.board, lambda n: os.read(self.board, n), count)

    def unplug(self) -> None:
        board, self.board = self.board, -1
        os.close(board)

    def let_go(self) -> None:
        """Close the test's own descriptor of the port, which is there so that opening and closing change nothing."""
        keeper, self.keeper = self.keeper, -1
        os.close(keeper)

    def close(self) -> None:
        for fd in (self.board, self.keeper):
            if fd >= 0:
                os.close(fd)


def is_readable(fd: int, seconds: float = PATIENCE) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def collect(fd: int, read: Callable[[int], bytes], count: int) -> bytes:
    """Exactly `count` bytes through `read`, waiting for `fd` in between; fails when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    got = b""
    while len(got) < count:
        left = deadline - time.monotonic()
        assert left > 0 and is_readable(fd, left), f"only {len(got)} of {count} bytes came: {got[:100]!r}"
        with contextlib.suppress(BlockingIOError):
            got += read(count - len(got))
    return got


def hear(line: Line, count: int) -> bytes:
    """`count` bytes from a line, in as many interrupts as it takes."""
    return collect(line.fileno(), line.read, count)


def say(line: Line, data: bytes | bytearray) -> None:
    """All of `data` to a line that has room for it."""
    assert line.write(data) == len(data)


def fill(line: Line, block: bytes) -> int:
    """Write as much of `block` as goes in when nobody reads."""
    poll = select.poll()
    poll.register(line.fileno(), select.POLLOUT)
    sent = 0
    # The kernel makes room once more, a moment later, when it moves bytes on from the port's side to the board's.
    while poll.poll(200):
        sent += line.write(block[sent:])
    assert 0 < sent < len(block)
    return sent


def attributes(fd: int) -> list[Any]:
    return termios.tcgetattr(fd)


HOLD = """
import fcntl, os, sys, termios
how, path = sys.argv[1:3]
fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
if how == "flock":
    fcntl.flock(fd, fcntl.LOCK_EX)
if how == "exclusive":
    fcntl.ioctl(fd, termios.TIOCEXCL)
print("ready", flush=True)
sys.stdin.read()
if how == "exclusive" and "forget" not in sys.argv:
    fcntl.ioctl(fd, termios.TIOCNXCL)
"""


@contextlib.contextmanager
def held(path: str, how: str, *extra: str) -> Iterator[subprocess.Popen[str]]:
    """Another process has the port open: `how` is "plain", "flock" or "exclusive"."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, how, path, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None and child.stdin is not None
            assert child.stdout.readline() == "ready\n"
            yield child
            child.stdin.close()
            assert child.wait(PATIENCE) == 0
        finally:
            child.kill()


OPEN = """
import json, os, sys
from hilbridge.hal.serial_line import open_serial_line
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import LineSettings
path, uid = sys.argv[1], int(sys.argv[2])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    open_serial_line(path, LineSettings()).close()
    answer = {"kind": "opened"}
except HilbridgeError as error:
    answer = {"kind": type(error).__name__, "exit": error.exit_code, "message": str(error), "status": error.status.name}
print(json.dumps(answer))
"""


def open_elsewhere(path: str, uid: int = 0) -> dict[str, Any]:
    """Another process, of user `uid`, opens the port: {"kind": "opened"}, or the error's kind, exit code and message."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, path, str(uid)],
        cwd=TOP,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE * 3,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
