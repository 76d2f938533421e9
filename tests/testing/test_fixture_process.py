"""The life of a fixture's process: its start, its control channel, its links, and all the ways it can end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hilbridge.model.errors import (
    ConfigError,
    DeviceGone,
    DeviceTimeout,
    HilbridgeError,
    InternalFault,
    NameNotFound,
    UsageFault,
)
from hilbridge.testing import fixture as fixture_module
from hilbridge.testing.fixture import RunningFixture, start_fixture
from hilbridge.testing.peers.base import spoken
from tests.testing.port_client import LONG, SHORT, board_file, client, ends, process_handle

pytestmark = pytest.mark.slow  # whole processes, or the far end's own times: not for the quick loop

# ----------------------------------------------------------------------------------------------------- control channel


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("reboot", "no control line: 'reboot'; there are reset, hangup and say JSON"),
        ("", "no control line: ''; there are reset, hangup and say JSON"),
        ("reset now", "no control line: 'reset now'; there are reset, hangup and say JSON"),
        ("reset", "a fixture of this kind (echo) has no reset"),
        ("say hello", 'say takes JSON, for instance say "text": Expecting value: line 1 column 1 (char 0)'),
        ("say 5", 'say takes a JSON string, or {"hex": "00ff"} for bytes'),
        ('say {"hex": "0"}', 'say takes a JSON string, or {"hex": "00ff"} for bytes'),
        ('say "\\ud800"', 'say takes a JSON string, or {"hex": "00ff"} for bytes'),
    ],
)
def test_a_control_line_that_is_refused(line: str, told: str) -> None:
    with start_fixture("echo") as echo, client(echo.port) as port:
        with pytest.raises(UsageFault) as caught:
            echo.control(line)
        assert str(caught.value) == f"fixture echo: {told}"
        port.write(b"still there")
        assert port.read(11) == b"still there"


def test_a_source_that_is_told_nonsense() -> None:
    with start_fixture("source") as source:
        for line in ('say "text"', 'say {"byte": 5}', 'say {"bytes": 0}', 'say {"bytes": "5"}'):
            with pytest.raises(UsageFault, match="source"):
                source.control(line)
        with pytest.raises(UsageFault, match="one line"):
            source.control("reset\nreset")


def test_what_can_be_said() -> None:
    assert spoken("a\n") == b"a\n"
    assert spoken({"hex": "00 ff"}) == b"\x00\xff"
    with pytest.raises(UsageFault):
        spoken({"hex": 5})


# -------------------------------------------------------------------------------------------------------------- links


def test_a_link_to_the_port(tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to("/dev/pts/nothing")  # what a killed run left behind
    with start_fixture("echo", link=link) as echo:
        assert echo.ports == (str(link),)
        assert link.resolve() == Path(echo.nodes[0])
        with client(echo.port) as port:
            port.write(b"x")
            assert port.read(1) == b"x"
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_somebody_else_took_over_stays(tmp_path: Path) -> None:
    link = tmp_path / "board"
    with start_fixture("echo", link=link), start_fixture("echo", link=link) as second:
        assert link.resolve() == Path(second.nodes[0])
        link.unlink()
        link.symlink_to("/dev/null")
    assert link.resolve() == Path("/dev/null")


def test_links_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for link, told in [
        (tmp_path / "file", "is in the way, and no symbolic link"),
        (tmp_path / "missing" / "link", "the link cannot be made: No such file or directory"),
    ]:
        with pytest.raises(UsageFault, match=told):
            start_fixture("echo", link=link)
    with pytest.raises(UsageFault, match=re.escape("echo has 1 port(s); --link was given 2 times")):
        start_fixture("echo", link=[str(tmp_path / "a"), str(tmp_path / "b")])
    assert (tmp_path / "file").read_text() == "precious"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


# --------------------------------------------------------------------------------------------------- start, stop, death


def test_a_broken_file_is_told_as_if_it_was_read_here(tmp_path: Path) -> None:
    file = board_file(tmp_path, "banner:\n  - txet: hello\n")
    with pytest.raises(ConfigError) as caught:
        start_fixture(file)
    assert str(caught.value) == f"{file}:4:5: banner[0].txet: unknown key; did you mean 'text'?"


def test_other_ways_not_to_start(tmp_path: Path) -> None:
    with pytest.raises(NameNotFound, match="did you mean 'echo'"):
        start_fixture("ecoh")
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        start_fixture(tmp_path / "missing.yaml")
    with pytest.raises(UsageFault, match="--speed: no such option"):
        start_fixture("--speed")


def test_a_fixture_that_is_not_ready_in_time_is_not_left_behind() -> None:
    with pytest.raises(DeviceTimeout, match="fixture echo: start: no answer in time"):
        start_fixture("echo", timeout=0.0)


def test_a_fixture_that_crashes_at_its_start_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yaml.py").write_text("raise RuntimeError('this is not the yaml you want')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InternalFault) as caught:
        start_fixture("echo")
    told = "fixture echo did not start (exit code 1): RuntimeError: this is not the yaml you want"
    assert str(caught.value) == told
    assert "Traceback" in caught.value.__notes__[0]


def test_a_file_in_the_current_directory_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yaml.py").write_text("raise RuntimeError('taken from the current directory')\n")
    monkeypatch.chdir(tmp_path)
    with start_fixture("echo") as echo:
        assert echo.pid > 0


def test_stop_twice_and_use_after_stop() -> None:
    echo = start_fixture("echo")
    with process_handle(echo.pid) as process:
        echo.stop()
        assert ends(process, 0)
    echo.stop()
    with pytest.raises(UsageFault, match="was stopped"):
        echo.control("reset")


def test_a_fixture_that_was_killed_is_gone() -> None:
    with start_fixture("boards/story") as story, client(story.port) as port:
        os.kill(story.pid, signal.SIGKILL)
        assert port.sees_hangup()
        with pytest.raises(DeviceGone, match="the process has ended"):
            story.reset()


def test_a_fixture_that_does_not_go_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixture_module, "_STOP_DEADLINE", 0.1)
    with start_fixture("echo") as echo, process_handle(echo.pid) as process:
        os.kill(echo.pid, signal.SIGSTOP)
        echo.stop()
        assert ends(process, 0)


def crash(echo: RunningFixture) -> None:
    """Bring the process to a bad end: a control line without end is more than it keeps."""
    assert echo._process.stdin is not None
    with process_handle(echo.pid) as process:
        try:
            for _ in range(20):
                os.write(echo._process.stdin.fileno(), b"x" * 100_000)
        except BrokenPipeError:
            pass
        assert ends(process)


def test_a_fixture_that_fails_while_it_runs_says_so() -> None:
    told = r"fixture echo failed with exit code 2: a control line is longer than 1048576 bytes"
    with pytest.raises(InternalFault, match=told), start_fixture("echo") as echo:
        crash(echo)


def test_a_failing_fixture_does_not_hide_why_a_test_fails() -> None:
    with pytest.raises(ZeroDivisionError) as caught, start_fixture("echo") as echo:
        crash(echo)
        raise ZeroDivisionError
    assert "fixture echo failed with exit code 2" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", ["echo", "boards/demo", "source"])
def test_a_terminated_fixture_cleans_up(name: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    with start_fixture(name, link=link) as fixture, process_handle(fixture.pid) as process:
        os.kill(fixture.pid, signal.SIGINT)  # a Ctrl-C for everybody on the terminal: the parent is to decide
        assert not ends(process, SHORT)
        os.kill(fixture.pid, signal.SIGTERM)
        assert ends(process)
        assert not link.is_symlink()


PARENT = """
import sys
from hilbridge.testing.fixture import start_fixture
fixture = start_fixture(sys.argv[1], link=sys.argv[2])
print(fixture.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["echo", "boards/demo", "source"])
def test_when_the_parent_is_killed_the_fixture_goes(name: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, name, str(link)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(fixture_module.__file__).parents[2])},
    ) as parent:
        assert parent.stdout is not None
        with process_handle(int(parent.stdout.readline())) as process, client(str(link)) as port:
            assert not ends(process, 0)
            parent.kill()
            assert ends(process)
            assert port.sees_hangup()
        assert not link.is_symlink()


