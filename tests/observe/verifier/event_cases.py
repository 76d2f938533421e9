"""A faulty driver and its clean twin for each rule about events, and about IRPs that a driver makes and waits for."""

from __future__ import annotations

from typing import Any

from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import FILE_DEVICE_UNKNOWN, IrpMajor
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.observe.verifier.down_cases import kept
from tests.observe.verifier.stage import Device, Stage, case, end, end_from_dpc, filter_with, hold
from tests.support import complete, succeed

IOCTL = ctl_code(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, 0)


def _end_soon(device: Device) -> None:
    """What `device` holds ends in a millisecond: while somebody waits for it."""

    def routine(_dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        end(device)

    device.ke.set_timer(Ktimer(), relative_ms(1), dpc=Kdpc(routine, None, device))


@case("CompletionEventChecking")
def completion_event_checking(stage: Stage, wrong: bool) -> None:
    def came_back(device: Any, irp: Irp, event: Any) -> NtStatus:
        if wrong and irp.pending_returned:
            irp.mark_pending()
        device.ke.set_event(event)
        return STATUS_SUCCESS if wrong else STATUS_MORE_PROCESSING_REQUIRED

    def read(device: Device, irp: Irp) -> NtStatus:
        event = Kevent()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back, event)
        status = device.io.call_driver(device.extension.lower, irp)
        _end_soon(bottom)
        if wrong:
            return status
        device.ke.wait_for_single_object(event, None)
        return complete(device, irp)

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    stage.bridge.machine.run_until_idle()


@case("SignalEventInCompletion")
def signal_event_in_completion(stage: Stage, wrong: bool) -> None:
    def came_back(device: Any, irp: Irp, event: Any) -> NtStatus:
        if irp.pending_returned and not wrong:
            device.ke.set_event(event)
        return STATUS_MORE_PROCESSING_REQUIRED

    def read(device: Device, irp: Irp) -> NtStatus:
        event = Kevent()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back, event)
        device.io.call_driver(device.extension.lower, irp)
        _end_soon(bottom)
        assert device.ke.wait_for_single_object(event, 1.0) is not wrong
        return complete(device, irp)

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()


def _built(stage: Stage, wrong: bool, major: IrpMajor) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        lower = device.extension.lower
        if major is IrpMajor.DEVICE_CONTROL:
            own = device.io.build_device_io_control_request(IOCTL, lower, b"", 0, Kevent())
        else:
            own = device.io.build_synchronous_fsd_request(major, lower, Kevent())
        if wrong:
            assert device.io.call_driver(lower, own) == STATUS_PENDING
        else:
            _end_soon(bottom)
            device.io.call_and_wait(lower, own)
        return complete(device, irp)

    bottom = stage.plug(hold, major, filters=(filter_with(read),))
    stage.submit()
    if wrong:
        end_from_dpc(bottom)


@case("IoBuildDeviceControlWait")
def io_build_device_control_wait(stage: Stage, wrong: bool) -> None:
    _built(stage, wrong, IrpMajor.DEVICE_CONTROL)


@case("IoBuildSynchronousFsdRequestWait")
def io_build_synchronous_fsd_request_wait(stage: Stage, wrong: bool) -> None:
    _built(stage, wrong, IrpMajor.FLUSH_BUFFERS)


@case("IoBuildFsdComplete")
def io_build_fsd_complete(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        lower = device.extension.lower
        own = device.io.build_asynchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, lower)
        own.set_completion_routine(kept)
        device.io.call_driver(lower, own)
        if wrong:
            device.io.complete_request(own)
        else:
            device.io.free_irp(own)
        return complete(device, irp)

    stage.plug(succeed, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()


@case("CriticalRegionAtReturn")
def critical_region_at_return(stage: Stage, wrong: bool) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        device.ke.enter_critical_region()
        if not wrong:
            device.ke.leave_critical_region()
        return complete(device, irp)

    stage.read(read)
