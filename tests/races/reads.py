"""Races about reads: each has an end that comes from the device, and one that comes from somewhere else."""

from __future__ import annotations

from hilbridge.bridge.request import Request
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceTimeout
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS, STATUS_TIMEOUT
from hilbridge.testing.interleave import Race
from tests.races.racekit import Port, race


@race
def cancel_against_completion() -> Race:
    port = Port()
    request = port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"abcd")
    return port.race({"cancel": request.cancel, "bytes": port.interrupt})


@race
def cancel_against_bytes_that_do_not_suffice() -> Race:
    port = Port()
    request = port.submit_read(4, STATUS_CANCELLED)
    port.feed(b"abc")
    return port.race({"cancel": request.cancel, "bytes": port.interrupt})


@race
def cancel_against_completion_with_another_read_behind() -> Race:
    port = Port()
    first = port.submit_read(2, STATUS_SUCCESS, STATUS_CANCELLED)
    second = port.submit_read(2, STATUS_SUCCESS)
    port.feed(b"abcd")
    return port.race({"cancel": first.cancel, "bytes": port.interrupt}, lambda: port.machine_has_ended(second))


@race
def cancel_against_cancel() -> Race:
    port = Port()
    request = port.submit_read(4, STATUS_CANCELLED)
    port.feed(b"ab")
    asked: list[bool] = []

    def cancel() -> None:
        asked.append(request.cancel())

    def once() -> None:
        assert asked.count(True) == 1, f"{asked.count(True)} of two cancels found a cancel routine"

    return port.race({"one": cancel, "two": cancel}, once)


@race
def cancel_against_insertion() -> Race:
    port = Port()
    request = port.track(Request(port.handle, "read(4)", 4), STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"abcd")
    return port.race(
        {
            "submit": lambda: port.io.submit_read(request, 4),
            "cancel": request.cancel,
        },
        port.interrupt_if_asserted,
    )


@race
def cancel_io_against_insertion() -> Race:
    port = Port()
    request = port.track(Request(port.handle, "read(4)", 4), STATUS_SUCCESS, STATUS_CANCELLED)
    return port.race(
        {"submit": lambda: port.io.submit_read(request, 4), "cancel": port.handle.cancel_io},
        lambda: port.feed(b"abcd"),
        port.interrupt_if_asserted,
    )


@race
def cancel_io_against_completion() -> Race:
    port = Port()
    port.submit_read(2, STATUS_SUCCESS, STATUS_CANCELLED)
    port.submit_read(2, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"abcd")
    return port.race({"cancel": port.handle.cancel_io, "bytes": port.interrupt})


@race
def insertion_against_bytes() -> Race:
    port = Port()
    request = port.track(Request(port.handle, "read(4)", 4), STATUS_SUCCESS)

    def bytes_come() -> None:
        port.feed(b"abcd")
        port.interrupt()

    # No more bytes come: if the read is inserted just after the look at the log, nothing but this order ends it.
    return port.race(
        {"submit": lambda: port.io.submit_read(request, 4), "bytes": bytes_come},
        lambda: port.machine_has_ended(request),
    )


@race
def insertion_of_two_reads_against_bytes() -> Race:
    port = Port()

    def submit() -> None:
        port.submit_read(2, STATUS_SUCCESS)
        port.submit_read(2, STATUS_SUCCESS)

    def bytes_come() -> None:
        for data in (b"ab", b"cd"):
            port.feed(data)
            port.interrupt()

    return port.race({"submit": submit, "bytes": bytes_come})


@race
def time_out_against_completion() -> Race:
    port = Port()

    def bytes_come() -> None:
        port.feed(b"abcd")
        port.interrupt()

    return port.race({"app": lambda: port.read_now(4, timeout=0.01), "bytes": bytes_come})


@race
def time_out_against_completion_by_the_fast_path() -> Race:
    port = Port()
    port.feed(b"ab")
    port.interrupt()

    def bytes_come() -> None:
        port.feed(b"cd")
        port.interrupt()

    def app() -> None:
        port.read_now(2, timeout=0.01)
        port.read_now(2, timeout=0.01)

    return port.race({"app": app, "bytes": bytes_come})


@race
def total_timer_against_completion() -> Race:
    port = Port()
    port.set_timeouts(total=20)
    port.submit_read(4, STATUS_SUCCESS, STATUS_TIMEOUT)
    port.feed(b"abcd")
    return port.race({"timer": port.expire_timers, "bytes": port.interrupt})


@race
def total_timer_against_bytes_that_do_not_suffice() -> Race:
    port = Port()
    port.set_timeouts(total=20)
    port.submit_read(4, STATUS_TIMEOUT)
    port.feed(b"abc")
    return port.race({"timer": port.expire_timers, "bytes": port.interrupt})


@race
def total_timer_against_cancel() -> Race:
    port = Port()
    port.set_timeouts(total=20)
    request = port.submit_read(4, STATUS_TIMEOUT, STATUS_CANCELLED)
    port.feed(b"abc")
    port.interrupt()
    return port.race({"timer": port.expire_timers, "cancel": request.cancel})


