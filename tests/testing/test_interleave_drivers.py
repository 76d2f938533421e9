"""The explorer finds the well-known mistakes of drivers about cancellation and completion, and finds none without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, Request
from hilbridge.bridge.handle import Handle
from hilbridge.iomgr.manager import IoManager
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.testing.interleave import (
    MODULES,
    Granularity,
    Race,
    RaceFound,
    explore,
    replay,
)
from tests.support import Extension, TinyDriver, complete, hold

HERE = (*MODULES, __name__)
POINTS, LINES, INSTRUCTIONS = Granularity.POINTS, Granularity.LINES, Granularity.INSTRUCTIONS


class Bench:
    """A tiny driver, opened; its reads wait in ``extension.held``, with a cancel routine that each driver sets itself."""

    def __init__(self, read: Any, io_manager: type[IoManager] = IoManager) -> None:
        self.driver = TinyDriver("broken", {IrpMajor.READ: read})
        self.bridge = Bridge.manual(io_manager=io_manager)
        self.bridge.plug("virtual:null", name="TINY", driver=self.driver)
        self.handle: Handle = self.bridge.open("TINY")
        self.extension: Extension = self.driver.device.extension

    def race(self, threads: dict[str, Callable[[], object]], check: Callable[[], object]) -> Race:
        return Race(threads, check, self.close)

    def close(self) -> None:
        self.handle.close()
        self.bridge.close()


def cancelled(device: DeviceObject[Extension] | None, irp: Irp) -> None:
    """A cancel routine as it should be."""
    assert device is not None
    device.io.release_cancel_spin_lock(device)
    with device.extension.queue.lock:
        if irp in device.extension.held:
            device.extension.held.remove(irp)
    complete(device, irp, STATUS_CANCELLED)


def insert(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """A dispatch routine that queues as it should."""
    with device.extension.queue.lock:
        irp.mark_pending()
        device.extension.held.append(irp)
        irp.set_cancel_routine(cancelled)
        taken_back = irp.cancel and irp.set_cancel_routine(None) is not None
        if taken_back:
            device.extension.held.remove(irp)
    if taken_back:
        complete(device, irp, STATUS_CANCELLED)
    return STATUS_PENDING


def insert_without_a_look_at_cancel(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    with device.extension.queue.lock:
        irp.mark_pending()
        device.extension.held.append(irp)
        irp.set_cancel_routine(cancelled)
    return STATUS_PENDING


def insert_with_mark_pending_too_late(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    with device.extension.queue.lock:
        device.extension.held.append(irp)
    irp.mark_pending()
    return STATUS_PENDING


def serve(device: DeviceObject[Extension]) -> None:
    """A dequeue as it should be: the cancel routine decides."""
    with device.extension.queue.lock:
        irp = next((irp for irp in device.extension.held if irp.set_cancel_routine(None) is not None), None)
        if irp is not None:
            device.extension.held.remove(irp)
    if irp is not None:
        complete(device, irp)


def serve_whatever_set_cancel_routine_says(device: DeviceObject[Extension]) -> None:
    with device.extension.queue.lock:
        irp = device.extension.held.pop() if device.extension.held else None
    if irp is not None:
        irp.set_cancel_routine(None)
        complete(device, irp)


def cancel_against_insertion(read: Any) -> Callable[[], Race]:
    def build() -> Race:
        bench = Bench(read)
        request = Request(bench.handle, "read(0)")

        def check() -> None:
            if request.irp is not None and not request.irp.cancel:
                serve(bench.driver.device)  # the cancellation came too early to find anything
            assert request.done, "it was cancelled, and nobody ended it"

        return bench.race({"submit": lambda: bench.bridge.io.submit_read(request, 0), "cancel": request.cancel}, check)

    return build


def cancel_against_dequeue(serve_one: Callable[[DeviceObject[Extension]], None]) -> Callable[[], Race]:
    def build() -> Race:
        bench = Bench(insert)
        request = bench.handle.submit_read(0)

        def check() -> None:
            assert request.status in (STATUS_SUCCESS, STATUS_CANCELLED)

        return bench.race({"cancel": request.cancel, "serve": lambda: serve_one(bench.driver.device)}, check)

    return build


@pytest.mark.parametrize(("granularity", "preemptions"), [(POINTS, 2), (LINES, 1)])
def test_a_queue_that_never_looks_at_cancel_is_found(granularity: Granularity, preemptions: int) -> None:
    build = cancel_against_insertion(insert_without_a_look_at_cancel)
    with pytest.raises(RaceFound, match="nobody ended it") as found:
        explore(build, granularity=granularity, preemptions=preemptions, modules=HERE)
    with pytest.raises(RaceFound, match="nobody ended it"):
        replay(build, found.value.schedule, modules=HERE)


@pytest.mark.parametrize(("granularity", "preemptions"), [(POINTS, 2), (LINES, 1)])
def test_a_dequeue_that_ignores_a_cancellation_is_found(granularity: Granularity, preemptions: int) -> None:
    build = cancel_against_dequeue(serve_whatever_set_cancel_routine_says)
    with pytest.raises(RaceFound) as found:
        explore(build, granularity=granularity, preemptions=preemptions, modules=HERE)
    cause = found.value.__cause__
    assert isinstance(cause, BugCheck)
    assert cause.code == 0x44
    assert "serve" in found.value.schedule


@pytest.mark.parametrize(("granularity", "preemptions"), [(POINTS, 3), (LINES, 1)])
def test_the_same_without_the_mistakes_passes(granularity: Granularity, preemptions: int) -> None:
    for build in (cancel_against_insertion(insert), cancel_against_dequeue(serve)):
        assert explore(build, granularity=granularity, preemptions=preemptions, modules=HERE).schedules > 50


def test_marking_pending_too_late_is_found() -> None:
    """Before the IRP is marked, another thread has completed it."""

    def build() -> Race:
        bench = Bench(insert_with_mark_pending_too_late)

        def finish() -> None:
            for irp in list(bench.extension.held):
                complete(bench.driver.device, irp)

        return bench.race({"submit": lambda: bench.handle.submit_read(0), "finish": finish}, lambda: None)

    with pytest.raises(RaceFound, match="INCONSISTENT_IRP"):
        explore(build)


class CarelessRequest(Request):
    """Looks whether it has ended, and ends then: without the token that only one can have."""

    __slots__ = ()

    def settle(self, status: NtStatus, information: int, data: bytes = b"") -> bool:
        if self.done:
            return False
        self.status = status
        self.information = information
        self._announce()
        return True


def giving_up_against_completion(kind: type[Request]) -> Callable[[], Race]:
    def build() -> Race:
        bench = Bench(hold)
        request = kind(bench.handle, "read(0)")
        bench.bridge.io.submit_read(request, 0)
        [irp] = bench.extension.held
        told: list[int] = []
        request.add_done_callback(lambda: told.append(1))

        def check() -> None:
            assert request.disowned is (request.status != STATUS_SUCCESS), f"given up, with {request.status.name}"
            bench.bridge.machine.run_until_idle()
            assert told == [1]

        return bench.race({"complete": lambda: complete(bench.driver.device, irp), "give-up": request.disown}, check)

    return build


def test_completing_without_the_token_is_found() -> None:
    build = giving_up_against_completion(CarelessRequest)
    explore(build, granularity=LINES, preemptions=0, modules=HERE)
    with pytest.raises(RaceFound, match="given up, with STATUS_SUCCESS") as found:
        explore(build, granularity=LINES, preemptions=1, modules=HERE)
    assert "settle" in found.value.story


@pytest.mark.parametrize(("granularity", "preemptions"), [(POINTS, 4), (LINES, 2), (INSTRUCTIONS, 1)])
def test_completing_with_the_token_passes(granularity: Granularity, preemptions: int) -> None:
    explore(giving_up_against_completion(Request), granularity=granularity, preemptions=preemptions, modules=HERE)
