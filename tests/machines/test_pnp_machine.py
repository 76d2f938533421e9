"""Devices that come, stop, start, go and are pulled out while programs use them: nothing is lost, nothing is left."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from hilbridge import DeviceBusy, HilbridgeError, UsageFault
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.model.codes import PnpMinor
from hilbridge.model.pnp_life import PnpState
from hilbridge.pnp.manager import PnpManager
from hilbridge.virtual.line import VirtualLine
from tests.machines.machinekit import Machine, Mistake, finds, machine, mistakes, run_machine
from tests.machines.pnpdriver import Filter, Function
from tests.machines.pnpmodel import FILTER, FUNCTION, ModelDevice, Read

EXAMPLES, STEPS = 100, 40
NAMES = ("A", "B")
NAME = st.sampled_from(NAMES)
REFUSED_BY = st.sampled_from((None, None, None, FUNCTION, FILTER))
START_REFUSED_BY = st.sampled_from((None, FUNCTION, FILTER))
SELDOM = st.sampled_from((False, False, True))
WHICH = st.integers(0, 7)
SIZE = st.integers(1, 6)
UP = (PnpState.STARTED, PnpState.STOPPED)


class Real:
    """A device: its drivers, its line, what is open and what is under way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.drivers = {FUNCTION: Function(f"function{name}"), FILTER: Filter(f"filter{name}")}
        self.model = ModelDevice()
        self.line = VirtualLine()
        self.handles: dict[int, Handle] = {}
        self.reads: list[tuple[Read, Request]] = []
        self.told: Counter[Request] = Counter()

    def refuse(self, minor: PnpMinor, by: str | None) -> None:
        for who, driver in self.drivers.items():
            driver.refuses = minor if who == by else None


def refused(when: bool, kind: type[HilbridgeError] = HilbridgeError) -> AbstractContextManager[Any]:
    return pytest.raises(kind) if when else nullcontext()


@machine
class PnpMachine(Machine):
    """Two devices, on one interrupt vector or on two. What happens to one is nothing to the other."""

    @initialize(shared=st.booleans())
    def build(self, shared: bool) -> None:
        self.vector = 0x40 if shared else None
        self.devices = {name: Real(name) for name in NAMES}
        self.opened = 0
        for name in NAMES:
            self.plug(name, None)
            self.open(name)

    # -- steps -------------------------------------------------------------------------------------------------------

    @rule(name=NAME, refused_by=START_REFUSED_BY)
    def plug(self, name: str, refused_by: str | None) -> None:
        """One that is there already cannot be plugged in, nor one that was pulled out and is still open."""
        device = self.devices[name]
        device.refuse(PnpMinor.START_DEVICE, refused_by)
        there = device.model.state is not None
        line = VirtualLine()
        with refused(there or refused_by is not None):
            self.bridge.plug(
                line,
                name=name,
                driver=device.drivers[FUNCTION],
                upper_filters=[device.drivers[FILTER]],
                vector=self.vector,
            )
        if not there:
            device.line = line
            device.model.plug(refused_by)
        self.same()

    @rule(name=NAME)
    def open(self, name: str) -> None:
        device = self.devices[name]
        self.opened += 1
        with refused(device.model.state not in UP):
            device.handles[self.opened] = self.bridge.open(name)
            device.model.handles.add(self.opened)
        self.same()

    @rule(name=NAME, which=WHICH, size=SIZE)
    def read(self, name: str, which: int, size: int) -> None:
        device = self.devices[name]
        if not device.handles:
            self.open(name)
        if device.handles:
            number = sorted(device.handles)[which % len(device.handles)]
            read, request = Read(number, size), device.handles[number].submit_read(size)
            request.add_done_callback(lambda: device.told.update([request]))
            device.reads.append((read, request))
            device.model.read(read)
            self.same()

    @rule(name=NAME, size=SIZE)
    def feed(self, name: str, size: int) -> None:
        """The far end says something; of a device that is not there nobody hears."""
        device = self.devices[name]
        if device.model.state in UP:
            device.line.feed(bytes(range(size)))
            device.model.feed(bytes(range(size)))
            self.same()

    @rule(name=NAME, which=WHICH)
    def cancel(self, name: str, which: int) -> None:
        device = self.devices[name]
        if device.reads:
            read, request = device.reads[which % len(device.reads)]
            request.cancel()
            device.model.cancel(read)
            self.same()

    @rule(name=NAME, which=WHICH, seldom=SELDOM)
    def close(self, name: str, which: int, seldom: bool = True) -> None:
        device = self.devices[name]
        if device.handles and (seldom or device.model.state is PnpState.SURPRISE_REMOVED):
            number = sorted(device.handles)[which % len(device.handles)]
            device.handles.pop(number).close()
            device.model.close(number)
            self.same()

    @rule(name=NAME, refused_by=REFUSED_BY)
    def stop(self, name: str, refused_by: str | None) -> None:
        device = self.devices[name]
        device.refuse(PnpMinor.QUERY_STOP_DEVICE, refused_by)
        started = device.model.state is PnpState.STARTED
        with refused(not started or refused_by is not None, DeviceBusy if started else UsageFault):
            self.bridge.stop(name)
        if started:
            device.model.stop(refused_by)
        self.same()

    @rule(name=NAME, refused_by=START_REFUSED_BY)
    def start(self, name: str, refused_by: str | None) -> None:
        device = self.devices[name]
        device.refuse(PnpMinor.START_DEVICE, refused_by)
        stopped = device.model.state is PnpState.STOPPED
        with refused(not stopped or refused_by is not None, HilbridgeError if stopped else UsageFault):
            self.bridge.start(name)
        if stopped:
            device.model.start_again(refused_by)
        self.same()

    @rule(name=NAME, refused_by=REFUSED_BY)
    def remove(self, name: str, refused_by: str | None) -> None:
        """In good order: not while it is open, and not if a driver refuses."""
        device = self.devices[name]
        device.refuse(PnpMinor.QUERY_REMOVE_DEVICE, refused_by)
        up = device.model.state in UP
        busy = refused_by is not None or bool(device.handles)
        with refused(not up or busy, DeviceBusy if up else UsageFault):
            self.bridge.remove(name)
        if up:
            device.model.remove(refused_by)
        self.same()

    @rule(name=NAME, seldom=SELDOM)
    def unplug(self, name: str, seldom: bool = True) -> None:
        device = self.devices[name]
        state = device.model.state
        if state in UP and not seldom:
            return
        with refused(state is None, UsageFault):
            self.bridge.unplug(name)
        if state in UP:
            device.model.surprise()
        self.same()

    @rule(ticks=st.integers(0, 3))
    def let_time_pass(self, ticks: int) -> None:
        """The timers of devices that are started tick, and of no others."""
        before = {name: device.drivers[FUNCTION].ticks for name, device in self.devices.items()}
        self.crank.advance(ticks / 100)
        for name, device in self.devices.items():
            started = device.model.state is PnpState.STARTED
            now = device.drivers[FUNCTION].ticks
            assert now - before[name] == (ticks if started else 0)

    # -- what holds after every step ---------------------------------------------------------------------------------

    def same(self) -> None:
        self.crank.run_until_idle()
        assert not self.bridge.faults, self.bridge.faults
        states = {one["name"]: one["state"] for one in self.bridge.devices()}
        started = there = 0
        for name, device in self.devices.items():
            model = device.model
            state = model.state
            assert states.pop(name, None) == (None if state is None else state.name.lower().replace("_", "-"))
            there += state is not None
            started += state is PnpState.STARTED
            for who, driver in device.drivers.items():
                assert driver.log == model.log[who], (
                    f"{who} of {name} was asked {driver.log}, expected {model.log[who]}"
                )
                assert driver.life.state is (state or (PnpState.REMOVED if driver.log else PnpState.ADDED))
                loaded = self.io.drivers.get(driver.__name__)
                assert (0 if loaded is None else len(loaded.devices)) == (state is not None)
            for read, request in device.reads:
                assert request.status == read.status, f"{read} of {name} is {request.status.name}"
                assert request.data == read.data and device.told[request] == request.done
            live = sum(read.status.name == "STATUS_PENDING" for read, _ in device.reads)
            assert live == len(model.queue) == sum(len(handle.file.irps) for handle in device.handles.values())
        assert not states
        assert len(self.io.drivers["rootbus"].devices) == there, "a PDO was left"
        assert sum(len(vector.chain) for vector in self.ke.vectors()) == started, "an interrupt was left, or was lost"
        assert sum(len(vector.pins) for vector in self.ke.vectors()) == started, "a pin was left, or was lost"
        assert len(self.ke.timers) == started
        assert not self.io._threaded and self.ke.irql == 0

    def finish(self) -> None:
        if not hasattr(self, "devices"):
            return
        for name, device in self.devices.items():
            if device.model.state in UP:
                self.unplug(name)
            while device.handles:
                self.close(name, 0)
            assert device.model.state is None and all(request.done for _, request in device.reads)
        left = [one for driver in self.io.drivers.values() for one in driver.devices]
        assert not left and not self.ke.vectors(), f"left behind: {left}, {self.ke.vectors()}"


