"""A bench, as its file describes it: ``hilbridge.yaml``. Every key is explained in ``docs/reference/bench-file.md``.

The models here are the format. A bench file names programs that are run, so it is never taken from where somebody happens to
stand: it is named, or belongs to the project that one stands in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hilbridge.files import yaml12
from hilbridge.files.board import load_board
from hilbridge.files.recipes import Flash, Power, Reset
from hilbridge.files.validate import FileModel, check, fault_at
from hilbridge.files.words import dotted, quote
from hilbridge.model.errors import ConfigError, NameNotFound

FILE_NAME = "hilbridge.yaml"
VARIABLE = "HILBRIDGE_BENCH"
PROJECT_MARKS = (".git", "pyproject.toml")

Text = Annotated[str, Field(min_length=1, max_length=256)]

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_MONIKER = re.compile(r"\.{0,2}/.|(?:serial|virtual):.|(?:socket|rfc2217|spy)://.|loop://")
_NODE = re.compile(r"(serial:)?(\.{0,2}/.*)", re.DOTALL)


class Match(FileModel):
    """Which of the ports that are plugged in it is: everything that is given has to be equal."""

    usb: Annotated[str, Field(max_length=16)] | None = None
    serial_number: Text | None = None
    manufacturer: Text | None = None
    product: Text | None = None
    location: Text | None = None

    @field_validator("usb")
    @classmethod
    def _is_an_id(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", text):
            raise ValueError(f'must be vendor:product with four hexadecimal digits each, as "0403:6001": {quote(text)}')
        return text and text.lower()

    @model_validator(mode="after")
    def _says_something(self) -> Match:
        if not self.wanted():
            raise ValueError(f"needs at least one of {', '.join(type(self).model_fields)}")
        return self

    def wanted(self) -> dict[str, str]:
        """The keys that were given, with their values."""
        return self.model_dump(exclude_none=True)


class LineKeys(FileModel):
    """How the line is programmed, under pyserial's names; what is left out keeps its default."""

    baudrate: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)] = 115200
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Literal["N", "O", "E", "M", "S"] = "N"
    stopbits: float = 1
    xonxoff: bool = False
    rtscts: bool = False
    dsrdtr: bool = False

    @field_validator("stopbits")
    @classmethod
    def _is_one_of_three(cls, number: float) -> float:
        if number not in (1, 1.5, 2):
            raise ValueError(f"expected 1, 1.5 or 2, found the number {number:g}")
        return number


class ConsoleKeys(FileModel):
    """What `Handle.console` is to know of the board."""

    prompt: Text


class Twin(FileModel):
    """What stands in for the device with ``--virtual``: a scripted board, or a moniker that is no hardware."""

    board: Text | None = None
    at: Text | None = None

    @field_validator("at")
    @classmethod
    def _is_no_hardware(cls, moniker: str | None) -> str | None:
        kinds = ("virtual:", "socket://", "rfc2217://", "loop://", "/dev/pts/")
        if moniker is not None and not moniker.startswith(kinds):
            raise ValueError(f"{quote(moniker)} is hardware: a twin is virtual:, socket://, rfc2217:// or loop://")
        return moniker

    @model_validator(mode="after")
    def _is_one_thing(self) -> Twin:
        if (self.board is None) == (self.at is None):
            raise ValueError("needs either 'board' (a board file) or 'at' (a moniker)")
        return self


class Device(FileModel):
    """One device of the bench: where it is, how it is used, and its twin."""

    match: Match | None = None
    at: Text | None = None
    line: LineKeys = LineKeys()
    console: ConsoleKeys | None = None
    driver: Text | None = None
    filters: Annotated[list[Text], Field(max_length=16)] = Field(default_factory=list)
    reset: Reset | None = None
    power: Power | None = None
    flash: Flash | None = None
    virtual: Twin | None = None

    @field_validator("at")
    @classmethod
    def _is_a_moniker(cls, moniker: str | None) -> str | None:
        if moniker is not None:
            _check_moniker(moniker)
        return moniker

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Device:
        if self.match is None and self.at is None:
            raise ValueError("needs 'match' (what the port says of itself) or 'at' (a moniker)")
        if self.match is not None and self.at is not None:
            raise fault_at(("at",), "'match' and 'at' exclude each other", key=True)
        return self


