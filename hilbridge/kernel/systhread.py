"""System threads: PsCreateSystemThread. A driver's own thread, which can be waited for; it is signaled when it has ended.

On real time it is a thread like any other; on a hand-cranked machine it is one, too, but has its turns only: see
`hilbridge.kernel.fibers`. A driver ends its threads itself, in its unload routine at the latest: it sets an event for which
the thread waits, then waits for the thread. One that has not ended when the bridge closes, or whose driver's stack has
failed, is ended from outside: its next wait, or the one in which it is, raises `SystemThreadEnded`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from hilbridge.kernel import culprit
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.faults import FaultRoutines
from hilbridge.kernel.frames import current_frames
from hilbridge.kernel.processor import Processor, ProcessorRetired
from hilbridge.kernel.wait import DispatcherObject, Wait, signaling
from hilbridge.model.codes import PASSIVE_LEVEL
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.errors import BugCheck, DriverFault, NtStatusError
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Machine
    from hilbridge.model.driver import DriverObject

ThreadRoutine = Callable[[Any], object]

END_SECONDS = 5.0
"""How long a bridge that closes waits for threads that their drivers should have ended."""
REFUSALS = 100
"""How often a thread is told to end before it is held where it is."""
TOLD_SECONDS = 1.0
"""What a thread that was told to end from outside is waited for."""


class SystemThreadEnded(ProcessorRetired):
    """Raised where a system thread waits: the bridge closes, or the driver's stack has failed. It finds its way out."""


class _Exit(BaseException):
    """PsTerminateSystemThread."""

    def __init__(self, status: NtStatus) -> None:
        super().__init__(status)
        self.status = status


class SystemThread(DispatcherObject):
    """A thread of a driver. It belongs to a device, or to the driver as a whole: there its faults go."""

    __slots__ = (
        "_abandoned",
        "_ident",
        "_ke",
        "_refusals",
        "_waits",
        "context",
        "driver",
        "ended",
        "exit_status",
        "name",
        "owner",
        "routine",
        "thread",
    )

    def __init__(
        self, ke: Kernel, owner: DriverObject | DeviceObject[Any], routine: ThreadRoutine, context: Any, name: str
    ) -> None:
        super().__init__()
        self._ke = ke
        self.owner = owner if isinstance(owner, DeviceObject) else None
        """The device that it was made for, or None if it is the driver's."""
        self.driver: DriverObject = owner.driver_object if isinstance(owner, DeviceObject) else owner
        self.routine = routine
        self.context = context
        self.name = name
        self.thread: threading.Thread | None = None
        """The thread of Python that it is, from when it runs."""
        self.ended = False
        self.exit_status: NtStatus = STATUS_SUCCESS
        """What it has given to PsTerminateSystemThread."""
        self._abandoned = False
        self._refusals = 0
        self._waits: Wait | None = None
        self._ident = 0

    def __repr__(self) -> str:
        return f"<system thread {self.name} of driver {self.driver.name}{', ended' if self.ended else ''}>"

    # -- what can be waited for --------------------------------------------------------------------------------------

    def _is_open_to(self, thread: Processor | None) -> bool:
        return self.ended

    # -- its life ----------------------------------------------------------------------------------------------------

    @property
    def device(self) -> DeviceObject[Any] | None:
        """Whose mistake it is if the routine raises: its own device, or the driver's newest one."""
        return self.owner or self.driver.device_object

    @calls_driver("system_thread", "a system thread", lambda frame: frame["self"].device, begun="processor")
    def run(self) -> None:
        """The whole life of the thread. Called by the machine, on the thread itself."""
        ke = self._ke
        processor = ke.current()
        processor.system_thread = self
        self._ident = threading.get_ident()
        try:
            if not self._abandoned:
                self.routine(self.context)
            self._look_back(processor)
        except _Exit as leaving:
            self.exit_status = leaving.status
            self._look_back(processor)
        except ProcessorRetired:
            pass  # told to go; what it has left behind is told of already
        except BaseException as error:  # noqa: BLE001 - latched
            self._latch(error)
        for mutex in list(processor.mutexes):
            mutex.abandon()
        if processor.retirement is None:  # else the model is closed to it, and others do what it has left behind
            processor.irql = PASSIVE_LEVEL
            if processor.dpcs:
                ke.drain_dpcs(processor)
        ke.forget_system_thread(self)
        with signaling(self):
            self.ended = True

    def _look_back(self, processor: Processor) -> None:
        """It has ended by itself: as it should?"""
        if processor.irql != PASSIVE_LEVEL or processor.critical_regions:
            self._latch(
                BugCheck(
                    0x20,
                    "KERNEL_APC_PENDING_DURING_EXIT",
                    0,
                    processor.critical_regions,
                    processor.irql,
                    hint=f"{self.name} ended at raised IRQL or in a critical region: leave both before",
                )
            )
        if processor.mutexes:
            self._latch(
                BugCheck(
                    0x4000008A,
                    "THREAD_TERMINATE_HELD_MUTEX",
                    self,
                    processor.mutexes[0],
                    hint="release what you own before you end; it is released now",
                )
            )

    def _latch(self, error: BaseException) -> None:
        """All its driver's stacks have failed, if it is no single device's thread."""
        devices = [self.owner] if self.owner is not None else self.driver.devices
        if not devices:
            self._ke.routine_raised(None, self.routine, error, f"a system thread of driver {self.driver.name}")
        for device in devices:
            error = self._ke.latch_fault(device, error, "a system thread")

    # -- ending it from outside --------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """From now on each of its waits raises `SystemThreadEnded`. Takes no lock."""
        self._abandoned = True
        wait = (
            self._waits
        )  # it notes its wait first and looks whether it is abandoned then, we do it the other way round
        if wait is not None:
            wait.abort()

    def refuse_if_abandoned(self) -> None:
        """Where it is about to wait."""
        if not self._abandoned:
            return
        self._refusals += 1
        if self._refusals > REFUSALS:
            # It swallows that, and goes on. It would do so for ever, and on a hand-cranked machine nobody else would have a
            # turn again: so this wait does not end.
            self._waits = wait = Wait((), None)
            self._ke.machine.wait(self._ke.current(), wait, None, None, alert=False)
        raise SystemThreadEnded(self.name)

    @contextmanager
    def waiting(self, wait: Wait) -> Iterator[None]:
        """It waits in this block."""
        self._waits = wait
        if self._abandoned:
            wait.abort()
        try:
            yield
        finally:
            self._waits = None
        if wait.aborted:
            raise SystemThreadEnded(self.name)

    @property
    def failed(self) -> bool:
        """Whether nobody would ask its driver for anything any more: its device's stack has failed, or all of its devices'."""
        devices = [self.owner] if self.owner is not None else self.driver.devices
        return bool(devices) and all(device.device_stack.fault is not None for device in devices)

    def where(self) -> str | None:
        """``file:line`` where it is, in the driver's code."""
        return culprit.find(current_frames().get(self._ident)).place if self._ident else None


