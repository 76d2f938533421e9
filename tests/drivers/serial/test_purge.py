"""IOCTL_SERIAL_PURGE: four flags, each for itself and all together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from hilbridge import DeviceGone, DevicePermission, Request
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import IrpMajor
from hilbridge.model.ntddser import (
    SERIAL_PURGE_RXABORT,
    SERIAL_PURGE_RXCLEAR,
    SERIAL_PURGE_TXABORT,
    SERIAL_PURGE_TXCLEAR,
)
from hilbridge.model.status import STATUS_CANCELLED, STATUS_INVALID_PARAMETER, STATUS_SUCCESS
from hilbridge.virtual.line import VirtualLine
from tests.drivers.serial.serialkit import Port, end_of, numbered, waits

MakePort = Callable[..., Port]


class Busy:
    """A port with everything in it that can be purged."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.write = port.handle.submit_write(b"abcdef")
        self.second = port.handle.submit_write(b"gh")
        self.flush = Request(port.handle, "flush")
        port.bridge.io.submit_simple(self.flush, IrpMajor.FLUSH_BUFFERS)
        self.read = port.handle.submit_read(5)
        self.queued = port.handle.submit_read(5)
        port.line.unsent = 3
        port.feed(b"123")

    @property
    def reads_wait(self) -> bool:
        return waits(self.read, self.queued)

    @property
    def writes_wait(self) -> bool:
        return waits(self.write, self.second, self.flush)


@pytest.fixture
def busy(make_port: MakePort) -> Busy:
    return Busy(make_port(room=2))


def ends(*requests: Request) -> list[tuple[object, int]]:
    return [(r.status, r.information) for r in requests]


@pytest.mark.parametrize("mask", [0, 0x10, 0x80000000, 0x1F, 0xFFFFFFFF, 0x10 | SERIAL_PURGE_RXCLEAR])
def test_no_bits_and_undefined_bits_are_refused_and_purge_nothing(busy: Busy, mask: int) -> None:
    port = busy.port
    request = port.control(ser.IOCTL_SERIAL_PURGE, ser.pack_ulong(mask))
    assert request.status == STATUS_INVALID_PARAMETER
    assert busy.reads_wait
    assert busy.writes_wait
    assert port.comm_status().amount_in_in_queue == 3


def test_txabort_cancels_the_writes_with_what_they_have_sent(busy: Busy) -> None:
    port = busy.port
    port.purge(SERIAL_PURGE_TXABORT)
    assert ends(busy.write, busy.second, busy.flush) == [
        (STATUS_CANCELLED, 2),
        (STATUS_CANCELLED, 0),
        (STATUS_CANCELLED, 0),
    ]
    assert busy.reads_wait
    port.accept(10)
    assert bytes(port.line.sent) == b"ab"
    assert port.handle.write(b"xy") == 2
    assert bytes(port.line.sent) == b"abxy"


def test_rxabort_cancels_the_reads_and_leaves_their_bytes(busy: Busy) -> None:
    port = busy.port
    port.purge(SERIAL_PURGE_RXABORT)
    assert end_of(busy.read) == end_of(busy.queued) == (STATUS_CANCELLED, b"")
    assert busy.writes_wait
    assert port.handle.read(3) == b"123"


def test_txclear_empties_the_line_and_leaves_the_writes(busy: Busy) -> None:
    port = busy.port
    port.purge(SERIAL_PURGE_TXCLEAR)
    assert port.line.unsent == 0
    assert busy.reads_wait
    assert busy.writes_wait
    port.accept(10)
    assert ends(busy.write, busy.second) == [(STATUS_SUCCESS, 6), (STATUS_SUCCESS, 2)]


def test_rxclear_throws_the_bytes_away_and_leaves_the_reads(busy: Busy) -> None:
    port = busy.port
    port.purge(SERIAL_PURGE_RXCLEAR)
    assert busy.reads_wait
    assert busy.writes_wait
    assert port.comm_status().amount_in_in_queue == 0
    port.feed(b"45678")
    assert end_of(busy.read) == (STATUS_SUCCESS, b"45678")


def test_all_at_once(busy: Busy) -> None:
    port = busy.port
    port.handle.purge()
    assert ends(busy.write, busy.second, busy.flush) == [
        (STATUS_CANCELLED, 2),
        (STATUS_CANCELLED, 0),
        (STATUS_CANCELLED, 0),
    ]
    assert end_of(busy.read) == end_of(busy.queued) == (STATUS_CANCELLED, b"")
    assert port.comm_status() == ser.SerialStatus(0, 0, 0, 0)
    port.accept(10)
    port.feed(b"fresh")
    assert port.handle.write(b"x") == 1
    assert port.handle.read(5) == b"fresh"


