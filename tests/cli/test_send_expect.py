"""``send`` and ``expect``: what goes out, what is printed, and that no byte changes on its way."""

from __future__ import annotations

import io
import os
import sys

import pytest

from hilbridge.testing.fixture import RunningFixture
from tests.cli.clikit import Cli, run
from tests.hal.halkit import Pty


def test_expect_prints_what_matched(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"U-Boot 2023.01 (Jan)\r\n=> ")
    ran = cli("expect", pty.path, "U-Boot [0-9.]+")
    assert (ran.code, ran.out, ran.err) == (0, "U-Boot 2023.01\n", "")


def test_expect_all_prints_what_came_before_as_well(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"one\r\ntwo\r\n=> rest")
    ran = cli("expect", pty.path, "=> ", "--exact", "--all")
    assert ran.out == "one\r\ntwo\r\n=> \n"


def test_exact_takes_the_pattern_literally(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"axb a.b")
    assert cli("expect", pty.path, "a.b", "--exact", "--all").out == "axb a.b\n"
    os.write(pty.board, b"axb a.b")
    assert cli("expect", pty.path, "a.b", "--all").out == "axb\n"


def test_a_pattern_may_span_lines(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"begin\r\nmiddle\r\nend\n")
    assert cli("expect", pty.path, "begin.*end\n").out == "begin\r\nmiddle\r\nend\n"


def test_a_document_for_programs(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"boot\r\nversion 1.7 (x)")
    ran = cli("expect", pty.path, r"version (\d+)\.(\d+)( beta)?", "--json")
    assert ran.document == {
        "name": pty.path,
        "matched": "version 1.7",
        "groups": ["1", "7", None],
        "before": "boot\r\n",
        "matched_hex": b"version 1.7".hex(),
    }


EVERY_BYTE = bytes(range(256))


