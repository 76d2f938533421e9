"""The fault log: what drivers did wrong, kept so that nobody can swallow it.

An exception of a driver is latched where the model had called the driver. A broken rule is latched *before* it is raised, by
`bug_check`: the driver that broke it is the first to see the exception, and if it has an ``except Exception: pass`` around
the call it has still failed its stack.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.kernel import culprit
from hilbridge.kernel.processor import ProcessorRetired
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.errors import BugCheck, DriverFault, HilbridgeError, InternalFault, NtStatusError, UsageFault

if TYPE_CHECKING:
    from hilbridge.kernel.clock import Clock
    from hilbridge.kernel.interrupt import Vector
    from hilbridge.kernel.processor import Processor, ProcessorLocal

JOURNAL = 100
"""Lines that the journal keeps."""

FaultHook = Callable[[DeviceObject[Any] | None, HilbridgeError], None]


class FaultRoutines:
    """The kernel's routines about faults. Callable at any IRQL, in any thread, under any lock of a driver."""

    if TYPE_CHECKING:
        local: ProcessorLocal
        clock: Clock

        def current(self) -> Processor: ...

        def vectors(self) -> list[Vector]: ...

        def end_threads_of(self, stack: DeviceStack) -> None: ...

    def __init__(self) -> None:
        self.faults: list[HilbridgeError] = []
        """Every fault that was latched, oldest first."""
        self.journal: deque[tuple[int, str]] = deque(maxlen=JOURNAL)
        """What has happened last, oldest first: when, on the kernel's clock, and what. For crash dumps: nothing that happens
        often is noted here."""
        self.on_fault: FaultHook = lambda device, fault: None
        self.owner_of_module: Callable[[str], DeviceObject[Any] | None] = lambda module: None
        """Which driver's code a module is: a device of that driver, or None. The I/O manager, which loads them, knows."""

    def note(self, words: str) -> None:
        """Write a line into the journal. At any IRQL."""
        self.journal.append((self.clock.now(), words))

    def bug_check(
        self,
        code: int,
        name: str,
        *parameters: object,
        hint: str = "",
        device: DeviceObject[Any] | None = None,
        holder: DeviceObject[Any] | None = None,
    ) -> BugCheck:
        """KeBugCheckEx: a rule was broken. Latches that, and returns what is to be raised: ``raise ke.bug_check(...)``.

        To blame is `device`, if the caller knows; else whose driver the calling thread runs; else `holder`, who has the
        object that it is about. If nobody is, it was no driver: then the exception alone tells who has called. A stack that
        has failed already is not marked again: what its drivers do now follows from that.
        """
        self.current()  # not on a retired processor: see `Processor.retire`
        found = culprit.find(sys._getframe(1))
        fault = BugCheck(code, name, *parameters, hint=hint)
        guilty = device or found.device or holder
        if guilty is not None:
            fault.blame(guilty.driver_object.name, found.place)
            if guilty.device_stack.fault is None:
                self.latch_fault(guilty, fault, found.routine)
        return fault

    def latch_fault(self, device: DeviceObject[Any] | None, error: BaseException, where: str) -> HilbridgeError:
        """Keep an exception that foreign code raised: it marks the device's stack, and `on_fault` fails its requests.

        Without a device it is the whole bridge that has failed. For a mistake that is nobody's there is `log_fault`.
        """
        if isinstance(error, ProcessorRetired):
            raise error  # no mistake of who is on the stack here: this thread only finds its way out
        processor = self.local.processor
        if processor is not None and processor.retirement is not None:
            raise ProcessorRetired  # its fault has been latched; what it does wrong on its way out counts for nothing
        if isinstance(error, HilbridgeError) and not isinstance(error, NtStatusError):
            fault = error
        else:
            who = (
                f"driver {device.driver_object.name} of {device.name or 'an unnamed device'}" if device else "hilbridge"
            )
            fault = DriverFault(f"{who} raised {type(error).__name__}: {error} in {where}")
            fault.__cause__ = error
        if device is not None and isinstance(fault, DriverFault):
            fault.blame(device.driver_object.name, culprit.raised_at(error.__traceback__))
        first = all(known is not fault for known in self.faults)
        if first:
            self.faults.append(fault)
            self.note(f"fault: {fault.message}")
        marks = device is not None and device.device_stack.fault is None
        if device is not None and marks:
            device.device_stack.fault = fault
            for vector in self.vectors():
                vector.lose(device.device_stack)
            self.end_threads_of(device.device_stack)
        if first or marks:  # one fault may mark several stacks: those that share a vector
            self.on_fault(device, fault)
        return fault

    def log_fault(self, fault: HilbridgeError) -> None:
        """Keep a fault that no device is to blame for, and that no request suffers from."""
        self.faults.append(fault)
        self.note(f"fault: {fault.message}")

    def routine_raised(
        self, device: DeviceObject[Any] | None, routine: Callable[..., object], error: BaseException, where: str
    ) -> None:
        """A routine raised that may belong to no device: then its module says which driver it is of, if one alone can be.

        If that is not known either, the fault is kept, and no stack fails for it.
        """
        device = device or self.owner_of_module(str(getattr(routine, "__module__", "")))
        if device is not None or isinstance(error, ProcessorRetired):
            self.latch_fault(device, error, where)
            return
        place = culprit.raised_at(error.__traceback__)
        fault = error if isinstance(error, HilbridgeError) else DriverFault(f"{where} of nobody's")
        if fault is not error:
            _caused(fault, error)
        if isinstance(fault, DriverFault):
            fault.blame(None, place)
        if all(known is not fault for known in self.faults):
            self.log_fault(fault)

    def work_item_raised(self, error: BaseException) -> None:
        """A work item raised: it is reported, and the next one runs. What has been latched before is not reported twice."""
        if any(known is error or known is error.__cause__ for known in self.faults):
            return
        self.log_fault(
            error if isinstance(error, HilbridgeError) else _caused(InternalFault("a work item raised"), error)
        )

    def callback_raised(self, error: BaseException) -> None:
        """A callback of the application raised. That is the application's mistake: no device suffers from it."""
        self.log_fault(_caused(UsageFault("a callback of the application raised"), error))


def _caused(fault: HilbridgeError, error: BaseException) -> HilbridgeError:
    fault.message += f" {type(error).__name__}: {error}"
    fault.__cause__ = error
    return fault
