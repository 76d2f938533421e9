"""A faulty driver and its clean twin for each rule about cancellation, queues, IRPs of drivers and devices."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from hilbridge import HilbridgeError
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    DO_DIRECT_IO,
    DO_POWER_PAGABLE,
    FILE_DEVICE_CONTROLLER,
    IrpMajor,
    Irql,
    PnpMinor,
    WmiRegAction,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.observe.verifier.stage import Device, Stage, case, end, end_from_dpc, filter_with, hold, pnp_driver
from tests.support import TinyDriver, complete, pass_down, succeed


def kept(_device: Any, _irp: Irp, _context: object) -> NtStatus:
    return STATUS_MORE_PROCESSING_REQUIRED


# -- cancellation and queues -----------------------------------------------------------------------------------------------


@case("CancelRoutineBelow")
def cancel_routine_below(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        if wrong:
            irp.set_cancel_routine(lambda _device, _irp: None)
        return status

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    bottom.extension.held[0].set_cancel_routine(None)
    if not bottom.device_stack.fault:
        end(bottom)


@case("CancelSpinLock")
def cancel_spin_lock(stage: Stage, wrong: bool) -> None:
    def cancelled(device: Any, irp: Irp) -> None:
        if not wrong:
            device.io.release_cancel_spin_lock(device)
            complete(device, irp)

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.set_cancel_routine(cancelled)
        assert not irp.cancel
        return STATUS_PENDING

    request = stage.read(read)
    assert request is not None
    with contextlib.suppress(HilbridgeError):
        request.cancel()


@case("CancelStateInCompletedIrp")
def cancel_state_in_completed_irp(stage: Stage, wrong: bool) -> None:
    def cancelled(device: Any, _irp: Irp) -> None:
        device.io.release_cancel_spin_lock(device)

    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, device.extension.lower, Kevent())
        device.io.call_driver(device.extension.lower, own)
        if wrong:
            own.set_cancel_routine(cancelled)
        device.io.cancel_irp(own)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()


def _start_io(stage: Stage, *, recursive: bool, deferred: bool, twice: bool = False) -> None:
    def start_io(device: Device, irp: Irp) -> None:
        if recursive:
            device.io.start_next_packet(device)
        complete(device, irp)

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.io.start_packet(device, irp)
        if not recursive:
            with device.ke.raised_irql(Irql.DISPATCH):
                device.io.start_next_packet(device)
                if twice:
                    device.io.start_next_packet(device)
        return STATUS_PENDING

    device = stage.plug(read, start_io=start_io)
    device.io.set_start_io_attributes(device, deferred=deferred)
    stage.submit()


@case("StartIoRecursion")
def start_io_recursion(stage: Stage, wrong: bool) -> None:
    _start_io(stage, recursive=True, deferred=not wrong)


@case("DeviceQueueNotBusy")
def device_queue_not_busy(stage: Stage, wrong: bool) -> None:
    _start_io(stage, recursive=False, deferred=False, twice=wrong)


@case("StartNextPacketIrql")
def start_next_packet_irql(stage: Stage, wrong: bool) -> None:
    def start_io(device: Device, irp: Irp) -> None:
        complete(device, irp)

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.io.start_packet(device, irp)
        with device.ke.raised_irql(Irql.PASSIVE if wrong else Irql.DISPATCH):
            device.io.start_next_packet(device)
        return STATUS_PENDING

    stage.read(read, start_io=start_io)


# -- IRPs of drivers -------------------------------------------------------------------------------------------------------


@case("IoAllocateComplete")
def io_allocate_complete(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.allocate_irp(device.extension.lower.stack_size)
        own.next_stack_location.major_function = IrpMajor.FLUSH_BUFFERS
        own.set_completion_routine(kept)
        device.io.call_driver(device.extension.lower, own)
        if not wrong:
            end_from_dpc(bottom)
        device.io.free_irp(own)
        return complete(device, irp)

    bottom = stage.plug(hold, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()
    if wrong:
        end(bottom)
        stage.io._allocated.clear()  # type: ignore[attr-defined]  # it is not freed any more: that is not this rule's


@case("IoBuildFree")
def io_build_free(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, device.extension.lower, Kevent())
        device.io.call_driver(device.extension.lower, own)
        if wrong:
            device.io.free_irp(own)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()


@case("IoFreeIrp")
def io_free_irp(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.allocate_irp(1)
        device.io.free_irp(own)
        if wrong:
            device.io.free_irp(cast("Irp", b"own"))
        return complete(device, irp)

    stage.read(read)


def _reuse(stage: Stage, *, allocated: bool, early: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        lower = device.extension.lower
        if allocated:
            own = device.io.allocate_irp(lower.stack_size)
            own.next_stack_location.major_function = IrpMajor.FLUSH_BUFFERS
        else:
            own = device.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, lower, Kevent())
        if allocated:
            own.set_completion_routine(kept)
        device.io.call_driver(lower, own)
        if not early:
            end_from_dpc(bottom)
        device.io.reuse_irp(own)
        device.io.free_irp(own)
        return complete(device, irp)

    bottom = stage.plug(hold, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()
    if early:
        end(bottom)
    stage.io._allocated.clear()  # type: ignore[attr-defined]  # after the fault nobody frees it: that is not this rule's


@case("IoReuseIrp")
def io_reuse_irp(stage: Stage, wrong: bool) -> None:
    _reuse(stage, allocated=True, early=wrong)


@case("IoReuseIrp2")
def io_reuse_irp2(stage: Stage, wrong: bool) -> None:
    _reuse(stage, allocated=not wrong, early=False)


@case("IrpLeaked")
def irp_leaked(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.allocate_irp(1)
        if not wrong:
            device.io.free_irp(own)
        return complete(device, irp)

    stage.read(read)


# -- devices ---------------------------------------------------------------------------------------------------------------


class AddDevice(TinyDriver):
    """A driver that does something to its device at the end of AddDevice."""

    def __init__(self, name: str, change: Any, *, named: bool = True, **options: Any) -> None:
        dispatch: dict[IrpMajor, Any] = {} if named else {m: pass_down for m in IrpMajor if m is not IrpMajor.PNP}
        super().__init__(name, dispatch, named=named, **options)
        self._change = change

    def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        self._change(self.device)
        return status


def _added(stage: Stage, change: Any, below: Any = None, *, filtered: bool = True) -> None:
    driver = AddDevice("faulty", below or (lambda device: None)) if filtered else AddDevice("faulty", change)
    filters = [AddDevice("filter", change, named=False)] if filtered else []
    with contextlib.suppress(HilbridgeError):
        stage.bridge.plug("virtual:null", name="DUT", driver=driver, upper_filters=filters)


@case("DeviceInitializing")
def device_initializing(stage: Stage, wrong: bool) -> None:
    def change(device: Device) -> None:
        device.flags |= DO_DEVICE_INITIALIZING if wrong else 0

    _added(stage, change, filtered=False)


@case("BufferedAndDirect")
def buffered_and_direct(stage: Stage, wrong: bool) -> None:
    def change(device: Device) -> None:
        device.flags |= DO_DIRECT_IO if wrong else DO_BUFFERED_IO

    _added(stage, change, filtered=False)


@case("CheckDeviceObjectFlags")
def check_device_object_flags(stage: Stage, wrong: bool) -> None:
    def change(device: Device) -> None:
        if wrong:
            device.flags &= ~DO_BUFFERED_IO

    _added(stage, change)


@case("PowerPagableNotInherited")
def power_pagable_not_inherited(stage: Stage, wrong: bool) -> None:
    def below(device: Device) -> None:
        device.flags |= DO_POWER_PAGABLE

    def change(device: Device) -> None:
        if not wrong:
            device.flags |= DO_POWER_PAGABLE

    _added(stage, change, below)


@case("DeviceTypeNotCopied")
def device_type_not_copied(stage: Stage, wrong: bool) -> None:
    def below(device: Device) -> None:
        device.device_type = FILE_DEVICE_CONTROLLER

    def change(device: Device) -> None:
        if not wrong:
            device.device_type = FILE_DEVICE_CONTROLLER

    _added(stage, change, below)


@case("RequiredMajorMissing")
def required_major_missing(stage: Stage, wrong: bool) -> None:
    class NoPnp(TinyDriver):
        def driver_entry(self, driver: DriverObject, parameters: Any) -> NtStatus:
            status = super().driver_entry(driver, parameters)
            if wrong:
                driver.major_function[IrpMajor.PNP] = None
            return status

    stage.bridge.plug("virtual:null", name="DUT", driver=NoPnp("faulty"))
    if wrong:
        # Nobody takes such a device down, which is why the rule is there; the test does it for the driver.
        device = stage.bridge.stack("DUT")[0]
        assert device.lower_device is not None
        stage.io.detach_device(device.lower_device)
        stage.io.delete_device(device)


def _removal(stage: Stage, at: PnpMinor, what: Any, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if wrong and irp.current_stack_location.minor_function == at:
            irp.io_status.status = STATUS_SUCCESS
            return cast("NtStatus", what(device, irp))
        return cast("NtStatus", proper(device, irp))

    stage.bridge.plug("virtual:null", name="DUT", driver=pnp_driver(pnp))
    with contextlib.suppress(HilbridgeError):
        stage.bridge.unplug("DUT")


@case("RemoveWithoutDetach")
def remove_without_detach(stage: Stage, wrong: bool) -> None:
    _removal(stage, PnpMinor.REMOVE_DEVICE, pass_down, wrong)


@case("RemoveWithoutDelete")
def remove_without_delete(stage: Stage, wrong: bool) -> None:
    def what(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        device.io.detach_device(device.extension.lower)
        return status

    _removal(stage, PnpMinor.REMOVE_DEVICE, what, wrong)


@case("SurpriseDetach")
def surprise_detach(stage: Stage, wrong: bool) -> None:
    def what(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        device.io.detach_device(device.extension.lower)
        return status

    _removal(stage, PnpMinor.SURPRISE_REMOVAL, what, wrong)


@case("PnpSurpriseRemove")
def pnp_surprise_remove(stage: Stage, wrong: bool) -> None:
    def what(device: Device, irp: Irp) -> NtStatus:
        status = pass_down(device, irp)
        device.io.delete_device(device)
        return status

    _removal(stage, PnpMinor.SURPRISE_REMOVAL, what, wrong)


@case("DeviceDeletedAttached")
def device_deleted_attached(stage: Stage, wrong: bool) -> None:
    def what(device: Device, irp: Irp) -> NtStatus:
        pass_down(device, irp)
        device.io.delete_device(device)
        return STATUS_SUCCESS

    _removal(stage, PnpMinor.REMOVE_DEVICE, what, wrong)


@case("DetachedNotAttached")
def detached_not_attached(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        if wrong:
            device.io.detach_device(device)
        return complete(device, irp)

    stage.read(read)


@case("IoInitializeTimerTwice")
def io_initialize_timer_twice(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        for _ in range(2 if wrong else 1):
            device.io.initialize_timer(device, lambda _device, _context: None)
        return complete(device, irp)

    stage.read(read)


@case("DeviceDeletedTwice")
def device_deleted_twice(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        own = device.io.create_device(device.driver_object, None)
        device.io.delete_device(own)
        if wrong:
            device.io.delete_device(own)
        return complete(device, irp)

    stage.read(read)


@case("WmiRegisteredAtDelete")
def wmi_registered_at_delete(stage: Stage, wrong: bool) -> None:
    def pnp(device: Device, irp: Irp, proper: Any) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE and not wrong:
            device.io.wmi_registration_control(device, WmiRegAction.DEREGISTER)
        return cast("NtStatus", proper(device, irp))

    driver = pnp_driver(pnp)
    stage.bridge.plug("virtual:null", name="DUT", driver=driver)
    stage.io.wmi_registration_control(driver.device, WmiRegAction.REGISTER)
    with contextlib.suppress(HilbridgeError):
        stage.bridge.unplug("DUT")
