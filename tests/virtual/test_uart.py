"""The virtual UART under the serial driver: pace, FIFOs, interrupts, modem lines, flow control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from hilbridge import Bridge, DeviceTimeout, DeviceUnsupported, UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.hardware import CAUSE_MODEM, CAUSE_RX, CAUSE_TX, Line, LineSettings
from hilbridge.virtual.line import VirtualLine
from hilbridge.virtual.uart import VirtualUart
from tests.virtual.uartkit import CHARACTER, NullModem, nanoseconds

SEVENTEEN = 17
"""What goes in at once: the shift register takes one, and the FIFO has room for sixteen."""


@pytest.fixture(params=[False, True], ids=["plain", "verified"])
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    with Bridge.manual(verify=request.param) as bridge:
        yield bridge
        assert bridge.faults == [] and bridge.findings == []


@pytest.fixture
def modem(bridge: Bridge) -> NullModem:
    return NullModem(bridge)


def plug(bridge: Bridge, *, trigger: int = 8) -> VirtualUart:
    uart = VirtualUart(trigger=trigger)
    bridge.plug(uart, baudrate=9600)
    return uart


# -- pace --------------------------------------------------------------------------------------------------------------


def test_a_kilobyte_at_9600_baud_takes_its_time_to_the_nanosecond(modem: NullModem) -> None:
    data = bytes(range(250)) * 4
    request = modem.b.submit_read(1000)
    start = modem.now
    modem.a.submit_write(data)
    assert request.result(5) == data
    assert modem.now - start == nanoseconds(1000) == 1_041_666_667


@pytest.mark.parametrize(
    ("rate", "bytesize", "parity", "stopbits", "bits"),
    [(300, 8, "N", 1, 10), (19200, 7, "E", 1, 10), (115200, 8, "O", 2, 12), (1_000_000, 8, "N", 1, 10)],
)
def test_other_rates_and_formats(
    bridge: Bridge, rate: int, bytesize: int, parity: str, stopbits: float, bits: int
) -> None:
    modem = NullModem(bridge, baudrate=rate, bytesize=bytesize, parity=parity, stopbits=stopbits)
    request = modem.b.submit_read(160)
    start = modem.now
    modem.a.write(b"0123456789abcdef" * 10, timeout=60)
    assert request.result(60) == b"0123456789abcdef" * 10
    assert modem.now - start == nanoseconds(160, rate, bits)


def test_both_directions_at_once(modem: NullModem) -> None:
    requests = [modem.a.submit_read(400), modem.b.submit_read(400)]
    start = modem.now
    modem.a.submit_write(b"a" * 400)
    modem.b.submit_write(b"b" * 400)
    assert [request.result(5) for request in requests] == [b"b" * 400, b"a" * 400]
    assert modem.now - start == nanoseconds(400)


def test_a_write_ends_when_its_last_byte_is_in_the_fifo_and_a_flush_when_it_is_out(modem: NullModem) -> None:
    start = modem.now
    assert modem.a.write(b"x" * SEVENTEEN) == SEVENTEEN
    assert (modem.now, modem.a.out_waiting) == (start, SEVENTEEN)
    modem.a.write(b"y")
    assert modem.now - start == nanoseconds(SEVENTEEN - 1)  # the FIFO is empty, the last one is being sent
    modem.a.flush()
    assert modem.now - start >= nanoseconds(SEVENTEEN + 1)
    assert modem.a.out_waiting == 0


def test_after_a_pause_the_pace_begins_anew(modem: NullModem) -> None:
    modem.a.write(b"12345678")
    assert modem.b.read(8) == b"12345678"
    modem.advance(2.5)
    start = modem.now
    modem.a.write(b"abcdefgh")
    assert modem.b.read(8) == b"abcdefgh"
    assert modem.now - start == nanoseconds(8)


def test_a_change_of_the_rate_waits_for_what_was_written(modem: NullModem) -> None:
    modem.a.write(b"12345678")
    modem.a.set(baudrate=19200)
    assert modem.b.read(8) == b"12345678"
    modem.b.set(baudrate=19200)
    start = modem.now
    modem.a.write(b"abcdefgh")
    assert modem.b.read(8) == b"abcdefgh"
    assert modem.now - start == nanoseconds(8, 19200)


# -- the receive FIFO --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [1, 4, 8, 14])
def test_the_trigger_interrupts(bridge: Bridge, trigger: int) -> None:
    uart = plug(bridge, trigger=trigger)
    with bridge.open("COM1") as port:
        request = port.submit_read(1)
        start = bridge.ke.clock.now()
        uart.feed(b"x" * 20)
        request.result(5)
        assert bridge.ke.clock.now() - start == nanoseconds(trigger)


def test_fewer_interrupt_after_four_character_times(bridge: Bridge) -> None:
    uart = plug(bridge)
    with bridge.open("COM1") as port:
        start = bridge.ke.clock.now()
        uart.feed(b"abc")
        assert port.read(3) == b"abc"
        assert bridge.ke.clock.now() - start == nanoseconds(3) + nanoseconds(4)


def test_the_time_out_begins_anew_with_each_character(bridge: Bridge) -> None:
    uart = plug(bridge)
    with bridge.open("COM1") as port:
        request = port.submit_read(1)
        for _ in range(3):
            uart.feed(b"x")
            bridge.machine.advance(3.5 * CHARACTER)  # the next one comes 3.5 character times after this one
            assert not request.done
        bridge.machine.advance(1.5 * CHARACTER - 1e-6)
        assert not request.done
        bridge.machine.advance(2e-6)
        assert request.done


def test_a_trigger_that_a_16550_lacks(bridge: Bridge) -> None:
    uart = VirtualUart()
    with pytest.raises(UsageFault, match="1, 4, 8 or 14"):
        uart.trigger = 2
    assert uart.trigger == 8
    with pytest.raises(UsageFault, match="not at 16"):
        VirtualUart(trigger=16)


def test_a_lower_trigger_interrupts_at_once(bridge: Bridge) -> None:
    uart = plug(bridge, trigger=14)
    with bridge.open("COM1") as port:
        request = port.submit_read(4)
        uart.feed(b"abcd")
        bridge.machine.advance(4 * CHARACTER + 1e-8)
        assert not request.done
        uart.trigger = 4
        bridge.machine.run_until_idle()
        assert request.result(0) == b"abcd"


def test_causes_and_registers(bridge: Bridge) -> None:
    uart = plug(bridge)
    seam: Line = uart
    assert (seam.fileno(), seam.has_modem_lines) == (-1, True)
    uart.enable_interrupts(CAUSE_RX | CAUSE_TX)
    assert uart.causes() == CAUSE_TX
    assert uart.write(b"x" * 20) == SEVENTEEN
    assert uart.write(b"x") == 0
    assert (uart.causes(), uart.output_waiting()) == (0, SEVENTEEN)
    uart.discard(tx=True)
    assert (uart.causes(), uart.output_waiting()) == (CAUSE_TX, 1)
    uart.enable_interrupts(CAUSE_RX)
    assert not uart.asserted()
    bridge.machine.advance(CHARACTER + 1e-8)
    assert uart.sent == b"x"


def test_modem_interrupt_is_said_once(bridge: Bridge) -> None:
    uart = plug(bridge)
    uart.enable_interrupts(CAUSE_MODEM)
    assert uart.causes() == 0
    uart.drive(rts=False)
    assert uart.asserted()
    assert uart.causes() == CAUSE_MODEM
    assert not uart.asserted()


def test_a_driver_that_waits_for_a_modem_line_is_interrupted_once(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    uart = plug(bridge)
    with bridge.open("COM1") as port:
        port.ioctl(ser.IOCTL_SERIAL_SET_WAIT_MASK, ser.pack_ulong(ser.SERIAL_EV_CTS))
        causes: list[int] = []
        plain = uart.causes

        def noted() -> int:
            causes.append(plain())
            return causes[-1]

        monkeypatch.setattr(uart, "causes", noted)
        uart.drive(rts=False)
        bridge.machine.run_until_idle()
        assert causes == [CAUSE_MODEM]
        waits = port.submit_ioctl(ser.IOCTL_SERIAL_WAIT_ON_MASK, size=4)
        bridge.machine.run_until_idle()
        assert waits.result(0) == ser.pack_ulong(ser.SERIAL_EV_CTS)


# -- loop and moniker --------------------------------------------------------------------------------------------------


def test_the_moniker_is_a_loop(bridge: Bridge) -> None:
    with bridge.open(bridge.plug("virtual:uart", baudrate=9600)) as port:
        start = bridge.ke.clock.now()
        port.write(b"0123456789abcdef" * 4)
        assert port.read(64) == b"0123456789abcdef" * 4
        assert bridge.ke.clock.now() - start == nanoseconds(64)
        assert (port.cts, port.dsr, port.cd, port.ri) == (True, True, True, False)
        port.rts = False
        assert (port.cts, port.dsr, port.cd) == (False, True, True)
        port.dtr = False
        assert (port.cts, port.dsr, port.cd) == (False, False, False)


def test_on_real_time() -> None:
    """The same, paced by the system's clock: it takes no less than it has to."""
    data = bytes(range(256)) * 8
    with Bridge() as bridge, bridge.open(bridge.plug("virtual:uart", baudrate=921600)) as port:
        start = bridge.ke.clock.now()
        request = port.submit_read(len(data))
        port.write(data, timeout=30)
        assert request.result(30) == data
        assert bridge.ke.clock.now() - start >= nanoseconds(len(data), 921600)
        assert bridge.faults == []


