"""The remove lock: who gets it, who waits for whom, and until when; by itself, and to run down files and the device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.machines.machinekit import Machine, Mistake, finds, machine, mistakes, run_machine
from tests.support import Extension, TinyDriver, bug_check, complete, plug

EXAMPLES, STEPS = 80, 40
MS = 1_000_000
TAGS = (None, "a", "b")
TAG = st.sampled_from(TAGS)
TWO = st.sampled_from((0, 0, 0, 1))
MOSTLY = st.sampled_from((True, True, True, False))
WHICH = st.integers(0, 7)


@dataclass(eq=False)
class ModelLock:
    """A remove lock: who holds it, and who waits for its end, each until when."""

    tags: Counter[Any] = field(default_factory=Counter)
    removed: bool = False
    waiting: dict[str, int] = field(default_factory=dict)

    def give_back(self, tag: Any) -> bool:
        if not self.tags[tag]:
            return False
        self.tags[tag] -= 1
        return True

    def held(self, tag: Any) -> Any:
        """That tag, or another one with which it is held, if there is one."""
        held = [one for one in TAGS if self.tags[one]]
        return tag if tag in held or not held else held[0]

    @property
    def idle(self) -> bool:
        return not self.tags.total()


@machine
class RemoveLockMachine(Machine):
    """Two locks. Threads release them and wait."""

    def __init__(self) -> None:
        super().__init__()
        driver = TinyDriver("locks")
        plug(self.bridge, driver)
        self.device = driver.device
        self.locks = [(RemoveLock(self.ke), ModelLock()) for _ in range(2)]
        self.number = 0
        self.told: list[tuple[str, bool, int]] = []
        self.expected: list[tuple[str, bool, int]] = []

    @rule(which=TWO, tag=TAG, times=st.integers(1, 3))
    def acquire(self, which: int, tag: str | None, times: int) -> None:
        lock, model = self.locks[which]
        for _ in range(times):
            assert lock.acquire(tag) == (STATUS_DELETE_PENDING if model.removed else STATUS_SUCCESS)
            if not model.removed:
                model.tags[tag] += 1
        self.same()

    @rule(which=TWO, tag=TAG, held=MOSTLY)
    def release(self, which: int, tag: str | None, held: bool) -> None:
        """Also with a tag with which nobody holds it."""
        lock, model = self.locks[which]
        tag = model.held(tag) if held else tag
        if not model.give_back(tag):
            with bug_check(0xC4, 0xD5):
                lock.release(tag)
        else:
            lock.release(tag)
            if model.removed and model.idle:
                self.come_back(model, True, list(model.waiting))
        self.same()

    def come_back(self, model: ModelLock, came: bool, who: list[str]) -> None:
        for name in who:
            del model.waiting[name]
            self.expected.append((name, came, self.ke.clock.now()))

    @rule(which=TWO, tag=TAG, held=MOSTLY, timeout=st.integers(1, 50))
    def release_and_wait(self, which: int, tag: str | None, held: bool, timeout: int) -> None:
        """In a thread of its own, if the lock is held with that tag."""
        lock, model = self.locks[which]
        tag = model.held(tag) if held else tag
        if not model.give_back(tag):
            with bug_check(0xC4, 0xD6):
                lock.release_and_wait(tag)
        else:
            self.number += 1
            name = f"remover{self.number}"
            model.removed = True
            model.waiting[name] = self.ke.clock.now() + timeout * MS

            def run(_context: object) -> None:
                self.told.append((name, lock.release_and_wait(tag, timeout / 1000), self.ke.clock.now()))

            self.ke.create_system_thread(self.device, run, name=name)
            if model.idle:  # it does not wait, and those who do are woken by it
                self.come_back(model, True, [name, *(other for other in model.waiting if other != name)])
        self.same()

    @rule(which=TWO)
    def wait_at_raised_irql(self, which: int) -> None:
        """Nothing happens then."""
        lock, _ = self.locks[which]
        with self.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA):
            lock.release_and_wait("a")
        self.same()

    @rule(time=st.integers(0, 15))
    def let_time_pass(self, time: int) -> None:
        now = self.ke.clock.now()
        end = now + time * MS
        self.crank.advance(time / 1000)
        late = [
            (until, name, model) for _, model in self.locks for name, until in model.waiting.items() if until <= end
        ]
        for until, name, model in sorted(late, key=lambda one: (one[0], int(one[1].removeprefix("remover")))):
            del model.waiting[name]
            self.expected.append((name, False, until))
        self.same()

    def same(self) -> None:
        self.crank.run_until_idle()
        assert self.told == self.expected
        for lock, model in self.locks:
            assert lock.tags == {tag: count for tag, count in model.tags.items() if count}
            assert lock.count == model.tags.total() and lock.removed is model.removed

    def finish(self) -> None:
        self.let_time_pass(51)
        assert not self.ke.system_threads and not self.bridge.faults


# -- run-down ------------------------------------------------------------------------------------------------------------


class Rundown(TinyDriver):
    """A device with a remove lock, whose files have one each. A read takes both, and lasts for a while."""

    def __init__(self) -> None:
        super().__init__(
            "rundown", {IrpMajor.CREATE: self.create, IrpMajor.READ: self.read, IrpMajor.CLEANUP: self.cleanup}
        )
        self.lasts = 0
        self.run_down = 0
        """When the wait in CLEANUP was over."""
        self.lock: RemoveLock

    def add_device(self, driver: Any, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        self.lock = RemoveLock(driver.ke, self.device)
        return status

    def create(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        file = irp.current_stack_location.file_object
        assert file is not None
        file.fs_context = RemoveLock(device.ke, device)
        file.fs_context.acquire(file)
        return complete(device, irp)

    def read(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        file = irp.current_stack_location.file_object
        assert file is not None
        status = self.lock.acquire(irp)
        if status.is_success:
            status = file.fs_context.acquire(irp)
            if not status.is_success:
                self.lock.release(irp)
        if not status.is_success:
            return complete(device, irp, status)

        def over(*_: object) -> None:
            complete(device, irp, STATUS_SUCCESS)
            file.fs_context.release(irp)
            self.lock.release(irp)

        irp.mark_pending()
        device.ke.set_timer(Ktimer(), relative_ms(self.lasts), 0, Kdpc(over, None, device))
        return STATUS_PENDING

    def cleanup(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        file = irp.current_stack_location.file_object
        assert file is not None
        file.fs_context.release_and_wait(file)
        self.run_down = device.ke.clock.now()
        return complete(device, irp)

    def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE:
            self.lock.acquire("removal")
            self.lock.release_and_wait("removal")
        return super().pnp(device, irp)


@machine
class RundownMachine(Machine):
    """A device that is opened up to three times. To close a file takes as long as its last request."""

    @initialize()
    def build(self) -> None:
        self.driver = Rundown()
        plug(self.bridge, self.driver)
        self.handles: list[Handle] = [self.bridge.open("DUT")]
        self.requests: list[tuple[Request, int]] = []
        """With when each is over."""

    @precondition(lambda self: len(self.handles) < 3)
    @rule()
    def open(self) -> None:
        self.handles.append(self.bridge.open("DUT"))

    @rule(which=WHICH, lasts=st.integers(1, 20))
    def read(self, which: int, lasts: int) -> None:
        self.driver.lasts = lasts
        request = self.handles[which % len(self.handles)].submit_read(4)
        self.requests.append((request, self.ke.clock.now() + lasts * MS))
        self.same()

    @rule(time=st.integers(0, 10))
    def let_time_pass(self, time: int) -> None:
        self.crank.advance(time / 1000)
        self.same()

    @precondition(lambda self: len(self.handles) > 1)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        self.close_one(self.handles.pop(which % len(self.handles)))

    def close_one(self, handle: Handle) -> None:
        now = self.ke.clock.now()
        until = max([now, *(over for request, over in self.requests if request.handle is handle)])
        handle.close()
        assert self.ke.clock.now() == self.driver.run_down == until
        self.crank.run_until_idle()  # others may be over at this very moment
        lock = handle.file.fs_context
        assert lock.removed and not lock.count and lock.acquire("late") == STATUS_DELETE_PENDING
        self.same()

    def same(self) -> None:
        now = self.ke.clock.now()
        for request, over in self.requests:
            assert request.done is (over <= now) and request.status in (STATUS_SUCCESS, STATUS_PENDING)
        open_requests = Counter(id(request.handle) for request, over in self.requests if over > now)
        assert self.driver.lock.count == open_requests.total() and not self.driver.lock.removed
        for handle in self.handles:
            assert handle.file.fs_context.count == 1 + open_requests[id(handle)]

    def finish(self) -> None:
        if not hasattr(self, "driver"):
            return
        while self.handles:
            self.close_one(self.handles.pop(0))
        self.bridge.unplug("DUT")
        assert self.driver.lock.removed and not self.driver.lock.count and not self.bridge.faults


BOTH = pytest.mark.parametrize("kind", [RemoveLockMachine, RundownMachine])


@BOTH
def test_the_lock_is_held_as_the_reference_says(kind: type[Machine], seed: int) -> None:
    run_machine(kind, seed, examples=EXAMPLES // 3, steps=STEPS)


def test_the_verifier_has_nothing_to_say(seed: int) -> None:
    run_machine(RundownMachine, seed, examples=EXAMPLES // 6, steps=STEPS, verify=True)


@pytest.mark.slow
@BOTH
def test_for_longer(kind: type[Machine], seed: int) -> None:
    run_machine(kind, seed, examples=2 * EXAMPLES, steps=STEPS)


WAIT, GIVE = (RemoveLock, "release_and_wait"), (RemoveLock, "_give_back")


@mistakes(
    Mistake("one too few is waited for", RemoveLock, "release", "not self._tags", "self._tags.total() <= 1"),
    Mistake("the last one wakes nobody", RemoveLock, "release", "if last:", "if False:"),
    Mistake("one's own counts", *WAIT, "idle = not self._tags", "idle = False"),
    Mistake("the others do not count", *WAIT, "idle = not self._tags", "idle = True"),
    Mistake("it can still be had", *WAIT, "self.removed = self.removed or known", "pass"),
    Mistake("removed by a mistake", *WAIT, "self.removed = self.removed or known", "self.removed = True"),
    Mistake("a tag is held once", RemoveLock, "acquire", "self._tags[tag] += 1", "self._tags[tag] = 1"),
    Mistake("tags are all the same", *GIVE, "return left >= 0", "return True"),
    Mistake("off by one", *GIVE, "if left > 0:", "if left > 1:"),
)
def test_a_mistake_is_found(mistake: Mistake) -> None:
    finds(RemoveLockMachine, mistake, examples=EXAMPLES, steps=STEPS)


@mistakes(
    Mistake("the last one wakes nobody", RemoveLock, "release", "if last:", "if False:"),
    Mistake("the others do not count", *WAIT, "idle = not self._tags", "idle = True"),
)
def test_a_mistake_is_found_when_files_are_closed(mistake: Mistake) -> None:
    finds(RundownMachine, mistake, examples=EXAMPLES, steps=STEPS)
