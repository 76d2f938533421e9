"""IoConnectInterrupt through whole devices: shared vectors, refused sharing, and one device's trouble staying its own."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from hilbridge import Bridge, DeviceFault, DriverFault, UsageFault
from hilbridge.kernel.interrupt import InterruptMode
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_RX
from hilbridge.model.status import STATUS_INVALID_PARAMETER
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import (
    PATIENCE,
    Extension,
    System,
    Thread,
    TinyDriver,
    bug_check,
    now,
    plug,
    raises,
    uart,
    uart_isr,
    wait,
)

VECTOR = 0x44


class Two:
    """Two uarts of two drivers, on one vector or on two."""

    def __init__(self, *, shared: bool) -> None:
        self.bridge = Bridge.manual()
        self.lines = VirtualLine("virtual:one"), VirtualLine("virtual:two")
        self.drivers = uart("one"), uart("two")
        for name, driver, line in zip(("ONE", "TWO"), self.drivers, self.lines, strict=True):
            plug(self.bridge, driver, name, line=line, vector=VECTOR if shared else None)
        self.one, self.two = self.bridge.open("ONE"), self.bridge.open("TWO")

    def __enter__(self) -> Two:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bridge.__exit__(None, None, None)

    def turn(self) -> None:
        self.bridge.machine.run_until_idle()

    def isr(self, which: int, routine: Any) -> None:
        """Put another service routine in the place of one."""
        interrupt = self.drivers[which].device.extension.interrupt
        assert interrupt is not None
        interrupt.isr = routine

    @property
    def second_is_well(self) -> bool:
        self.lines[1].feed(b"well")
        return self.two.read(4) == b"well" and self.drivers[1].device.device_stack.fault is None


# -- sharing -------------------------------------------------------------------------------------------------------------


def test_two_devices_on_one_vector_each_claim_their_own_interrupts() -> None:
    with Two(shared=True) as two:
        chain = two.bridge.ke.vector(VECTOR).chain
        assert [interrupt.device.driver_object.name for interrupt in chain] == ["one", "two"]
        for number in range(10):
            two.lines[1].feed(b"b%d" % number)
            two.lines[0].feed(b"a%d" % number)
            assert two.one.read(2) == b"a%d" % number
            assert two.two.read(2) == b"b%d" % number


def test_the_second_on_a_chain_is_asked_only_when_the_first_says_no() -> None:
    with Two(shared=True) as two:
        asked: list[str] = []

        def asking(name: str) -> Any:
            def isr(interrupt: Any, context: Any) -> bool:
                asked.append(name)
                return uart_isr(interrupt, context)

            return isr

        two.isr(0, asking("one"))
        two.isr(1, asking("two"))
        two.lines[0].feed(b"x")
        two.turn()
        assert asked == ["one"]
        asked.clear()
        two.lines[1].feed(b"x")
        two.turn()
        assert asked == ["one", "two"]


def test_a_thread_may_serve_its_own_devices_interrupts_but_not_those_of_a_shared_vector() -> None:
    with Two(shared=False) as two:
        stacks = [driver.device.device_stack for driver in two.drivers]
        assert all(stack.steering is not None for stack in stacks)
        assert stacks[0].steering is not stacks[1].steering
    with Two(shared=True) as two:
        assert [driver.device.device_stack.steering for driver in two.drivers] == [None, None]


def test_unplugging_one_of_two_leaves_the_other_its_interrupts() -> None:
    with Two(shared=True) as two:
        two.bridge.unplug("ONE")
        assert [i.device.driver_object.name for i in two.bridge.ke.vector(VECTOR).chain] == ["two"]
        assert two.second_is_well
        assert two.drivers[0].device.device_stack.steering is None


def connecting(name: str, *, share: bool = True, mode: InterruptMode = InterruptMode.LEVEL_SENSITIVE) -> TinyDriver:
    def on_start(device: DeviceObject[Extension], resources: Any) -> None:
        device.extension.interrupt = device.io.connect_interrupt(
            device, lambda *_: False, None, resources.vector, mode=mode, share=share
        )

    def pnp(device: DeviceObject[Extension], irp: Any) -> Any:
        try:
            return TinyDriver.pnp(driver, device, irp)
        except NtStatusError as error:
            irp.io_status.status = error.status
            device.io.complete_request(irp)
            return error.status

    driver = TinyDriver(name, {IrpMajor.PNP: pnp}, on_start=on_start)
    return driver


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"share": False}, {}),
        ({}, {"share": False}),
        ({"mode": InterruptMode.LATCHED}, {}),
        ({}, {"mode": InterruptMode.LATCHED}),
    ],
)
def test_a_device_that_cannot_share_is_refused_and_the_first_goes_on(first: Any, second: Any) -> None:
    with Bridge.manual() as bridge:
        plug(bridge, connecting("first", **first), "FIRST", line=VirtualLine("virtual:first"), vector=VECTOR)
        line = VirtualLine("virtual:second")
        with pytest.raises((UsageFault, DeviceFault), match="SECOND"):
            plug(bridge, connecting("second", **second), "SECOND", line=line, vector=VECTOR)
        assert [device["name"] for device in bridge.devices()] == ["FIRST"]
        assert len(bridge.ke.vector(VECTOR).chain) == 1
        assert not bridge.faults


def test_connecting_where_it_does_not_fit_is_invalid_parameter_in_words() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    system.io.connect_interrupt(device, lambda *_: True, None, 9, share=False)
    with pytest.raises(NtStatusError, match=r"vector 9.*in use, and not shared in that way") as caught:
        system.io.connect_interrupt(device, lambda *_: True, None, 9)
    assert caught.value.status == STATUS_INVALID_PARAMETER


def test_the_irql_that_a_driver_gives_is_that_of_the_vector_and_its_routine_may_run_higher() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    seen: list[int] = []

    def isr(*_: Any) -> bool:
        seen.append(system.ke.irql)
        return True

    low = system.io.connect_interrupt(device, isr, None, VECTOR, irql=5)
    assert low.vector.irql == low.synchronize_irql == 5
    high = system.io.connect_interrupt(device, isr, None, VECTOR + 1, irql=9)
    both = system.io.connect_interrupt(device, isr, None, VECTOR, synchronize_irql=9, synchronize_with=high)
    assert both.vector is low.vector and both.synchronize_irql == 9
    for interrupt in (low, both, high):
        assert interrupt.serve() is True
        assert interrupt.synchronize(lambda: system.ke.irql) == interrupt.synchronize_irql
    assert seen == [5, 9, 9] and system.ke.irql == PASSIVE_LEVEL


@pytest.mark.parametrize(
    "wrong",
    [{"irql": 6}, {"synchronize_irql": 4}, {"synchronize_irql": 16}, {"synchronize_irql": 5, "shares": True}],
)
def test_irqls_that_make_no_sense_are_an_invalid_parameter(wrong: dict[str, Any]) -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    system.io.connect_interrupt(device, raises(KeyError()), None, VECTOR, irql=5)
    if wrong.pop("shares", False):
        wrong["synchronize_with"] = system.io.connect_interrupt(device, raises(KeyError()), None, VECTOR + 1, irql=9)
    with pytest.raises(NtStatusError) as caught:
        system.io.connect_interrupt(device, raises(KeyError()), None, VECTOR, **wrong)
    assert caught.value.status == STATUS_INVALID_PARAMETER
    assert len(system.ke.vector(VECTOR).chain) == 1


def test_interrupts_that_share_a_lock_keep_each_others_routines_out() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    first = system.io.connect_interrupt(device, lambda *_: True, None, VECTOR)
    second = system.io.connect_interrupt(device, lambda *_: True, None, VECTOR + 1, synchronize_with=first)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        wait(leave)

    holder = Thread(lambda: first.synchronize(hold))
    wait(inside)
    served = Thread(second.serve)
    served.join(0.05)
    assert served.is_alive()
    leave.set()
    holder.finish()
    assert served.finish() is True


@pytest.mark.parametrize("call", ["connect", "disconnect"])
def test_interrupts_are_connected_and_disconnected_at_passive_level(call: str) -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    interrupt = system.io.connect_interrupt(device, lambda *_: True, None, VECTOR)
    with system.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA, f"{call}_interrupt", DISPATCH_LEVEL):
        if call == "connect":
            system.io.connect_interrupt(device, lambda *_: True, None, VECTOR)
        else:
            system.io.disconnect_interrupt(interrupt)
    assert interrupt.connected


def test_who_is_alone_on_its_vector_again_may_be_served_by_its_own_reader_again() -> None:
    with Two(shared=True) as two:
        stacks = [driver.device.device_stack for driver in two.drivers]
        assert [stack.steering for stack in stacks] == [None, None]
        two.one.close()
        two.bridge.unplug("ONE")
        (pin,) = two.bridge.ke.vector(VECTOR).pins
        assert now(stacks[1].steering) is pin and not pin.shared
        plug(two.bridge, two.drivers[0], "ONE", line=VirtualLine(), vector=VECTOR)
        assert now(stacks[1].steering) is None and now(pin.shared)
        assert two.second_is_well


def test_who_steers_stops_when_a_neighbour_comes_onto_the_vector() -> None:
    # A real port and a reader that waits on it: the neighbour's interrupts are not for its thread.
    where: list[str] = []
    pty = Pty()
    try:
        with Bridge() as bridge:
            port = uart("port")
            bridge.plug(pty.path, driver=port, name="PORT", vector=VECTOR)
            with bridge.open("PORT") as handle:
                interrupt = port.device.extension.interrupt
                assert interrupt is not None
                pin = interrupt.vector.pins[0]
                reader = Thread(lambda: handle.submit_read(4).result(PATIENCE))
                while pin.steerer is None:
                    assert reader.is_alive()
                line, neighbour = VirtualLine(), uart("neighbour")
                plug(bridge, neighbour, "NEIGHBOUR", line=line, vector=VECTOR)
                assert neighbour.device.extension.interrupt is not None

                def isr(interrupt: Any, device: Any) -> bool:
                    where.append(threading.current_thread().name)
                    return uart_isr(interrupt, device)

                neighbour.device.extension.interrupt.isr = isr
                while pin.steerer is not None:
                    assert reader.is_alive()
                os.write(pty.board, b"data")
                assert reader.finish() == b"data"
                with bridge.open("NEIGHBOUR") as other:
                    line.feed(b"well")
                    assert other.read(4, timeout=PATIENCE) == b"well"
        assert set(where) == {"hilbridge-poller"}
    finally:
        pty.close()


def test_disconnecting_leaves_no_vector_behind() -> None:
    system = System()
    device = system.stack(TinyDriver("d"))
    vector = system.ke.vector(9)
    pin = system.ke.add_pin(vector, -1, lambda: False)
    interrupt = system.io.connect_interrupt(device, lambda *_: True, None, 9)
    assert now(device.device_stack.steering) is pin and len(now(vector.chain)) == 1
    system.ke.remove_pin(pin)
    system.io.disconnect_interrupt(interrupt)
    assert device.device_stack.steering is None and vector.chain == ()
    system.io.disconnect_interrupt(interrupt)


# -- trouble stays at home -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_an_isr_that_raises_ends_its_own_devices_requests_and_no_others(shared: bool) -> None:
    with Two(shared=shared) as two:
        mine, other = two.one.submit_read(4), two.two.submit_read(4)
        two.isr(0, raises(KeyError("boom")))
        two.lines[0].feed(b"x")
        two.turn()
        assert mine.done and mine.status.is_error
        with pytest.raises(DriverFault, match=r"driver one.*KeyError.*interrupt service routine"):
            mine.result()
        with pytest.raises(DriverFault, match="KeyError"):
            two.one.read(1)
        assert not other.done
        two.lines[1].feed(b"data")
        two.turn()
        assert other.result() == b"data"
        assert two.second_is_well
        assert len(two.bridge.acknowledge_faults()) == 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_dpc_that_raises_ends_its_own_devices_requests_and_no_others(shared: bool) -> None:
    with Two(shared=shared) as two:
        mine, other = two.one.submit_read(4), two.two.submit_read(4)
        two.drivers[0].device.extension.dpc.routine = raises(KeyError("boom"))
        two.lines[0].feed(b"x")
        two.turn()
        assert mine.done and not other.done
        with pytest.raises(DriverFault, match=r"driver one.*KeyError.*a DPC"):
            mine.result()
        other.cancel()
        assert two.second_is_well
        assert len(two.bridge.acknowledge_faults()) == 1


def test_a_storm_takes_the_vector_of_its_device_and_no_other() -> None:
    with Two(shared=False) as two:
        other = two.two.submit_read(4)
        mine = two.one.submit_read(4)
        two.isr(0, lambda *_: True)
        two.lines[0].feed(b"x")
        two.turn()
        assert mine.done and not other.done
        with pytest.raises(DriverFault, match="0xF2 HARDWARE_INTERRUPT_STORM"):
            mine.result()
        two.lines[1].feed(b"data")
        two.turn()
        assert other.result() == b"data"
        assert len(two.bridge.acknowledge_faults()) == 1


def test_on_a_vector_that_is_out_of_service_every_devices_requests_end() -> None:
    with Two(shared=True) as two:
        requests = [two.one.submit_read(4), two.two.submit_read(4)]
        two.isr(0, lambda *_: True)
        two.lines[0].feed(b"x")
        two.turn()
        assert [request.done for request in requests] == [True, True]
        for request in requests:
            with pytest.raises(DriverFault, match="out of service"):
                request.result()
        assert len(two.bridge.acknowledge_faults()) == 1


def test_an_interrupt_that_nobody_claims_ends_in_a_fault_and_not_in_a_hang() -> None:
    with Two(shared=False) as two:
        mine = two.one.submit_read(4)
        two.isr(0, lambda *_: False)
        two.lines[0].feed(b"x")
        two.turn()
        with pytest.raises(DriverFault, match="no service routine claims"):
            mine.result()
        assert two.second_is_well
        two.bridge.acknowledge_faults()


def test_after_a_storm_the_device_can_be_unplugged_and_plugged_in_again_on_its_vector() -> None:
    with Two(shared=True) as two:
        two.isr(0, lambda *_: True)
        two.lines[0].feed(b"x")
        two.turn()
        two.bridge.acknowledge_faults()
        for handle in (two.one, two.two):
            handle.close()
        for name in ("ONE", "TWO"):
            two.bridge.unplug(name)
        fresh = VirtualLine("virtual:fresh")
        plug(two.bridge, uart("fresh"), "FRESH", line=fresh, vector=VECTOR)
        with two.bridge.open("FRESH") as handle:
            fresh.feed(b"data")
            assert handle.read(4) == b"data"


def test_a_device_whose_driver_failed_is_replaced_on_its_shared_vector() -> None:
    with Two(shared=True) as two:
        two.isr(0, raises(KeyError("boom")))
        two.lines[0].feed(b"x")
        two.turn()
        two.bridge.acknowledge_faults()
        two.one.close()
        two.bridge.unplug("ONE")
        fresh = VirtualLine("virtual:fresh")
        plug(two.bridge, uart("fresh"), "ONE", line=fresh, vector=VECTOR)
        with two.bridge.open("ONE") as handle:
            fresh.feed(b"data")
            assert handle.read(4) == b"data"
        assert two.second_is_well


def test_a_line_that_asserts_before_its_driver_connects_is_heard_when_it_does() -> None:
    line = VirtualLine()
    line.unplug()
    seen: list[int] = []

    def on_start(device: DeviceObject[Extension], resources: Any) -> None:
        def isr(_interrupt: Any, _context: Any) -> bool:
            causes = resources.line.causes()
            seen.append(causes)
            return bool(causes)

        resources.line.enable_interrupts(CAUSE_RX)
        bridge.machine.run_until_idle()
        device.extension.interrupt = device.io.connect_interrupt(device, isr, None, resources.vector)

    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("late", on_start=on_start), line=line)
        bridge.machine.run_until_idle()
        assert seen and seen[0] & CAUSE_GONE
        assert not bridge.faults
