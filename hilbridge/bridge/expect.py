r"""Finding patterns in a stream of bytes, without doing any I/O: bytes are fed in, matches come out.

The rules are those of pexpect, because its users bring them along:

* The match that starts earliest in the stream wins; of two that start at the same place, the one named first.
* A search sees what has arrived until then and takes what it finds: a greedy ``\d+`` takes the digits that are there,
  and ``$`` and ``\Z`` mean "the end of what has arrived". End a pattern with what the device sends next (``\r\n``, a
  prompt) to say where it stops.
* ``^`` and ``\A`` mean the first character that was not matched yet; a line's start needs ``re.MULTILINE``.
* A pattern that is given as text is compiled with ``re.DOTALL``.

Where it differs is cost. Text in which nothing was found is not read again from its start when more arrives: the next
search begins where a match may still begin, which is `len - 1` characters before the new ones for plain text and
``window`` characters for a regular expression. So the work per byte does not grow with what was received before, and a
match longer than ``window`` may be missed. (A regular expression that begins with ``.*`` costs the square of it: leave
that out, `before` has the text.) Lookbehind and ``\b`` see at least another ``window`` characters further back, but
never what an earlier match has taken.

Memory is bounded as well: of text that nothing has matched, the last ``scrollback`` characters are kept (and a window
more, while it is searched), and what fell out at the front is counted in ``dropped``.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, AnyStr, Generic, TypeAlias, cast, overload

from hilbridge.model.errors import DeviceFault, DeviceTimeout, HilbridgeError, UsageFault
from hilbridge.model.status import STATUS_DEVICE_DATA_ERROR, STATUS_UNSUCCESSFUL

WINDOW = 4096
"""Characters: the longest match of a regular expression that is sure to be found."""
SCROLLBACK = 1 << 20
"""Characters of unmatched text that are kept."""

Wanted: TypeAlias = AnyStr | re.Pattern[AnyStr] | Sequence[AnyStr | re.Pattern[AnyStr]]
"""What may be expected: one pattern or several."""


class ExpectTimeout(DeviceTimeout):
    """What was expected did not come in time. The text stays where it was: the next search sees it again.

    ``expected`` names the patterns, ``waited`` is in seconds, ``partial`` holds the bytes that were not matched.
    """

    def __init__(self, message: str, *, expected: str = "", waited: float = 0.0, partial: bytes = b"") -> None:
        super().__init__(message, partial=partial)
        self.expected = expected
        self.waited = waited


class ExpectMismatch(HilbridgeError):
    """A pattern of ``not_matching`` came first. ``match`` is that match; ``partial`` ends with its bytes."""

    exit_code = 1
    default_status = STATUS_UNSUCCESSFUL

    def __init__(self, message: str, *, match: Match[Any], partial: bytes = b"") -> None:
        super().__init__(message, partial=partial)
        self.match = match


@dataclass(frozen=True, slots=True)
class Match(Generic[AnyStr]):
    """What was found, and what came before it."""

    index: int
    """Which of the patterns it was, from 0."""
    text: AnyStr
    before: AnyStr
    """All text between the previous match and this one, but for `dropped` characters at its front."""
    dropped: int = 0
    found: re.Match[AnyStr] | None = field(default=None, repr=False)
    """None for exact text. Its positions count from some place inside the stream: use the groups, not the spans."""

    def group(self, *groups: int | str) -> AnyStr | Any:
        """As `re.Match.group`; exact text has group 0 only."""
        if self.found is not None:
            return self.found.group(*groups)
        if any(group != 0 for group in groups):
            raise IndexError("no such group: exact text has none but group 0")
        return self.text if len(groups) < 2 else (self.text,) * len(groups)

    def groups(self, default: Any = None) -> tuple[AnyStr | Any, ...]:
        """As `re.Match.groups`; empty for exact text."""
        return () if self.found is None else self.found.groups(default)

    def groupdict(self, default: Any = None) -> dict[str, AnyStr | Any]:
        """As `re.Match.groupdict`; empty for exact text."""
        return {} if self.found is None else self.found.groupdict(default)


Hit: TypeAlias = tuple[int, int, re.Match[AnyStr] | None]  # start, stop and, for a regular expression, its match


class Pattern(Generic[AnyStr]):
    """One thing to look for. Equal patterns find the same: where one has failed, its equal need not look again."""

    __slots__ = ()

    @property
    def reach(self) -> int | None:
        """How many characters before the end of text without a match one may begin that more text completes.

        None: nobody knows; the matcher's window decides.
        """
        raise NotImplementedError

    @property
    def looks_back(self) -> bool:
        """Whether a match depends on what is in front of it, or on nothing being there."""
        return False

    def find(self, text: AnyStr, start: int, origin: int, /) -> Hit[AnyStr] | None:
        """The first match that begins at `start` or later.

        `origin` is the index of the first character after the previous match, and not after `start`: what is in front
        of it counts as not there. It is negative when `text` begins later.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Exact(Pattern[AnyStr]):
    """This text, wherever it is."""

    text: AnyStr

    def __str__(self) -> str:
        return _shown(self.text)

    @property
    def reach(self) -> int | None:
        return len(self.text) - 1

    def find(self, text: AnyStr, start: int, _origin: int, /) -> Hit[AnyStr] | None:
        at = text.find(self.text, start)
        return None if at < 0 else (at, at + len(self.text), None)


