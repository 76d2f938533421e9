"""Events, semaphores, mutexes and timers: threads wait for one, any and all of them, and a reference says who goes on when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from hilbridge.kernel import wait as waits
from hilbridge.kernel.event import EventType, Kevent, Signal
from hilbridge.kernel.mutex import Kmutex
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.timer import Ktimer, TimerQueue, relative_ms
from hilbridge.kernel.wait import DispatcherObject, WaitType
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_SEMAPHORE_LIMIT_EXCEEDED
from tests.machines.machinekit import Machine, Mistake, finds, machine, mistakes, run_machine
from tests.machines.waitmodel import MS, Mutex, Semaphore, Thing, Timer, Told, WaitModel
from tests.support import TinyDriver, bug_check, plug

EXAMPLES, STEPS = 80, 60
AGENTS = 4
MAIN = 0
"""The machine's own thread, which looks only. The others are 1 to AGENTS."""
LONGEST = 60
"""Milliseconds that a wait lasts."""
TWO = st.integers(0, 1)
NUMBER = st.integers(0, AGENTS - 1)
PLACE = st.integers(0, 7)
TIMEOUT = st.sampled_from((0, 5, 20, LONGEST, LONGEST, LONGEST))


class Agent:
    """A system thread that does what it is told, one thing at a time."""

    def __init__(self, owner: WaitMachine, number: int) -> None:
        self.ke, self.number, self.told = owner.ke, number, owner.told
        self.go = Kevent()
        self.todo: Any = None
        self.answer: Any = None
        self.thread = self.ke.create_system_thread(owner.device, self.run, name=f"agent{number}")

    def run(self, _context: object) -> None:
        while True:
            self.ke.wait_for_single_object(self.go, None)
            self.ke.clear_event(self.go)
            if self.todo is None:
                return
            self.answer = self.todo()

    def do(self, what: Any) -> None:
        """What it has to say is in `answer`, when it has come to it."""
        self.todo = what
        self.ke.set_event(self.go)


