"""What all parts of the I/O manager share."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from hilbridge.iomgr.namespace import Namespace
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import BridgeClosed, BugCheck, HilbridgeError
from hilbridge.model.irp import Irp

FIRST_IRP_ID = 0x1000


class IoBase:
    """State of the I/O manager."""

    irp_class: type[Irp] = Irp

    def __init__(self, ke: Kernel) -> None:
        self.ke = ke
        self.namespace = Namespace()
        self.drivers: dict[str, DriverObject] = {}
        self._irp_ids = itertools.count(FIRST_IRP_ID)
        self._file_ids = itertools.count(1)
        self._lock = threading.Lock()
        self._threaded: dict[int, Irp] = {}
        """IRPs that drivers have built for the calling thread to wait for, by id."""
        self.closed: BridgeClosed | None = None
        """Why nothing is accepted any more."""
        self.shutting_down = False
        """The bridge is about to close: what is left over is taken down in any case."""
        self.on_last_close: Callable[[DeviceObject[Any]], None] = lambda device: None
        """The same: called at PASSIVE_LEVEL when a device is not open any more. REMOVE_DEVICE may follow."""

    def last_use_gone(self, driver: DriverObject) -> None:
        """Something that used a device of this driver is gone: a driver whose unload is pending may go now."""

    def refuse_if_dead(self, device: DeviceObject[Any]) -> None:
        """Raise what stands in the way of a new request: the bridge is closed, or a driver of this stack is broken."""
        if self.closed is not None:
            raise self.closed.again()
        fault = device.device_stack.fault
        if fault is not None:
            raise fault.again()

    def irp_started(self, device: DeviceObject[Any], irp: Irp) -> None:
        """A driver with queues of its own says so of a request that had to wait for another and is now begun.

        Nothing is done here: it is for instruments, which cannot see into a driver's queue. May be called under its lock.
        """

    def ends_later(self, irp: Irp) -> bool:
        """Whether its driver has completed it and it has been put off: an instrument does that, to see who bears with it."""
        return False

    @staticmethod
    def write_error_log_entry(irp: Irp, error: HilbridgeError) -> None:
        """IoWriteErrorLogEntry: say in words what the status means that this IRP is about to end with."""
        irp.error = error

    def bug_check(
        self, code: int, name: str, *parameters: object, hint: str = "", device: DeviceObject[Any] | None = None
    ) -> BugCheck:
        """A rule has been broken: latched, and to be raised. `device`: whose driver did it, where the frames do not tell."""
        return self.ke.bug_check(code, name, *parameters, hint=hint, device=device)

    def fault(self, device: DeviceObject[Any] | None, error: BaseException, where: str) -> HilbridgeError:
        """Latch an exception of a driver."""
        return self.ke.latch_fault(device, error, where)


def holder_of(irp: Irp) -> DeviceObject[Any] | None:
    """Whose driver has the IRP; None before it was sent and after it came back."""
    location = irp.current_location
    return irp.stack[location - 1].device_object if location <= irp.stack_count else None


def maker_of(irp: Irp) -> DeviceObject[Any] | None:
    """Whose driver has most likely made the IRP: its completion routine belongs to no device. For blame.

    Who makes an IRP sends it to the device below, as a rule: so it is the one that is attached there, if there is one.
    """
    top = irp.stack[irp.stack_count - 1].device_object
    return (top and top.attached_device) or top