@dataclass(frozen=True, slots=True)
class LineStart(Pattern[AnyStr]):
    """This text, where a line begins: after CR or LF, or as the first thing after the previous match."""

    text: AnyStr

    def __str__(self) -> str:
        return f"{_shown(self.text)} at the start of a line"

    @property
    def reach(self) -> int | None:
        return len(self.text) - 1

    @property
    def looks_back(self) -> bool:
        return True

    def find(self, text: AnyStr, start: int, origin: int, /) -> Hit[AnyStr] | None:
        at = text.find(self.text, start)
        while at >= 0:
            if at == origin or is_line_end(text[at - 1 : at]):
                return at, at + len(self.text), None
            at = text.find(self.text, at + 1)
        return None


@dataclass(frozen=True, slots=True)
class Regex(Pattern[AnyStr]):
    """A regular expression that never matches the empty text."""

    regex: re.Pattern[AnyStr]
    reach: int | None = field(init=False, compare=False)
    looks_back: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        source = _encoded(self.regex.pattern)
        # Without operators no match is longer than the pattern.
        plain = _OPERATORS.isdisjoint(source)
        object.__setattr__(self, "reach", len(self.regex.pattern) - 1 if plain else None)
        anchors = (b"^", b"\\A", b"\\b", b"\\B", b"(?<")
        object.__setattr__(self, "looks_back", any(sign in source.replace(b"[^", b"[") for sign in anchors))

    def __str__(self) -> str:
        return _shown(self.regex.pattern)

    def find(self, text: AnyStr, start: int, origin: int, /) -> Hit[AnyStr] | None:
        cut = origin if origin > 0 and self.looks_back else 0
        found = self.regex.search(text[cut:] if cut else text, start - cut)
        if found is None:
            return None
        if found.end() == found.start():  # a lookaround or \b: only text shows it
            raise _matches_nothing(self.regex.pattern)
        return found.start() + cut, found.end() + cut, found


# Characters with a meaning in a regular expression. Without any of them a pattern matches itself; with IGNORECASE, as
# many other characters; with VERBOSE, itself without blanks and comments.
_OPERATORS = frozenset(b".^$*+?{}[]\\|()")


