"""Races on a bridge that runs by itself: who watches the port, the poller or a thread that waits, and who is woken.

A wake-up that is lost is not an error that anybody reports: something merely takes until the next time-out. So these races
also say how long they may take, on the virtual clock.
"""

from __future__ import annotations

from hilbridge.bridge.request import Request
from hilbridge.model.errors import BridgeClosed, DeviceGone, DeviceTimeout, RequestCancelled
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_SUCCESS,
    STATUS_TIMEOUT,
)
from hilbridge.testing.interleave import Race
from tests.races.racekit import PolledPort, VirtualPort, polled_race

GONE = STATUS_DEVICE_NOT_CONNECTED


@polled_race
def read_against_bytes() -> Race:
    port = PolledPort()
    return port.race(
        {"app": lambda: port.keep(port.handle.read(4, timeout=30)), "far": lambda: port.feed(b"abcd")}, port.at_once
    )


@polled_race
def reads_against_bytes_in_pieces() -> Race:
    port = PolledPort()

    def app() -> None:
        for _ in range(2):
            port.keep(port.handle.read(2, timeout=30))

    def far() -> None:
        for piece in (b"a", b"bc", b"d"):
            port.feed(piece)

    return port.race({"app": app, "far": far}, port.at_once)


@polled_race
def submitted_read_against_bytes() -> Race:
    """Nobody waits for it: the poller must see the bytes, also when the pin was parked just before."""
    port = PolledPort()
    port.feed(b"ab")
    assert port.handle.read(2) == b"ab"
    port.fed = b""
    request = port.submit_read(4, STATUS_SUCCESS)
    return port.race(
        {"far": lambda: port.feed(b"abcd"), "app": lambda: None}, lambda: port.machine_has_ended(request), port.at_once
    )


@polled_race
def submitting_a_read_against_bytes_and_a_reader_who_parks() -> Race:
    """One thread fetches its bytes itself and parks the pin; another one's read must not wait for the lease to end."""
    port = PolledPort(access=("rw", "r"))
    one, two = port.handles
    request = port.track(Request(two, "read(4)", 4), STATUS_SUCCESS)
    port.feed(b"ab")

    def app() -> None:
        port.keep(one.read(2, timeout=30), one)

    def other() -> None:
        port.io.submit_read(request, 4)
        port.feed(b"cd")

    return port.race({"app": app, "other": other}, lambda: port.machine_has_ended(request), port.at_once)


@polled_race
def two_readers_who_wait() -> Race:
    port = PolledPort(access=("rw", "r"))
    one, two = port.handles
    port.feed(b"abcd")
    return port.race(
        {
            "one": lambda: port.keep(one.read(4, timeout=30), one),
            "two": lambda: port.keep(two.read(4, timeout=30), two),
        },
        lambda: port.within(1),  # one may look while the other moves the bytes: the brief wait is then in vain
    )


@polled_race
def time_out_of_a_read_against_bytes() -> Race:
    port = PolledPort()

    def app() -> None:
        try:
            port.keep(port.handle.read(4, timeout=0.02))
        except DeviceTimeout:
            return

    return port.race({"app": app, "far": lambda: port.feed(b"abcd")})


@polled_race
def total_timer_against_bytes_while_somebody_waits() -> Race:
    port = PolledPort()
    port.set_timeouts(total=20)
    request = port.submit_read(4, STATUS_SUCCESS, STATUS_TIMEOUT)
    return port.race({"app": lambda: request.wait(30), "far": lambda: port.feed(b"abcd")}, port.at_once)


@polled_race
def total_timer_of_a_read_that_somebody_waits_for() -> Race:
    """The poller may be about to sleep, or asleep for longer, when the timer is set."""
    port = PolledPort()
    port.set_timeouts(total=20)

    def app() -> None:
        for _ in range(2):
            assert port.submit_read(4, STATUS_TIMEOUT).wait(30)

    return port.race({"app": app, "far": lambda: port.feed(b"a")}, lambda: port.within(45))


@polled_race
def a_line_without_a_descriptor() -> Race:
    port = VirtualPort()

    def far() -> None:
        for piece in (b"ab", b"cd"):
            port.feed(piece)

    return port.race({"app": lambda: port.keep(port.handle.read(4, timeout=30)), "far": far}, port.at_once)


@polled_race
def cancel_of_a_read_that_somebody_waits_for() -> Race:
    port = PolledPort()
    request = port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"abcd")

    def app() -> None:
        assert request.wait(30)

    return port.race({"app": app, "cancel": request.cancel}, port.at_once)


@polled_race
def close_against_a_read_that_somebody_waits_for() -> Race:
    port = PolledPort()

    def app() -> None:
        try:
            port.keep(port.handle.read(4, timeout=30))
        except (RequestCancelled, BridgeClosed):
            return

    return port.race({"app": app, "close": port.handle.close}, lambda: port.within(1))


@polled_race
def unplug_against_a_read_that_somebody_waits_for() -> Race:
    """The descriptor is closed only when nobody polls it any more."""
    port = PolledPort()
    request = port.submit_read(4, STATUS_SUCCESS, GONE)

    def app() -> None:
        assert request.wait(30)

    return port.race({"app": app, "unplug": lambda: port.bridge.unplug("COM1")}, port.at_once)


@polled_race
def unplug_against_a_whole_read() -> Race:
    port = PolledPort()

    def app() -> None:
        try:
            port.keep(port.handle.read(4, timeout=30))
        except DeviceGone as error:
            port.keep(error.partial)

    return port.race({"app": app, "unplug": lambda: port.bridge.unplug("COM1")}, lambda: port.within(1))


@polled_race
def hang_up_against_a_whole_read() -> Race:
    port = PolledPort()

    def app() -> None:
        try:
            port.keep(port.handle.read(4, timeout=30))
        except DeviceGone as error:
            port.keep(error.partial)

    def far() -> None:
        port.feed(b"ab")
        port.far.close()

    return port.race({"app": app, "far": far}, port.at_once)


@polled_race
def a_long_write_against_a_thread_that_serves_the_port() -> Race:
    """The room for the rest of the write is announced to whoever watches the port just then."""
    port = PolledPort(small_buffers=True)
    data = b"x" * 30_000

    def far() -> None:
        for _ in range(8):
            port.machine_has_nothing_to_do()
            port.drain()
        port.feed(b"abcd")

    def app() -> None:
        port.keep(port.handle.read(4, timeout=30))

    def writer() -> None:
        port.writes.append(data[: port.handle.write(data, timeout=30)])

    return port.race({"app": app, "writer": writer, "far": far}, port.at_once)


@polled_race
def a_long_write_when_the_pin_has_been_parked() -> Race:
    port = PolledPort(small_buffers=True)
    port.feed(b"ab")
    assert port.handle.read(2) == b"ab"
    port.fed = b""
    data = b"x" * 20_000

    def far() -> None:
        for _ in range(8):
            port.machine_has_nothing_to_do()
            port.drain()

    def writer() -> None:
        port.writes.append(data[: port.handle.write(data, timeout=30)])

    return port.race({"writer": writer, "far": far}, port.at_once)


@polled_race
def bridge_close_against_a_read_that_somebody_waits_for() -> Race:
    port = PolledPort()
    request = port.submit_read(4, STATUS_CANCELLED)

    def app() -> None:
        assert request.wait(30)

    return port.race({"app": app, "close": port.bridge.close}, port.at_once)
