"""Races against the end: a handle is closed, a cable is pulled, a device is taken out of the bridge."""

from __future__ import annotations

from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.model.errors import DeviceBusy, DeviceGone, HilbridgeError, NtStatusError
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_SUCCESS,
    STATUS_TIMEOUT,
    NtStatus,
)
from hilbridge.testing.interleave import Race
from tests.races.racekit import Port, race

GONE = STATUS_DEVICE_NOT_CONNECTED


def close(port: Port) -> None:
    """Close the first handle. When that returns, nothing of the handle is under way."""
    outstanding = list(port.handle.file.irps.values())
    port.handle.close()
    waiting = [irp.user_request for irp in outstanding if not irp.user_request.done]
    assert not waiting, f"closed, and {waiting} have not ended"


def submit_read(port: Port, size: int, *allowed: NtStatus) -> None:
    """Submit a read that may come too late: then it is refused, and nothing is left of it."""
    request = Request(port.handle, f"read({size})", size)
    try:
        port.io.submit_read(request, size)
    except NtStatusError:
        return
    port.track(request, *allowed)


def submit_write(port: Port, data: bytes, *allowed: NtStatus) -> None:
    """The same for a write."""
    request = Request(port.handle, f"write of {len(data)} bytes")
    try:
        port.io.submit_write(request, data)
    except NtStatusError:
        return
    port.track(request, *allowed, wrote=data)


# -- close ---------------------------------------------------------------------------------------------------------------


@race
def close_against_completion_of_a_read() -> Race:
    port = Port()
    port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"abcd")
    return port.race({"close": lambda: close(port), "bytes": port.interrupt})


@race
def close_against_bytes_that_do_not_suffice() -> Race:
    port = Port()
    port.submit_read(4, STATUS_CANCELLED)
    port.feed(b"abc")
    return port.race({"close": lambda: close(port), "bytes": port.interrupt_if_asserted})


@race
def close_against_a_new_read() -> Race:
    port = Port()
    port.feed(b"abcd")
    port.interrupt()
    return port.race(
        {"close": lambda: close(port), "submit": lambda: submit_read(port, 4, STATUS_SUCCESS, STATUS_CANCELLED)}
    )


@race
def close_against_a_new_read_that_waits() -> Race:
    port = Port()
    return port.race({"close": lambda: close(port), "submit": lambda: submit_read(port, 4, STATUS_CANCELLED)})


@race
def close_against_a_whole_read() -> Race:
    port = Port()
    port.feed(b"abcd")
    port.interrupt()
    return port.race({"close": lambda: close(port), "app": lambda: port.read_now(4)})


@race
def close_against_the_total_timer() -> Race:
    port = Port()
    port.set_timeouts(total=20)
    port.submit_read(4, STATUS_CANCELLED, STATUS_TIMEOUT)
    return port.race({"close": lambda: close(port), "timer": port.expire_timers})


@race
def close_against_cancel() -> Race:
    port = Port()
    request = port.submit_read(4, STATUS_CANCELLED)
    return port.race({"close": lambda: close(port), "cancel": request.cancel})


@race
def close_against_close() -> Race:
    port = Port()
    port.submit_read(4, STATUS_CANCELLED)
    return port.race({"one": port.handle.close, "two": port.handle.close})


@race
def close_against_room_for_a_write() -> Race:
    port = Port(room=2)
    port.submit_write(b"abcd", STATUS_SUCCESS, STATUS_CANCELLED)
    port.machine_has_nothing_to_do()
    port.line.accept(2)
    return port.race({"close": lambda: close(port), "room": port.interrupt})


@race
def close_against_a_new_write() -> Race:
    port = Port(room=2)
    return port.race(
        {"close": lambda: close(port), "submit": lambda: submit_write(port, b"abcd", STATUS_SUCCESS, STATUS_CANCELLED)}
    )


@race
def close_against_a_whole_write() -> Race:
    port = Port(room=2)
    return port.race({"close": lambda: close(port), "app": lambda: port.write_now(b"abcd")})


@race
def bridge_close_against_a_whole_read() -> Race:
    port = Port()
    port.feed(b"ab")
    port.interrupt()
    return port.race({"close": port.bridge.close, "app": lambda: port.read_now(4)})


@race
def close_against_completion_and_cancel() -> Race:
    port = Port()
    request = port.submit_read(2, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"ab")
    return port.race({"close": lambda: close(port), "bytes": port.interrupt, "cancel": request.cancel})


@race
def close_and_another_writer_against_a_whole_write() -> Race:
    """Nothing of a handle that has been closed gets out when somebody else has the port."""
    port = Port()

    def close_and_open() -> None:
        close(port)
        with port.bridge.open("COM1", access="w") as other:
            port.write_now(b"EF", other)

    def order() -> None:
        assert bytes(port.line.sent) in (b"EF", b"abEF"), f"sent {bytes(port.line.sent)!r}"

    return port.race({"close": close_and_open, "app": lambda: port.write_now(b"ab")}, order)


@race
def close_against_opening() -> Race:
    """There is one writer: the other one comes too early, or is it."""
    port = Port()

    def other() -> None:
        try:
            port.bridge.open("COM1", access="w").close()
        except DeviceBusy:
            return

    return port.race({"close": lambda: close(port), "open": other})


@race
def opening_against_opening() -> Race:
    port = Port(access="r")
    opened: list[Handle] = []

    def writer() -> None:
        try:
            opened.append(port.bridge.open("COM1", access="w"))
        except DeviceBusy:
            return

    def one_did() -> None:
        [handle] = opened
        handle.close()

    return port.race({"one": writer, "two": writer}, one_did)


# -- the cable is pulled -------------------------------------------------------------------------------------------------


