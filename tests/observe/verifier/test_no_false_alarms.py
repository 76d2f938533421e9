"""What good drivers do that looks like a mistake, and is none. And what only looks like a rule kept."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, DeviceTimeout
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import IrpMajor, PnpMinor
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.observe.verifier.remlocks import VerifiedRemoveLock, locks_of
from hilbridge.virtual.line import VirtualLine
from tests.observe.verifier.bus import plug_bus
from tests.observe.verifier.down_cases import goes_on
from tests.observe.verifier.remlock_cases import own_lock
from tests.observe.verifier.stage import Device, Stage, end_from_dpc, filter_with, hold, send_power
from tests.support import TinyDriver, complete, pass_down, succeed


def names(stage: Stage) -> list[str]:
    stage.close()
    return [finding.rule.name for finding in stage.bridge.findings]


# -- remove locks ----------------------------------------------------------------------------------------------------------


def test_a_kernel_under_the_verifier_makes_remove_locks_that_remember() -> None:
    stage = Stage()
    assert type(RemoveLock(stage.ke)) is VerifiedRemoveLock
    assert names(stage) == []


def test_a_lock_that_is_held_for_the_dispatch_routine_only() -> None:
    """The IRP ends in a DPC meanwhile: the routine has not released the lock yet, and will."""
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        hold(device, irp)
        end_from_dpc(device)
        assert lock.count == 1
        lock.release(irp)
        return STATUS_PENDING

    request = stage.read(read)
    assert request is not None
    assert request.done
    assert names(stage) == []


def test_a_filter_that_releases_its_lock_after_call_driver_though_the_irp_has_ended_in_there() -> None:
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(goes_on)
        status = device.io.call_driver(device.extension.lower, irp)
        assert lock.count == 1
        lock.release(irp)
        return status

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()
    assert names(stage) == []


def test_the_same_filter_that_does_not_is_found_when_its_routine_returns() -> None:
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(goes_on)
        return device.io.call_driver(device.extension.lower, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()
    assert names(stage) == ["RemoveLockForward"]


def test_a_driver_that_waits_for_the_irp_and_completes_it_keeps_the_lock_until_then() -> None:
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        device.io.forward_and_wait(device.extension.lower, irp)
        status = complete(device, irp)
        lock.release(irp)
        return status

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()
    assert names(stage) == []


def test_the_same_that_forgets_it_is_found_once() -> None:
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        device.io.forward_and_wait(device.extension.lower, irp)
        return complete(device, irp)

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()
    assert names(stage) == ["RemoveLock"]


def test_a_lock_that_is_held_for_something_else_than_the_irp_is_not_followed() -> None:
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def read(device: Device, irp: Irp) -> NtStatus:
        lock.acquire("the timer")
        return complete(device, irp)

    stage.read(read)
    assert lock.count == 1
    assert names(stage) == []


def test_a_lock_that_is_no_devices_may_be_run_down_anywhere() -> None:
    """That of a file object, in CLEANUP."""
    stage = Stage()
    lock = RemoveLock(stage.ke)

    def cleanup(device: Device, irp: Irp) -> NtStatus:
        lock.acquire(irp)
        lock.release_and_wait(irp)
        return complete(device, irp)

    device = stage.plug(cleanup, IrpMajor.CLEANUP)
    assert locks_of(device) == []
    stage.open().close()
    assert lock.removed
    assert names(stage) == []


def test_who_is_refused_the_lock_and_completes_the_irp_is_right_also_if_the_next_one_is_passed_down() -> None:
    stage = Stage()
    lock = RemoveLock(stage.ke)
    lock.acquire()
    lock.release_and_wait()
    refused: list[NtStatus] = []

    def read(device: Device, irp: Irp) -> NtStatus:
        if refused:
            return pass_down(device, irp)
        refused.append(lock.acquire(irp))
        return complete(device, irp, refused[0])

    stage.plug(succeed, filters=(filter_with(read),))
    stage.submit()
    stage.submit()
    assert refused == [STATUS_DELETE_PENDING]
    assert names(stage) == []


def test_a_lock_is_found_in_an_extension_with_slots_too() -> None:
    class Slotted:
        __slots__ = ("lock",)

        def __init__(self, lock: RemoveLock) -> None:
            self.lock = lock

    stage = Stage()
    device = stage.plug(succeed)
    lock = RemoveLock(stage.ke)
    second: Any = stage.io.create_device(device.driver_object, Slotted(lock))
    assert locks_of(second) == [lock]
    third: Any = stage.io.create_device(device.driver_object, lock)
    assert locks_of(third) == [lock]
    stage.io.delete_device(second)
    stage.io.delete_device(third)
    assert [type(one) for one in (own_lock(device), *locks_of(device))] == [VerifiedRemoveLock] * 2
    del vars(device.extension)["remove_lock"]
    stage.bridge.close()


# -- relations -------------------------------------------------------------------------------------------------------------


def test_the_pdo_of_a_bus_that_has_gone_may_delete_itself() -> None:
    def child(device: Device, irp: Irp) -> None:
        if irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE:
            device.io.delete_device(device)

    stage = Stage()
    bus = plug_bus(stage, child)
    stage.bridge.unplug("BUS")
    assert bus.children[0].delete_pending
    assert names(stage) == []


def test_a_pdo_that_is_not_reported_any_more_deletes_itself() -> None:
    def child(device: Device, irp: Irp) -> None:
        if irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE and device not in bus.reported:
            device.io.delete_device(device)

    stage = Stage()
    bus = plug_bus(stage, child, children=2)
    gone = bus.reported.pop()
    stage.io.invalidate_device_relations(bus.device.bottom)
    stage.bridge.machine.run_until_idle()
    assert gone.delete_pending
    assert names(stage) == []


# -- events, and what is waited for ----------------------------------------------------------------------------------------


def test_a_routine_that_marks_the_irp_pending_and_sets_some_other_event() -> None:
    """It tells a thread that there is work; nobody waits for this IRP."""
    stage = Stage()
    work = Kevent()

    def came_back(device: Any, irp: Irp, context: object) -> NtStatus:
        device.ke.set_event(work)
        return goes_on(device, irp, context)

    def read(device: Device, irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back)
        return device.io.call_driver(device.extension.lower, irp)

    bottom = stage.plug(hold, filters=(filter_with(read),))
    stage.submit()
    end_from_dpc(bottom)
    assert work.signaled
    assert names(stage) == []


def test_a_request_of_ones_own_that_has_ended_when_the_routine_returns_was_waited_for() -> None:
    """However it was: here the driver has seen in the IRP that it has ended."""
    stage = Stage()

    def read(device: Device, irp: Irp) -> NtStatus:
        lower = device.extension.lower
        own = device.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, lower, Kevent())
        assert device.io.call_driver(lower, own) == STATUS_PENDING
        end_from_dpc(bottom)
        return complete(device, irp)

    bottom = stage.plug(hold, IrpMajor.FLUSH_BUFFERS, filters=(filter_with(read),))
    stage.submit()
    assert names(stage) == []


# -- status ----------------------------------------------------------------------------------------------------------------


def test_a_driver_may_pass_on_the_failure_of_a_power_request_that_came_from_below() -> None:
    """It is the bus driver's, or that of whoever is in between."""
    stage = Stage()

    def power(device: Device, irp: Irp) -> NtStatus:
        def came_back(_device: Any, irp: Irp, _context: object) -> NtStatus:
            assert irp.io_status.status == STATUS_SUCCESS
            return STATUS_SUCCESS

        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back)
        return device.io.call_driver(device.extension.lower, irp)

    send_power(stage, power)
    assert names(stage) == []


