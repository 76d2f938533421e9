"""What the tests of the matcher share: data in pieces, and all that is found in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hilbridge.bridge.expect import Matcher, Pattern


def pieces(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def found_all(matcher: Matcher[str], patterns: Sequence[Pattern[str]]) -> Iterator[tuple[int, str, str, int, Any]]:
    while (match := matcher.search(patterns)) is not None:
        yield match.index, match.text, match.before, match.dropped, match.groups()
