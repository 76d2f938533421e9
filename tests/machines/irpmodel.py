"""The reference for the IRP machine: what must happen to an IRP, in plain Python, told as a list of events.

It knows nothing of stack locations. Each driver that an IRP was handed to has a frame, or shares one with the driver above if
that has skipped; what a frame remembers is whether the IRP was marked pending there, and which completion routine the driver
above has left there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.machines.irpacts import Act, Does, Plan, Then

Event = tuple[Any, ...]
FAILURE = 0x8000_0000
ERROR = 0xC000_0000


class Maker(Enum):
    """Who has made an IRP."""

    USER = auto()
    """An application: a request is told."""
    OWNER = auto()
    """The machine, with allocate_irp and a completion routine that keeps it."""
    LOOSE = auto()
    """The machine, with build_asynchronous_fsd_request and nothing that keeps it: it is freed at its end."""
    SYNCHRONOUS = auto()
    """The machine, with build_synchronous_fsd_request."""
    DRIVER = auto()
    """A driver of the stack, to end another IRP with it."""
    PART = auto()
    """A driver of the stack, with make_associated_irp."""
    WAITED = auto()
    """A driver of the stack, that waits for it."""


@dataclass(eq=False)
class Frame:
    """What is remembered of one call_driver."""

    level: int
    act: Act | None = None
    """Of the driver above, if it has set a completion routine."""
    setter: int | None = None
    pending: bool = False


@dataclass(eq=False)
class ModelIrp:
    """An IRP."""

    name: str
    plan: Plan
    maker: Maker
    master: ModelIrp | None = None
    frames: list[Frame] = field(default_factory=list)
    cancel: bool = False
    status: NtStatus = STATUS_SUCCESS
    information: int = 0
    pending_returned: bool = False
    queued_at: int | None = None
    kept: bool = False
    """It was last seen by a completion routine, whose driver has it: to the I/O manager that driver may free it."""
    tries: Counter[int] = field(default_factory=Counter)
    parts_left: int = 0
    over: bool = False
    """It has come back to who made it."""
    disowned: bool = False
    children: int = 0


class Model:
    """A stack of drivers that follow plans."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.events: list[Event] = []
        self.held: dict[str, ModelIrp] = {}
        """Those that a driver has, and that only it will end."""
        self.queues: list[list[ModelIrp]] = [[] for _ in range(levels)]
        self.irps: dict[str, ModelIrp] = {}

    def note(self, *event: Any) -> None:
        self.events.append(event)

    def new(self, name: str, plan: Plan, maker: Maker, master: ModelIrp | None = None) -> ModelIrp:
        irp = self.irps[name] = ModelIrp(name, plan, maker, master)
        return irp

    # -- down --------------------------------------------------------------------------------------------------------

    def send(self, irp: ModelIrp) -> NtStatus:
        """From who has made it, to the top."""
        return self.call(irp, self.levels - 1, own=True)

    def call(self, irp: ModelIrp, level: int, act: Act | None = None, *, own: bool = False) -> NtStatus:
        """IoCallDriver with a frame of its own. `act` of the driver above says what its completion routine does."""
        setter = None if own else level + 1
        irp.frames.append(Frame(level, act, setter))
        return self.dispatch(irp, level)

    def dispatch(self, irp: ModelIrp, level: int) -> NtStatus:
        self.note("down", irp.name, level)
        status = self.acts(irp, level, irp.plan[level])
        self.note("return", irp.name, level, status)
        return status

    def acts(self, irp: ModelIrp, level: int, act: Act) -> NtStatus:
        here, does = irp.frames[-1], act.does
        if act.cancels:
            self.cancel(irp)
        if does is Does.COMPLETES:
            return self.complete(irp, act.status, act.information)
        if does is Does.SKIPS:
            here.level = level - 1
            return self.dispatch(irp, level - 1)
        if does is Does.WATCHES:
            return self.call(irp, level - 1, act)
        if does is Does.TAKES_BACK:
            self.take_back(irp, level)
            return self.complete(irp, act.status, act.information)
        if does is Does.BUILDS_SYNCHRONOUS:
            built = self.child(irp, Maker.WAITED)
            self.call(built, level - 1, own=True)
            return self.complete(irp, built.status, built.information)
        here.pending = True
        if does is Does.HOLDS:
            self.held[irp.name] = irp
        elif does is Does.QUEUES:
            if irp.cancel:
                self.complete(irp, STATUS_CANCELLED, 0)
            else:
                irp.queued_at = level
                self.queues[level].append(irp)
        elif does is Does.PENDS_AND_COMPLETES:
            self.complete(irp, act.status, act.information)
        elif does is Does.PENDS_AND_WATCHES:
            self.call(irp, level - 1, act)
        elif does is Does.SPLITS:
            irp.status, irp.information, irp.parts_left = act.status, act.information, act.parts
            for part in [self.child(irp, Maker.PART) for _ in range(act.parts)]:
                self.call(part, level - 1, own=True)
        else:
            self.call(self.child(irp, Maker.DRIVER), level - 1, own=True)
        return STATUS_PENDING

    def child(self, irp: ModelIrp, maker: Maker) -> ModelIrp:
        irp.children += 1
        return self.new(f"{irp.name}.{irp.children}", irp.plan, maker, irp)

    def take_back(self, irp: ModelIrp, level: int) -> None:
        """IoForwardIrpSynchronously: until it is back in the frame of `level`."""
        self.call(irp, level - 1, Act(Does.TAKES_BACK, then=Then.KEEPS))

    # -- up ----------------------------------------------------------------------------------------------------------

    def complete(self, irp: ModelIrp, status: NtStatus, information: int) -> NtStatus:
        """IoCompleteRequest: frame by frame, until somebody keeps it."""
        irp.kept = False
        irp.status, irp.information = status, information
        while irp.frames:
            frame = irp.frames.pop()
            irp.pending_returned = frame.pending
            act = frame.act
            if act is not None and self.wants(act, irp):
                if act.does is Does.TAKES_BACK:
                    return status
                if not self.routine(irp, frame.setter, act):
                    return status
            elif irp.frames:
                irp.frames[-1].pending |= frame.pending
        self.ended(irp)
        return status

    @staticmethod
    def wants(act: Act, irp: ModelIrp) -> bool:
        failed = int(irp.status) >= FAILURE
        return (act.on_error if failed else act.on_success) or (act.on_cancel and irp.cancel)

    def routine(self, irp: ModelIrp, level: int | None, act: Act) -> bool:
        """The completion routine of the driver at `level`; False if it keeps the IRP."""
        self.note("up", irp.name, level, irp.pending_returned, irp.status, irp.information)
        assert level is not None
        if act.routine_cancels:
            irp.cancel = True
        then = act.then
        if then is Then.TRIES_AGAIN:
            irp.tries[level] += 1
            then = Then.GOES_ON if irp.tries[level] > 1 else then
        if then is Then.GOES_ON or then is Then.CHANGES:
            if then is Then.CHANGES:
                irp.status, irp.information = act.status, act.information
            irp.frames[-1].pending |= irp.pending_returned
            return True
        if then is Then.KEEPS:
            self.held[irp.name] = irp
            irp.kept = True
        elif then is Then.COMPLETES:
            self.complete(irp, act.status, act.information)
        else:
            self.call(irp, level - 1, act)
        return False

    def ended(self, irp: ModelIrp) -> None:
        """Past the top."""
        told_by_return = int(irp.status) >= ERROR and not irp.pending_returned
        master = irp.master
        if irp.maker is Maker.OWNER or irp.maker is Maker.DRIVER:
            self.note("up", irp.name, None, irp.pending_returned, irp.status, irp.information)
        if irp.maker is Maker.DRIVER:
            assert master is not None
            level = master.frames[-1].level
            act = master.plan[level]
            if act.does is Does.ALLOCATES and act.then is Then.TRIES_AGAIN and not irp.tries[level]:
                irp.tries[level] += 1
                irp.cancel = False
                self.call(irp, level - 1, own=True)
                return
            irp.over = True
            self.complete(master, irp.status, irp.information)
            return
        irp.over = True
        if irp.maker is Maker.USER and not irp.disowned:
            data = 0 if int(irp.status) >= ERROR else irp.information
            self.note("told", irp.name, irp.status, irp.information, data)
        elif irp.maker in (Maker.SYNCHRONOUS, Maker.LOOSE, Maker.WAITED):
            self.note("iosb", irp.name, None if told_by_return else (irp.status, irp.information))
        elif irp.maker is Maker.PART:
            assert master is not None
            if int(irp.status) >= ERROR and int(master.status) < ERROR:
                master.status = irp.status
            master.parts_left -= 1
            if master.parts_left == 0:
                self.complete(master, master.status, master.information)

    # -- what comes from outside -------------------------------------------------------------------------------------

    def cancel(self, irp: ModelIrp) -> bool:
        """IoCancelIrp: only a queue has a cancel routine."""
        irp.cancel = True
        if irp.queued_at is None:
            return False
        self.queues[irp.queued_at].remove(irp)
        irp.queued_at = None
        self.complete(irp, STATUS_CANCELLED, 0)
        return True

    def serve(self, level: int, status: NtStatus, information: int) -> ModelIrp | None:
        """A driver takes the oldest from its queue, and completes it."""
        if not self.queues[level]:
            return None
        irp = self.queues[level].pop(0)
        irp.queued_at = None
        self.complete(irp, status, information)
        return irp

    def release(self, irp: ModelIrp, status: NtStatus, information: int) -> None:
        """A driver completes one that it has held or kept."""
        del self.held[irp.name]
        self.complete(irp, status, information)
