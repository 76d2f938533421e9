"""A port, opened, programmed, read and written; what it refuses; what happens when it goes. On ptys, which are real."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serial import serialposix

from hilbridge.hal import serial_line
from hilbridge.hal.serial_line import TIOCCBRK, TIOCSBRK, open_serial_line
from hilbridge.model.errors import (
    DeviceBusy,
    DeviceFault,
    DeviceUnsupported,
)
from hilbridge.model.hardware import (
    CAUSE_RX,
    CAUSE_TX,
    MSR_CTS,
    MSR_DCD,
    MSR_DSR,
    MSR_RI,
    Line,
    LineSettings,
)
from hilbridge.model.status import STATUS_DEVICE_BUSY
from tests.hal.halkit import (
    PATIENCE,
    SETTINGS,
    TOP,
    FakePin,
    Pty,
    attributes,
    collect,
    descriptors,
    fill,
    hear,
    is_readable,
    say,
)

IFLAG, OFLAG, CFLAG, LFLAG, SPEED, _, CC = range(7)


# -- opening -----------------------------------------------------------------------------------------------------------


def test_it_is_a_line(pty: Pty) -> None:
    line: Line = pty.open()
    assert line.name == pty.path
    assert line.has_modem_lines is False
    assert line.asserted() is False
    line.close()


def test_bytes_go_both_ways(pty: Pty) -> None:
    line = pty.open()
    os.write(pty.board, b"from the board")
    assert hear(line, 14) == b"from the board"
    say(line, b"to the board")
    assert pty.hear(12) == b"to the board"
    line.close()


def test_all_256_values_pass_unchanged(pty: Pty) -> None:
    line = pty.open()
    everything = bytes(range(256))
    os.write(pty.board, everything)
    assert hear(line, 256) == everything
    say(line, everything)
    assert pty.hear(256) == everything
    line.close()


def test_what_was_said_before_the_open_is_kept(pty: Pty) -> None:
    os.write(pty.board, b"U-Boot 2023.01\r\n")
    line = pty.open()
    assert hear(line, 16) == b"U-Boot 2023.01\r\n"
    line.close()


def test_flush_on_open_drops_what_was_said_before(pty: Pty) -> None:
    os.write(pty.board, b"old")
    assert is_readable(pty.keeper)
    line = pty.open(flush_on_open=True)
    os.write(pty.board, b"new")
    assert hear(line, 3) == b"new"
    line.close()


def test_hang_up_on_close_is_off(pty: Pty) -> None:
    before = attributes(pty.keeper)
    before[CFLAG] |= termios.HUPCL
    before[IFLAG] |= termios.BRKINT
    termios.tcsetattr(pty.keeper, termios.TCSANOW, before)
    line = pty.open()
    after = attributes(pty.keeper)
    assert after[CFLAG] & termios.HUPCL == 0
    assert after[IFLAG] & termios.BRKINT == 0
    line.close()
    assert attributes(pty.keeper)[CFLAG] & termios.HUPCL == 0


def test_the_terminal_is_raw_whatever_it_was(pty: Pty) -> None:
    cooked = attributes(pty.keeper)
    cooked[IFLAG] |= termios.ICRNL | termios.IXON | termios.ISTRIP
    cooked[OFLAG] |= termios.OPOST | termios.ONLCR
    cooked[LFLAG] |= termios.ICANON | termios.ECHO | termios.ISIG
    termios.tcsetattr(pty.keeper, termios.TCSANOW, cooked)
    line = pty.open()
    os.write(pty.board, b"\r\x03\x11\xff")
    assert hear(line, 4) == b"\r\x03\x11\xff"
    say(line, b"\n")
    assert pty.hear(1) == b"\n"
    line.close()


def test_one_descriptor_a_port_and_none_after_the_close(pty: Pty) -> None:
    before = descriptors()
    line = pty.open()
    assert descriptors() == before + 1
    assert os.get_inheritable(line.fileno()) is False
    line.close()
    assert descriptors() == before
    assert line.fileno() == -1


def test_a_link_to_a_port(pty: Pty, tmp_path: Path) -> None:
    by_id = tmp_path / "serial" / "by-id"
    by_id.mkdir(parents=True)
    link = by_id / "usb-FTDI_FT232R_A50285BI-if00-port0"
    link.symlink_to(os.path.relpath(pty.path, by_id))
    line = open_serial_line(str(link), SETTINGS)
    assert line.name == str(link)
    with pytest.raises(DeviceBusy, match="already open in this process"):
        pty.open()
    line.close()


def test_a_descriptor_above_1023(pty: Pty) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip(f"this machine allows {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    many = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while many[-1] < 1024:
            many.append(os.dup(many[0]))
        line = pty.open()
        assert line.fileno() > 1024
        os.write(pty.board, b"far up")
        assert hear(line, 6) == b"far up"
        say(line, b"and back")
        assert pty.hear(8) == b"and back"
        line.close()
    finally:
        for fd in many:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_reach_the_terminal(pty: Pty) -> None:
    line = pty.open(LineSettings(baudrate=9600, stopbits=2, rtscts=True))
    now = attributes(pty.keeper)
    assert now[SPEED] == termios.B9600
    assert now[CFLAG] & termios.CSTOPB
    assert now[CFLAG] & termios.CRTSCTS
    line.configure(LineSettings(baudrate=38400, xonxoff=True))
    now = attributes(pty.keeper)
    assert now[SPEED] == termios.B38400
    assert now[CFLAG] & (termios.CSTOPB | termios.CRTSCTS) == 0
    assert now[IFLAG] & termios.IXON
    assert line.settings == LineSettings(baudrate=38400, xonxoff=True)
    line.close()


@pytest.mark.parametrize("baudrate", [1, 31250, 250_000, 12_000_000])
def test_a_baud_rate_without_a_name(pty: Pty, baudrate: int) -> None:
    line = pty.open(LineSettings(baudrate=baudrate))
    assert serial_line._speed(pty.keeper) == baudrate
    line.configure(SETTINGS)
    assert serial_line._speed(pty.keeper) == 115200
    line.configure(LineSettings(baudrate=baudrate))
    assert serial_line._speed(pty.keeper) == baudrate
    line.close()


def watch_settings(pty: Pty) -> None:
    """From now on every tcsetattr() of the port is told to the board: packet mode, with EXTPROC."""
    mode = attributes(pty.board)
    mode[LFLAG] |= 0o200000
    termios.tcsetattr(pty.board, termios.TCSANOW, mode)
    fcntl.ioctl(pty.board, termios.TIOCPKT, struct.pack("i", 1))


def settings_told(pty: Pty) -> int:
    count = 0
    while is_readable(pty.board, 0):
        count += os.read(pty.board, 4096) == b"\x40"
    return count


def test_the_port_is_programmed_when_asked_and_never_by_reads_and_writes(pty: Pty) -> None:
    line = pty.open()
    watch_settings(pty)
    assert settings_told(pty) == 0
    for _ in range(20):
        line.read(100)
        line.write(b"x")
        line.output_waiting()
        line.enable_interrupts(CAUSE_RX)
    assert settings_told(pty) == 0
    line.configure(replace(SETTINGS, baudrate=9600, stopbits=2, rtscts=True))
    assert settings_told(pty) == 1, "four settings, programmed at once"
    line.configure(replace(SETTINGS, baudrate=9600, stopbits=2, rtscts=True))
    assert settings_told(pty) == 0, "nothing to change"
    line.close()


# -- reading and writing -----------------------------------------------------------------------------------------------


def test_an_empty_port_reads_as_nothing_and_is_not_gone(pty: Pty) -> None:
    line = pty.open()
    # With VMIN=0, pyserial's default, the kernel would answer "end of file" here, as after a hang-up.
    assert attributes(line.fileno())[CC][termios.VMIN] == 1
    with pytest.raises(BlockingIOError):
        os.read(line.fileno(), 1)
    assert line.read(100) == b""
    assert line.read(0) == b""
    line.configure(replace(SETTINGS, baudrate=9600))
    assert line.read(100) == b""
    line.close()


def test_an_intruder_who_sets_vmin_to_0_does_not_unplug_the_port(pty: Pty) -> None:
    line = pty.open()
    mode = attributes(pty.keeper)
    mode[CC][termios.VMIN] = 0
    termios.tcsetattr(pty.keeper, termios.TCSANOW, mode)
    assert os.read(line.fileno(), 1) == b""
    assert line.read(1) == b""
    line.close()


def test_a_read_takes_no_more_than_its_limit(pty: Pty) -> None:
    line = pty.open()
    os.write(pty.board, b"0123456789")
    assert hear(line, 3) == b"012"
    assert hear(line, 7) == b"3456789"
    line.close()


def test_a_full_port_accepts_less_then_nothing_and_never_blocks(pty: Pty) -> None:
    line = pty.open()
    block = os.urandom(65536)
    assert 0 < line.write(block) < len(block)
    pty.hear(1)
    line.discard(tx=True)
    while is_readable(pty.board, 0.1):
        os.read(pty.board, 65536)
    sent = fill(line, block)
    assert line.write(memoryview(block)[sent:]) == 0
    poll = select.poll()
    poll.register(line.fileno(), select.POLLOUT)
    assert poll.poll(0) == []
    assert pty.hear(sent) == block[:sent]
    assert poll.poll(PATIENCE * 1000) != []
    say(line, bytearray(b"there is room again"))
    assert pty.hear(19) == b"there is room again"
    line.close()


def test_discard(pty: Pty) -> None:
    line = pty.open()
    os.write(pty.board, b"unread")
    assert is_readable(line.fileno())
    line.discard()
    assert hear(line, 1) == b"u"
    line.discard(rx=True)
    assert line.read(10) == b""
    line.close()


def test_discard_what_the_other_side_has_no_room_for(pty: Pty) -> None:
    line = pty.open()
    sent = fill(line, bytes(65536))
    line.discard(tx=True)
    arrived = 0
    while is_readable(pty.board, 0.1):
        arrived += len(os.read(pty.board, 65536))
    assert 0 < arrived < sent
    line.discard(rx=True, tx=True)
    assert line.output_waiting() == 0
    line.close()


def test_interrupts_go_to_the_pin(pty: Pty, pin: FakePin) -> None:
    line = pty.open()
    assert line.causes() == 0
    line.enable_interrupts(CAUSE_RX)
    line.connect(pin)
    line.enable_interrupts(CAUSE_RX | CAUSE_TX)
    assert pin.enabled == [CAUSE_RX | CAUSE_TX]
    pin.raise_line(CAUSE_RX)
    assert line.causes() == CAUSE_RX
    assert line.causes() == 0
    line.close()


# -- modem lines -------------------------------------------------------------------------------------------------------


def test_a_pty_says_plainly_that_it_has_no_modem_lines(pty: Pty) -> None:
    line = pty.open()
    for call in (
        line.modem_status,
        lambda: line.set_modem_control(dtr=True),
        lambda: line.set_break(True),
        lambda: line.set_break(False),
    ):
        with pytest.raises(DeviceUnsupported, match=r"has no .*: it is a pty or the like; take a real port"):
            call()
    line.close()


def uart(pty: Pty, monkeypatch: pytest.MonkeyPatch, *, lines: int, unsent: int = 0) -> tuple[Line, list[Any]]:
    """A pty whose modem ioctls answer. No machine of a test run has a UART; a real one is tried by `tests/vm`."""
    asked: list[Any] = []

    def ioctl(fd: int, request: int, argument: bytes | int = 0) -> bytes | int:
        if request == termios.TIOCMGET:
            return struct.pack("I", lines)
        if request == termios.TIOCOUTQ:
            return struct.pack("I", unsent)
        if request in {termios.TIOCMBIS, termios.TIOCMBIC, termios.TIOCMSET}:
            assert isinstance(argument, bytes)
            asked.append((request, struct.unpack("I", argument)[0]))
            return argument
        if request in {TIOCSBRK, TIOCCBRK}:
            asked.append(request)
            return 0
        return fcntl.ioctl(fd, request, argument)

    monkeypatch.setattr(serial_line, "fcntl", SimpleNamespace(ioctl=ioctl))
    return pty.open(), asked


def test_modem_status_is_the_registers_bits(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _ = uart(pty, monkeypatch, lines=termios.TIOCM_CTS | termios.TIOCM_CD | termios.TIOCM_DTR)
    assert line.has_modem_lines
    assert line.modem_status() == MSR_CTS | MSR_DCD
    line.close()
    line, _ = uart(pty, monkeypatch, lines=termios.TIOCM_DSR | termios.TIOCM_RI | termios.TIOCM_RTS)
    assert line.modem_status() == MSR_DSR | MSR_RI
    line.close()


def test_modem_control_touches_only_what_is_asked(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = termios.TIOCM_CTS | 0x2000  # an input, and TIOCM_OUT1, which enables the interrupts of some cards
    line, asked = uart(pty, monkeypatch, lines=rest | termios.TIOCM_RTS)
    line.set_modem_control()
    line.set_modem_control(dtr=True)
    line.set_modem_control(rts=False)
    line.set_modem_control(dtr=True, rts=True)
    line.set_modem_control(dtr=True, rts=False)
    line.set_modem_control(dtr=False, rts=True)
    dtr, rts = termios.TIOCM_DTR, termios.TIOCM_RTS
    on, off, both = termios.TIOCMBIS, termios.TIOCMBIC, termios.TIOCMSET
    assert asked == [(on, dtr), (off, rts), (on, dtr | rts), (both, rest | dtr), (both, rest | rts)]
    line.close()


def test_a_break_is_not_begun_while_bytes_are_unsent(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    line, asked = uart(pty, monkeypatch, lines=0)
    line.set_break(True)
    line.set_break(False)
    assert asked == [TIOCSBRK, TIOCCBRK]
    monkeypatch.undo()
    line.close()
    line, asked = uart(pty, monkeypatch, lines=0, unsent=10)
    with pytest.raises(DeviceFault, match="still sending: flush it before a break") as caught:
        line.set_break(True)
    assert caught.value.status == STATUS_DEVICE_BUSY
    line.set_break(False)
    assert asked == [TIOCCBRK]
    monkeypatch.undo()
    line.close()


# -- what of pyserial this stands on ------------------------------------------------------------------------------------


def test_pyserial_calls_its_hooks_in_the_order_that_the_locks_need(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked before programmed; and the flush of open() goes through the hook that we override."""
    seen: list[str] = []
    port_class: Any = serial_line._Port

    def note(name: str) -> None:
        original = getattr(port_class, name)

        def noted(self: Any, *args: Any, **more: Any) -> Any:
            seen.append(name)
            return original(self, *args, **more)

        monkeypatch.setattr(port_class, name, noted)

    note("_reconfigure_port")
    note("_reset_input_buffer")
    line = pty.open()
    assert seen == ["_reconfigure_port", "_reset_input_buffer"]
    line.close()


def test_the_constants_are_pyserials() -> None:
    for name in ("CMSPAR", "TCGETS2", "TIOCSBRK", "TIOCCBRK"):
        assert getattr(serial_line, name) == getattr(serialposix, name)


def test_the_whole_way_in_a_fresh_process(pty: Pty) -> None:
    script = (
        "import sys; from hilbridge.hal.serial_line import TIOCCBRK, TIOCSBRK, open_serial_line as o;"
        "from hilbridge.model.hardware import LineSettings as S;"
        "line = o(sys.argv[1], S()); line.write(b'hello'); line.close()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script, pty.path], cwd=TOP, timeout=PATIENCE * 3, check=True)
    assert collect(pty.board, lambda n: os.read(pty.board, n), 5) == b"hello"
