"""KDEVICE_QUEUE and StartIo: any order of inserting, starting, ending, cancelling and closing is that of a list."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.iomgr import startio
from hilbridge.iomgr.startio import StartIoRoutines
from hilbridge.model.devqueue import DeviceQueue
from tests.machines.machinekit import Machine, Mistake, finds, machine, mistakes, run_machine
from tests.machines.queuemodel import KeyedList, OneAtATime, Packet
from tests.machines.startdriver import Starter
from tests.support import bug_check, plug

EXAMPLES, STEPS = 50, 40
KEYS = st.none() | st.integers(0, 5)
WHICH = st.integers(0, 7)


@machine
class DeviceQueueMachine(Machine):
    """A device queue of a driver's own."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.model = self.ke.device_queue(), KeyedList()
        self.number = 0

    @rule(key=KEYS)
    def insert(self, key: int | None) -> None:
        self.number += 1
        name = f"entry{self.number}"
        if key is None:
            queued = self.ke.insert_device_queue(self.queue, name)
        else:
            queued = self.ke.insert_by_key_device_queue(self.queue, name, key)
        assert queued is self.model.insert(name, key)

    @rule(key=KEYS)
    def remove(self, key: int | None) -> None:
        def take() -> str | None:
            if key is None:
                return self.ke.remove_device_queue(self.queue)
            return self.ke.remove_by_key_device_queue(self.queue, key)

        if self.model.busy:
            assert take() == self.model.remove(key)
        else:
            with bug_check(0x2):
                take()

    @rule(which=WHICH)
    def remove_entry(self, which: int) -> None:
        """One that is queued, or one that is not."""
        names = self.model.names
        name = names[which] if which < len(names) else "nobody"
        assert self.ke.remove_entry_device_queue(self.queue, name) is self.model.remove_entry(name)
        assert self.queue.busy is self.model.busy

    def finish(self) -> None:
        expected = [*self.model.names, None] if self.model.busy else []
        assert [self.ke.remove_device_queue(self.queue) for _ in expected] == expected
        assert not self.queue.busy


@machine
class StartIoMachine(Machine):
    """A driver with StartIo, opened up to three times."""

    @initialize(deferred=st.booleans(), non_cancelable=st.booleans())
    def build(self, deferred: bool, non_cancelable: bool) -> None:
        self.model = OneAtATime(non_cancelable)
        # The verifier minds a StartIo that calls start_next_packet and has not asked for DeferredStartIo.
        self.driver = Starter(deferred=deferred or self.verify, non_cancelable=non_cancelable)
        plug(self.bridge, self.driver)
        self.handles: dict[int, Handle] = {0: self.bridge.open("DUT")}
        self.opened = self.number = 0
        self.requests: dict[str, Request] = {}
        self.told: Counter[str] = Counter()

    @rule(
        key=KEYS,
        next_key=KEYS,
        cancelable=st.booleans(),
        keeps=st.booleans(),
        at_once=st.sampled_from((False, False, True)),
        before=st.sampled_from((False, False, False, True)),
        which=WHICH,
    )
    def submit(
        self,
        key: int | None,
        next_key: int | None,
        cancelable: bool,
        keeps: bool,
        at_once: bool,
        before: bool,
        which: int,
    ) -> None:
        """A request, from one of the files."""
        file = sorted(self.handles)[which % len(self.handles)]
        self.number += 1
        name = f"read{self.number}"
        packet = Packet(name, file, key, cancelable, keeps, at_once, before, next_key)
        self.driver.next_packet = packet
        request = self.requests[name] = self.handles[file].submit_read(4)
        request.add_done_callback(lambda: self.told.update([name]))
        self.model.submit(packet)
        self.same()

    @precondition(lambda self: self.model.current is not None)
    @rule()
    def hardware_is_done(self) -> None:
        self.driver.hardware_is_done()
        self.model.done()
        self.same()

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """One that has not ended."""
        live = [packet.name for packet in self.model.packets.values() if not packet.over]
        if live:
            name = live[which % len(live)]
            assert self.io.cancel_irp(self.driver.live[name]) is self.model.cancel(name)
            self.same()

    @precondition(lambda self: len(self.handles) < 3)
    @rule()
    def open(self) -> None:
        self.opened += 1
        self.handles[self.opened] = self.bridge.open("DUT")

    @precondition(lambda self: len(self.handles) > 1)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        file = sorted(self.handles)[which % len(self.handles)]
        self.handles.pop(file).close()
        self.model.close(file)
        self.same()

    def same(self) -> None:
        driver, model, device = self.driver, self.model, self.driver.device
        assert driver.events == model.events, f"{driver.events}, expected {model.events}"
        driver.events.clear()
        model.events.clear()
        assert driver.name(device.current_irp) == model.current
        assert device.device_queue.busy is model.queue.busy
        assert len(device.device_queue) == len(model.queue.entries)
        assert set(driver.live) == {packet.name for packet in model.packets.values() if not packet.over}
        for name, irp in driver.live.items():
            assert (irp.cancel_routine is not None) is (name in model.routine), name
        self.crank.run_until_idle()
        assert self.ke.irql == 0 and not device.start_io_running and device.device_stack.cancel_lock.owner is None
        for name, request in self.requests.items():
            assert request.done is model.packets[name].over
            assert self.told[name] == request.done

    def finish(self) -> None:
        if not hasattr(self, "driver"):
            return
        while self.model.current is not None:
            self.hardware_is_done()
        assert all(request.done for request in self.requests.values()) and not self.bridge.faults
        for handle in self.handles.values():
            handle.close()


