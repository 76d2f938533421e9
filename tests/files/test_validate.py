"""pydantic's verdicts, told with lines and columns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from hilbridge.files.validate import MAX_SHOWN, FileModel, check, fault_at, read_model
from hilbridge.files.yaml12 import parse
from hilbridge.model.errors import ConfigError


class Line(FileModel):
    baudrate: Annotated[int, Field(ge=1)] = 115200
    parity: Literal["N", "E", "O"] = "N"
    stopbits: float = 1
    dtr: bool = True


class Virtual(FileModel):
    board: str


class Device(FileModel):
    match: dict[str, str] = Field(default_factory=dict)
    serial_number: str | None = None
    line: Line = Line()
    tags: Annotated[list[str], Field(max_length=2)] = Field(default_factory=list)
    virtual: str | Virtual | None = None

    @model_validator(mode="after")
    def _tags_are_unlike(self) -> Device:
        if len(set(self.tags)) < len(self.tags):
            raise fault_at(("tags", len(self.tags) - 1), "this tag is there already")
        return self


class Bench(FileModel):
    schema_: Literal[1] = Field(1, alias="schema")
    devices: dict[str, Device]


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(parse(text, "b.yaml"), Bench)
    return str(caught.value)


def device(text: str) -> str:
    """The message for one device, whose first line is line 3 of the file, column 5."""
    return message("devices:\n  board:\n" + "".join(f"    {line}\n" for line in text.splitlines()))


def test_a_good_file_becomes_a_model(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text("devices: {board: {line: {baudrate: 9600, stopbits: 2}, virtual: {board: x.yaml}}}\n")
    bench = read_model(file, Bench)
    assert bench.devices["board"].line == Line(baudrate=9600, stopbits=2)
    assert bench.devices["board"].virtual == Virtual(board="x.yaml")
    with pytest.raises(ValidationError):
        bench.devices["board"].line.baudrate = 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("line:\n  partiy: E", "4:7: devices.board.line.partiy: unknown key; did you mean 'parity'?"),
        ("lines: {}", "3:5: devices.board.lines: unknown key; did you mean 'line'?"),
        (
            "line: {flow: none}",
            "3:12: devices.board.line.flow: unknown key; known here: baudrate, parity, stopbits, dtr",
        ),
        ("line: {baudrate: fast}", "3:22: devices.board.line.baudrate: expected a whole number, found the text 'fast'"),
        (
            "line: {baudrate: '9600'}",
            "3:22: devices.board.line.baudrate: expected a whole number, found the text '9600'",
        ),
        ("line: {baudrate: 0}", "3:22: devices.board.line.baudrate: must be at least 1, found the number 0"),
        ("line: {stopbits: two}", "3:22: devices.board.line.stopbits: expected a number, found the text 'two'"),
        ("line: {dtr: on}", "3:17: devices.board.line.dtr: expected true or false, found the text 'on'; write true"),
        (
            "line: {dtr: 'Off'}",
            "3:17: devices.board.line.dtr: expected true or false, found the text 'Off'; write false",
        ),
        ("line: {dtr: 1}", "3:17: devices.board.line.dtr: expected true or false, found the number 1"),
        ("line: {parity: even}", "3:20: devices.board.line.parity: expected 'N', 'E' or 'O', found the text 'even'"),
        ("line: 9600", "3:11: devices.board.line: expected a mapping, found the number 9600"),
        ("line:", "3:10: devices.board.line: expected a mapping, found nothing"),
        (
            "serial_number: 00123",
            '3:20: devices.board.serial_number: expected text, found the number 00123; quote it: "00123"',
        ),
        (
            "serial_number: 1e5",
            '3:20: devices.board.serial_number: expected text, found the number 1e5; quote it: "1e5"',
        ),
        (
            "serial_number: false",
            '3:20: devices.board.serial_number: expected text, found the boolean false; quote it: "false"',
        ),
        ("match: {usb: 0403}", '3:18: devices.board.match.usb: expected text, found the number 0403; quote it: "0403"'),
        ("tags: lab", "3:11: devices.board.tags: expected a list, found the text 'lab'"),
        ("tags: [a, b, c]", "3:11: devices.board.tags: must have at most 2 entries, found 3"),
        ("tags: [a, [b]]", "3:15: devices.board.tags[1]: expected text, found a list"),
        ("tags: [a, a]", "3:15: devices.board.tags[1]: this tag is there already"),
    ],
)
def test_one_fault(text: str, told: str) -> None:
    assert device(text) == f"b.yaml:{told}"


def test_a_union_tells_of_the_member_that_was_meant() -> None:
    assert device("virtual: {borad: x.yaml, board: y.yaml}") == (
        "b.yaml:3:15: devices.board.virtual.borad: unknown key; did you mean 'board'?"
    )
    assert device("virtual: 5").splitlines() == [
        'b.yaml:3:14: devices.board.virtual: expected text, found the number 5; quote it: "5"',
        "b.yaml:3:14: devices.board.virtual: expected a mapping, found the number 5",
    ]


def test_all_faults_are_told_in_the_order_of_the_file() -> None:
    text = "line: {dtr: 3}\nserial_number: 7\nmatsch: {}\ntags:\n  - 1"
    assert device(text).splitlines() == [
        "b.yaml:3:17: devices.board.line.dtr: expected true or false, found the number 3",
        'b.yaml:4:20: devices.board.serial_number: expected text, found the number 7; quote it: "7"',
        "b.yaml:5:5: devices.board.matsch: unknown key; did you mean 'match'?",
        'b.yaml:7:9: devices.board.tags[0]: expected text, found the number 1; quote it: "1"',
    ]


def test_a_flood_of_faults_is_cut() -> None:
    text = "devices: {}\n" + "".join(f"key{number}: 1\n" for number in range(MAX_SHOWN + 5))
    lines = message(text).splitlines()
    assert len(lines) == MAX_SHOWN + 1
    assert lines[0] == "b.yaml:2:1: key0: unknown key; known here: schema, devices"
    assert lines[-1] == "b.yaml: and 5 more faults"


def test_faults_at_the_root() -> None:
    assert message("schema: 1\n") == "b.yaml:1:1: the key 'devices' is missing"
    assert message("\n\n- devices\n") == "b.yaml:3:1: expected a mapping (key: value), found a list"
    assert message("devices\n") == "b.yaml:1:1: expected a mapping (key: value), found the text 'devices'"
    assert message("devices: {}\n5: x\n") == 'b.yaml:2:1: a key must be text; quote it: "5"'
    assert message("devices: {}\nschema: '1'\n") == "b.yaml:2:9: schema: expected 1, found the text '1'"


def test_a_long_text_is_cut_in_the_message() -> None:
    told = device(f"tags: {'x' * 1000}")
    assert told.endswith("x...'")
    assert len(told) < 120
