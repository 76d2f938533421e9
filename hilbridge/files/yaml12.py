"""YAML 1.2's core schema, with the line and column of every node.

PyYAML implements YAML 1.1, where ``1:20`` is eighty, ``on`` is a boolean, and of two equal keys the last one wins in
silence: fatal for ``usb: 1:20`` and ``dtr: on``. So its scanner, parser and composer are used, and its resolvers and
constructor are not: plain scalars are resolved by the table below (YAML 1.2.2, section 10.3.2), and the plain data are
built here.

What a file of this project has no use for is refused, because it is a trap or an attack: aliases (a few lines of them
expand to gigabytes), tags other than the core schema's, several documents, files over a megabyte, nesting without end.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hilbridge.files.words import dotted, quote
from hilbridge.model.errors import ConfigError

MAX_SIZE = 1 << 20
"""Bytes. A hand-written file is a hundred times smaller; PyYAML needs seconds for a megabyte."""

MAX_DEPTH = 40
"""Levels of nesting. PyYAML's composer recurses: without a bound, a thousand brackets end in RecursionError."""

MAX_DIGITS = 400

Path = tuple[str | int, ...]
"""Where a node stands: keys and list indices from the root, ``("commands", 0, "match")``."""

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR = (_TAG + name for name in ("null", "bool", "int", "float", "str"))

