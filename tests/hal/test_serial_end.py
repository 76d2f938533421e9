"""Unplugged, closed, forked: nothing that was received is lost, and nobody else is harmed."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import threading
from dataclasses import replace
from typing import Any

import pytest

from hilbridge.hal import serial_line
from hilbridge.hal.serial_line import open_serial_line
from hilbridge.model.errors import (
    DeviceGone,
    DeviceNotFound,
)
from hilbridge.model.hardware import (
    Line,
)
from tests.hal.halkit import (
    PATIENCE,
    SETTINGS,
    Pty,
    fill,
    hear,
    open_elsewhere,
    say,
)

TIOCSPTLCK, TIOCGPTN = 0x40045431, 0x80045430  # asm-generic/ioctls.h; not in Python's termios


def use(line: Line) -> list[Any]:
    return [
        lambda: line.read(1),
        lambda: line.write(b"x"),
        lambda: line.configure(replace(SETTINGS, baudrate=9600)),
        line.output_waiting,
        lambda: line.discard(rx=True),
    ]


def test_unplugged_after_3_of_10_bytes(pty: Pty) -> None:
    line = pty.open()
    os.write(pty.board, b"123")
    assert hear(line, 3) == b"123"
    poll = select.poll()
    poll.register(line.fileno(), 0)
    assert poll.poll(0) == []
    pty.unplug()
    assert poll.poll(PATIENCE * 1000)[0][1] & select.POLLHUP
    for call in use(line):
        with pytest.raises(DeviceGone) as caught:
            call()
        assert caught.value.exit_code == 7
        assert "open it again when it is back" in str(caught.value)
    line.close()
    line.close()


def test_bytes_that_are_buffered_at_the_hang_up_come_first() -> None:
    # On a pty's slave the kernel throws them away with the terminal. The multiplexer's node makes a *master* of what we
    # open: there they stay, and the hang-up is an EIO instead of an end of file.
    line = open_serial_line("/dev/ptmx", SETTINGS)
    fcntl.ioctl(line.fileno(), TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("I", fcntl.ioctl(line.fileno(), TIOCGPTN, bytes(4)))[0]
    other = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    os.write(other, b"last words")
    os.close(other)
    assert line.read(4) == b"last"
    assert line.read(100) == b" words"
    for _ in range(2):
        with pytest.raises(DeviceGone, match="Input/output error"):
            line.read(100)
    line.close()


def test_unplugged_while_the_port_is_full(pty: Pty) -> None:
    line = pty.open()
    fill(line, bytes(65536))
    pty.unplug()
    with pytest.raises(DeviceGone, match="cannot write to"):
        line.write(b"x")
    line.close()


def test_gone_between_the_look_and_the_open(pty: Pty) -> None:
    pty.let_go()
    path = pty.path
    pty.unplug()
    with pytest.raises(DeviceNotFound):
        open_serial_line(path, SETTINGS)


def test_after_the_close_everything_fails_and_nothing_touches_a_stranger(pty: Pty) -> None:
    line = pty.open()
    number = line.fileno()
    line.close()
    stranger = os.open("/dev/null", os.O_RDWR)
    try:
        assert stranger == number, "the kernel gives the number away again at once"
        for call in use(line):
            with pytest.raises(DeviceGone):
                call()
        line.close()
        os.fstat(stranger)
    finally:
        os.close(stranger)


def test_the_close_of_a_port_that_still_sends_does_not_wait_for_it(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    # A pty never has unsent bytes, and no machine of a test run has a UART with its flow control held.
    line = pty.open()
    monkeypatch.setattr(serial_line, "_still_sends", lambda fd: True)
    number, before = line.fileno(), set(threading.enumerate())
    line.close()
    assert line.fileno() == -1
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    with pytest.raises(OSError):
        os.fstat(number)
    assert open_elsewhere(pty.path)["kind"] == "opened"


def fork_and(child_does: Any) -> None:
    """Run `child_does` in a forked child; fails if that fails."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child_does()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("how", ["after_fork_in_child", "close"])
def test_a_forked_child_cannot_harm_the_parents_port(pty: Pty, how: str) -> None:
    line = pty.open()

    def child() -> None:
        getattr(line, how)()
        assert line.fileno() == -1
        with pytest.raises(DeviceGone):
            line.read(1)

    fork_and(child)
    say(line, b"still mine")
    assert pty.hear(10) == b"still mine"
    assert open_elsewhere(pty.path)["kind"] == "DeviceBusy"
    line.close()
    assert open_elsewhere(pty.path)["kind"] == "opened"


def test_the_close_unlocks_even_if_a_child_has_a_copy(pty: Pty) -> None:
    line = pty.open()
    end, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(begin)
        os.read(end, 1)  # until the parent closes its end; the copy of the port stays open so long
        os._exit(0)
    os.close(end)
    line.close()
    try:
        pty.open().close()
    finally:
        os.close(begin)
        os.waitpid(pid, 0)
