"""IoQueueWorkItem: at PASSIVE_LEVEL, once for each time it was queued, with the device held meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault
from hilbridge.iomgr.workitem import WorkItem
from hilbridge.kernel import workers
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.limits import Limits
from hilbridge.kernel.workers import POOL_LIMIT
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL
from tests.support import System, TinyDriver, bug_check, now, plug, raises


class Bench(System):
    """A system with one device, and a work item of it."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = TinyDriver("d")
        self.device = self.stack(self.driver)
        self.item = self.io.allocate_work_item(self.device)
        self.log: list[Any] = []

    def note(self, device: Any, context: Any) -> None:
        self.log.append((device, context, self.ke.irql, self.item.queued))

    @property
    def code(self) -> int | None:
        return getattr(self.device.device_stack.fault, "code", None)


def test_the_routine_runs_at_passive_level_with_device_and_context() -> None:
    bench = Bench()
    with bench.ke.raised_irql(DISPATCH_LEVEL):
        bench.io.queue_work_item(bench.item, bench.note, "context")
    assert bench.item.queued and bench.log == []
    bench.machine.run_until_idle()
    assert bench.log == [(bench.device, "context", PASSIVE_LEVEL, False)]


def test_it_is_the_way_out_of_a_dpc() -> None:
    bench = Bench()
    bench.ke.insert_queue_dpc(
        Kdpc(lambda *_: bench.io.queue_work_item(bench.item, bench.note, bench.ke.irql), None, bench.device)
    )
    bench.machine.run_until_idle()
    assert bench.log == [(bench.device, DISPATCH_LEVEL, PASSIVE_LEVEL, False)]


def test_items_begin_in_the_order_in_which_they_were_queued() -> None:
    bench = Bench()
    for number in range(5):
        bench.io.queue_work_item(WorkItem(bench.device), bench.note, number)
    bench.machine.run_until_idle()
    assert [context for _, context, _, _ in bench.log] == [0, 1, 2, 3, 4]


def test_queueing_a_queued_item_is_bug_check_e4_and_the_first_context_stands() -> None:
    bench = Bench()
    other = bench.stack(TinyDriver("other"))
    item = bench.io.allocate_work_item(other)
    bench.io.queue_work_item(item, bench.note, "first")
    with bug_check(0xE4, item):
        bench.io.queue_work_item(item, bench.note, "second")
    assert getattr(other.device_stack.fault, "code", None) == 0xE4, "latched on the device of the item"


def test_an_item_may_be_queued_again_by_its_own_routine() -> None:
    bench = Bench()

    def again(_device: Any, left: int) -> None:
        assert not bench.item.queued
        bench.log.append(left)
        if left:
            bench.io.queue_work_item(bench.item, again, left - 1)

    bench.io.queue_work_item(bench.item, again, 3)
    bench.machine.run_until_idle()
    assert bench.log == [3, 2, 1, 0] and bench.device.pointer_count == 0


def test_an_item_may_be_freed_by_its_own_routine() -> None:
    bench = Bench()
    bench.io.queue_work_item(bench.item, lambda _device, item: bench.io.free_work_item(item), bench.item)
    bench.machine.run_until_idle()
    assert bench.item.freed and bench.ke.faults == []
    assert repr(bench.item).endswith("(freed)>")


def test_freeing_a_queued_item_is_bug_check_e4() -> None:
    bench = Bench()
    bench.io.queue_work_item(bench.item, bench.note)
    with bug_check(0xE4, bench.item):
        bench.io.free_work_item(bench.item)
    assert bench.code == 0xE4


@pytest.mark.parametrize("how", ["queued", "freed"])
def test_an_item_that_was_freed_is_neither_queued_nor_freed_again(how: str) -> None:
    bench = Bench()
    bench.io.free_work_item(bench.item)
    with bug_check(0xE4, bench.item):
        if how == "queued":
            bench.io.queue_work_item(bench.item, bench.note)
        else:
            bench.io.free_work_item(bench.item)
    assert bench.code == 0xE4


def test_returning_at_raised_irql_is_bug_check_e1() -> None:
    bench = Bench()
    ran: list[int] = []
    dpc = Kdpc(lambda *_: ran.append(bench.ke.irql), None, bench.stack(TinyDriver("other")))

    def careless(_device: Any, _context: Any) -> None:
        bench.ke.current().irql = DISPATCH_LEVEL
        bench.ke.insert_queue_dpc(dpc)

    bench.io.queue_work_item(bench.item, careless)
    bench.machine.run_until_idle()
    assert bench.code == 0xE1 and bench.ke.irql == PASSIVE_LEVEL
    assert ran == [DISPATCH_LEVEL], "what it has queued runs when its level is put right"
    fault = bench.device.device_stack.fault
    assert isinstance(fault, BugCheck) and fault.parameters[0] is careless and fault.driver == "d"


