"""A tiny driver that holds its reads."""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.hold import HoldQueue
from hilbridge.iomgr.request import IoRequest
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import Dispatch, System, TinyDriver, complete


def serve(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Note its length, and be done."""
    length = irp.current_stack_location.parameters.read.length
    device.extension.notes.append(length)
    return complete(device, irp, STATUS_SUCCESS, length)


class Bench:
    """A driver that holds its reads. `then` is what it does with one that is not held."""

    def __init__(self, then: Dispatch = serve) -> None:
        self.then = then
        self.driver = TinyDriver("holder", {IrpMajor.READ: self.read})
        self.system = System()
        self.io, self.ke = self.system.io, self.system.ke
        self.device = self.system.stack(self.driver)
        self.hold = HoldQueue(self.io, self.device)
        self.file = self.system.open(self.device)

    def read(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        if self.hold.active and self.hold.insert(irp):
            return STATUS_PENDING
        return self.then(device, irp)

    def submit(self, length: int) -> IoRequest:
        return self.system.read(self.file, length)

    def submit_all(self, *lengths: int) -> list[IoRequest]:
        return [self.submit(length) for length in lengths]

    @property
    def served(self) -> list[int]:
        return self.driver.notes


def ends(requests: list[IoRequest]) -> list[NtStatus]:
    assert all(request.done for request in requests), requests
    return [request.status for request in requests]
