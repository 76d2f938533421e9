"""DriverEntry of the serial driver: its table of contents."""

from __future__ import annotations

from collections.abc import Mapping

from hilbridge.drivers.serial.create import cleanup, close, create
from hilbridge.drivers.serial.ioctl import device_control
from hilbridge.drivers.serial.pnp import add_device, pnp
from hilbridge.drivers.serial.power import power
from hilbridge.drivers.serial.read import fast_read, read
from hilbridge.drivers.serial.wmi import system_control
from hilbridge.drivers.serial.write import fast_write, flush, write
from hilbridge.model.codes import IrpMajor
from hilbridge.model.driver import DriverObject, FastIoDispatch
from hilbridge.model.status import STATUS_SUCCESS, NtStatus


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table."""
    driver.add_device = add_device
    driver.unload = unload
    driver.fast_io_dispatch = FastIoDispatch(fast_read, fast_write)
    driver.major_function[IrpMajor.CREATE] = create
    driver.major_function[IrpMajor.CLEANUP] = cleanup
    driver.major_function[IrpMajor.CLOSE] = close
    driver.major_function[IrpMajor.READ] = read
    driver.major_function[IrpMajor.WRITE] = write
    driver.major_function[IrpMajor.FLUSH_BUFFERS] = flush
    driver.major_function[IrpMajor.DEVICE_CONTROL] = device_control
    driver.major_function[IrpMajor.PNP] = pnp
    driver.major_function[IrpMajor.POWER] = power
    driver.major_function[IrpMajor.SYSTEM_CONTROL] = system_control
    return STATUS_SUCCESS


def unload(_driver: DriverObject) -> None:
    """DriverUnload: every device is gone by now, and each took its timers and DPCs along."""
