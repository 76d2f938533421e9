"""The words in which a fault in a file is told, shared by every reader of files."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST_QUOTE = 40


def quote(text: str) -> str:
    """`text` in quotes, on one line, cut to a readable length."""
    shown = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "..."
    return repr(shown)


def describe(value: object, source: str | None = None) -> str:
    """What was found, in a reader's words: ``the text 'on'``, ``the number 403``, ``a list``.

    `source` is how a scalar is spelled in the file: a number is shown as it was written, not as Python prints it.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {source or str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {source or value}"
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return f"a {type(value).__name__}"


def unknown(word: str, known: Iterable[str], what: str = "key") -> str:
    """``unknown key; did you mean 'text'?``, or the list of what is known when nothing is near."""
    import difflib  # only a fault pays for it

    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"unknown {what}; did you mean '{near[0]}'?"
    if not names:
        return f"unknown {what}"
    return f"unknown {what}; known here: {', '.join(names)}"


def dotted(path: Iterable[str | int]) -> str:
    """``("commands", 0, "match")`` as ``commands[0].match``."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            shown += f".{step}" if shown else step
    return shown
