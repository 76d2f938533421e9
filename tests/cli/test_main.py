"""The command itself: verbs, help, versions, and what becomes of an error."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hilbridge.cli.main import VERBS, main
from hilbridge.model.errors import InternalFault
from tests.cli.clikit import PATIENCE, TOP, Cli, command, environment, run

VERSION = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]


def verb(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Add a verb ``try``, which does `run(args)`."""
    module = ModuleType("verb_try")
    module.__dict__.update(DESCRIPTION="Try.", EXAMPLES="", add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "verb_try", module)
    monkeypatch.setitem(VERBS, "try", ("verb_try", "a verb of the test"))


def test_the_help_names_each_verb_and_each_exit_code(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.code == 0 and ran.err == ""
    for name, (_, says) in VERBS.items():
        assert name in ran.out and says in ran.out
    assert "examples:" in ran.out and "exit codes:" in ran.out
    for code in ("0 done", "1 a check", "2 usage", "3 a file", "4 not found", "5 busy", "6 permission", "7 device lost",
                 "8 time-out", "9 a driver", "70 a mistake", "130, 143", "141"):  # fmt: skip
        assert code in ran.out


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_has_a_help_with_examples(cli: Cli, name: str) -> None:
    ran = cli(name, "--help")
    assert ran.code == 0 and ran.err == ""
    assert ran.out.startswith(f"usage: hilbridge {name}")
    assert f"  hilbridge {name}" in ran.out.partition("examples:")[2]
    assert "--verbose" in ran.out


def test_the_version(cli: Cli) -> None:
    assert cli("--version").out == f"hilbridge {VERSION}\n"
    assert run("--version").out == f"hilbridge {VERSION}\n"


def test_the_installed_command_is_the_same() -> None:
    program = Path(sys.executable).with_name("hilbridge")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == f"hilbridge {VERSION}\n"


def test_a_verb_is_imported_when_it_is_asked_for() -> None:
    question = "import sys; from hilbridge.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", question],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env=environment(),
    )
    modules = done.stdout.splitlines()[-1]
    assert "hilbridge.cli.main" in modules
    for absent in ("hilbridge.cli.demo", "hilbridge.cli.list'", "'serial'", "'yaml'", "'pydantic'"):
        assert absent not in modules


# -- usage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            [],
            "a verb is missing: there are demo, list, send, expect, verify, new, bench, crash; `hilbridge --help` shows",
        ),
        (["-v"], "a verb is missing"),
        (["snd"], "there is no verb 'snd'; did you mean 'send'? `hilbridge --help` lists them"),
        (["xyzzy"], "there is no verb 'xyzzy'; `hilbridge --help` lists them"),
        (["--loud", "list"], "unrecognized arguments: --loud; `hilbridge --help` shows how it goes"),
        (["list", "a", "b"], "unrecognized arguments: b; `hilbridge list --help` shows how it goes"),
        (["demo", "--stor"], "unrecognized arguments: --stor"),
        (["send", "/dev/ttyS0"], "the following arguments are required: TEXT"),
        (["send", "/dev/ttyS0", "x", "--newline", "ctrl"], "invalid choice: 'ctrl'"),
        (["expect", "/dev/ttyS0", "x", "--timeout", "soon"], "'soon' is no number of seconds: give 0 or more, as 2.5"),
        (["expect", "/dev/ttyS0", "x", "--timeout", "-1"], "'-1' is no number of seconds"),
        (["expect", "/dev/ttyS0", "x", "--timeout", "nan"], "'nan' is no number of seconds"),
        (["expect", "/dev/ttyS0", "x", "--timeout", "inf"], "'inf' is no number of seconds"),
        (["expect", "/dev/ttyS0", "x", "--baudrate", "fast"], "invalid int value: 'fast'"),
    ],
)
def test_a_command_line_that_makes_no_sense(cli: Cli, words: list[str], complaint: str) -> None:
    ran = cli(*words)
    assert ran.code == 2
    assert complaint in ran.complaint


# -- what becomes of an error ----------------------------------------------------------------------------------------------


def test_a_mistake_of_our_own_asks_for_a_report(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    verb(monkeypatch, lambda args: 1 // 0)
    ran = cli("try")
    assert ran.code == 70
    assert ran.complaint == (
        "a mistake of hilbridge itself: ZeroDivisionError: integer division or modulo by zero; please report it, with "
        "what the same command says with -v"
    )


@pytest.mark.parametrize("words", [["-v", "try"], ["try", "-v"], ["try", "--verbose"]])
def test_verbose_shows_where_it_happened(cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    verb(monkeypatch, lambda args: 1 // 0)
    ran = cli(*words)
    assert ran.code == 70 and ran.out == ""
    assert ran.err.startswith("Traceback (most recent call last):")
    assert ran.err.splitlines()[-1].endswith("please report it")


def test_an_internal_fault_asks_for_a_report_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_args: object) -> int:
        raise InternalFault("the flux capacitor\nis empty")

    verb(monkeypatch, run)
    ran = cli("try")
    assert ran.code == 70
    assert ran.complaint.startswith("a mistake of hilbridge itself: the flux capacitor is empty; please report it")


def test_a_verbs_own_code_is_passed_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    verb(monkeypatch, lambda args: 17)
    assert cli("try").code == 17


def test_ctrl_c_and_sigterm(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_args: object) -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    def terminated(_args: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    verb(monkeypatch, interrupted)
    assert cli("try").code == 130
    verb(monkeypatch, terminated)
    ran = cli("try")
    assert (ran.code, ran.out, ran.err) == (143, "", "")
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_runs_in_a_thread_that_may_not_touch_signals() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join(PATIENCE)
    assert codes == [0]


# -- stdout ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list", "--json"], ["demo", "--story"]])
def test_a_closed_pipe_is_quiet(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(command(*words), stdout=writer, stderr=subprocess.PIPE, env=environment()) as process:
        os.close(writer)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("words", [["--version"], ["list", "--json"]])
def test_a_full_disk_is_told(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*words), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE, check=False, env=environment()
        )
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "hilbridge: the output cannot be written: No space left on device; make room, or send it elsewhere\n"
    )


@pytest.mark.parametrize(("redirection", "code"), [(">&-", 1), ("2>&-", 0)])
def test_a_stream_that_is_closed_from_the_start(redirection: str, code: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *command("--version")],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=environment(),
    )
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_verbose_shows_what_the_library_logs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_args: object) -> int:
        logging.getLogger("hilbridge.hal").debug("the port is %s", "warm")
        return 0

    verb(monkeypatch, run)
    assert cli("try").err == ""
    assert cli("try", "-v").err == "hilbridge.hal: the port is warm\n"
    assert cli("try").err == "", "the handler stayed"
