"""The reference for the wait machine: objects, the waits that stand in line for them, and the virtual time, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

MS = 1_000_000


@dataclass(eq=False)
class Thing:
    """An object that can be waited for."""

    name: str
    takes: bool = False
    """A wait takes the signal: an event or timer of synchronization."""
    signaled: bool = False

    def open_to(self, agent: int | None) -> bool:
        return self.signaled

    def take(self, agent: int) -> None:
        if self.takes:
            self.signaled = False


@dataclass(eq=False)
class Semaphore(Thing):
    count: int = 0
    limit: int = 3

    def open_to(self, agent: int | None) -> bool:
        return self.count > 0

    def take(self, agent: int) -> None:
        self.count -= 1


@dataclass(eq=False)
class Mutex(Thing):
    owner: int | None = None
    depth: int = 0

    def open_to(self, agent: int | None) -> bool:
        return self.owner in (None, agent)

    def take(self, agent: int) -> None:
        self.owner = agent
        self.depth += 1


@dataclass(eq=False)
class Timer(Thing):
    due: int | None = None
    period: int = 0
    serial: int = 0


@dataclass(eq=False)
class Waiting:
    """A thread that waits."""

    agent: int
    things: list[Thing]
    every: bool
    deadline: int


Told = tuple[int, int | None, int]
"""Which thread, the index of what came (None: the time was up), and when."""


@dataclass
class WaitModel:
    """All of it. `told` is what threads have been told, in order."""

    now: int = 0
    waits: list[Waiting] = field(default_factory=list)
    """Oldest first: so they stand in every line."""
    told: list[Told] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    serial: int = 0

    def busy(self, agent: int) -> bool:
        return any(wait.agent == agent for wait in self.waits)

    def wait(self, agent: int, things: list[Thing], timeout: int, *, every: bool) -> None:
        if every:
            things = list(dict.fromkeys(things))
            if all(thing.open_to(agent) for thing in things):
                for thing in things:
                    thing.take(agent)
                self.told.append((agent, 0, self.now))
                return
        else:
            for index, thing in enumerate(things):
                if thing.open_to(agent):
                    thing.take(agent)
                    self.told.append((agent, index, self.now))
                    return
        if timeout:
            self.waits.append(Waiting(agent, things, every, self.now + timeout))
        else:
            self.told.append((agent, None, self.now))

    def serve(self, thing: Thing) -> None:
        """It may be signaled: who is first in line, and can go on, does."""
        for wait in list(self.waits):
            if not thing.open_to(None):
                return
            if thing not in wait.things:
                continue
            if not wait.every:
                thing.take(wait.agent)
                self.over(wait, wait.things.index(thing))
            elif all(other.open_to(wait.agent) for other in wait.things):
                for other in wait.things:
                    other.take(wait.agent)
                self.over(wait, 0)

    def over(self, wait: Waiting, index: int | None) -> None:
        self.waits.remove(wait)
        self.told.append((wait.agent, index, self.now))

    # -- what signals ------------------------------------------------------------------------------------------------

    def set(self, event: Thing) -> bool:
        previous, event.signaled = event.signaled, True
        self.serve(event)
        return previous

    def pulse(self, event: Thing) -> bool:
        previous = self.set(event)
        event.signaled = False
        return previous

    def release(self, semaphore: Semaphore, number: int) -> int | None:
        """The previous count, or None if that would be too many."""
        previous = semaphore.count
        if previous + number > semaphore.limit:
            return None
        semaphore.count += number
        self.serve(semaphore)
        return previous

    def let_go(self, mutex: Mutex) -> int:
        previous = 1 - mutex.depth
        mutex.depth -= 1
        if mutex.depth == 0:
            mutex.owner = None
            self.serve(mutex)
        return previous

    def start(self, timer: Timer, due: int, period: int) -> bool:
        was = timer.due is not None
        self.serial += 1
        timer.due, timer.period, timer.serial, timer.signaled = self.now + due, period, self.serial, False
        return was

    def stop(self, timer: Timer) -> bool:
        was, timer.due = timer.due is not None, None
        return was

    # -- time --------------------------------------------------------------------------------------------------------

    def advance(self, time: int) -> None:
        """Instant by instant: timers first, then those whose time is up."""
        end = self.now + time
        while True:
            self.settle()
            moments = [timer.due for timer in self.timers if timer.due is not None]
            moments += [wait.deadline for wait in self.waits]
            if not moments or min(moments) > end:
                break
            self.now = min(moments)
        self.now = end

    def settle(self) -> None:
        """What is due now."""
        while due := [(timer.due, timer.serial, timer) for timer in self.timers if timer.due is not None]:
            moment, _, timer = min(due, key=lambda one: one[:2])
            if moment > self.now:
                break
            timer.signaled = True
            self.serve(timer)
            if timer.period:
                self.serial += 1
                timer.due, timer.serial = moment + timer.period, self.serial
            else:
                timer.due = None
        late = [wait for wait in self.waits if wait.deadline <= self.now]
        for wait in sorted(late, key=lambda one: (one.deadline, one.agent)):
            self.over(wait, None)
