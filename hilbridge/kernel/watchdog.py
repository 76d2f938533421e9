"""The watchdog: finds a thread that a driver does not give back, and does without it.

**How it sees that.** It looks at the frames of all threads, some times a second, and marks those of the routines that call
drivers (`hilbridge.kernel.culprit`). A frame that bears a mark was there at the last look: it is the same call, not another
one of the same routine. How long a call has been under way is counted in looks, so that a machine that was suspended, or
too busy to let the watchdog look, makes nobody hang. A thread that waits inside the model (`Kernel.wait`) does not hang; and
one that is traced, by a debugger or a coverage tool, is left alone.

The mark is put into ``frame.f_trace``: the one thing of a frame that may be set from outside, that dies with it, and that
means nothing while nobody traces. To keep the frames themselves would keep alive what their callers hold, for instance a
handle that the application has just dropped.

**When it looks.** While something happens. When two looks in a row have seen nothing, it sleeps, without a time-out, until a
processor moves (`hilbridge.kernel.processor`). On the path of a request there is nothing for it to do.

**What it does.** The stack whose driver does not return is failed, which ends its requests. The processor is retired: its
thread, whenever it comes back, finds everything closed. What that thread did for others, others do: see `Machine.retire`.
Locks that it holds are broken open. And an exception is thrown at it, which ends a loop in Python.

**What it cannot do.** Code that holds the interpreter's lock for ever stops this thread, too. A call that blocks in C is not
ended; if it was the application's own thread that went into the driver, that call of the application blocks until the
driver returns. Its request has ended all the same, and everybody else goes on.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from math import inf
from types import FrameType
from typing import TYPE_CHECKING, Any

from hilbridge.kernel import culprit
from hilbridge.kernel.frames import current_frames
from hilbridge.kernel.interrupt import Interrupt, Vector, lock_held_by
from hilbridge.kernel.processor import Retirement
from hilbridge.kernel.spinlock import SpinLock
from hilbridge.kernel.workers import JOIN_SECONDS
from hilbridge.model.codes import IrpMajor
from hilbridge.model.errors import BugCheck, InternalFault

if TYPE_CHECKING:
    from hilbridge.kernel.culprit import Boundary
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.processor import Processor
    from hilbridge.model.device import DeviceObject

LOOKS_PER_LIMIT = 4
"""So many looks in the shortest of the limits."""
LAST_MOMENT = 0.5
"""How long a bridge that closes waits for threads that were given up, all together, in seconds."""
_AT_ONCE = ("isr", "dpc")
_LOCKS = {
    routine.__code__ for routine in (SpinLock.acquire, Interrupt.serve, Interrupt.synchronize, Interrupt.wait_idle)
}
"""Innermost on a thread, they wait for a lock that another thread has."""
_TIMED_WAITS = {IrpMajor.PNP: (0x1D5, "DRIVER_PNP_WATCHDOG"), IrpMajor.POWER: (0x9F, "DRIVER_POWER_STATE_FAILURE")}


class Mark:
    """On a frame: how long its call has been seen to be under way, in seconds."""

    __slots__ = ("age", "condemned", "fresh", "waited")

    def __init__(self) -> None:
        self.age = 0.0
        """Without the time that it has waited."""
        self.waited = 0.0
        self.fresh = True
        """No look has found it yet: what has passed since the last look is not its time."""
        self.condemned = False

    def passes(self, elapsed: float) -> float:
        """A look finds it; returns how much of what has passed is its time."""
        fresh, self.fresh = self.fresh, False
        return 0.0 if fresh else elapsed

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """If somebody begins to trace this thread meanwhile, he calls this for the frame's lines."""


class Call:
    """A call of a driver that is under way: the frame of the routine that made it."""

    __slots__ = ("boundary", "frame", "mark")

    def __init__(self, boundary: Boundary, frame: FrameType, mark: Mark) -> None:
        self.boundary = boundary
        self.frame = frame
        self.mark = mark

    @property
    def timed_wait(self) -> bool:
        """Whether it is of a kind that must not even wait for ever."""
        here = self.frame.f_locals.get("here")
        return here is not None and here.major_function in _TIMED_WAITS

    @property
    def device(self) -> DeviceObject[Any] | None:
        """Whose driver was called."""
        names = self.frame.f_locals
        return self.boundary.device(names) if self.boundary.begun in names else None


