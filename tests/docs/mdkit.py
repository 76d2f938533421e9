"""Reading the documentation: its fenced blocks, its links, its tables; and running what it shows.

How a page says what is to be done with a block (readers see none of it):

* ```` ```python ```` is run. The blocks of a page are run in order and share their names, as in one long script.
* ```` ```python fragment ```` is only compiled. It may contain ``await`` and ``return``.
* ```` ```console ```` holds commands behind ``$``, and what they print. They are run too, in one shell for each block; a
  line ``...`` stands for any lines. ```` ```console fragment ```` is not run.
* A YAML block that is a fixture file (``kind: ...``) is read as one.

The line directly above a fence may be a comment:

* ``<!-- fixture: boards/demo -->``: the block finds this fixture at /dev/ttyUSB0 (its second port at /dev/ttyUSB1).
  With ``, reset when opened`` the board gets its power when the block has opened the port.
* ``<!-- prints -->``: what the block before it prints, to the letter.
* ``<!-- file: NAME -->``: the block is a file of that name beside the others, instead of being run.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hilbridge
from hilbridge.testing.fixture import RunningFixture, start_fixture

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"
PAGES = (TOP / "README.md", *sorted(DOCS.rglob("*.md")))
PORTS = ("/dev/ttyUSB0", "/dev/ttyUSB1")
COMMAND_SECONDS = 60.0

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->")
_FENCE = re.compile(r"(\s*)(`{3,})(.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """Of its fence, from 1."""
    language: str
    fragment: bool
    comment: str
    """The text of the comment above it, or ""."""
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(TOP)}:{self.line}"

    def asked(self, what: str) -> str | None:
        """``boards/demo`` for a block whose comment says ``fixture: boards/demo``, if `what` is ``fixture``."""
        key, colon, value = self.comment.partition(":")
        return value.strip() if colon and key == what else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order. A fence that is indented, odd or never closed is an error."""
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    at, above = 0, ""
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        if fence is None:
            comment = _COMMENT.fullmatch(lines[at])
            above = comment[1] if comment else above if not lines[at] else ""
            at += 1
            continue
        where = f"{page}:{at + 1}"
        assert not fence[1], f"{where}: an indented fence is hard to read and to check: put it at the margin"
        words = fence[3].split()
        assert set(words[1:]) <= {"fragment"}, f"{where}: what is {words[1:]}?"
        end = lines.index(fence[2], at + 1)
        text = "\n".join(lines[at + 1 : end]) + "\n"
        found.append(Block(page, at + 1, words[0] if words else "", "fragment" in words, above, text))
        at, above = end + 1, ""
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks, with as many lines."""
    inside, kept = False, []
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = _FENCE.fullmatch(line) is not None
        kept.append("" if inside or fence else line)
        inside ^= fence
    return "\n".join(kept)


def tables(page: Path) -> list[list[list[str]]]:
    """Every table of a page: rows of cells, the heading first."""
    return tables_in(prose(page))


def tables_in(text: str) -> list[list[list[str]]]:
    """The same for text without fenced blocks."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found[-1].append(cells)
    return [rows for rows in found if rows]


def table(page: Path, first_heading: str) -> list[list[str]]:
    """The rows of the one table of a page whose first column is called so, without the heading."""
    found = [rows for rows in tables(page) if rows[0][0] == first_heading]
    assert len(found) == 1, f"{page.name} has {len(found)} tables that begin with {first_heading!r}"
    return found[0][1:]


def section(page: Path, title: str) -> str:
    """What stands under a heading of the second level, without fenced blocks."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", prose(page), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page.name} has no heading {title!r}"
    return found[1]


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


# --------------------------------------------------------------------------------------------------------- running it


@contextlib.contextmanager
def serving(block: Block, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningFixture | None]:
    """The fixture that a block asks for."""
    wanted = block.asked("fixture")
    if wanted is None:
        assert not any(port in block.text for port in PORTS), f"{block.where} opens a port: which fixture is there?"
        yield None
        return
    name, _, how = wanted.partition(", ")
    assert how in ("", "reset when opened"), f"{block.where}: {how!r}?"
    with start_fixture(name, held=bool(how)) as fixture, monkeypatch.context() as patch:
        if how:
            really_open = hilbridge.open

            def open_and_reset(*args: Any, **settings: Any) -> hilbridge.Handle:
                handle = really_open(*args, **settings)
                fixture.reset()
                return handle

            patch.setattr(hilbridge, "open", open_and_reset)
        yield fixture


def with_ports(text: str, fixture: RunningFixture | None) -> str:
    """What the reader sees as a port becomes the fixture's."""
    for name, port in zip(PORTS, fixture.ports if fixture is not None else (), strict=False):
        text = text.replace(name, port)
    return text


def without_ports(text: str, fixture: RunningFixture | None) -> str:
    """And back."""
    for name, port in zip(PORTS, fixture.ports if fixture is not None else (), strict=False):
        text = text.replace(port, name)
    return text


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run everything on a page that runs, in the empty directory `folder`; returns how many blocks that were."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    names: dict[str, Any] = {"__name__": "page"}
    shown: str | None = None
    ran = 0
    try:
        for block in blocks(page):
            if (file := block.asked("file")) is not None:
                (folder / file).write_text(block.text, encoding="utf-8")
            elif block.comment == "prints":
                assert shown is not None, f"{block.where}: nothing was run that could have printed this"
                assert shown == block.text, f"{block.where} shows something else than is printed:\n{shown}"
                shown = None
            elif block.language in ("python", "console") and not block.fragment:
                assert not shown, f"{block.where}: the block before it prints something: {shown!r}"
                with serving(block, monkeypatch) as fixture:
                    if block.language == "console":
                        run_console(block, fixture, folder)
                        shown = None
                    else:
                        shown = without_ports(run_python(block, fixture, names), fixture)
                ran += 1
        assert not shown, f"{page}: the last block prints something: {shown!r}"
    finally:
        names.clear()
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
    return ran


def run_python(block: Block, fixture: RunningFixture | None, names: dict[str, Any]) -> str:
    """Run a block; returns what it prints."""
    # The empty lines in front make the line numbers of a traceback those of the page.
    source = "\n" * block.line + with_ports(block.text, fixture)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(source, str(block.page), "exec"), names)
    return output.getvalue()


def check_syntax(block: Block) -> None:
    """Compile a fragment. It may stand for a part of a coroutine, or of a function."""
    ast.parse("async def _() -> None:\n" + textwrap.indent(block.text, "    "), f"{block.where}")


def run_console(block: Block, fixture: RunningFixture | None, folder: Path) -> None:
    """Run the commands of a block, and compare what they print, on stdout or stderr."""
    lines = block.text.splitlines()
    commands = [line[2:] for line in lines if line.startswith("$ ")]
    assert commands, f"{block.where}: no line begins with $"
    script = "exec 2>&1\n" + "".join(f"echo {_quote('$ ' + command)}\n{command}\n" for command in commands)
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    done = subprocess.run(
        ["bash", "-c", with_ports(script, fixture)],
        cwd=folder,
        env={**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    printed = without_ports(done.stdout.decode(), fixture)
    assert not done.stderr, done.stderr.decode()
    pattern = re.escape(block.text).replace(re.escape("...\n"), r"(?:.*\n)*?")
    assert re.fullmatch(pattern, printed), f"{block.where} shows something else than is printed:\n{printed}"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
