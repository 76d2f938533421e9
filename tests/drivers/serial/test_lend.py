"""A real port is lent: another program opens it meanwhile, and what waits goes on when it is given back."""

from __future__ import annotations

import asyncio
import os
import termios
import threading
from collections.abc import Iterator

import pytest

from hilbridge import Bridge, DeviceTimeout, RequestCancelled
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_SUCCESS
from tests.drivers.serial.serialkit import numbered
from tests.hal.halkit import Pty, collect
from tests.support import PATIENCE, Thread, wait


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


@pytest.fixture(params=[True, False], ids=["steering", "not steering"])
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    with Bridge(steering=request.param) as bridge:
        yield bridge
        assert bridge.faults == []


def speed(pty: Pty) -> int:
    """What the kernel has the port at."""
    return int(termios.tcgetattr(pty.keeper)[5])


def lend(bridge: Bridge, pty: Pty) -> None:
    """Stop it, look whether somebody else can have it, and start it again."""
    bridge.stop("DUT")
    other = pty.open()  # locked by nobody
    other.close()
    bridge.start("DUT")


def test_a_megabyte_in_each_direction_across_several_stops(bridge: Bridge, pty: Pty) -> None:
    bridge.plug(pty.path, name="DUT")
    data = numbered(1 << 20)
    os.set_blocking(pty.board, True)
    heard: list[bytes] = []
    enough, more = threading.Event(), threading.Event()

    def listen() -> None:
        got = 0
        while got < len(data):
            heard.append(os.read(pty.board, 65536))
            got += len(heard[-1])
            (enough if got > len(data) // 3 else more).set()

    def say() -> None:
        sent = 0
        while sent < len(data):
            sent += os.write(pty.board, data[sent : sent + 4096])

    with bridge.open("DUT") as handle:
        write, read = handle.submit_write(data), handle.submit_read(len(data))
        threads = [Thread(listen), Thread(say)]
        wait(more)
        lend(bridge, pty)
        wait(enough)
        for _ in range(3):
            lend(bridge, pty)
        assert read.result(PATIENCE) == data
        write.result(PATIENCE)
        assert (write.status, write.information) == (STATUS_SUCCESS, len(data))
        for thread in threads:
            thread.finish()
        assert b"".join(heard) == data


def test_a_thread_that_waits_for_a_line_waits_on_through_the_stop(bridge: Bridge, pty: Pty) -> None:
    """It may be the one that serves the interrupt, and has to let go of the descriptor."""
    bridge.plug(pty.path, name="DUT")
    with bridge.open("DUT") as handle:
        reader = Thread(lambda: handle.read_until(b"=> ", timeout=PATIENCE))
        os.write(pty.board, b"U-Boot =")
        lend(bridge, pty)
        os.write(pty.board, b"> and more")
        assert reader.finish() == b"U-Boot => "
        assert handle.read(8) == b"and more"


def test_a_deadline_holds_while_it_is_lent(bridge: Bridge, pty: Pty) -> None:
    bridge.plug(pty.path, name="DUT")
    with bridge.open("DUT") as handle:
        bridge.stop("DUT")
        for call in (lambda: handle.read(1, timeout=0.02), lambda: handle.write(b"x", timeout=0.02)):
            with pytest.raises(DeviceTimeout):
                call()
        bridge.start("DUT")
        handle.write(b"y")
        assert pty.hear(1) == b"y"


def test_what_was_set_before_and_meanwhile_is_set_afterwards(bridge: Bridge, pty: Pty) -> None:
    bridge.plug(pty.path, name="DUT")
    with bridge.open("DUT") as handle:
        handle.ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600))
        bridge.stop("DUT")
        change = handle.submit_ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(19200))
        assert speed(pty) == termios.B9600
        other = pty.open()
        assert speed(pty) == termios.B115200
        other.close()
        bridge.start("DUT")
        change.result(PATIENCE)
        assert speed(pty) == termios.B19200


def test_tasks_wait_on_and_one_that_is_cancelled_takes_nothing_along(bridge: Bridge, pty: Pty) -> None:
    bridge.plug(pty.path, name="DUT")

    async def talk() -> bytes:
        handle = bridge.open("DUT")
        read = handle.submit_read(5)
        bridge.stop("DUT")
        cancelled = asyncio.ensure_future(_until(handle.submit_write(b"never")))
        write = handle.submit_write(b"hello")
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises((asyncio.CancelledError, RequestCancelled)):
            await cancelled
        bridge.start("DUT")
        await write
        os.write(pty.board, b"reply")
        answer: bytes = await read
        handle.close()
        return answer

    assert asyncio.run(asyncio.wait_for(talk(), PATIENCE)) == b"reply"
    assert collect(pty.board, lambda n: os.read(pty.board, n), 5) == b"hello"


async def _until(request: object) -> object:
    return await request  # type: ignore[misc]
