"""Cancel-safe queues: whatever is inserted, removed, cancelled and closed, in whatever order, each IRP ends once, as in a list.

A cancellation is taken apart here: it takes the cancel routine, and waits for the queue's lock; meanwhile others use the queue.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.iomgr.csq import CancelSafeQueue, IoCsq
from hilbridge.model.irp import CancelRoutine
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.machines.csqdrivers import ROOM, QueueDriver
from tests.machines.machinekit import Machine, Mistake, finds, machine, mistakes, run_machine
from tests.support import plug

EXAMPLES, STEPS = 60, 40
WHICH = st.integers(0, 7)


@dataclass(eq=False)
class Entry:
    """A request, as the reference knows it."""

    name: str
    file: int
    key: int
    limited: bool
    cancel: bool
    owned: CancelRoutine | None = None
    """A cancellation has its cancel routine, and has not come to the queue yet."""
    status: NtStatus = STATUS_PENDING


class CsqMachine(Machine):
    """One device, up to three files."""

    ordered: bool

    @initialize()
    def build(self) -> None:
        self.driver = QueueDriver(ordered=self.ordered)
        plug(self.bridge, self.driver)
        self.handles: dict[int, Handle] = {0: self.bridge.open("DUT")}
        self.opened = self.number = 0
        self.entries: dict[str, Entry] = {}
        self.list: list[Entry] = []
        self.taken: list[Entry] = []
        self.requests: dict[str, Request] = {}
        self.told: Counter[str] = Counter()

    # -- the reference -----------------------------------------------------------------------------------------------

    def insert(self, entry: Entry, *, limited: bool) -> None:
        if self.ordered and limited and len(self.list) >= ROOM:
            entry.status = STATUS_DEVICE_BUSY
        elif entry.cancel:
            entry.status = STATUS_CANCELLED
        else:
            self.list.append(entry)
            if self.ordered:
                self.list.sort(key=lambda one: one.key)

    def first(self, file: int | None) -> Entry | None:
        return next((one for one in self.list if one.owned is None and file in (None, one.file)), None)

    def take(self, entry: Entry) -> str:
        self.list.remove(entry)
        self.taken.append(entry)
        return entry.name

    # -- steps -------------------------------------------------------------------------------------------------------

    @rule(which=WHICH, key=st.integers(0, 3), limited=st.booleans(), before=st.sampled_from((False, False, True)))
    def submit(self, which: int, key: int, limited: bool, before: bool) -> None:
        file = sorted(self.handles)[which % len(self.handles)]
        self.number += 1
        name = f"read{self.number}"
        self.driver.next = (name, key, limited, before)
        request = self.requests[name] = self.handles[file].submit_read(4)
        request.add_done_callback(lambda: self.told.update([name]))
        entry = self.entries[name] = Entry(name, file, key, limited, before)
        self.insert(entry, limited=limited)
        self.same()

    @rule(which=WHICH, any_file=st.booleans())
    def remove_next(self, which: int, any_file: bool) -> None:
        file = None if any_file else sorted(self.handles)[which % len(self.handles)]
        entry = self.first(file)
        expected = None if entry is None else self.take(entry)
        assert self.driver.remove_next(None if file is None else self.handles[file].file) == expected
        self.same()

    @rule(which=WHICH)
    def remove(self, which: int) -> None:
        """One by its name; also one that has been taken out, or has ended."""
        entry = self.pick(list(self.entries.values())[-8:], which)
        if entry is not None:
            expected = self.take(entry) if entry in self.list and entry.owned is None else None
            assert self.driver.remove(entry.name) == expected
            self.same()

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        """The driver is done with one that it has taken out."""
        entry = self.pick(self.taken, which)
        if entry is not None:
            self.taken.remove(entry)
            entry.status = STATUS_SUCCESS
            self.driver.end(entry.name, STATUS_SUCCESS)
            self.same()

    @rule(which=WHICH)
    def put_back(self, which: int) -> None:
        """It is queued again; if it has been cancelled meanwhile it ends."""
        entry = self.pick(self.taken, which)
        if entry is not None:
            self.taken.remove(entry)
            self.insert(entry, limited=False)
            device = self.driver.device
            self.driver.insert(device, self.driver.taken.pop(entry.name), limited=False)
            self.same()

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        entry = self.pick([one for one in self.entries.values() if one.status == STATUS_PENDING], which)
        if entry is not None:
            entry.cancel = True
            found = entry in self.list and entry.owned is None
            if found:
                self.list.remove(entry)
                entry.status = STATUS_CANCELLED
            assert self.requests[entry.name].cancel() is found
            self.same()

    @rule(which=WHICH)
    def begin_to_cancel(self, which: int) -> None:
        """What IoCancelIrp does before it calls the cancel routine; it is called later."""
        entry = self.pick([one for one in self.list if one.owned is None], which)
        if entry is not None:
            irp = self.driver.irps[entry.name]
            irp.cancel = entry.cancel = True
            entry.owned = irp.set_cancel_routine(None)
            assert entry.owned is not None
            self.same()

    @rule(which=WHICH)
    def go_on_cancelling(self, which: int) -> None:
        entry = self.pick([one for one in self.list if one.owned is not None], which)
        if entry is not None:
            self.call_cancel_routine(entry)
            self.same()

    def call_cancel_routine(self, entry: Entry) -> None:
        device, irp = self.driver.device, self.driver.irps[entry.name]
        assert entry.owned is not None
        self.list.remove(entry)
        entry.status = STATUS_CANCELLED
        device.device_stack.cancel_lock.acquire()
        self.io.run_cancel_routine(device, irp, entry.owned, 0)

    @precondition(lambda self: len(self.handles) < 3)
    @rule()
    def open(self) -> None:
        self.opened += 1
        self.handles[self.opened] = self.bridge.open("DUT")

    @precondition(lambda self: len(self.handles) > 1)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        file = sorted(self.handles)[which % len(self.handles)]
        mine = [one for one in self.entries.values() if one.file == file and one.status == STATUS_PENDING]
        for entry in mine:
            if entry.owned is not None:
                self.call_cancel_routine(entry)  # in Windows on another processor, while CLEANUP waits
            else:
                entry.status = STATUS_CANCELLED if entry in self.list else STATUS_SUCCESS
        self.list = [one for one in self.list if one.file != file]
        self.taken = [one for one in self.taken if one.file != file]
        self.handles.pop(file).close()
        self.same()

    # -- what holds after every step ---------------------------------------------------------------------------------

    @staticmethod
    def pick(given: list[Entry], which: int) -> Entry | None:
        return given[which % len(given)] if given else None

    def same(self) -> None:
        driver = self.driver
        assert driver.queued() == [one.name for one in self.list]
        assert all(driver.irps[one.name].state == IrpState.PENDING for one in self.list)
        assert sorted(driver.taken) == sorted(one.name for one in self.taken)
        if not self.ordered:
            with driver.fifo.lock:
                head, first = driver.fifo.head_locked(), self.first(None)
            assert (head and driver.names[head.id]) == (first and first.name)
        for name, context in driver.contexts.items():
            assert (context.irp is not None) is (self.entries[name] in self.list), f"{name}: {context.irp}"
        self.crank.run_until_idle()
        assert self.ke.irql == 0
        for name, request in self.requests.items():
            assert request.status == self.entries[name].status, f"{name} ended with {request.status.name}"
            assert self.told[name] == request.done, f"{name} was announced {self.told[name]} times"

    def finish(self) -> None:
        if not hasattr(self, "driver"):
            return
        for entry in list(self.list):
            if entry.owned is not None:
                self.call_cancel_routine(entry)
        for file in list(self.handles)[1:]:
            self.handles.pop(file).close()
        last = self.handles.popitem()[1]
        last.close()
        assert all(request.done for request in self.requests.values())
        assert not self.driver.queued() and not self.driver.taken and not self.bridge.faults


@machine
class FifoMachine(CsqMachine):
    """`CancelSafeQueue`."""

    ordered = False


@machine
class IoCsqMachine(CsqMachine):
    """`IoCsq`, with an order and a limit of the driver's."""

    ordered = True


