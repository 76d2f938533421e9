"""Plug and Play notifications: a driver is told that an interface has come or gone, or that a device it uses is about to go.

*Interface changes* are told later, on a system worker, in the order in which they happened. Each registration has a queue of
its own, filled under the lock in the moment of the change: a callback that hangs holds up no other. *Target device changes*
are told at once, by who removes the device, because a driver may have a say: it closes the device, or refuses.

A registration's callback is not called again while it runs, unless it causes a target device change itself, inside.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from hilbridge.iomgr.interfaces import DeviceInterface, InterfaceRoutines, checked_guid
from hilbridge.kernel.culprit import calls_driver, defined_at, raised_at, running_device
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.model.codes import DISPATCH_LEVEL, FO_FILE_OPEN, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DriverFault, HilbridgeError, NtStatusError, UsageFault
from hilbridge.model.file import FileObject
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_FILE_CLOSED, STATUS_SUCCESS, NtStatus

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

    __slots__ = (
        "callback",
        "context",
        "device",
        "driver",
        "file",
        "guid",
        "pending",
        "runner",
        "running",
        "target",
        "told",
        "unregistered",
    )

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
        self.device: DeviceObject[Any] | None = None
        """The driver's device that has registered, where that is known. When its stack has failed it is not called any more."""
        self.pending: deque[PnpNotification] = deque()
        self.running: Kevent | None = None
        """Set when the callback that runs now has returned."""
        self.runner = 0
        """The thread that runs it."""

    def __repr__(self) -> str:
        what = f"interfaces of class {self.guid}" if self.file is None else f"the device of {self.file!r}"
        whose = "an application" if self.driver is None else f"driver {self.driver.name}"
        return f"<notification of {whose} about {what}>"

    def blamed(self) -> DeviceObject[Any] | None:
        """Whose stack fails if the callback does something wrong. None: the driver has no device."""
        if self.driver is None:
            return None
        device = self.device
        return self.driver.device_object if device is None or device.delete_pending else device


