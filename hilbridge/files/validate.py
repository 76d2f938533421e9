"""Files checked against pydantic models, and pydantic's verdicts told with the file's own lines and columns.

A model of a file derives from `FileModel`: strict (``"5"`` is no number), and a key that it does not know is an error.
Every fault is one line, in the order of the file::

    boards/widget.yaml:7:3: banner.txet: unknown key; did you mean 'text'?
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from hilbridge.files import yaml12
from hilbridge.files.words import describe, dotted, unknown
from hilbridge.files.yaml12 import Document, Path
from hilbridge.model.errors import ConfigError

MAX_SHOWN = 20
"""Faults in one message; a file in the wrong format has a fault per line."""


class FileModel(BaseModel):
    """Base of every model of a file: strict, closed to unknown keys, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=FileModel)

_PLACED = "placed"

# pydantic's error types for "wrong type", and what each wanted.
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
}

# The words that YAML 1.1 took for booleans; in YAML 1.2 they are text.
_YAML_1_1_BOOLEANS = {"on": "true", "yes": "true", "y": "true", "off": "false", "no": "false", "n": "false"}

# pydantic's error types for a value out of its bounds: the context's key for the bound, and the words.
_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least {}"),
    "greater_than": ("gt", "must be more than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "less_than": ("lt", "must be less than {}"),
    "string_too_short": ("min_length", "must have at least {} character(s)"),
    "string_too_long": ("max_length", "must have at most {} character(s)"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
    "string_pattern_mismatch": ("pattern", "must match {}"),
}


def fault_at(path: Path, message: str, *, key: bool = False) -> PydanticCustomError:
    """What a model's own validator raises for a fault deeper inside: `path` is relative to the validated value.

    With `key` it is the key that is wrong, and not what stands behind it.
    """
    return PydanticCustomError(_PLACED, "{message}", {"message": message, "path": path, "key": key})


def read_model(path: str | os.PathLike[str], model: type[Model]) -> Model:
    """Read the YAML file at `path` as a `model`. Raises `ConfigError`: one line for each fault, in the file's order."""
    return check(yaml12.load(path), model)


def check(document: Document, model: type[Model]) -> Model:
    """Check a document that has been read already. Raises `ConfigError` as `read_model` does."""
    if not isinstance(document.value, dict):
        raise ConfigError(f"{document.where(())}: expected a mapping (key: value), found {describe(document.value)}")
    try:
        return model.model_validate(document.value)
    except ValidationError as invalid:
        raise ConfigError(_tell(document, model, invalid)) from None


def _tell(document: Document, model: type[FileModel], invalid: ValidationError) -> str:
    faults = [_Fault(document, model, details) for details in invalid.errors(include_url=False)]
    lines: dict[str, tuple[int, int]] = {}
    for fault in faults:
        # A union reports the failure of each of its members. The member that got deepest is the one that was meant.
        if not any(other.inside(fault) for other in faults):
            lines.setdefault(fault.line(), fault.position)
    ordered = sorted(lines, key=lines.__getitem__)
    if len(ordered) > MAX_SHOWN:
        ordered[MAX_SHOWN:] = [f"{document.name}: and {len(ordered) - MAX_SHOWN} more faults"]
    return "\n".join(ordered)


class _Fault:
    """One of pydantic's errors, found again in the document."""

    def __init__(self, document: Document, model: type[FileModel], details: ErrorDetails) -> None:
        self._document = document
        self._model = model
        self._type = details["type"]
        self._context: Mapping[str, Any] = details.get("ctx", {})
        self._message = details["msg"]
        self._path, self._value = _locate(document.value, details["loc"])
        self._is_key = self._type in ("extra_forbidden", "invalid_key")
        self._missing = str(details["loc"][-1]) if self._type == "missing" else ""
        if details["loc"] and details["loc"][-1] == "[key]":  # pydantic's word for the key of a mapping
            self._type, self._is_key = "invalid_key", True
        if self._type == _PLACED:
            self._path, self._value = _locate(document.value, (*self._path, *self._context["path"]))
            self._is_key = bool(self._context["key"])
        self.position = document.position(self._path, key=self._is_key)

    def inside(self, other: _Fault) -> bool:
        """Whether this fault lies deeper in the same part of the file than `other`, a wrong type."""
        depth = len(other._path)
        return other._type in _EXPECTED and len(self._path) > depth and self._path[:depth] == other._path

    def line(self) -> str:
        where = self._document.where(self._path, key=self._is_key)
        subject = dotted(self._path[:-1] if self._type == "invalid_key" else self._path)
        return f"{where}: {subject}: {self._what()}" if subject else f"{where}: {self._what()}"

    def _what(self) -> str:
        kind = self._type
        found = describe(self._value, self._document.source(self._path))
        if kind == "extra_forbidden":
            return unknown(str(self._path[-1]), _keys_at(self._model, self._path[:-1]))
        if kind == "invalid_key":
            return f'a key must be text; quote it: "{self._path[-1]}"'
        if kind == "missing":
            return f"the key '{self._missing}' is missing"
        if kind in _EXPECTED:
            return f"expected {_EXPECTED[kind]}, found {found}{self._instead()}"
        if kind == "literal_error":
            expected = f"expected {self._context['expected']}, found {found}"
            return expected + (self._instead() if "'" in self._context["expected"] else "")
        if kind in _BOUNDS:
            key, words = _BOUNDS[kind]
            bound = self._context[key]
            if "entries" in words and isinstance(self._value, list | dict):
                found = str(len(self._value))
            return f"{words.format(f'{bound:g}' if isinstance(bound, float) else bound)}, found {found}"
        if kind == "finite_number":
            return f"must be a finite number, found {found}"
        if kind == _PLACED:
            return str(self._context["message"])
        if kind == "value_error":
            return str(self._context["error"])
        return f"{self._message}, found {found}"

    def _instead(self) -> str:
        """What to write instead, where YAML read a bare word as something else than was meant."""
        source = self._document.source(self._path)
        if self._type == "string_type" and isinstance(self._value, dict) and list(self._value.values()) == [None]:
            return f'; quote it: "{{{next(iter(self._value))}}}"'  # {state} is a mapping to YAML
        bare = isinstance(self._value, bool | int | float)
        if self._type == "bool_type" and isinstance(self._value, str) and self._value.lower() in _YAML_1_1_BOOLEANS:
            return f"; write {_YAML_1_1_BOOLEANS[self._value.lower()]}"
        if self._type not in ("string_type", "literal_error") or not bare or source is None:
            return ""
        return f'; quote it: "{source}"'


def _locate(value: object, location: Iterable[str | int]) -> tuple[Path, object]:
    """The path of `location` in the file's data: without the names of union members, which pydantic mixes in."""
    path: Path = ()
    for step in location:
        in_mapping = isinstance(value, dict) and step in value
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_mapping or in_list:
            value = value[step]  # type: ignore[index]  # mypy does not follow the two names
            path = (*path, step)
    return path, value


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the file may have at `path`, in the model's order."""
    types: list[object] = [model]
    for step in path:
        types = [inner for outer in types for inner in _inside(outer, step)]
    return list(dict.fromkeys(name for found in types for name, _ in _fields(found)))


def _inside(outer: object, step: str | int) -> list[object]:
    """What stands at `step` of a model, ``list[X]`` or ``dict[str, X]``: its types, one for each member of a union."""
    for name, annotation in _fields(outer):
        if name == step:
            return _members(annotation)
    if get_origin(outer) in (list, dict):
        return _members(get_args(outer)[-1])
    return []


def _members(annotation: object) -> list[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [found for member in get_args(annotation) for found in _members(member)]
    return [annotation]


def _fields(found: object) -> list[tuple[str, object]]:
    """A model's keys, as the file spells them, with their types."""
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        return []
    return [(field.alias or name, field.annotation) for name, field in found.model_fields.items()]
