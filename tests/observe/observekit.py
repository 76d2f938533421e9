"""What the tests of instruments share: one that records everything, and drivers that do what the shipped ones do not."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_STREAM_READ, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.observe.instrument import Instrument
from tests.support import TinyDriver

MOMENTS = [name for name, _ in inspect.getmembers(Instrument, inspect.isfunction) if not name.startswith("_")]


class Recorder(Instrument):
    """Every call, as (name of the method, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    @property
    def moments(self) -> list[str]:
        return [name for name, _ in self.calls]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in self.calls if called == name]


def _recording(name: str) -> Any:
    def method(self: Recorder, *arguments: Any) -> None:
        self.calls.append((name, arguments))

    return method


for _name in MOMENTS:
    setattr(Recorder, _name, _recording(_name))


class Raises(Instrument):
    """An instrument with a mistake in it."""

    def irp_dispatched(self, *_: object) -> None:
        raise ZeroDivisionError("one too many")


# -- a filter that asks to see each request again on its way up -----------------------------------------------------------


def watching_filter(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    driver.add_device = _add_filter
    for major in IrpMajor:
        driver.major_function[major] = _watch
    driver.major_function[IrpMajor.PNP] = _filter_pnp
    return STATUS_SUCCESS


def _add_filter(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    device: DeviceObject[Any] = driver.io.create_device(driver, None)
    lower = device.extension = driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= lower.flags & (DO_BUFFERED_IO | DO_STREAM_READ)
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def _watch(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    irp.copy_current_stack_location_to_next()
    irp.set_completion_routine(seen_again)
    return device.io.call_driver(device.extension, irp)


def seen_again(_device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
    if irp.pending_returned:
        irp.mark_pending()
    return STATUS_SUCCESS


def _filter_pnp(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    minor = irp.current_stack_location.minor_function
    irp.skip_current_stack_location()
    status = device.io.call_driver(device.extension, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(device.extension)
        device.io.delete_device(device)
    return status


# -- a driver that works by StartIo: a read ends one DPC after it was started ----------------------------------------------


def start_io_driver() -> TinyDriver:
    return TinyDriver("queued", {IrpMajor.READ: _queue_read}, start_io=_start_io)


def _queue_read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    irp.mark_pending()
    device.io.start_packet(device, irp)
    return STATUS_PENDING


def _start_io(device: DeviceObject[Any], irp: Irp) -> None:
    device.ke.insert_queue_dpc(Kdpc(_finish_dpc, irp, device))


def _finish_dpc(dpc: Kdpc, irp: Irp, _a: object, _b: object) -> None:
    assert dpc.device is not None
    dpc.device.io.start_next_packet(dpc.device)
    irp.io_status.status = STATUS_SUCCESS
    irp.io_status.information = 1
    dpc.device.io.complete_request(irp)


# -- and one that fails ---------------------------------------------------------------------------------------------------


def failing_filter(driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
    status = watching_filter(driver, parameters)
    driver.major_function[IrpMajor.READ] = fail
    return status


def fail(_device: DeviceObject[Any], _irp: Irp) -> NtStatus:
    raise LookupError("this filter fails at every read")