def test_null_modem_on_real_time() -> None:
    with Bridge() as bridge:
        modem = NullModem(bridge, baudrate=460800)
        requests = [modem.a.submit_read(2000), modem.b.submit_read(2000)]
        writes = [modem.a.submit_write(b"a" * 2000), modem.b.submit_write(b"b" * 2000)]
        assert [request.result(30) for request in requests] == [b"b" * 2000, b"a" * 2000]
        assert all(write.wait(30) for write in writes)
        assert modem.one.errors.overrun == modem.other.errors.overrun == 0
        assert bridge.faults == []


# -- modem lines -------------------------------------------------------------------------------------------------------


def test_null_modem(modem: NullModem) -> None:
    a, b = modem.a, modem.b
    assert (b.cts, b.dsr, b.cd, b.ri) == (True, True, True, False)  # on, since the port was plugged in
    a.rts = False
    assert (b.cts, b.dsr, b.cd) == (False, True, True)
    a.dtr = False
    assert (b.cts, b.dsr, b.cd) == (False, False, False)
    assert (a.cts, a.dsr, a.cd) == (True, True, True)
    a.rts = a.dtr = True
    assert (b.cts, b.dsr, b.cd) == (True, True, True)


def test_lines_of_a_far_end_that_is_not_plugged_in_are_off(bridge: Bridge) -> None:
    one, other = VirtualUart.pair()
    with bridge.open(bridge.plug(one)) as port:
        assert (port.cts, port.dsr, port.cd) == (False, False, False)
        bridge.plug(other)
        assert (port.cts, port.dsr, port.cd) == (True, True, True)


