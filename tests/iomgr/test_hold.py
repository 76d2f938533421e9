"""HOLD_NEW_REQUESTS: what comes while a device is stopped waits in order, can be cancelled, and is served afterwards."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.iomgr.holdkit import Bench, ends, serve
from tests.support import Thread, complete, do, now, wait


@pytest.fixture
def bench() -> Bench:
    return Bench()


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
