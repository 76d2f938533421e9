"""KDPC: a deferred procedure call, run at DISPATCH_LEVEL by the thread that queued it when its IRQL drops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.culprit import running_device

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject

DeferredRoutine = Callable[["Kdpc", Any, Any, Any], None]


class Kdpc:
    """KDPC. Queued at most once; it may be queued again from the moment it is taken off, before its routine runs."""

    __slots__ = ("_queued", "argument1", "argument2", "context", "device", "routine")

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
        # An empty list means "queued". Taking the token is atomic, so two threads cannot both queue one DPC.
        self._queued: list[None] = [None]

    def claim(self, argument1: Any, argument2: Any) -> bool:
        """Mark as queued; False if it was queued already (then the new arguments are lost, as in Windows)."""
        try:
            self._queued.pop()
        except IndexError:
            return False
        self.argument1 = argument1
        self.argument2 = argument2
        return True

    def release(self) -> tuple[Any, Any]:
        """Mark as not queued, and hand out the arguments: from now on it may be queued again."""
        arguments = self.argument1, self.argument2
        self.argument1 = self.argument2 = None
        self._queued.append(None)
        return arguments

    @property
    def queued(self) -> bool:
        """Whether it waits in some processor's queue."""
        return not self._queued


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
