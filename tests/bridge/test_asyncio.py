"""Requests in asyncio: awaited, cancelled with their task, and never at the cost of a byte."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator

import pytest

from hilbridge import Bridge, DeviceGone, Handle, Request, RequestCancelled
from hilbridge.model.status import STATUS_CANCELLED
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.support import PATIENCE, Thread, wait


@pytest.fixture
def line() -> VirtualLine:
    return VirtualLine()


@pytest.fixture
def handle(line: VirtualLine) -> Iterator[Handle]:
    with Bridge() as bridge, bridge.open(bridge.plug(line)) as handle:
        yield handle


async def read(handle: Handle, n: int) -> bytes:
    return await handle.submit_read(n)


async def turn() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


# -- awaiting ----------------------------------------------------------------------------------------------------------


def test_await_a_read_that_is_done(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        line.feed(b"abc")
        request = handle.submit_read(3)
        assert request.wait(PATIENCE)
        assert await request == b"abc"
        assert await request == b"abc"

    asyncio.run(main())


def test_await_a_read_that_waits(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        task = asyncio.create_task(read(handle, 3))
        await turn()
        assert not task.done()
        line.feed(b"abc")
        assert await asyncio.wait_for(task, PATIENCE) == b"abc"

    asyncio.run(main())


def test_await_a_write_and_a_control(handle: Handle) -> None:
    async def main() -> None:
        write = handle.submit_write(b"abc")
        assert await write == b""
        assert write.information == 3
        assert await handle.submit_ioctl(0x001B0050, size=4) == (115200).to_bytes(4, "little")

    asyncio.run(main())


def test_many_tasks_on_one_loop(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(read(handle, 2)) for _ in range(100)]
        await turn()
        line.feed(b"".join(n.to_bytes(2, "big") for n in range(100)))
        heard = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        assert heard == [n.to_bytes(2, "big") for n in range(100)]

    asyncio.run(main())


def test_one_request_awaited_by_several_tasks(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        request = handle.submit_read(3)

        async def both() -> bytes:
            return await request

        tasks = [asyncio.create_task(both()) for _ in range(3)]
        await turn()
        line.feed(b"abc")
        assert await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE) == [b"abc"] * 3

    asyncio.run(main())


def test_loop_is_not_held_up_by_a_read_that_waits(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        task = asyncio.create_task(read(handle, 1))
        ticks = 0
        for _ in range(100):
            await asyncio.sleep(0)
            ticks += 1
        assert ticks == 100
        line.feed(b"x")
        assert await asyncio.wait_for(task, PATIENCE) == b"x"

    asyncio.run(main())


def test_errors_arrive_as_exceptions(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        task = asyncio.create_task(read(handle, 3))
        await turn()
        handle.cancel_io()
        with pytest.raises(RequestCancelled):
            await asyncio.wait_for(task, PATIENCE)
        task = asyncio.create_task(read(handle, 3))
        await turn()
        line.unplug()
        with pytest.raises(DeviceGone):
            await asyncio.wait_for(task, PATIENCE)

    asyncio.run(main())


def test_on_a_pty() -> None:
    async def main() -> None:
        pty = Pty()
        with Bridge() as bridge, bridge.open(bridge.plug(pty.path)) as handle:
            task = asyncio.create_task(read(handle, 3))
            await turn()
            assert await handle.submit_write(b"abc") == b""
            os.write(pty.board, pty.hear(3))
            assert await asyncio.wait_for(task, PATIENCE) == b"abc"
        pty.close()

    asyncio.run(main())


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_cancelled_task_cancels_its_irp_and_awaits_its_end(handle: Handle) -> None:
    async def main() -> None:
        requests: list[Request] = []

        async def waits() -> None:
            requests.append(handle.submit_read(3))
            await requests[0]

        task = asyncio.create_task(waits())
        await turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert requests[0].status == STATUS_CANCELLED
        assert handle.bridge.pending() == []

    asyncio.run(main())


def test_cancelled_task_leaves_the_bytes_that_had_come(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        line.feed(b"abc")
        task = asyncio.create_task(read(handle, 5))
        await turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        line.feed(b"de")
        assert await handle.submit_read(5) == b"abcde"

    asyncio.run(main())


def test_wait_for_loses_no_byte(line: VirtualLine, handle: Handle) -> None:
    """The commonest way to cancel: a time-out of asyncio's own, here against bytes that come at any moment."""
    said = bytes(range(1, 251))

    async def main() -> None:
        def talk() -> None:
            for byte in said:
                line.feed(bytes([byte]))

        talker = Thread(talk)
        heard = b""
        while len(heard) < len(said):
            try:
                heard += await asyncio.wait_for(read(handle, 1), 0.0005)
            except TimeoutError:
                continue
        talker.finish()
        assert heard == said

    asyncio.run(main())


