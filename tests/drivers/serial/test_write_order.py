"""IRP_MJ_FLUSH_BUFFERS, and settings that must not overtake data.

The far end makes room byte by byte (`VirtualLine(room=...)`, `accept`), and says itself what it has not sent yet (`unsent`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hilbridge import Bridge, DeviceTimeout, DriverFault, Request, UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import LineSettings
from hilbridge.model.status import STATUS_CANCELLED, STATUS_INVALID_PARAMETER, STATUS_SUCCESS
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, flush, sent, settings, waits
from tests.support import Thread, wait

MakePort = Callable[..., Port]


# -- flush -------------------------------------------------------------------------------------------------------------


def test_flush_of_an_idle_port_ends_at_once(port: Port) -> None:
    port.handle.flush(timeout=0)


def test_flush_waits_for_earlier_writes(tight: Port) -> None:
    write = tight.handle.submit_write(b"abc")
    flushing = flush(tight)
    tight.accept(2)
    assert waits(write, flushing)
    tight.accept(1)
    assert flushing.status == STATUS_SUCCESS


def test_flush_waits_until_the_line_has_sent_everything(port: Port) -> None:
    port.line.unsent = 115
    flushing = flush(port)
    port.pass_time(1000)
    assert waits(flushing)
    port.line.unsent = 0
    port.pass_time(100)
    assert flushing.status == STATUS_SUCCESS


def test_flush_looks_again_after_the_time_that_the_bytes_need(port: Port) -> None:
    """115 bytes of 10 bits at 115200 baud are 9.98 ms: not looked at a millisecond earlier, and not much later."""
    port.line.unsent = 115
    flushing = flush(port)
    port.pass_time(9)
    port.line.unsent = 0
    assert waits(flushing)
    port.pass_time(1)
    assert flushing.status == STATUS_SUCCESS


@pytest.mark.parametrize("unsent", [1, 10_000_000])
def test_flush_neither_spins_nor_sleeps_in(port: Port, unsent: int) -> None:
    """However few or many bytes: it looks again after 1 to 100 ms."""
    port.line.unsent = unsent
    flush(port)
    assert port.machine.run_until_idle() == 0
    due = port.bridge.ke.timers.next_due()
    assert due is not None
    assert 1e6 <= due - port.bridge.ke.clock.now() <= 100e6


def test_writes_behind_a_flush_wait_for_it(port: Port) -> None:
    port.line.unsent = 10
    flushing, write = flush(port), port.handle.submit_write(b"later")
    port.pass_time(50)
    assert waits(flushing, write)
    assert sent(port) == b""
    port.line.unsent = 0
    port.pass_time(100)
    assert flushing.status == write.status == STATUS_SUCCESS
    assert sent(port) == b"later"


def test_cancelled_flush_lets_the_next_go(port: Port) -> None:
    port.line.unsent = 10
    flushing, write = flush(port), port.handle.submit_write(b"x")
    flushing.cancel()
    assert flushing.status == STATUS_CANCELLED
    assert write.status == STATUS_SUCCESS


def test_flush_that_times_out_names_itself(port: Port) -> None:
    port.line.unsent = 10
    with pytest.raises(DeviceTimeout, match="flush on COM1"):
        port.handle.flush(timeout=0.3)
    assert port.bridge.pending() == []


def test_flush_by_a_reader(port: Port) -> None:
    with port.open("r") as reader:
        reader.flush()


# -- settings wait for what was written before -------------------------------------------------------------------------


class Recorder(VirtualLine):
    """Notes how it was programmed, and how much it had sent by then."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.programmed: list[tuple[LineSettings, bytes]] = []

    def configure(self, settings: LineSettings) -> None:
        super().configure(settings)
        self.programmed.append((settings, bytes(self.sent)))


def test_baud_rate_changes_behind_the_bytes_that_were_written_before(make_port: MakePort) -> None:
    line = Recorder(room=0)
    port = make_port(line=line)
    before = port.handle.submit_write(b"slow")
    change = port.set_baud_rate(9600)
    after = port.handle.submit_write(b"fast")
    assert waits(before, change, after)
    port.accept(8)
    assert change.status == STATUS_SUCCESS
    assert line.programmed[1:] == [(settings(9600), b"slow")]
    assert sent(port) == b"slowfast"


def test_baud_rate_waits_until_the_line_has_sent_everything(make_port: MakePort) -> None:
    line = Recorder()
    port = make_port(line=line)
    line.unsent = 20
    change = port.set_baud_rate(9600)
    port.pass_time(500)
    assert waits(change)
    assert port.handle.baudrate == 115200
    line.unsent = 0
    port.pass_time(100)
    assert change.status == STATUS_SUCCESS
    assert port.handle.baudrate == 9600
    assert line.settings.baudrate == 9600


