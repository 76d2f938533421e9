"""How the scheduler of `hilbridge.testing.baton` gets into a bridge: named points, locks, and waits.

Everything is put in for the time of an exploration and taken out again; the product knows nothing of it. It works for
bridges that are made meanwhile: their locks are made by the stand-in. Conditions, semaphores and `threading.Event` are not
replaced; the manual bridge has none.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hilbridge.kernel.manual import ManualMachine
from hilbridge.model.errors import Deadlock, InternalFault
from hilbridge.testing.baton import Go, Granularity, Scheduler

NAMED_POINTS: Mapping[str, str] = {
    "hilbridge.iomgr.irps:IrpRoutines": "call_driver+ complete_request finish",
    "hilbridge.iomgr.cancel:CancelRoutines": "cancel_irp",
    "hilbridge.iomgr.request:IoRequest": "settle disown",
    "hilbridge.model.irp:Irp": "set_cancel_routine+ mark_pending take_completion_token+ return_completion_token+",
    "hilbridge.kernel.spinlock:SpinLock": "acquire+",
    "hilbridge.kernel.interrupt:Interrupt": "synchronize serve",
    "hilbridge.kernel.kernel:Kernel": "insert_queue_dpc run_dpc set_timer cancel_timer expire",
}
"""``module:class`` -> its routines whose entry, and with + also exit, is a preemption point.

Between most exits and the next entry lies nothing that another thread could see. Where a routine decides something (who got
the lock, the token, the cancel routine) that is not so, and the exit is a point of its own.
"""

PATIENCE = 1_000_000_000
"""Nanoseconds. A wait with a shorter time-out may time out at any moment, one with a longer only when all is still."""


class CooperativeLock:
    """`threading.Lock` or `RLock` for code under the baton: a thread that finds it taken hands the baton on."""

    __slots__ = ("_count", "_made_at", "_reentrant", "_scheduler", "holder")

    def __init__(self, scheduler: Scheduler, made_at: str, *, reentrant: bool) -> None:
        self._scheduler = scheduler
        self._made_at = made_at
        self._reentrant = reentrant
        self._count = 0
        self.holder: str | None = None
        """Name of the thread that has it."""
        scheduler.locks.append(self)

    def __repr__(self) -> str:
        return f"the lock of {self._made_at}" + (f", held by {self.holder}" if self._count else "")

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As in threading. A time-out is over when nobody else can go on."""
        me = self._scheduler.current
        name = "the test" if me is None else me.name
        if self._count:
            if self._reentrant and self.holder == name:
                self._count += 1
                return True
            if not blocking:
                return False
            go = self._scheduler.block(lambda: not self._count, repr(self), may_time_out=False, may_crank=timeout >= 0)
            if go is not Go.READY:
                return False
        self._count = 1
        self.holder = name
        return True

    def release(self) -> None:
        """As in threading."""
        if not self._count:
            raise RuntimeError("release unlocked lock")
        self._count -= 1
        if not self._count:
            self.holder = None

    def locked(self) -> bool:
        """As in threading."""
        return self._count > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class _Threading:
    """Stands in for the module `threading` in the bridge's modules."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def _lock(self, *, reentrant: bool) -> CooperativeLock:
        frame = sys._getframe(2)
        return CooperativeLock(self._scheduler, f"{frame.f_globals['__name__']}:{frame.f_lineno}", reentrant=reentrant)

    def Lock(self) -> CooperativeLock:  # noqa: N802 - as in threading
        return self._lock(reentrant=False)

    def RLock(self) -> CooperativeLock:  # noqa: N802
        return self._lock(reentrant=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


def _cooperative_wait(scheduler: Scheduler, original: Callable[..., bool]) -> Callable[..., bool]:
    """`ManualMachine.wait` under the baton: first let the others go on, then turn the crank, then let time pass."""

    def wait(
        machine: ManualMachine, processor: Any, what: Any, timeout: int | None, *rest: Any, **options: Any
    ) -> bool:
        if scheduler.current is None:
            return original(machine, processor, what, timeout, *rest, **options)
        clock, timers = machine._clock, machine._ke.timers
        deadline = None if timeout is None else clock.now() + timeout
        hasty = timeout is not None and timeout < PATIENCE
        while not what.done:
            go = scheduler.block(lambda: bool(what.done), f"for {what!r}", may_time_out=hasty, may_crank=True)
            if go is Go.TIMED_OUT and deadline is not None:
                clock.advance_to(deadline)
                return False
            if go is Go.READY or machine.step():
                continue
            due = timers.next_due()
            if deadline is not None and (due is None or due > deadline):
                clock.advance_to(deadline)
                return False
            if due is None:
                raise Deadlock(f"nothing is left that could happen, and {scheduler.current.name} waits for {what!r}")
            clock.advance_to(due)
        return True

    return wait


def _hooked(scheduler: Scheduler, name: str, original: Callable[..., Any], *, exit_too: bool) -> Callable[..., Any]:
    entry, leaving = f"the entry of {name}", f"the exit of {name}"

    @functools.wraps(original)
    def routine(*args: Any, **options: Any) -> Any:
        if scheduler.active:
            scheduler.passed[name] += 1
            scheduler.point(entry)
        result = original(*args, **options)
        if exit_too and scheduler.active:
            scheduler.point(leaving)
        return result

    return routine


@contextmanager
def instrumented(scheduler: Scheduler) -> Iterator[None]:
    """Put everything in, and take it out again, whatever happens."""
    undo: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        undo.append((owner, name, vars(owner)[name]))
        setattr(owner, name, value)

    collecting = gc.isenabled()
    gc.disable()  # a finalizer in the middle of a schedule would make another one of it
    try:
        stand_in = _Threading(scheduler)
        for name, module in list(sys.modules.items()):
            ours = name.startswith("hilbridge.") and not name.startswith("hilbridge.testing.")
            if ours and vars(module).get("threading") is threading:
                put(module, "threading", stand_in)
        put(ManualMachine, "wait", _cooperative_wait(scheduler, ManualMachine.wait))
        if scheduler.granularity is Granularity.POINTS:
            for place, routines in NAMED_POINTS.items():
                module_name, _, class_name = place.partition(":")
                owner = getattr(importlib.import_module(module_name), class_name)
                for name, plus, _ in (routine.partition("+") for routine in routines.split()):
                    original = vars(owner).get(name)
                    if original is None:
                        raise InternalFault(f"there is no {place}.{name} any more: correct NAMED_POINTS")
                    hook = _hooked(scheduler, f"{class_name}.{name}", original, exit_too=bool(plus))
                    for alias in [key for key, value in vars(owner).items() if value is original]:
                        put(owner, alias, hook)
        yield
    finally:
        for owner, name, value in reversed(undo):
            setattr(owner, name, value)
        if collecting:
            gc.enable()
