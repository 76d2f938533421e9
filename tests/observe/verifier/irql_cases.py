"""A faulty driver and its clean twin for each rule about routines that were called at too high an IRQL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import BugCheck
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import FILE_DEVICE_UNKNOWN, IrpMajor, Irql
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import FastIoDispatch
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus
from tests.observe.verifier.stage import Device, Stage, case, filter_with
from tests.support import Extension, complete, succeed

IOCTL = ctl_code(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, 0)


def _at(stage: Stage, irql: Irql, work: Callable[[Device], object], before: Callable[[Device], Any] = repr) -> None:
    """A filter calls `work` at this IRQL, in its dispatch routine for a read."""

    def read(device: Device, irp: Irp) -> NtStatus:
        before(device)
        with device.ke.raised_irql(irql):
            work(device)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.DEVICE_CONTROL, filters=(filter_with(read),))
    stage.submit()


def _second(device: Device) -> Device:
    second: Device = device.io.create_device(device.driver_object, Extension())
    device.extension.notes.append(second)
    return second


@case("IrqlIoApcLte")
def irql_io_apc_lte(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        device.io.delete_device(device.extension.notes[0])

    _at(stage, Irql.DISPATCH if wrong else Irql.APC, work, _second)


@case("IrqlIoPassive3")
def irql_io_passive3(stage: Stage, wrong: bool) -> None:
    def attached(device: Device) -> None:
        device.io.attach_device_to_device_stack(_second(device), device)

    def work(device: Device) -> None:
        device.io.detach_device(device)

    _at(stage, Irql.APC if wrong else Irql.PASSIVE, work, attached)
    device: DeviceObject[Any] = stage.drivers[0].device.top
    if device.lower_device is not None and device.extension.notes == []:
        stage.io.detach_device(device.lower_device)
        device.extension.notes.append("detached")
    for second in stage.io.drivers["filter"].devices:
        if second.lower_device is None:
            stage.io.delete_device(second)


@case("IrqlIoPassive1")
def irql_io_passive1(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        own = device.io.build_device_io_control_request(IOCTL, device.extension.lower, b"", 0, Kevent())
        device.extension.notes.append(own)

    _at(stage, Irql.DISPATCH if wrong else Irql.APC, work)


@case("IrqlIoPassive5")
def irql_io_passive5(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        device.io.register_shutdown_notification(device)

    _at(stage, Irql.APC if wrong else Irql.PASSIVE, work)


@case("IrqlIoDispatchLte")
def irql_io_dispatch_lte(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        device.io.free_irp(device.io.allocate_irp(1))

    _at(stage, Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH, work)


@case("IrqlKeDispatchLte")
def irql_ke_dispatch_lte(stage: Stage, wrong: bool) -> None:
    timer = Ktimer()

    def work(device: Device) -> None:
        device.ke.set_timer(timer, relative_ms(1000))
        device.ke.cancel_timer(timer)

    _at(stage, Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH, work)


@case("FileIoIrql")
def file_io_irql(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        bottom = device.bottom.attached_device
        assert bottom is not None
        device.io.close_file(device.io.create_file(bottom.name or ""))

    _at(stage, Irql.APC if wrong else Irql.PASSIVE, work)


@case("SynchronousAtApc")
def synchronous_at_apc(stage: Stage, wrong: bool) -> None:
    def built(device: Device) -> None:
        own = device.io.build_device_io_control_request(IOCTL, device.extension.lower, b"", 0, Kevent())
        device.extension.notes.append(own)

    def work(device: Device) -> None:
        device.io.call_driver(device.extension.lower, device.extension.notes[0])

    _at(stage, Irql.APC if wrong else Irql.PASSIVE, work, built)


@case("FastIoIrql")
def fast_io_irql(stage: Stage, wrong: bool) -> None:
    def read(device: Any, *_arguments: Any) -> bytes | None:
        if wrong:
            device.ke.current().irql = Irql.APC
        return b"data"

    def write(*_arguments: Any) -> None:
        return None

    device = stage.plug(succeed)
    device.driver_object.fast_io_dispatch = FastIoDispatch(read, write)
    stage.io.fast_io = True
    handle = stage.open()
    with pytest.raises(BugCheck, match="0x11") if wrong else contextlib.nullcontext():
        assert handle.read(4) == b"data"