class ThreadRoutines(FaultRoutines):
    """The kernel's routines about system threads."""

    if TYPE_CHECKING:
        machine: Machine

    def __init__(self) -> None:
        super().__init__()
        self._threads: list[SystemThread] = []
        self._thread_lock = threading.Lock()
        self._closing = False

    def create_system_thread(
        self, owner: DriverObject | DeviceObject[Any], routine: ThreadRoutine, context: Any = None, name: str = ""
    ) -> SystemThread:
        """PsCreateSystemThread: run ``routine(context)`` at PASSIVE_LEVEL on a thread of its own. At PASSIVE_LEVEL.

        Wait for what it returns to wait for its end. An exception of the routine fails the stack of the device that is its
        `owner`, or the stacks of all devices of the driver that is. It keeps neither from going: end it before. `name` is
        for messages; without one it is the routine's. Raises `NtStatusError` STATUS_DELETE_PENDING when the bridge closes.
        """
        irql = self.current().irql
        if irql != PASSIVE_LEVEL:
            raise self.bug_check(
                0xA, "IRQL_NOT_LESS_OR_EQUAL", "create_system_thread", irql, hint="make threads at PASSIVE_LEVEL"
            )
        driver = owner.driver_object if isinstance(owner, DeviceObject) else owner
        with self._thread_lock:
            if self._closing:
                raise NtStatusError(
                    STATUS_DELETE_PENDING, f"driver {driver.name} makes a thread when the bridge closes"
                )
            name = name or getattr(routine, "__name__", "thread")
            thread = SystemThread(self, owner, routine, context, name)  # type: ignore[arg-type]
            self._threads.append(thread)
        if thread.failed:
            thread.abandon()  # whoever marked the stack may not have seen it yet
        self.machine.start_thread(thread)
        return thread

    def terminate_system_thread(self, status: NtStatus = STATUS_SUCCESS) -> NoReturn:
        """PsTerminateSystemThread: the calling system thread ends here. To return from its routine does the same.

        Raises `NtStatusError` STATUS_INVALID_PARAMETER in a thread that is none.
        """
        if self.current().system_thread is None:
            raise NtStatusError(STATUS_INVALID_PARAMETER, "only a system thread can end itself")
        raise _Exit(status)

    @property
    def system_threads(self) -> list[SystemThread]:
        """Those that have not ended, oldest first."""
        with self._thread_lock:
            return list(self._threads)

    def forget_system_thread(self, thread: SystemThread) -> None:
        """It has ended."""
        with self._thread_lock:
            self._threads.remove(thread)

    def end_threads_of(self, stack: DeviceStack) -> None:
        """This stack has failed: its threads go at their next wait. Callable wherever a fault can be latched."""
        for thread in list(self._threads):  # a copy is one step: no lock, since who latches a fault may hold it
            if thread.failed and any(device.device_stack is stack for device in thread.driver.devices):
                thread.abandon()

    def end_system_threads(self) -> None:
        """The bridge closes: wait for all of them, with a bound, then end those that wait. Each that had to be is a fault."""
        with self._thread_lock:
            self._closing = True
        patience = END_SECONDS
        stubborn: list[tuple[SystemThread, str, bool, str | None]] = []
        for thread in self.system_threads:
            if thread is not self.current().system_thread and not self.machine.join_thread(thread, patience):
                stubborn.append((thread, repr(thread), thread.failed, thread.where()))
                patience = 0.0  # the others have had that time, too
        for thread, who, failed, place in stubborn:
            thread.abandon()
            gone = self.machine.join_thread(thread, TOLD_SECONDS)
            if failed and gone:
                continue  # nobody would have told it to end
            how = "it was ended from outside" if gone else "it neither returns nor waits for an object"
            fault = DriverFault(
                f"{who} had not ended when the bridge closed, and {how}: tell it to end in the unload routine, and wait "
                "for it there"
            )
            fault.blame(thread.driver.name, place)
            self.log_fault(fault)
