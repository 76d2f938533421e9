"""A processor: a thread while it is inside the model. It has an IRQL and a DPC queue.

IRQL here is bookkeeping, not exclusion: it says what code may do (wait, or not), and when queued DPCs run. Only locks
keep two threads apart.

The *class* of a processor says what the watchdog makes of it, and is changed while the thread runs. That way the path of a
request neither asks nor counts anything for the watchdog's sake: a processor that works is a plain `Processor`, whose
attributes are slots. One that the watchdog has just looked at is *resting* until it moves: its first write of ``irql`` or
``inside`` is a method's, which tells the watchdog. One on which a driver hung is *retired*: to its thread, whenever that
comes back, everything in the model is closed.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.dpc import HIGH

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.mutex import Kmutex
    from hilbridge.kernel.steering import Waker
    from hilbridge.kernel.systhread import SystemThread
    from hilbridge.model.errors import HilbridgeError


class ProcessorRetired(BaseException):
    """The calling thread's processor has been retired: a driver hung on it, and that driver's stack has been failed.

    No `Exception`, so that an ``except Exception`` of the driver does not hold the thread back on its way out.
    """


class Processor:
    """One thread's state inside one kernel."""

    __slots__ = (
        "__weakref__",
        "catching_up",
        "critical_regions",
        "dpcs",
        "draining",
        "inside",
        "irql",
        "is_poller",
        "ke",
        "mutexes",
        "number",
        "offers",
        "put_off",
        "retirement",
        "sigint",
        "system_thread",
        "thread_name",
        "waker",
    )

    def __init__(self, number: int, thread_name: str, ke: Kernel | None = None) -> None:
        self.ke = None if ke is None else weakref.ref(ke)
        self.retirement: Retirement | None = None
        self.number = number
        self.thread_name = thread_name
        self.irql: int = 0
        self.dpcs: deque[Kdpc] = deque()
        self.draining = False
        self.inside = 0
        """How deep this thread is in calls that SIGINT must not tear apart; see `hilbridge.kernel.sigint`."""
        self.sigint = False
        """A SIGINT came while `inside` was not 0; it is delivered at the next wait, or on the way out."""
        self.is_poller = False
        self.offers = 0
        """How many completion routines run inside one another on this thread."""
        self.put_off: deque[Callable[[], None]] = deque()
        """Completions that wait until the stack is less deep; see `hilbridge.iomgr.irps`."""
        self.catching_up = False
        self.waker: Waker | None = None
        self.system_thread: SystemThread | None = None
        """The system thread that this is, if it is one."""
        self.critical_regions = 0
        """How often this thread has entered a critical region and not left it."""
        self.mutexes: list[Kmutex] = []
        """The mutexes that it owns. Owning one is being in a critical region."""

    def catch_up(self) -> None:
        """Do what has been put off, in order. What raises does not keep back the rest; the first error is raised at the end."""
        before, self.catching_up = self.catching_up, True
        failed: BaseException | None = None
        try:
            while self.put_off:
                try:
                    self.put_off.popleft()()
                except BaseException as error:  # noqa: BLE001 - raised below
                    failed = failed or error
        finally:
            self.catching_up = before
        if failed is not None:
            raise failed

    def let_others_first(self) -> None:
        """A turn of DPCs is over. One of high importance that queues itself again and again is not the first in the next."""
        try:
            if self.dpcs[0].importance == HIGH:
                self.dpcs.rotate(-1)
        except IndexError:
            pass  # none is left: another thread may have removed the last one just now

    def touch(self) -> None:
        """Its thread goes on after a wait."""

    def rest(self) -> None:
        """The watchdog has looked. From now until it moves it is resting."""
        if self.__class__ is Processor:
            self.__class__ = RestingProcessor

    def retire(self, fault: HilbridgeError, thread: int) -> Retirement:
        """A driver hangs on it: whatever its thread does when it comes back cannot touch the model any more."""
        # In this order: see `RestingProcessor._move`.
        self.retirement = retirement = Retirement(fault, thread)
        self.__class__ = RetiredProcessor
        return retirement

    def __repr__(self) -> str:
        return f"<processor {self.number} ({self.thread_name}) at IRQL {_IRQL.__get__(self)}>"


_IRQL: Any = vars(Processor)["irql"]
_INSIDE: Any = vars(Processor)["inside"]