BOTH = pytest.mark.parametrize("kind", [FifoMachine, IoCsqMachine])


@BOTH
def test_a_cancel_safe_queue_is_a_list(kind: type[CsqMachine], seed: int) -> None:
    run_machine(kind, seed, examples=EXAMPLES // 3, steps=STEPS)


@BOTH
def test_the_verifier_has_nothing_to_say(kind: type[CsqMachine], seed: int) -> None:
    run_machine(kind, seed, examples=EXAMPLES // 6, steps=STEPS, verify=True)


@pytest.mark.slow
@BOTH
def test_for_longer(kind: type[CsqMachine], seed: int) -> None:
    run_machine(kind, seed, examples=2 * EXAMPLES, steps=STEPS)


REMOVE, CANCEL = "remove_locked", "self.irps.pop(irp.id, None)"


@mistakes(
    Mistake("cancelled before it was queued", CancelSafeQueue, "insert_locked", "irp.cancel and", "False and"),
    Mistake("a cancellation is robbed", CancelSafeQueue, REMOVE, "is None:", "is None and False:"),
    Mistake("the head is being cancelled", CancelSafeQueue, "head_locked", "irp.cancel_routine is not None", "True"),
    Mistake("any file's", CancelSafeQueue, "remove_next_locked", "(matches is None or matches(irp)) and", ""),
    Mistake("the cancelled one stays", CancelSafeQueue, "_cancel", CANCEL, "pass"),
    Mistake("the cancel lock is kept", CancelSafeQueue, "_cancel", "if device is not None:", "if False:"),
    Mistake("not marked pending", CancelSafeQueue, "insert_locked", "irp.mark_pending()", "pass"),
)
def test_a_mistake_of_the_first_is_found(mistake: Mistake) -> None:
    finds(FifoMachine, mistake, examples=EXAMPLES, steps=STEPS)


@mistakes(
    Mistake("cancelled before it was queued", IoCsq, "_insert", "cancelled = irp.cancel and", "cancelled = False and"),
    Mistake("refused, and pending", IoCsq, "_insert", "if may_refuse and", "if False and", slow=True),
    Mistake("taken out twice", IoCsq, "remove_next_irp", "irp.set_cancel_routine(None) is not None", "True"),
    Mistake(
        "gives up at the first", IoCsq, "remove_next_irp", "irp = self.peek_next(irp, peek_context)", "return None"
    ),
    Mistake("found by its name all the same", IoCsq, "remove_irp", "irp.set_cancel_routine(None) is None", "False"),
    Mistake("its name is not forgotten", IoCsq, "_forget", "context.irp = None", "pass"),
    Mistake("the cancelled one stays", IoCsq, "_cancel", "self.remove(irp)", "pass"),
)
def test_a_mistake_of_the_other_is_found(mistake: Mistake) -> None:
    finds(IoCsqMachine, mistake, examples=EXAMPLES, steps=STEPS)
