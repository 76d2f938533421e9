"""What goes wrong on a wire, and with the hardware at its ends: the virtual UART under the serial driver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hilbridge import Bridge, DeviceGone, DriverFault, Handle, HilbridgeError
from hilbridge.kernel.clock import VirtualClock
from hilbridge.model.hardware import LineSettings
from hilbridge.virtual.uart import LineErrors, VirtualUart
from tests.virtual.uartkit import CHARACTER, NullModem, nanoseconds


@pytest.fixture(params=[False, True], ids=["plain", "verified"])
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    with Bridge.manual(verify=request.param) as bridge:
        yield bridge
        assert bridge.faults == [] and bridge.findings == []


@pytest.fixture
def modem(bridge: Bridge) -> NullModem:
    return NullModem(bridge)


@pytest.fixture
def uart(bridge: Bridge) -> VirtualUart:
    uart = VirtualUart()
    bridge.plug(uart, baudrate=9600)
    return uart


def in_time(modem: NullModem, data: bytes, characters: float) -> bytes:
    """COM1 sends that; what has come out of COM2 after so many character times."""
    modem.a.submit_write(data)
    modem.advance(characters)
    waiting = modem.b.in_waiting
    return modem.b.read(waiting) if waiting else b""


# -- settings that differ ----------------------------------------------------------------------------------------------


def test_rates_that_differ_garble_in_the_same_way_each_time(modem: NullModem) -> None:
    modem.b.set(baudrate=19200)
    first = in_time(modem, b"U", 10)
    assert first == b"\x66\xe6"  # worked out in test_uart_wire.py
    assert modem.other.errors == LineErrors(framing=1)
    assert in_time(modem, b"U", 10) == first
    assert modem.other.errors == LineErrors(framing=2)
    assert modem.one.errors == LineErrors()


def test_parities_that_differ_are_counted_and_the_characters_arrive(modem: NullModem) -> None:
    modem.a.set(bytesize=7, parity="E")
    modem.b.set(bytesize=7, parity="O")
    assert in_time(modem, b"abc", 10) == b"abc"
    assert modem.other.errors == LineErrors(parity=3)


def test_equal_settings_again_bring_everything_again(modem: NullModem) -> None:
    modem.b.set(baudrate=300)
    in_time(modem, b"0123456789", 100)
    assert in_time(modem, b"0123456789", 100) != b"0123456789"
    modem.b.set(baudrate=9600)
    assert in_time(modem, b"0123456789", 20) == b"0123456789"


def test_far_end_in_the_hand_with_other_settings(bridge: Bridge, uart: VirtualUart) -> None:
    uart.far_settings = LineSettings(9600, parity="E")
    with bridge.open("COM1") as port:
        uart.feed(b"\x01\x03")  # the parity bits, 1 and 0, are where the stop bit should be
        assert port.read(2) == b"\x01\x03"
        assert uart.errors == LineErrors(framing=1)
        port.write(b"A")
        port.flush()
        assert uart.sent == b"A"
    uart.far_settings = LineSettings(19200)
    with bridge.open("COM1") as port:
        port.write(b"U")
        port.flush()
        assert uart.sent == b"A\x66\xe6"


def test_far_end_in_the_hand_has_its_own_pace(bridge: Bridge, uart: VirtualUart) -> None:
    uart.far_settings = LineSettings(9800)
    with bridge.open("COM1") as port:
        uart.feed(b"01234567")
        assert port.read(8) == b"01234567"
        assert bridge.ke.clock.now() == nanoseconds(8, 9800)


# -- overrun -----------------------------------------------------------------------------------------------------------


def test_overrun_loses_what_comes_and_keeps_what_was_there(modem: NullModem) -> None:
    modem.bridge.power(modem.names[1], "D3")  # nobody serves its interrupt
    data = bytes(range(100, 120))
    modem.a.write(data)
    modem.advance(25)
    assert modem.other.errors == LineErrors(overrun=4)
    modem.bridge.power(modem.names[1], "D0")
    assert modem.b.read(16) == data[:16]
    assert in_time(modem, b"next", 10) == b"next"
    assert modem.other.errors == LineErrors(overrun=4)


def test_sixteen_are_no_overrun(modem: NullModem) -> None:
    modem.bridge.power(modem.names[1], "D3")
    modem.a.write(bytes(16))
    modem.advance(25)
    assert modem.other.errors == LineErrors()
    assert modem.other.untaken == 16
    modem.bridge.power(modem.names[1], "D0")
    assert modem.b.read(16) == bytes(16)


# -- break -------------------------------------------------------------------------------------------------------------


def test_a_break_is_one_zero_however_long_it_is(modem: NullModem) -> None:
    modem.a.write(b"ab")
    modem.a.send_break(1)
    modem.a.write(b"cd")
    assert modem.b.read(5) == b"ab\x00cd"
    assert modem.other.errors == LineErrors(breaks=1)
    assert modem.now > 1_000_000_000


def test_what_is_sent_during_a_break_is_lost_and_what_is_sent_after_it_is_not(modem: NullModem) -> None:
    held = [modem.one.break_on]
    modem.a.set_break(True)
    held.append(modem.one.break_on)
    assert in_time(modem, b"abc", 10) == b"\x00"
    modem.a.set_break(False)
    held.append(modem.one.break_on)
    assert held == [False, True, False]
    assert in_time(modem, b"def", 10) == b"def"


def test_a_character_that_a_break_runs_into_is_lost(modem: NullModem) -> None:
    modem.a.write(b"ab")
    modem.advance(1.5)
    modem.one.set_break(True)
    modem.advance(0.75)  # the second character is out, as far as the shift register knows
    modem.one.set_break(False)
    modem.advance(10)
    assert modem.b.read_some(10) == b"a"
    assert modem.other.errors == LineErrors()


def test_a_break_shorter_than_a_character_is_not_noticed(modem: NullModem) -> None:
    modem.one.set_break(True)
    modem.advance(0.5)
    modem.one.set_break(False)
    assert in_time(modem, b"x", 10) == b"x"
    assert modem.other.errors == LineErrors()


def test_each_break_counts(modem: NullModem) -> None:
    for _ in range(3):
        modem.a.send_break(2 * CHARACTER)
    modem.advance(10)
    assert modem.b.read(3) == bytes(3)
    assert modem.other.errors == LineErrors(breaks=3)


def test_break_of_a_far_end_in_the_hand(bridge: Bridge, uart: VirtualUart) -> None:
    with bridge.open("COM1") as port:
        uart.feed(b"a")
        bridge.machine.advance(2 * CHARACTER)
        uart.far_break(True)
        uart.feed(b"b")
        bridge.machine.advance(10 * CHARACTER)
        assert port.read(2) == b"a\x00"
        uart.far_break(False)
        uart.feed(b"c")
        assert port.read(1) == b"c"
        assert uart.errors == LineErrors(breaks=1)


# -- unplug ------------------------------------------------------------------------------------------------------------


def gone(port: Handle) -> bool:
    try:
        port.write(b"x")
    except HilbridgeError as error:
        return isinstance(error, DeviceGone)
    return False


def test_unplug_in_the_middle_of_a_transfer(modem: NullModem) -> None:
    write, read = modem.a.submit_write(b"x" * 100), modem.b.submit_read(100)
    modem.advance(40.5)
    modem.one.unplug()
    modem.bridge.machine.run_until_idle()
    assert write.done and gone(modem.a)
    assert write.information == 49  # 40 are out, one is on its way, and eight of the FIFO's are left
    modem.advance(100)
    assert not read.done
    assert modem.b.in_waiting == 40
    assert (modem.b.cts, modem.b.dsr, modem.b.cd) == (False, False, False)


def test_what_was_received_before_the_unplug_is_read_first(modem: NullModem) -> None:
    modem.a.write(b"last words")
    modem.advance(10.5)
    modem.other.unplug()
    assert modem.b.read(10) == b"last words"
    with pytest.raises(DeviceGone):
        modem.b.read(1)
    assert not modem.a.cts


def test_what_is_sent_to_nobody_goes_out_all_the_same(modem: NullModem) -> None:
    modem.bridge.unplug(modem.names[1])
    start = modem.now
    modem.a.write(b"x" * 100)
    modem.a.flush()
    assert modem.now - start >= nanoseconds(100)


def test_sender_that_waits_for_cts_of_an_end_that_went_can_be_cancelled(bridge: Bridge) -> None:
    modem = NullModem(bridge, rtscts=True)
    write = modem.a.submit_write(b"x" * 100)
    modem.advance(10.5)
    modem.other.unplug()
    modem.advance(1000)
    assert not write.done
    write.cancel()
    assert write.information == 17  # ten are out, one was on its way, and six are left in the FIFO


def test_nothing_runs_on_when_all_is_closed(bridge: Bridge) -> None:
    modem = NullModem(bridge)
    modem.a.submit_write(b"x" * 100)
    modem.b.submit_write(b"y" * 100)
    modem.advance(5)
    modem.one.set_break(True)
    for name in modem.names:
        bridge.unplug(name)
    bridge.machine.run_until_idle()
    assert len(bridge.ke.timers) == 0
    with pytest.raises(DeviceGone):
        modem.one.write(b"x")


# -- stop and start ----------------------------------------------------------------------------------------------------


def test_stop_and_start_in_the_middle_of_a_transfer(modem: NullModem) -> None:
    """What the line has accepted goes out before the stop; the rest waits, and nothing is lost or doubled."""
    data = bytes(range(200))
    write, read = modem.a.submit_write(data), modem.b.submit_read(200)
    modem.advance(40.5)
    modem.bridge.stop(modem.names[0])
    assert modem.one.output_waiting() == 0
    modem.advance(1000)
    assert not (write.done or read.done)
    modem.bridge.start(modem.names[0])
    assert read.result(5) == data
    assert write.wait(0)


def test_a_loop_by_moniker_is_another_one_after_a_stop(bridge: Bridge) -> None:
    name = bridge.plug("virtual:uart", baudrate=9600)
    with bridge.open(name) as port:
        port.write(b"before")
        assert port.read(6) == b"before"
        port.rts = False
        bridge.stop(name)
        bridge.start(name)
        assert not port.cts
        port.write(b"after")
        assert port.read(5) == b"after"


def test_it_goes_on_receiving_while_its_device_is_stopped(modem: NullModem) -> None:
    modem.bridge.stop(modem.names[1])
    modem.a.write(b"x" * 20)
    modem.advance(30)
    modem.bridge.start(modem.names[1])
    assert modem.b.read(16) == b"x" * 16
    assert modem.other.errors == LineErrors(overrun=4)


# -- a machine that comes late -----------------------------------------------------------------------------------------


def come_late(modem: NullModem, characters: float) -> None:
    """Time passes, and nobody looks at the timers until it has: what the poller does, in small."""
    clock = modem.bridge.ke.clock
    assert isinstance(clock, VirtualClock)
    clock.advance_to(clock.now() + round(characters * CHARACTER * 1e9))
    modem.bridge.machine.run_until_idle()


def test_an_expiry_that_comes_late_does_not_overrun_the_receiver(modem: NullModem) -> None:
    data = bytes(range(17))
    for _ in range(3):
        modem.a.write(data)
        come_late(modem, 30)
        assert modem.b.in_waiting == 17
        assert modem.b.read(17) == data
    assert modem.other.errors == LineErrors()


def test_a_receiver_that_is_not_served_then_either_is_overrun(modem: NullModem) -> None:
    modem.bridge.power(modem.names[1], "D3")
    modem.a.write(bytes(17))
    come_late(modem, 30)
    assert modem.other.errors == LineErrors(overrun=1)


def test_an_expiry_that_comes_late_costs_no_pace(modem: NullModem) -> None:
    """The driver refills the FIFO of a transmitter that should have had it half a character earlier."""
    write, read = modem.a.submit_write(bytes(40)), modem.b.submit_read(40)
    start = modem.now
    come_late(modem, 17.5)
    modem.advance(0)
    assert read.result(5) == bytes(40)
    assert modem.now - start == nanoseconds(40)
    assert write.wait(0)


def test_but_a_host_that_is_slow_does(modem: NullModem) -> None:
    modem.a.write(bytes(17))
    come_late(modem, 17.5)
    assert modem.b.read(17) == bytes(17)
    modem.advance(2)  # more than a millisecond
    start = modem.now
    modem.a.write(bytes(8))
    assert modem.b.read(8) == bytes(8)
    assert modem.now - start == nanoseconds(8)


def test_on_the_systems_clock_a_full_fifo_loses_nothing_before_the_host_has_had_its_time(
    modem: NullModem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manual bridge that says of itself what one on real time does."""
    monkeypatch.setattr(modem.bridge.machine, "watched", True)
    modem.bridge.power(modem.names[1], "D3")
    data = bytes(range(20))
    modem.a.submit_write(data)
    modem.bridge.machine.advance(0.1)
    assert (modem.other.errors, modem.other.untaken) == (LineErrors(), 16)
    modem.bridge.power(modem.names[1], "D0")
    assert modem.b.read(20) == data
    assert modem.other.errors == LineErrors()


def test_but_then_it_does(modem: NullModem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modem.bridge.machine, "watched", True)
    modem.bridge.power(modem.names[1], "D3")
    modem.a.submit_write(bytes(20))
    modem.bridge.machine.advance(0.2)
    assert modem.other.errors == LineErrors(overrun=4)


def test_a_driver_that_fails_takes_no_hardware_with_it() -> None:
    """What it had given the UART goes out. That the UART's timers have expired while this driver waited (for the FIFO to be
    empty, before a stop) does not make them the driver's.
    """
    with Bridge.manual() as bridge:
        modem = NullModem(bridge)
        modem.a.write(b"before")
        bridge.stop(modem.names[0])
        bridge.start(modem.names[0])
        assert modem.b.read(6) == b"before"
        modem.a.write(b"0123456789")
        (device,) = (d for d in bridge.stack(modem.names[0]) if d.driver_object.name == "serial")
        device.device_stack.fault = DriverFault("broken for a test")
        modem.advance(20)
        device.device_stack.fault = None
        assert modem.b.in_waiting == 10
