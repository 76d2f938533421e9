"""Races about writes: what a write reports is what the line has accepted, however it ends."""

from __future__ import annotations

from hilbridge.bridge.request import Request
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import IrpMajor
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS, STATUS_TIMEOUT, NtStatus
from hilbridge.testing.interleave import Race
from tests.races.racekit import Port, race


def _half_sent(*allowed: NtStatus, port: Port | None = None) -> tuple[Port, Request]:
    """A write of four bytes of which the line has accepted two, and room that has just been made for two more."""
    port = port or Port(room=2)
    request = port.submit_write(b"abcd", *allowed)
    port.machine_has_nothing_to_do()
    port.line.accept(2)
    return port, request


@race
def cancel_against_room() -> Race:
    port, request = _half_sent(STATUS_SUCCESS, STATUS_CANCELLED)
    return port.race({"cancel": request.cancel, "room": port.interrupt})


@race
def cancel_against_room_for_a_part() -> Race:
    port = Port(room=2)
    request = port.submit_write(b"abcdef", STATUS_CANCELLED)
    port.machine_has_nothing_to_do()
    port.line.accept(2)
    return port.race({"cancel": request.cancel, "room": port.interrupt_if_asserted})


@race
def cancel_against_room_with_another_write_behind() -> Race:
    port = Port(room=2)
    first = port.submit_write(b"abcd", STATUS_SUCCESS, STATUS_CANCELLED)
    second = port.submit_write(b"EF", STATUS_SUCCESS)
    port.machine_has_nothing_to_do()
    port.line.accept(100)
    return port.race({"cancel": first.cancel, "room": port.interrupt}, lambda: port.machine_has_ended(second))


@race
def cancel_of_a_write_against_insertion() -> Race:
    port = Port(room=2)
    request = port.track(Request(port.handle, "write of 4 bytes"), STATUS_SUCCESS, STATUS_CANCELLED, wrote=b"abcd")
    return port.race(
        {"submit": lambda: port.io.submit_write(request, b"abcd"), "cancel": request.cancel},
        lambda: port.line.accept(100),
        port.machine_has_nothing_to_do,
    )


@race
def insertion_of_a_write_against_room() -> Race:
    """The write finds no room; the room comes while it is being queued. Nothing else happens afterwards."""
    port = Port(room=1)
    request = port.track(Request(port.handle, "write of 4 bytes"), STATUS_SUCCESS, wrote=b"abcd")

    def room() -> None:
        port.line.accept(100)
        port.interrupt_if_asserted()

    return port.race(
        {"submit": lambda: port.io.submit_write(request, b"abcd"), "room": room},
        lambda: port.machine_has_ended(request),
    )


@race
def fast_write_against_room() -> Race:
    port = Port(room=1)

    def room() -> None:
        port.line.accept(100)
        port.interrupt_if_asserted()

    return port.race({"app": lambda: port.write_now(b"abcd"), "room": room})


@race
def time_out_of_a_write_against_room() -> Race:
    port = Port(room=1)

    def room() -> None:
        port.line.accept(2)
        port.interrupt_if_asserted()

    return port.race({"app": lambda: port.write_now(b"abcd", timeout=0.01), "room": room})


@race
def write_total_timer_against_room() -> Race:
    port = Port(room=2)
    port.set_timeouts(write_total=20)
    _half_sent(STATUS_SUCCESS, STATUS_TIMEOUT, port=port)
    return port.race({"timer": port.expire_timers, "room": port.interrupt})


@race
def write_total_timer_against_room_with_another_write_behind() -> Race:
    """The timer of the first write must not end the second, whose own time has only just begun."""
    port = Port(room=2)
    port.set_timeouts(write_total=20)
    port.submit_write(b"abcd", STATUS_SUCCESS, STATUS_TIMEOUT)
    second = port.submit_write(b"EFGH", STATUS_SUCCESS)
    port.machine_has_nothing_to_do()
    port.line.accept(4)

    def rest() -> None:
        port.line.accept(100)
        port.machine_has_ended(second)

    return port.race({"timer": port.expire_timers, "room": port.interrupt}, rest)


@race
def write_total_timer_against_cancel() -> Race:
    port = Port(room=2)
    port.set_timeouts(write_total=20)
    request = port.submit_write(b"abcd", STATUS_TIMEOUT, STATUS_CANCELLED)
    port.machine_has_nothing_to_do()
    return port.race({"timer": port.expire_timers, "cancel": request.cancel})


@race
def purge_against_room() -> Race:
    port, _ = _half_sent(STATUS_SUCCESS, STATUS_CANCELLED)
    return port.race({"purge": lambda: port.handle.purge(rx=False), "room": port.interrupt})


@race
def purge_against_another_write() -> Race:
    port = Port(room=2)
    port.submit_write(b"abcd", STATUS_CANCELLED)
    port.machine_has_nothing_to_do()
    second = port.track(Request(port.handle, "write of 2 bytes"), STATUS_SUCCESS, STATUS_CANCELLED, wrote=b"EF")
    return port.race(
        {"purge": lambda: port.handle.purge(rx=False), "submit": lambda: port.io.submit_write(second, b"EF")},
        lambda: port.line.accept(100),
        lambda: port.machine_has_ended(second),
    )


@race
def two_writers_of_one_handle() -> Race:
    """Neither write is torn by the other, on the fast path or off it."""
    port = Port(room=3)

    def room() -> None:
        port.line.accept(100)
        port.machine_has_nothing_to_do()

    return port.race(
        {
            "one": lambda: port.submit_write(b"abcd", STATUS_SUCCESS),
            "two": lambda: port.submit_write(b"EFGH", STATUS_SUCCESS),
        },
        room,
    )


@race
def two_fast_writers_of_one_handle() -> Race:
    port = Port(room=3)

    def other() -> None:
        port.line.accept(100)
        port.write_now(b"EFGH")

    return port.race({"one": lambda: port.write_now(b"abcd"), "two": other})


@race
def flush_against_room() -> Race:
    port = Port(room=2)
    first = port.submit_write(b"abcd", STATUS_SUCCESS)
    port.machine_has_nothing_to_do()
    port.line.accept(2)
    request = port.track(Request(port.handle, "flush"), STATUS_SUCCESS)

    def ended_in_order() -> None:
        port.machine_has_ended(first)
        port.machine_has_ended(request)

    return port.race(
        {"flush": lambda: port.io.submit_simple(request, IrpMajor.FLUSH_BUFFERS), "room": port.interrupt},
        ended_in_order,
    )


@race
def flush_timer_against_cancel() -> Race:
    port = Port()
    port.line.unsent = 100
    request = port.track(Request(port.handle, "flush"), STATUS_SUCCESS, STATUS_CANCELLED)
    port.io.submit_simple(request, IrpMajor.FLUSH_BUFFERS)
    port.line.unsent = 0
    return port.race({"timer": port.expire_timers, "cancel": request.cancel})


@race
def baud_rate_behind_a_write_against_cancel() -> Race:
    """A setting does not overtake data, and is carried out or not, but not both."""
    port = Port(room=2)
    port.submit_write(b"abcd", STATUS_SUCCESS)
    port.machine_has_nothing_to_do()
    request = port.track(Request(port.handle, "set"), STATUS_SUCCESS, STATUS_CANCELLED)
    port.io.submit_ioctl(request, ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600))
    port.line.accept(2)
    return port.race({"cancel": request.cancel, "room": port.interrupt})
