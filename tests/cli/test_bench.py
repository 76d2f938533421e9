"""``bench``: a file that is wrong says where; one that is right says what is there. Nothing is started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hilbridge import Bridge
from hilbridge.bridge import benchports
from hilbridge.files.bench import VARIABLE
from hilbridge.hal import serial_line
from hilbridge.hal.enumerate import Port
from hilbridge.testing import fixture
from tests.cli.clikit import Cli, run
from tests.files.benchkit import FOLDER, FULL, bench_file
from tests.hal.halkit import Pty, held
from tests.hal.test_enumerate import beside_a_usb_adapter

BOARD = "schema: 1\nkind: board\nbanner:\n  - text: hello\n"


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bridge, no board, and no port is opened."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(Bridge, "__init__", started)
    monkeypatch.setattr(fixture, "start_fixture", started)
    monkeypatch.setattr(serial_line, "open_serial_line", started)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., str]:
    def make(*lines: str) -> str:
        return str(bench_file(tmp_path, "schema: 1\ndevices:\n" + "".join(f"  {line}\n" for line in lines)))

    return make


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *there: monkeypatch.setattr(benchports, "ports", lambda: list(there))


FTDI = Port("/dev/ttyUSB0", "FT232R", 0x0403, 0x6001, "A50285BI", "FTDI", "FT232R USB UART", "1-2")


# ------------------------------------------------------------------------------------------------------ broken files


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("options", [(), ("--virtual",), ("--json",)], ids=["plain", "virtual", "json"])
def test_3_a_broken_file(cli: Cli, name: str, options: tuple[str, ...]) -> None:
    ran = cli("bench", "check", str(FOLDER / f"{name}.yaml"), *options)
    assert ran.code == 3
    assert ran.complaint == " ".join(FULL[name])


def test_3_a_file_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    ran = cli("bench", "check", str(tmp_path / "none.yaml"))
    assert ran.code == 3
    assert ran.complaint == f"{tmp_path}/none.yaml: cannot be read: No such file or directory; check the name"


def test_3_ports_that_cannot_be_told_apart(cli: Cli, bench: Callable[..., str], machine: Callable[..., None]) -> None:
    machine(FTDI, Port("/dev/ttyUSB1", None, 0x0403, 0x6001))
    file = bench('board: {match: {usb: "0403:6001"}}')
    ran = cli("bench", "check", file)
    assert ran.code == 3
    assert ran.complaint.startswith(f"{file}:3:18: devices.board.match: 2 ports have usb 0403:6001: /dev/ttyUSB0 (")


def test_3_a_device_without_a_twin(cli: Cli, bench: Callable[..., str]) -> None:
    file = bench(
        "a: {at: 'virtual:loop'}", "b: {at: 'virtual:loop', virtual: {at: 'virtual:loop'}}", "c: {at: loop://}"
    )
    ran = cli("bench", "check", file, "--virtual")
    assert ran.code == 3
    assert ran.complaint.count("has no twin") == 2
    assert f"{file}:3:3: devices.a: " in ran.complaint and f"{file}:5:3: devices.c: " in ran.complaint


def test_3_as_a_process_of_its_own() -> None:
    ran = run("bench", "check", str(FOLDER / "unknown_key.yaml"))
    assert ran.code == 3
    assert ran.complaint == FULL["unknown_key"][0]


# -------------------------------------------------------------------------------------------------------- good files


def test_what_is_there_and_who_has_it(
    cli: Cli, bench: Callable[..., str], machine: Callable[..., None], pty: Pty
) -> None:
    machine(FTDI)
    file = bench(
        'board: {match: {usb: "0403:6001"}, reset: {pulse: dtr}, virtual: {at: "virtual:loop"}}',
        f"probe: {{at: {pty.path}}}",
        "loop: {at: 'virtual:loop'}",
        "remote: {at: 'socket://localhost:1'}",
    )
    with held(pty.path, "flock") as holder:
        ran = cli("bench", "check", file)
        document = cli("bench", "check", file, "--json").document
    assert (ran.code, ran.err) == (0, "")
    rows = [line.split() for line in ran.out.splitlines()]
    assert rows[0] == ["NAME", "STATE", "PORT", "HELD", "BY", "IS"]
    assert rows[1] == ["board", "there", "/dev/ttyUSB0", "-", "usb", "0403:6001"]
    assert rows[2][:3] == ["probe", "there", pty.path]
    assert f"(pid {holder.pid})" in ran.out.splitlines()[2]
    assert rows[3] == ["loop", "there", "-", "-", "virtual:loop"]
    assert rows[4] == ["remote", "not", "looked", "for", "-", "-", "socket://localhost:1"]
    assert (document["file"], document["virtual"]) == (file, False)
    board, probe, loop, _remote = document["devices"]
    assert board == {
        "name": "board",
        "state": "there",
        "is": "usb 0403:6001",
        "port": "/dev/ttyUSB0",
        "holders": [],
        "has_twin": True,
        "can": ["reset"],
        "problem": None,
    }
    assert sorted(one["pid"] for one in probe["holders"]) == sorted([holder.pid, os.getpid()])
    assert (loop["port"], loop["has_twin"], loop["can"]) == (None, False, [])


def test_1_hardware_that_is_missing(cli: Cli, bench: Callable[..., str], machine: Callable[..., None]) -> None:
    machine(FTDI)
    file = bench("board: {match: {serial_number: B}}", "probe: {at: /dev/ttyNONE0}", "loop: {at: 'virtual:loop'}")
    ran = cli("bench", "check", file)
    assert ran.code == 1
    assert [line.split()[1] for line in ran.out.splitlines()] == ["STATE", "missing", "missing", "there"]
    first, second = ran.err.splitlines()
    assert first.startswith(f"hilbridge: {file}:3:18: board: no port has serial_number B; there are /dev/ttyUSB0 (")
    assert second.startswith(f"hilbridge: {file}:4:15: probe: /dev/ttyNONE0 does not exist")
    ran = cli("bench", "check", file, "--json")
    assert (ran.code, ran.err) == (1, "")
    assert [one["problem"] is None for one in ran.document["devices"]] == [False, False, True]


def test_with_virtual_hardware_is_not_looked_for(
    cli: Cli, bench: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchports, "ports", lambda: pytest.fail("the ports were listed"))
    bench_file(tmp_path, BOARD, "b1.yaml")
    file = bench(
        "board: {match: {serial_number: B}, virtual: {board: b1.yaml}}",
        "probe: {at: /dev/ttyNONE0, virtual: {at: 'virtual:loop'}}",
    )
    ran = cli("bench", "check", file, "--virtual")
    assert (ran.code, ran.err) == (0, "")
    assert [line.split() for line in ran.out.splitlines()[1:]] == [
        ["board", "there", "-", "-", "board", "b1.yaml"],
        ["probe", "there", "-", "-", "virtual:loop"],
    ]
    assert cli("bench", "check", file, "--virtual", "--json").document["virtual"] is True


def test_a_real_usb_adapter(pty: Pty, bench: Callable[..., str], tmp_path: Path) -> None:
    file = bench('board: {match: {usb: "0403:6001", serial_number: A50285BI, location: 1-2}}')
    (tmp_path / "machine").mkdir()
    command = (sys.executable, "-m", "hilbridge", "bench", "check", file, "--json")
    (board,) = json.loads(beside_a_usb_adapter(pty.path, tmp_path / "machine", *command))["devices"]
    assert (board["state"], board["port"]) == ("there", "/dev/ttyUSB7")


# ------------------------------------------------------------------------------------------------- which file, schema


def test_the_project_s_file_without_a_word(
    cli: Cli, bench: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    bench("loop: {at: 'virtual:loop'}")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    ran = cli("bench", "check")
    assert ran.code == 4
    assert "is in no project" in ran.complaint
    (tmp_path / "pyproject.toml").touch()
    assert cli("bench", "check").code == 0


def test_the_variable(cli: Cli, bench: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, bench("loop: {at: 'virtual:loop'}"))
    assert cli("bench", "check").out.splitlines()[1].split()[0] == "loop"


def test_the_schema(cli: Cli) -> None:
    ran = cli("bench", "schema")
    assert (ran.code, ran.err) == (0, "")
    assert "Device" in json.loads(ran.out)["$defs"]


@pytest.mark.parametrize("words", [("schema", "x.yaml"), ("schema", "--virtual"), ("chekc",), ()])
def test_2_words_that_make_no_sense(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli("bench", *words)
    assert ran.code == 2
    assert ran.complaint