# --------------------------------------------------------------------------------------------------- the command itself


def run(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hilbridge.testing.fixture", *arguments],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(fixture_module.__file__).parents[2])},
    )


def test_the_command_ends_with_its_stdin() -> None:
    done = run("echo")
    ready = json.loads(done.stdout)
    assert set(ready) == {"ports", "nodes", "pid", "kind"}
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_explains_itself() -> None:
    assert "usage: python -m hilbridge.testing.fixture FILE|NAME" in run("--help").stdout
    for arguments, told in [
        ((), "one fixture is needed, 0 were named"),
        (("echo", "source"), "one fixture is needed, 2 were named"),
        (("echo", "--link"), "--link needs a path"),
        (("echo", "-v"), "-v: no such option"),
    ]:
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(told)
        assert "usage:" in done.stderr
        assert done.stdout == ""


def test_ctrl_c_ends_a_command_on_a_terminal() -> None:
    master, terminal = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "hilbridge.testing.fixture", "echo"],
            stdin=terminal,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(fixture_module.__file__).parents[2])},
        ) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["pid"] == process.pid
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == 0
    finally:
        os.close(master)
        os.close(terminal)


def test_every_error_of_a_start_keeps_its_exit_code() -> None:
    for name, error in [("ecoh", NameNotFound), ("/nowhere.yaml", ConfigError), ("-x", UsageFault)]:
        assert run(name).returncode == error.exit_code
        assert issubclass(error, HilbridgeError)