@machine
class WaitMachine(Machine):
    """Two or three objects of each kind, and a few threads."""

    def __init__(self) -> None:
        super().__init__()
        driver = TinyDriver("waits")
        plug(self.bridge, driver)
        self.device = driver.device
        self.told: list[Told] = []
        self.model = model = WaitModel()
        notification, synchronization = EventType.NOTIFICATION, EventType.SYNCHRONIZATION
        self.events = [(Kevent(notification), Thing("n")), (Kevent(synchronization), Thing("s", takes=True))]
        self.semaphores = [(Ksemaphore(n, 3), Semaphore(f"c{n}", count=n)) for n in range(2)]
        self.mutexes = [(Kmutex(), Mutex(f"m{n}")) for n in range(2)]
        self.timers = [(Ktimer(notification), Timer("tn")), (Ktimer(synchronization), Timer("ts", takes=True))]
        model.timers = [timer for _, timer in self.timers]
        self.all: list[tuple[DispatcherObject, Thing]] = [*self.events, *self.semaphores, *self.mutexes, *self.timers]
        self.agents = {number: Agent(self, number) for number in range(1, AGENTS + 1)}
        self.owners = {self.ke.current(): MAIN}
        self.crank.run_until_idle()
        for number, agent in self.agents.items():
            agent.do(lambda: self.ke.current())
            self.crank.run_until_idle()
            self.owners[agent.answer] = number

    def wait(self, number: int, things: list[DispatcherObject], kind: WaitType | None, timeout: float) -> None:
        index: int | None = 0
        if kind is not None:
            index = self.ke.wait_for_multiple_objects(things, kind, timeout)
        elif not self.ke.wait_for_single_object(things[0], timeout):
            index = None
        self.told.append((number, index, self.ke.clock.now()))

    # -- steps -------------------------------------------------------------------------------------------------------

    @rule(number=NUMBER, which=PLACE, timeout=TIMEOUT)
    def wait_for_one(self, number: int, which: int, timeout: int) -> None:
        self.begin_to_wait(number, [which], None, timeout)

    @rule(number=NUMBER, which=st.lists(PLACE, min_size=2, max_size=4), timeout=TIMEOUT)
    def wait_for_any(self, number: int, which: list[int], timeout: int) -> None:
        self.begin_to_wait(number, which, WaitType.ANY, timeout)

    @rule(number=NUMBER, which=st.lists(PLACE, min_size=2, max_size=3), timeout=TIMEOUT)
    def wait_for_all(self, number: int, which: list[int], timeout: int) -> None:
        self.begin_to_wait(number, which, WaitType.ALL, timeout)

    @rule(which=st.lists(PLACE, min_size=1, max_size=3), kind=st.sampled_from((None, *WaitType)))
    def look(self, which: list[int], kind: WaitType | None) -> None:
        """The machine's own thread looks, and takes what there is."""
        real, things = self.things(which if kind is not None else which[:1])
        self.model.wait(MAIN, things, 0, every=kind is WaitType.ALL)
        self.wait(MAIN, real, kind, 0)
        self.same()

    def begin_to_wait(self, number: int, which: list[int], kind: WaitType | None, timeout: int) -> None:
        """The next thread that does not wait yet does."""
        order = [(number + more) % AGENTS + 1 for more in range(AGENTS)]
        idle = next((one for one in order if not self.model.busy(one)), None)
        if idle is not None:
            real, things = self.things(which)
            self.model.wait(idle, things, timeout * MS, every=kind is WaitType.ALL)
            self.agents[idle].do(lambda: self.wait(idle, real, kind, timeout / 1000))
            self.same()

    def things(self, which: list[int]) -> tuple[list[DispatcherObject], list[Thing]]:
        return [self.all[place][0] for place in which], [self.all[place][1] for place in which]

    @rule(which=TWO)
    def set_event(self, which: int) -> None:
        event, thing = self.events[which]
        assert self.ke.set_event(event) is self.model.set(thing)
        self.same()

    @rule(which=TWO)
    def pulse_event(self, which: int) -> None:
        event, thing = self.events[which]
        assert self.ke.pulse_event(event) is self.model.pulse(thing)
        self.same()

    @rule(which=TWO)
    def reset_event(self, which: int) -> None:
        event, thing = self.events[which]
        assert self.ke.reset_event(event) is thing.signaled
        thing.signaled = False
        self.same()

    @rule(which=TWO, number=st.integers(0, 3))
    def release_semaphore(self, which: int, number: int) -> None:
        semaphore, thing = self.semaphores[which]
        previous = self.model.release(thing, number)
        if previous is None:
            with pytest.raises(NtStatusError) as caught:
                self.ke.release_semaphore(semaphore, number)
            assert caught.value.status == STATUS_SEMAPHORE_LIMIT_EXCEEDED
        else:
            assert self.ke.release_semaphore(semaphore, number) == previous
        self.same()

    @rule(which=TWO)
    def release_mutex(self, which: int) -> None:
        """Its owner gives it back, if it does not wait; the machine's own thread may not, if it is not the owner."""
        mutex, thing = self.mutexes[which]
        if thing.owner is None:
            with bug_check(0x11):
                self.ke.release_mutex(mutex)
        elif not self.model.busy(thing.owner):
            owner = thing.owner
            previous = self.model.let_go(thing)
            if owner == MAIN:
                answer = self.ke.release_mutex(mutex)
            else:
                self.agents[owner].do(lambda: self.ke.release_mutex(mutex))
                self.crank.run_until_idle()
                answer = self.agents[owner].answer
            assert answer == previous
        self.same()

    @rule(which=TWO, due=st.integers(0, 20), period=st.sampled_from((0, 0, 3, 10)))
    def set_timer(self, which: int, due: int, period: int) -> None:
        timer, thing = self.timers[which]
        assert self.ke.set_timer(timer, relative_ms(due), period) is self.model.start(thing, due * MS, period * MS)
        self.same()

    @rule(which=TWO)
    def cancel_timer(self, which: int) -> None:
        timer, thing = self.timers[which]
        assert self.ke.cancel_timer(timer) is self.model.stop(thing)
        self.same()

    @rule(time=st.integers(0, 10))
    def let_time_pass(self, time: int) -> None:
        self.crank.advance(time / 1000)
        self.model.advance(time * MS)
        self.same()

    # -- what holds after every step ---------------------------------------------------------------------------------

    def same(self) -> None:
        self.crank.run_until_idle()
        self.model.settle()
        model = self.model
        assert self.told == model.told, f"told {self.told}, expected {model.told}"
        self.told.clear()
        model.told.clear()
        assert self.ke.clock.now() == model.now
        for real, thing in self.all:
            line = [wait for wait in model.waits if thing in wait.things]
            threads = [self.owners[wait.thread] for wait in real._line if wait.thread is not None]
            assert threads == [wait.agent for wait in line], f"{threads} stand in line for {thing.name}"
            assert real._groups == sum(wait.every for wait in line)
            assert real.signaled is thing.open_to(None), thing.name
        for semaphore, counted in self.semaphores:
            assert semaphore.count == counted.count
        for mutex, owned in self.mutexes:
            assert mutex.state == 1 - owned.depth
            assert (None if mutex.owner is None else self.owners[mutex.owner]) == owned.owner
        for timer, due in self.timers:
            assert (timer.due if timer.serial else None) == due.due

    def finish(self) -> None:
        for place in range(2):
            self.cancel_timer(place)
        for _ in range(2):  # who gets it from the one that gives it back waits for it no longer
            self.let_time_pass(LONGEST + 1)
            for place in range(2):
                while self.mutexes[place][1].owner is not None:
                    self.release_mutex(place)
        for agent in self.agents.values():
            agent.do(None)
        self.crank.run_until_idle()
        assert not self.ke.system_threads and not self.bridge.faults


