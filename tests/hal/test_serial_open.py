"""Ports that cannot be opened, or are somebody else's: each has an error of its own that says what to do."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hilbridge.hal import serial_line
from hilbridge.hal.serial_line import open_serial_line
from hilbridge.model.errors import (
    DeviceBusy,
    DeviceFault,
    DeviceNotFound,
    DeviceUnsupported,
)
from hilbridge.model.hardware import (
    LineSettings,
)
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES
from tests.hal.halkit import (
    PATIENCE,
    SETTINGS,
    Pty,
    attributes,
    descriptors,
    hear,
    held,
    open_elsewhere,
    say,
)

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_a_missing_port(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound) as caught:
        open_serial_line("/dev/ttyUSB_none", SETTINGS)
    assert caught.value.exit_code == 4
    assert str(caught.value) == (
        "/dev/ttyUSB_none does not exist: is the device plugged in, and its name spelled right?"
    )
    link = tmp_path / "my-board"
    link.symlink_to("/dev/ttyUSB_none")
    with pytest.raises(DeviceNotFound, match="my-board points to /dev/ttyUSB_none, which does not exist"):
        open_serial_line(str(link), SETTINGS)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(DeviceFault):
        open_serial_line("/dev/tty\0USB0", SETTINGS)


def test_what_is_no_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, what in ((tmp_path, "a directory"), (file, "a regular file"), (pipe, "a pipe")):
        with pytest.raises(DeviceUnsupported, match=f"is {what}, not a serial port: give a device node") as caught:
            open_serial_line(str(path), SETTINGS)
        assert caught.value.exit_code == 2
    assert file.read_text() == "precious"


def test_another_kind_of_device_is_refused_unopened() -> None:
    before = descriptors()
    with pytest.raises(DeviceUnsupported, match="/dev/null is some other device, not a serial port"):
        open_serial_line("/dev/null", SETTINGS)
    assert descriptors() == before


def test_what_is_a_terminal_is_known_before_it_is_opened(pty: Pty) -> None:
    assert serial_line._is_no_terminal(Path("/dev/null").stat().st_rdev)
    assert not serial_line._is_no_terminal(Path("/dev/tty").stat().st_rdev)
    assert not serial_line._is_no_terminal(Path(pty.path).stat().st_rdev), "sysfs does not know ptys"


def test_what_sysfs_knows_to_be_no_terminal_is_not_opened(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_line, "_is_no_terminal", lambda rdev: True)
    with pytest.raises(DeviceUnsupported, match="is some other device, not a serial port"):
        pty.open()


def test_a_character_device_of_which_sysfs_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_line, "_is_no_terminal", lambda rdev: False)
    with pytest.raises(DeviceUnsupported, match="/dev/null is some other device, not a serial port"):
        open_serial_line("/dev/null", SETTINGS)


@needs_root
def test_a_port_of_somebody_else(pty: Pty) -> None:
    Path(pty.path).chmod(0o620)
    answer = open_elsewhere(pty.path, NOBODY)
    assert answer["kind"] == "DevicePermission"
    assert answer["exit"] == 6
    assert answer["status"] == "STATUS_ACCESS_DENIED"
    assert f"{pty.path} belongs to root" in answer["message"]
    assert "mode 0620: only its owner may" in answer["message"]


@needs_root
def test_a_port_of_a_group(pty: Pty) -> None:
    os.chown(pty.path, 0, 20)
    Path(pty.path).chmod(0o660)
    message = open_elsewhere(pty.path, NOBODY)["message"]
    assert "group dialout, mode 0660: add yourself to the group (sudo usermod -aG dialout $USER)" in message


def test_out_of_descriptors(pty: Pty) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[0] + 8, hard))
        with pytest.raises(OSError):
            while True:
                fillers.append(os.dup(fillers[0]))
        # open(2) itself fails; then, with room for one more each time, what comes after it.
        for _ in range(5):
            with pytest.raises(DeviceFault, match="out of descriptors") as caught:
                pty.open()
            assert caught.value.status == STATUS_INSUFFICIENT_RESOURCES
            assert "raise it with ulimit -n" in str(caught.value)
            os.close(fillers.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)
    assert open_elsewhere(pty.path)["kind"] == "opened"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"parity": "E"}, "parity 'E'"),
        ({"parity": "M"}, "parity 'M'"),
        ({"bytesize": 7}, "bytesize 7"),
        ({"bytesize": 5}, "bytesize 5"),
        ({"baudrate": 0}, "baudrate 0"),
        ({"baudrate": -9600}, "baudrate -9600"),
        ({"baudrate": 2**40}, "baudrate 1099511627776"),
        ({"stopbits": 1.5}, "stopbits 1.5"),
        ({"bytesize": 9}, "bytesize 9"),
        ({"parity": "odd"}, "parity 'odd'"),
        ({"stopbits": 3}, "stopbits 3"),
        ({"dsrdtr": True}, "dsrdtr"),
        ({"xonxoff": True, "rtscts": True}, "xonxoff and rtscts"),
    ],
)
def test_an_impossible_setting_is_named_and_changes_nothing(pty: Pty, change: dict[str, Any], named: str) -> None:
    impossible = replace(SETTINGS, **change)
    with pytest.raises(DeviceUnsupported, match=named) as caught:
        pty.open(impossible)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    # Nothing is left open or locked by the refusal.
    assert open_elsewhere(pty.path)["kind"] == "opened"
    line = pty.open(LineSettings(baudrate=9600, stopbits=2))
    before = attributes(line.fileno())
    with pytest.raises(DeviceUnsupported, match=named):
        line.configure(impossible)
    assert attributes(line.fileno()) == before
    assert line.settings == LineSettings(baudrate=9600, stopbits=2)
    say(line, b"still works")
    assert pty.hear(11) == b"still works"
    line.close()


# -- locks -------------------------------------------------------------------------------------------------------------


def test_busy_by_flock_names_the_holder(pty: Pty) -> None:
    with held(pty.path, "flock") as child:
        pty.let_go()
        with pytest.raises(DeviceBusy) as caught:
            pty.open()
        assert caught.value.exit_code == 5
        message = str(caught.value)
        assert message.startswith(f"{pty.path} is in use by {sys.executable}"[:100])
        assert f"(pid {child.pid})" in message
        assert message.endswith(": end that program first")
    pty.open().close()


@needs_root
def test_busy_by_tiocexcl_even_for_root(pty: Pty) -> None:
    with held(pty.path, "exclusive") as child:
        os.close(os.open(pty.path, os.O_RDWR | os.O_NOCTTY))  # the kernel lets root in
        with pytest.raises(DeviceBusy, match=rf"\(pid {child.pid}\)"):
            pty.open()


@needs_root
def test_busy_by_tiocexcl_for_a_user(pty: Pty) -> None:
    Path(pty.path).chmod(0o666)
    with held(pty.path, "exclusive"):
        answer = open_elsewhere(pty.path, NOBODY)
        assert answer["kind"] == "DeviceBusy"
        assert answer["exit"] == 5
        # Whose descriptors these are is not for nobody to know.
        assert f"by a program that this user may not see: `sudo fuser -v {pty.path}` names it" in answer["message"]
    assert open_elsewhere(pty.path, NOBODY)["kind"] == "opened"


def test_a_refused_attempt_leaves_the_owner_alone(pty: Pty) -> None:
    owner = pty.open(LineSettings(baudrate=57600))
    before = attributes(owner.fileno())
    os.write(pty.board, b"unread")
    with pytest.raises(DeviceBusy, match="already open in this process: close that handle first"):
        pty.open(LineSettings(baudrate=300), flush_on_open=True)
    assert attributes(owner.fileno()) == before
    assert hear(owner, 6) == b"unread"
    assert open_elsewhere(pty.path)["kind"] == "DeviceBusy"
    owner.close()


@needs_root
def test_our_port_is_closed_to_everybody_else_until_we_close_it(pty: Pty) -> None:
    Path(pty.path).chmod(0o666)
    line = pty.open()
    try_it = "import os, sys; os.setuid(65534); os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)"
    attempt = [sys.executable, "-S", "-E", "-c", try_it, pty.path]
    refused = subprocess.run(attempt, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    assert "Device or resource busy" in refused.stderr
    line.close()
    assert subprocess.run(attempt, timeout=PATIENCE, check=False).returncode == 0


def test_a_killed_owner_of_a_pty_leaves_no_lock_behind(pty: Pty) -> None:
    # The master keeps the terminal, and with it the exclusive flag, alive: the flag alone must not count.
    with held(pty.path, "exclusive", "forget"):
        pty.let_go()
    line = pty.open()
    say(line, b"mine")
    assert pty.hear(4) == b"mine"
    line.close()


def test_somebody_who_was_there_before_without_a_lock_is_named(pty: Pty) -> None:
    with held(pty.path, "plain") as child:
        pty.let_go()
        line = pty.open()
        assert [holder.pid for holder in line.other_openers] == [child.pid]
    assert line.other_openers == []
    line.close()
    assert line.other_openers == []
