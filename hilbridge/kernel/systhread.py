"""System threads of drivers: PsCreateSystemThread. They run at PASSIVE_LEVEL and may wait; their driver ends them.

On real time each is a thread. On the hand-cranked machine it is one as well, but only one of all threads runs at a time: a
thread that waits hands the baton back to whoever turns the crank, and gets it again when what it waits for has come. So a
run is the same every time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.kernel.wait import DispatcherObject
from hilbridge.model.errors import DriverFault

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Machine
    from hilbridge.kernel.processor import Processor
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.errors import HilbridgeError

ThreadRoutine = Callable[[Any], None]
END_SECONDS = 5.0
"""How long a bridge that closes waits for a thread that its driver should have ended."""


class SystemThread(DispatcherObject):
    """A thread of a driver. A wait for it ends when it has ended."""

    __slots__ = ("_ended", "context", "device", "ke", "name", "routine", "thread")

    def __init__(self, ke: Kernel, device: DeviceObject[Any], routine: ThreadRoutine, context: Any, name: str) -> None:
        super().__init__()
        self.ke = ke
        self.device = device
        self.routine = routine
        self.context = context
        self.name = name
        self._ended = False
        self.thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<system thread {self.name} of driver {self.device.driver_object.name}>"

    def _is_signaled(self, processor: Processor | None) -> bool:
        return self._ended

    @property
    def ended(self) -> bool:
        """Whether its routine has returned."""
        return self._ended

    @calls_driver("system_thread", "a system thread", lambda frame: frame["self"].device)
    def run(self) -> None:
        """The thread's body. What the routine raises is latched on its device."""
        try:
            self.routine(self.context)
        except ProcessorRetired:
            return  # the bridge has closed, and it was still waiting
        except BaseException as error:  # noqa: BLE001 - latched
            self.ke.latch_fault(self.device, error, "a system thread")
        finally:
            with self._lock:
                self._ended = True
                woken = self._hand_out()
            self._wake(woken)
            self.ke.system_threads.discard(self)


class ThreadRoutines:
    """The kernel's routines about system threads."""

    system_threads: set[SystemThread]
    """Those that have not ended."""

    if TYPE_CHECKING:
        machine: Machine

        def log_fault(self, fault: HilbridgeError) -> None: ...

    def create_system_thread(
        self, device: DeviceObject[Any], routine: ThreadRoutine, context: Any = None, name: str = ""
    ) -> SystemThread:
        """PsCreateSystemThread: run ``routine(context)`` on a thread of its own, at PASSIVE_LEVEL.

        `device` is whose thread it is: an exception in it fails that device's stack. Its driver tells it to end, and waits for
        that (``ke.wait_for_single_object(thread, ...)``), at the latest when it is unloaded.
        """
        thread = SystemThread(self, device, routine, context, name or getattr(routine, "__name__", "thread"))  # type: ignore[arg-type]
        self.system_threads.add(thread)
        self.machine.start_thread(thread)
        return thread

    def end_system_threads(self) -> None:
        """The bridge closes: threads that their drivers have left behind are waited for, with a bound, and reported."""
        for thread in list(self.system_threads):
            if not self.machine.join_thread(thread, END_SECONDS):
                fault = DriverFault(f"{thread!r} did not end: tell it to in the unload routine, and wait for it there")
                fault.blame(thread.device.driver_object.name, None)
                self.log_fault(fault)
        self.system_threads.clear()
