"""A request: submitted, waited for, cancelled, told of. It ends exactly once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hilbridge import (
    Bridge,
    BridgeClosed,
    Deadlock,
    DeviceGone,
    DeviceTimeout,
    DriverFault,
    Handle,
    Request,
    RequestCancelled,
    UsageFault,
)
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, STATUS_TIMEOUT
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import PATIENCE, Thread, wait


@pytest.fixture
def line() -> VirtualLine:
    return VirtualLine(room=4)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge.manual() as bridge:
        yield bridge


@pytest.fixture
def handle(bridge: Bridge, line: VirtualLine) -> Iterator[Handle]:
    with bridge.open(bridge.plug(line)) as handle:
        yield handle


@pytest.fixture
def real_line() -> VirtualLine:
    return VirtualLine()


@pytest.fixture
def real_handle(real_line: VirtualLine) -> Iterator[Handle]:
    """On the poller: other threads do the work."""
    with Bridge() as bridge, bridge.open(bridge.plug(real_line)) as handle:
        yield handle


# -- what it shows -----------------------------------------------------------------------------------------------------


def test_life_of_a_read(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(3)
    assert (request.done, request.status, request.information, request.data) == (False, STATUS_PENDING, 0, b"")
    line.feed(b"abc")
    bridge.machine.run_until_idle()
    assert (request.done, request.status, request.information, request.data) == (True, STATUS_SUCCESS, 3, b"abc")


def test_life_of_a_write(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_write(b"abcdef")
    assert not request.done
    line.accept(2)
    bridge.machine.run_until_idle()
    assert (request.status, request.information, request.result()) == (STATUS_SUCCESS, 6, b"")


def test_life_of_a_control(handle: Handle) -> None:
    request = handle.submit_ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4)
    assert (request.status, request.result()) == (STATUS_SUCCESS, ser.pack_ulong(115200))


def test_repr_says_what_where_and_how_it_stands(handle: Handle) -> None:
    request = handle.submit_read(3)
    assert repr(request) == "<read(3) on COM1: STATUS_PENDING>"
    request.cancel()
    assert repr(request) == "<read(3) on COM1: STATUS_CANCELLED>"
    assert "IOCTL_SERIAL_GET_BAUD_RATE" in repr(handle.submit_ioctl(ser.IOCTL_SERIAL_GET_BAUD_RATE, size=4))
    assert "0x001B0FFC" in repr(handle.submit_ioctl(0x001B0FFC))


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_wait_says_whether_it_has_ended(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(1)
    assert request.wait(0) is False
    assert request.wait(1.5) is False
    assert bridge.ke.clock.now() == 1.5e9
    assert not request.done, "waiting has ended it"
    line.feed(b"a")
    assert request.wait() is True
    assert request.wait(0) is True


def test_wait_for_what_can_never_happen_on_virtual_time(handle: Handle) -> None:
    request = handle.submit_read(1)
    with pytest.raises(Deadlock, match=r"read\(1\) on COM1"):
        request.wait(None)
    request.cancel()


def test_result_brings_the_bytes_as_often_as_it_is_asked(line: VirtualLine, handle: Handle) -> None:
    line.feed(b"abc")
    request = handle.submit_read(3)
    assert [request.result(), request.result(0)] == [b"abc", b"abc"]


def test_result_that_is_late_leaves_the_request_alone(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(3)
    with pytest.raises(DeviceTimeout, match=r"cancel\(\)"):
        request.result(0.5)
    line.feed(b"abc")
    assert request.result() == b"abc"


def test_result_raises_what_the_status_means(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    cancelled, refused = handle.submit_read(3), handle.submit_ioctl(0)
    cancelled.cancel()
    with pytest.raises(RequestCancelled):
        cancelled.result()
    with pytest.raises(UsageFault):
        refused.result()
    gone = handle.submit_read(3)
    line.unplug()
    with pytest.raises(DeviceGone):
        gone.result()


def test_errors_carry_the_id_of_the_irp(bridge: Bridge, handle: Handle) -> None:
    request = handle.submit_read(3)
    [pending] = bridge.pending()
    request.cancel()
    with pytest.raises(RequestCancelled) as cancelled:
        request.result()
    assert cancelled.value.irp_id == pending.irp_id


def test_result_of_a_read_that_serial_timeouts_ended_early(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    handle.ioctl(ser.IOCTL_SERIAL_SET_TIMEOUTS, ser.SerialTimeouts(0, 0, 100).pack())
    line.feed(b"ab")
    request = handle.submit_read(5)
    assert request.result() == b"ab"
    assert request.status == STATUS_TIMEOUT


def test_result_of_a_read_whose_device_went_is_what_it_said(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(5)
    line.feed(b"ab")
    line.unplug()
    assert request.result() == b"ab"


def test_several_threads_wait_for_one_request(real_line: VirtualLine, real_handle: Handle) -> None:
    request = real_handle.submit_read(3)
    waiters = [Thread(lambda: request.result(PATIENCE)) for _ in range(8)]
    real_line.feed(b"abc")
    assert [waiter.finish() for waiter in waiters] == [b"abc"] * 8


def test_one_thread_waits_for_several_requests(real_line: VirtualLine, real_handle: Handle) -> None:
    requests = [real_handle.submit_read(1) for _ in range(5)]
    real_line.feed(b"abcde")
    assert [request.result() for request in reversed(requests)] == [b"e", b"d", b"c", b"b", b"a"]


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_cancel_says_whether_there_was_somebody_to_ask(line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(1)
    assert request.cancel() is True
    assert request.status == STATUS_CANCELLED
    assert request.cancel() is False


def test_cancel_by_many_threads_ends_it_once(real_handle: Handle) -> None:
    for _ in range(50):
        ended: list[None] = []
        told = threading.Event()
        request = real_handle.submit_read(1)
        request.add_done_callback(partial(ended.append, None))
        request.add_done_callback(told.set)
        cancellers = [Thread(request.cancel) for _ in range(4)]
        assert sum(canceller.finish() for canceller in cancellers) == 1
        assert request.wait(PATIENCE)
        wait(told)
        assert len(ended) == 1


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_callback_runs_once_and_finds_the_request_done(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(3)
    seen: list[bytes] = []
    request.add_done_callback(lambda: seen.append(request.result(0)))
    line.feed(b"abc")
    bridge.machine.run_until_idle()
    assert seen == [b"abc"]


def test_callback_that_comes_late_runs_all_the_same(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    line.feed(b"abc")
    bridge.machine.run_until_idle()
    request = handle.submit_read(3)
    assert request.done
    seen: list[bytes] = []
    request.add_done_callback(lambda: seen.append(request.data))
    bridge.machine.run_until_idle()
    assert seen == [b"abc"]


def test_callbacks_run_in_the_order_of_their_registration(bridge: Bridge, line: VirtualLine, handle: Handle) -> None:
    request = handle.submit_read(1)
    seen: list[int] = []
    for n in range(5):
        request.add_done_callback(partial(seen.append, n))
    line.feed(b"a")
    bridge.machine.run_until_idle()
    assert seen == [0, 1, 2, 3, 4]


ENDINGS: dict[str, Callable[[Request, VirtualLine], object]] = {
    "its bytes": lambda request, line: line.feed(b"abc"),
    "cancel": lambda request, line: request.cancel(),
    "close": lambda request, line: request.handle.close(),
    "unplug": lambda request, line: line.unplug(),
    "bridge closed": lambda request, line: request.handle.bridge.close(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_callback_never_runs_on_a_processor(real_line: VirtualLine, real_handle: Handle, ending: str) -> None:
    """Not on the poller and not on the thread that ends the request: a callback may take its time, and may call us."""
    request = real_handle.submit_read(3)
    ran = threading.Event()
    where: list[tuple[str, int]] = []

    def callback() -> None:
        processor = real_handle.bridge.ke.current()
        where.append((threading.current_thread().name, processor.irql))
        ran.set()

    request.add_done_callback(callback)
    ENDINGS[ending](request, real_line)
    wait(ran)
    assert where == [("hilbridge-callbacks", 0)]


def test_callback_may_use_the_handle(real_line: VirtualLine, real_handle: Handle) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def callback() -> None:
        real_line.feed(b"answer")
        heard.append(real_handle.read(6))
        done.set()

    request = real_handle.submit_read(1)
    request.add_done_callback(callback)
    real_line.feed(b"q")
    wait(done)
    assert heard == [b"answer"]


def test_callback_that_takes_its_time_holds_up_no_device(real_line: VirtualLine, real_handle: Handle) -> None:
    go_on = threading.Event()
    request = real_handle.submit_read(1)
    request.add_done_callback(lambda: wait(go_on))
    real_line.feed(b"a")
    assert request.wait()
    real_line.feed(b"bcd")
    assert real_handle.read(3) == b"bcd"
    go_on.set()


def test_callback_that_raises_is_reported_and_breaks_no_device() -> None:
    """It is the application's mistake, not a driver's: it must not be lost, and no device must suffer."""
    line, neighbour = VirtualLine(), VirtualLine("virtual:neighbour")
    bridge = Bridge()
    try:
        mine, other = bridge.open(bridge.plug(line)), bridge.open(bridge.plug(neighbour))
        ran = threading.Event()
        request = mine.submit_read(1)
        request.add_done_callback(lambda: 1 // 0)  # type: ignore[arg-type]
        request.add_done_callback(ran.set)
        waiting = other.submit_read(3)
        line.feed(b"a")
        wait(ran)
        neighbour.feed(b"abc")
        assert waiting.result() == b"abc"
        line.feed(b"b")
        assert mine.read(1) == b"b"
        [fault] = bridge.acknowledge_faults()
        assert "ZeroDivisionError" in str(fault)
        assert "callback" in str(fault)
    finally:
        bridge.close()


# -- what must not be done ---------------------------------------------------------------------------------------------


def test_requests_of_a_closed_handle_are_refused(handle: Handle) -> None:
    handle.close()
    submits: list[Callable[[], Request]] = [
        lambda: handle.submit_read(1),
        lambda: handle.submit_write(b"a"),
        lambda: handle.submit_ioctl(0),
    ]
    for submit in submits:
        with pytest.raises(BridgeClosed):
            submit()


def test_minimum_and_terminator_need_a_stream() -> None:
    with Bridge.manual() as bridge, bridge.open(bridge.plug("virtual:null")) as null:
        with pytest.raises(UsageFault, match="stream"):
            null.submit_read(4, minimum=1)
        with pytest.raises(UsageFault, match=r"read_some.*read\(n\)"):
            null.read_some()
        with pytest.raises(UsageFault):
            null.readline()


def test_poller_thread_must_not_wait() -> None:
    """A completion routine that waits would wait for itself."""
    with Bridge() as bridge:
        line = VirtualLine()
        handle = bridge.open(bridge.plug(line))
        caught: list[BaseException] = []
        done = threading.Event()

        class Nosy:
            def wake(self) -> None:
                try:
                    handle.read(1)
                except DriverFault as fault:
                    caught.append(fault)
                done.set()

        request = handle.submit_read(1)
        request.add_waker(Nosy())
        line.feed(b"a")
        wait(done)
        assert [type(error) for error in caught] == [DriverFault]
        handle.close()


# -- many at once ------------------------------------------------------------------------------------------------------


def test_thousand_requests_on_a_pty() -> None:
    pty = Pty()
    with Bridge() as bridge, bridge.open(bridge.plug(pty.path)) as handle:
        requests = [handle.submit_read(3) for _ in range(1000)]
        assert len(bridge.pending()) == 1000
        for n in range(1000):
            os.write(pty.board, n.to_bytes(3, "big"))
        assert [int.from_bytes(request.result(PATIENCE), "big") for request in requests] == list(range(1000))
        assert bridge.pending() == []
    pty.close()