class Watchdog:
    """One for each kernel. `look` is all it does; its thread only calls that at the right times."""

    def __init__(self, ke: Kernel) -> None:
        self._ke = weakref.ref(ke)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bell = threading.Event()
        self._asleep = False
        self._stirred = False
        self._stopped = False
        self._last_look: float | None = None
        self.looks = 0
        self.retirements: list[Retirement] = []
        """Every thread that was given up, oldest first."""

    # -- its thread --------------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """A processor moves that has rested. Callable anywhere."""
        self._stirred = True
        if self._thread is None:
            self._start()
        elif self._asleep:
            self._asleep = False
            self._bell.set()

    def _start(self) -> None:
        ke = self._ke()
        with self._lock:
            if self._thread is None and not self._stopped and ke is not None and ke.machine.watched:
                # The thread does not keep us alive: a bridge that is dropped takes it along.
                weakref.finalize(self, self._bell.set)
                arguments = (weakref.ref(self), self._bell)
                self._thread = threading.Thread(target=_watch, name="hilbridge-watchdog", args=arguments, daemon=True)
                self._thread.start()

    def turn(self) -> float | None:
        """Look once; returns for how long to sleep, in seconds, or None: until something moves."""
        ke = self._ke()
        if self._stopped or ke is None:
            return None
        try:
            awake = self.look()
        except Exception as error:  # noqa: BLE001 - a watchdog that cannot look must not be taken for one that sees nothing
            fault = InternalFault(f"the watchdog raised {type(error).__name__}: {error}; it looks no more")
            fault.__cause__ = error
            ke.log_fault(fault)
            self._stopped = True
            return None
        if not awake:
            self._asleep = True
            if not self._stirred:  # asked after it was said: who moves now rings
                return None
            self._asleep = False
        return ke.limits.shortest / LOOKS_PER_LIMIT

    @property
    def stopped(self) -> bool:
        """It looks no more."""
        return self._stopped

    def stop(self) -> None:
        """End its thread."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._bell.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)

    def abandon(self) -> None:
        """In a forked child: the thread is the parent's."""
        self._stopped = True

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self, elapsed: float | None = None) -> bool:
        """Look at all threads, and condemn what has not returned in its time. False if nothing is going on.

        `elapsed`: how many seconds have passed since the last look; measured if it is not said, and never more than two
        periods: while the watchdog could not look, perhaps nobody could do anything.
        """
        ke = self._ke()
        if ke is None:
            return False
        if elapsed is None:
            now = time.monotonic()
            last, self._last_look = self._last_look, now
            elapsed = 0.0 if last is None else min(now - last, 2 * ke.limits.shortest / LOOKS_PER_LIMIT)
        self.looks += 1
        going_on, self._stirred = self._stirred, False
        processors = ke.processors()
        for processor in processors.values():
            processor.rest()
        me = threading.get_ident()
        for thread, frame in current_frames().items():
            if thread != me and self._look_at(ke, thread, processors.get(thread), frame, elapsed):
                going_on = True
        return going_on

    def _look_at(self, ke: Kernel, thread: int, processor: Processor | None, frame: FrameType, elapsed: float) -> bool:
        """Whether this thread is in a driver of ours, and has still time."""
        if processor is not None and processor.retirement is not None:
            if not processor.retirement.left and any(call.mark.condemned for call in calls_of(frame)[0]):
                processor.retirement.throw()  # once more: perhaps it has swallowed the last one
            return False
        calls, waiting = calls_of(frame)
        if any(call.mark.condemned for call in calls):
            return False
        for call in calls:
            call.mark.age += call.mark.passes(elapsed)
        for call in waiting:
            call.mark.age = 0.0
            call.mark.waited += call.mark.passes(elapsed)
            if call.mark.waited >= ke.limits.pnp and self._waits_too_long(ke, thread, processor, frame, call):
                return False
        # Who waits for a lock is hardly the one to blame, and goes on when its holder is given up: he has twice the time.
        patience = 2.0 if frame.f_code in _LOCKS else 1.0
        for call in calls:
            limit: float = getattr(ke.limits, call.boundary.limit) * patience
            if call.mark.age < limit:
                continue
            # It is over its time. Perhaps because of what it has called in turn: a DPC in which a completion routine of
            # somebody else's hangs. That one has hung for about as long.
            guilty = next(inner for inner in calls if inner.mark.age >= limit / 2)
            return not self._condemn(ke, thread, processor, frame, guilty, limit)
        # A system thread may be under way for ever, and a wait without a limit may last for ever: for these we do not stay up.
        # Who comes back from such a wait says so (`Poller.wait`).
        return any(getattr(ke.limits, call.boundary.limit) < inf for call in calls) or any(
            call.timed_wait for call in waiting
        )

    def condemn(self, thread: int) -> bool:
        """Give up a thread that somebody needs back now, whatever the limits. False if no driver is to be seen on it."""
        ke, frame = self._ke(), current_frames().get(thread)
        if ke is None or frame is None:
            return False
        processor = ke.processors().get(thread)
        if processor is not None and processor.retirement is not None:
            return True
        return any(self._condemn(ke, thread, processor, frame, call, call.mark.age) for call in calls_of(frame)[0])

    # -- giving up ---------------------------------------------------------------------------------------------------

    def _condemn(
        self, ke: Kernel, thread: int, processor: Processor | None, top: FrameType, call: Call, limit: float
    ) -> bool:
        """False if it is none of ours, or no driver's code: then it is left alone."""
        place = next(
            (culprit.place_of(f.f_code, f.f_lineno) for f in _frames(top, call.frame) if culprit.is_foreign(f)), None
        )
        device = call.device
        names = call.frame.f_locals
        if place is None or (device.ke is not ke if device is not None else names.get("self") is not ke):
            return False
        words = call.boundary.words(names)
        driver = None if device is None else device.driver_object.name
        hint = f"{words} of {device or 'nobody'!r} has not returned for {call.mark.age:.1f} s"
        if call.boundary.limit in _AT_ONCE:
            milliseconds = round(call.mark.age * 1000), round(limit * 1000)
            fault = BugCheck(0x133, "DPC_WATCHDOG_VIOLATION", 0, *milliseconds, words, hint=hint)
        else:
            name = _name_of(thread)
            fault = BugCheck(0xEA, "THREAD_STUCK_IN_DEVICE_DRIVER", name, thread, driver, 1, hint=hint)
        fault.blame(driver, place)
        self._give_up(ke, thread, processor, top, call, device, fault)
        return True

    def _waits_too_long(self, ke: Kernel, thread: int, processor: Processor | None, top: FrameType, call: Call) -> bool:
        """A driver waits inside a PNP or POWER request, and has done so for longer than anybody may. The wait ends now."""
        names = call.frame.f_locals
        here, irp, device = names.get("here"), names.get("irp"), call.device
        if (
            here is None
            or irp is None
            or here.major_function not in _TIMED_WAITS
            or device is None
            or device.ke is not ke
        ):
            return False
        code, name = _TIMED_WAITS[here.major_function]
        # To blame is who has the request: if it is not the one who waits, he waits for that one.
        location = min(irp.current_location, irp.stack_count)
        holder = irp.stack[location - 1].device_object or device
        milliseconds = round(call.mark.waited * 1000)
        fault = BugCheck(
            code,
            name,
            *((3, irp.stack[0].device_object, 0, irp) if code == 0x9F else (holder, irp, 0, milliseconds)),
            hint=f"{call.boundary.words(names)} waits for {holder!r}, for {call.mark.waited:.0f} s",
        )
        place = next(
            (culprit.place_of(f.f_code, f.f_lineno) for f in _frames(top, call.frame) if culprit.is_foreign(f)), None
        )
        fault.blame(holder.driver_object.name, place if holder is device else None)
        self._give_up(ke, thread, processor, top, call, holder, fault)
        for frame in _frames(top, call.frame):
            waker = frame.f_locals.get("waker") if frame.f_code.co_name in ("_sleep", "steer") else None
            if waker is not None:
                waker.wake()  # it finds what was thrown at it
        return True

    def _give_up(
        self,
        ke: Kernel,
        thread: int,
        processor: Processor | None,
        top: FrameType,
        call: Call,
        device: DeviceObject[Any] | None,
        fault: BugCheck,
    ) -> None:
        call.mark.condemned = True
        # First of all the fence: from here on nothing that the thread does counts.
        retirement = Retirement(fault, thread) if processor is None else processor.retire(fault, thread)
        self.retirements.append(retirement)
        if device is None:
            ke.log_fault(fault)
        else:
            ke.latch_fault(device, fault, call.boundary.words(call.frame.f_locals))
        self._break_locks(ke, processor, top)
        ke.machine.retire(processor, thread)
        for frame in _frames(top, None):
            # A virtual line asserts once. If its own device was not asked any more, because the chain hung before, it is
            # lost unless it is asserted again. A descriptor stays ready.
            if frame.f_code is Vector.dispatch.__code__:
                pin = frame.f_locals["pin"]
                if pin.fd < 0 and not pin.closed:
                    pin.raised = False
                    ke.machine.raise_pin(pin)
        retirement.throw()

    @staticmethod
    def _break_locks(ke: Kernel, processor: Processor | None, top: FrameType) -> None:
        inner: FrameType | None = None
        for frame in _frames(top, None):
            interrupt = lock_held_by(frame, inner)
            if interrupt is not None:
                interrupt.break_open()
            inner = frame
        if processor is not None:
            for lock in list(ke.spin_locks):
                if lock.owner is processor:
                    lock.break_open()

    def left_behind(self) -> str:
        """In words: the threads that drivers have still not given back, after a moment. Empty if there are none."""
        threads = {thread.ident: thread for thread in threading.enumerate()}
        until = time.monotonic() + LAST_MOMENT
        kept: list[str] = []
        for retirement in self.retirements:
            thread = threads.get(retirement.thread)
            if thread is None or thread is threading.current_thread() or not self._inside(retirement):
                continue
            thread.join(max(0.0, until - time.monotonic()))  # it may be on its way out
            if self._inside(retirement):
                kept.append(f"{thread.name} ({retirement.fault})")
        return "; ".join(kept)

    @staticmethod
    def _inside(retirement: Retirement) -> bool:
        frame = None if retirement.left else current_frames().get(retirement.thread)
        return frame is not None and any(call.mark.condemned for call in calls_of(frame)[0])


