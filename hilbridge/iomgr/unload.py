"""Unloading drivers, and the references that keep them: IoUnloadDriver, ObReferenceObject, ObDereferenceObject.

`unload_driver` marks the driver: nothing can be opened or attached any more. Its unload routine runs when nothing uses it:
at once, or when the last handle is closed, the last device is detached, the last reference is given back. What is under way
meanwhile goes on.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FrameType
from typing import Any, TypeVar

from hilbridge.iomgr.devices import DeviceRoutines
from hilbridge.iomgr.mdl import MdlRoutines
from hilbridge.kernel.culprit import BOUNDARIES, place_of
from hilbridge.kernel.frames import current_frames
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.systhread import SystemThread
from hilbridge.model.codes import DRVO_UNLOAD_INVOKED, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DriverFault, NtStatusError
from hilbridge.model.file import FileObject
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_HANDLE,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_TYPE_MISMATCH,
)

ObjectT = TypeVar("ObjectT")


LOOKS = 100
BETWEEN_LOOKS = 0.01
"""Seconds. A thread that is still inside a driver after so many looks is stuck there."""


class UnloadRoutines(DeviceRoutines, MdlRoutines):
    """The I/O manager's routines about the end of drivers, and about references."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._unload_later: deque[DriverObject] = deque()

    # -- references --------------------------------------------------------------------------------------------------

    def reference_object(self, thing: ObjectT) -> ObjectT:
        """ObReferenceObject: keep a device, a file or a driver until `dereference_object`; returns it. Up to DISPATCH_LEVEL.

        Other objects, as events, live as long as somebody points to them: nothing is counted.
        """
        if isinstance(thing, DeviceObject | FileObject | DriverObject):
            with self._lock:
                thing.pointer_count += 1
        return thing

    def reference_object_by_handle(self, handle: Any, object_type: type[ObjectT]) -> ObjectT:
        """ObReferenceObjectByHandle: the object, referenced. A handle here is the object itself.

        Raises `NtStatusError`: STATUS_INVALID_HANDLE for None, STATUS_OBJECT_TYPE_MISMATCH for an object of another type.
        """
        if handle is None:
            raise NtStatusError(STATUS_INVALID_HANDLE, "there is no handle")
        if not isinstance(handle, object_type):
            raise NtStatusError(STATUS_OBJECT_TYPE_MISMATCH, f"a {type(handle).__name__} is no {object_type.__name__}")
        return self.reference_object(handle)

    def dereference_object(self, thing: object) -> None:
        """ObDereferenceObject: give a reference back. What waited for the last one happens now: see `reference_object`.

        Up to DISPATCH_LEVEL: what has to be done at PASSIVE_LEVEL is done by a work item then.
        """
        if not isinstance(thing, DeviceObject | FileObject | DriverObject):
            return
        with self._lock:
            # The last reference of an open file is that of its handles.
            spare = thing.pointer_count - (1 if isinstance(thing, FileObject) and thing.handles else 0)
            if spare > 0:
                thing.pointer_count -= 1
            left = thing.pointer_count
        if spare <= 0:
            raise self.bug_check(
                0x18, "REFERENCE_BY_POINTER", thing, left, hint="more references were given back than had been taken"
            )
        if left:
            return
        if isinstance(thing, FileObject):
            self._at_passive(partial(self._last_reference, thing))
        elif isinstance(thing, DriverObject):
            self.last_use_gone(thing)
        elif thing.delete_pending and not thing.reference_count:
            self._at_passive(partial(self._free_device, thing))
        else:
            self.last_use_gone(thing.driver_object)

    def _last_reference(self, file: FileObject) -> None:
        """IRP_MJ_CLOSE is due; see `FileRoutines`."""

    def _at_passive(self, work: Any) -> None:
        if self.ke.irql == PASSIVE_LEVEL:
            work()
        else:
            self.ke.queue_work_item(work)

    # -- unloading ---------------------------------------------------------------------------------------------------

    def unload_driver(self, name: str) -> bool:
        """IoUnloadDriver: True if the driver is gone; False if something uses it still, and it goes with the last use.

        Raises `NtStatusError`: STATUS_OBJECT_NAME_NOT_FOUND if no such driver is loaded, STATUS_INVALID_DEVICE_REQUEST if it
        has no unload routine (it stays then), STATUS_DELETE_PENDING if it has been told before. Raises `DriverFault` if its
        unload routine raises or leaves something behind: the driver is gone all the same.
        """
        driver = self.drivers.get(name)
        if driver is None:
            raise NtStatusError(STATUS_OBJECT_NAME_NOT_FOUND, f"no driver {name!r} is loaded")
        if driver.driver_unload is None:
            raise NtStatusError(STATUS_INVALID_DEVICE_REQUEST, f"driver {name!r} has no unload routine")
        with self._lock:
            again = driver.unload_pending
            driver.unload_pending = True
        if again:
            raise NtStatusError(STATUS_DELETE_PENDING, f"driver {name!r} is being unloaded already")
        return self._unload_if_unused(driver)

    def last_use_gone(self, driver: DriverObject) -> None:
        """A handle was closed, a device was detached or freed, a reference was given back."""
        if not driver.unload_pending or driver.flags & DRVO_UNLOAD_INVOKED:
            return
        if self.ke.irql != PASSIVE_LEVEL:
            self.ke.queue_work_item(partial(self.last_use_gone, driver))
        elif inside(sys._getframe(), driver):
            self._unload_when_out(driver)
        else:
            self._unload_late(driver)

    def _unload_when_out(self, driver: DriverObject) -> None:
        """The calling thread is inside the driver: it must return first.

        REMOVE_DEVICE is the commonest case, and who has sent that looks when it is over. Nobody looks when some other routine
        has returned: a worker waits for it.
        """
        self._unload_later.append(driver)
        if not any(frame.f_code in LOOKS_AFTERWARDS for frame, _ in traceback.walk_stack(sys._getframe())):
            self.ke.queue_work_item(self.unload_what_waits)

    def unload_what_waits(self) -> None:
        """Drivers that lost their last use in their own routines may go, if these have returned."""
        for _ in range(len(self._unload_later)):
            try:
                driver = self._unload_later.popleft()
            except IndexError:  # another thread was faster
                return
            if inside(sys._getframe(), driver):
                self._unload_later.append(
                    driver
                )  # a crank that is turned inside the driver: there will be another turn
            else:
                self._unload_late(driver)

    def _unload_late(self, driver: DriverObject) -> None:
        # Whoever closes a handle is not to hear of a driver that unloads badly: it is kept with the faults.
        try:
            self._unload_if_unused(driver)
        except DriverFault as fault:
            self.ke.log_fault(fault)

    def _unload_if_unused(self, driver: DriverObject) -> bool:
        if inside(sys._getframe(), driver):
            self._unload_when_out(driver)
            return False
        with self._lock:
            if driver.flags & DRVO_UNLOAD_INVOKED or self._in_use(driver):
                return bool(driver.flags & DRVO_UNLOAD_INVOKED)
            driver.flags |= DRVO_UNLOAD_INVOKED  # from here on this thread unloads it, and no other
        self._unload(driver)
        return True

    def in_use(self, driver: DriverObject) -> str:
        """What keeps a driver from being unloaded, in words; empty if nothing does."""
        with self._lock:
            return self._in_use(driver)

    def registered_for_news(self, driver: DriverObject) -> bool:
        """Whether the driver has registered for Plug and Play notifications: see `hilbridge.iomgr.pnpnotify`."""
        return False

    def take_away_notifications(self, driver: DriverObject) -> list[str]:
        """Registrations that a driver that goes has not given back; see `hilbridge.iomgr.pnpnotify`."""
        return []

    def _in_use(self, driver: DriverObject) -> str:
        if driver.pointer_count:
            return f"{driver.pointer_count} references to the driver"
        if self.registered_for_news(driver):
            return "it is registered for Plug and Play notifications"
        for device in driver.devices:
            if device.reference_count:
                return f"{device!r} is open"
            if device.pointer_count:
                return f"{device.pointer_count} references to {device!r}"
            if device.attached_device is not None:
                return f"{device.attached_device!r} is attached to {device!r}"
            if device.lower_device is not None:
                # A device that Plug and Play has given a place in a stack leaves it in REMOVE_DEVICE, and the driver cannot
                # go before. A legacy filter is taken out of its stack by its unload routine.
                if driver.add_device is not None:
                    return f"{device!r} is part of a device stack"
                if device.device_stack.files:
                    return f"the stack of {device!r} is open"
        return ""

    def driver_unloaded(self, driver: DriverObject) -> None:
        """The unload routine has returned, and nothing has been tidied up yet: for a verifier to look at."""

    def _unload(self, driver: DriverObject) -> None:
        """At PASSIVE_LEVEL, once: the unload routine, and a look at what it has left behind."""
        failed: BaseException | None = None
        wrong = [
            f"was unloaded while thread {name!r} is inside it, in {where}" for name, where in self._stuck_inside(driver)
        ]
        try:
            if driver.driver_unload is not None:
                driver.driver_unload(driver)
        except Exception as error:  # noqa: BLE001 - told below
            failed = error
            wrong.insert(0, f"raised {type(error).__name__} in its unload routine: {error}")
        self.driver_unloaded(driver)
        left = self._take_away(driver)
        if left:
            wrong.append(f"has left behind {left}")
        self.drivers.pop(driver.name, None)
        driver.extensions.clear()
        if wrong:
            raise DriverFault(f"driver {driver.name} {'; it '.join(wrong)}") from failed

    @staticmethod
    def _stuck_inside(driver: DriverObject) -> list[tuple[str, str]]:
        """Other threads that are inside the driver, and stay there.

        Who has just completed the last request is on its way out: it is given a moment. There is nothing that could wake us,
        because nobody counts who is inside; so this looks again, a bounded number of times.
        """
        never = threading.Event()
        inside = list(threads_inside(driver))
        for _ in range(LOOKS):
            if not inside:
                break
            never.wait(BETWEEN_LOOKS)
            inside = list(threads_inside(driver))
        return inside

    def _take_away(self, driver: DriverObject) -> str:
        """What a driver that goes has not given back, in words. It is taken away, so that the driver can be loaded again.

        What belongs to a stack that has failed is taken away without a word: its driver was not asked any more.
        """
        left: list[str] = []

        def note(device: DeviceObject[Any], what: str) -> None:
            if device.device_stack.fault is None:
                left.append(what)

        for interrupt in interrupts_of(self.ke, driver):
            note(interrupt.device, f"an interrupt routine on {interrupt.vector!r}")
            interrupt.vector.disconnect(interrupt)
        for timer in self.ke.timers.running():
            dpc = timer.dpc
            if dpc is not None and dpc.device is not None and dpc.device.driver_object is driver:
                note(dpc.device, f"a timer of {dpc.device!r}")
                self.ke.cancel_timer(timer)
        for mdl in self.locked_mdls(driver=driver):
            if mdl.device is not None:
                note(mdl.device, f"{mdl!r} (at {mdl.place})")
            with suppress(BufferError):
                mdl.give_back()
        # A kernel that closes waits for them, and reports those that stay: see `Kernel.end_system_threads`.
        for thread in [] if self.shutting_down else system_threads_of(driver):
            if not thread.failed:
                left.append(f"{thread!r} (at {thread.where()})")
            thread.abandon()
        left += self.take_away_notifications(driver)
        for device in driver.devices:
            note(device, repr(device))
            if device.attached_device is not None:
                self.detach_device(device)
            if device.lower_device is not None:
                self.detach_device(device.lower_device)
            device.delete_pending = True
            self._free_device(device)
        # Links to a device of a stack are the business of who manages the devices, and go after REMOVE_DEVICE.
        for name, target in self.namespace.links() if driver.add_device is None else ():
            if target.lower() in driver.device_names and self.namespace.device(target) is None:
                left.append(f"the link {name}")
                self.namespace.unlink(name)
        return ", ".join(left)


