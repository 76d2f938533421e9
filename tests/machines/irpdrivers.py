"""Real drivers that follow the plans of `irpacts`, and write down what happens to them in the words of the reference."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import IoStatusBlock, Irp
from hilbridge.model.parameters import ReadParameters
from hilbridge.model.status import (
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.machines.irpacts import ROOM, Act, Does, Plan, Then
from tests.machines.irpmodel import Event, Maker
from tests.support import Extension, TinyDriver, complete, pass_down, pend


class Rig:
    """What all drivers of one stack share: the names and plans of IRPs, those that are held, and the log."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.held: dict[str, Irp] = {}
        self.irps: dict[str, Irp] = {}
        self.known: dict[int, tuple[str, Plan, Maker]] = {}
        """IRP id -> what it is called, what is done with it, who has made it."""
        self.next: tuple[str, Plan] | None = None
        """Of the request that is submitted now: its IRP is seen when the top driver gets it."""
        self.tries: Counter[tuple[str, int]] = Counter()
        self.children: Counter[str] = Counter()
        self.blocks: dict[str, IoStatusBlock] = {}

    def note(self, *event: Any) -> None:
        self.events.append(event)

    def enter(self, irp: Irp, name: str, plan: Plan, maker: Maker) -> None:
        self.irps[name] = irp
        self.known[irp.id] = (name, plan, maker)

    def name(self, irp: Irp) -> str:
        if irp.id not in self.known:
            assert self.next is not None, f"{irp!r} comes from nowhere"
            name, plan = self.next
            self.next = None
            self.enter(irp, name, plan, Maker.USER)
        return self.known[irp.id][0]

    def child(self, parent: Irp, irp: Irp, maker: Maker) -> None:
        name, plan, _ = self.known[parent.id]
        self.children[name] += 1
        self.enter(irp, f"{name}.{self.children[name]}", plan, maker)

    def finished(self, irp: Irp) -> None:
        """The I/O manager is done with it."""
        if irp.id not in self.known:
            return  # one of its own, to open the device or to start it
        name, _, maker = self.known[irp.id]
        if maker is Maker.USER and not irp.user_request.disowned:
            request = irp.user_request
            self.note("told", name, request.status, request.information, len(request.data))
        elif maker in (Maker.LOOSE, Maker.SYNCHRONOUS, Maker.WAITED):
            block, event = self.blocks[name], irp.user_event
            told = block.status != STATUS_PENDING
            self.note("iosb", name, (block.status, block.information) if told else None)
            assert event is None or event.signaled is told, f"event and block of {name} do not tell the same"


class TellingIo(IoManager):
    """Tells the rig of every IRP that has gone all the way up."""

    rig: Rig

    def finish(self, irp: Irp) -> None:
        super().finish(irp)
        self.rig.finished(irp)