@race
def total_timer_against_completion_with_another_read_behind() -> Race:
    """The timer of the first read must not end the second, which has just been started and has a timer of its own."""
    port = Port()
    port.set_timeouts(total=20)
    port.submit_read(2, STATUS_SUCCESS, STATUS_TIMEOUT)
    second = port.submit_read(4, STATUS_SUCCESS)
    port.feed(b"ab")

    def rest() -> None:
        port.feed(b"cdef")
        port.interrupt_if_asserted()
        port.machine_has_ended(second)

    return port.race({"timer": port.expire_timers, "bytes": port.interrupt}, rest)


@race
def time_out_against_the_total_timer() -> Race:
    """The caller's deadline and the driver's time-out at once: what the driver took for the read is not lost."""
    port = Port()
    port.set_timeouts(total=20)
    port.feed(b"ab")
    return port.race({"app": lambda: port.read_now(4, timeout=0.02), "timer": port.bytes_then_timers})


@race
def time_out_against_a_line_in_two_pieces() -> Race:
    port = Port()
    port.feed(b"ab\r")

    def bytes_come() -> None:
        port.interrupt()
        port.feed(b"\ncd")
        port.interrupt_if_asserted()

    def app() -> None:
        try:
            port.reads[port.handle].append(port.handle.read_until(b"\r\n", timeout=0.01))
        except DeviceTimeout:
            return

    return port.race({"app": app, "bytes": bytes_come})


@race
def three_at_once() -> Race:
    """Bytes, a cancellation and the total timer for one read."""
    port = Port()
    port.set_timeouts(total=20)
    request = port.submit_read(2, STATUS_SUCCESS, STATUS_TIMEOUT, STATUS_CANCELLED)
    port.feed(b"ab")
    return port.race({"bytes": port.interrupt, "cancel": request.cancel, "timer": port.expire_timers})


@race
def interval_timer_against_bytes() -> Race:
    port = Port()
    port.set_timeouts(interval=10)
    port.submit_read(4, STATUS_SUCCESS, STATUS_TIMEOUT)
    port.feed(b"ab")
    port.interrupt()
    port.feed(b"cd")
    return port.race({"timer": port.expire_timers, "bytes": port.interrupt})


@race
def interval_timer_against_cancel() -> Race:
    port = Port()
    port.set_timeouts(interval=10, total=100)
    request = port.submit_read(4, STATUS_CANCELLED, STATUS_TIMEOUT)
    port.feed(b"ab")
    port.interrupt()
    return port.race({"timer": port.expire_timers, "cancel": request.cancel})


@race
def two_readers_against_bytes() -> Race:
    port = Port(access=("rw", "r"))
    one, two = port.handles
    port.submit_read(4, STATUS_SUCCESS, handle=one)
    request = port.track(Request(two, "read(4)", 4), STATUS_SUCCESS)
    port.feed(b"abcd")
    return port.race(
        {"submit": lambda: port.io.submit_read(request, 4), "bytes": port.interrupt},
        lambda: port.machine_has_ended(request),
    )


@race
def two_readers_fast_and_slow() -> Race:
    port = Port(access=("rw", "r"))
    one, two = port.handles
    port.feed(b"abcd")
    port.interrupt()
    port.submit_read(6, STATUS_SUCCESS, handle=two)
    port.feed(b"ef")

    def app() -> None:
        port.read_now(4, one)
        port.read_now(2, one)

    return port.race({"app": app, "bytes": port.interrupt})


@race
def purge_against_completion() -> Race:
    """What is purged is gone; what is not purged is whole: here only the waiting read goes, and no byte."""
    port = Port()
    port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"abcd")
    mask = ser.pack_ulong(ser.SERIAL_PURGE_RXABORT)
    return port.race({"purge": lambda: port.handle.ioctl(ser.IOCTL_SERIAL_PURGE, mask), "bytes": port.interrupt})


@race
def purge_of_bytes_against_completion() -> Race:
    port = Port()
    request = port.submit_read(2, STATUS_SUCCESS, STATUS_CANCELLED)
    port.feed(b"ab")

    def check() -> None:
        # Either the read was faster and has both bytes, or they are gone, whole.
        assert request.data in (b"", b"ab")
        port.fed = request.data

    return port.race({"purge": port.handle.purge, "bytes": port.interrupt_if_asserted}, check)


@race
def purge_against_insertion() -> Race:
    port = Port()
    port.submit_read(8, STATUS_CANCELLED)
    port.feed(b"abcd")
    port.interrupt()
    request = port.track(Request(port.handle, "read(4)", 4), STATUS_SUCCESS, STATUS_CANCELLED)
    mask = ser.pack_ulong(ser.SERIAL_PURGE_RXABORT)
    return port.race(
        {
            "purge": lambda: port.handle.ioctl(ser.IOCTL_SERIAL_PURGE, mask),
            "submit": lambda: port.io.submit_read(request, 4),
        }
    )


@race
def giving_back_against_bytes() -> Race:
    port = Port()
    port.feed(b"ab")
    port.interrupt()
    assert port.handle.read(2) == b"ab"
    port.feed(b"cd")
    return port.race({"unread": lambda: port.handle.give_back(b"ab"), "bytes": port.interrupt})


@race
def closing_one_reader_against_bytes_for_the_other() -> Race:
    port = Port(access=("rw", "r"))
    one, two = port.handles
    port.submit_read(4, STATUS_SUCCESS, handle=one)
    port.submit_read(4, STATUS_SUCCESS, STATUS_CANCELLED, handle=two)
    port.feed(b"abcd")
    port.independent.add(two)
    return port.race({"close": two.close, "bytes": port.interrupt})
