"""Any IRP through any stack: what drivers and callers see of it is what a reference in plain Python says, event by event."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from hilbridge.iomgr.build import BuildRoutines
from hilbridge.iomgr.cancel import CancelRoutines
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor
from hilbridge.model.errors import BugCheck
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.parameters import ReadParameters
from hilbridge.model.status import (
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.machines.irpacts import ROOM, STATUSES, Plan, plans
from tests.machines.irpdrivers import Actor, Rig, TellingIo, prepare, untouched_block
from tests.machines.irpmodel import Maker, Model, ModelIrp
from tests.machines.machinekit import Machine, Mistake, finds, machine, mistakes, run_machine
from tests.support import complete, plug

EXAMPLES, STEPS = 120, 40
MADE_HERE = (Maker.OWNER, Maker.LOOSE, Maker.SYNCHRONOUS)
STATUS = st.sampled_from(STATUSES)
INFORMATION = st.integers(0, ROOM)
WHICH = st.integers(0, 7)


@machine
class IrpMachine(Machine):
    """One stack. After every step both logs are the same, and so is what is held, queued and over."""

    io_manager = TellingIo

    def __init__(self) -> None:
        super().__init__()
        self.rig = self.io.rig = Rig()  # type: ignore[attr-defined]
        self.number = 0
        self.requests: dict[str, IoRequest] = {}
        self.announced: Counter[str] = Counter()
        self.dead = False

    @initialize(levels=st.integers(1, 6))
    def build(self, levels: int) -> None:
        self.model = Model(levels)
        self.actors = [Actor(level, self.rig) for level in range(levels)]
        plug(self.bridge, self.actors[0], upper_filters=self.actors[1:])
        self.top = self.actors[-1].device
        self.handle = self.bridge.open("DUT")  # dropped, it would be closed
        self.file = self.handle.file
        self.rig.events.clear()

    def new(self, plan: Plan, maker: Maker) -> ModelIrp:
        self.number += 1
        return self.model.new(f"{maker.name.lower()}{self.number}", plan, maker)

    def draw(self, data: st.DataObject) -> Plan:
        return data.draw(plans(self.model.levels))

    # -- steps -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.dead)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        """An application reads."""
        irp = self.new(self.draw(data), Maker.USER)
        request = self.requests[irp.name] = IoRequest(self.io, self.file, ROOM)
        request.add_done_callback(lambda: self.announced.update([irp.name]))
        self.rig.next = (irp.name, irp.plan)
        self.io.submit_read(request, ROOM)
        self.model.send(irp)
        self.same()

    @precondition(lambda self: not self.dead)
    @rule(data=st.data(), maker=st.sampled_from(MADE_HERE))
    def send(self, data: st.DataObject, maker: Maker) -> None:
        """The machine sends an IRP that it has made, as a driver above the stack would."""
        model = self.new(self.draw(data), maker)
        if maker is Maker.OWNER:
            irp = self.io.allocate_irp(self.top.stack_size)
            self.send_own(irp, model)
            return
        block = self.rig.blocks[model.name] = untouched_block()
        parameters = ReadParameters(ROOM)
        if maker is Maker.LOOSE:
            irp = self.io.build_asynchronous_fsd_request(IrpMajor.READ, self.top, parameters=parameters, iosb=block)
        else:
            event = Kevent()
            irp = self.io.build_synchronous_fsd_request(
                IrpMajor.READ, self.top, event, parameters=parameters, iosb=block
            )
        self.hand_over(irp, model)

    def send_own(self, irp: Irp, model: ModelIrp) -> None:
        prepare(irp)
        irp.set_completion_routine(self.came_back)
        self.hand_over(irp, model)

    def hand_over(self, irp: Irp, model: ModelIrp) -> None:
        self.rig.enter(irp, model.name, model.plan, model.maker)
        status = self.io.call_driver(self.top, irp)
        assert status == self.model.send(model)
        self.same()

    def came_back(self, device: Any, irp: Irp, _context: Any) -> NtStatus:
        assert device is None
        block = irp.io_status
        self.rig.note("up", self.rig.name(irp), None, irp.pending_returned, block.status, block.information)
        return STATUS_MORE_PROCESSING_REQUIRED

    @rule(which=WHICH, status=STATUS, information=INFORMATION)
    def release(self, which: int, status: NtStatus, information: int) -> None:
        """A driver completes an IRP that it holds, or that its completion routine has kept."""
        model = self.pick(list(self.model.held.values()), which)
        if model is not None:
            irp = self.rig.held.pop(model.name)
            holder = irp.current_stack_location.device_object
            assert holder is not None
            self.model.release(model, status, information)
            complete(holder, irp, status, information)
            self.same()

    @rule(level=st.integers(0, 5), status=STATUS, information=INFORMATION)
    def serve(self, level: int, status: NtStatus, information: int) -> None:
        """A driver completes the oldest of its queue."""
        level = min(level, self.model.levels - 1)
        device = self.actors[level].device
        with device.extension.queue.lock:
            irp = device.extension.queue.remove_next_locked()
        model = self.model.serve(level, status, information)
        assert (irp is None) is (model is None)
        if irp is not None and model is not None:
            assert self.rig.name(irp) == model.name
            complete(device, irp, status, information)
        self.same()

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """Whoever has made an IRP cancels it; also one that has ended."""
        model = self.pick([one for one in self.model.irps.values() if self.is_there(one)], which)
        if model is not None:
            assert self.io.cancel_irp(self.rig.irps[model.name]) is self.model.cancel(model)
            self.same()

    @precondition(lambda self: not self.dead)
    @rule(which=WHICH, data=st.data(), free=st.booleans())
    def free_or_reuse(self, which: int, data: st.DataObject, free: bool) -> None:
        """Who has allocated an IRP has it back: it frees it, or sends it again."""
        back = [one for one in self.model.irps.values() if one.over and one.maker is Maker.OWNER]
        old = self.pick(back, which)
        if old is None:
            return
        irp = self.rig.irps.pop(old.name)
        del self.model.irps[old.name]
        if free:
            self.io.free_irp(irp)
            assert irp.state == IrpState.FREED
        else:
            self.io.reuse_irp(irp)
            assert not irp.cancel and irp.state == IrpState.ALLOCATED
            self.send_own(irp, self.new(self.draw(data), Maker.OWNER))

    @precondition(lambda self: not self.dead and not self.verify)
    @rule(which=WHICH, gate=st.integers(0, 9), free=st.booleans())
    def break_a_rule(self, which: int, gate: int, free: bool) -> None:
        """Somebody completes an IRP once more, or frees one that is under way. The stack has failed then; all requests end."""
        live = [one for one in self.model.irps.values() if not one.over and not one.kept]
        ended = [one for one in self.model.irps.values() if one.over and one.maker in (Maker.USER, Maker.SYNCHRONOUS)]
        model = self.pick(live if free else ended, which)
        if model is None or gate:
            return
        irp = self.rig.irps[model.name]
        with pytest.raises(BugCheck) as caught:
            (self.io.free_irp if free else self.io.complete_request)(irp)
        assert caught.value.code == (0xC9 if free else 0x44)
        if irp.origin.name in ("USER", "SYNCHRONOUS") and free and not self.bridge.faults:
            return
        self.dead = True
        for name, request in self.requests.items():
            one = self.model.irps[name]
            if not one.over:
                one.disowned = True
                assert request.done and request.status == STATUS_DRIVER_PROCESS_TERMINATED, f"{name}: {request.status}"
        self.bridge.acknowledge_faults()
        self.same()

    # -- what holds after every step ---------------------------------------------------------------------------------

    @staticmethod
    def pick(given: list[ModelIrp], which: int) -> ModelIrp | None:
        return given[which % len(given)] if given else None

    def is_there(self, model: ModelIrp) -> bool:
        """Whether somebody may still point to it."""
        return model.name in self.rig.irps and not (model.over and model.maker not in (Maker.USER, Maker.OWNER))

    def same(self) -> None:
        rig, model = self.rig, self.model
        assert rig.events == model.events, difference(rig.events, model.events)
        rig.events.clear()
        model.events.clear()
        assert list(rig.held) == list(model.held)
        for level, queue in enumerate(model.queues):
            names = [rig.name(irp) for irp in self.actors[level].device.extension.queue.irps.values()]
            assert names == [irp.name for irp in queue]
        self.crank.run_until_idle()
        for name, request in self.requests.items():
            one = model.irps[name]
            over = one.over or one.disowned
            assert request.done is over, (
                f"{name} is {'over' if over else 'not over'}, and the request says {request.status}"
            )
            assert self.announced[name] == over, f"{name} was announced {self.announced[name]} times"
            irp = rig.irps[name]
            assert (irp.id in self.file.irps) is not over

    def finish(self) -> None:
        if not hasattr(self, "model"):
            return
        while self.model.held or any(self.model.queues):
            self.release(0, STATUS_SUCCESS, 0)
            for level in range(self.model.levels):
                self.serve(level, STATUS_SUCCESS, 1)
        for name, model in self.model.irps.items():
            irp = self.rig.irps[name]
            assert model.over or model.disowned, f"{name} has not ended"
            kept = (Maker.USER, Maker.OWNER, Maker.SYNCHRONOUS, Maker.WAITED)
            assert model.disowned or irp.state == (
                IrpState.COMPLETED
                if model.maker in kept and model.maker is not Maker.OWNER
                else IrpState.OFFERED
                if model.maker is Maker.OWNER
                else IrpState.FREED
            ), f"{name} is {irp!r}"
        assert not self.io._threaded and (self.dead or not self.bridge.faults)


def difference(got: list[Any], expected: list[Any]) -> str:
    """Where two logs part."""
    for number, pair in enumerate(zip([*got, None], [*expected, None], strict=False)):
        if pair[0] != pair[1]:
            return f"event {number}: got {pair[0]}, expected {pair[1]}; before that {got[max(0, number - 4) : number]}"
    return "one log is longer"


def test_any_irp_ends_as_the_reference_says(seed: int) -> None:
    run_machine(IrpMachine, seed, examples=EXAMPLES // 3, steps=STEPS)


def test_the_verifier_has_nothing_to_say(seed: int) -> None:
    run_machine(IrpMachine, seed, examples=EXAMPLES // 6, steps=STEPS, verify=True)


@pytest.mark.slow
def test_for_longer(seed: int) -> None:
    run_machine(IrpMachine, seed, examples=2 * EXAMPLES, steps=STEPS)


COMPLETE = (IrpRoutines, "complete_request")


@mistakes(
    Mistake("pending is not passed on", *COMPLETE, "if pending:", "if False:"),
    Mistake("error and success exchanged", *COMPLETE, "_ON_ERROR if failed else", "_ON_SUCCESS if not failed else"),
    Mistake("on_cancel is not looked at", *COMPLETE, "if irp.cancel:", "if False:"),
    Mistake("told although call_driver has", IrpRoutines, "_finish_built", "status.status >= _NT_ERROR and not", "not"),
    Mistake("pending is not asked for", IrpRoutines, "_finish_built", "not irp.pending_returned", "True"),
    Mistake("a master ends one part early", IrpRoutines, "_count_off", "if left == 0:", "if left <= 1:"),
    Mistake(
        "the last error of a part wins",
        IrpRoutines,
        "_count_off",
        "and master.io_status.status < _NT_ERROR",
        "",
        slow=True,
    ),
    Mistake(
        "a request stays on its file's list", IrpRoutines, "finish", ".irps.pop(irp.id, None)", ".irps.get(irp.id)"
    ),
    Mistake(
        "the wrong device for a routine", IrpRoutines, "_offer", "irp.stack[location - 1]", "irp.stack[location - 2]"
    ),
    Mistake("cancel is not said", CancelRoutines, "cancel_irp", "irp.cancel = True", "irp.cancel = irp.cancel"),
    Mistake("cancelled before it was queued", CancelSafeQueue, "insert_locked", "if irp.cancel and", "if False and"),
    Mistake(
        "an IRP is not made anew", BuildRoutines, "reuse_irp", "irp.__init__(", "irp.cancel or irp.__init__(", slow=True
    ),
)
def test_a_mistake_is_found(mistake: Mistake) -> None:
    finds(IrpMachine, mistake, examples=EXAMPLES, steps=STEPS)
