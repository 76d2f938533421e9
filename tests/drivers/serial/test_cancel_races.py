"""Cancel against arrival, time-out and end, in every order that two threads can have, played out on one.

A cancellation takes the IRP's cancel routine first and the driver's lock later. Whatever another thread does in between
is done here at that very point: the hook runs where the cancel lock has been released and the driver's not yet taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Request
from hilbridge.iomgr.manager import IoManager
from hilbridge.model.device import DeviceObject
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS, STATUS_TIMEOUT
from tests.drivers.serial.serialkit import Port, end_of, fault_of, waits


class Interrupted(IoManager):
    """Calls `between` once, when a cancel routine has let go of the cancel lock."""

    between: Callable[[], object] | None = None

    def release_cancel_spin_lock(self, device: DeviceObject[Any]) -> None:
        super().release_cancel_spin_lock(device)
        between, self.between = self.between, None
        if between is not None:
            between()


@pytest.fixture
def port(make_port: Callable[..., Port]) -> Port:
    return make_port(io_manager=Interrupted)


def cancel(port: Port, request: Request, *, meanwhile: Callable[[], object]) -> None:
    """Cancel `request`; `meanwhile` happens when it is decided that it will be cancelled, and nobody has heard of it yet."""
    io = port.bridge.io
    assert isinstance(io, Interrupted)
    happened = []
    io.between = lambda: happened.append(meanwhile())
    request.cancel()
    assert happened, "no cancel routine ran"
    port.settle()


def hang_up(port: Port) -> None:
    """The driver learns that the line went: its ISR and DPC run. The removal, on a thread of its own, has yet to come."""
    port.line.unplug()
    port.machine.step()
    assert port.extension.gone is not None


def test_bytes_that_arrive_meanwhile_stay(port: Port) -> None:
    request = port.handle.submit_read(3)
    cancel(port, request, meanwhile=lambda: port.feed(b"abc"))
    assert end_of(request) == (STATUS_CANCELLED, b"")
    assert port.handle.read(3) == b"abc"


def test_bytes_that_arrive_meanwhile_go_to_the_next_read(port: Port) -> None:
    first, second = port.handle.submit_read(3), port.handle.submit_read(2)
    cancel(port, first, meanwhile=lambda: port.feed(b"abc"))
    assert end_of(first) == (STATUS_CANCELLED, b"")
    assert end_of(second) == (STATUS_SUCCESS, b"ab")
    assert port.handle.read(1) == b"c"


def test_a_read_that_is_submitted_meanwhile_waits_and_gets_them(port: Port) -> None:
    first = port.handle.submit_read(3)
    later: list[Request] = []
    cancel(port, first, meanwhile=lambda: later.append(port.handle.submit_read(3)))
    assert end_of(first) == (STATUS_CANCELLED, b"")
    port.feed(b"abc")
    assert end_of(later[0]) == (STATUS_SUCCESS, b"abc")


def test_a_read_that_could_end_at_once_is_submitted_meanwhile(port: Port) -> None:
    first = port.handle.submit_read(3)
    port.feed(b"ab")
    later: list[Request] = []
    cancel(port, first, meanwhile=lambda: later.append(port.handle.submit_read(2)))
    assert end_of(first) == (STATUS_CANCELLED, b"")
    assert end_of(later[0]) == (STATUS_SUCCESS, b"ab")


def test_the_time_runs_out_meanwhile(port: Port) -> None:
    port.set_timeouts(constant=100)
    request = port.handle.submit_read(3)
    port.feed(b"ab")
    cancel(port, request, meanwhile=lambda: port.pass_time(100))
    assert end_of(request) == (STATUS_CANCELLED, b"")
    port.set_timeouts()
    assert port.handle.read(2) == b"ab"


@pytest.mark.parametrize("timeouts", [{"constant": 100}, {"interval": 100}])
def test_timer_of_the_cancelled_read_does_not_end_the_next_one(port: Port, timeouts: dict[str, int]) -> None:
    """The next read is started by an arrival before the cancellation has got hold of the lock. It knows no time-outs."""
    port.set_timeouts(**timeouts)
    port.feed(b"a")
    first, second = port.handle.submit_read(5), port.handle.submit_read(5, terminator=b"\n")
    cancel(port, first, meanwhile=lambda: port.feed(b"b"))
    assert end_of(first) == (STATUS_CANCELLED, b"")
    port.pass_time(1000)
    assert waits(second), f"{second!r} was ended by the other's timer"
    port.feed(b"\n")
    assert end_of(second) == (STATUS_SUCCESS, b"ab\n")


def test_next_read_has_its_own_interval(port: Port) -> None:
    port.set_timeouts(interval=10)
    port.feed(b"a")
    first, second = port.handle.submit_read(5), port.handle.submit_read(5)
    port.pass_time(8)
    cancel(port, first, meanwhile=lambda: port.feed(b"b"))
    port.pass_time(9)
    assert waits(second)
    port.pass_time(1)
    assert end_of(second) == (STATUS_TIMEOUT, b"ab")


def test_next_read_has_its_own_total(port: Port) -> None:
    port.set_timeouts(constant=10)
    first, second = port.handle.submit_read(5), port.handle.submit_read(5)
    port.pass_time(8)
    cancel(port, first, meanwhile=lambda: port.feed(b"b"))
    port.pass_time(9)
    assert waits(second)
    port.pass_time(1)
    assert end_of(second) == (STATUS_TIMEOUT, b"b")


def test_the_device_goes_meanwhile(port: Port) -> None:
    request = port.handle.submit_read(3)
    port.feed(b"ab")
    cancel(port, request, meanwhile=lambda: hang_up(port))
    assert end_of(request) == (STATUS_CANCELLED, b"")
    assert port.handle.read(2) == b"ab"


def test_everything_is_cancelled_meanwhile(port: Port) -> None:
    first, second = port.handle.submit_read(3), port.handle.submit_read(3)
    cancel(port, first, meanwhile=port.handle.cancel_io)
    assert end_of(first) == end_of(second) == (STATUS_CANCELLED, b"")


# -- writes ------------------------------------------------------------------------------------------------------------


def test_room_comes_while_a_write_is_cancelled(make_port: Callable[..., Port]) -> None:
    """It is decided that it ends; what it had sent by then is what it reports, and what the far end got."""
    port = make_port(io_manager=Interrupted, room=2)
    first, second = port.handle.submit_write(b"abcd"), port.handle.submit_write(b"efgh")
    cancel(port, first, meanwhile=lambda: port.accept(4))
    assert first.status == STATUS_CANCELLED
    assert second.status == STATUS_SUCCESS
    assert bytes(port.line.sent) == b"abcd"[: first.information] + b"efgh"


def test_time_of_a_write_runs_out_while_it_is_cancelled(make_port: Callable[..., Port]) -> None:
    port = make_port(io_manager=Interrupted, room=2)
    port.set_timeouts(write_constant=100)
    request = port.handle.submit_write(b"abcd")
    cancel(port, request, meanwhile=lambda: port.pass_time(100))
    assert (request.status, request.information) == (STATUS_CANCELLED, 2)


def test_timer_of_a_cancelled_write_does_not_end_the_next_one(make_port: Callable[..., Port]) -> None:
    port = make_port(io_manager=Interrupted, room=0)
    port.set_timeouts(write_constant=100)
    first = port.handle.submit_write(b"ab")
    port.pass_time(60)
    port.set_timeouts()
    second = port.handle.submit_write(b"cd")
    cancel(port, first, meanwhile=port.settle)
    port.pass_time(1000)
    assert waits(second)
    port.accept(2)
    assert second.status == STATUS_SUCCESS
    assert bytes(port.line.sent) == b"cd"


def test_device_goes_while_a_write_is_cancelled(make_port: Callable[..., Port]) -> None:
    port = make_port(io_manager=Interrupted, room=2)
    request = port.handle.submit_write(b"abcd")
    cancel(port, request, meanwhile=lambda: hang_up(port))
    assert (request.status, request.information) == (STATUS_CANCELLED, 2)
    assert fault_of(request).information == 2
