"""KEVENT, and waiting for one: at PASSIVE_LEVEL only, because whoever waits higher holds up his processor."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from hilbridge.kernel.wait import DispatcherObject, EventWait

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor

__all__ = ["EventType", "EventWait", "Kevent"]


class EventType(IntEnum):
    """EVENT_TYPE, and TIMER_TYPE, which has the same two."""

    NOTIFICATION = 0
    SYNCHRONIZATION = 1


class Kevent(DispatcherObject):
    """KEVENT. A notification event wakes everybody and stays set; a synchronization event wakes one, and is reset."""

    __slots__ = ("_kind", "_signaled")

    def __init__(self, kind: EventType = EventType.NOTIFICATION, signaled: bool = False) -> None:
        super().__init__()
        self._kind = kind
        self._signaled = signaled

    def _is_signaled(self, processor: Processor | None) -> bool:
        return self._signaled

    def _take(self, processor: Processor | None) -> None:
        if self._kind is EventType.SYNCHRONIZATION:
            self._signaled = False

    def set(self) -> bool:
        """KeSetEvent: returns the previous state."""
        with self._lock:
            previous, self._signaled = self._signaled, True
            woken = self._hand_out()
        self._wake(woken)
        return previous

    def clear(self) -> bool:
        """KeResetEvent: returns the previous state."""
        with self._lock:
            previous, self._signaled = self._signaled, False
            return previous

    def pulse(self) -> bool:
        """KePulseEvent: wake those who wait now, as `set` would, and leave the event reset; returns the previous state.

        A wait for several objects only hears of it afterwards, when it is over: as in Windows, do not build on this routine.
        """
        with self._lock:
            previous, self._signaled = self._signaled, True
            woken = self._hand_out()
            self._signaled = False
        self._wake(woken)
        return previous

    @property
    def signaled(self) -> bool:
        """KeReadStateEvent."""
        return self._signaled
