"""Which name leads to which line, and what is said of a name that leads nowhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from hilbridge.hal import monikers
from hilbridge.hal.monikers import host_and_port, open_line, serial_path
from hilbridge.model.errors import DeviceNotFound, UsageFault
from hilbridge.model.hardware import CAUSE_RX, Line
from tests.hal.halkit import SETTINGS, TOP, Pty, hear, say


@pytest.mark.parametrize(
    ("moniker", "path"),
    [
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("./link", "./link"),
        ("../link", "../link"),
        ("serial:/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("SERIAL:/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("serial:./link", "./link"),
        ("serial:ttyUSB0", "/dev/ttyUSB0"),
        ("serial:by-id/usb-FTDI_A50285BI-if00-port0", "/dev/serial/by-id/usb-FTDI_A50285BI-if00-port0"),
        ("serial:by-path/pci-0000:00:14.0-usb-0:1:1.0", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0"),
        ("/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0"),
        ("socket://localhost:4000", None),
        ("serial://", None),
        ("COM1", None),
        ("", None),
    ],
)
def test_the_path_of_a_moniker(moniker: str, path: str | None) -> None:
    assert serial_path(moniker) == path


@pytest.mark.parametrize("moniker", ["", "COM1", "ttyUSB0", "pty:", "gopher://x:70", "serial://x", "://", "usb:1-2"])
def test_a_name_that_means_nothing_gets_the_list(moniker: str) -> None:
    with pytest.raises(UsageFault) as caught:
        open_line(moniker, SETTINGS)
    assert caught.value.exit_code == 2
    for scheme in ("/dev/NAME", "serial:by-id/NAME", "socket://HOST:PORT", "rfc2217://HOST:PORT", "loop://"):
        assert scheme in str(caught.value)


@pytest.mark.parametrize("moniker", ["serial:", "serial:some/where"])
def test_half_a_name(moniker: str) -> None:
    with pytest.raises(UsageFault, match="names no port: give serial:/dev/NAME"):
        open_line(moniker, SETTINGS)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("socket://localhost:4000", ("localhost", 4000)),
        ("rfc2217://[::1]:4000?ign_set_control", ("::1", 4000)),
        ("socket://10.0.0.1:65535/", ("10.0.0.1", 65535)),
    ],
)
def test_host_and_port(url: str, expected: tuple[str, int]) -> None:
    assert host_and_port(url) == expected


@pytest.mark.parametrize(
    "rest", ["localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:x", ":4000", ""]
)
@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_no_host_or_no_port(scheme: str, rest: str) -> None:
    with pytest.raises(UsageFault, match=f"needs a host and a port: {scheme}://localhost:4000"):
        open_line(f"{scheme}://{rest}", SETTINGS)


def check(line: Line, name: str) -> None:
    assert line.name == name
    line.close()


def test_device_nodes(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, name = os.path.split(pty.path)
    for moniker in (pty.path, f"serial:{pty.path}"):
        check(open_line(moniker, SETTINGS), pty.path)
    monkeypatch.chdir(directory)
    check(open_line(f"./{name}", SETTINGS), f"./{name}")
    with pytest.raises(DeviceNotFound, match=r"^/dev/serial/by-id/nothing does not exist"):
        open_line("serial:by-id/nothing", SETTINGS)


def test_flush_on_open_is_handed_on(pty: Pty) -> None:
    os.write(pty.board, b"old")
    line = open_line(pty.path, SETTINGS, flush_on_open=True)
    os.write(pty.board, b"new")
    assert hear(line, 3) == b"new"
    line.close()


def test_a_setting_that_does_not_exist() -> None:
    with pytest.raises(UsageFault, match="there is no setting 'baud'; is it spelled right"):
        open_line("loop://", SETTINGS, baud=9600)


def test_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        check(open_line(url, SETTINGS, timeout=2), url)


def test_pumped_lines() -> None:
    line = open_line("loop://", SETTINGS)
    line.enable_interrupts(CAUSE_RX)
    say(line, b"round")
    assert hear(line, 5) == b"round"
    check(line, "loop://")
    check(open_line("LOOP://", SETTINGS), "LOOP://")


def test_nobody_pays_for_what_is_not_opened() -> None:
    script = (
        "import sys, hilbridge.hal.monikers as m; from hilbridge.model.hardware import LineSettings as S\n"
        "def loaded(): return [n for n in ('serial', 'termios') if n in sys.modules]\n"
        "print(loaded())\n"
        "try: m.open_line('nothing', S())\n"
        "except ValueError: print(loaded())\n"
        "try: m.open_line('/nothing', S())\n"
        "except OSError: print('serial' in sys.modules, 'serial.rfc2217' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines() == ["[]", "[]", "True False"]


def test_the_schemes_that_are_listed_are_those_that_open() -> None:
    listed = {scheme.partition("://")[0] for scheme in monikers.SCHEMES if "://" in scheme}
    assert listed == {"socket", *monikers.PUMPED}