def test_far_end_in_the_hand_drives_its_lines_and_the_bell(bridge: Bridge) -> None:
    uart = plug(bridge)
    with bridge.open("COM1") as port:
        uart.drive(dtr=False)
        assert (port.cts, port.dsr, port.cd) == (True, False, False)
        uart.drive(dtr=True, rts=False)
        assert (port.cts, port.dsr, port.cd) == (False, True, True)
        uart.ring()
        assert port.ri
        uart.ring(False)
        assert not port.ri


# -- flow control ------------------------------------------------------------------------------------------------------


def fill(modem: NullModem, count: int) -> None:
    """COM2 is asleep: nobody takes what comes for it."""
    modem.bridge.power(modem.names[1], "D3")
    modem.a.submit_write(b"x" * count)
    modem.advance(10 * count)


@pytest.mark.parametrize("flow", ["rtscts", "xonxoff"])
def test_flow_control_holds_the_sender_and_loses_nothing(bridge: Bridge, flow: str) -> None:
    modem = NullModem(bridge, **{flow: True})
    data = bytes(range(0x20, 0x7F)) * 3
    modem.bridge.power(modem.names[1], "D3")
    write = modem.a.submit_write(data)
    modem.advance(1000)
    assert not write.done
    assert 12 <= modem.other.untaken <= 16
    modem.bridge.power(modem.names[1], "D0")
    assert modem.b.read(len(data)) == data
    assert write.wait(1)
    assert modem.other.errors.overrun == 0


