"""A work item that one thread queues while it runs on another."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge.iomgr.workitem import WorkItem
from hilbridge.model.errors import BugCheck
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.support import System, TinyDriver

pytestmark = pytest.mark.slow  # every order of the races, one after the other

MODULES = ("hilbridge.iomgr.workitem", __name__)


def test_an_item_runs_as_often_as_it_was_queued() -> None:
    outcomes: set[tuple[int, int]] = set()

    def build() -> Race:
        system = System()
        io, device = system.io, system.stack(TinyDriver("d"))
        item = WorkItem(device)
        queued, refused, ran = [0], [0], []

        def routine(_device: Any, context: int) -> None:
            ran.append(context)

        def queue_it(context: int) -> None:
            if item.queued:  # as a driver does that must not break the rule; the answer may be old by then
                refused[0] += 1
                return
            try:
                io.queue_work_item(item, routine, context)
                queued[0] += 1
            except BugCheck as error:
                refused[0] += error.code == 0xE4

        def work() -> None:
            for _ in range(2):
                system.machine.step()

        def check() -> None:
            system.machine.run_until_idle()
            if not system.ke.faults:
                assert len(ran) == len(set(ran)) == queued[0]
            assert queued[0] + refused[0] == 2 and not item.queued
            assert device.pointer_count == 0
            outcomes.add((queued[0], len(system.ke.faults)))

        return Race({"one": lambda: queue_it(1), "two": lambda: queue_it(2), "works": work}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=MODULES)
    assert outcomes == {(2, 0), (1, 0), (1, 1)}


def test_an_item_that_queues_itself_while_another_thread_looks_on() -> None:
    def build() -> Race:
        system = System()
        io, device = system.io, system.stack(TinyDriver("d"))
        item = WorkItem(device)
        ran: list[int] = []

        def again(_device: Any, left: int) -> None:
            ran.append(left)
            if left:
                io.queue_work_item(item, again, left - 1)
            else:
                io.free_work_item(item)

        io.queue_work_item(item, again, 2)

        def work() -> None:
            for _ in range(3):
                system.machine.step()

        def check() -> None:
            system.machine.run_until_idle()
            assert ran == [2, 1, 0] and item.freed and not item.queued
            assert device.pointer_count == 0 and system.ke.faults == []

        return Race({"one": work, "two": work}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=MODULES)
