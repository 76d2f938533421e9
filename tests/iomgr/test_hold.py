"""HOLD_NEW_REQUESTS: what comes while a device is stopped waits in order, can be cancelled, and is served afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, DeviceTimeout, DriverFault
from hilbridge.iomgr.hold import HoldQueue
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.dpc import Kdpc
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
from tests.support import Dispatch, System, Thread, TinyDriver, complete, do, now, pass_down, plug, wait


def serve(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    """Note its length, and be done."""
    length = irp.current_stack_location.parameters.read.length
    device.extension.notes.append(length)
    return complete(device, irp, STATUS_SUCCESS, length)


class Bench:
    """A driver that holds its reads. `then` is what it does with one that is not held."""

    def __init__(self, then: Dispatch = serve) -> None:
        self.then = then
        self.driver = TinyDriver("holder", {IrpMajor.READ: self.read})
        self.system = System()
        self.io, self.ke = self.system.io, self.system.ke
        self.device = self.system.stack(self.driver)
        self.hold = HoldQueue(self.io, self.device)
        self.file = self.system.open(self.device)

    def read(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        if self.hold.active and self.hold.insert(irp):
            return STATUS_PENDING
        return self.then(device, irp)

    def submit(self, length: int) -> IoRequest:
        return self.system.read(self.file, length)

    def submit_all(self, *lengths: int) -> list[IoRequest]:
        return [self.submit(length) for length in lengths]

    @property
    def served(self) -> list[int]:
        return self.driver.notes


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ends(requests: list[IoRequest]) -> list[NtStatus]:
    assert all(request.done for request in requests), requests
    return [request.status for request in requests]


# -- holding and releasing ---------------------------------------------------------------------------------------------


def test_nothing_is_held_at_first(bench: Bench) -> None:
    assert not bench.hold.active
    assert ends([bench.submit(3)]) == [STATUS_SUCCESS]


def test_what_is_held_is_served_in_order(bench: Bench) -> None:
    bench.hold.hold()
    requests = bench.submit_all(5, 3, 4)
    assert now(bench.served) == [] and len(bench.hold) == 3
    assert not any(request.done for request in requests)
    bench.hold.release()
    assert bench.served == [5, 3, 4]
    assert ends(requests) == [STATUS_SUCCESS] * 3
    assert [request.information for request in requests] == [5, 3, 4]


def test_afterwards_requests_pass(bench: Bench) -> None:
    bench.hold.hold()
    bench.submit(1)
    bench.hold.release()
    assert not bench.hold.active
    assert ends([bench.submit(2)]) == [STATUS_SUCCESS]
    assert bench.served == [1, 2]


def test_a_release_of_nothing_is_nothing(bench: Bench) -> None:
    bench.hold.release()
    bench.hold.release("never given")
    assert not bench.hold.active and len(bench.hold) == 0


def test_each_reason_is_released_for_itself(bench: Bench) -> None:
    for reason in ("stop", "sleep", "stop"):
        bench.hold.hold(reason)
    request = bench.submit(1)
    bench.hold.release("sleep")
    assert not now(request.done) and "stop" in repr(bench.hold)
    bench.hold.release("stop")
    assert request.done


def test_ten_thousand_are_released_in_a_loop(bench: Bench) -> None:
    bench.hold.hold()
    requests = bench.submit_all(*range(1, 10_001))
    bench.hold.release()
    assert bench.served == list(range(1, 10_001))
    assert set(ends(requests)) == {STATUS_SUCCESS}


def test_a_request_that_pends_again_is_the_drivers() -> None:
    """It is served when it is served: to be released is not to end."""
    kept: list[Irp] = []

    def keep(_device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.mark_pending()
        kept.append(irp)
        return STATUS_PENDING

    bench = Bench(keep)
    bench.hold.hold()
    request = bench.submit(1)
    bench.hold.release()
    assert not now(request.done)
    complete(bench.device, kept[0])
    assert request.status == STATUS_SUCCESS


def test_it_works_at_dispatch_level(bench: Bench) -> None:
    levels: list[int] = []

    def note(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        levels.append(bench.ke.irql)
        return serve(device, irp)

    bench.then = note
    with bench.ke.raised_irql(DISPATCH_LEVEL):
        bench.hold.hold()
        request = bench.submit(1)
        bench.hold.release()
        bench.hold.hold()
        late = bench.submit(2)
        bench.hold.fail(STATUS_DELETE_PENDING)
    assert (request.status, late.status) == (STATUS_SUCCESS, STATUS_DELETE_PENDING)
    assert levels == [DISPATCH_LEVEL] and bench.ke.irql == PASSIVE_LEVEL


def test_a_dpc_may_release(bench: Bench) -> None:
    bench.hold.hold()
    request = bench.submit(1)
    bench.ke.insert_queue_dpc(Kdpc(lambda *_: do(bench.hold.release), None, bench.device))
    assert request.status == STATUS_SUCCESS


# -- overtaking --------------------------------------------------------------------------------------------------------


def test_what_comes_during_the_release_does_not_overtake() -> None:
    """From the dispatch routine itself, which is the worst moment: two are still held."""
    bench = Bench()
    late: list[IoRequest] = []

    def serve_and_send(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        if not late:
            late.append(bench.submit(9))
            assert not late[0].done, "it has overtaken those that were held"
        return serve(device, irp)

    bench.then = serve_and_send
    bench.hold.hold()
    bench.submit_all(1, 2, 3)
    bench.hold.release()
    assert bench.served == [1, 2, 3, 9]
    assert late[0].status == STATUS_SUCCESS


def test_a_chain_that_goes_on_for_long_is_a_loop() -> None:
    """Each request that is served sends the next one: nothing nests."""
    bench = Bench()
    count = [0]

    def serve_and_send(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        count[0] += 1
        if count[0] < 5000:
            bench.submit(count[0])
        return serve(device, irp)

    bench.then = serve_and_send
    bench.hold.hold()
    bench.submit(1)
    bench.hold.release()
    assert len(bench.served) == 5000 and not bench.hold.active


def test_another_threads_request_waits_for_its_turn() -> None:
    bench = Bench()
    inside, go = threading.Event(), threading.Event()

    def slow(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        inside.set()
        wait(go)
        return serve(device, irp)

    bench.then = slow
    bench.hold.hold()
    bench.submit_all(1, 2)
    releaser = Thread(bench.hold.release)
    wait(inside)
    late = bench.submit(9)
    bench.hold.release()  # the loop of the other thread does it
    assert not now(late.done)
    go.set()
    releaser.finish()
    assert bench.served == [1, 2, 9]
    assert late.done


def test_a_hold_in_the_middle_of_the_release_keeps_the_rest() -> None:
    bench = Bench()

    def serve_and_hold(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        bench.hold.hold()
        return serve(device, irp)

    bench.then = serve_and_hold
    bench.hold.hold()
    bench.submit_all(1, 2, 3)
    for served in ([1], [1, 2], [1, 2, 3]):
        bench.hold.release()
        assert now(bench.served) == served


def test_a_request_whose_turn_comes_when_the_hardware_has_gone_again_keeps_its_place() -> None:
    bench = Bench()
    stopped = [True]

    def stop_once(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        if stopped:
            stopped.clear()
            bench.hold.hold()
            return bench.read(device, irp)  # as a driver does that finds the line gone
        return serve(device, irp)

    bench.then = stop_once
    bench.hold.hold()
    bench.submit_all(1, 2)
    bench.hold.release()
    bench.submit(3)
    assert now(bench.served) == [] and len(bench.hold) == 3
    bench.hold.release()
    assert bench.served == [1, 2, 3]


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
