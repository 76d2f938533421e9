"""The scheduler behind `hilbridge.testing.interleave`: real threads, of which only the one that holds the baton runs.

A *schedule* is the list of decisions about who gets the baton. There are two kinds of them, each with a key of its own:

* at a preemption point, numbered from 1 on in the order in which they are passed (``17``): the baton may be taken from a
  thread that could go on; that is one preemption;
* where the thread that has the baton cannot go on, because it waits or has ended: somebody else must have it (``free3``),
  or the time-out of one that waits comes just now (``late3``), which has the price of a preemption.

What is not forced takes its default: go on, or else the first thread that can. So a schedule is named by its forced
decisions alone, and the same ones give the same run again.

The threads are: the *test*, which builds the race, waits until it is over, and checks it; the *racers*; and the *servants*,
threads that the bridge has started for itself, such as its poller. Decisions are made while the racers run.
"""

from __future__ import annotations

import linecache
import sys
import threading
import traceback
from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from math import inf
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from hilbridge.kernel.frames import current_frames
from hilbridge.model.errors import Deadlock, InternalFault

if TYPE_CHECKING:
    from hilbridge.kernel.clock import VirtualClock
    from hilbridge.testing.standins import CooperativeLock

SCHEDULE_SECONDS = 20.0
"""A schedule takes milliseconds. One that takes this long hangs in something that hands no baton on."""
HERE = str(Path(__file__).parent)
THE_TEST = "the test"


class Granularity(Enum):
    """What a preemption point is."""

    POINTS = "points"
    LINES = "lines"
    INSTRUCTIONS = "instructions"


class Go(Enum):
    """Why a thread that waited has been given the baton."""

    READY = "what it waited for is there"
    TIMED_OUT = "its time-out is over"
    STILL = "nobody else can go on"


class Decision(NamedTuple):
    """A decision that was not forced: who else could have got the baton, and what that costs in preemptions."""

    key: str
    others: tuple[str, ...]
    price: int


class Unwound(BaseException):
    """Takes a thread out of a schedule that has failed. Not an `Exception`: drivers' errors are latched, this is not one."""