class Blocked:
    """The bridge's callback thread is held up: what has ended is known to the driver, and not yet to the loop."""

    def __init__(self, handle: Handle) -> None:
        self._held, self._go_on = threading.Event(), threading.Event()
        request = handle.submit_read(0)

        def hold() -> None:
            self._held.set()
            wait(self._go_on)

        request.add_done_callback(hold)
        wait(self._held)

    def go_on(self) -> None:
        self._go_on.set()


def ended(request: Request) -> None:
    assert request.wait(PATIENCE)


def test_task_that_is_cancelled_when_its_read_has_just_ended_gives_the_bytes_back(
    line: VirtualLine, handle: Handle
) -> None:
    async def main() -> None:
        blocked = Blocked(handle)
        request = handle.submit_read(3)

        async def waits() -> bytes:
            return await request

        task = asyncio.create_task(waits())
        await turn()
        line.feed(b"abc")
        ended(request)
        task.cancel()
        await turn()
        blocked.go_on()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert handle.read(3) == b"abc"

    asyncio.run(main())


def test_task_that_is_cancelled_twice_gives_the_bytes_back(line: VirtualLine, handle: Handle) -> None:
    """asyncio.run() does that on Ctrl-C, and so does every wait_for() inside a task that is cancelled."""

    async def main() -> None:
        blocked = Blocked(handle)
        request = handle.submit_read(3)

        async def waits() -> bytes:
            return await request

        task = asyncio.create_task(waits())
        await turn()
        line.feed(b"abc")
        ended(request)
        for _ in range(2):
            task.cancel()
            await turn()
        blocked.go_on()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert handle.read(3) == b"abc"

    asyncio.run(main())


def test_task_that_is_cancelled_with_the_end_on_its_way_to_it(line: VirtualLine, handle: Handle) -> None:
    """The loop knows that the read has ended, and has not run the task yet."""

    async def main() -> None:
        request = handle.submit_read(3)

        async def waits() -> bytes:
            return await request

        task = asyncio.create_task(waits())
        await turn()
        told = threading.Event()
        request.add_done_callback(told.set)  # runs behind the one that tells the loop
        line.feed(b"abc")
        wait(told)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert handle.read(3) == b"abc"

    asyncio.run(main())


def test_bytes_of_a_cancelled_task_go_to_the_task_that_waits(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        blocked = Blocked(handle)
        request = handle.submit_read(3)

        async def waits() -> bytes:
            return await request

        task, other = asyncio.create_task(waits()), asyncio.create_task(read(handle, 5))
        await turn()
        line.feed(b"abc")
        ended(request)
        task.cancel()
        await turn()
        line.feed(b"de")
        blocked.go_on()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert await asyncio.wait_for(other, PATIENCE) == b"abcde"

    asyncio.run(main())


def test_many_tasks_that_are_cancelled_at_random_lose_and_double_no_byte(
    line: VirtualLine, handle: Handle, seed: int
) -> None:
    """Four tasks read one byte each; every now and then one is cancelled, at whatever point it may be."""
    said = bytes(range(1, 251)) * 4
    heard: list[int] = []
    dice = random.Random(seed)

    async def reader() -> None:
        while True:
            heard.extend(await handle.submit_read(1))

    async def main() -> None:
        def talk() -> None:
            for at in range(0, len(said), 3):
                line.feed(said[at : at + 3])

        tasks = [asyncio.create_task(reader()) for _ in range(4)]
        talker = Thread(talk)
        while len(heard) < len(said):
            await asyncio.sleep(0)
            victim = dice.randrange(4)
            if dice.random() < 0.2:
                tasks[victim].cancel()
            if tasks[victim].done():
                tasks[victim] = asyncio.create_task(reader())
        talker.finish()
        for task in tasks:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)

    asyncio.run(asyncio.wait_for(main(), PATIENCE * 3))
    assert sorted(heard) == sorted(said)


