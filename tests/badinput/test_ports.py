"""Ports that cannot be had: missing, busy, forbidden, no port at all."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import hilbridge
from hilbridge import DeviceBusy, DeviceNotFound, DeviceUnsupported, HilbridgeError, UsageFault
from tests.badinput.badkit import Expected, Healthy, plug_as_somebody_else
from tests.badinput.badkit import hilbridge as command_line
from tests.hal.halkit import Pty, held

MISSING = Expected(DeviceNotFound, 4, "does not exist", "plugged in", also=FileNotFoundError)
DANGLING = Expected(DeviceNotFound, 4, "points to", "does not exist", also=FileNotFoundError)
NO_PORT = Expected(DeviceUnsupported, 2, "not a serial port", "/dev/ttyUSB0", also=OSError)
NO_MONIKER = Expected(UsageFault, 2, "/dev/NAME", also=ValueError)
UNREACHABLE = Expected(DeviceNotFound, 4, "far end", also=FileNotFoundError)


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A TCP port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextlib.contextmanager
def moniker(kind: str, directory: Path) -> Iterator[str]:
    match kind:
        case "missing":
            yield "/dev/ttyNotThere"
        case "missing directory":
            yield "/dev/no/such/port"
        case "link to nothing":
            link = directory / "board"
            link.symlink_to("/dev/ttyNotThere")
            yield str(link)
        case "by-id":
            yield "serial:by-id/usb-nobody_has_this-if00"
        case "no tty":
            yield "/dev/null"
        case "directory":
            yield str(directory)
        case "regular file":
            (directory / "notes.txt").write_text("precious")
            yield str(directory / "notes.txt")
        case "pipe":
            os.mkfifo(directory / "pipe")
            yield str(directory / "pipe")
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(directory / "socket"))
                yield str(directory / "socket")
        case "host without a server":
            with free_port() as number:
                yield f"socket://127.0.0.1:{number}"
        case "rfc2217 without a server":
            with free_port() as number:
                yield f"rfc2217://127.0.0.1:{number}"
        case _:
            yield kind


PORTS: dict[str, Expected] = {
    "missing": MISSING,
    "missing directory": MISSING,
    "link to nothing": DANGLING,
    "by-id": MISSING,
    "no tty": NO_PORT,
    "directory": NO_PORT,
    "regular file": NO_PORT,
    "pipe": NO_PORT,
    "socket": NO_PORT,
    "host without a server": UNREACHABLE,
    "rfc2217 without a server": UNREACHABLE,
    "COM9": NO_MONIKER,
    "ttyUSB0": NO_MONIKER,
    "http://example.org": NO_MONIKER,
    "socket://localhost": Expected(UsageFault, 2, "socket://localhost:4000", also=ValueError),
    "socket://localhost:port": Expected(UsageFault, 2, "socket://localhost:4000", also=ValueError),
    "virtual:nothing": Expected(UsageFault, 2, "loop, line, uart, null and toasterbus", also=ValueError),
    "virtual:": Expected(UsageFault, 2, "loop, line, uart, null and toasterbus", also=ValueError),
    "": NO_MONIKER,
}


@pytest.mark.parametrize("kind", PORTS)
def test_port_that_cannot_be_opened(healthy: Healthy, tmp_path: Path, kind: str) -> None:
    with moniker(kind, tmp_path) as what:
        for _ in range(2):
            with pytest.raises(HilbridgeError) as error:
                healthy.bridge.plug(what)
            PORTS[kind].check(error.value)
        with pytest.raises(HilbridgeError) as error:
            hilbridge.open(what)
        PORTS[kind].check(error.value)
    healthy.check()


@pytest.mark.parametrize(
    ("kind", "code"), [("missing", 4), ("no tty", 2), ("directory", 2), ("COM9", 2), ("host without a server", 4)]
)
def test_command_line_exits_with_the_errors_code_and_one_line(tmp_path: Path, kind: str, code: int) -> None:
    with moniker(kind, tmp_path) as what:
        done = command_line("send", what, "hello")
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert all(words in done.stderr for words in PORTS[kind].says)


def test_nothing_is_changed_in_what_is_no_port(tmp_path: Path) -> None:
    with moniker("regular file", tmp_path) as what:
        with pytest.raises(DeviceUnsupported):
            hilbridge.open(what)
        assert Path(what).read_text() == "precious"


# -- busy --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flock", "exclusive"])
def test_port_that_another_process_has(healthy: Healthy, pty: Pty, how: str) -> None:
    """By an advisory lock, or by TIOCEXCL: which does not stop root, and these tests may run as root."""
    with held(pty.path, how) as holder:
        for _ in range(2):
            with pytest.raises(HilbridgeError) as error:
                healthy.bridge.plug(pty.path)
            Expected(DeviceBusy, 5, f"pid {holder.pid}", "end that program first", also=OSError).check(error.value)
        done = command_line("send", pty.path, "hello")
        assert done.returncode == 5
        assert f"pid {holder.pid}" in done.stderr
    healthy.check()
    healthy.bridge.plug(pty.path, name="board")
    healthy.bridge.unplug("board")


def test_port_that_this_process_has(healthy: Healthy, pty: Pty) -> None:
    with hilbridge.open(pty.path):
        with pytest.raises(HilbridgeError) as error:
            healthy.bridge.plug(pty.path)
        Expected(DeviceBusy, 5, "already open in this process", "close that handle", also=OSError).check(error.value)
    healthy.check()


def test_bytes_of_the_one_who_has_the_port_are_not_touched(healthy: Healthy, pty: Pty) -> None:
    """An attempt to open must not flush what the other has not read, nor change its settings."""
    with hilbridge.open(pty.path, baudrate=9600) as port:
        os.write(pty.board, b"for the other")
        with pytest.raises(DeviceBusy):
            healthy.bridge.plug(pty.path, baudrate=115200)
        assert port.read(13) == b"for the other"
        assert port.baudrate == 9600
    healthy.check()


def test_writer_that_is_there_already(healthy: Healthy) -> None:
    with pytest.raises(HilbridgeError) as error:
        healthy.bridge.open("healthy")
    Expected(DeviceBusy, 5, "another handle", "access='r'", also=OSError).check(error.value)
    healthy.check()


# -- forbidden ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "says"), [(0o600, "udev rule"), (0o660, "usermod -aG")])
def test_port_that_this_user_may_not_open(pty: Pty, mode: int, says: str) -> None:
    """In a child that is not root."""
    if os.geteuid() == 0:
        os.chown(pty.path, 0, 20)
        Path(pty.path).chmod(mode)
    elif mode == 0o660:
        pytest.skip("only root can give a port to a group that it is not in")
    else:
        Path(pty.path).chmod(0)
    answer = plug_as_somebody_else(pty.path)
    assert answer["kind"] == "DevicePermission"
    assert answer["exit"] == 6
    assert pty.path in answer["message"]
    if os.geteuid() == 0:
        assert says in answer["message"]
    assert answer["healthy"] == "still here"


def test_permission_error_is_the_builtin_too() -> None:
    assert issubclass(hilbridge.DevicePermission, PermissionError)
