"""A scripted board, as its file describes it. Every key is explained in ``loopback_fixtures/boards/template.yaml``.

The models here are the format; `hilbridge.testing.board` plays them.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hilbridge.files.answers import groups_used
from hilbridge.files.validate import FileModel, check, fault_at
from hilbridge.files.words import quote
from hilbridge.files.yaml12 import Document, load

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class Part(FileModel):
    """A piece of what a board says by itself: it waits `after_ms`, then sends `text`."""

    after_ms: Milliseconds = 0
    text: str = ""


class Newline(FileModel):
    """Which bytes end a line that the board receives, and which bytes it sends for a line's end."""

    input: Literal["any", "cr", "lf"] = "any"
    output: Literal["crlf", "lf", "cr"] = "crlf"


class Autoboot(FileModel):
    """The countdown between the banner and the prompt, as U-Boot has it: a key stops it, otherwise the board boots."""

    text: str = "Hit any key to stop autoboot: "
    count: Annotated[int, Field(ge=0, le=99)] = 2
    tick_ms: Annotated[int, Field(ge=1, le=60_000)] = 1000
    stop_key: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    boot: list[Part] = Field(default_factory=list)
    then: Literal["silent", "prompt", "reset"] = "silent"

    @field_validator("stop_key")
    @classmethod
    def _is_one_byte(cls, key: str | None) -> str | None:
        if key is not None and not key.isascii():
            raise ValueError("must be an ASCII character")
        return key

    @model_validator(mode="after")
    def _boots_take_time(self) -> Autoboot:
        if self.then == "reset" and self.count == 0 and not any(part.after_ms for part in self.boot):
            raise fault_at(("then",), "this board would boot for ever without a pause; give it a count or an after_ms")
        return self


class Command(FileModel):
    """One thing that the board understands, and what it does then."""

    command: str | None = None
    match: str | None = None
    answer: str | None = None
    lines: list[str] | None = None
    delay_ms: Milliseconds = 0
    reset: bool = False

    @field_validator("command")
    @classmethod
    def _is_one_line(cls, text: str | None) -> str | None:
        if text is not None and (not text.strip() or text != text.strip() or "\n" in text or "\r" in text):
            raise ValueError("must be one line that is not empty, without blanks at its ends")
        return text

    @field_validator("match")
    @classmethod
    def _is_regex(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _fits_together(self) -> Command:
        if self.command is None and self.match is None:
            raise ValueError("needs 'command' (exact text) or 'match' (a regular expression)")
        if self.command is not None and self.match is not None:
            raise fault_at(("match",), "'command' and 'match' exclude each other")
        if self.answer is not None and self.lines is not None:
            raise fault_at(("lines",), "'answer' and 'lines' exclude each other")
        groups = re.compile(self.match).groups if self.match is not None else 0
        texts: list[tuple[tuple[str | int, ...], str]] = [(("answer",), self.answer or "")]
        texts += [(("lines", index), line) for index, line in enumerate(self.lines or [])]
        for path, text in texts:
            for number in groups_used(text):
                if number > groups:
                    has = f"'match' has {groups} group(s)" if self.match is not None else "a 'command' has no groups"
                    raise fault_at(path, f"uses {{{number}}}, but {has}")
        return self


class Board(FileModel):
    """A whole board file."""

    schema_: Literal[1] = Field(alias="schema")
    kind: Literal["board"]
    description: str = ""
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    newline: Newline = Newline()
    banner: list[Part] = Field(default_factory=list)
    autoboot: Autoboot | None = None
    prompt: str = ""
    echo: bool = True
    commands: list[Command] = Field(default_factory=list)
    unknown: str = "Unknown command '{0}'\n"

    @field_validator("unknown")
    @classmethod
    def _has_no_groups(cls, text: str) -> str:
        for number in groups_used(text):
            if number > 0:
                raise ValueError(f"uses {{{number}}}, but only {{0}}, the whole line, is known here")
        return text

    @model_validator(mode="after")
    def _each_command_once(self) -> Board:
        first: dict[str, int] = {}
        for index, entry in enumerate(self.commands):
            if entry.command is None:
                continue
            if entry.command in first:
                message = f"{quote(entry.command)} is already commands[{first[entry.command]}], which would always win"
                raise fault_at(("commands", index, "command"), message)
            first[entry.command] = index
        return self

    @model_validator(mode="after")
    def _can_be_sent(self) -> Board:
        for path, text in self._texts():
            try:
                text.encode(self.encoding)
            except UnicodeEncodeError as error:
                raise fault_at(path, f"{text[error.start]!a} cannot be sent as {self.encoding}") from None
        return self

    def _texts(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Every text that the board sends, with its place in the file."""
        texts: list[tuple[tuple[str | int, ...], str]] = [(("prompt",), self.prompt), (("unknown",), self.unknown)]
        texts += [(("banner", index, "text"), part.text) for index, part in enumerate(self.banner)]
        if self.autoboot is not None:
            texts.append((("autoboot", "text"), self.autoboot.text))
            texts += [(("autoboot", "boot", index, "text"), part.text) for index, part in enumerate(self.autoboot.boot)]
        for index, entry in enumerate(self.commands):
            texts.append((("commands", index, "answer"), entry.answer or ""))
            texts += [(("commands", index, "lines", at), line) for at, line in enumerate(entry.lines or [])]
        return texts


def load_board(path: str | os.PathLike[str]) -> Board:
    """Read a board file. Raises `ConfigError` with ``file:line:column``, one line for each fault."""
    return board_of(load(path))


def board_of(document: Document) -> Board:
    """The board that a file describes which has been read already. Raises `ConfigError` as `load_board` does."""
    return check(document, Board)
