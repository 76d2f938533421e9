"""Deep stacks and long chains: what would use up the Python stack if the I/O manager recursed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge.iomgr import irps
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.iomgr.completionkit import THROUGH, pend_and_send, watcher
from tests.support import Extension, System, TinyDriver, bug_check, complete, hold, pass_down, succeed

DEEP = 200
LONG = 10_000


@pytest.fixture(autouse=True)
def default_recursion_limit() -> None:
    assert sys.getrecursionlimit() <= 1000, "these tests say something about the limit that programs have"


class Tower(System):
    """A stack of that many equal filters above a driver."""

    def __init__(self, bottom: TinyDriver, filter_driver: TinyDriver, height: int = DEEP) -> None:
        super().__init__()
        self.stack(bottom)
        self.io.drivers["root0"].major_function[IrpMajor.PNP] = succeed
        self.filter = self.io.load_driver("filter", filter_driver.driver_entry)
        for _ in range(height - 1):
            assert filter_driver.add_device(self.filter, bottom.device) == STATUS_SUCCESS
        self.bottom = bottom
        self.top = bottom.device.top
        assert self.top.stack_size == height + 1  # the bare device below is one, too


# -- deep stacks ---------------------------------------------------------------------------------------------------------


def test_a_request_is_skipped_through_200_devices() -> None:
    bottom, skips = TinyDriver("bottom", {IrpMajor.READ: succeed}), dict.fromkeys(IrpMajor, pass_down)
    tower = Tower(bottom, TinyDriver("f", skips, named=False))
    request = tower.read(tower.open(tower.bottom.device), 4)
    assert request.status == STATUS_SUCCESS


@pytest.mark.parametrize("at_once", [True, False])
def test_200_completion_routines_see_a_request_in_order(at_once: bool) -> None:
    seen: list[DeviceObject[Any] | None] = []

    def routine(device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        seen.append(device)
        if irp.pending_returned:
            irp.mark_pending()
        return STATUS_SUCCESS

    tower = Tower(TinyDriver("bottom", {IrpMajor.READ: succeed if at_once else hold}), watcher("f", routine))
    request = tower.read(tower.open(tower.bottom.device), 4)
    if not at_once:
        (irp,) = tower.bottom.device.extension.held
        complete(tower.bottom.device, irp)
    assert request.status == STATUS_SUCCESS
    assert seen == list(tower.bottom.device.walk_up())[1:]


def test_200_devices_are_started_by_forwarding_and_waiting() -> None:
    started: list[DeviceObject[Any]] = []

    def on_start(device: DeviceObject[Any], _resources: object) -> None:
        started.append(device)

    tower = Tower(TinyDriver("bottom", on_start=on_start), TinyDriver("f", THROUGH, named=False, on_start=on_start))
    assert tower.io.send_pnp(tower.top, PnpMinor.START_DEVICE) == STATUS_SUCCESS
    assert started == list(tower.bottom.device.walk_up())


# -- completions from completion routines ----------------------------------------------------------------------------------


class Chain(System):
    """Reads that wait in the bottom driver; when one comes up, its completion routine completes the next."""

    def __init__(self, length: int, after: Callable[[int], object] = lambda number: None) -> None:
        super().__init__()
        self.order: list[int] = []
        self.depth = self.deepest = 0
        self.after = after
        self.bottom = TinyDriver("bottom", {IrpMajor.READ: hold})
        self.stack(
            self.bottom, TinyDriver("upper", {**THROUGH, IrpMajor.READ: pend_and_send(self.routine)}, named=False)
        )
        file = self.open(self.bottom.device)
        self.requests = [self.read(file, 0) for _ in range(length)]
        self.held = self.bottom.device.extension.held

    def routine(self, _device: DeviceObject[Any] | None, irp: Irp, _context: object) -> NtStatus:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        number = irp.id - self.requests[0].irp.id  # type: ignore[union-attr]
        self.order.append(number)
        if self.held:
            complete(self.bottom.device, self.held.pop(0))
        self.after(number)
        self.depth -= 1
        return STATUS_SUCCESS

    def go(self) -> None:
        complete(self.bottom.device, self.held.pop(0))


def test_a_short_chain_is_nested_as_in_windows() -> None:
    chain = Chain(5, lambda number: noted.append((number, sum(r.done for r in chain.requests))))
    noted: list[tuple[int, int]] = []
    chain.go()
    assert chain.order == [0, 1, 2, 3, 4] and chain.deepest == 5
    assert noted == [(4, 0), (3, 1), (2, 2), (1, 3), (0, 4)], "each had ended when its completion had returned"


def test_ten_thousand_completions_from_completion_routines_need_no_deep_stack() -> None:
    chain = Chain(LONG)
    chain.go()
    assert all(request.status == STATUS_SUCCESS for request in chain.requests)
    assert chain.order == list(range(LONG)), "each once, in the order in which they were completed"
    assert chain.deepest == irps.NESTED_ROUTINES
    assert chain.ke.faults == []
    processor = chain.ke.current()
    assert (processor.offers, len(processor.put_off), processor.catching_up, processor.irql) == (0, 0, False, 0)


def test_what_is_put_off_keeps_its_place_before_the_irp_that_it_was_nested_in() -> None:
    chain = Chain(irps.NESTED_ROUTINES + 3)
    ended: list[int] = []
    for number, request in enumerate(chain.requests):
        request.add_done_callback(lambda number=number: ended.append(number))  # type: ignore[misc]
    chain.go()
    chain.machine.run_until_idle()
    nested = irps.NESTED_ROUTINES
    assert ended == [nested, nested + 1, nested + 2, *range(nested - 1, -1, -1)]


def test_a_completion_that_is_put_off_can_still_not_be_done_twice() -> None:
    put_off: list[Irp] = []

    def after(number: int) -> None:
        if number == irps.NESTED_ROUTINES - 1:
            irp = chain.requests[number + 1].irp
            assert irp is not None and not chain.requests[number + 1].done
            put_off.append(irp)
            with bug_check(0x44, irp):
                chain.io.complete_request(irp)

    chain = Chain(irps.NESTED_ROUTINES + 1, after)
    chain.go()
    assert put_off and all(request.done for request in chain.requests)
    assert [getattr(fault, "code", None) for fault in chain.ke.faults] == [0x44]


def test_a_wait_does_first_what_was_put_off() -> None:
    # A routine far inside waits for the request that it has just completed: nobody else would carry that out.
    event = Kevent()
    waited: list[bool] = []

    def after(number: int) -> None:
        if number == irps.NESTED_ROUTINES - 1:
            assert not chain.requests[-1].done
            waited.append(chain.ke.wait_for_single_object(event, 1.0))
        elif number == irps.NESTED_ROUTINES:
            event.set()

    chain = Chain(irps.NESTED_ROUTINES + 1, after)
    chain.go()
    assert waited == [True] and chain.clock.now() == 0
    assert all(request.done for request in chain.requests)


def test_what_is_put_off_runs_at_the_irql_at_which_it_was_completed() -> None:
    irqls: dict[int, int] = {}

    def routine(_device: object, irp: Irp, _context: object) -> NtStatus:
        irqls[len(irqls)] = system.ke.irql
        if held:
            with system.ke.raised_irql(DISPATCH_LEVEL if len(held) == 1 else system.ke.irql):
                complete(bottom.device, held.pop(0))
        return STATUS_SUCCESS

    system = System()
    bottom = TinyDriver("bottom", {IrpMajor.READ: hold})
    system.stack(bottom, TinyDriver("upper", {**THROUGH, IrpMajor.READ: pend_and_send(routine)}, named=False))
    file = system.open(bottom.device)
    for _ in range(irps.NESTED_ROUTINES + 1):
        system.read(file, 0)
    held = bottom.device.extension.held
    complete(bottom.device, held.pop(0))
    assert set(list(irqls.values())[:-1]) == {PASSIVE_LEVEL} and irqls[irps.NESTED_ROUTINES] == DISPATCH_LEVEL
    assert system.ke.irql == PASSIVE_LEVEL


def test_an_irp_that_is_not_pending_has_ended_when_call_driver_returns_however_deep() -> None:
    ended: list[bool] = []

    def read_below(depth: int) -> None:
        mine = system.io.allocate_irp(top.stack_size)
        mine.next_stack_location.major_function = IrpMajor.READ
        done: list[bool] = []

        def routine(_device: object, _irp: Irp, _context: object) -> NtStatus:
            done.append(True)
            if depth:
                read_below(depth - 1)
            return STATUS_MORE_PROCESSING_REQUIRED

        mine.set_completion_routine(routine)
        assert system.io.call_driver(top, mine) == STATUS_SUCCESS
        ended.append(bool(done))

    system = System()
    top = system.stack(TinyDriver("bottom", {IrpMajor.READ: succeed}))
    read_below(irps.NESTED_ROUTINES + 10)
    assert len(ended) == irps.NESTED_ROUTINES + 11 and all(ended)


def test_a_routine_that_raises_far_inside_does_not_keep_the_others_back() -> None:
    def after(number: int) -> None:
        if number == irps.NESTED_ROUTINES + 5:
            raise KeyError("boom")

    chain = Chain(irps.NESTED_ROUTINES + 10, after)
    chain.go()
    assert all(request.done for request in chain.requests)
    assert len(chain.ke.faults) == 1 and "KeyError" in str(chain.ke.faults[0])
    assert chain.ke.current().offers == 0


# -- StartIo -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferred", [True, False])
@pytest.mark.parametrize("cancelable", [True, False])
def test_ten_thousand_packets_that_end_at_once_need_no_deep_stack(deferred: bool, cancelable: bool) -> None:
    depth, deepest = [0], [0]
    gate = [False]

    def start_io(device: DeviceObject[Extension], irp: Irp) -> None:
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        if gate[0]:
            irp.set_cancel_routine(None)
            complete(device, irp)
            device.io.start_next_packet(device, cancelable=cancelable)
        depth[0] -= 1

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.io.start_packet(device, irp, None, (lambda _device, _irp: None) if cancelable else None)
        return STATUS_PENDING

    system = System()
    driver = TinyDriver("d", {IrpMajor.READ: read}, start_io=start_io)
    system.stack(driver)
    system.io.set_start_io_attributes(driver.device, deferred=deferred)
    file = system.open(driver.device)
    requests: list[IoRequest] = [system.read(file, 0) for _ in range(LONG)]
    gate[0] = True
    with system.ke.raised_irql(DISPATCH_LEVEL):
        first = driver.device.current_irp
        assert first is not None
        first.set_cancel_routine(None)
        complete(driver.device, first)
        system.io.start_next_packet(driver.device, cancelable=cancelable)
    assert all(request.status == STATUS_SUCCESS for request in requests)
    assert deepest == [1] and not driver.device.device_queue.busy and driver.device.start_io_running == {}
