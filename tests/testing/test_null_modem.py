"""The null modem: socat's two ptys, and the end of socat however its fixture ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hilbridge.model.errors import InternalFault, UsageFault
from hilbridge.testing import fixture as fixture_module
from hilbridge.testing.fixture import start_fixture
from tests.testing.port_client import LONG, client, ends, process_handle


def socat_of(pid: int) -> int:
    """The process id of the socat that the fixture `pid` has started."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert b"socat" in Path(f"/proc/{child}/cmdline").read_bytes()
    return int(child)


@pytest.mark.needs_socat
def test_what_goes_in_at_one_end_comes_out_at_the_other(tmp_path: Path) -> None:
    links = [str(tmp_path / "left"), str(tmp_path / "right")]
    with start_fixture("null_modem", link=links) as modem:
        assert modem.kind == "null-modem"
        assert modem.ports == tuple(links)
        everything = bytes(range(256))
        with client(links[0]) as left, client(links[1]) as right:
            left.write(everything)
            assert right.read(256) == everything
            right.write(everything)
            assert left.read(256) == everything
        for _ in range(3):  # clients come and go, at either end
            with client(links[0]) as left:
                left.write(b"to whom it may concern")
            with client(links[1]) as right:
                assert right.read(22) == b"to whom it may concern"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs_socat
def test_hanging_up_cuts_both_ends_and_ends_socat() -> None:
    with start_fixture("null_modem") as modem, client(modem.ports[0]) as left, client(modem.ports[1]) as right:
        with process_handle(socat_of(modem.pid)) as socat:
            modem.hang_up()
            assert ends(socat)
        for end in (left, right):
            poll = select.poll()
            poll.register(end.fd, 0)
            assert poll.poll(LONG * 1000)[0][1] & select.POLLHUP
        with pytest.raises(UsageFault, match="has no reset"):
            modem.reset()
        with pytest.raises(UsageFault, match="has nothing to say"):
            modem.say("x")


@pytest.mark.needs_socat
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_however_the_fixture_ends_socat_ends(sig: signal.Signals) -> None:
    """Also while a client holds a port open, which would keep a socat of its own alive."""
    with start_fixture("null_modem") as modem, client(modem.port), process_handle(socat_of(modem.pid)) as socat:
        os.kill(modem.pid, sig)
        assert ends(socat)


@pytest.mark.needs_socat
def test_a_socat_that_ends_by_itself_is_a_fault() -> None:
    told = r"failed with exit code 7: socat ended by itself: the null modem is cut"
    with pytest.raises(InternalFault, match=told), start_fixture("null_modem") as modem:
        socat = socat_of(modem.pid)
        with process_handle(modem.pid) as process:
            os.kill(socat, signal.SIGKILL)
            assert ends(process)


PARENT = """
import sys
from hilbridge.testing.fixture import start_fixture
fixture = start_fixture("null_modem")
print(fixture.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.needs_socat
def test_when_the_parent_is_killed_fixture_and_socat_go() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(fixture_module.__file__).parents[2])},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        with process_handle(pid) as process, process_handle(socat_of(pid)) as socat:
            parent.kill()
            assert ends(process)
            assert ends(socat)


def test_without_socat_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageFault, match=r"install the package socat \(apt-get install socat\)"):
        start_fixture("null_modem")


def test_a_socat_that_does_not_work_is_told_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "socat"
    fake.write_text("#!/bin/sh\necho 'E out of ptys' >&2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(OSError, match="socat ended; it said: E out of ptys"):
        start_fixture("null_modem")
