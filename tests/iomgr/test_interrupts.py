"""IoConnectInterrupt through whole devices: shared vectors, refused sharing, and one device's trouble staying its own."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, DeviceFault, DriverFault, UsageFault
from hilbridge.kernel.interrupt import InterruptMode
from hilbridge.model.codes import IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_RX
from hilbridge.model.status import STATUS_INVALID_PARAMETER
from hilbridge.virtual.line import VirtualLine
from tests.support import Extension, System, TinyDriver, now, plug, raises, uart, uart_isr

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