def _watch(reference: weakref.ref[Watchdog], bell: threading.Event) -> None:
    while (watchdog := reference()) is not None and not watchdog.stopped:
        timeout = watchdog.turn()
        del watchdog
        bell.wait(timeout)
        bell.clear()


def _frames(top: FrameType, outermost: FrameType | None) -> Iterator[FrameType]:
    """From the innermost outward, up to and without `outermost`."""
    frame: FrameType | None = top
    while frame is not None and frame is not outermost:
        yield frame
        frame = frame.f_back


def calls_of(top: FrameType) -> tuple[list[Call], list[Call]]:
    """The calls of drivers that are under way, innermost first; and those that wait, because further in there is a wait.

    Marks them. None at all if the thread is traced: then it is somebody else's, who may stop it for as long as he likes.
    """
    calls: list[Call] = []
    waiting: list[Call] = []
    found = calls
    for frame in _frames(top, None):
        code = frame.f_code
        if code in culprit.WAITS:
            found = waiting
            continue
        boundary = culprit.BOUNDARIES.get(code)
        if boundary is None:
            continue
        mark = frame.f_trace
        if mark is None:
            mark = frame.f_trace = Mark()
        elif not isinstance(mark, Mark):
            return [], []
        found.append(Call(boundary, frame, mark))
    return calls, waiting


def _name_of(thread: int) -> str:
    return next((t.name for t in threading.enumerate() if t.ident == thread), str(thread))
