"""``list``: ports, in columns and as a document."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from hilbridge.cli import list as list_verb
from hilbridge.cli.list import table
from hilbridge.hal.enumerate import Port
from hilbridge.hal.locks import Holder
from tests.cli.clikit import Cli
from tests.hal.halkit import Pty, held
from tests.hal.test_enumerate import beside_a_usb_adapter

FTDI = Port(
    "/dev/ttyUSB0", "FT232R USB UART", 0x0403, 0x6001, "A50285BI", "FTDI", "FT232R USB UART", "1-2",
    (Holder(4711, "tio /dev/ttyUSB0"), Holder(4712, "picocom")),
)  # fmt: skip


def test_columns() -> None:
    assert table([Port("/dev/ttyS0"), FTDI]).splitlines() == [
        "DEVICE        USB ID     SERIAL NUMBER  DESCRIPTION      HELD BY",
        "/dev/ttyS0    -          -              -                -",
        "/dev/ttyUSB0  0403:6001  A50285BI       FT232R USB UART  tio /dev/ttyUSB0 (pid 4711), picocom (pid 4712)",
    ]


def test_a_device_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in table([Port("/dev/ttyUSB0", "evil \x1b[2J", serial_number="\x07")])


def test_a_port_that_is_named_and_who_holds_it(cli: Cli, pty: Pty) -> None:
    with held(pty.path, "plain") as holder:
        ran = cli("list", pty.path)
        document = cli("list", pty.path, "--json").document
    assert ran.code == 0 and ran.err == ""
    assert ran.out.splitlines()[1].startswith(pty.path)
    assert f"(pid {holder.pid})" in ran.out
    (port,) = document["ports"]
    assert [one["pid"] for one in port.pop("holders")] == sorted([holder.pid, os.getpid()])
    assert port == {
        "device": pty.path,
        "description": None,
        "vid": None,
        "pid": None,
        "serial_number": None,
        "manufacturer": None,
        "product": None,
        "location": None,
    }


def test_a_usb_adapter(pty: Pty, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "hilbridge", "list")
    lines = beside_a_usb_adapter(pty.path, tmp_path, *command).splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:3] == ["/dev/ttyUSB7", "0403:6001", "A50285BI"]
    assert f"(pid {os.getpid()})" in lines[1]
    document = json.loads(beside_a_usb_adapter(pty.path, tmp_path, *command, "--json", product="Café ☕"))
    assert document["schema_version"] == 1
    (port,) = document["ports"]
    assert (port["vid"], port["pid"], port["product"]) == (0x0403, 0x6001, "Café ☕")


def test_no_ports_at_all(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_verb, "ports", list)
    ran = cli("list")
    assert (ran.code, ran.out) == (0, "")
    assert "hilbridge demo" in ran.err
    ran = cli("list", "--json")
    assert ran.document == {"ports": []}
    assert ran.err == ""


def test_what_is_not_a_port_of_this_machine(cli: Cli) -> None:
    ran = cli("list", "socket://localhost:4000")
    assert ran.code == 2
    assert "is no port of this machine" in ran.complaint
