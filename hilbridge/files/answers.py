"""The one piece of syntax inside a board's texts: ``{1}``, for a group of the regular expression that matched.

``{0}`` is the whole line. ``{{1}}`` sends ``{1}`` itself. All other braces are plain text, so that JSON needs no care.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_GROUP = re.compile(r"\{\{(\d+)\}\}|\{(\d+)\}")


def groups_used(text: str) -> Iterator[int]:
    """The number of each group that `text` asks for."""
    return (int(use[2]) for use in _GROUP.finditer(text) if use[2] is not None)


def fill(text: str, groups: Sequence[str]) -> str:
    """`text` with its groups filled in; `groups` begins with the whole line."""
    return _GROUP.sub(lambda use: groups[int(use[2])] if use[2] is not None else f"{{{use[1]}}}", text)
