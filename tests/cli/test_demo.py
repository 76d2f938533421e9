"""The demo: what it prints is the same in each run, and it leaves nothing behind. The text itself: tests/story."""

from __future__ import annotations

import re
import time

from hilbridge.cli.demo import as_shown
from tests.cli.clikit import Cli, run


def test_the_demo_does_the_main_job(cli: Cli) -> None:
    began = time.monotonic()
    ran = cli("demo")
    assert time.monotonic() - began < 30
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert sum(line == "  | Boot ROM v3" for line in lines) == 2, "the banner, and again after the reset"
    assert "  version   HILBoot 2026.10 (hilbridge demo board)" in lines
    assert "  help      echo, help, md, reset, sleep, version" in lines
    assert lines[-1].endswith("Requests pending: 0. Mistakes of drivers: 0.")
    assert not [line for line in lines if line != line.rstrip()]


def test_what_varies_is_not_on_stdout(cli: Cli) -> None:
    first, second = cli("demo"), cli("demo")
    assert first.out == second.out
    assert re.fullmatch(r"this run: .*\b5 WRITE\b.*; .*; \d+\.\d s\n", first.err)
    assert "/dev/pts" not in first.out


def test_the_story_is_the_same_in_each_run_and_in_each_process(cli: Cli) -> None:
    ran = cli("demo", "--story")
    assert ran.code == 0 and ran.err == ""
    assert ran.out == cli("demo", "--story").out == run("demo", "--story").out
    assert [int(n) for n in re.findall(r"^ ?(\d+) ", ran.out, re.MULTILINE)] == list(range(1, 12))


def test_a_terminal_shows_a_countdown_drawn_over_itself() -> None:
    assert as_shown("stop:  2 \b\b\b 1 \b\b\b 0 \r\n=> ") == ["stop:  0 ", "=> "]
    assert as_shown("abc\rX\r\n\bY") == ["Xbc", "Y"]
