"""Recipes of a bench file: how a board is reset, powered and flashed. They are kept as data here; nothing is run.

A command is a list of words and never goes through a shell. In each word ``{node}`` and its like are filled in; ``{{node}}``
is ``{node}`` itself. All other braces are plain text, so that JSON needs no care.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hilbridge.files.validate import FileModel, fault_at
from hilbridge.files.words import unknown

Seconds = Annotated[float, Field(gt=0, le=3600)]
Milliseconds = Annotated[int, Field(ge=1, le=60_000)]
Words = Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=256)]

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


def placeholders(word: str) -> Iterator[str]:
    """The name of each placeholder in a word of a command."""
    return (use[2] for use in _PLACEHOLDER.finditer(word) if use[2] is not None)


def fill(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The words of a command with `values` filled in, by the names of the placeholders."""
    return [
        _PLACEHOLDER.sub(lambda use: values[use[2]] if use[2] is not None else f"{{{use[1]}}}", word) for word in words
    ]


class Reset(FileModel):
    """How to reset a board: pulse a modem line (or a break) of its own port, or run a command."""

    VALUES: ClassVar[tuple[str, ...]] = ("node", "name")
    pulse: Literal["dtr", "rts", "break"] | None = None
    ms: Milliseconds = 100
    run: Words | None = None
    timeout: Seconds = 30.0

    @model_validator(mode="after")
    def _fits_together(self) -> Reset:
        if (self.pulse is None) == (self.run is None):
            raise ValueError("needs either 'pulse' (dtr, rts or break) or 'run' (a command)")
        if self.run is None and "timeout" in self.model_fields_set:
            raise fault_at(("timeout",), "belongs to 'run'; a pulse takes 'ms'", key=True)
        if self.pulse is None and "ms" in self.model_fields_set:
            raise fault_at(("ms",), "belongs to 'pulse'; a command has 'timeout', in seconds", key=True)
        _check_words(self.run or [], self.VALUES)
        return self


class Power(FileModel):
    """How to switch a board on and off: a command that is told ``on`` or ``off`` in place of ``{state}``."""

    VALUES: ClassVar[tuple[str, ...]] = ("state", "node", "name")
    run: Words
    timeout: Seconds = 30.0

    @model_validator(mode="after")
    def _says_which(self) -> Power:
        _check_words(self.run, self.VALUES, needed="state")
        return self


class Flash(FileModel):
    """How to write an image onto a board: a command that is told its path in place of ``{image}``."""

    VALUES: ClassVar[tuple[str, ...]] = ("image", "node", "name")
    run: Words
    timeout: Seconds = 300.0

    @model_validator(mode="after")
    def _says_what(self) -> Flash:
        _check_words(self.run, self.VALUES, needed="image")
        return self


def _check_words(words: Sequence[str], known: Sequence[str], needed: str | None = None) -> None:
    """Raise for the first word that cannot be run, and for a command that leaves out what it is about."""
    used = set()
    for at, word in enumerate(words):
        if "\0" in word:
            raise fault_at(("run", at), "a word of a command cannot hold the character U+0000")
        for name in placeholders(word):
            if name not in known:
                raise fault_at(("run", at), f"{{{name}}}: {unknown(name, known, 'placeholder')}")
            used.add(name)
    if words and not words[0].strip():
        raise fault_at(("run", 0), "the name of the program is empty")
    if needed is not None and needed not in used:
        raise fault_at(("run",), f"the command never uses {{{needed}}}")
