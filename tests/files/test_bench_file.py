"""Bench files: what a broken one is told, and what a good one says. The corpus is in ``broken_benches/``."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from hilbridge.bridge.benchports import look
from hilbridge.files.bench import BenchFile, bench_schema, load_bench
from hilbridge.files.recipes import fill, placeholders
from hilbridge.files.yaml12 import MAX_SIZE
from hilbridge.model.errors import ConfigError
from tests.files.benchkit import CORPUS, FOLDER, bench_file

WHOLE = """\
schema: 1
description: the bench by the window
devices:
  board:
    match: {usb: "0403:6001", serial_number: "A50285BI"}
    line: {baudrate: 9600, parity: E, stopbits: 1.5, xonxoff: true}
    console: {prompt: "=> "}
    reset: {pulse: dtr, ms: 50}
    power: {run: [uhubctl, -l, "1-1", -p, "2", -a, "{state}"], timeout: 5}
    flash: {run: [./tools/flash, --port, "{node}", "0", "{image}", '{"a": {}}']}
    filters: [counter]
    driver: serial
    virtual: {board: boards/uboot.yaml}
  probe:
    at: ./links/probe
    reset: {run: [switch, "{name}"]}
    virtual: {at: "virtual:loop"}
"""
BOARD = "schema: 1\nkind: board\nbanner:\n  - text: hello\n"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    bench_file(tmp_path / "boards", BOARD, "uboot.yaml")
    return bench_file(tmp_path, WHOLE)


# ------------------------------------------------------------------------------------------------------ broken files


def test_the_table_and_the_folder_agree() -> None:
    assert sorted(CORPUS) == sorted(file.stem for file in FOLDER.iterdir())
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("name", CORPUS)
def test_a_broken_bench_file_is_told_where_and_what(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    with pytest.raises(ConfigError) as caught:
        look(load_bench(f"{name}.yaml"), virtual=True)
    lines = str(caught.value).splitlines()
    assert lines == CORPUS[name]
    for line in lines:
        assert re.match(r"\S+\.yaml:\d+:\d+: \S", line)
        assert re.match(rf"{name}\.yaml|{re.escape(str(FOLDER.parent))}/broken/", line)
    assert caught.value.exit_code == 3


def test_the_frame_of_the_broken_files_is_good(tmp_path: Path) -> None:
    """The corpus would be worth little if its files failed for another reason."""
    for name, wrong, right in [
        ("unknown_key", "lin:", "line:"),
        ("run_holds_a_number", " 2,", ' "2",'),
        ("two_on_one_port", "serial:ttyUSB0", "serial:ttyUSB1"),
        ("device_twice_but_for_case", "BOARD", "BOARD2"),
    ]:
        text = (FOLDER / f"{name}.yaml").read_text()
        assert wrong in text
        assert "board" in load_bench(bench_file(tmp_path, text.replace(wrong, right))).devices


def test_what_python_was_asked_to_run_was_not_run() -> None:
    assert not Path("/tmp/hilbridge-was-here").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file or directory; check the name"),
        (lambda path: path.mkdir(), "it is a directory"),
        (os.mkfifo, "it is no plain file"),
        (lambda path: path.write_bytes(b"#" * (MAX_SIZE + 1)), f"larger than {MAX_SIZE} bytes"),
    ],
    ids=["missing", "a directory", "a FIFO", "huge"],
)
def test_what_is_no_bench_file_at_all(tmp_path: Path, make: object, said: str) -> None:
    path = tmp_path / "hilbridge.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load_bench(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_twin_that_is_broken_is_found_without_virtual(tmp_path: Path, whole: Path) -> None:
    bench_file(tmp_path / "boards", BOARD.replace("banner", "baner"), "uboot.yaml")
    with pytest.raises(ConfigError, match=r"uboot\.yaml:3:1: baner: unknown key; did you mean 'banner'\?"):
        load_bench(whole)


# -------------------------------------------------------------------------------------------------------- good files


def test_a_whole_file(whole: Path) -> None:
    bench = load_bench(whole)
    assert list(bench.devices) == ["board", "probe"]
    board, probe = bench.devices["board"], bench.devices["probe"]
    assert board.match is not None and board.match.wanted() == {"usb": "0403:6001", "serial_number": "A50285BI"}
    assert board.line.model_dump(exclude_unset=True) == {
        "baudrate": 9600, "parity": "E", "stopbits": 1.5, "xonxoff": True,
    }  # fmt: skip
    assert board.console is not None and board.console.prompt == "=> "
    assert board.reset is not None and (board.reset.pulse, board.reset.ms, board.reset.run) == ("dtr", 50, None)
    assert board.power is not None and board.power.timeout == 5
    assert board.flash is not None and board.flash.timeout == 300
    assert (board.filters, board.driver) == (["counter"], "serial")
    assert probe.reset is not None and (probe.reset.run, probe.reset.timeout) == (["switch", "{name}"], 30)
    assert (probe.match, probe.console, probe.power, probe.filters) == (None, None, None, [])


def test_paths_are_relative_to_the_file(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    bench = load_bench("../hilbridge.yaml")
    assert bench.path == whole
    assert bench.folder == tmp_path
    assert bench.board("board") == tmp_path / "boards" / "uboot.yaml"
    assert bench.board("probe") is None
    assert bench.moniker("probe") == f"{tmp_path}/links/probe"
    assert bench.moniker("probe", virtual=True) == "virtual:loop"
    assert bench.moniker("board") is None
    assert bench.moniker("board", virtual=True) is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
        ("serial:/dev/ttyUSB0", "serial:/dev/ttyUSB0"),
        ("serial:../ttyX", "serial:{parent}/ttyX"),
        ("../ttyX", "{parent}/ttyX"),
        ("serial:by-id/usb-1", "serial:by-id/usb-1"),
        ("serial:ttyUSB0", "serial:ttyUSB0"),
        ("socket://localhost:4000", "socket://localhost:4000"),
        ("virtual:null", "virtual:null"),
        ("loop://", "loop://"),
    ],
)
def test_monikers(tmp_path: Path, written: str, meant: str) -> None:
    bench = load_bench(bench_file(tmp_path, f'schema: 1\ndevices:\n  board: {{at: "{written}"}}\n'))
    assert bench.moniker("board") == meant.format(parent=tmp_path.parent)


def test_virtual_devices_are_never_the_same_one(tmp_path: Path) -> None:
    text = "schema: 1\ndevices:\n  a: {at: virtual:loop}\n  b: {at: virtual:loop}\n"
    assert len(load_bench(bench_file(tmp_path, text)).devices) == 2


def test_where_a_part_of_it_stands(whole: Path) -> None:
    bench = load_bench(whole)
    assert bench.where("devices", "probe", key=True) == f"{whole}:14:3"
    assert bench.where("devices", "board", "line", "parity") == f"{whole}:6:36"
    fault = bench.fault("is wrong", "devices", "board", "filters", 0)
    assert str(fault) == f"{whole}:11:15: devices.board.filters[0]: is wrong"


# ----------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("word", "used", "filled"),
    [
        ("plain", [], "plain"),
        ("{node}", ["node"], "/dev/ttyUSB0"),
        ("port={node},{name}", ["node", "name"], "port=/dev/ttyUSB0,board"),
        ("{{node}}", [], "{node}"),
        ('{"a": {}, "b": { node }}', [], '{"a": {}, "b": { node }}'),
        ("{1}", [], "{1}"),
    ],
)
def test_placeholders(word: str, used: list[str], filled: str) -> None:
    assert list(placeholders(word)) == used
    assert fill([word], {"node": "/dev/ttyUSB0", "name": "board"}) == [filled]


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert fill(["{node}", "{name}"], {"node": "{name}", "name": "a b; rm"}) == ["{name}", "a b; rm"]


# ------------------------------------------------------------------------------------------------------- JSON Schema


def test_the_schema_knows_every_key_and_refuses_others() -> None:
    schema = json.loads(json.dumps(bench_schema()))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["required"] == ["schema", "devices"]
    models = {"BenchFile": schema, **schema["$defs"]}
    assert len(models) == 9
    for model in models.values():
        assert model["additionalProperties"] is False
    assert set(schema["properties"]) == {field.alias or name for name, field in BenchFile.model_fields.items()}
    assert {"match", "at", "line", "console", "reset", "power", "flash", "virtual"} < set(
        models["Device"]["properties"]
    )
    assert schema["properties"]["schema"]["const"] == 1
