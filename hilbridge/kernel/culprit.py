"""Whose mistake it is: read from the frames of a thread, when a mistake has been made and never before.

The model calls a driver's code in a handful of places: to dispatch a request, to serve an interrupt, to run a DPC. The
routine that does so is marked with `calls_driver`, which says how to read from its local variables whose code it is. That
costs nothing when it runs. When a rule is broken, or a thread hangs, `find` walks that thread's frames outward: the
innermost of these routines names the driver, and the innermost frame of the driver's own code the line.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject

RoutineT = TypeVar("RoutineT", bound=Callable[..., Any])
Locals = Mapping[str, Any]

_PACKAGE = __name__.partition(".")[0]
_DRIVERS = (f"{_PACKAGE}.drivers.", f"{_PACKAGE}.filters.")
_ABOVE_PACKAGE = str(Path(__file__).resolve().parents[2])
_LIBRARY = str(Path(threading.__file__).resolve().parent)


class Boundary(NamedTuple):
    """What is known of a routine that calls drivers."""

    limit: str
    """The field of `hilbridge.kernel.limits.Limits` that says how long such a call may take."""
    device: Callable[[Locals], DeviceObject[Any] | None]
    """From its local variables: the device whose driver it calls."""
    words: Callable[[Locals], str]
    """From its local variables: what it calls, as in "its dispatch routine for READ"."""
    begun: str
    """The local variable that is there from when the driver is called on; before, who has called is to blame, further out."""


BOUNDARIES: dict[CodeType, Boundary] = {}
"""Every routine that calls drivers, by its code."""
WAITS: set[CodeType] = set()
"""The code of routines in which a driver may wait for as long as it likes."""


class Culprit(NamedTuple):
    """Who was running: the device whose driver it is (None: no driver's), in which routine, and where in its source."""

    device: DeviceObject[Any] | None
    routine: str
    place: str | None
    """``file:line`` of the innermost frame of the driver's own code."""


def calls_driver(
    limit: str,
    words: str | Callable[[Locals], str],
    device: Callable[[Locals], DeviceObject[Any] | None],
    begun: str = "self",
) -> Callable[[RoutineT], RoutineT]:
    """Mark a routine of the model that calls drivers. It stays as it is; what is noted is noted once, here."""
    said = words if callable(words) else lambda _locals: words

    def mark(routine: RoutineT) -> RoutineT:
        BOUNDARIES[routine.__code__] = Boundary(limit, device, said, begun)
        return routine

    return mark


def driver_waits(routine: RoutineT) -> RoutineT:
    """Mark a routine in which a driver waits, so that the watchdog does not take it for hung."""
    WAITS.add(routine.__code__)
    return routine


def find(frame: FrameType | None) -> Culprit:
    """Who runs at `frame`. For the calling thread ``sys._getframe()``, for another what `current_frames` says."""
    place = None
    while frame is not None:
        boundary = BOUNDARIES.get(frame.f_code)
        if boundary is not None and boundary.begun in frame.f_locals:
            # Also if that is nobody's: whoever is further out has not called it, but only lent it his thread.
            return Culprit(boundary.device(frame.f_locals), boundary.words(frame.f_locals), place)
        if place is None and is_foreign(frame):
            place = place_of(frame.f_code, frame.f_lineno)
        frame = frame.f_back
    return Culprit(None, "", place)


def running_device() -> DeviceObject[Any] | None:
    """The device whose driver the calling thread runs, or None."""
    return find(sys._getframe(1)).device


def raised_at(traceback: TracebackType | None) -> str | None:
    """``file:line`` of the innermost frame of a traceback that is not the model's."""
    place = None
    while traceback is not None:
        if is_foreign(traceback.tb_frame):
            place = place_of(traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def defined_at(routine: object) -> str | None:
    """``file:line`` where a routine is defined; None if it is none of Python's."""
    code = getattr(getattr(routine, "__func__", routine), "__code__", None)
    return place_of(code, code.co_firstlineno) if isinstance(code, CodeType) else None


def is_foreign(frame: FrameType) -> bool:
    """Whether its code may be a driver's: neither ours nor the standard library's."""
    module = str(frame.f_globals.get("__name__", ""))
    if module == _PACKAGE or module.startswith(f"{_PACKAGE}."):
        return module.startswith(_DRIVERS)
    file = frame.f_code.co_filename
    return not file.startswith("<frozen") and (not file.startswith(_LIBRARY) or "-packages" in file)


def place_of(code: CodeType, line: int) -> str:
    """``file:line``; a file beside or below our package from there on."""
    file = code.co_filename
    if file.startswith(_ABOVE_PACKAGE):
        file = file.removeprefix(_ABOVE_PACKAGE).lstrip("/")
    return f"{file}:{line}"