class Matcher(Generic[AnyStr]):
    """The stream since the last match, and the search in it.

    Without `encoding` everything is bytes. With one, bytes are decoded as they come, a character may be split between
    two of them, and patterns and results are text. Feed at most `scrollback` bytes between two searches.
    """

    scanned: int
    """Characters handed to a search, over all patterns: the work that was done."""
    received: int
    """Bytes fed since the matcher was made."""
    _empty: AnyStr
    _tail: AnyStr

    @overload
    def __init__(
        self: Matcher[bytes],
        window: int = ...,
        *,
        encoding: None = ...,
        errors: str = ...,
        scrollback: int = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Matcher[str], window: int = ..., *, encoding: str, errors: str = ..., scrollback: int = ...
    ) -> None: ...

    def __init__(
        self,
        window: int = WINDOW,
        *,
        encoding: str | None = None,
        errors: str = "replace",
        scrollback: int = SCROLLBACK,
    ) -> None:
        if window < 1:
            raise UsageFault(f"window={window}: it is the length of the longest match, so at least 1 character")
        if scrollback < window:
            raise UsageFault(f"scrollback={scrollback}: must hold the window of {window} characters at least")
        self.window = window
        self.scrollback = scrollback
        self.scanned = 0
        self.received = 0
        self._encoding = encoding
        self._decoder = None if encoding is None else _decoder(encoding, errors)
        self._empty = cast("Any", b"" if encoding is None else "")
        # Positions count characters since the last match. The text is in three parts, one after the other: _old, blocks
        # that were searched and are kept for `before` only, from _old_start; _tail, one string, from _base, which the
        # next search is made in; _new, pieces that no search has seen. _tail may begin with text of earlier matches
        # (_base is negative then), because to cut that off after each of many matches would copy the rest many times.
        # What lies before _begin counts as dropped even while its block is still there.
        self._old: deque[AnyStr] = deque()
        self._old_start = 0
        self._tail = self._empty
        self._base = 0
        self._new: list[AnyStr] = []
        self._begin = 0
        self._end = 0
        # Where a search for that pattern goes on: no match begins before the first position, and none is in the text up
        # to the second. A match of one pattern of a list leaves what is known of the others as it is, so that a loop
        # over a list does not read all of a long text each time.
        self._known: dict[Pattern[AnyStr], tuple[int, int]] = {}
        self._longest = window  # what the patterns of the last search need to look back
        self._raw = bytearray()

    @property
    def dropped(self) -> int:
        """Characters since the last match that are not kept any more."""
        return self._begin

    @property
    def text(self) -> AnyStr:
        """Everything that was not matched yet, but for `dropped` characters at its front."""
        start = self._old_start if self._old else self._base
        whole = self._empty.join(self._old) + self._tail + self._empty.join(self._new)
        return whole[max(0, self._begin - start) :]

    @property
    def raw(self) -> bytes:
        """The bytes of `text` as they were received, and those of an incomplete character at the end.

        If bytes of the last match could not be decoded, those that were there behind it are encoded again.
        """
        return bytes(self._raw[-self.scrollback :]) if self._decoder else self.encode(self.text)

    def encode(self, text: AnyStr) -> bytes:
        """Text of this matcher as bytes."""
        return _encoded(text, self._encoding)

    def feed(self, data: bytes) -> None:
        """Take bytes that were received.

        Raises `DeviceFault` if ``errors="strict"`` does not let them be decoded; they are in its ``partial`` then.
        """
        self._append(data, final=False)

    def finish(self) -> None:
        """No more bytes will come soon: an incomplete character at the end becomes what `errors` makes of it."""
        self._append(b"", final=True)

    def search(self, patterns: Sequence[Pattern[AnyStr]]) -> Match[AnyStr] | None:
        """Find the earliest match in what has been fed, and take everything up to its end out of the stream.

        None, and the `UsageFault` for a pattern that has matched the empty text, leave the stream as it is.
        """
        patterns = tuple(patterns)
        self._merge()
        best = self._earliest(patterns)
        if best is None:
            if len(self._known) > 100:  # patterns that are made up anew each time
                self._known = {pattern: self._known[pattern] for pattern in patterns}
            self._longest = max([self.window, *(self._reach(pattern) for pattern in patterns)])
            self._trim()
            return None
        index, (start, stop, found) = best
        at, end, text = self._base + start, self._base + stop, self._tail[start:stop]
        dropped = max(self._begin, at - self.scrollback)
        before = self._between(dropped, at)
        if self._decoder:
            used = self.encode(before + text)
            if dropped or not self._raw.startswith(used):
                self._raw = bytearray(self.encode(self._tail[stop:])) + self._decoder.getstate()[0]
            else:
                del self._raw[: len(used)]
        # A pattern that looks back may match now where it did not before: what was in front is not there any more.
        known = {p: self._known[p] for p in patterns if not p.looks_back}
        self._known = {p: (max(0, clear - end), missed - end) for p, (clear, missed) in known.items()}
        self._restart(self._end - end)
        return Match(index, text, before, dropped, found)

    def take(self) -> AnyStr:
        """Take everything out of the stream that was not matched."""
        text = self.text
        self._new.clear()
        self._tail = self._empty
        self._raw = bytearray(self._decoder.getstate()[0] if self._decoder else b"")
        self._known = {}
        self._restart(0)
        return text

    def _append(self, data: bytes, *, final: bool) -> None:
        self.received += len(data)
        decoded: Any = data
        if self._decoder is not None:
            try:
                decoded = self._decoder.decode(data, final)
            except UnicodeDecodeError as exc:
                self._decoder.reset()
                raise DeviceFault(
                    f"received bytes that are not {self._encoding}: {exc.object[exc.start : exc.end]!r} ({exc.reason})"
                    '; check the baud rate, or use errors="replace" or encoding=None',
                    status=STATUS_DEVICE_DATA_ERROR,
                    partial=exc.object,
                ) from exc
            self._raw += data
            if len(self._raw) > 2 * self.scrollback:  # rarely, because it moves what stays
                del self._raw[: -self.scrollback]
        text: AnyStr = decoded
        if text:
            self._new.append(text)
            self._end += len(text)
            unsearched = self._end - self._base - len(self._tail)
            if unsearched > self.scrollback:  # nobody searches: the bound holds all the same
                self._merge()
                self._trim()

    def _merge(self) -> None:
        if self._new:
            self._tail += self._empty.join(self._new)
            self._new.clear()

    def _trim(self) -> None:
        """Keep in `_tail` what the next search needs, and in all what the scroll-back allows.

        Two windows stay (of the size that the patterns need): the next search begins in the second, and looks back into
        the first. The tail is cut at twice that length only: cutting one character for each that comes would make as
        many blocks as there are characters. And one window stays beyond the scroll-back, so that a match that begins in
        the window has all of its `before`, however the text came in pieces.
        """
        if len(self._tail) > 4 * self._longest:
            cut = len(self._tail) - 2 * self._longest
            if not self._old:
                self._old_start = self._base
            self._old.append(self._tail[:cut])
            self._tail = self._tail[cut:]
            self._base += cut
        self._begin = max(self._begin, self._end - self._longest - self.scrollback)
        while self._old and self._old_start + len(self._old[0]) <= self._begin:
            self._old_start += len(self._old.popleft())

    def _earliest(self, patterns: tuple[Pattern[AnyStr], ...]) -> tuple[int, Hit[AnyStr]] | None:
        """The index of the winner and its hit in `_tail`, which holds everything that has to be searched."""
        # Once something was dropped, the first character that is left is not the stream's first: it is looked back at
        # and not searched, or `^` would match wherever the scroll-back happens to begin.
        first = self._begin + 1 if self._begin else 0
        known = [self._known.get(pattern, (0, -1)) for pattern in patterns]
        starts = [max(first, clear) for clear, missed in known if missed != self._end]
        if self._old and min(starts, default=self._end) <= self._base:
            self._tail = self._between(self._begin, self._end)  # what was dropped goes, or the block would only grow
            self._base = self._begin
            self._old.clear()
        best: tuple[int, Hit[AnyStr]] | None = None
        for index, (pattern, (clear, missed)) in enumerate(zip(patterns, known, strict=True)):
            if missed == self._end:
                continue
            start = min(max(first, clear) - self._base, len(self._tail))
            hit = pattern.find(self._tail, start, -self._base)
            self.scanned += (hit[1] if hit else len(self._tail)) - start
            safe = self._end - self._reach(pattern)
            self._known[pattern] = (safe, self._end) if hit is None else (min(safe, self._base + hit[0]), -1)
            if hit and (best is None or hit[0] < best[1][0]):
                best = index, hit
        return best

    def _between(self, start: int, stop: int) -> AnyStr:
        if start >= self._base:
            return self._tail[start - self._base : stop - self._base]
        whole = self._empty.join(self._old) + self._tail
        return whole[start - self._old_start : stop - self._old_start]

    def _reach(self, pattern: Pattern[AnyStr]) -> int:
        return self.window if pattern.reach is None else pattern.reach

    def _restart(self, rest: int) -> None:
        """A match was taken out: what counts from now on are the last `rest` characters of the tail."""
        used = len(self._tail) - rest
        if used >= rest:
            self._tail, used = self._tail[used:], 0
        self._old.clear()
        self._base, self._begin, self._end = -used, 0, rest


