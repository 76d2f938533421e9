"""How held requests end without being served, whose they are, and what a driver can do wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, DeviceTimeout, DriverFault
from hilbridge.iomgr.hold import HoldQueue
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.iomgr.holdkit import Bench, ends, serve
from tests.support import TinyDriver, complete, now, pass_down, plug


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- cancellation, deadlines, handles ----------------------------------------------------------------------------------


def test_what_is_held_can_be_cancelled(bench: Bench) -> None:
    bench.hold.hold()
    first, second, third = bench.submit_all(1, 2, 3)
    assert second.cancel()
    assert ends([second]) == [STATUS_CANCELLED] and len(bench.hold) == 2
    bench.hold.release()
    assert bench.served == [1, 3]
    assert ends([first, third]) == [STATUS_SUCCESS] * 2


def test_cancel_io_ends_all_of_the_thread(bench: Bench) -> None:
    bench.hold.hold()
    requests = bench.submit_all(1, 2)
    assert bench.io.cancel_io(bench.file) == 2
    assert ends(requests) == [STATUS_CANCELLED] * 2


def test_a_closed_handle_ends_its_own_also_if_the_driver_forgets_them(bench: Bench) -> None:
    other = bench.system.open(bench.device)
    bench.hold.hold()
    mine = bench.submit(1)
    others = bench.system.read(other, 2)
    bench.io.close_file(bench.file)
    assert ends([mine]) == [STATUS_CANCELLED] and not now(others.done)
    bench.hold.release()
    assert bench.served == [2] and others.done


def test_cleanup_ends_those_of_one_file(bench: Bench) -> None:
    other = bench.system.open(bench.device)
    bench.hold.hold()
    mine, others = bench.submit(1), bench.system.read(other, 2)
    bench.hold.cleanup(bench.file)
    assert ends([mine]) == [STATUS_CANCELLED] and not others.done


def test_a_deadline_ends_it() -> None:
    """Seen from an application. Afterwards nothing of it is left."""
    hold: list[HoldQueue] = []

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        return STATUS_PENDING if hold[0].insert(irp) else serve(device, irp)

    driver = TinyDriver("holder", {IrpMajor.READ: read})
    with Bridge.manual() as bridge:
        plug(bridge, driver)
        hold.append(HoldQueue(bridge.io, driver.device))
        with bridge.open("DUT") as handle:
            hold[0].hold()
            with pytest.raises(DeviceTimeout):
                handle.read(4, timeout=0.5)
            assert bridge.ke.clock.now() == 500_000_000
            assert len(hold[0]) == 0 and bridge.pending() == []


def test_one_that_was_cancelled_before_it_came_is_not_held(bench: Bench) -> None:
    def cancel_first(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.cancel = True
        return bench.read(device, irp)

    bench.device.driver_object.major_function[IrpMajor.READ] = cancel_first
    bench.hold.hold()
    assert ends([bench.submit(1)]) == [STATUS_CANCELLED]
    assert len(bench.hold) == 0


def test_a_driver_may_end_the_cancelled_ones_itself() -> None:
    bench = Bench()
    ended: list[int] = []

    def with_a_note(irp: Irp) -> None:
        ended.append(irp.current_stack_location.parameters.read.length)
        complete(bench.device, irp, STATUS_CANCELLED)

    bench.hold = HoldQueue(bench.io, bench.device, with_a_note)
    bench.hold.hold()
    first, second = bench.submit_all(1, 2)
    first.cancel()
    bench.hold.cleanup(bench.file)
    assert ended == [1, 2] and ends([first, second]) == [STATUS_CANCELLED] * 2


# -- the end of the device ---------------------------------------------------------------------------------------------


def test_a_removal_ends_everything_and_holds_nothing_any_more(bench: Bench) -> None:
    bench.hold.hold("stop")
    bench.hold.hold("sleep")
    requests = bench.submit_all(1, 2)
    bench.hold.fail(STATUS_DELETE_PENDING)
    assert ends(requests) == [STATUS_DELETE_PENDING] * 2
    assert [request.information for request in requests] == [0, 0]
    assert not bench.hold.active
    assert ends([bench.submit(3)]) == [STATUS_SUCCESS]  # that is the dispatch routine's to refuse
    bench.hold.release("stop")
    assert bench.served == [3]


def test_a_removal_in_the_middle_of_the_release() -> None:
    bench = Bench()

    def serve_and_fail(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        bench.hold.fail(STATUS_DELETE_PENDING)
        return serve(device, irp)

    bench.then = serve_and_fail
    bench.hold.hold()
    requests = bench.submit_all(1, 2, 3)
    bench.hold.release()
    assert ends(requests) == [STATUS_SUCCESS, STATUS_DELETE_PENDING, STATUS_DELETE_PENDING]
    assert bench.served == [1] and not bench.hold.active


# -- requests of drivers, other places in the stack --------------------------------------------------------------------


def test_a_request_of_a_driver_is_held_as_well(bench: Bench) -> None:
    event = Kevent()
    buffer = bytearray(4)
    bench.hold.hold()
    irp = bench.io.build_synchronous_fsd_request(IrpMajor.READ, bench.device, event, buffer=buffer)
    assert bench.io.call_driver(bench.device, irp) == STATUS_PENDING
    assert not now(event.signaled)
    bench.hold.release()
    assert event.signaled and irp.io_status.information == 4


def test_below_a_filter_the_filters_sender_hears_of_it() -> None:
    bench = Bench()
    filter_driver = TinyDriver("above", {IrpMajor.READ: pass_down}, named=False)
    loaded = bench.io.load_driver("above", filter_driver.driver_entry)
    assert loaded.add_device is not None
    loaded.add_device(loaded, bench.device)
    bench.hold.hold()
    request = bench.submit(2)
    assert not now(request.done) and request.holder().startswith("driver holder")
    bench.hold.release()
    assert request.status == STATUS_SUCCESS and request.information == 2


# -- mistakes ----------------------------------------------------------------------------------------------------------


def raising(_device: DeviceObject[Any], _irp: Irp) -> NtStatus:
    raise RuntimeError("not today")


def returning_nothing(device: DeviceObject[Any], irp: Irp) -> Any:
    complete(device, irp)


def forgetting(_device: DeviceObject[Any], _irp: Irp) -> NtStatus:
    return STATUS_SUCCESS


def raised(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    device.ke.current().irql = DISPATCH_LEVEL
    return serve(device, irp)


@pytest.mark.parametrize(
    ("routine", "words"),
    [
        (raising, "not today"),
        (returning_nothing, "returned None from its dispatch routine"),
        (forgetting, "returned STATUS_SUCCESS without completing"),
        (raised, "IRQL leak"),
    ],
)
def test_a_mistake_with_a_held_request_is_the_drivers(routine: Callable[..., Any], words: str) -> None:
    bench = Bench(routine)
    bench.hold.hold()
    requests = bench.submit_all(1, 2)
    bench.hold.release()
    fault = bench.device.device_stack.fault
    assert isinstance(fault, HilbridgeError) and words in str(fault)
    assert "holder" in str(fault)
    assert all(request.done for request in requests), "the stack has failed, and with it what it held"
    assert requests[1].status != STATUS_SUCCESS
    assert not bench.hold.active and bench.ke.irql == PASSIVE_LEVEL


def test_the_fault_of_a_held_request_reaches_its_caller() -> None:
    hold: list[HoldQueue] = []

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        return STATUS_PENDING if hold[0].insert(irp) else raising(device, irp)

    driver = TinyDriver("holder", {IrpMajor.READ: read})
    with Bridge.manual(restarts=0) as bridge:
        plug(bridge, driver)
        hold.append(HoldQueue(bridge.io, driver.device))
        handle = bridge.open("DUT")
        hold[0].hold()
        request = handle.submit_read(4)
        hold[0].release()
        with pytest.raises(DriverFault, match="not today"):
            request.result()
        assert len(bridge.acknowledge_faults()) == 1
        handle.close()