def test_a_device_queue_is_a_list_with_keys(seed: int) -> None:
    run_machine(DeviceQueueMachine, seed, examples=EXAMPLES // 3, steps=STEPS)


def test_packets_start_in_the_order_of_the_list(seed: int) -> None:
    run_machine(StartIoMachine, seed, examples=EXAMPLES // 3, steps=STEPS)


def test_the_verifier_has_nothing_to_say(seed: int) -> None:
    run_machine(StartIoMachine, seed, examples=EXAMPLES // 6, steps=STEPS, verify=True)


@pytest.mark.slow
def test_for_longer(seed: int) -> None:
    run_machine(DeviceQueueMachine, seed, examples=3 * EXAMPLES, steps=STEPS)
    run_machine(StartIoMachine, seed, examples=2 * EXAMPLES, steps=STEPS)


INSERT, BY_KEY = (DeviceQueue, "insert"), (DeviceQueue, "remove_by_key")


@mistakes(
    Mistake("equal keys in the wrong order", *INSERT, "queued[:2]", "(queued[0], -queued[1])"),
    Mistake("without a key it is before all", *INSERT, "self._entries[-1][0] if self._entries else 0", "0"),
    Mistake("a key is exceeded", *BY_KEY, ">= key", "> key"),
    Mistake("behind the last there is nobody", *BY_KEY, "return self.remove()", "return None"),
    Mistake("it stays busy", DeviceQueue, "remove", "self.busy = False", "pass"),
    Mistake("it is idle too early", DeviceQueue, "remove_entry", "return True", "self.busy = False; return True"),
)
def test_a_mistake_of_the_list_is_found(mistake: Mistake) -> None:
    finds(DeviceQueueMachine, mistake, examples=EXAMPLES, steps=STEPS)


START = (StartIoRoutines, "_start")


@mistakes(
    Mistake("cancelled before it was queued", StartIoRoutines, "start_packet", "and irp.cancel and", "and False and"),
    Mistake(
        "idle: cancelable all the same", StartIoRoutines, "_make_current", "device.non_cancelable_start_io", "False"
    ),
    Mistake("followed: cancelable all the same", *START, "elif device.non_cancelable_start_io", "elif False"),
    Mistake("what follows is forgotten", *START, "while waiting and following is None", "while False"),
    Mistake("an entry of who runs StartIo is left", *START, "if following is None:", "if False:"),
    Mistake(
        "the key of the next is ignored", startio, "_take_next", "if key is None else queue.remove_by_key(key)", ""
    ),
    Mistake("nobody is in progress", startio, "_take_next", "irp = device.current_irp =", "irp ="),
)
def test_a_mistake_of_start_io_is_found(mistake: Mistake) -> None:
    finds(StartIoMachine, mistake, examples=EXAMPLES, steps=STEPS)