@pytest.mark.parametrize("error", [KeyError("boom"), SystemExit(1)])
def test_what_it_raises_is_latched_on_its_device_and_the_device_is_given_back(error: BaseException) -> None:
    bench = Bench()
    bench.io.queue_work_item(bench.item, raises(error))
    bench.machine.run_until_idle()
    fault = bench.device.device_stack.fault
    assert isinstance(fault, DriverFault) and fault.__cause__ is error and "in a work item" in str(fault)
    assert bench.device.pointer_count == 0


def test_an_item_of_a_stack_that_has_failed_is_dropped() -> None:
    bench = Bench()
    bench.io.queue_work_item(bench.item, bench.note)
    bench.ke.latch_fault(bench.device, KeyError(), "a test")
    bench.machine.run_until_idle()
    assert bench.log == [] and not bench.item.queued and bench.device.pointer_count == 0


def test_the_device_stays_until_the_routine_has_returned() -> None:
    bench = Bench()
    name = bench.device.name
    assert name is not None
    lower = bench.device.lower_device
    assert lower is not None

    def look(device: Any, _context: Any) -> None:
        bench.log.append((device.pointer_count, bench.io.namespace.device(name) is device))

    bench.io.queue_work_item(bench.item, look)
    bench.io.detach_device(lower)
    bench.io.delete_device(bench.device)
    bench.machine.run_until_idle()
    assert bench.log == [(1, True)]
    assert bench.io.namespace.device(name) is None, "then it has gone"


def test_a_driver_is_not_unloaded_under_its_work_item() -> None:
    bench = Bench()
    loaded = bench.io.load_driver("u", TinyDriver("u").driver_entry)
    loaded.driver_unload = lambda driver: bench.io.delete_device(driver.devices[0])
    device = bench.io.create_device(loaded, object())
    story: list[Any] = []
    bench.io.queue_work_item(bench.io.allocate_work_item(device), lambda *_: story.append("u" in bench.io.drivers))
    assert bench.io.unload_driver("u") is False
    bench.machine.run_until_idle()
    assert story == [True] and "u" not in bench.io.drivers


# -- on real time --------------------------------------------------------------------------------------------------------


def test_an_item_that_waits_for_another_one_does_not_keep_it_from_running() -> None:
    with Bridge() as bridge:
        driver = TinyDriver("d")
        plug(bridge, driver)
        io, ke, device = bridge.io, bridge.ke, driver.device
        events = [Kevent() for _ in range(POOL_LIMIT)]
        answers: list[bool] = []

        def wait_for_the_next(_device: Any, number: int) -> None:
            if number + 1 < len(events):
                answers.append(ke.wait_for_single_object(events[number + 1], 10.0))
            ke.set_event(events[number])

        for number in range(len(events)):
            io.queue_work_item(io.allocate_work_item(device), wait_for_the_next, number)
        assert ke.wait_for_single_object(events[0], 10.0)
        assert answers == [True] * (POOL_LIMIT - 1)


def test_a_work_item_runs_on_a_worker_and_closing_waits_for_it() -> None:
    bridge = Bridge()
    driver = TinyDriver("d")
    plug(bridge, driver)
    names: list[str] = []
    gate = threading.Event()

    def work(_device: Any, _context: Any) -> None:
        gate.wait(10.0)
        names.append(threading.current_thread().name)

    bridge.io.queue_work_item(bridge.io.allocate_work_item(driver.device), work)
    threading.Timer(0.01, gate.set).start()
    bridge.close()
    assert names == ["hilbridge-item-1"] and now(bridge.faults) == []


def test_an_item_that_hangs_fails_its_stack_and_another_worker_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "POOL_LIMIT", 1)
    gate, ran = threading.Event(), Kevent()
    bridge = Bridge()
    drivers = [TinyDriver("hangs"), TinyDriver("works")]
    for driver in drivers:
        plug(bridge, driver, driver.__name__)
    bridge.ke.limits = Limits(work_item=0.2)
    io, hung, well = bridge.io, drivers[0].device, drivers[1].device
    io.queue_work_item(io.allocate_work_item(hung), lambda *_: gate.wait(10.0))
    io.queue_work_item(io.allocate_work_item(well), lambda *_: bridge.ke.set_event(ran))
    assert bridge.ke.wait_for_single_object(ran, 10.0), "it waits for the only worker until that is given up"
    assert "a work item" in str(hung.device_stack.fault) and "test_workitem.py" in str(hung.device_stack.fault)
    assert well.device_stack.fault is None
    gate.set()
    bridge.close()
