"""IO_CSQ with the driver's own list, lock and order."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge.iomgr.csq import CsqIrpContext, IoCsq
from hilbridge.iomgr.request import IoRequest
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_BUSY,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.support import Extension, System, TinyDriver, complete


class Stack(IoCsq):
    """Last in, first out, of at most `room`; notes what it was called for, and whether the lock was held."""

    def __init__(self, io: Any, room: int = 100) -> None:
        super().__init__(io)
        self.lock = io.ke.spin_lock()
        self.irps: list[Irp] = []
        self.room = room
        self.calls: list[str] = []
        self.contexts: list[Any] = []

    def _called(self, name: str, *, locked: bool) -> None:
        self.calls.append(name)
        assert (self.lock.owner is not None) is locked, f"{name} with the lock {'free' if locked else 'held'}"

    def insert(self, irp: Irp, context: Any) -> NtStatus | None:
        self._called("insert", locked=True)
        self.contexts.append(context)
        if len(self.irps) >= self.room:
            return STATUS_UNSUCCESSFUL
        self.irps.insert(0, irp)
        return STATUS_SUCCESS

    def remove(self, irp: Irp) -> None:
        self._called("remove", locked=True)
        self.irps.remove(irp)

    def peek_next(self, irp: Irp | None, context: Any) -> Irp | None:
        self._called("peek_next", locked=True)
        start = 0 if irp is None else self.irps.index(irp) + 1
        for one in self.irps[start:]:
            if context is None or one.file_object is context:
                return one
        return None

    def acquire_lock(self) -> None:
        self.lock.acquire()
        self._called("acquire", locked=True)

    def release_lock(self) -> None:
        self._called("release", locked=True)
        self.lock.release()

    def complete_canceled(self, irp: Irp) -> None:
        self._called("complete_canceled", locked=False)
        device = irp.current_stack_location.device_object
        assert device is not None
        complete(device, irp, STATUS_CANCELLED)


class Queued(System):
    """A driver that puts its reads into such a queue."""

    def __init__(self, *, room: int = 100, ex: bool = False, named: bool = True, cancel_first: bool = False) -> None:
        super().__init__()
        self.csq = Stack(self.io, room)
        self.names: list[CsqIrpContext] = []

        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            if cancel_first:
                device.io.cancel_irp(irp)
            context = CsqIrpContext() if named else None
            if context is not None:
                self.names.append(context)
            if ex:
                status = self.csq.insert_irp_ex(irp, context, "front")
                if not status.is_success:
                    return complete(device, irp, STATUS_DEVICE_BUSY)
            else:
                self.csq.insert_irp(irp, context)
            return STATUS_PENDING

        self.driver = TinyDriver("d", {IrpMajor.READ: read})
        self.stack(self.driver)
        self.file = self.open(self.driver.device)

    def reads(self, count: int, file: FileObject | None = None) -> list[IoRequest]:
        return [self.read(file or self.file, 0) for _ in range(count)]

    def end(self, irp: Irp | None) -> None:
        assert irp is not None
        complete(self.driver.device, irp)


def test_the_driver_says_in_which_order() -> None:
    system = Queued()
    one, two = system.reads(2)
    assert system.csq.calls == ["acquire", "insert", "release"] * 2
    assert one.irp is not None and one.irp.state == IrpState.PENDING and one.irp.cancel_routine is not None
    for request in (two, one):
        irp = system.csq.remove_next_irp()
        assert irp is request.irp and irp is not None and irp.cancel_routine is None
        system.end(irp)
    assert system.csq.remove_next_irp() is None
    assert one.status == two.status == STATUS_SUCCESS


def test_peeking_with_a_context_finds_what_it_means() -> None:
    system = Queued()
    other = system.open(system.driver.device)
    mine, (theirs,) = system.reads(2), system.reads(1, other)
    assert system.csq.remove_next_irp(system.file) is mine[1].irp
    assert system.csq.remove_next_irp(other) is theirs.irp
    assert system.csq.remove_next_irp(other) is None
    assert system.csq.irps == [mine[0].irp]
    for request in (mine[1], theirs):
        system.end(request.irp)


def test_an_insertion_may_be_refused_and_leaves_no_trace() -> None:
    system = Queued(room=1, ex=True)
    one, two = system.reads(2)
    assert system.csq.contexts == ["front", "front"]
    assert two.status == STATUS_DEVICE_BUSY and two.irp is not None
    assert not two.irp.stack[-1].control & 1, "it was not marked pending"
    assert two.irp.driver_context[3] is None and system.names[1].irp is None and two.irp.cancel_routine is None
    assert not one.done and system.csq.irps == [one.irp]


def test_a_queue_that_does_not_return_a_status_refuses_nothing() -> None:
    system = Queued(ex=True)
    original = system.csq.insert

    def insert(irp: Irp, context: Any) -> None:
        original(irp, context)

    system.csq.insert = insert  # type: ignore[method-assign]
    (request,) = system.reads(1)
    assert system.csq.irps == [request.irp]


@pytest.mark.parametrize("named", [True, False])
def test_cancelling_takes_it_out_and_completes_it_outside_the_lock(named: bool) -> None:
    system = Queued(named=named)
    one, two = system.reads(2)
    system.csq.calls.clear()
    assert one.cancel() is True
    assert system.csq.calls == ["acquire", "remove", "release", "complete_canceled"]
    assert one.status == STATUS_CANCELLED and system.csq.irps == [two.irp]
    assert system.driver.device.device_stack.cancel_lock.owner is None and system.ke.irql == 0


@pytest.mark.parametrize("ex", [True, False])
def test_one_that_was_cancelled_before_is_put_in_and_taken_out_again(ex: bool) -> None:
    system = Queued(ex=ex, cancel_first=True)
    (request,) = system.reads(1)
    assert system.csq.calls == ["acquire", "insert", "remove", "release", "complete_canceled"]
    assert request.status == STATUS_CANCELLED and system.csq.irps == [] and system.names[0].irp is None


def test_a_name_finds_its_irp_while_it_is_queued() -> None:
    system = Queued()
    requests = system.reads(3)
    assert system.csq.remove_irp(system.names[1]) is requests[1].irp
    assert system.csq.remove_irp(system.names[1]) is None
    requests[0].cancel()
    assert system.csq.remove_irp(system.names[0]) is None
    system.end(system.csq.remove_next_irp())
    assert system.csq.remove_irp(system.names[2]) is None
    system.end(requests[1].irp)
    assert [request.status for request in requests] == [STATUS_CANCELLED, STATUS_SUCCESS, STATUS_SUCCESS]


def test_what_a_cancellation_has_taken_is_passed_over() -> None:
    system = Queued()
    one, two = system.reads(2)
    assert two.irp is not None
    taken = two.irp.set_cancel_routine(None)  # as a canceller does, which now waits for the lock
    assert taken is not None
    assert system.csq.remove_irp(system.names[1]) is None
    assert system.csq.remove_next_irp() is one.irp
    taken(None, two.irp)
    assert two.status == STATUS_CANCELLED
    system.end(one.irp)


def test_all_of_it_works_at_dispatch_level() -> None:
    system = Queued()
    with system.ke.raised_irql(DISPATCH_LEVEL):
        (request,) = system.reads(1)
        system.end(system.csq.remove_next_irp())
    assert request.status == STATUS_SUCCESS


@pytest.mark.parametrize("name", ["insert", "remove", "peek_next", "acquire_lock", "release_lock", "complete_canceled"])
def test_a_callback_that_is_not_overridden_says_so(name: str) -> None:
    csq = IoCsq(System().io)
    arguments: Any = {
        "insert": (None, None),
        "peek_next": (None, None),
        "remove": (None,),
        "complete_canceled": (None,),
    }
    with pytest.raises(TypeError, match=f"IoCsq does not override {name}"):
        getattr(csq, name)(*arguments.get(name, ()))