class Actor:
    """A thread under the scheduler. It is kept from schedule to schedule."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self.name = name
        self.gate = allocate_lock()
        """Released by whoever hands it the baton."""
        self.gate.acquire()
        self.body: Callable[[], object] = lambda: None
        self.error: BaseException | None = None
        self.finished = True
        self.ready: Callable[[], bool] | None = None
        """Set while it waits: whether what it waits for is there."""
        self.why = ""
        self.due: int | None = None
        """When its wait times out (nanoseconds on the virtual clock)."""
        self.may_time_out = False
        self.may_crank = False
        self.go = Go.READY
        self.dismissed = False
        self.thread = threading.Thread(target=scheduler.work, args=(self,), name=f"race-{name}", daemon=True)
        self.thread.start()

    def can_run(self) -> bool:
        """Whether it could have the baton now."""
        return not self.finished and (self.ready is None or self.may_time_out or self.ready())


class Scheduler:
    """Holds the baton. Its state is touched by the thread that has the baton only, or by the test between two schedules."""

    def __init__(self, granularity: Granularity, modules: Sequence[str]) -> None:
        self.granularity = granularity
        self._tracer = None if granularity is Granularity.POINTS else _Tracer(self, modules)
        self.actors: list[Actor] = []
        """Those of this schedule: the test, then the racers, then the servants in the order of their start."""
        self._pool: dict[str, Actor] = {}
        self._racers: list[Actor] = []
        self.current: Actor | None = None
        """Who has the baton; None between schedules."""
        self.active = False
        """Whether a point may be a preemption: what every hook looks at first."""
        self.points = 0
        """How many preemption points have been passed."""
        self.quiet_until: float = 0
        """At points with lower numbers nothing is decided or noted: hooks only count them."""
        self.passed: Counter[str] = Counter()
        """Named point -> how often it was passed, over all schedules."""
        self.locks: list[CooperativeLock] = []
        """All that were made in this schedule."""
        self.clocks: list[VirtualClock] = []
        """All that were made in this schedule: time passes on all of them at once."""
        self.stood_still = 0
        """Virtual time (nanoseconds) that has passed because nobody could go on but by a time-out."""
        self.decisions: list[Decision] = []
        """What could have been decided otherwise after the last forced decision."""
        self.used: set[str] = set()
        """Keys of the forced decisions that came to pass."""
        self.story: list[str] | None = None
        """Filled, a line per hand-over, if it is a list."""
        self._forced: Mapping[str, str] = {}
        self._to_come: set[str] = set()
        self._left = 0
        self._free = 0
        self._since = 0
        self._aborting = False
        self._failure: BaseException | None = None
        self._over = allocate_lock()
        self._over.acquire()

    # -- one schedule ------------------------------------------------------------------------------------------------

    def run(self, body: Callable[[], object]) -> BaseException | None:
        """Run one schedule: `body` is the test, and calls `race` once. Returns what went wrong, if anything did."""
        self.actors, self._racers = [], []
        self.locks.clear()
        self.clocks.clear()
        self.active = False
        self._aborting, self._failure = False, None
        self.current = self.spawn(THE_TEST, body)
        self.current.gate.release()
        try:
            over = self._over.acquire(timeout=SCHEDULE_SECONDS)
        except BaseException:  # Ctrl-C
            self._abandon()
            raise
        if not over:
            self._failure = InternalFault(
                f"the schedule did not end in {SCHEDULE_SECONDS:g} s: a thread hangs in something that is not under the "
                f"scheduler's control\n{self._stacks()}"
            )
            self._abandon()
        self.active = False
        self.current = None
        # A servant that raises has been heard already: its bridge latches that.
        return self._failure or next((a.error for a in (*self._racers, *self.actors[:1]) if a.error is not None), None)

    def spawn(self, name: str, body: Callable[[], object]) -> Actor:
        """A new actor, which gets the baton when somebody hands it over."""
        while name in self._pool and not self._pool[name].finished:
            name += "'"
        actor = self._pool.get(name)
        if actor is None:
            actor = self._pool[name] = Actor(name, self)
        actor.body = body
        actor.error = actor.ready = None
        actor.finished = False
        self.actors.append(actor)
        return actor

    def race(
        self, threads: Mapping[str, Callable[[], object]], forced: Mapping[str, str], preemptions: int
    ) -> BaseException | None:
        """Run the racers to their end, under the forced decisions (key -> thread); returns what one of them raised.

        With more `preemptions` than are forced, the decisions behind the last forced one are noted.
        """
        self._forced, self._to_come, self.used, self._left = forced, set(forced), set(), preemptions
        self.points = self._since = self._free = self.stood_still = 0
        self.decisions = []
        self._quieten()
        servants, self.actors = self.actors[1:], self.actors[:1]
        self._racers = [self.spawn(name, body) for name, body in threads.items()]
        self.actors += servants  # the test comes first: it goes on as soon as the race is over
        self.active = preemptions > 0
        self.block(self._race_is_over, "for the race")
        self.active = False
        return next((actor.error for actor in self._racers if actor.error is not None), None)

    def names(self) -> list[str]:
        """Whom a decision can name: the racers and the servants of the last schedule."""
        return [actor.name for actor in self.actors[1:]]

    def _race_is_over(self) -> bool:
        return all(actor.finished for actor in self._racers)

    def settle(self) -> None:
        """Let the others go on until all of them wait."""
        self.block(lambda: False, "for the others to settle", may_crank=True, due=-1)

    def pass_time(self, until: int) -> None:
        """It is `until` now (nanoseconds)."""
        for clock in self.clocks:
            clock.advance_to(until)

    def now(self) -> int:
        """What the virtual clocks show (nanoseconds)."""
        return max((clock.now() for clock in self.clocks), default=0)

    def work(self, actor: Actor) -> None:
        """The loop of an actor's thread."""
        while not actor.dismissed:
            actor.gate.acquire()
            if not actor.dismissed:
                self._perform(actor)

    def _perform(self, actor: Actor) -> None:
        if self._tracer is not None and self.active:
            sys.settrace(self._tracer.on_call)
        try:
            if not self._aborting:
                actor.body()
        except Unwound:
            pass
        except BaseException as error:  # noqa: BLE001 - it is the schedule's outcome
            actor.error = error
        finally:
            sys.settrace(None)
        actor.body = lambda: None
        actor.finished = True
        if not actor.dismissed:
            self._ended(actor)

    def _ended(self, actor: Actor) -> None:
        unfinished = [a for a in self.actors if not a.finished]
        if not unfinished:
            self._tell(actor, "has ended", None)
            self._over.release()
            return
        if actor is self.actors[0] and actor.error is not None:
            self._aborting = True  # the race has failed, and the servants will not be told to end any more
        choice = None if self._aborting else self._choose()
        if choice is None:
            if not self._aborting:
                self._deadlock()
            choice = unfinished[0], Go.READY  # it will find that the schedule has been given up
        self._tell(actor, "has ended", choice[0])
        self._pass_on(*choice)

    def _pass_on(self, to: Actor, go: Go) -> None:
        to.go = go
        self._since = self.points
        self.current = to
        to.gate.release()

    def _switch(self, me: Actor, to: Actor, go: Go) -> None:
        self._pass_on(to, go)
        if not me.gate.acquire(timeout=2 * SCHEDULE_SECONDS) or self._aborting:
            raise Unwound

    def dismiss(self) -> None:
        """End the threads."""
        for actor in self._pool.values():
            actor.dismissed = True
            actor.gate.release()
            actor.thread.join(SCHEDULE_SECONDS)
        self._pool.clear()

    # -- decisions ---------------------------------------------------------------------------------------------------

    def point(self, label: str) -> None:
        """A preemption point. Callers have looked at `active`."""
        self.points += 1
        me = self.current
        if self.points < self.quiet_until or me is None:
            return
        key = str(self.points)
        others = [actor for actor in self.actors if actor is not me and actor.can_run()]
        forced = self._forced.get(key)
        if forced is None:
            if others:
                self.decisions.append(Decision(key, tuple(actor.name for actor in others), 1))
            return
        to = next((actor for actor in others if actor.name == forced), None)
        self._came_to(key, used=to is not None)
        if to is None:
            return
        self._pay()
        self._tell(me, f"is stopped at {label}", to)
        self._switch(me, to, Go.READY if to.ready is None or to.ready() else Go.TIMED_OUT)

    def block(
        self,
        ready: Callable[[], bool],
        why: str,
        *,
        due: int | None = None,
        may_time_out: bool = False,
        may_crank: bool = False,
    ) -> Go:
        """The calling actor cannot go on until `ready()`; returns why it may after all.

        `may_crank`: it goes on when nobody else can; of several, the one whose wait is `due` first. `may_time_out`: it may be
        decided at any moment that it has waited long enough.
        """
        me = self.current
        if me is None:
            raise InternalFault(f"no thread of the race is running, and this would wait for ever: {why}")
        if self._aborting:
            raise Unwound
        me.ready, me.why, me.due, me.may_time_out, me.may_crank = ready, why, due, may_time_out, may_crank
        try:
            choice = self._choose()
            if choice is None:
                self._deadlock()
                raise Unwound
            to, go = choice
            if to is me:
                return go
            self._tell(me, f"waits: {why}", to)
            self._switch(me, to, go)
            return me.go
        finally:
            me.ready = None
            me.may_time_out = me.may_crank = False

    def _choose(self) -> tuple[Actor, Go] | None:
        """Who goes on when the current thread cannot; None if nobody can."""
        waiting = [actor for actor in self.actors if not actor.finished]
        able = [actor for actor in waiting if actor.ready is None or actor.ready()]
        go = Go.READY if able else Go.STILL
        late = [actor for actor in waiting if actor.may_time_out and actor not in able] if able else []
        able = able or self._who_can_crank(waiting)
        if len(able) + len(late) < 2 or self._race_is_over():
            return (able[0], go) if able else None
        number, self._free = self._free, self._free + 1
        # That a time-out comes now, although somebody else could go on, has the price of a preemption: that one is held up.
        for key, actors, how in ((f"free{number}", able, go), (f"late{number}", late, Go.TIMED_OUT)):
            if key in self._forced:
                to = next((actor for actor in actors if actor.name == self._forced[key]), None)
                self._came_to(key, used=to is not None)
                if to is not None:
                    if how is Go.TIMED_OUT:
                        self._pay()
                    return to, how
        if not self._to_come:
            self.decisions.append(Decision(f"free{number}", tuple(actor.name for actor in able[1:]), 0))
            self.decisions.append(Decision(f"late{number}", tuple(actor.name for actor in late), 1))
        return able[0], go

    def _pay(self) -> None:
        self._left -= 1
        self.active = self._left > 0

    @staticmethod
    def _who_can_crank(waiting: list[Actor]) -> list[Actor]:
        able = [actor for actor in waiting if actor.may_crank]
        first = min((actor.due or 0 for actor in able), default=0)
        return [actor for actor in able if (actor.due or 0) == first]

    def _came_to(self, key: str, *, used: bool) -> None:
        if used:
            self.used.add(key)
        self._to_come.discard(key)
        self._quieten()

    def _quieten(self) -> None:
        """Until the last forced decision has been taken, nothing else is to be decided or noted."""
        points = [int(key) for key in self._to_come if key.isdecimal()]
        self.quiet_until = min(points, default=inf if self._to_come else 0)

    # -- what went wrong ---------------------------------------------------------------------------------------------

    def _deadlock(self) -> None:
        waits = "; ".join(f"{a.name} waits: {a.why}" for a in self.actors if not a.finished)
        self._failure = Deadlock(f"no thread can go on: {waits}\n{self._stacks()}")
        self._aborting = True
        self.active = False

    def _abandon(self) -> None:
        """Let go of threads that cannot be brought to an end in an orderly way."""
        self._aborting = True
        self.active = False
        for actor in self._pool.values():
            actor.dismissed = True
            if actor is not self.current:
                actor.gate.release()
        self._pool.clear()

    def _stacks(self) -> str:
        frames = current_frames()
        parts = []
        for actor in self.actors:
            frame = frames.get(actor.thread.ident or 0)
            if frame is not None and not actor.finished:
                stack = [entry for entry in traceback.extract_stack(frame) if not entry.filename.startswith(HERE)]
                parts.append(f"thread {actor.name}:\n{''.join(traceback.format_list(stack[-12:]))}")
        return "\n".join(parts)

    def _tell(self, actor: Actor, what: str, to: Actor | None) -> None:
        if self.story is not None:
            where = "" if actor.finished else _where()
            then = f"; {to.name} goes on" if to is not None else ""
            self.story.append(f"  {actor.name} passes {self.points - self._since} points and {what}{where}{then}")


