"""What the tests of completion share: filters with completion routines, above a driver of the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge.iomgr.request import IoRequest
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_PENDING,
    NtStatus,
)
from tests.support import (
    Extension,
    System,
    TinyDriver,
    complete,
    pass_down,
)

Routine = Callable[[DeviceObject[Any] | None, Irp, Any], Any]
THROUGH = dict.fromkeys((IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE), pass_down)


def watcher(name: str, routine: Routine | None, context: Any = None, **wishes: bool) -> TinyDriver:
    """A filter that sends every READ down with that completion routine, and returns what came back."""

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        if routine is not None:
            irp.set_completion_routine(routine, context, **wishes)
        status = device.io.call_driver(device.extension.lower, irp)
        device.extension.notes.append(status)
        return status

    return TinyDriver(name, {**THROUGH, IrpMajor.READ: read}, named=False)


def ends_with(status: NtStatus, information: int = 0) -> TinyDriver:
    return TinyDriver("bottom", {IrpMajor.READ: lambda device, irp: complete(device, irp, status, information)})


class Reads(System):
    """A stack that is opened by its bottom's name, and read."""

    def __init__(self, *drivers: TinyDriver) -> None:
        super().__init__()
        self.drivers = drivers
        self.stack(*drivers)
        self.bottom = drivers[0]
        self.file = self.open(self.bottom.device)

    def go(self, length: int = 8) -> IoRequest:
        self.request = IoRequest(self.io, self.file, length)
        return self.io.submit_read(self.request, length)

    @property
    def irp(self) -> Irp:
        assert self.request.irp is not None
        return self.request.irp


def pend_and_send(routine: Routine) -> Callable[..., NtStatus]:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(routine)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    return read