def test_no_byte_changes_on_its_way_to_stdout(pty: Pty) -> None:
    os.write(pty.board, EVERY_BYTE + b"end")
    for locale in ("C.UTF-8", "POSIX"):
        ran = run_bytes("expect", pty.path, "end", "--all", LC_ALL=locale, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert ran == EVERY_BYTE + b"end\n"
        os.write(pty.board, EVERY_BYTE + b"end")


def run_bytes(*words: str, **environ: str) -> bytes:
    import subprocess

    from tests.cli.clikit import PATIENCE, command, environment

    done = subprocess.run(
        command(*words), stdout=subprocess.PIPE, timeout=PATIENCE, check=True, env=environment(**environ)
    )
    return done.stdout


def test_bytes_that_are_no_text_in_a_document(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"\xff\xfe\x00ok")
    document = cli("expect", pty.path, "ok", "--json").document
    assert document["before"] == "\ufffd\ufffd\x00"
    os.write(pty.board, b"\xffok")
    document = cli("expect", pty.path, ".ok", "--json").document
    assert (document["matched"], document["matched_hex"]) == ("\ufffdok", "ff6f6b")


def test_text_beyond_ascii_is_matched_as_text(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, "température: 21 °C\n".encode())
    assert cli("expect", pty.path, "[é]+rature: (21) .C").out == "érature: 21 °C\n"


def test_send_sends_text_as_it_is(cli: Cli, pty: Pty) -> None:
    ran = cli("send", pty.path, "a\tb ä")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert pty.hear(6) == "a\tb ä".encode()


@pytest.mark.parametrize(("newline", "end"), [("none", b""), ("lf", b"\n"), ("cr", b"\r"), ("crlf", b"\r\n")])
def test_send_with_a_newline(cli: Cli, pty: Pty, newline: str, end: bytes) -> None:
    assert cli("send", pty.path, "x", "--newline", newline).code == 0
    assert cli("send", pty.path, "|").code == 0
    assert pty.hear(len(end) + 2) == b"x" + end + b"|"


def test_send_what_comes_on_stdin(cli: Cli, pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("send", pty.path, "-", stdin=EVERY_BYTE).code == 0
    assert pty.hear(256) == EVERY_BYTE
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe")))
    assert cli("send", pty.path, "-", "--newline", "cr").code == 0
    assert pty.hear(12) == b"from a pipe\r"
    monkeypatch.setattr(sys, "stdin", None)
    assert "stdin, which is closed" in cli("send", pty.path, "-").complaint


def test_send_what_looks_like_an_option(cli: Cli, pty: Pty) -> None:
    assert cli("send", pty.path, "--", "-h").code == 0
    assert pty.hear(2) == b"-h"


def test_send_and_wait_for_the_answer(cli: Cli, story_board: RunningFixture) -> None:
    ran = cli("send", story_board.port, "id", "--newline", "lf", "--expect", "BOARD", "--all", "-v")
    assert ran.out == "HILBRIDGE-BOARD\n"
    assert f"3 bytes were sent to {story_board.port}" in ran.err


def test_send_documents(cli: Cli, pty: Pty, story_board: RunningFixture) -> None:
    assert cli("send", pty.path, "12345", "--json").document == {"name": pty.path, "sent": 5}
    document = cli("send", story_board.port, "id", "--newline", "lf", "--expect=-(1)", "--json").document
    assert (document["matched"], document["before"]) == ("-1", "HILBRIDGE-BOARD")


def test_options_of_waiting_need_something_to_wait_for(cli: Cli, pty: Pty) -> None:
    for option in (["--all"], ["--exact"], ["--not", "x"]):
        ran = cli("send", pty.path, "x", *option)
        assert ran.code == 2
        assert "need --expect REGEX" in ran.complaint


def test_a_failure_with_all_prints_what_came(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"half of it")
    ran = cli("expect", pty.path, "never", "--all", "--timeout", "0.1")
    assert (ran.code, ran.out) == (8, "half of it\n")
    os.write(pty.board, b"ok panic: out of memory")
    ran = cli("expect", pty.path, "never", "--not", "panic", "--all")
    assert (ran.code, ran.out) == (1, "ok panic\n")


def test_a_failure_prints_no_document(cli: Cli, pty: Pty) -> None:
    os.write(pty.board, b"half of it")
    assert cli("expect", pty.path, "never", "--all", "--json", "--timeout", "0.1").out == ""


def test_settings_reach_the_port(cli: Cli, pty: Pty) -> None:
    from tests.hal.halkit import attributes

    settings = ["--baudrate", "9600", "--stopbits", "2", "--xonxoff"]
    assert cli("send", pty.path, "x", *settings).code == 0
    import termios

    iflag, _, cflag, _, ispeed, _, _ = attributes(pty.keeper)
    assert ispeed == termios.B9600
    assert cflag & termios.CSTOPB and iflag & termios.IXON


def test_a_setting_that_the_port_cannot_do(cli: Cli, pty: Pty) -> None:
    ran = cli("send", pty.path, "x", "--parity", "E")
    assert ran.code == 2
    assert f"{pty.path} cannot do parity 'E'" in ran.complaint
    assert cli("send", pty.path, "x", "--parity", "Q").complaint.startswith("parity 'Q': use")
    assert cli("send", pty.path, "x", "--bytesize", "9").complaint.startswith("bytesize 9: use")
    assert cli("send", pty.path, "x", "--stopbits", "3").complaint.startswith("stopbits 3.0: use")


def test_a_filter_driver_on_top(cli: Cli) -> None:
    ran = cli("send", "virtual:loop", "ping", "--expect", "ping", "--filter", "counter")
    assert (ran.code, ran.out) == (0, "ping\n")
    ran = cli("send", "virtual:loop", "ping", "--filter", "no-such-filter")
    assert ran.code == 2
    assert "no driver is called 'no-such-filter'" in ran.complaint


def test_nothing_is_held_afterwards(cli: Cli, pty: Pty) -> None:
    """Twice in one process: the first gave its locks back, whether it went well or not."""
    for _ in range(2):
        assert cli("expect", pty.path, "never", "--timeout", "0").code == 8
        assert cli("send", pty.path, "x").code == 0
