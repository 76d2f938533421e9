"""IRP_MJ_WRITE: what goes out, and how it is cancelled and times out.

The far end makes room byte by byte (`VirtualLine(room=...)`, `accept`), and says itself what it has not sent yet (`unsent`).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hilbridge import DevicePermission, DeviceTimeout, Request, RequestCancelled
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_ACCESS_DENIED, STATUS_CANCELLED, STATUS_SUCCESS, STATUS_TIMEOUT
from tests.drivers.serial.serialkit import Port, fault_of, flush, numbered, sent, waits

MakePort = Callable[..., Port]
JUST = 1e-6  # a nanosecond, in milliseconds


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