class Actor(TinyDriver):
    """The driver of one level."""

    def __init__(self, level: int, rig: Rig) -> None:
        routines: dict[IrpMajor, Any] = dict.fromkeys((IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE), pass_down)
        super().__init__(f"level{level}", routines if level else {}, named=level == 0)
        self.dispatch[IrpMajor.READ] = self.read
        self.level = level
        self.rig = rig

    # -- down --------------------------------------------------------------------------------------------------------

    def read(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        rig, name = self.rig, self.rig.name(irp)
        rig.note("down", name, self.level)
        act = rig.known[irp.id][1][self.level]
        if act.cancels:
            device.io.cancel_irp(irp)
        status = self.act(device, irp, act)
        rig.note("return", name, self.level, status)
        return status

    def act(self, device: DeviceObject[Extension], irp: Irp, act: Act) -> NtStatus:
        io, lower = device.io, device.extension.lower
        does = act.does
        if does is Does.COMPLETES:
            return complete(device, irp, act.status, act.information)
        if does is Does.QUEUES:
            return pend(device, irp)
        if does is Does.SKIPS:
            return pass_down(device, irp)
        if does is Does.WATCHES:
            return self.watch(device, irp, act)
        if does is Does.TAKES_BACK:
            io.forward_and_wait(lower, irp)
            return complete(device, irp, act.status, act.information)
        if does is Does.BUILDS_SYNCHRONOUS:
            return self.build_and_wait(device, irp)
        irp.mark_pending()
        if does is Does.HOLDS:
            self.rig.held[self.rig.name(irp)] = irp
        elif does is Does.PENDS_AND_COMPLETES:
            complete(device, irp, act.status, act.information)
        elif does is Does.PENDS_AND_WATCHES:
            self.watch(device, irp, act)
        elif does is Does.SPLITS:
            self.split(device, irp, act)
        else:
            self.build(device, irp, act)
        return STATUS_PENDING

    def watch(self, device: DeviceObject[Extension], irp: Irp, act: Act) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(
            self.up, act, on_success=act.on_success, on_error=act.on_error, on_cancel=act.on_cancel
        )
        return device.io.call_driver(device.extension.lower, irp)

    def build_and_wait(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        io, lower = device.io, device.extension.lower
        block = untouched_block()
        built = io.build_synchronous_fsd_request(
            IrpMajor.READ, lower, Kevent(), parameters=ReadParameters(ROOM), iosb=block
        )
        self.rig.child(irp, built, Maker.WAITED)
        self.rig.blocks[self.rig.name(built)] = block
        status = io.call_and_wait(lower, built)
        return complete(device, irp, status, built.io_status.information)

    def build(self, device: DeviceObject[Extension], irp: Irp, act: Act) -> None:
        io, lower = device.io, device.extension.lower
        if act.does is Does.ALLOCATES:
            built = io.allocate_irp(lower.stack_size)
            prepare(built)
        else:
            built = io.build_asynchronous_fsd_request(IrpMajor.READ, lower, parameters=ReadParameters(ROOM))
        self.rig.child(irp, built, Maker.DRIVER)
        built.set_completion_routine(self.built_is_up, (device, irp, act))
        io.call_driver(lower, built)

    def split(self, device: DeviceObject[Extension], irp: Irp, act: Act) -> None:
        io, lower = device.io, device.extension.lower
        irp.io_status.status, irp.io_status.information = act.status, act.information
        irp.irp_count = act.parts
        parts = [io.make_associated_irp(irp, lower.stack_size) for _ in range(act.parts)]
        for part in parts:
            prepare(part)
            self.rig.child(irp, part, Maker.PART)
        for part in parts:
            io.call_driver(lower, part)

    # -- up ----------------------------------------------------------------------------------------------------------

    def up(self, device: DeviceObject[Extension] | None, irp: Irp, act: Act) -> NtStatus:
        rig, name = self.rig, self.rig.name(irp)
        assert device is self.device, f"the completion routine of {self.device!r} was called for {device!r}"
        rig.note("up", name, self.level, irp.pending_returned, irp.io_status.status, irp.io_status.information)
        io, then = device.io, act.then
        if act.routine_cancels:
            io.cancel_irp(irp)
        if then is Then.TRIES_AGAIN:
            rig.tries[name, self.level] += 1
            then = Then.GOES_ON if rig.tries[name, self.level] > 1 else then
        if then is Then.GOES_ON or then is Then.CHANGES:
            if then is Then.CHANGES:
                irp.io_status.status, irp.io_status.information = act.status, act.information
            if irp.pending_returned:
                irp.mark_pending()
            return STATUS_SUCCESS
        if then is Then.KEEPS:
            rig.held[name] = irp
        elif then is Then.COMPLETES:
            complete(device, irp, act.status, act.information)
        else:
            self.watch(device, irp, act)
        return STATUS_MORE_PROCESSING_REQUIRED

    def built_is_up(
        self, none: DeviceObject[Any] | None, built: Irp, context: tuple[DeviceObject[Extension], Irp, Act]
    ) -> NtStatus:
        """Of an IRP that this driver has made for another one."""
        device, irp, act = context
        rig, name = self.rig, self.rig.name(built)
        assert none is None, "who has made an IRP has no stack location in it"
        block = built.io_status
        rig.note("up", name, None, built.pending_returned, block.status, block.information)
        if act.does is Does.ALLOCATES and act.then is Then.TRIES_AGAIN and not rig.tries[name, self.level]:
            rig.tries[name, self.level] += 1
            device.io.reuse_irp(built)
            prepare(built)
            built.set_completion_routine(self.built_is_up, (device, irp, replace(act)))
            device.io.call_driver(device.extension.lower, built)
        else:
            device.io.free_irp(built)
            complete(device, irp, block.status, block.information)
        return STATUS_MORE_PROCESSING_REQUIRED


def prepare(irp: Irp) -> None:
    """Make a READ of a bare IRP."""
    location = irp.next_stack_location
    location.major_function = IrpMajor.READ
    location.parameters = ReadParameters(ROOM)


def untouched_block() -> IoStatusBlock:
    """An IO_STATUS_BLOCK in which one sees whether it has been written since."""
    block = IoStatusBlock()
    block.status = STATUS_PENDING
    return block
