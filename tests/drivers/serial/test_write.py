"""IRP_MJ_WRITE, IRP_MJ_FLUSH_BUFFERS, and settings that must not overtake data.

The far end makes room byte by byte (`VirtualLine(room=...)`, `accept`), and says itself what it has not sent yet (`unsent`).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from hilbridge import Bridge, DevicePermission, DeviceTimeout, DriverFault, Request, RequestCancelled, UsageFault
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import IrpMajor
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import LineSettings
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_CANCELLED,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    STATUS_TIMEOUT,
)
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, fault_of, numbered, settings, waits
from tests.support import Thread, wait

MakePort = Callable[..., Port]
JUST = 1e-6  # a nanosecond, in milliseconds


@pytest.fixture
def tight(make_port: MakePort) -> Port:
    """A port whose far end has room for nothing yet."""
    return make_port(room=0)


def flush(port: Port) -> Request:
    """Start a flush and go on."""
    request = Request(port.handle, "flush")
    port.bridge.io.submit_simple(request, IrpMajor.FLUSH_BUFFERS)
    return request


def sent(port: Port) -> bytes:
    return bytes(port.line.sent)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_write_that_the_line_takes_ends_at_once(port: Port) -> None:
    request = port.handle.submit_write(b"abc")
    assert (request.status, request.information) == (STATUS_SUCCESS, 3)
    assert sent(port) == b"abc"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_whatever_holds_bytes_can_be_written(port: Port, kind: Callable[[bytes], bytes]) -> None:
    assert port.handle.write(kind(b"abc")) == 3
    assert sent(port) == b"abc"


def test_write_of_nothing_ends_at_once(tight: Port) -> None:
    assert tight.handle.write(b"") == 0


def test_write_goes_out_as_room_comes(tight: Port) -> None:
    request = tight.handle.submit_write(b"abcdef")
    for room, expected in ((1, b"a"), (2, b"abc"), (2, b"abcde")):
        tight.accept(room)
        assert sent(tight) == expected
        assert waits(request)
    tight.accept(1)
    assert (request.status, request.information) == (STATUS_SUCCESS, 6)
    assert sent(tight) == b"abcdef"


def test_room_for_more_than_one_write(tight: Port) -> None:
    requests = [tight.handle.submit_write(data) for data in (b"ab", b"cd", b"ef")]
    tight.accept(5)
    assert sent(tight) == b"abcde"
    assert [r.status for r in requests[:2]] == [STATUS_SUCCESS, STATUS_SUCCESS]
    assert waits(requests[2])
    tight.accept(1)
    assert requests[2].information == 2


def test_a_write_never_overtakes_the_rest_of_an_older_one(make_port: MakePort) -> None:
    port = make_port(room=3)
    older = port.handle.submit_write(b"abcdef")
    younger = port.handle.submit_write(b"g")
    port.line.accept(1)  # the room is there, and the interrupt has not been served
    third = port.handle.submit_write(b"h")
    assert sent(port) == b"abc"
    port.accept(10)
    assert sent(port) == b"abcdefgh"
    assert [r.status for r in (older, younger, third)] == [STATUS_SUCCESS] * 3


def test_write_changes_nothing_when_the_caller_changes_its_buffer(tight: Port) -> None:
    data = bytearray(b"abcdef")
    tight.accept(2)
    request = tight.handle.submit_write(data)
    data[:] = b"XXXXXX"
    tight.accept(4)
    assert request.status == STATUS_SUCCESS
    assert sent(tight) == b"abcdef"


def test_blocking_write_whose_rest_goes_out_later_keeps_its_own_copy(make_port: MakePort) -> None:
    port = make_port(room=2)
    data = bytearray(b"abcdef")
    with pytest.raises(DeviceTimeout) as late:
        port.handle.write(data, timeout=1)
    assert late.value.information == 2
    data[:] = b"XXXXXX"
    port.accept(4)
    assert sent(port) == b"ab"


def test_the_transmit_interrupt_is_on_only_while_something_waits(tight: Port) -> None:
    """Otherwise a line with room interrupts for ever."""
    seen = [tight.extension.tx_on]
    tight.handle.submit_write(b"ab")
    seen.append(tight.extension.tx_on)
    tight.accept(2)
    seen.append(tight.extension.tx_on)
    assert seen == [False, True, False]
    tight.accept(1000)
    assert tight.machine.run_until_idle() == 0


def test_a_megabyte_a_bit_at_a_time(tight: Port, seed: int) -> None:
    dice = random.Random(seed)
    data = numbered(1 << 20)
    requests = [tight.handle.submit_write(data[at : at + 65536]) for at in range(0, len(data), 65536)]
    while any(not r.done for r in requests):
        tight.accept(dice.randint(1, 20000))
    assert sent(tight) == data
    assert {(r.status, r.information) for r in requests} == {(STATUS_SUCCESS, 65536)}


def test_writing_needs_the_access(port: Port) -> None:
    with port.open("r") as reader, pytest.raises(DevicePermission) as refused:
        reader.write(b"x")
    assert refused.value.status == STATUS_ACCESS_DENIED


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_cancelled_write_reports_what_it_has_sent(tight: Port) -> None:
    tight.accept(2)
    request = tight.handle.submit_write(b"abcdef")
    tight.accept(1)
    request.cancel()
    assert (request.status, request.information) == (STATUS_CANCELLED, 3)
    tight.accept(10)
    assert sent(tight) == b"abc"


def test_exception_of_a_cancelled_write_says_how_much_went_out(make_port: MakePort) -> None:
    port = make_port(room=2)
    request = port.handle.submit_write(b"abcdef")
    request.cancel()
    fault = fault_of(request)
    assert isinstance(fault, RequestCancelled)
    assert fault.information == 2


def test_cancelling_one_of_several_lets_the_next_go(tight: Port) -> None:
    first, second, third = (tight.handle.submit_write(data) for data in (b"ab", b"cd", b"ef"))
    first.cancel()
    second.cancel()
    tight.accept(10)
    assert sent(tight) == b"ef"
    assert [r.status for r in (first, second, third)] == [STATUS_CANCELLED, STATUS_CANCELLED, STATUS_SUCCESS]


def test_cancelled_head_lets_the_room_that_is_there_be_used(make_port: MakePort) -> None:
    """Nothing more is announced: the line has room already."""
    port = make_port(room=1)
    port.line.unsent = 5
    flushing, write = flush(port), port.handle.submit_write(b"a")
    assert waits(flushing, write)
    flushing.cancel()
    assert write.status == STATUS_SUCCESS
    assert sent(port) == b"a"


def test_deadline_of_the_caller_reports_what_went_out(make_port: MakePort) -> None:
    port = make_port(room=4)
    with pytest.raises(DeviceTimeout, match="4 bytes") as late:
        port.handle.write(b"abcdef", timeout=0.5)
    assert late.value.information == 4
    assert port.milliseconds == 500
    port.accept(10)
    assert sent(port) == b"abcd", "a write that was given up went on"


# -- write time-outs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("multiplier", "constant", "expires"), [(0, 100, 100), (10, 0, 60), (10, 5, 65), (1, 0, 6)])
def test_write_timeout_expires_at_its_moment_with_an_exact_count(
    make_port: MakePort, multiplier: int, constant: int, expires: float
) -> None:
    port = make_port(room=1)
    port.set_timeouts(write_multiplier=multiplier, write_constant=constant)
    request = port.handle.submit_write(b"abcdef")
    port.pass_time(expires - JUST)
    port.accept(3)
    assert waits(request)
    port.pass_time(JUST)
    assert (request.status, request.information) == (STATUS_TIMEOUT, 4)
    port.accept(10)
    assert sent(port) == b"abcd"


def test_room_that_comes_at_the_very_moment_counts(make_port: MakePort) -> None:
    port = make_port(room=1)
    port.set_timeouts(write_constant=100)
    request = port.handle.submit_write(b"abcdef")
    port.pass_time(100 - JUST)
    port.line.accept(5)  # raised, and not served when the timer expires
    port.pass_time(JUST)
    assert (request.status, request.information) == (STATUS_SUCCESS, 6)


def test_read_timeouts_do_not_end_a_write(tight: Port) -> None:
    tight.set_timeouts(1, 1, 1)
    request = tight.handle.submit_write(b"a")
    tight.pass_time(1e9)
    assert waits(request)


def test_time_of_a_queued_write_begins_when_it_becomes_the_oldest(tight: Port) -> None:
    tight.set_timeouts(write_constant=100)
    first, second = tight.handle.submit_write(b"ab"), tight.handle.submit_write(b"cd")
    tight.accept(1)
    tight.pass_time(100)
    assert (first.status, first.information) == (STATUS_TIMEOUT, 1)
    tight.pass_time(100 - JUST)
    assert waits(second)
    tight.pass_time(JUST)
    assert (second.status, second.information) == (STATUS_TIMEOUT, 0)


def test_time_that_stood_before_a_write_is_not_counted_against_it(make_port: MakePort) -> None:
    port = make_port(room=0)
    port.line.unsent = 100
    port.set_timeouts(write_constant=100)
    flush(port)
    write = port.handle.submit_write(b"ab")
    port.pass_time(500)
    assert waits(write)
    port.line.unsent = 0
    port.pass_time(100)  # the drain is looked at again at the latest now
    started = port.milliseconds
    assert waits(write)
    port.pass_time(101)
    assert write.status == STATUS_TIMEOUT
    assert port.milliseconds - started <= 101


def test_timed_out_write_lets_the_next_go(tight: Port) -> None:
    tight.set_timeouts(write_constant=100)
    first = tight.handle.submit_write(b"ab")
    tight.pass_time(50)
    tight.set_timeouts()
    second = tight.handle.submit_write(b"cd")
    tight.pass_time(50)
    assert first.status == STATUS_TIMEOUT
    tight.pass_time(1e6)
    assert waits(second)
    tight.accept(2)
    assert second.status == STATUS_SUCCESS
    assert sent(tight) == b"cd"


def test_write_that_ends_takes_its_timer_along(tight: Port) -> None:
    tight.set_timeouts(write_constant=100)
    first = tight.handle.submit_write(b"ab")
    tight.pass_time(60)
    tight.accept(2)
    assert first.status == STATUS_SUCCESS
    second = tight.handle.submit_write(b"cd")
    tight.pass_time(99)
    assert waits(second)
    tight.pass_time(1)
    assert second.status == STATUS_TIMEOUT


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


# -- what is where -----------------------------------------------------------------------------------------------------


def test_out_waiting_counts_what_was_written_and_not_sent(tight: Port) -> None:
    tight.accept(2)
    tight.handle.submit_write(b"abcdef")
    tight.handle.submit_write(b"gh")
    assert tight.handle.out_waiting == 6
    tight.line.unsent = 3
    assert tight.handle.out_waiting == 9
    tight.accept(5)
    assert tight.handle.out_waiting == 4


def test_out_waiting_counts_data_only(port: Port) -> None:
    port.line.unsent = 10
    flush(port)
    port.set_baud_rate(9600)
    port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_LINE_CONTROL, ser.SerialLineControl(0, 0, 8).pack())
    assert port.handle.out_waiting == 10


# -- many at random ----------------------------------------------------------------------------------------------------


def test_random_work_sends_each_byte_once_and_in_order(make_port: MakePort, seed: int) -> None:
    """What the far end has got is, write by write, the beginning that the write reports."""
    dice = random.Random(seed)
    port = make_port(room=0)
    writes: list[tuple[Request, bytes]] = []
    others: list[Request] = []
    written = 0
    for _ in range(3000):
        match dice.randrange(8):
            case 0 | 1:
                data = numbered(dice.choice((0, 1, 2, 9, 50)), written)
                written += len(data)
                writes.append((port.handle.submit_write(data), data))
            case 2 | 3:
                port.line.accept(dice.choice((1, 3, 30)))
            case 4:
                others.append(flush(port) if dice.random() < 0.5 else port.set_baud_rate(dice.choice((9600, 115200))))
            case 5:
                dice.choice([r for r, _ in writes] + others or [flush(port)]).cancel()
            case 6:
                port.set_timeouts(write_multiplier=dice.choice((0, 0, 1)), write_constant=dice.choice((0, 0, 7)))
                port.line.unsent = dice.choice((0, 0, 0, 50))
            case _:
                port.pass_time(dice.choice((0.5, 1, 5)))
    port.handle.cancel_io()
    port.settle()
    assert all(r.done for r, _ in writes)
    assert all(r.done for r in others)
    assert sent(port) == b"".join(data[: r.information] for r, data in writes)
    assert all(r.information == len(data) for r, data in writes if r.status == STATUS_SUCCESS)
    statuses = {r.status for r, _ in writes}
    assert statuses == {STATUS_SUCCESS, STATUS_CANCELLED, STATUS_TIMEOUT}, "the work was not varied enough"
