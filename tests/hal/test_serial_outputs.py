"""What opening, programming and closing a port do to DTR and RTS, on which boards hang their reset."""

from __future__ import annotations

import fcntl
import termios
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from serial import serialposix

from hilbridge import Bridge
from hilbridge.hal import pyserial
from tests.hal.halkit import SETTINGS, Pty, attributes

CFLAG = 2


def hangs_up(fd: int) -> bool:
    """Whether the last close drops DTR."""
    return bool(attributes(fd)[CFLAG] & termios.HUPCL)


def set_hupcl(fd: int) -> None:
    now = attributes(fd)
    now[CFLAG] |= termios.HUPCL
    termios.tcsetattr(fd, termios.TCSANOW, now)
    assert hangs_up(fd)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What pyserial asks the kernel for. On a pty it would try to move the lines, and be told that there are none."""
    asked: list[int] = []

    def ioctl(fd: int, request: int, *arguments: Any) -> Any:
        asked.append(request)
        return fcntl.ioctl(fd, request, *arguments)

    recorder = SimpleNamespace(**{**vars(fcntl), "ioctl": ioctl})
    monkeypatch.setattr(serialposix, "fcntl", recorder)
    return asked


def test_opening_does_not_move_the_lines(pty: Pty, asked: list[int]) -> None:
    line = pty.open()
    line.configure(replace(SETTINGS, baudrate=9600))
    line.close()
    assert not {termios.TIOCMBIS, termios.TIOCMBIC, termios.TIOCMSET} & set(asked)


def test_pyserial_itself_would(pty: Pty, asked: list[int]) -> None:
    """So the test above can fail."""
    pyserial.serial.Serial(pty.path).close()
    assert termios.TIOCMBIS in asked


def test_hupcl_stays_off_whatever_is_programmed(pty: Pty) -> None:
    set_hupcl(pty.keeper)
    line = pty.open()
    assert not hangs_up(pty.keeper)
    line.configure(replace(SETTINGS, baudrate=9600, stopbits=2))
    assert not hangs_up(pty.keeper)
    line.close()
    assert not hangs_up(pty.keeper)


def test_hupcl_is_cleared_again_after_a_stop(pty: Pty) -> None:
    """Who borrows a port, with pyserial for instance, may leave it set."""
    with Bridge() as bridge:
        name = bridge.plug(pty.path)
        bridge.stop(name)
        set_hupcl(pty.keeper)
        bridge.start(name)
        assert not hangs_up(pty.keeper)
        bridge.unplug(name)
    assert not hangs_up(pty.keeper)
