"""A filter driver that only counts: one number per major function. It may sit anywhere in a stack.

It is also the smallest filter that is a whole one: every request is passed on by skipping its own stack location, which
costs one more dispatch and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    DO_DIRECT_IO,
    DO_STREAM_READ,
    IrpMajor,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, NtStatus


class CounterExtension:
    """DEVICE_EXTENSION: the device below, and how many requests of each major function have passed."""

    __slots__ = ("counts", "lower")

    def __init__(self) -> None:
        self.counts = [0] * len(IrpMajor)
        self.lower: DeviceObject[Any]

    def statistics(self) -> dict[str, int]:
        """The numbers that are not zero, by name."""
        return {major.name: self.counts[major] for major in IrpMajor if self.counts[major]}


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Every major function passes through."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in IrpMajor:
        driver.major_function[major] = pass_through
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice: on top of whatever is there; a filter looks like the device below it."""
    extension = CounterExtension()
    device = driver.io.create_device(driver, extension)
    lower = extension.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= lower.flags & (DO_BUFFERED_IO | DO_DIRECT_IO | DO_STREAM_READ)
    device.device_type = lower.device_type
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def pass_through(device: DeviceObject[CounterExtension], irp: Irp) -> NtStatus:
    """Dispatch routine: count, and hand on."""
    extension = device.extension
    extension.counts[irp.current_stack_location.major_function] += 1
    irp.skip_current_stack_location()
    return device.io.call_driver(extension.lower, irp)


def pnp(device: DeviceObject[CounterExtension], irp: Irp) -> NtStatus:
    """Dispatch routine: as above, and after REMOVE_DEVICE the filter leaves the stack."""
    minor = irp.current_stack_location.minor_function
    status = pass_through(device, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(device.extension.lower)
        device.io.delete_device(device)
    return status
