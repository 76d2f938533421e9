"""Plug and Play notifications: a driver is told that an interface has come or gone, or that a device it uses is about to go.

*Interface changes* are told later, on a system worker, in the order in which they happened. *Target device changes* are told at
once, by who removes the device, because a driver may have a say: it closes the device, or refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from hilbridge.iomgr.interfaces import DeviceInterface, InterfaceRoutines, checked_guid
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DriverFault
from hilbridge.model.file import FileObject
from hilbridge.model.status import STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor

CALLBACK_PATIENCE = 60.0
"""Seconds that unregistering waits for a callback that runs."""


class NotifyCategory(IntEnum):
    """IO_NOTIFICATION_EVENT_CATEGORY."""

    DEVICE_INTERFACE_CHANGE = 2
    TARGET_DEVICE_CHANGE = 3


class NotifyEvent(IntEnum):
    """What a notification says: in Windows, one of six GUIDs of wdmguid.h."""

    INTERFACE_ARRIVAL = 0
    INTERFACE_REMOVAL = 1
    QUERY_REMOVE = 2
    """The device is to be removed: close it and return STATUS_SUCCESS, or refuse with an error."""
    REMOVE_CANCELLED = 3
    """Nothing comes of that: open it again."""
    REMOVE_COMPLETE = 4
    CUSTOM = 5
    """`custom` says what: a GUID of the driver that reports it."""


class PnpNotification(NamedTuple):
    """DEVICE_INTERFACE_CHANGE_NOTIFICATION or TARGET_DEVICE_..._NOTIFICATION: what a callback is given."""

    event: NotifyEvent
    interface_class: str = ""
    link: str = ""
    file: FileObject | None = None
    """The file that was registered with, of a target device."""
    custom: str = ""
    data: Any = None


NotifyCallback = Callable[[PnpNotification, Any], NtStatus]
"""DRIVER_NOTIFICATION_CALLBACK_ROUTINE(notification, context), at PASSIVE_LEVEL."""


class NotificationEntry:
    """What `register_plug_play_notification` returns, to unregister with."""

    __slots__ = ("callback", "context", "driver", "file", "guid", "idle", "running", "target", "told", "unregistered")

    def __init__(self, driver: DriverObject | None, callback: NotifyCallback, context: Any) -> None:
        self.driver = driver
        """None: an application, which is told on the callback thread."""
        self.callback = callback
        self.context = context
        self.guid = ""
        self.file: FileObject | None = None
        self.target: DeviceObject[Any] | None = None
        """The PDO of a target device: the registration outlives the file, which the driver may close and open again."""
        self.told: set[NotifyEvent] = set()
        self.unregistered = False
        self.running: Processor | None = None
        """Who is in the callback now."""
        self.idle = Kevent()


class NotifyRoutines(InterfaceRoutines):
    """The I/O manager's routines about notifications. At PASSIVE_LEVEL, where nothing else is said."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._notifications: list[NotificationEntry] = []
        """Guarded by the I/O manager's lock."""

    def register_plug_play_notification(
        self,
        category: NotifyCategory,
        data: str | FileObject,
        driver: DriverObject | None,
        callback: NotifyCallback,
        context: Any = None,
        *,
        include_existing: bool = False,
    ) -> NotificationEntry:
        """IoRegisterPlugPlayNotification: ``callback(notification, context)`` from now on. Returns what unregisters it.

        DEVICE_INTERFACE_CHANGE: `data` is the GUID of the class; `include_existing` tells of the interfaces that are enabled
        already, first. TARGET_DEVICE_CHANGE: `data` is the file by which the driver has the device open. A driver is not
        unloaded while it is registered. Raises `NtStatusError` STATUS_INVALID_PARAMETER for what is no GUID.
        """
        self._passive("register_plug_play_notification")
        entry = NotificationEntry(driver, callback, context)
        if category is NotifyCategory.TARGET_DEVICE_CHANGE:
            if not isinstance(data, FileObject):
                raise self._wrong_data(driver, data)
            entry.file, entry.target = data, data.device_object.bottom
        elif isinstance(data, str):
            entry.guid = checked_guid(data)
        else:
            raise self._wrong_data(driver, data)
        with self._lock:
            self._notifications.append(entry)
            if include_existing:
                for interface in self._interfaces.values():
                    if interface.enabled and interface.guid == entry.guid:
                        self._tell_later(entry, interface)
        return entry

    def _wrong_data(self, driver: DriverObject | None, data: object) -> Exception:
        what = "give a GUID for interface changes, and the open file for changes of a target device"
        fault = DriverFault(f"register_plug_play_notification was given {data!r}: {what}")
        device = driver.device_object if driver is not None else None
        return fault if device is None else self.fault(device, fault, "register_plug_play_notification")

    def unregister_plug_play_notification(self, entry: NotificationEntry) -> None:
        """IoUnregisterPlugPlayNotificationEx: when this returns the callback is not running, and never will again.

        Called by the callback itself it returns at once. Twice does nothing. A callback that does not return within
        `CALLBACK_PATIENCE` is a fault of its driver.
        """
        self._passive("unregister_plug_play_notification")
        with self._lock:
            entry.unregistered = True
            if entry in self._notifications:
                self._notifications.remove(entry)
            busy = entry.running is not None and entry.running is not self.ke.current()
        if busy and not self.ke.wait_for_single_object(entry.idle, CALLBACK_PATIENCE):
            fault = DriverFault(f"a Plug and Play notification callback did not return within {CALLBACK_PATIENCE:g} s")
            raise self.fault(_device_of(entry), fault, "its Plug and Play notification callback")
        if entry.driver is not None:
            self.last_use_gone(entry.driver)

    # -- interfaces --------------------------------------------------------------------------------------------------

    def interface_changed(self, interface: DeviceInterface) -> None:
        """Under the lock."""
        for entry in self._notifications:
            if entry.guid == interface.guid:
                self._tell_later(entry, interface)

    def _tell_later(self, entry: NotificationEntry, interface: DeviceInterface) -> None:
        event = NotifyEvent.INTERFACE_ARRIVAL if interface.enabled else NotifyEvent.INTERFACE_REMOVAL
        told = PnpNotification(event, interface.guid, interface.link)
        if entry.driver is None:
            self.ke.machine.queue_callback(partial(self._tell_application, entry, told))
        else:
            self.ke.queue_work_item(partial(self._tell_driver, entry, told))

    def _tell_driver(self, entry: NotificationEntry, told: PnpNotification) -> None:
        """Work item. Of an interface nothing can be refused: what the callback returns is of no interest."""
        self._tell(entry, told)

    @staticmethod
    def _tell_application(entry: NotificationEntry, told: PnpNotification) -> None:
        if not entry.unregistered:
            entry.callback(told, entry.context)

    # -- target devices ----------------------------------------------------------------------------------------------

    def notify_target_device(
        self, physical: DeviceObject[Any], event: NotifyEvent, custom: str = "", data: Any = None
    ) -> DriverObject | None:
        """Tell every driver that has registered for this device, now. For the Plug and Play manager.

        Returns the driver that refuses a QUERY_REMOVE. Those that had agreed before it hear that the removal is cancelled.
        """
        with self._lock:
            entries = [entry for entry in self._notifications if entry.target is physical]
        if event is NotifyEvent.REMOVE_CANCELLED:
            entries = [entry for entry in entries if NotifyEvent.QUERY_REMOVE in entry.told]
        agreed: list[NotificationEntry] = []
        for entry in entries:
            status = self._tell(entry, PnpNotification(event, "", "", entry.file, custom, data))
            entry.told.discard(NotifyEvent.QUERY_REMOVE)
            if event is not NotifyEvent.QUERY_REMOVE:
                continue
            if not status.is_success:
                for other in agreed:
                    other.told.discard(NotifyEvent.QUERY_REMOVE)
                    self._tell(other, PnpNotification(NotifyEvent.REMOVE_CANCELLED, "", "", other.file))
                return entry.driver
            entry.told.add(NotifyEvent.QUERY_REMOVE)
            agreed.append(entry)
        return None

    def report_target_device_change(self, physical: DeviceObject[Any], custom: str, data: Any = None) -> NtStatus:
        """IoReportTargetDeviceChange: tell who has registered for this device of an event of the driver's own, now.

        `custom` is the event's GUID. Raises `NtStatusError` STATUS_INVALID_PARAMETER for what is none.
        """
        self._passive("report_target_device_change")
        self.notify_target_device(physical, NotifyEvent.CUSTOM, checked_guid(custom), data)
        return STATUS_SUCCESS

    def report_target_device_change_asynchronous(
        self, physical: DeviceObject[Any], custom: str, data: Any = None
    ) -> NtStatus:
        """IoReportTargetDeviceChangeAsynchronous, up to DISPATCH_LEVEL: the same, on a system worker."""
        guid = checked_guid(custom)

        def tell() -> None:
            self.notify_target_device(physical, NotifyEvent.CUSTOM, guid, data)

        self.ke.queue_work_item(tell)
        return STATUS_SUCCESS

    # -- the call ----------------------------------------------------------------------------------------------------

    def _tell(self, entry: NotificationEntry, told: PnpNotification) -> NtStatus:
        """Call one callback, if it is registered still; what it returns, or STATUS_SUCCESS."""
        with self._lock:
            device = _device_of(entry)
            if entry.unregistered or (device is not None and device.device_stack.fault is not None):
                return STATUS_SUCCESS
            entry.running = self.ke.current()
            entry.idle.clear()
        try:
            return self._call(entry, told, device)
        finally:
            with self._lock:
                entry.running = None
            entry.idle.set()

    @calls_driver("work_item", "its Plug and Play notification callback", lambda frame: frame["device"], begun="entry")
    def _call(self, entry: NotificationEntry, told: PnpNotification, device: DeviceObject[Any] | None) -> NtStatus:
        try:
            status: object = entry.callback(told, entry.context)
            if not isinstance(status, NtStatus):
                raise DriverFault(
                    f"a Plug and Play notification callback returned {status!r}: return STATUS_SUCCESS, or an error that "
                    "refuses"
                )
        except BaseException as error:  # noqa: BLE001 - latched
            return self.fault(device, error, "its Plug and Play notification callback").status
        return status

    def registered_for_news(self, driver: DriverObject) -> bool:
        """Whether a driver waits for notifications, and is needed for that."""
        return not self.shutting_down and any(entry.driver is driver for entry in self._notifications)


def _device_of(entry: NotificationEntry) -> DeviceObject[Any] | None:
    """A device of the driver to blame."""
    return entry.driver.device_object if entry.driver is not None else None