@race
def hang_up_against_a_waiting_read_and_its_last_bytes() -> Race:
    """What the device said before it went is delivered before the news that it went."""
    port = Port()
    port.submit_read(2, STATUS_SUCCESS)
    port.submit_read(4, STATUS_SUCCESS)
    port.submit_read(4, GONE)
    port.feed(b"ab")

    def pull() -> None:
        port.feed(b"c")
        port.line.unplug()
        port.interrupt()

    return port.race({"bytes": port.interrupt_if_asserted, "pull": pull})


@race
def hang_up_against_a_new_read() -> Race:
    port = Port()
    port.feed(b"ab")
    port.line.unplug()
    return port.race(
        {"pull": port.machine_has_nothing_to_do, "submit": lambda: submit_read(port, 4, STATUS_SUCCESS, GONE)}
    )


@race
def hang_up_against_a_whole_read() -> Race:
    port = Port()
    port.feed(b"ab")
    port.line.unplug()
    return port.race({"pull": port.machine_has_nothing_to_do, "app": lambda: port.read_now(4)})


@race
def hang_up_against_cancel() -> Race:
    port = Port()
    request = port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"ab")
    port.line.unplug()
    return port.race({"pull": port.machine_has_nothing_to_do, "cancel": request.cancel})


@race
def hang_up_against_the_total_timer() -> Race:
    port = Port()
    port.set_timeouts(total=20)
    port.submit_read(4, STATUS_SUCCESS, STATUS_TIMEOUT)
    port.feed(b"ab")
    port.line.unplug()
    return port.race({"pull": port.interrupt, "timer": port.expire_timers})


@race
def hang_up_against_a_new_write() -> Race:
    """The writer finds out first, or the reader does; both hear of it, and the reader after his bytes."""
    port = Port(room=2)
    port.submit_read(4, STATUS_SUCCESS)
    port.feed(b"ab")
    port.line.unplug()
    return port.race({"pull": port.machine_has_nothing_to_do, "submit": lambda: submit_write(port, b"abcd", GONE)})


@race
def hang_up_against_a_waiting_write_and_room() -> Race:
    port = Port(room=2)
    port.submit_write(b"abcd", STATUS_SUCCESS, GONE)
    port.machine_has_nothing_to_do()
    port.line.accept(2)

    def pull() -> None:
        port.line.unplug()
        port.interrupt()

    return port.race({"pull": pull, "room": port.interrupt_if_asserted})


@race
def hang_up_against_a_whole_write() -> Race:
    port = Port(room=2)

    def pull() -> None:
        port.line.unplug()
        port.machine_has_nothing_to_do()

    return port.race({"pull": pull, "app": lambda: port.write_now(b"abcd")})


@race
def hang_up_against_close() -> Race:
    port = Port()
    port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"ab")
    port.line.unplug()
    return port.race({"pull": port.machine_has_nothing_to_do, "close": lambda: close(port)})


# -- the device is taken out of the bridge -------------------------------------------------------------------------------


@race
def unplug_against_completion_of_a_read() -> Race:
    port = Port()
    port.submit_read(4, STATUS_SUCCESS, GONE)
    port.feed(b"abcd")
    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "bytes": port.interrupt_or_too_late})


@race
def unplug_against_a_new_read() -> Race:
    port = Port()
    port.feed(b"ab")
    port.interrupt()
    return port.race(
        {
            "unplug": lambda: port.bridge.unplug("COM1"),
            "submit": lambda: submit_read(port, 4, STATUS_SUCCESS, GONE),
        }
    )


@race
def unplug_against_cancel() -> Race:
    port = Port()
    request = port.submit_read(4, STATUS_CANCELLED, GONE)
    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "cancel": request.cancel})


@race
def unplug_against_the_total_timer() -> Race:
    port = Port()
    port.set_timeouts(total=20)
    port.submit_read(4, STATUS_TIMEOUT, GONE)
    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "timer": port.expire_timers})


@race
def unplug_against_room_for_a_write() -> Race:
    port = Port(room=2)
    port.submit_write(b"abcd", STATUS_SUCCESS, GONE)
    port.machine_has_nothing_to_do()
    port.line.accept(2)
    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "room": port.interrupt_or_too_late})


@race
def unplug_against_a_whole_write() -> Race:
    port = Port(room=2)
    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "app": lambda: port.write_now(b"abcd")})


@race
def unplug_against_control_requests() -> Race:
    port = Port()
    port.feed(b"ab")
    port.interrupt()

    def control() -> None:
        try:
            port.handle.dtr = True
            assert port.handle.in_waiting == 2
            port.handle.set(baudrate=9600)
        except DeviceGone:
            return

    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "control": control})


@race
def unplug_against_purge() -> Race:
    port = Port(room=2)
    port.submit_write(b"abcd", STATUS_CANCELLED, GONE)
    port.submit_read(4, STATUS_CANCELLED, GONE)
    port.machine_has_nothing_to_do()

    def purge() -> None:
        try:
            port.handle.purge()
        except DeviceGone:
            return

    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "purge": purge})


@race
def unplug_against_close() -> Race:
    port = Port()
    port.submit_read(4, STATUS_CANCELLED, GONE)
    return port.race({"unplug": lambda: port.bridge.unplug("COM1"), "close": lambda: close(port)})


@race
def unplug_against_hang_up() -> Race:
    port = Port()
    port.submit_read(4, STATUS_SUCCESS, GONE)
    port.feed(b"ab")
    port.line.unplug()

    def unplug() -> None:
        try:
            port.bridge.unplug("COM1")
        except HilbridgeError:
            return  # the machine was faster

    return port.race({"unplug": unplug, "pull": port.machine_has_nothing_to_do})