def exacts(wanted: Wanted[AnyStr], kind: type[AnyStr]) -> tuple[Exact[AnyStr], ...]:
    """The patterns for exact text: one, or a sequence of them, all of type `kind`. Raises `UsageFault`."""
    return tuple(Exact(_checked_text(one, kind)) for one in _listed(wanted))


def regexes(wanted: Wanted[AnyStr], kind: type[AnyStr]) -> tuple[Regex[AnyStr], ...]:
    """The patterns for regular expressions, as text or compiled: one, or a sequence of them. Raises `UsageFault`."""
    return tuple(_regex(one, kind) for one in _listed(wanted))


def describe(patterns: Sequence[Pattern[AnyStr]]) -> str:
    """The patterns, as a message names them."""
    names = [str(pattern) for pattern in patterns]
    return names[0] if len(names) == 1 else "any of " + ", ".join(names)


def last_lines(text: AnyStr, lines: int = 5, characters: int = 400) -> str:
    """The end of `text` on one line, with control characters escaped."""
    shown = text[-characters:].splitlines(keepends=True)[-lines:]
    length = sum(len(line) for line in shown)
    return ("..." if length < len(text) else "") + repr(text[len(text) - length :])


def is_line_end(character: str | bytes) -> bool:
    """Whether it is CR or LF."""
    return character in {"\r", "\n"} if isinstance(character, str) else character in {b"\r", b"\n"}


