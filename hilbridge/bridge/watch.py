"""An application that waits for devices to come and go."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hilbridge.iomgr.pnpnotify import NotifyCategory, NotifyEvent, PnpNotification
from hilbridge.model.status import STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager


class Watch:
    """What `Bridge.watch` returns. Close it, or use it in a ``with`` block: then the callback is not called any more."""

    def __init__(self, io: IoManager, guid: str, callback: Callable[[str, bool], object]) -> None:
        self._io = io
        self._callback = callback
        self._entry = io.register_plug_play_notification(
            NotifyCategory.DEVICE_INTERFACE_CHANGE, guid, None, self._tell, include_existing=True
        )

    def _tell(self, told: PnpNotification, _context: object) -> NtStatus:
        self._callback(told.link, told.event is NotifyEvent.INTERFACE_ARRIVAL)
        return STATUS_SUCCESS

    def close(self) -> None:
        """No more news. Twice does nothing."""
        self._io.unregister_plug_play_notification(self._entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
