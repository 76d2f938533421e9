"""KDPC: a deferred procedure call, run at DISPATCH_LEVEL by the thread that queued it when its IRQL drops."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.culprit import running_device

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject


class DpcImportance(IntEnum):
    """KDPC_IMPORTANCE. HIGH goes to the head of the queue; the others, here, to its tail in the order of their coming."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    MEDIUM_HIGH = 3


HIGH = int(DpcImportance.HIGH)
_MEDIUM = int(DpcImportance.MEDIUM)

DeferredRoutine = Callable[["Kdpc", Any, Any, Any], None]


class Kdpc:
    """KDPC. Queued at most once; it may be queued again from the moment it is taken off, before its routine runs."""

    __slots__ = ("_idle", "_queued", "argument1", "argument2", "context", "device", "importance", "routine")

    def __init__(self, routine: DeferredRoutine, context: Any = None, device: DeviceObject[Any] | None = None) -> None:
        self.routine = routine
        self.context = context
        self.device = device
        """Whose mistake it is if the routine raises or hangs. Not said: that of the driver that makes it, else of the first
        one that queues it."""
        if device is None:
            self.device = running_device()
            if self.device is None:
                self.__class__ = _Ownerless
        self.argument1: Any = None
        self.argument2: Any = None
        self.importance: int = _MEDIUM
        """KeSetImportanceDpc."""
        # One token, in the one list or in the other. Taking it is atomic: two threads cannot both queue one DPC, and of who
        # runs it and who takes it out of the queue only one gets it. The place in a processor's queue that is left behind by
        # who takes it out finds nothing to run.
        self._idle: list[None] = [None]
        self._queued: list[None] = []

    def claim(self, argument1: Any, argument2: Any) -> bool:
        """Mark as queued; False if it was queued already (then the new arguments are lost, as in Windows)."""
        try:
            self._idle.pop()
        except IndexError:
            return False
        self.argument1 = argument1
        self.argument2 = argument2
        self._queued.append(None)
        return True

    def release(self) -> tuple[Any, Any] | None:
        """Mark as not queued, and hand out the arguments: from now on it may be queued again. None: it was taken out."""
        try:
            self._queued.pop()
        except IndexError:
            return None
        arguments = self.argument1, self.argument2
        self.argument1 = self.argument2 = None
        self._idle.append(None)
        return arguments

    def withdraw(self) -> bool:
        """Take it out of the queue; False if it is not in one."""
        return self.release() is not None

    @property
    def queued(self) -> bool:
        """Whether it waits in some processor's queue."""
        return not self._idle


class _Ownerless(Kdpc):
    """A DPC that was made where no driver ran. Its class is changed when it is known whose it is: who names a device, as most
    do, does not pay for the question.
    """

    __slots__ = ()

    def claim(self, argument1: Any, argument2: Any) -> bool:
        """Mark as queued, and note by whom."""
        self.device = running_device()
        if self.device is not None:
            self.__class__ = Kdpc  # type: ignore[assignment]
        return Kdpc.claim(self, argument1, argument2)