def test_devices_come_and_go_by_the_table(seed: int) -> None:
    run_machine(PnpMachine, seed, examples=EXAMPLES // 3, steps=STEPS)


def test_the_verifier_has_nothing_to_say(seed: int) -> None:
    run_machine(PnpMachine, seed, examples=EXAMPLES // 6, steps=STEPS, verify=True)


@pytest.mark.slow
def test_for_longer(seed: int) -> None:
    run_machine(PnpMachine, seed, examples=2 * EXAMPLES, steps=STEPS)


QUERY, START, SURPRISE = (PnpManager, "_query"), (PnpManager, "start"), (PnpManager, "_surprise")


@mistakes(
    Mistake("nobody hears that nothing comes of it", *QUERY, "self._tell(one, cancel)", "pass"),
    Mistake("a refusal counts for nothing", *QUERY, "if answer.status.is_success:", "if True:"),
    Mistake("removed although it is open", PnpManager, "_objection", "if not opens:", "if True:"),
    Mistake("stopped, and its pin is left", PnpManager, "stop", "stacks.unwire(self.io, one)", "pass"),
    Mistake("started, whatever its drivers say", *START, "if not answer.status.is_success:", "if False:", slow=True),
    Mistake("removed at once though it is open", *START, "if node.pdo.device_stack.files:", "if False:", slow=True),
    Mistake("drivers do not hear that it is gone", *SURPRISE, "if stack.fault is None:", "if False:"),
    Mistake("a port is kept though it is gone", *SURPRISE, "stacks.release_hardware(self.io, node)", "pass"),
    Mistake("removed with handles open", PnpManager, "remove_if_unused", "and not node.pdo.device_stack.files", ""),
    Mistake("never removed", PnpManager, "remove_if_unused", "self.remove_stack(node)", "pass"),
    Mistake("drivers do not hear of the removal", PnpManager, "remove_stack", "if may and", "if False and"),
)
def test_a_mistake_is_found(mistake: Mistake) -> None:
    finds(PnpMachine, mistake, examples=EXAMPLES, steps=STEPS)
