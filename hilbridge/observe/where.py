"""Where code is, in words that do not change from run to run: ``hilbridge/drivers/serial/read.py:read``.

No line numbers: they change with every edit, and a name is found as fast.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import CodeType

_HERE = Path(__file__).resolve().parent
_TOP = _HERE.parents[1]
"""Where the package ``hilbridge`` lies."""
_described_before: dict[CodeType, tuple[str, bool]] = {}

DEPTH = 24
"""Frames that `callers` goes up at most."""


def where(routine: object) -> str:
    """``file:function`` of a routine: a function, a method, a partial, or an object that can be called."""
    while isinstance(routine, functools.partial):
        routine = routine.func
    routine = getattr(routine, "__func__", routine)
    call = getattr(type(routine), "__call__", None)  # noqa: B004 - whether it can be called is known; its code is wanted
    for candidate in (routine, call):
        code = getattr(candidate, "__code__", None)
        if isinstance(code, CodeType):
            return _described(code)[0]
    return str(getattr(routine, "__qualname__", type(routine).__qualname__))


def callers() -> tuple[str, ...]:
    """``file:function`` of everybody who called, innermost first; the instruments themselves are left out."""
    found = []
    frame = sys._getframe(1)
    for _ in range(DEPTH):
        name, ours = _described(frame.f_code)
        if not ours:
            found.append(name)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return tuple(found)


def _described(code: CodeType) -> tuple[str, bool]:
    """Its name, and whether it belongs to the instruments."""
    described = _described_before.get(code)
    if described is None:
        file = Path(code.co_filename)
        shown = file.relative_to(_TOP).as_posix() if file.is_relative_to(_TOP / "hilbridge") else file.name
        described = _described_before[code] = f"{shown}:{code.co_qualname}", file.parent == _HERE
    return described