def test_two_settings_that_wait_do_not_undo_each_other(port: Port) -> None:
    port.line.unsent = 20
    rate = port.set_baud_rate(9600)
    form = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_LINE_CONTROL, ser.SerialLineControl(0, 2, 7).pack())
    port.line.unsent = 0
    port.pass_time(100)
    assert rate.status == form.status == STATUS_SUCCESS
    assert port.line.settings == settings(9600, 7, "E")


def test_cancelled_setting_is_not_carried_out(port: Port) -> None:
    port.line.unsent = 20
    change = port.set_baud_rate(9600)
    change.cancel()
    port.line.unsent = 0
    port.pass_time(1000)
    assert change.status == STATUS_CANCELLED
    assert port.line.settings.baudrate == 115200


class Busy(Recorder):
    """Something happens while it is being programmed, which may take seconds on a line at the end of a network."""

    meanwhile: Callable[[], object] | None = None

    def configure(self, settings: LineSettings) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        super().configure(settings)


@pytest.mark.parametrize("how", ["cancel", "purge"])
@pytest.mark.parametrize("when", ["queued before", "written meanwhile"])
def test_no_write_goes_out_while_a_setting_is_being_carried_out(make_port: MakePort, how: str, when: str) -> None:
    """Also not if somebody has lost patience with the setting: it is under way, and bytes would go out at either rate."""
    line = Busy()
    port = make_port(line=line)
    writes: list[Request] = []

    def meanwhile() -> None:
        if how == "cancel":
            change.cancel()
        else:
            port.purge(ser.SERIAL_PURGE_TXABORT)
        if when == "written meanwhile":
            writes.append(port.handle.submit_write(b"after"))

    line.unsent = 10
    change = port.set_baud_rate(9600)
    if when == "queued before":
        writes.append(port.handle.submit_write(b"after"))
    line.meanwhile = meanwhile
    line.unsent = 0
    port.pass_time(1000)
    assert change.done
    assert all(write.done for write in writes)
    if sent(port):
        assert (settings(9600), b"") in line.programmed, "the write overtook the setting"
    assert port.handle.baudrate == line.settings.baudrate


def test_device_that_goes_while_a_setting_is_being_carried_out(make_port: MakePort) -> None:
    line = Busy()
    port = make_port(line=line)
    line.meanwhile = line.unplug
    change = port.set_baud_rate(9600)
    port.settle()
    assert change.done
    assert port.bridge.pending() == []


def test_line_that_raises_something_else_breaks_its_own_stack_only(make_port: MakePort) -> None:
    """It is a work item that finds out, and has nobody above it to tell."""

    class Broken(VirtualLine):
        def configure(self, settings: LineSettings) -> None:
            if settings.baudrate == 9600:
                raise ZeroDivisionError("oops")
            super().configure(settings)

    port = make_port(line=Broken())
    neighbour = port.bridge.open(port.bridge.plug("virtual:loop"))
    with pytest.raises(DriverFault, match="ZeroDivisionError"):
        port.handle.set(baudrate=9600)
    neighbour.set(baudrate=9600)
    neighbour.write(b"abc")
    assert neighbour.read(3) == b"abc"
    assert len(port.bridge.acknowledge_faults()) == 1


def test_handle_that_is_closed_while_a_setting_is_being_carried_out() -> None:
    """Closing waits for it: its IRP is known to the handle until it has ended."""
    line = Busy()
    began, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        began.set()
        wait(go_on)

    with Bridge() as bridge:
        handle = bridge.open(bridge.plug(line))
        line.meanwhile = meanwhile
        change = handle.submit_ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600))
        wait(began)
        closer = Thread(handle.close)
        go_on.set()
        closer.finish()
        assert change.done
        assert bridge.faults == []
        with bridge.open("COM1") as again:
            assert again.baudrate == line.settings.baudrate
            assert again.write(b"abc") == 3


def test_setting_that_the_line_refuses_changes_nothing(make_port: MakePort) -> None:
    class Picky(VirtualLine):
        def configure(self, settings: LineSettings) -> None:
            if settings.baudrate == 12345:
                raise DeviceUnsupported("virtual:picky cannot do 12345 baud")
            super().configure(settings)

    port = make_port(line=Picky())
    change = port.set_baud_rate(12345)
    assert change.status == STATUS_INVALID_PARAMETER
    assert port.handle.baudrate == 115200
    with pytest.raises(UsageFault):
        port.handle.set(baudrate=12345)
    port.handle.set(baudrate=9600)
    assert port.handle.baudrate == 9600


def test_set_programs_the_line_once_per_call(make_port: MakePort) -> None:
    """Each time costs a glitch on the wire (pyserial reprograms for every property)."""
    line = Recorder()
    port = make_port(line=line)
    port.handle.set(bytesize=7, parity="E", stopbits=2)
    assert [s for s, _ in line.programmed[1:]] == [settings(115200, 7, "E", 2)]
