"""Calls that cannot be: impossible settings, names that nobody has, bytes that do not come, a peer that goes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import hilbridge
from hilbridge import (
    ConfigError,
    DeviceGone,
    DeviceTimeout,
    DeviceUnsupported,
    HilbridgeError,
    NameNotFound,
    UsageFault,
)
from hilbridge.testing.fixture import start_fixture
from tests.badinput.badkit import PATIENCE, Expected, Healthy
from tests.badinput.badkit import hilbridge as command_line
from tests.hal.halkit import Pty
from tests.support import Thread

# -- an impossible baud rate -------------------------------------------------------------------------------------------

RATES: list[Any] = [0, -1, -115200, 9600.5, 9600.0, 1 << 31, 1 << 32, 10**30, "9600", None, True, float("nan"), b"1"]


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_impossible_rate_at_the_opening(healthy: Healthy, pty: Pty, rate: Any) -> None:
    for what in (pty.path, "virtual:loop"):
        if what == "virtual:loop" and rate == 1 << 31:
            continue  # no port can do it, but nothing forbids it to a line without hardware
        with pytest.raises((UsageFault, DeviceUnsupported)) as refused:
            healthy.bridge.plug(what, baudrate=rate)
        assert refused.value.exit_code == 2
        assert "baudrate" in str(refused.value)
        assert "115200" in str(refused.value), "it does not say what would be possible"
    healthy.check()


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate is not None], ids=repr)  # None: leave it as it is
def test_impossible_rate_on_an_open_port(healthy: Healthy, pty: Pty, rate: Any) -> None:
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board", baudrate=9600)) as port:
        with pytest.raises((UsageFault, DeviceUnsupported)) as refused:
            port.set(baudrate=rate)
        assert refused.value.exit_code == 2
        assert port.baudrate == 9600
        os.write(pty.board, b"abc")
        assert port.read(3) == b"abc"
    healthy.bridge.unplug("board")
    healthy.check()


def test_impossible_rate_on_the_command_line(pty: Pty) -> None:
    for rate in ("0", "-1", "9600.5", "fast", str(10**30)):
        done = command_line("send", pty.path, "hello", "--baudrate", rate)
        assert done.returncode == 2, done.stderr
        assert "baudrate" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_setting_that_a_pty_cannot_do_is_named(healthy: Healthy, pty: Pty) -> None:
    """A pty takes no 7 bits; the settings stay as they were, and so does the port."""
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        with pytest.raises(HilbridgeError) as refused:
            port.set(bytesize=7, parity="E")
        assert refused.value.exit_code == 2
        assert "bytesize 7" in str(refused.value)
        os.write(pty.board, b"\xff\x80")
        assert port.read(2) == b"\xff\x80"
    healthy.bridge.unplug("board")
    healthy.check()


# -- a name that does not exist ----------------------------------------------------------------------------------------

UNKNOWN = Expected(NameNotFound, 4, "borad", "healthy", also=ValueError)


def test_name_that_does_not_exist(healthy: Healthy) -> None:
    for lookup in (healthy.bridge.open, healthy.bridge.unplug, healthy.bridge.stack):
        with pytest.raises(HilbridgeError) as error:
            lookup("borad")
        UNKNOWN.check(error.value)
    healthy.check()


def test_name_in_an_empty_bridge() -> None:
    with hilbridge.Bridge() as bridge, pytest.raises(NameNotFound, match="plug one in"):
        bridge.open("COM1")


# -- a time-out --------------------------------------------------------------------------------------------------------


def test_time_out(healthy: Healthy, pty: Pty) -> None:
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        os.write(pty.board, b"abc")
        with pytest.raises(HilbridgeError) as late:
            port.read(5, timeout=0.1)
        Expected(DeviceTimeout, 8, "read(5) on board", "0.1 s", "3 bytes", also=TimeoutError).check(late.value)
        assert late.value.partial == b"abc"
        assert port.read(3) == b"abc"
    healthy.bridge.unplug("board")
    healthy.check()


def test_time_out_on_the_command_line(pty: Pty) -> None:
    os.write(pty.board, b"something else")
    done = command_line("expect", pty.path, "login:", "--timeout", "0.2")
    assert done.returncode == 8
    assert "login:" in done.stderr
    assert "something else" in done.stderr + done.stdout


# -- a peer that closes in mid-read ------------------------------------------------------------------------------------


def wait_until_taken(healthy: Healthy, pty: Pty, name: str, data: bytes) -> None:
    """The peer says `data`, and the bridge has it: a pty forgets what its master wrote just before it was closed."""
    with healthy.bridge.open(name, access="r") as witness:
        os.write(pty.board, data)
        assert witness.read(len(data), timeout=PATIENCE) == data


GONE = Expected(DeviceGone, 7, "board", "unplugged", also=ConnectionError)


def test_peer_that_closes_in_mid_read(healthy: Healthy, pty: Pty) -> None:
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        reader = Thread(lambda: port.read(10, timeout=PATIENCE))
        wait_until_taken(healthy, pty, "board", b"abc")
        pty.unplug()
        with pytest.raises(DeviceGone) as gone:
            reader.finish()
        GONE.check(gone.value)
        assert gone.value.partial == b"abc"
        with pytest.raises(DeviceGone) as gone:
            port.read(1)
        GONE.check(gone.value)
    healthy.check()


def test_peer_that_closes_in_mid_line(healthy: Healthy, pty: Pty) -> None:
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        reader = Thread(lambda: port.readline(timeout=PATIENCE))
        wait_until_taken(healthy, pty, "board", b"no newline")
        pty.unplug()
        with pytest.raises(DeviceGone) as gone:
            reader.finish()
        assert gone.value.partial == b"no newline"
    healthy.check()


def test_peer_that_closes_before_anybody_reads(healthy: Healthy, pty: Pty) -> None:
    """What it had said is delivered by every way of reading, and only then that it went."""
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        wait_until_taken(healthy, pty, "board", b"one\ntwothreefour")
        pty.unplug()
        assert port.readline() == b"one\n"
        assert port.read(3) == b"two"
        assert port.submit_read(5).result() == b"three"
        assert port.read_some() == b"four"
        with pytest.raises(DeviceGone) as gone:
            port.read_some(timeout=PATIENCE)
        GONE.check(gone.value)
    healthy.check()


def test_peer_that_closes_in_mid_write(healthy: Healthy, pty: Pty) -> None:
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        request = port.submit_write(bytes(1_000_000))
        pty.hear(1)  # it has begun
        pty.unplug()
        with pytest.raises(DeviceGone) as gone:
            request.result(PATIENCE)
        GONE.check(gone.value)
        assert 0 < request.information < 1_000_000
        assert gone.value.information == request.information
    healthy.check()


def test_peer_that_closes_while_a_console_waits(healthy: Healthy, pty: Pty) -> None:
    with healthy.bridge.open(healthy.bridge.plug(pty.path, name="board")) as port:
        console = port.console(prompt="=> ")
        waiting = Thread(lambda: console.expect("login:", timeout=PATIENCE))
        wait_until_taken(healthy, pty, "board", b"last words")
        pty.unplug()
        with pytest.raises(DeviceGone, match="last words"):
            waiting.finish()
        assert console.buffer == "last words"
    healthy.check()


# -- a board file with an unknown key ----------------------------------------------------------------------------------

BOARD = """\
schema: 1
kind: board
prompt: "=> "
comands:
  - command: version
    lines: [U-Boot]
