"""Run two or three threads against each other in every order that matters, and repeat any of these orders at will.

A race is built anew for each *schedule*. Its threads are real, but only one runs at a time; at a *preemption point* it may be
stopped and another one goes on. Which points these are is the granularity:

* ``POINTS``: entries and exits of the routines in `NAMED_POINTS`, the places where drivers and the I/O manager meet;
* ``LINES``: every line of the modules under test, but of constructors; ``INSTRUCTIONS``: every bytecode of them.

`explore` tries all schedules with up to so many preemptions, and then random ones with more. Few preemptions find nearly
all bugs (Musuvathi and Qadeer, "Iterative context bounding for systematic testing of multithreaded programs", PLDI 2007).
Switches from a thread that waits or has ended are no preemptions; all of them are tried.

A thread that finds a lock of the bridge taken lets another one go on. When nobody can, that is a deadlock, reported with the
stacks. A thread that waits for a request or an event waits until it comes; only when nobody else can go on it turns the
crank of the (manual) bridge itself. A wait with a time-out below `PATIENCE` may also be over at any moment: a time-out that
comes just now is one more order that is tried.

A bridge that runs by itself, with its poller and its workers, can be explored as well: give it a `VirtualClock`, and devices
whose far end is in the same process. Its threads are then threads of the race.

A failure names its schedule, for instance ``points: free0=cancel 17=bytes``: "start with thread cancel; at the 17th point
stop it, and bytes goes on". `replay` does exactly that again.

One exploration at a time, and no other bridge at work in the process meanwhile.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hilbridge.model.errors import InternalFault, UsageFault
from hilbridge.testing.baton import Granularity, Scheduler
from hilbridge.testing.hooks import NAMED_POINTS, instrumented
from hilbridge.testing.standins import PATIENCE

__all__ = [
    "MODULES",
    "NAMED_POINTS",
    "PATIENCE",
    "Exploration",
    "Granularity",
    "Race",
    "RaceFound",
    "explore",
    "replay",
    "settle",
    "stood_still",
]

MODULES = (
    "hilbridge.iomgr",
    "hilbridge.model.irp",
    "hilbridge.drivers",
    "hilbridge.kernel.dpc",
    "hilbridge.kernel.event",
    "hilbridge.kernel.fibers",
    "hilbridge.kernel.interrupt",
    "hilbridge.kernel.mutex",
    "hilbridge.kernel.poller",
    "hilbridge.kernel.remlock",
    "hilbridge.kernel.semaphore",
    "hilbridge.kernel.spinlock",
    "hilbridge.kernel.steering",
    "hilbridge.kernel.systhread",
    "hilbridge.kernel.timer",
    "hilbridge.kernel.wait",
    "hilbridge.kernel.waiting",
    "hilbridge.kernel.workers",
    "hilbridge.virtual.line",
)
"""Modules, with what is below them, whose lines and instructions are preemption points."""
SCHEDULES_PER_COLLECTION = 256
"""While schedules run, no garbage is collected by itself: finalizers would make them differ."""


@dataclass
class Race:
    """What one schedule runs.

    `threads`: name -> body; a name has no space and no ``=``. `check` is called when all have ended and the bridge's own
    threads, if it has any, wait; it raises if the outcome is wrong. `close` gives back what was built; it is called whatever
    happened, and must not fail if nothing else did.
    """

    threads: Mapping[str, Callable[[], object]]
    check: Callable[[], object] = lambda: None
    close: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        bad = [name for name in self.threads if not name or set(name) & {" ", "="}]
        if bad or not self.threads:
            raise UsageFault(f"a race has threads with names without spaces or '='; got {list(self.threads)}")


@dataclass
class Exploration:
    """What `explore` has done."""

    schedules: int = 0
    longest: int = 0
    """The largest number of preemption points in one schedule."""
    points: Counter[str] = field(default_factory=Counter)
    """Named point -> how often it was passed, over all schedules."""


class RaceFound(AssertionError):
    """A schedule whose outcome is wrong, or in which a thread raised. The cause is what was raised.

    `schedule` is what `replay` takes; `story` says who was stopped where.
    """

    def __init__(self, schedule: str, story: str, cause: BaseException) -> None:
        super().__init__(f"schedule {schedule!r} fails: {type(cause).__name__}: {cause}\n{story}")
        self.schedule = schedule
        self.story = story


def explore(
    build: Callable[[], Race],
    *,
    granularity: Granularity = Granularity.POINTS,
    preemptions: int = 2,
    samples: int = 0,
    sample_preemptions: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
    modules: Sequence[str] = MODULES,
) -> Exploration:
    """Run every schedule with up to `preemptions` preemptions, then `samples` random ones.

    The random ones are drawn from `seed` and have `sample_preemptions` preemptions, one more than the others by default; with
    `seconds` they go on until that time is over, however many they are. `build` makes the race anew for every schedule, on a
    bridge of its own (`Bridge.manual`). Raises `RaceFound` for the first schedule that fails.
    """
    explorer = _Explorer(build, granularity, modules)
    end = None if seconds is None else time.monotonic() + seconds
    try:
        explorer.rehearse()
        with instrumented(explorer.scheduler):
            explorer.all(preemptions)
            if samples or end is not None:
                more = preemptions + 1 if sample_preemptions is None else sample_preemptions
                explorer.sample(random.Random(seed), samples, end, more)
    finally:
        explorer.scheduler.dismiss()
        gc.collect(1)
    return explorer.done


def replay(build: Callable[[], Race], schedule: str, *, modules: Sequence[str] = MODULES) -> None:
    """Run one schedule again, as a failure has named it; raises `RaceFound` if it fails again.

    With another granularity's points, other `modules`, or a changed program the same name is another schedule.
    """
    granularity, forced = _parse(schedule)
    explorer = _Explorer(build, granularity, modules)
    try:
        explorer.rehearse()
        with instrumented(explorer.scheduler):
            explorer.run(forced, _price(forced))
    finally:
        explorer.scheduler.dismiss()


_running: Scheduler | None = None


class _Explorer:
    def __init__(self, build: Callable[[], Race], granularity: Granularity, modules: Sequence[str]) -> None:
        self._build = build
        self.scheduler = Scheduler(granularity, modules)
        self.done = Exploration(points=self.scheduler.passed)

    def rehearse(self) -> None:
        """Once without points: what is imported or cached when it is first used must not make the first run special."""
        with instrumented(self.scheduler):
            error = self._once({}, 0)
        if error is not None:
            raise RaceFound(_format(self.scheduler.granularity, {}), "  (one thread after the other)", error) from error

    def all(self, preemptions: int) -> None:
        """Every schedule within the bound, those with few preemptions first: they are the easiest to understand."""
        todo: deque[dict[str, str]] = deque([{}])
        while todo:
            forced = todo.popleft()
            self.run(forced, preemptions)
            left = preemptions - _price(forced)
            for decision in self.scheduler.decisions:
                if decision.price <= left:
                    todo.extend({**forced, decision.key: name} for name in decision.others)

    def sample(self, draw: random.Random, samples: int, end: float | None, preemptions: int) -> None:
        """Random schedules. A point that is drawn behind the end of a schedule, or where nobody else can run, is void."""
        self.run({}, preemptions)  # counts the points
        names = self.scheduler.names()
        while samples > 0 or (end is not None and time.monotonic() < end):
            samples -= 1
            longest = self.done.longest
            points = sorted(draw.sample(range(1, longest + 1), min(preemptions, longest)))
            forced = {"free0": draw.choice(names)} | {str(point): draw.choice(names) for point in points}
            self.run(forced, preemptions, lenient=True)

    def run(self, forced: dict[str, str], preemptions: int, *, lenient: bool = False) -> None:
        """One schedule; raises `RaceFound` if its outcome is wrong. `lenient`: not all of `forced` need come to pass."""
        error = self._once(forced, preemptions, lenient=lenient)
        scheduler, done = self.scheduler, self.done
        done.schedules += 1
        done.longest = max(done.longest, scheduler.points)
        if done.schedules % SCHEDULES_PER_COLLECTION == 0:
            gc.collect(1)
        if error is None:
            return
        # Once more, with its story written down.
        forced = {key: name for key, name in forced.items() if key in scheduler.used}
        scheduler.story = []
        again = self._once(forced, _price(forced), lenient=lenient)
        story, scheduler.story = "\n".join(scheduler.story), None
        if again is None:
            story += "\n  (the second time it did not fail: something else than the schedule decides)"
        raise RaceFound(_format(scheduler.granularity, forced), story, error) from error

    def _once(self, forced: Mapping[str, str], preemptions: int, *, lenient: bool = False) -> BaseException | None:
        """Build, run and check; returns what is wrong."""
        scheduler = self.scheduler
        unclosed: list[Race] = []

        def the_test() -> None:
            race = self._build()
            unclosed.append(race)
            error = scheduler.race(race.threads, forced, preemptions)
            if error is not None:
                raise error
            missed = sorted(forced.keys() - scheduler.used)
            if missed and not lenient:
                raise InternalFault(f"the race went another way this time: it never came to {', '.join(missed)}")
            scheduler.settle()
            held = [lock for lock in scheduler.locks if lock.locked() and not lock.is_signal]
            if held:
                raise AssertionError(f"all threads have ended, and there still is {held[0]!r}")
            race.check()
            unclosed.clear()
            race.close()

        global _running  # noqa: PLW0603 - `settle` is called from races, which do not know their explorer
        _running = scheduler
        try:
            error = scheduler.run(the_test)
        finally:
            _running = None
        for race in unclosed:
            try:
                race.close()
            except Exception:  # noqa: BLE001, S112 - what has failed is not expected to close well
                continue
        return error


def settle() -> None:
    """For `Race.threads`, `check` and `close`: let all the other threads go on until they wait. No time passes."""
    if _running is None:
        raise UsageFault("settle() is for races that are being explored")
    _running.settle()


def stood_still() -> int:
    """For `Race.check`: virtual time (nanoseconds) that passed in this race because nobody could go on but by a time-out.

    A wake-up that was lost, and for which some time-out made up, shows here.
    """
    if _running is None:
        raise UsageFault("stood_still() is for races that are being explored")
    return _running.stood_still


def _price(forced: Mapping[str, str]) -> int:
    return sum(not key.startswith("free") for key in forced)


def _format(granularity: Granularity, forced: Mapping[str, str]) -> str:
    return " ".join([f"{granularity.value}:", *(f"{key}={name}" for key, name in forced.items())])


def _parse(schedule: str) -> tuple[Granularity, dict[str, str]]:
    kind, *steps = schedule.split() or [""]
    try:
        return Granularity(kind.rstrip(":")), dict(step.split("=") for step in steps)
    except ValueError:
        raise UsageFault(f"{schedule!r} is not a schedule: give what a RaceFound has named") from None