def _where() -> str:
    """`` (file:line in function: source)`` of the calling thread's innermost frame that belongs to the race."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    if frame is None:
        return ""
    name, line = frame.f_code.co_filename, frame.f_lineno
    return f" ({'/'.join(Path(name).parts[-3:])}:{line} in {frame.f_code.co_name}: {linecache.getline(name, line).strip()})"


class _Tracer:
    """Makes points of the lines, or of the bytecodes, of chosen modules."""

    def __init__(self, scheduler: Scheduler, modules: Sequence[str]) -> None:
        self._scheduler = scheduler
        self._modules = tuple(modules)
        self._event = "line" if scheduler.granularity is Granularity.LINES else "opcode"
        self._label = "a line" if scheduler.granularity is Granularity.LINES else "an instruction"
        self._chosen: dict[CodeType, bool] = {}

    def on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """The trace function of a thread: says of each new frame whether it is to be traced."""
        if not self._scheduler.active:
            sys.settrace(None)
            return None
        code = frame.f_code
        chosen = self._chosen.get(code)
        if chosen is None:
            name = f"{frame.f_globals.get('__name__', '')}."
            # Constructors are left out: what is being made is known to its maker alone.
            chosen = code.co_name != "__init__" and any(name.startswith(f"{module}.") for module in self._modules)
            self._chosen[code] = chosen
        if not chosen:
            return None
        if self._event == "opcode":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return self._on_event

    def _on_event(self, _frame: FrameType, event: str, _argument: object) -> Any:
        if event == self._event:
            scheduler = self._scheduler
            if not scheduler.active:
                sys.settrace(None)
                return None
            if scheduler.points + 1 < scheduler.quiet_until:
                scheduler.points += 1
            else:
                scheduler.point(self._label)
        return self._on_event