@pytest.mark.parametrize("mask", range(1, 16))
def test_every_combination_leaves_a_port_that_works(busy: Busy, mask: int) -> None:
    port = busy.port
    port.purge(mask)
    assert busy.reads_wait == (not mask & SERIAL_PURGE_RXABORT)
    assert waits(busy.write, busy.second) == (not mask & SERIAL_PURGE_TXABORT)
    port.line.unsent = 0
    port.accept(100)
    port.feed(b"x" * 20)
    port.pass_time(200)
    assert all(r.done for r in (busy.write, busy.second, busy.flush, busy.read, busy.queued))
    port.handle.purge(tx=False)
    port.feed(b"after")
    assert port.handle.read(5) == b"after"
    assert port.handle.write(b"after") == 5
    assert port.bridge.pending() == []


def test_purge_of_an_idle_port_does_nothing(port: Port) -> None:
    port.handle.purge()
    port.handle.purge(rx=False)
    port.handle.purge(tx=False)
    port.handle.purge(rx=False, tx=False)


def test_rxclear_is_about_one_reader_only(port: Port) -> None:
    with port.open() as other:
        port.feed(b"abc")
        port.purge(SERIAL_PURGE_RXCLEAR)
        assert port.comm_status().amount_in_in_queue == 0
        assert other.read(3) == b"abc"


def test_rxabort_is_about_one_reader_only(port: Port) -> None:
    with port.open() as other:
        mine, theirs = port.handle.submit_read(3), other.submit_read(3)
        port.purge(SERIAL_PURGE_RXABORT)
        assert end_of(mine) == (STATUS_CANCELLED, b"")
        port.feed(b"abc")
        assert end_of(theirs) == (STATUS_SUCCESS, b"abc")


def test_who_only_writes_purges_no_readers_bytes(port: Port) -> None:
    port.handle.close()
    with port.open("w") as writer, port.open("r") as reader:
        port.feed(b"abc")
        port.purge(SERIAL_PURGE_RXCLEAR | SERIAL_PURGE_RXABORT, writer)
        assert reader.read(3) == b"abc"


def test_who_only_reads_aborts_no_writers_writes(make_port: MakePort) -> None:
    port = make_port(room=0)
    with port.open("r") as reader:
        write = port.handle.submit_write(b"abc")
        with contextlib.suppress(DevicePermission):
            port.purge(SERIAL_PURGE_TXABORT, reader)
        assert waits(write), "a reader has aborted the writer's write"
        port.accept(3)
        assert write.status == STATUS_SUCCESS


def test_rxclear_takes_what_no_interrupt_has_brought_yet(port: Port) -> None:
    port.line.feed(b"old")
    port.purge(SERIAL_PURGE_RXCLEAR)
    port.feed(b"new")
    assert port.handle.read_some() == b"new"


def test_rxclear_takes_what_back_pressure_has_left_in_the_line(port: Port) -> None:
    port.extension.log_size = 64
    for at in range(0, 200_000, 1000):
        port.feed(numbered(1000, at))
    assert port.line.untaken > 65536
    port.purge(SERIAL_PURGE_RXCLEAR)
    port.settle()
    assert port.handle.in_waiting == 0, "old bytes came after the purge"
    port.feed(b"new")
    assert port.handle.read_some() == b"new"


def test_rxclear_releases_back_pressure(port: Port) -> None:
    port.extension.log_size = 64
    for _ in range(30):
        port.feed(bytes(100))
    assert not port.extension.rx_on
    port.purge(SERIAL_PURGE_RXCLEAR)
    assert port.extension.rx_on


def test_rxclear_in_the_middle_of_a_line_forgets_its_beginning(port: Port) -> None:
    request = port.handle.submit_read(100, terminator=b"END")
    port.feed(b"garbage EN")
    port.purge(SERIAL_PURGE_RXCLEAR)
    port.feed(b"D")
    assert waits(request)
    port.feed(b" ok END")
    assert end_of(request) == (STATUS_SUCCESS, b"D ok END")


def test_rxclear_on_a_read_with_time_outs_that_has_bytes(port: Port) -> None:
    port.set_timeouts(0, 0, 100)
    request = port.handle.submit_read(5)
    port.feed(b"abc")
    port.purge(SERIAL_PURGE_RXCLEAR)
    port.feed(b"de")
    port.pass_time(100)
    assert request.data == b"de"


@pytest.mark.parametrize("mask", [SERIAL_PURGE_TXCLEAR, SERIAL_PURGE_TXABORT, 0xF])
def test_line_that_refuses_leaves_no_request_behind(make_port: MakePort, mask: int) -> None:
    """The line may have gone, and the driver not heard of it yet: each request ends all the same, and once."""

    class Going(VirtualLine):
        def discard(self, *, rx: bool = False, tx: bool = False) -> None:
            raise DeviceGone("virtual:going was unplugged")

    port = make_port(line=Going(room=2))
    busy = Busy(port)
    request = port.handle.submit_ioctl(ser.IOCTL_SERIAL_PURGE, ser.pack_ulong(mask))
    assert request.done
    port.unplug()
    for pended in (busy.write, busy.second, busy.flush, busy.read, busy.queued):
        assert pended.done, f"{pended!r} was forgotten"
    assert busy.write.information == 2
    assert port.bridge.pending() == []