def test_bytes_come_back_although_the_device_has_gone(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        blocked = Blocked(handle)
        request = handle.submit_read(3)

        async def waits() -> bytes:
            return await request

        task = asyncio.create_task(waits())
        await turn()
        line.feed(b"abc")
        ended(request)
        handle.bridge.unplug("COM1")
        task.cancel()
        await turn()
        blocked.go_on()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        assert handle.read(3) == b"abc"

    asyncio.run(main())


def test_loop_that_is_closed_before_the_end(line: VirtualLine, handle: Handle) -> None:
    """Nobody listens any more: nothing is raised anywhere, and the request still belongs to its handle."""
    requests: list[Request] = []

    async def main() -> None:
        requests.append(handle.submit_read(3))
        iterator = requests[0].__await__()
        next(iterator)  # waits, on a future of this loop
        iterator.close()

    asyncio.run(main())
    line.feed(b"abc")
    ended(requests[0])
    heard = requests[0].data or handle.read(3)
    assert heard == b"abc"
    assert handle.bridge.faults == []


# -- what a task leaves behind -----------------------------------------------------------------------------------------


def test_a_tasks_end_cancels_what_it_has_submitted_and_nobody_awaits(handle: Handle) -> None:
    async def leaves_behind() -> Request:
        return handle.submit_read(3)

    async def main() -> None:
        mine = handle.submit_read(3)
        theirs = await asyncio.create_task(leaves_behind())
        await turn()
        assert theirs.wait(PATIENCE) and theirs.status == STATUS_CANCELLED
        assert not mine.done
        mine.cancel()

    asyncio.run(main())


def test_what_another_task_awaits_outlives_the_task_that_has_submitted_it(line: VirtualLine, handle: Handle) -> None:
    async def submits(requests: list[Request], taken: asyncio.Event) -> None:
        requests.append(handle.submit_read(3))
        await taken.wait()

    async def awaits(request: Request) -> bytes:
        return await request

    async def main() -> None:
        requests: list[Request] = []
        taken = asyncio.Event()
        submitter = asyncio.create_task(submits(requests, taken))
        await turn()
        reader = asyncio.create_task(awaits(requests[0]))
        await turn()
        taken.set()
        await submitter
        await turn()
        assert not requests[0].done
        line.feed(b"abc")
        assert await reader == b"abc"

    asyncio.run(main())


def test_the_end_of_the_loop_ends_what_its_main_task_has_left(handle: Handle) -> None:
    async def main() -> Request:
        return handle.submit_read(1)

    request = asyncio.run(main())
    assert request.wait(PATIENCE) and request.status == STATUS_CANCELLED


def test_a_task_that_goes_on_for_ever_does_not_collect_requests(line: VirtualLine, handle: Handle) -> None:
    async def main() -> None:
        for _ in range(50):
            request = handle.submit_read(1)
            line.feed(b"x")
            assert await request == b"x"
        task = asyncio.current_task()
        assert task is not None
        assert len(handle._tasks._waiting[task]) <= 1

    asyncio.run(main())


def test_without_a_loop_nobody_is_watched(handle: Handle) -> None:
    request = handle.submit_read(1)
    assert not handle._tasks._waiting
    request.cancel()
