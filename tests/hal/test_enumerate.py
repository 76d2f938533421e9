"""Which ports there are. A USB adapter is made of a pty and of files where Linux shows devices, in a mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serial.tools import list_ports

from hilbridge.hal import enumerate as enumeration
from hilbridge.hal.enumerate import Port, port, ports
from hilbridge.model.errors import DeviceFault, DeviceNotFound, DeviceUnsupported, UsageFault
from tests.hal.halkit import TOP, Pty, held

UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]

# Puts the pty $1 at /dev/ttyUSB7, and what a kernel says of an FTDI adapter at /sys/class/tty/ttyUSB7. $2 is scratch.
PLUG_IN = """
set -e
mount -t tmpfs none "$2"
mkdir -p "$2/dev/pts" "$2/usb/1-2/1-2:1.0/ttyUSB7"
mount --rbind /dev/pts "$2/dev/pts"
touch "$2/dev/ttyUSB7" "$2/dev/null"
mount --bind "$1" "$2/dev/ttyUSB7"
mount --bind /dev/null "$2/dev/null"
cd "$2/usb/1-2"
echo 0403 > idVendor; echo 6001 > idProduct; echo A50285BI > serial
echo FTDI > manufacturer; echo "$3" > product; echo 1 > bNumInterfaces
mkdir -p "$2/bus/usb-serial"; ln -s "$2/bus/usb-serial" 1-2:1.0/ttyUSB7/subsystem
mount -t tmpfs none /sys/class/tty
mkdir /sys/class/tty/ttyUSB7; ln -s "$2/usb/1-2/1-2:1.0/ttyUSB7" /sys/class/tty/ttyUSB7/device
mount --rbind "$2/dev" /dev
cd "$4"
shift 4
exec "$@"
"""

LIST = """
import dataclasses, json
from hilbridge.hal.enumerate import port, ports
print(json.dumps([dataclasses.asdict(one) for one in [*ports(), port("serial:ttyUSB7")]]))
"""


def beside_a_usb_adapter(node: str, scratch: Path, *command: str, product: str = "FT232R USB UART") -> str:
    """What a command says on a machine with a USB adapter, whose port is the pty `node`."""
    if subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL, check=False, timeout=30).returncode:
        pytest.skip("needs a mount namespace: root, or user namespaces for everybody")
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", PLUG_IN, "sh", node, str(scratch), product, str(TOP), *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_usb_adapter_with_its_numbers_and_its_holder(pty: Pty, tmp_path: Path) -> None:
    with held(pty.path, "flock") as holder:
        said = beside_a_usb_adapter(pty.path, tmp_path, sys.executable, "-c", LIST)
    listed, named = json.loads(said)
    assert listed == named, "a port that is named is the one that is listed"
    holders = {one["pid"]: one["command"] for one in listed.pop("holders")}
    assert "import fcntl" in holders[holder.pid]
    assert listed == {
        "device": "/dev/ttyUSB7",
        "description": "FT232R USB UART",
        "vid": 0x0403,
        "pid": 0x6001,
        "serial_number": "A50285BI",
        "manufacturer": "FTDI",
        "product": "FT232R USB UART",
        "location": "1-2",
    }


def test_the_ports_of_this_machine_are_device_nodes() -> None:
    found = ports()
    assert all(Path(one.device).is_char_device() for one in found)
    assert all(one.description != "n/a" for one in found)


def test_a_usb_id() -> None:
    assert Port("/dev/ttyUSB0", vid=0x403, pid=0x6001).usb_id == "0403:6001"
    assert Port("/dev/ttyS0").usb_id is None


def test_a_port_by_name_need_not_be_listed(pty: Pty, tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to(pty.path)
    found = port(str(link))
    assert found.device == pty.path
    assert [one.pid for one in found.holders] == [os.getpid()]
    pty.let_go()
    assert port(f"serial:{pty.path}").holders == ()


def test_what_is_no_port(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound, match="does not exist"):
        port("/dev/ttyNONE0")
    with pytest.raises(DeviceUnsupported, match="not a serial port"):
        port(str(tmp_path))
    with pytest.raises(UsageFault, match="no port of this machine"):
        port("socket://localhost:4000")
    with pytest.raises((DeviceNotFound, DeviceFault)):
        port("/dev/tty\0")


def test_a_port_that_goes_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial computes int(None, 16) then, and gives up on all ports."""
    tries: list[Any] = []

    def comports() -> list[Any]:
        tries.append(None)
        if len(tries) < enumeration.TRIES:
            int(None, 16)  # type: ignore[call-overload]
        return []

    monkeypatch.setattr(list_ports, "comports", comports)
    assert ports() == []
    assert len(tries) == enumeration.TRIES
    tries.clear()
    monkeypatch.setattr(enumeration, "TRIES", 1)
    monkeypatch.setattr(list_ports, "comports", lambda: [int(None, 16)])  # type: ignore[call-overload]
    with pytest.raises(DeviceFault, match="cannot be listed"):
        ports()
