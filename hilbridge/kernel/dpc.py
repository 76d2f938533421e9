"""KDPC: a deferred procedure call, run at DISPATCH_LEVEL by the thread that queued it when its IRQL drops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.culprit import running_device

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject

DeferredRoutine = Callable[["Kdpc", Any, Any, Any], None]


class DpcImportance(IntEnum):
    """KDPC_IMPORTANCE. A high one goes to the head of the queue, all others to the tail: here every DPC runs soon."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    MEDIUM_HIGH = 3


HIGH = int(DpcImportance.HIGH)


class Kdpc:
    """KDPC. Queued at most once; it may be queued again from the moment it is taken off, before its routine runs."""

    __slots__ = ("_queued", "argument1", "argument2", "context", "device", "importance", "queue", "routine")

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
        self.importance: int = DpcImportance.MEDIUM
        """KeSetImportanceDpc: what holds from when it is queued the next time."""
        self.queue: deque[Kdpc] | None = None
        """Where it was put the last time that it was queued."""
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

    def move_to(self, queue: deque[Kdpc]) -> None:
        """Its turn comes on another processor. Who has taken it out of its queue says so."""
        self.queue = queue
        queue.append(self)

    def withdraw(self) -> bool:
        """Take it out of the queue; False if it is in none, because it runs, or is just about to.

        A deque gives an element to one taker only, either to us or to the processor that is about to run it. Between its
        claim and its way into the queue, and on its way to another processor, it is nowhere: then it is too late, too.
        """
        queue = self.queue
        if queue is None:
            return False
        try:
            queue.remove(self)
        except ValueError:
            return False
        self.release()
        return True

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


class HardwareDpc(Kdpc):
    """A DPC of hardware that is made of Python: it is nobody's, whoever lends it a thread, and a driver that fails takes no
    hardware with it.
    """

    __slots__ = ()

    def __init__(self, routine: DeferredRoutine, context: Any = None) -> None:
        super().__init__(routine, context)
        self.__class__ = HardwareDpc
        self.device = None


def move_dpcs(source: deque[Kdpc], target: deque[Kdpc]) -> None:
    """Another processor is to run them. Some may be taken out meanwhile."""
    while True:
        try:
            dpc = source.popleft()
        except IndexError:
            return
        dpc.move_to(target)