# The core schema, in the specification's order. `first` are the characters that such a scalar can begin with: PyYAML
# looks a scalar's resolvers up by its first character; the empty string stands for the empty scalar.
_CORE_SCHEMA: tuple[tuple[str, str, str], ...] = (
    (_NULL, r"null|Null|NULL|~|", "nN~"),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_PATTERNS = {tag: re.compile(rf"(?:{pattern})\Z") for tag, pattern, _ in _CORE_SCHEMA}

# What YAML allows in a stream (section 5.1). PyYAML checks it too, but reports an offset where a position is needed.
_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Refused(Exception):
    """Something in the file that has no place there; carries the mark."""

    def __init__(self, mark: yaml.Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark


class Loader(yaml.SafeLoader):
    """PyYAML's scanner, parser and composer, with the core schema's resolvers and bounds on what is composed."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose one node: bounded in depth, and without anchors and aliases."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(event.start_mark, "anchors (&) and aliases (*) are not used here: write the value out")
        if getattr(event, "tag", None) == "!":
            # In YAML 1.2 it means "text"; PyYAML would read ! 12 as a number.
            raise _Refused(event.start_mark, _tag_refused("!"))
        if self._depth >= MAX_DEPTH:
            raise _Refused(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


Loader.yaml_implicit_resolvers = {}  # of its own: the inherited table is YAML 1.1's, and shared with every SafeLoader
for _tag, _pattern, _first in _CORE_SCHEMA:
    for _letter in [*_first, *([""] if _tag == _NULL else [])]:
        Loader.yaml_implicit_resolvers.setdefault(_letter, []).append((_tag, _PATTERNS[_tag]))


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its plain data, and where each part of it stands."""

    name: str
    """The file as it was named by who asked for it; every message begins with it."""
    value: Any
    """dict, list, str, int, float, bool or None, nested."""
    _values: dict[Path, tuple[int, int]] = field(default_factory=dict, repr=False)
    _keys: dict[Path, tuple[int, int]] = field(default_factory=dict, repr=False)
    _sources: dict[Path, str] = field(default_factory=dict, repr=False)

    def position(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path` (or of its key), or of the nearest part around it."""
        while True:
            found = (self._keys.get(path) if key else None) or self._values.get(path)
            if found is not None:
                return found
            if not path:
                return (1, 1)
            path, key = path[:-1], False

    def where(self, path: Path, *, key: bool = False) -> str:
        """``file:line:column`` of the value at `path`, or of its key."""
        line, column = self.position(path, key=key)
        return f"{self.name}:{line}:{column}"

    def source(self, path: Path) -> str | None:
        """How the scalar at `path` is spelled in the file (``00123``), or None for a collection."""
        return self._sources.get(path)


def load(path: str | os.PathLike[str]) -> Document:
    """Read one YAML file. Raises `ConfigError` (``file:line:column: ...``) for whatever is wrong with it."""
    name = os.fspath(path)
    return parse(_text(name, _read(name)), name)


def parse(text: str, name: str = "<text>") -> Document:
    """Like `load`, for text that is at hand; `name` stands for the file in messages."""
    bad = _NOT_PRINTABLE.search(text)
    if bad is not None:
        code = ord(bad[0])
        escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
        message = f'the character U+{code:04X} is not allowed in YAML; in double quotes it is written "{escape}"'
        _refuse(name, *_line_column(text, bad.start()), message)
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            _refuse(name, 1, 1, "the file is empty")
        document = Document(name, None)
        value = _Builder(document).build(node, ())
        object.__setattr__(document, "value", value)
    except _Refused as refused:
        _refuse(name, refused.mark.line + 1, refused.mark.column + 1, str(refused))
    except yaml.MarkedYAMLError as error:
        _refuse(name, *_explain(error, text))
    finally:
        loader.dispose()
    return document


class _Builder:
    """Makes plain data of nodes, and notes in the document where each came from."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def build(self, node: Node, path: Path) -> object:
        self._document._values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, ScalarNode):
            self._document._sources[path] = node.value
            return _scalar(node)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        raise _Refused(node.start_mark, _tag_refused(node.tag))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str | int, object]:
        result: dict[str | int, object] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node) if isinstance(key_node, ScalarNode) else None
            if isinstance(key, bool) or not isinstance(key, str | int):
                shown = f'; quote it: "{key_node.value}"' if isinstance(key_node, ScalarNode) else ""
                raise _Refused(key_node.start_mark, f"a key must be text{shown}")
            here: Path = (*path, key)
            if key in result:
                first = self._document._keys[here][0]
                raise _Refused(key_node.start_mark, f"{dotted(here)}: this key is already on line {first}")
            self._document._keys[here] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            result[key] = self.build(value_node, here)
        return result


def _scalar(node: ScalarNode) -> str | int | float | bool | None:
    text: str = node.value
    if node.tag == _STR:
        return text
    pattern = _PATTERNS.get(node.tag)
    if pattern is None:
        raise _Refused(node.start_mark, _tag_refused(node.tag))
    if not pattern.match(text):
        raise _Refused(node.start_mark, f"{quote(text)} is no !!{node.tag.removeprefix(_TAG)}")
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    if len(text) > MAX_DIGITS:
        raise _Refused(node.start_mark, f"a number of {len(text)} digits: quote it if it is text")
    if node.tag == _INT:
        return int(text[2:], {"0o": 8, "0x": 16}[text[:2]]) if text[:2] in ("0o", "0x") else int(text)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _tag_refused(tag: str) -> str:
    shown = f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag
    return f"the tag {quote(shown)} is not allowed: files hold plain data only"


# What PyYAML says for the commonest slips, and what to do about each.
_HINTS = (
    ("mapping values are not allowed", "a ':' where no key can stand; quote a text that holds ': '"),
    ("expected <block end>", "this does not line up with what stands above it; check the indentation"),
    ("could not find expected ':'", "a key without its ':'"),
)


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, int, str]:
    """Line, column and one-line message for what PyYAML's scanner, parser or composer stumbled over."""
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or "this is not YAML").replace("\n", " ")
    if mark is None:  # PyYAML sets at least one of them; a message without a place is still better than a crash
        return 1, 1, problem
    if "end of stream" in problem or "<stream end>" in problem:
        # The end of the file is no place to look for a missing quote or bracket: its beginning is.
        mark = error.context_mark or mark
        what = "quote" if "scalar" in str(error.context) else "bracket"
        return mark.line + 1, mark.column + 1, f"this {what} is never closed"
    line, column = mark.line, mark.column
    lines = text.splitlines()
    shown = lines[line] if line < len(lines) else ""
    indent = shown[: len(shown) - len(shown.lstrip())]
    if "\t" in indent:
        return line + 1, indent.index("\t") + 1, "a tab in the indentation: YAML is indented with spaces"
    if shown[column : column + 1] == "\t":
        return line + 1, column + 1, "a tab where YAML wants a space"
    if problem.startswith("but found another document"):
        return line + 1, column + 1, "a second document begins here: one file holds one"
    for beginning, hint in _HINTS:
        if problem.startswith(beginning):
            return line + 1, column + 1, hint
    if problem.startswith("found unknown escape character"):
        escape = "\\" + shown[column : column + 1]
        return line + 1, column + 1, f"there is no {escape} in double quotes; take single quotes, or double the \\"
    if "cannot start any token" in problem:
        return line + 1, column + 1, f"a text cannot begin with {quote(shown[column : column + 1])}: put it in quotes"
    return line + 1, column + 1, f"{error.context}: {problem}" if error.context else problem


def _read(name: str) -> bytes:
    # O_NONBLOCK: a name that is a FIFO must be refused, not waited for.
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = "; check the name" if error.errno in (errno.ENOENT, errno.ENOTDIR) else ""
        raise ConfigError(f"{name}: cannot be read: {os.strerror(error.errno or 0)}{hint}") from error
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(kind) else "no plain file"
        raise ConfigError(f"{name}: cannot be read: it is {what}")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{name}: larger than {MAX_SIZE} bytes: that is no file of this kind")
    return data


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        _refuse(name, *_line_column(before, len(before)), f"the byte 0x{data[error.start]:02X} is not UTF-8")


def _line_column(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _refuse(name: str, line: int, column: int, message: str) -> NoReturn:
    raise ConfigError(f"{name}:{line}:{column}: {message}") from None
