"""A filter driver that makes a mistake which no request hears of: a DPC of nobody's raises after a write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus
from tests.observe.observekit import watching_filter


def driver_entry(driver: DriverObject, parameters: Mapping[str, object]) -> NtStatus:
    status = watching_filter(driver, parameters)
    driver.major_function[IrpMajor.WRITE] = _write
    return status


def _write(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    irp.skip_current_stack_location()
    status = device.io.call_driver(device.extension, irp)
    device.ke.insert_queue_dpc(Kdpc(_mistake))
    return status


def _mistake(*_: object) -> None:
    raise LookupError("nobody waits for this")