def interrupts_of(ke: Kernel, driver: DriverObject) -> list[Interrupt]:
    """The service routines that a driver has connected."""
    return [
        interrupt for vector in ke.vectors() for interrupt in vector.chain if interrupt.device.driver_object is driver
    ]


LOOKS_AFTERWARDS: set[CodeType] = set()
"""The code of routines that call `UnloadRoutines.unload_what_waits` when what they have sent is over."""


def threads_inside(driver: DriverObject) -> Iterator[tuple[str, str]]:
    """Other threads that run a routine of this driver now: the thread's name, and where it is.

    Nobody keeps a list of who is where, which would cost something on every request: the threads' own frames are looked at.
    The driver's system threads are not among them: they are the driver's own to end.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = {thread.thread.ident for thread in system_threads_of(driver) if thread.thread is not None}
    for ident, frame in current_frames().items():
        if ident != threading.get_ident() and ident not in own:
            where = inside(frame, driver)
            if where:
                yield names.get(ident, str(ident)), where


def system_threads_of(driver: DriverObject) -> list[SystemThread]:
    """The driver's system threads that have not ended."""
    return [thread for thread in driver.ke.system_threads if thread.driver is driver and not thread.ended]


def inside(innermost: FrameType, driver: DriverObject) -> str:
    """Which routine of that driver a thread runs, in words, if it runs one; `innermost` is where the thread is."""
    callee = innermost
    for frame, _ in traceback.walk_stack(innermost):
        boundary = BOUNDARIES.get(frame.f_code)
        if boundary is not None and boundary.begun in frame.f_locals:
            device = boundary.device(frame.f_locals)
            if device is not None and device.driver_object is driver:
                return f"{boundary.words(frame.f_locals)} ({place_of(callee.f_code, callee.f_lineno)})"
        callee = frame
    return ""
