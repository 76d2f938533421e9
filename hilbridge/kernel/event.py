"""KEVENT: a flag that threads wait for."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from hilbridge.kernel.wait import DispatcherObject, signaling

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor


class EventType(IntEnum):
    """EVENT_TYPE, and TIMER_TYPE, which has the same two."""

    NOTIFICATION = 0
    SYNCHRONIZATION = 1


class Signal(DispatcherObject):
    """What an event and a timer are to who waits: set, until a wait takes it, if it is one of synchronization."""

    __slots__ = ("_kind", "_signaled")

    def __init__(self, kind: EventType, signaled: bool = False) -> None:
        super().__init__()
        self._kind = kind
        self._signaled = signaled

    @property
    def signaled(self) -> bool:
        """KeReadStateEvent, KeReadStateTimer."""
        return self._signaled

    def _is_open_to(self, thread: Processor | None) -> bool:
        return self._signaled

    def _take(self, thread: Processor | None) -> None:
        if self._kind is EventType.SYNCHRONIZATION:
            self._signaled = False


class Kevent(Signal):
    """KEVENT. A notification event wakes everybody and stays set; a synchronization event wakes one, and is reset."""

    __slots__ = ()

    def __init__(self, kind: EventType = EventType.NOTIFICATION, signaled: bool = False) -> None:
        super().__init__(kind, signaled)

    def __repr__(self) -> str:
        return f"<{self._kind.name.lower()} event, {'set' if self._signaled else 'not set'}>"

    def set(self) -> bool:
        """Set it; returns the previous state. `Kernel.set_event` is the driver's routine."""
        with signaling(self):
            previous, self._signaled = self._signaled, True
        return previous

    def clear(self) -> bool:
        """Reset it; returns the previous state."""
        with self._lock:
            previous, self._signaled = self._signaled, False
            return previous

    def pulse(self) -> bool:
        """Let those go on who wait at this moment, as `set` would, and reset it; returns the previous state."""
        with signaling(self) as signal:
            previous, self._signaled = self._signaled, True
            signal.serve()
            self._signaled = False
        return previous
