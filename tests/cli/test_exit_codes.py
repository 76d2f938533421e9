"""Each exit code, by the real thing: a port that is busy, one that is forbidden, one that goes away, ..."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from hilbridge.hal import locks
from hilbridge.testing.fixture import RunningFixture
from tests.cli.clikit import Cli, finish, run_as_nobody, started
from tests.hal.halkit import Pty, held

BROKEN = Path(__file__).resolve().parents[1] / "files" / "broken_benches"


def test_0_done(cli: Cli, story_board: RunningFixture) -> None:
    ran = cli("send", story_board.port, "id", "--newline", "lf", "--expect", "BOARD-[0-9]")
    assert (ran.code, ran.out, ran.err) == (0, "BOARD-1\n", "")


def test_1_a_check_failed(cli: Cli, story_board: RunningFixture) -> None:
    ran = cli("send", story_board.port, "id", "--newline", "lf", "--expect", "never", "--not", "HILBRIDGE")
    assert ran.code == 1
    assert "'HILBRIDGE' came instead of 'never'" in ran.complaint


def test_2_an_impossible_baud_rate(cli: Cli, pty: Pty) -> None:
    ran = cli("expect", pty.path, "x", "--baudrate", "0")
    assert ran.code == 2
    assert "baudrate 0: a rate is a positive number" in ran.complaint


@pytest.mark.parametrize("rate", ["99999999999", "4294967296"])
def test_2_a_baud_rate_beyond_all_measure(cli: Cli, pty: Pty, rate: str) -> None:
    ran = cli("expect", pty.path, "x", "--baudrate", rate)
    assert ran.code == 2
    assert rate in ran.complaint


def test_2_what_is_not_a_port(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.touch()
    for path, what in ((file, "a regular file"), (tmp_path, "a directory"), (Path("/dev/null"), "some other device")):
        ran = cli("expect", str(path), "x")
        assert ran.code == 2
        assert f"{path} is {what}, not a serial port: give a device node, as /dev/ttyUSB0" in ran.complaint


@pytest.mark.parametrize("name", ["COM1", "", "nonsense://x", "virtual:no-such-thing", "serial:a/b"])
def test_2_a_name_that_means_nothing(cli: Cli, name: str) -> None:
    ran = cli("expect", name, "x")
    assert ran.code == 2
    assert repr(name) in ran.complaint or "no-such-thing" in ran.complaint


def test_2_a_pattern_that_is_none(cli: Cli, pty: Pty) -> None:
    ran = cli("expect", pty.path, "(", "--timeout", "0")
    assert ran.code == 2
    assert "'(' is not a regular expression" in ran.complaint


def test_3_a_file_that_is_wrong(cli: Cli) -> None:
    ran = cli("bench", "check", str(BROKEN / "unknown_key.yaml"))
    assert ran.code == 3
    assert ran.complaint == f"{BROKEN}/unknown_key.yaml:5:5: devices.board.lin: unknown key; did you mean 'line'?"


def test_4_a_port_that_is_not_there(cli: Cli) -> None:
    for verb in (["expect", "/dev/ttyNONE0", "x"], ["send", "/dev/ttyNONE0", "x"], ["list", "/dev/ttyNONE0"]):
        ran = cli(*verb)
        assert ran.code == 4
        assert ran.complaint == "/dev/ttyNONE0 does not exist: is the device plugged in, and its name spelled right?"


def test_4_nobody_listens(cli: Cli) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and not listening: connections are refused
        ran = cli("expect", f"socket://127.0.0.1:{unused.getsockname()[1]}", "x")
    assert ran.code == 4
    assert "Connection refused" in ran.complaint


@pytest.mark.parametrize("how", ["flock", "exclusive"])
def test_5_a_port_that_is_busy(cli: Cli, pty: Pty, how: str) -> None:
    with held(pty.path, how) as holder:
        ran = cli("expect", pty.path, "x")
    assert ran.code == 5
    assert f"{pty.path} is in use by" in ran.complaint
    assert f"(pid {holder.pid})" in ran.complaint


def test_6_a_port_that_is_forbidden(cli: Cli, pty: Pty) -> None:
    Path(pty.path).chmod(0)
    words = ["expect", pty.path, "x"]
    ran = run_as_nobody(words) if os.geteuid() == 0 else cli(*words)
    assert ran.code == 6
    assert f"{pty.path} belongs to" in ran.complaint


def test_7_a_port_that_goes_away(pty: Pty) -> None:
    with started("send", pty.path, "hello", "--expect", "never", "--timeout", "30") as process:
        assert pty.hear(5) == b"hello"
        pty.let_go()
        pty.unplug()
        ran = finish(process)
    assert ran.code == 7
    assert f"{pty.path} went away while 'never' was expected" in ran.complaint


def test_7_what_it_said_before_is_not_lost(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"socket://127.0.0.1:{server.getsockname()[1]}"
        with started("expect", name, "never", "--all", "--timeout", "30") as process:
            server.settimeout(30)
            connection, _ = server.accept()
            connection.sendall(b"its last words\r\n")
            connection.close()
            ran = finish(process)
    assert ran.code == 7
    assert ran.out == "its last words\r\n"
    assert "went away" in ran.err


def test_8_a_time_out(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"something else")
    ran = cli("expect", pty.path, "never", "--timeout", "0.1")
    assert ran.code == 8
    assert f"{pty.path}: 'never' did not come within 0.1" in ran.complaint
    assert "received last: 'something else'" in ran.complaint


def test_8_a_write_that_nobody_takes(cli: Cli, pty: Pty) -> None:
    ran = cli("send", pty.path, "x" * 100_000, "--timeout", "0.1")
    assert ran.code == 8
    assert "bytes were accepted" in ran.complaint


def test_9_a_driver_that_fails(cli: Cli, pty: Pty) -> None:
    ran = cli("expect", pty.path, "x", "--filter", "tests.cli.failing_filter")
    assert ran.code == 9
    assert "LookupError: this filter fails at every read" in ran.complaint


def test_9_a_mistake_that_no_request_hears_of(cli: Cli, pty: Pty) -> None:
    ran = cli("send", pty.path, "x", "--filter", "tests.cli.silent_fault")
    assert pty.hear(1) == b"x"
    assert ran.code == 9
    assert "LookupError: nobody waits for this" in ran.complaint


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_and_the_port_is_given_back(cli: Cli, pty: Pty, number: signal.Signals, code: int) -> None:
    with started("send", pty.path, "hello", "--expect", "never", "--timeout", "60") as process:
        assert pty.hear(5) == b"hello"
        process.send_signal(number)
        ran = finish(process)
    assert (ran.code, ran.out, ran.err) == (code, "", "")
    assert not locks.is_exclusive(pty.keeper), "a killed process would have left the pty exclusive"
    assert cli("send", pty.path, "again").code == 0