class BenchFile(FileModel):
    """A whole bench file."""

    schema_: Literal[1] = Field(alias="schema")
    description: str = ""
    devices: Annotated[dict[str, Device], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _each_name_and_place_once(self) -> BenchFile:
        names: dict[str, str] = {}
        places: dict[object, str] = {}
        for name, device in self.devices.items():
            here = ("devices", name)
            if not _NAME.fullmatch(name):
                message = "a name is up to 64 letters, digits, '_', '.', '-', and begins with a letter or a digit"
                raise fault_at(here, message, key=True)
            first = names.setdefault(name.lower(), name)
            if first != name:
                raise fault_at(here, f"is the same name as {quote(first)}: case does not count in names", key=True)
            other = places.setdefault(_place(device), name)
            if other != name:
                where = "match" if device.match is not None else "at"
                raise fault_at((*here, where), f"is the same port as that of {quote(other)}")
        return self


def _check_moniker(moniker: str) -> None:
    if not _MONIKER.match(moniker):
        raise ValueError(f"{quote(moniker)} names no port: give /dev/NAME, serial:..., socket://... or virtual:NAME")


def _place(device: Device) -> object:
    """What is equal for two devices that cannot both be there. A virtual device there may be any number of."""
    if device.match is not None:
        return tuple(sorted(device.match.wanted().items()))
    moniker = device.at or ""
    if moniker.startswith(("virtual:", "loop://")):
        return object()
    scheme, colon, rest = moniker.partition(":")
    if colon and scheme == "serial":
        moniker = f"/dev/serial/{rest}" if rest.startswith(("by-id/", "by-path/")) else os.path.join("/dev", rest)  # noqa: PTH118
    return os.path.normpath(moniker) if moniker.startswith(("/", ".")) else moniker


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench file that has been read: what it says, and where each part of it stands."""

    path: Path
    """The file, absolute."""
    file: BenchFile
    _document: yaml12.Document

    @property
    def folder(self) -> Path:
        """Paths in the file are relative to it, and commands run in it."""
        return self.path.parent

    @property
    def devices(self) -> Mapping[str, Device]:
        """The devices by name, in the file's order."""
        return self.file.devices

    def moniker(self, name: str, *, virtual: bool = False) -> str | None:
        """The moniker of a device, or of its twin, with a relative path made absolute; None if it has none."""
        device = self.devices[name]
        given = device.at
        if virtual:
            given = device.virtual.at if device.virtual is not None else None
        node = _NODE.fullmatch(given or "")
        return given if node is None else f"{node[1] or ''}{self.resolve(node[2])}"

    def board(self, name: str) -> Path | None:
        """The board file that is a device's twin."""
        twin = self.devices[name].virtual
        return self.resolve(twin.board) if twin is not None and twin.board is not None else None

    def resolve(self, path: str) -> Path:
        """A path of the file."""
        return Path(os.path.normpath(self.folder / path))

    def where(self, *path: str | int, key: bool = False) -> str:
        """``file:line:column`` of the value at `path`, or of its key."""
        return self._document.where(path, key=key)

    def fault(self, message: str, *path: str | int, key: bool = False) -> ConfigError:
        """An error at a place of the file, to be raised."""
        return ConfigError(f"{self.where(*path, key=key)}: {dotted(path)}: {message}")


def load_bench(path: str | os.PathLike[str]) -> Bench:
    """Read a bench file and the boards that it names. Raises `ConfigError` with ``file:line:column``. Starts nothing."""
    document = yaml12.load(path)
    # Not resolved through links: "relative to the file" is relative to where its reader sees it.
    bench = Bench(Path(os.path.abspath(path)), check(document, BenchFile), document)  # noqa: PTH100
    for name in bench.devices:
        board = bench.board(name)
        if board is None:
            continue
        if not board.is_file():
            raise bench.fault(f"there is no file {board}; paths are relative to {bench.path.name}", *_twin_of(name))
        load_board(board)
    return bench


def _twin_of(name: str) -> tuple[str, ...]:
    return ("devices", name, "virtual", "board")


def find_bench(given: str | os.PathLike[str] | None = None, *, start: Path | None = None) -> Path:
    """The bench file to use: `given`, or ``HILBRIDGE_BENCH``, or ``hilbridge.yaml`` in the project that `start` is in.

    The project is the nearest directory upward with a ``.git`` or a ``pyproject.toml``; outside of one nothing is looked for.
    `start` is the current directory. Raises `NameNotFound`; a file that was named need not exist, `load_bench` will tell.
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        return Path(named)
    here = (start or Path.cwd()).absolute()
    searched = list(_up_to_the_root(here))
    how = f"name one, or set {VARIABLE}"
    if not searched:
        raise NameNotFound(f"no bench file: {here} is in no project ({' or '.join(PROJECT_MARKS)}); {how}")
    for folder in searched:
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise NameNotFound(f"no bench file: no {FILE_NAME} in {here} or upward to {searched[-1]}; {how}")


def _up_to_the_root(here: Path) -> Iterator[Path]:
    """The directories from `here` up to the root of its project; none outside of a project."""
    upward = [here, *here.parents]
    for index, folder in enumerate(upward):
        if any((folder / mark).exists() for mark in PROJECT_MARKS):
            return iter(upward[: index + 1])
    return iter(())


def bench_schema() -> dict[str, Any]:
    """The JSON Schema of a bench file, for editors. What it cannot express is checked by `load_bench` alone."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FILE_NAME,
        **{key: value for key, value in BenchFile.model_json_schema(by_alias=True).items() if key != "title"},
    }