def test_of_a_filter_that_returns_what_the_driver_below_has_returned_nothing_is_said() -> None:
    stage = Stage()

    def read(device: Device, irp: Irp) -> Any:
        complete(device, irp)
        return None

    stage.plug(read, filters=(filter_with(pass_down),))
    stage.submit()
    stage.close()
    (finding,) = stage.bridge.findings
    assert (finding.rule.name, finding.driver) == ("SuspiciousReturn", "faulty")
    assert finding.place is not None
    assert "test_no_false_alarms.py" in finding.place


def test_a_finding_of_a_routine_without_an_irp_shows_the_one_that_the_driver_was_busy_with() -> None:
    stage = Stage()

    def read(device: Device, irp: Irp) -> NtStatus:
        with device.ke.raised_irql(3):
            device.io.allocate_irp(1)
        return complete(device, irp)

    stage.read(read)
    stage.close()
    (finding,) = stage.bridge.findings
    assert finding.rule.name == "IrqlIoDispatchLte"
    assert finding.irp is not None
    assert finding.irp["major"] == "IRP_MJ_READ"


def test_a_dpc_of_another_driver_does_not_answer_for_the_irp_that_its_thread_was_busy_with() -> None:
    stage = Stage()

    def routine(dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        assert dpc.device is not None
        with dpc.device.ke.raised_irql(3):
            dpc.device.io.allocate_irp(1)

    def read(device: Device, irp: Irp) -> NtStatus:
        device.ke.insert_queue_dpc(Kdpc(routine, None, other.device))
        return complete(device, irp)

    other = TinyDriver("other")
    stage.bridge.plug("virtual:null", name="OTHER", driver=other)
    stage.read(read)
    stage.close()
    (finding,) = stage.bridge.findings
    assert (finding.driver, finding.irp) == ("other", None)


# -- fast I/O ------------------------------------------------------------------------------------------------------------


def test_the_rest_of_a_fast_write_is_an_irp_that_counts_as_sent() -> None:
    """The driver is given it under its lock, and not through call_driver."""
    line = VirtualLine(room=2)
    with Bridge.manual(verify=True) as bridge:
        with bridge.open(bridge.plug(line)) as port:
            with pytest.raises(DeviceTimeout):
                port.write(b"abcd", timeout=1)
            line.accept(2)
            assert port.write(b"ef") == 2
        assert (bytes(line.sent), bridge.findings) == (b"abef", [])
