"""A faulty driver and its clean twin for each rule about AddDevice, the start, references, and IRPs that drivers build."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hilbridge import HilbridgeError
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    FILE_DEVICE_UNKNOWN,
    FO_CLEANUP_COMPLETE,
    IrpMajor,
    PnpMinor,
    PowerMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.hardware import CAUSE_RX
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.observe.verifier.device_cases import AddDevice
from tests.observe.verifier.down_cases import kept
from tests.observe.verifier.stage import Device, Stage, case, filter_with, pnp_driver, send_power
from tests.support import Extension, TinyDriver, complete, pass_down, succeed, uart_isr

IOCTL = ctl_code(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, 0)


class Adds(TinyDriver):
    """A driver that makes a device, and has not attached it when its AddDevice returns."""

    def __init__(self, status: NtStatus, *, deletes: bool) -> None:
        super().__init__("faulty")
        self.status = status
        self.deletes = deletes

    def add_device(self, driver: DriverObject, _physical: DeviceObject[Any]) -> NtStatus:
        device = driver.io.create_device(driver, Extension())
        if self.deletes:
            driver.io.delete_device(device)
        return self.status


def _adds(stage: Stage, status: NtStatus, wrong: bool) -> None:
    driver = Adds(status, deletes=not wrong)
    with contextlib.suppress(HilbridgeError):
        stage.bridge.plug("virtual:null", name="DUT", driver=TinyDriver("function"), upper_filters=[driver])
    loaded = stage.io.drivers.get("faulty")
    for device in loaded.devices if loaded is not None else ():
        stage.io.delete_device(device)  # nobody else does, which is another rule's


@case("AddDevice")
def add_device(stage: Stage, wrong: bool) -> None:
    _adds(stage, STATUS_SUCCESS, wrong)


@case("AddDeviceFailed")
def add_device_failed(stage: Stage, wrong: bool) -> None:
    _adds(stage, STATUS_INSUFFICIENT_RESOURCES, wrong)


@case("PnpSameDeviceObject")
def pnp_same_device_object(stage: Stage, wrong: bool) -> None:
    other = TinyDriver("other")
    stage.bridge.plug("virtual:null", name="OTHER", driver=other)

    def change(device: Device) -> None:
        second: Device = device.io.create_device(device.driver_object, Extension())
        lower = device.io.attach_device_to_device_stack(second, other.device if wrong else device)
        device.io.detach_device(lower)
        device.io.delete_device(second)

    stage.bridge.plug("virtual:null", name="DUT", driver=AddDevice("faulty", change))


@case("DanglingDeviceObjectReference")
def dangling_device_object_reference(stage: Stage, wrong: bool) -> None:
    taken: list[Device] = []

    def read(device: Device, irp: Irp) -> NtStatus:
        taken.append(device.io.get_attached_device_reference(other.device))
        if not wrong:
            device.io.dereference_object(taken.pop())
        return complete(device, irp)

    other = TinyDriver("other")
    stage.bridge.plug("virtual:null", name="OTHER", driver=other)
    stage.read(read)
    for handle in stage.handles:
        handle.close()
    stage.bridge.unplug("DUT")
    stage.io.unload_driver("faulty")
    for device in taken:
        stage.io.dereference_object(device)


@case("PdoNeeded")
def pdo_needed(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        device.io.invalidate_device_relations(device if wrong else device.bottom)
        return complete(device, irp)

    stage.read(read)


@case("StartDeviceWait")
def start_device_wait(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        location = irp.current_stack_location
        if location.minor_function != PnpMinor.START_DEVICE:
            return cast("NtStatus", proper(device, irp))
        resources: Any = location.parameters.start_device.allocated_resources
        device.extension.line = resources.line
        status = STATUS_SUCCESS if wrong else device.io.forward_and_wait(device.extension.lower, irp)
        device.extension.interrupt = device.io.connect_interrupt(device, uart_isr, device, resources.vector)
        resources.line.enable_interrupts(CAUSE_RX)
        if wrong:
            status = device.io.forward_and_wait(device.extension.lower, irp)
        return complete(device, irp, status)

    stage.bridge.plug(VirtualLine("virtual:faulty", loop=True), name="DUT", driver=pnp_driver(pnp))


@case("PowerDispatchWait")
def power_dispatch_wait(stage: Stage, wrong: bool) -> None:
    def power(device: Device, irp: Irp) -> NtStatus:
        if not wrong:
            return pass_down(device, irp)
        return complete(device, irp, device.io.forward_and_wait(device.extension.lower, irp))

    send_power(stage, power, minor=PowerMinor.SET_POWER)


# -- IRPs of drivers -------------------------------------------------------------------------------------------------------


@case("InvalidFsdBuffer")
def invalid_fsd_buffer(stage: Stage, wrong: bool) -> None:
    def flush(device: Device, irp: Irp) -> NtStatus:
        lower = device.extension.lower
        own = device.io.build_asynchronous_fsd_request(IrpMajor.READ, lower, bytes(4) if wrong else bytearray(4))
        own.set_completion_routine(kept)
        device.io.call_driver(lower, own)
        device.io.free_irp(own)
        return complete(device, irp)

    stage.plug(succeed, filters=(filter_with(flush, IrpMajor.FLUSH_BUFFERS),))
    with contextlib.suppress(HilbridgeError):
        stage.open().flush()


@case("InvalidControlBuffer")
def invalid_control_buffer(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        lower, output = device.extension.lower, bytearray(2 if wrong else 4)
        own = device.io.build_device_io_control_request(IOCTL, lower, b"", 4, Kevent(), output=output)
        device.io.call_and_wait(lower, own)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.DEVICE_CONTROL, filters=(filter_with(read),))
    stage.submit()


@case("CreateWithClosedFile")
def create_with_closed_file(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        lower, file = device.extension.lower, irp.current_stack_location.file_object
        own = device.io.build_synchronous_fsd_request(IrpMajor.CREATE, lower, Kevent())
        assert file is not None
        own.next_stack_location.file_object = file
        if wrong:
            file.flags |= FO_CLEANUP_COMPLETE
        try:
            device.io.call_and_wait(lower, own)
        finally:
            file.flags &= ~FO_CLEANUP_COMPLETE
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.CREATE, filters=(filter_with(read),))
    stage.submit()
