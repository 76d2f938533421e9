"""A faulty driver and its clean twin for each rule about MDLs."""

from __future__ import annotations

from typing import Any

from hilbridge.model.codes import Irql
from hilbridge.model.irp import Irp
from hilbridge.model.mdl import Mdl
from hilbridge.model.status import NtStatus
from tests.observe.verifier.stage import Device, Stage, case
from tests.support import complete


def _in_read(stage: Stage, work: Any) -> None:
    """``work(device, mdl)`` in the dispatch routine of a read, with a new MDL."""

    def read(device: Device, irp: Irp) -> NtStatus:
        work(device, device.io.allocate_mdl(bytearray(100)))
        return complete(device, irp)

    stage.read(read)


def _unlock_and_free(device: Device, mdl: Mdl) -> None:
    if mdl.locked:
        mdl.unlock_pages()
    device.io.free_mdl(mdl)


@case("MdlProbeIrql")
def mdl_probe_irql(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.APC):
            mdl.probe_and_lock_pages(write=True)
        _unlock_and_free(device, mdl)

    _in_read(stage, work)


@case("MdlMapIrql")
def mdl_map_irql(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH):
            mdl.system_address()[0] = 1
        _unlock_and_free(device, mdl)

    _in_read(stage, work)


@case("MdlUnlockIrql")
def mdl_unlock_irql(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH):
            mdl.unlock_pages()
        _unlock_and_free(device, mdl)

    _in_read(stage, work)


@case("MdlNotLocked")
def mdl_not_locked(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        for _ in range(2 if wrong else 1):
            mdl.unlock_pages()
        _unlock_and_free(device, mdl)

    _in_read(stage, work)


@case("MdlLockedTwice")
def mdl_locked_twice(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        if not wrong:
            mdl.unlock_pages()
        mdl.probe_and_lock_pages(write=False)
        _unlock_and_free(device, mdl)

    _in_read(stage, work)


@case("MdlMapNotLocked")
def mdl_map_not_locked(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        if not wrong:
            mdl.probe_and_lock_pages(write=True)
        device.extension.notes.append(len(mdl.system_address()))
        _unlock_and_free(device, mdl)

    _in_read(stage, work)


@case("MdlFreeMapped")
def mdl_free_mapped(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        mdl.system_address()
        if not wrong:
            mdl.unlock_pages()
        device.io.free_mdl(mdl)

    _in_read(stage, work)


@case("MdlFreedTwice")
def mdl_freed_twice(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        for _ in range(2 if wrong else 1):
            device.io.free_mdl(mdl)

    _in_read(stage, work)


@case("MdlUsedAfterFree")
def mdl_used_after_free(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        device.io.free_mdl(mdl)
        other = mdl if wrong else device.io.allocate_mdl(bytearray(100))
        other.probe_and_lock_pages(write=True)
        _unlock_and_free(device, other)

    _in_read(stage, work)


@case("LeftLockedPages")
def left_locked_pages(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        if not wrong:
            _unlock_and_free(device, mdl)

    _in_read(stage, work)
    stage.handles[0].close()


@case("MdlLeaked")
def mdl_leaked(stage: Stage, wrong: bool) -> None:
    def work(device: Device, mdl: Mdl) -> None:
        mdl.probe_and_lock_pages(write=True)
        mdl.unlock_pages()
        if not wrong:
            device.io.free_mdl(mdl)

    _in_read(stage, work)