"""


def test_board_file_with_an_unknown_key(healthy: Healthy, tmp_path: Path) -> None:
    file = tmp_path / "widget.yaml"
    file.write_text(BOARD)
    with pytest.raises(HilbridgeError) as error:
        start_fixture(file)
    expected = Expected(ConfigError, 3, "widget.yaml:4:1", "comands", "did you mean 'commands'", also=ValueError)
    expected.check(error.value)
    healthy.check()
    file.write_text(BOARD.replace("comands", "commands"))
    with start_fixture(file) as board, hilbridge.open(board.port) as port:
        assert port.console(prompt="=> ").command("version") == "U-Boot"


def test_board_file_that_does_not_exist(healthy: Healthy, tmp_path: Path) -> None:
    with pytest.raises(HilbridgeError) as error:
        start_fixture(tmp_path / "nothing.yaml")
    assert error.value.exit_code in {3, 4}
    assert "nothing.yaml" in str(error.value)
    healthy.check()


# -- no two culprits share a code --------------------------------------------------------------------------------------


def test_exit_codes_are_those_that_are_promised() -> None:
    promised = {
        "UsageFault": 2,
        "DeviceUnsupported": 2,
        "ConfigError": 3,
        "NameNotFound": 4,
        "DeviceNotFound": 4,
        "DeviceBusy": 5,
        "DevicePermission": 6,
        "DeviceGone": 7,
        "DeviceFault": 7,
        "DeviceTimeout": 8,
        "DriverFault": 9,
        "InternalFault": 70,
    }
    assert {name: getattr(hilbridge, name).exit_code for name in promised} == promised