def test_who_waits_goes_on_when_the_reference_says(seed: int) -> None:
    run_machine(WaitMachine, seed, examples=EXAMPLES // 3, steps=STEPS)


def test_the_verifier_has_nothing_to_say(seed: int) -> None:
    run_machine(WaitMachine, seed, examples=EXAMPLES // 6, steps=STEPS, verify=True)


@pytest.mark.slow
def test_for_longer(seed: int) -> None:
    run_machine(WaitMachine, seed, examples=2 * EXAMPLES, steps=STEPS)


SERVE, BEGIN = (DispatcherObject, "_serve"), (waits, "begin_wait")


@mistakes(
    Mistake("all takes a part", *SERVE, "for thing in wait.objects:", "for thing in wait.objects[:1]:", slow=True),
    Mistake("all is satisfied by any", *SERVE, "elif not all(", "elif not any("),
    Mistake("any says that the first came", *SERVE, "wait.objects.index(self)", "0"),
    Mistake("those passed over change places", *SERVE, "reversed(passed)", "passed"),
    Mistake("the last in line is first", *SERVE, "line.popleft()", "line.pop()", slow=True),
    Mistake("any takes all", *BEGIN, "break", "continue"),
    Mistake("all takes what is there", *BEGIN, "if all(", "if any("),
    Mistake("a wait for all is not counted off", DispatcherObject, "_leave", "self._groups -= 1", "pass"),
    Mistake("a line is not left", waits, "end_wait", "thing._leave(wait)", "pass"),
    Mistake("synchronization wakes all", Signal, "_take", "self._signaled = False", "pass"),
    Mistake("a pulse wakes nobody", Kevent, "pulse", "signal.serve()", "pass"),
    Mistake("a semaphore is released once", Ksemaphore, "release", "= previous + adjustment", "= previous + 1"),
    Mistake("a semaphore has no limit", Ksemaphore, "release", "previous + adjustment > self.limit", "False"),
    Mistake("a mutex is free too early", Kmutex, "let_go", "not self._depth and", ""),
    Mistake("a timer that is set stays signaled", TimerQueue, "set", "timer._signaled = False", "pass"),
    Mistake("a cancelled timer expires", TimerQueue, "cancel", "timer.serial = 0", "pass"),
    Mistake(
        "a period begins anew", TimerQueue, "pop_expired", "timer.due += timer.period", "timer.due += 2 * timer.period"
    ),
)
def test_a_mistake_is_found(mistake: Mistake) -> None:
    finds(WaitMachine, mistake, examples=EXAMPLES, steps=STEPS)