class RestingProcessor(Processor):
    """One that has not moved since the watchdog looked."""

    __slots__ = ()

    def _move(self) -> None:
        self.__class__ = Processor  # type: ignore[assignment]
        if self.retirement is not None:
            # It was retired in this very moment, by another thread, which says so first and changes the class then: either
            # we see that here, or its change of the class comes after ours.
            self.__class__ = RetiredProcessor  # type: ignore[assignment]
            return
        ke = self.ke() if self.ke is not None else None
        if ke is not None:
            ke.watchdog.stir()

    def touch(self) -> None:
        """Its thread goes on after a wait: the watchdog is to know."""
        self._move()

    @property
    def irql(self) -> int:
        return _IRQL.__get__(self)  # type: ignore[no-any-return]

    @irql.setter
    def irql(self, irql: int) -> None:
        self._move()
        self.irql = irql

    @property
    def inside(self) -> int:
        return _INSIDE.__get__(self)  # type: ignore[no-any-return]

    @inside.setter
    def inside(self, inside: int) -> None:
        self._move()
        self.inside = inside


class RetiredProcessor(Processor):
    """One that the watchdog has taken out of service.

    It is false, so that every routine that asks for its thread's processor (``local.processor or current()``) ends in
    `Kernel.current`, which raises `ProcessorRetired`. So does the next change of IRQL, which is on every way out of a
    driver. On its way out of the model, where `inside` becomes 0, an application's thread is given the fault instead, and
    forgets this processor: its next call is made on a new one.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def touch(self) -> None:
        """Its thread would go on after a wait."""
        raise ProcessorRetired

    @property
    def irql(self) -> int:
        raise ProcessorRetired

    @irql.setter
    def irql(self, irql: int) -> None:
        raise ProcessorRetired

    @property
    def inside(self) -> int:
        return _INSIDE.__get__(self)  # type: ignore[no-any-return]

    @inside.setter
    def inside(self, inside: int) -> None:
        _INSIDE.__set__(self, inside)
        retirement, ke = self.retirement, self.ke() if self.ke is not None else None
        if inside > 0 or retirement is None:
            return
        retirement.leave()
        if ke is not None and ke.local.processor is self:
            ke.local.processor = None
        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            return  # that is what ended it, and what the caller expects
        fault = retirement.fault.again()
        if self.sigint:
            self.sigint = False
            raise KeyboardInterrupt from fault
        raise fault


class Retirement:
    """What the watchdog knows of a thread on which a driver hung."""

    __slots__ = ("_lock", "fault", "left", "thread")

    def __init__(self, fault: HilbridgeError, thread: int) -> None:
        self.fault = fault
        self.thread = thread
        """Its identifier."""
        self.left = False
        """It has found its way out of the model: nothing may be thrown at it any more."""
        self._lock = threading.Lock()

    def throw(self) -> None:
        """Raise `ProcessorRetired` in the thread, wherever it is.

        Best effort. It ends a loop in Python, however tight. A call that does not return, of a lock or a system call, is not
        ended by it: then it is raised when that returns.
        """
        with self._lock:
            if self.left:
                return
            _throw_at(self.thread)
        _settle()

    def leave(self) -> None:
        """The thread itself says that it is out. What was thrown and has not arrived yet is caught here."""
        with self._lock:
            self.left = True
        _settle()


def _throw_at(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(ProcessorRetired))


_CHECKS = 100_000
"""Turns of a loop in which an exception that was thrown arrives. It does in the first."""


def _settle() -> None:
    """Take from the interpreter the note that some thread has an exception to come, by throwing one here and catching it.

    CPython 3.11 has one such note for all threads, and removes it when an exception arrives, in whatever thread; not when it
    is taken back, nor while its thread is blocked in C. As long as the note is there every check of every thread is slow, and
    a thread that is traced, by a debugger say, checks for ever. Nothing is lost: a thread that comes back and finds an
    exception of its own makes the note again.
    """
    me, thrown = threading.get_ident(), False
    interrupted: BaseException | None = None
    while True:
        try:
            if not thrown:
                _throw_at(me)
                thrown = True
            for _ in range(_CHECKS):
                continue
        except ProcessorRetired:
            pass
        except BaseException as error:  # noqa: BLE001 - a Ctrl-C was faster: ours must still be caught in here
            interrupted = error
            continue
        break
    if interrupted is not None:
        raise interrupted


class ProcessorLocal(threading.local):
    """Where a thread finds its processor. The class attribute is what a new thread sees."""

    processor: Processor | None = None
    at_end: Any = None
    """What an I/O manager keeps here to hear of the thread's end."""