def _regex(wanted: AnyStr | re.Pattern[AnyStr], kind: type[AnyStr]) -> Regex[AnyStr]:
    if isinstance(wanted, re.Pattern):
        regex = wanted
        _checked_text(regex.pattern, kind)
    else:
        try:
            regex = re.compile(_checked_text(wanted, kind), re.DOTALL)
        except re.error as exc:
            raise UsageFault(f"{_shown(wanted)} is not a regular expression: {exc}; for plain text use exact") from exc
    if regex.search(regex.pattern[:0]):
        raise _matches_nothing(regex.pattern)
    return Regex(regex)


def _listed(wanted: Wanted[AnyStr]) -> list[AnyStr | re.Pattern[AnyStr]]:
    if isinstance(wanted, str | bytes | re.Pattern):
        return [wanted]
    try:
        patterns = list(wanted)
    except TypeError:
        raise UsageFault(f"{wanted!r} is no pattern: give text, a compiled regular expression, or a list") from None
    if not patterns:
        raise UsageFault("an empty list of patterns matches nothing, ever")
    return patterns


def _checked_text(text: object, kind: type[AnyStr]) -> AnyStr:
    if not isinstance(text, kind):
        raise UsageFault(
            f"{text!r} is no pattern here: this stream is of type {kind.__name__}, and so are its patterns "
            "(a time-out and a lost device are exceptions, not patterns)"
        )
    if not text:
        raise UsageFault("an empty pattern matches everywhere: say what to wait for")
    return text


def _matches_nothing(pattern: str | bytes) -> UsageFault:
    return UsageFault(
        f"{_shown(pattern)} matches the empty text, so it would be found wherever the stream happens to be; "
        "let it match at least one character"
    )


def _encoded(text: str | bytes, encoding: str | None = None) -> bytes:
    return text if isinstance(text, bytes) else text.encode(encoding or "utf-8", "replace")


def _decoder(encoding: str, errors: str) -> codecs.IncrementalDecoder:
    try:
        codecs.lookup_error(errors)
        return codecs.getincrementaldecoder(encoding)(errors)
    except LookupError as exc:
        raise UsageFault(f"{exc}; encoding=None gives bytes") from exc


def _shown(source: str | bytes, characters: int = 80) -> str:
    return repr(source) if len(source) <= characters else repr(source[:characters]) + "..."