def test_rts_falls_while_the_fifo_is_too_full(bridge: Bridge) -> None:
    modem = NullModem(bridge, rtscts=True)
    fill(modem, 40)
    assert not modem.a.cts
    modem.bridge.power(modem.names[1], "D0")
    assert modem.b.read(40) == b"x" * 40
    assert modem.a.cts


def test_who_gives_up_flow_control_asks_nobody_to_wait_any_more(bridge: Bridge) -> None:
    modem = NullModem(bridge, rtscts=True)
    fill(modem, 40)
    with_flow = modem.other.settings
    modem.other.configure(replace(with_flow, rtscts=False))
    assert modem.a.cts
    modem.other.discard(rx=True)
    modem.other.configure(with_flow)
    assert modem.a.cts


def test_cts_holds_the_transmitter(bridge: Bridge) -> None:
    uart = VirtualUart()
    with bridge.open(bridge.plug(uart, baudrate=9600, rtscts=True)) as port:
        uart.drive(rts=False)
        write = port.submit_write(b"x" * 20)
        bridge.machine.advance(1)
        assert (bytes(uart.sent), write.done) == (b"", False)
        uart.drive(rts=True)
        bridge.machine.advance(20 * CHARACTER + 1e-8)
        assert (bytes(uart.sent), write.done) == (b"x" * 20, True)


def test_xoff_and_xon_are_obeyed_and_swallowed(bridge: Bridge) -> None:
    uart = VirtualUart()
    with bridge.open(bridge.plug(uart, baudrate=9600, xonxoff=True)) as port:
        uart.feed(b"a\x13b")
        assert port.read(2) == b"ab"
        port.submit_write(b"xyz")
        bridge.machine.advance(1)
        assert uart.sent == b""
        uart.feed(b"\x11")
        bridge.machine.advance(4 * CHARACTER + 1e-8)
        assert uart.sent == b"xyz"
        assert port.in_waiting == 0


def test_without_flow_control_these_are_characters_like_others(bridge: Bridge) -> None:
    uart = plug(bridge)
    with bridge.open("COM1") as port:
        uart.drive(rts=False)
        uart.feed(b"\x13\x11")
        assert port.read(2) == b"\x13\x11"
        port.write(b"x")
        port.flush()
        assert uart.sent == b"x"


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (LineSettings(0), "0 baud"),
        (LineSettings(stopbits=1.5), "1.5 stop bits with 8"),
        (LineSettings(bytesize=5, stopbits=2), "2 stop bits with 5"),
        (LineSettings(dsrdtr=True), "DSR/DTR"),
    ],
)
def test_impossible_settings_are_refused_and_named(settings: LineSettings, words: str) -> None:
    uart = VirtualUart()
    with pytest.raises(DeviceUnsupported, match=words):
        uart.configure(settings)
    assert uart.settings == LineSettings()


def test_impossible_rate_is_refused_by_the_driver(modem: NullModem) -> None:
    request = modem.a.submit_ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(0))
    assert request.wait(1) and not request.status.is_success


def test_without_power_nothing_can_be_fed_or_written() -> None:
    uart = VirtualUart()
    with pytest.raises(UsageFault, match="no power"):
        uart.feed(b"x")
    with pytest.raises(UsageFault, match="no power"):
        uart.write(b"x")


def test_a_pin_without_a_clock_is_refused() -> None:
    class NoKernel:
        moved: bool | None = None

        def take(self) -> int:
            return 0

        def enable(self, causes: int) -> None: ...

        def raise_line(self, causes: int) -> None: ...

    VirtualLine().connect(NoKernel())
    with pytest.raises(UsageFault, match="clock of a bridge"):
        VirtualUart().connect(NoKernel())


def test_a_far_end_that_is_not_in_the_hand(modem: NullModem, bridge: Bridge) -> None:
    for action in (
        partial(modem.one.feed, b"x"),
        partial(modem.one.drive, rts=True),
        partial(modem.one.far_break, True),
    ):
        with pytest.raises(UsageFault, match="the far end of virtual:uart0 is virtual:uart1"):
            action()
    with pytest.raises(UsageFault, match="is itself"):
        VirtualUart(loop=True).drive(rts=False)


def test_a_read_that_nobody_answers_times_out(modem: NullModem) -> None:
    with pytest.raises(DeviceTimeout):
        modem.a.read(1, timeout=0.1)
