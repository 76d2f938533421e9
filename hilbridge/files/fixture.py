"""Fixture files: what stands in for hardware. Which kind a file describes, and where the shipped ones are.

This module does without pydantic: a pty echo has two keys, and its process should be up before pydantic is imported.
Only ``kind: board`` goes through the models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from hilbridge.files.locate import data_dir
from hilbridge.files.words import describe, unknown
from hilbridge.files.yaml12 import Document, load
from hilbridge.model.errors import ConfigError, NameNotFound

if TYPE_CHECKING:
    from hilbridge.files.board import Board

MAX_BYTES = 256 << 20
"""The most that a source makes at one go: it holds the data in memory, so that making them is not measured."""


@dataclass(frozen=True, slots=True)
class Echo:
    """A pty that sends everything back."""

    description: str = ""


@dataclass(frozen=True, slots=True)
class NullModem:
    """Two ptys, wired crosswise by socat."""

    description: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A pty that sends `bytes` bytes, in lines of `line_length` bytes (0: no lines), each time it is told to."""

    description: str = ""
    bytes: int = 1_000_000
    line_length: int = 64


Fixture = Echo | NullModem | Source

_KINDS: dict[str, type[Fixture]] = {"echo": Echo, "null-modem": NullModem, "source": Source}
KINDS = ("board", *_KINDS)

_LIMITS = {"bytes": (1, MAX_BYTES), "line_length": (0, 65536)}


def load_fixture(path: str | os.PathLike[str]) -> Fixture | Board:
    """Read a fixture file of any kind. Raises `ConfigError` with ``file:line:column``."""
    document = load(path)
    value = document.value
    if not isinstance(value, dict):
        raise ConfigError(f"{document.where(())}: expected a mapping (key: value), found {describe(value)}")
    kind = value.get("kind")
    if kind == "board":
        from hilbridge.files.board import board_of

        return board_of(document)
    known = _KINDS.get(kind) if isinstance(kind, str) else None
    if known is None:
        expected = f"expected one of {', '.join(KINDS)}"
        found = f", found {describe(kind, document.source(('kind',)))}" if "kind" in value else ""
        raise ConfigError(f"{document.where(('kind',))}: kind: {expected}{found}")
    return _simple(document, known)


def _simple(document: Document, kind: type[Fixture]) -> Fixture:
    """Check a flat mapping against a dataclass's fields: texts and bounded whole numbers."""
    names = [field.name for field in fields(kind)]
    given: dict[str, str | int] = {}
    for key, value in document.value.items():
        if key == "schema":
            if value != 1 or isinstance(value, bool):
                raise _fault(document, key, f"expected 1, found {describe(value, document.source((key,)))}")
        elif key in names:
            given[key] = _checked(document, key, value)
        elif key != "kind":
            what = unknown(str(key), ["schema", "kind", *names])
            raise ConfigError(f"{document.where((key,), key=True)}: {key}: {what}")
    if "schema" not in document.value:
        raise ConfigError(f"{document.where(())}: the key 'schema' is missing")
    return kind(**given)  # type: ignore[arg-type]  # _checked() gave each field its type


def _checked(document: Document, key: str, value: object) -> str | int:
    found = describe(value, document.source((key,)))
    if key not in _LIMITS:
        if not isinstance(value, str):
            raise _fault(document, key, f"expected text, found {found}")
        return value
    low, high = _LIMITS[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise _fault(document, key, f"expected a whole number, found {found}")
    if not low <= value <= high:
        raise _fault(document, key, f"must be at least {low} and at most {high}, found {found}")
    return value


def _fault(document: Document, key: str, message: str) -> ConfigError:
    return ConfigError(f"{document.where((key,))}: {key}: {message}")


def find_fixture(name: str) -> Path:
    """The file that `name` means: a path, or a shipped fixture (``echo``, ``null_modem``, ``boards/demo``, ``demo``).

    What ends in ``.yaml`` or ``.yml``, or names an existing file, is a path. Raises `NameNotFound`.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    folder = data_dir("loopback_fixtures")
    shipped = {found.relative_to(folder).with_suffix("").as_posix(): found for found in sorted(folder.rglob("*.yaml"))}
    wanted = name.replace("-", "_")
    found = shipped.get(wanted) or shipped.get(f"boards/{wanted}")
    if found is None:
        hint = unknown(wanted, shipped, "fixture")
        stop = "" if hint.endswith("?") else "."
        raise NameNotFound(f"{name}: {hint}{stop} A file of your own is named with its .yaml")
    return found
