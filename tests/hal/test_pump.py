"""loop:// and spy://: pyserial objects that can only be asked with blocking calls, behind the seam."""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from hilbridge.hal import pump
from hilbridge.hal.blocking_line import BlockingLine
from hilbridge.hal.pump import open_pumped_line
from hilbridge.model.errors import DeviceBusy, DeviceGone, DeviceNotFound, DeviceUnsupported
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_RX, CAUSE_TX, MSR_CTS, MSR_DCD, MSR_DSR, Line
from tests.hal.halkit import PATIENCE, SETTINGS, FakePin, Pty, descriptors, hear, is_readable, say


@pytest.fixture
def line() -> Iterator[BlockingLine]:
    line = open_it("loop://")
    yield line
    line.close()


def open_it(url: str, **more: Any) -> BlockingLine:
    line = open_pumped_line(url, SETTINGS, **more)
    assert isinstance(line, BlockingLine)
    line.enable_interrupts(CAUSE_RX)
    return line


def test_it_is_a_line(line: BlockingLine, pin: FakePin) -> None:
    seam: Line = line
    assert seam.name == "loop://"
    assert seam.has_modem_lines is True
    assert seam.asserted() is False
    seam.connect(pin)
    seam.enable_interrupts(CAUSE_RX)
    assert pin.enabled == [CAUSE_RX]


def test_what_is_written_comes_back(line: BlockingLine) -> None:
    everything = bytes(range(256))
    say(line, everything)
    assert hear(line, 256) == everything
    assert line.read(10) == b""


def test_the_selector_serves_it_like_a_port(line: BlockingLine) -> None:
    with select.epoll() as epoll:
        epoll.register(line.fileno(), select.EPOLLIN)
        assert epoll.poll(0) == []
        say(line, b"x")
        assert epoll.poll(PATIENCE) == [(line.fileno(), select.EPOLLIN)]
        assert line.causes() == CAUSE_RX
        line.enable_interrupts(CAUSE_RX | CAUSE_TX)
        assert line.causes() == CAUSE_RX | CAUSE_TX
        line.enable_interrupts(CAUSE_RX)
        assert line.read(10) == b"x"
        assert epoll.poll(0) == []


def test_random_sizes_in_both_directions(line: BlockingLine, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "RX_LIMIT", 500)
    monkeypatch.setattr(pump, "TX_LIMIT", 700)
    rng = random.Random(seed)
    block = rng.randbytes(30_000)
    sent, got = 0, bytearray()
    line.enable_interrupts(CAUSE_RX | CAUSE_TX)
    while len(got) < len(block):
        assert is_readable(line.fileno())
        causes = line.causes()
        if causes & CAUSE_TX:
            sent += line.write(block[sent : sent + rng.randint(1, 1000)])
            if sent == len(block):
                line.enable_interrupts(CAUSE_RX)
        if causes & CAUSE_RX:
            got += line.read(rng.randint(1, 1000))
    assert got == block


def test_modem_lines_are_those_of_pyserials_imitation(line: BlockingLine) -> None:
    assert line.modem_status() == MSR_CTS | MSR_DSR | MSR_DCD
    line.set_modem_control(dtr=False)
    line.set_break(True)
    line.configure(replace(SETTINGS, baudrate=9600))  # takes its turn, so the others are done
    assert line.modem_status() == MSR_CTS | MSR_DCD
    assert line._port.break_condition is True
    assert line._port.baudrate == 9600


def test_a_command_that_is_on_its_way_is_unsent(line: BlockingLine) -> None:
    """Who waits for the line to be done waits for what it was told as well: a pulse would be too short."""
    gate, begun = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        assert gate.wait(PATIENCE)

    assert line.output_waiting() == 0
    line._command(slow, "wait for")
    assert line.output_waiting() == 1
    assert begun.wait(PATIENCE)
    assert line.output_waiting() == 1
    line.set_modem_control(dtr=False)
    say(line, b"abc")
    assert line.output_waiting() == 3
    gate.set()
    with line._lock:
        while line._tx or line._tx_busy:
            assert line._tx_idle.wait(PATIENCE)
    assert line.output_waiting() == 0


def test_discard(line: BlockingLine) -> None:
    say(line, b"old")
    assert is_readable(line.fileno())
    line.discard(rx=True, tx=True)
    line.configure(replace(SETTINGS, baudrate=9600))
    assert line.read(10) == b""
    say(line, b"new")
    assert hear(line, 3) == b"new"


def test_the_close_of_a_line_that_is_full_everywhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pump, "RX_LIMIT", 100)
    monkeypatch.setattr(pump, "LINGER_SECONDS", 0.1)
    line = open_it("loop://")
    line.enable_interrupts(CAUSE_TX)
    sent = 0
    while is_readable(line.fileno(), 0.3):
        sent += line.write(bytes(65536))
    assert sent > pump.TX_LIMIT
    started = time.monotonic()
    line.close()
    assert time.monotonic() - started < 1.5
    assert "bytes unsent" in caplog.text
    assert "left behind" not in caplog.text