class NotifyRoutines(InterfaceRoutines):
    """The I/O manager's routines about notifications. At PASSIVE_LEVEL, where nothing else is said."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._notifications: list[NotificationEntry] = []
        """Guarded by the I/O manager's lock."""
        self._holding: list[NotificationEntry] = []
        """Those that keep their drivers: an entry whose callback ends its own registration does so until it has returned."""

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
        unloaded while it is registered. Raises `NtStatusError`: STATUS_INVALID_PARAMETER for what is no GUID,
        STATUS_FILE_CLOSED, STATUS_DELETE_PENDING if the driver is being unloaded.
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
        here = context if isinstance(context, DeviceObject) else running_device()
        if here is not None and here.driver_object is driver:
            entry.device = here
        with self._lock:
            if driver is not None and driver.unload_pending:
                raise NtStatusError(STATUS_DELETE_PENDING, f"driver {driver.name} is being unloaded")
            if entry.file is not None and not entry.file.flags & FO_FILE_OPEN:
                raise NtStatusError(STATUS_FILE_CLOSED, f"{entry.file!r} has been closed")
            self._notifications.append(entry)
            self._holding.append(entry)
            if include_existing:
                for interface in self._interfaces.values():
                    if interface.exposed and interface.guid == entry.guid:
                        self._queue(entry, interface)
            told = [entry] * len(entry.pending)
        self.post_news(told)
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
            running = None if entry.runner == threading.get_ident() else entry.running
            self._withdraw(entry)
            if entry.running is None:
                self._release(entry)
        if running is not None and not self.ke.wait_for_single_object(running, CALLBACK_PATIENCE):
            raise self._stuck(entry)
        if entry.driver is not None:
            self.last_use_gone(entry.driver)

    def _withdraw(self, entry: NotificationEntry) -> None:
        """It is told nothing more. Under the lock."""
        entry.unregistered = True
        entry.pending.clear()
        self._notifications = [other for other in self._notifications if other is not entry]

    def _release(self, entry: NotificationEntry) -> None:
        """Its driver is not needed for it any more. Under the lock."""
        self._holding = [other for other in self._holding if other is not entry]

    def take_away_notifications(self, driver: DriverObject) -> list[str]:
        """The driver goes, and will not unregister any more. Returns what it has left behind, in words."""
        with self._lock:
            left = [entry for entry in self._holding if entry.driver is driver]
            for entry in left:
                self._withdraw(entry)
                self._release(entry)
        return [repr(entry) for entry in left if entry.device is None or entry.device.device_stack.fault is None]

    def disable_interfaces_of(self, physical: DeviceObject[Any], *, forget: bool = False) -> None:
        """The device has gone, or its stack has failed: then its drivers are not told anything any more, either."""
        super().disable_interfaces_of(physical, forget=forget)
        if physical.device_stack.fault is not None:
            self._drop(physical.device_stack)

    def _drop(self, stack: DeviceStack) -> None:
        """A stack has failed. A callback of it that runs is not waited for."""
        with self._lock:
            theirs = [
                entry for entry in self._holding if entry.device is not None and entry.device.device_stack is stack
            ]
            for entry in theirs:
                self._withdraw(entry)
                self._release(entry)
        for driver in {entry.driver for entry in theirs if entry.driver is not None}:
            self.last_use_gone(driver)

    # -- interfaces --------------------------------------------------------------------------------------------------

    def interface_changed(self, interface: DeviceInterface) -> list[NotificationEntry]:
        """Under the lock."""
        told = [entry for entry in self._notifications if entry.guid == interface.guid]
        for entry in told:
            self._queue(entry, interface)
        return told

    @staticmethod
    def _queue(entry: NotificationEntry, interface: DeviceInterface) -> None:
        event = NotifyEvent.INTERFACE_ARRIVAL if interface.exposed else NotifyEvent.INTERFACE_REMOVAL
        entry.pending.append(PnpNotification(event, interface.guid, interface.link))

    def post_news(self, entries: list[NotificationEntry]) -> None:
        """Not under the lock: when the workers have ended, a work item runs at once."""
        for entry in entries:
            work = partial(self._deliver, entry)
            if entry.driver is None:
                self.ke.machine.queue_callback(work)
            else:
                self.ke.queue_work_item(work)

    def _deliver(self, entry: NotificationEntry) -> None:
        """Work item: the oldest news of this entry. What a callback returns is of no interest: nothing can be refused."""
        with self._lock:
            if entry.unregistered or entry.running is not None or not entry.pending:
                return  # whoever runs its callback now goes on with the next one
            told = entry.pending.popleft()
            entry.running, entry.runner = Kevent(), threading.get_ident()
        try:
            if entry.driver is None:
                entry.callback(told, entry.context)
            else:
                self._call(entry, told, entry.blamed())
        finally:
            self._over(entry)

    def _over(self, entry: NotificationEntry) -> None:
        """Its callback has returned."""
        with self._lock:
            running, entry.running, entry.runner = entry.running, None, 0
            gone, more = entry.unregistered, bool(entry.pending)
            if gone:
                self._release(entry)
        if running is not None:
            running.set()
        if gone and entry.driver is not None:
            self.last_use_gone(entry.driver)
        elif more:
            self.post_news([entry])

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
            if event is not NotifyEvent.CUSTOM:
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
        """Call one callback now, if it is registered still; what it returns, or STATUS_SUCCESS.

        Waits for a call that is under way, if that is not further out in this very thread.
        """
        me = threading.get_ident()
        deadline = self.ke.clock.now() + round(CALLBACK_PATIENCE * 1e9)
        while True:
            with self._lock:
                if entry.unregistered:
                    return STATUS_SUCCESS
                running, nested = entry.running, entry.runner == me
                if running is None:
                    entry.running, entry.runner = Kevent(), me
            if running is None or nested:
                break
            left = (deadline - self.ke.clock.now()) / 1e9
            if left <= 0 or not self.ke.wait_for_single_object(running, left):
                return self._stuck(entry).status
        try:
            return self._call(entry, told, entry.blamed())
        finally:
            if not nested:
                self._over(entry)

    @calls_driver("work_item", "its Plug and Play notification callback", lambda frame: frame["device"], begun="entry")
    def _call(self, entry: NotificationEntry, told: PnpNotification, device: DeviceObject[Any] | None) -> NtStatus:
        bound = entry.device or device
        if bound is not None and bound.device_stack.fault is not None:
            return STATUS_SUCCESS
        processor = self.ke.current()
        irql, processor.irql = processor.irql, PASSIVE_LEVEL  # a crank is turned at APC_LEVEL, too
        status: object = None
        try:
            status = entry.callback(told, entry.context)
            if status.__class__ is not NtStatus:
                what = f"returned {status!r}: return STATUS_SUCCESS, or an error that refuses"
                raise self._wrong(entry, what, defined_at(entry.callback))
            if processor.irql != PASSIVE_LEVEL:
                raise self._wrong(entry, f"returned at IRQL {processor.irql}", defined_at(entry.callback))
        except BaseException as error:  # noqa: BLE001 - latched
            processor.irql = PASSIVE_LEVEL
            status = self._latch(entry, device, error).status
        processor.irql = irql
        if processor.dpcs and irql < DISPATCH_LEVEL:
            self.ke.drain_dpcs(processor)  # what a callback has queued that did not lower its IRQL
        return status if isinstance(status, NtStatus) else STATUS_SUCCESS

    @staticmethod
    def _wrong(entry: NotificationEntry, what: str, place: str | None) -> DriverFault:
        name = entry.driver.name if entry.driver is not None else ""
        fault = DriverFault(f"driver {name}: its Plug and Play notification callback {what}")
        fault.blame(name, place)
        return fault

    def _latch(
        self, entry: NotificationEntry, device: DeviceObject[Any] | None, error: BaseException
    ) -> HilbridgeError:
        """A driver without a device has nothing that could fail, and must not take the whole bridge with it."""
        if device is not None:
            return self.fault(device, error, "its Plug and Play notification callback")
        if isinstance(error, ProcessorRetired):
            raise error
        if isinstance(error, DriverFault):
            fault = error
        else:
            what = f"raised {type(error).__name__}: {error}"
            fault = self._wrong(entry, what, raised_at(error.__traceback__) or defined_at(entry.callback))
            fault.__cause__ = error
        if all(known is not fault for known in self.ke.faults):
            self.ke.log_fault(fault)
        return fault

    def _stuck(self, entry: NotificationEntry) -> HilbridgeError:
        """Somebody has waited long enough for a callback."""
        if entry.driver is None:
            return UsageFault(f"the callback of {entry!r} did not return within {CALLBACK_PATIENCE:g} s")
        fault = self._wrong(entry, f"did not return within {CALLBACK_PATIENCE:g} s", defined_at(entry.callback))
        return self._latch(entry, entry.blamed(), fault)

    def registered_for_news(self, driver: DriverObject) -> bool:
        """Whether a driver waits for notifications, and is needed for that."""
        return not self.shutting_down and any(entry.driver is driver for entry in self._holding)
