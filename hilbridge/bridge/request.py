"""Requests as an application holds them: submitted, waited for, cancelled, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from hilbridge.bridge.arguments import nanoseconds
from hilbridge.iomgr.request import CANCEL_GRACE, IoRequest
from hilbridge.model.errors import DeviceTimeout
from hilbridge.model.status import STATUS_TIMEOUT

if TYPE_CHECKING:
    from hilbridge.bridge.handle import Handle

DEFAULT_TIMEOUT = 5.0


class Request(IoRequest):
    """A request that is under way. It ends exactly once; then ``status``, ``information`` and ``data`` stand."""

    __slots__ = ("_awaited", "handle", "what")

    def __init__(self, handle: Handle, what: str, capacity: int = 0) -> None:
        super().__init__(handle.io, handle.file, capacity)
        self.handle = handle
        self.what = what
        self._awaited = False
        """Some task has begun to await it, and sees to its end."""

    def __repr__(self) -> str:
        return f"<{self.what} on {self.handle.name}: {self.status.name}>"

    def wait(self, timeout: float | None = DEFAULT_TIMEOUT) -> bool:
        """Wait until it has ended; False when `timeout` seconds passed first. The request goes on: `cancel` ends it."""
        limit = nanoseconds(timeout)
        if self.done:
            return True
        if self.io.closed is not None:
            raise self.io.closed.again()
        processor = self.io.ke.current()
        processor.inside += 1
        try:
            return self.io.ke.wait(processor, self, limit, self.file.device_object.device_stack.steering)
        finally:
            processor.inside -= 1

    def result(self, timeout: float | None = DEFAULT_TIMEOUT) -> bytes:
        """Wait, and return what the request brought; raises what its status means.

        A read that SERIAL_TIMEOUTS ended early returns what it got, as in Win32.
        """
        if not self.wait(timeout):
            raise DeviceTimeout(
                f"{self.what} on {self.handle.name} has not ended after {timeout:g} s; cancel() ends it"
            )
        if self.status.is_success or self.status == STATUS_TIMEOUT:
            return self.data
        raise self.handle.fault(self)

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> bytes:
        """Cancelling the task cancels the IRP and awaits its end. Its bytes are not lost: a read that ended all the same
        gives them back to the front of the receive log.
        """
        self._awaited = True
        if not self.done:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()

            def tell() -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens any more
                    loop.call_soon_threadsafe(ended.set)

            self.add_done_callback(tell)
            try:
                await ended.wait()
            except asyncio.CancelledError:
                self.cancel()
                await self._await_end(ended)
                raise
        return self.result()

    async def _await_end(self, ended: asyncio.Event) -> None:
        """It has been cancelled: wait until it has ended, and give back what it brought all the same."""
        try:
            if not self.done:
                await asyncio.wait_for(ended.wait(), CANCEL_GRACE / 1e9)
        except TimeoutError:
            self.disown()
        finally:
            # If the task is cancelled once more nobody waits for the end: the bytes come back whenever it comes.
            if self.done:
                self._give_back()
            else:
                self.add_done_callback(self._give_back)

    def _give_back(self) -> None:
        data, self.data = self.data, b""
        if data:
            self.handle.give_back(data)


class TaskRequests:
    """What the asyncio tasks of a program have submitted on one handle, and have not awaited yet.

    As with threads: what a task leaves behind at its end, and nobody awaits, is cancelled. Where no loop runs nothing is done.
    """

    def __init__(self) -> None:
        self._waiting: weakref.WeakKeyDictionary[asyncio.Task[Any], list[Request]] = weakref.WeakKeyDictionary()

    def add(self, request: Request) -> None:
        """It has been submitted, and has to wait."""
        try:
            task = asyncio.current_task()
        except RuntimeError:  # this thread runs no loop
            return
        if task is None:
            return
        waiting = self._waiting.get(task)
        if waiting is None:
            waiting = self._waiting[task] = []
            task.add_done_callback(partial(_task_ended, waiting))
        waiting[:] = [other for other in waiting if not other.done]  # a task may go on for ever
        waiting.append(request)


def _task_ended(waiting: list[Request], _task: object) -> None:
    for request in waiting:
        if not request._awaited:
            request.cancel()