def test_close_ends_all(caplog: pytest.LogCaptureFixture) -> None:
    threads, before = set(threading.enumerate()), descriptors()
    line = open_it("loop://")
    assert {thread.name for thread in set(threading.enumerate()) - threads} == {"receive loop://", "transmit loop://"}
    line.close()
    assert set(threading.enumerate()) == threads
    assert descriptors() == before
    line.close()
    for call in (lambda: line.read(1), lambda: line.write(b"x"), lambda: line.discard(rx=True)):
        with pytest.raises(DeviceGone, match="was closed; open it again"):
            call()
    assert caplog.text == ""


def test_an_exception_in_pyserials_write_reaches_the_caller(line: BlockingLine) -> None:
    say(line, b"before")
    assert hear(line, 6) == b"before"

    def broken(data: bytes) -> int:
        raise RuntimeError("a bug in a handler")

    line._port.write = broken
    assert line.write(b"x") == 1
    assert is_readable(line.fileno())
    assert line.causes() == CAUSE_GONE
    for call in (lambda: line.read(1), lambda: line.write(b"x"), lambda: line.set_break(True)):
        with pytest.raises(DeviceGone, match=r"is lost: .*a bug in a handler") as caught:
            call()
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_handler_that_cannot_be_woken_is_reported_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pump, "JOIN_SECONDS", 0.05)
    line = open_it("loop://")
    wake = line._port.cancel_read
    line._port.cancel_read = lambda: None
    with caplog.at_level(logging.DEBUG, "hilbridge.hal"):
        line.close()
    assert "the thread 'receive loop://' does not end; it is left behind" in caplog.text
    wake()
    line._receiver.join(PATIENCE)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("loop://?speed=fast", "an option in it is unknown"),
        ("loop://?logging=loud", "or has an impossible value"),
        ("spy:///dev/null?speed=fast", "unknown option: 'speed'"),
    ],
)
def test_options_that_do_not_exist(url: str, says: str) -> None:
    before = descriptors()
    with pytest.raises(DeviceUnsupported, match=says) as caught:
        open_pumped_line(url, SETTINGS)
    assert caught.value.exit_code == 2
    assert descriptors() == before


def test_impossible_settings() -> None:
    with pytest.raises(DeviceUnsupported, match="baudrate 0"):
        open_pumped_line("loop://", replace(SETTINGS, baudrate=0))


# -- spy://, which has a real port behind ------------------------------------------------------------------------------


def test_spy_shows_what_passes(pty: Pty, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(pty.board, b"banner")
    line = open_it(f"spy://{pty.path}")
    assert line.has_modem_lines is False
    assert hear(line, 6) == b"banner"
    say(line, b"hello")
    assert pty.hear(5) == b"hello"
    with pytest.raises(DeviceUnsupported, match="there is no UART behind it"):
        line.set_break(True)
    line.close()
    shown = capfd.readouterr().err
    assert "TX" in shown and "HELLO" in shown.upper()


def test_spy_flushes_if_it_shall(pty: Pty) -> None:
    os.write(pty.board, b"old")
    line = open_it(f"spy://{pty.path}", flush_on_open=True)
    os.write(pty.board, b"new")
    assert hear(line, 3) == b"new"
    line.close()


def test_spy_notices_an_unplug_after_the_last_byte(pty: Pty) -> None:
    line = open_it(f"spy://{pty.path}")
    os.write(pty.board, b"last words")
    # pyserial is asked for one byte and then for all that wait: with the second byte here, all are.
    assert hear(line, 2) == b"la"
    line.enable_interrupts(0)
    pty.unplug()
    assert is_readable(line.fileno())
    assert line.causes() == CAUSE_GONE
    assert line.read(100) == b"st words"
    with pytest.raises(DeviceGone, match=r"unplugged, or its other end is gone \(hang-up\)"):
        line.read(1)
    line.close()


def test_spy_is_locked_like_a_port(pty: Pty) -> None:
    owner = pty.open()
    with pytest.raises(DeviceBusy):
        open_pumped_line(f"spy://{pty.path}", SETTINGS)
    owner.close()
    line = open_it(f"spy://{pty.path}")
    with pytest.raises(DeviceBusy):
        pty.open()
    line.close()


def test_spy_on_nothing() -> None:
    with pytest.raises(DeviceNotFound):
        open_pumped_line("spy:///dev/ttyUSB_none", SETTINGS)


def test_a_refused_setting_of_a_pty_leaves_the_old_ones(pty: Pty) -> None:
    line = open_it(f"spy://{pty.path}")
    with pytest.raises(DeviceUnsupported):
        line.configure(replace(SETTINGS, bytesize=7))
    assert line.settings == SETTINGS
    assert line._port.bytesize == 8
    os.write(pty.board, b"still works")
    assert hear(line, 11) == b"still works"
    line.close()
