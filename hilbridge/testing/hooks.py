"""How the scheduler of `hilbridge.testing.baton` gets into the bridge, for the time of an exploration, and out again.

The product knows nothing of it. It works for bridges that are made meanwhile: their locks, threads and pollers are those of
`hilbridge.testing.standins`.
"""

from __future__ import annotations

import functools
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.manual import ManualMachine
from hilbridge.kernel.watchdog import Watchdog
from hilbridge.model.errors import Deadlock, InternalFault
from hilbridge.testing.baton import Go, Granularity, Scheduler
from hilbridge.testing.standins import PATIENCE, stand_ins

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


def _cooperative_wait(scheduler: Scheduler, original: Callable[..., bool]) -> Callable[..., bool]:
    """`ManualMachine.wait` under the baton: first let the others go on, then turn the crank, then let time pass."""

    def wait(
        machine: ManualMachine, processor: Any, what: Any, timeout: int | None, *rest: Any, **options: Any
    ) -> bool:
        # A system thread of the machine has no crank: it gives its turn back.
        if scheduler.current is None or processor.system_thread is not None:
            return original(machine, processor, what, timeout, *rest, **options)
        clock = machine._clock
        deadline = None if timeout is None else clock.now() + timeout
        hasty = timeout is not None and timeout < PATIENCE
        while not what.done:
            go = scheduler.block(lambda: bool(what.done), f"for {what!r}", may_time_out=hasty, may_crank=True)
            if go is Go.TIMED_OUT and deadline is not None:
                clock.advance_to(deadline)
                return False
            if go is Go.READY or machine.step():
                continue
            due = machine.next_due()
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


def _known_clock(scheduler: Scheduler, original: Callable[..., None]) -> Callable[..., None]:
    def init(clock: VirtualClock, *args: Any) -> None:
        original(clock, *args)
        scheduler.clocks.append(clock)

    return init


def _asleep(original: Callable[..., None]) -> Callable[..., None]:
    """Kernels that are made meanwhile have no watchdog: nobody is late where time stands still."""

    def init(watchdog: Watchdog, *args: Any) -> None:
        original(watchdog, *args)
        watchdog.abandon()

    return init


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
        replacements = stand_ins(scheduler)
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith("hilbridge.") and not module_name.startswith("hilbridge.testing."):
                for name, value in list(vars(module).items()):
                    if isinstance(value, ModuleType) and value in replacements:
                        put(module, name, replacements[value])
        put(ManualMachine, "wait", _cooperative_wait(scheduler, ManualMachine.wait))
        put(Watchdog, "__init__", _asleep(Watchdog.__init__))
        put(VirtualClock, "__init__", _known_clock(scheduler, VirtualClock.__init__))
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
