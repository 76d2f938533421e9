"""System worker threads, started when first used: one for work in order, and several for the work items of drivers.

If one hangs another one takes its place.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from hilbridge.kernel.processor import ProcessorRetired

JOIN_SECONDS = 5.0


class Worker:
    """Runs functions one after the other on a thread of its own, at PASSIVE_LEVEL."""

    __slots__ = ("_generation", "_lock", "_name", "_on_error", "_queue", "_stopped", "_thread")

    def __init__(self, name: str, on_error: Callable[[BaseException], None]) -> None:
        self._name = name
        self._on_error = on_error
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._generation = 0
        self._stopped = False

    def put(self, work: Callable[[], None]) -> None:
        """Queue `work`. After `stop` it is run at once, by the caller: nothing that was asked for is dropped."""
        with self._lock:
            if not self._stopped:
                self._queue.put(work)
                if self._thread is None:
                    self._begin()
                return
        self._call(work)

    def _begin(self) -> None:
        """Start a thread. Hold the lock."""
        self._thread = threading.Thread(target=self._run, name=self._name, args=(self._generation,), daemon=True)
        self._thread.start()

    def _run(self, generation: int) -> None:
        while self._generation == generation and (work := self._queue.get()) is not None:
            self._call(work)
            del work

    @property
    def thread(self) -> int:
        """The identifier of its thread; 0 if there is none."""
        thread = self._thread
        return 0 if thread is None else thread.ident or 0

    def replace(self) -> None:
        """Its thread hangs: another one goes on with what is queued. The old one, if it comes back, ends."""
        with self._lock:
            self._generation += 1
            self._begin()

    def _call(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ProcessorRetired:
            return  # another thread has the queue
        except BaseException as error:  # noqa: BLE001 - latched
            self._on_error(error)

    def stop(self) -> bool:
        """Run what is queued, then end the thread. False if it did not end in time."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        if thread is None:
            return True
        self._queue.put(None)
        if thread is threading.current_thread():
            return True
        thread.join(JOIN_SECONDS)
        while (other := self._thread) is not None and other is not thread:  # it was replaced meanwhile
            thread = other
            thread.join(JOIN_SECONDS)
        return not thread.is_alive()


POOL_LIMIT = 16
"""As many work items can wait for one another; the next one waits until one of them is over."""


class WorkerPool:
    """Runs functions on several threads, at PASSIVE_LEVEL. One that waits holds up no other.

    There is a thread more only when there is work for which no thread is free: most bridges need one, or none.
    """

    __slots__ = ("_free", "_lock", "_name", "_number", "_on_error", "_queue", "_stopped", "_threads")

    def __init__(self, name: str, on_error: Callable[[BaseException], None]) -> None:
        self._name = name
        self._on_error = on_error
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._number = 0
        self._free = 0
        """Threads that have nothing to do, less the work that is queued for them."""
        self._stopped = False

    def put(self, work: Callable[[], None]) -> None:
        """Queue `work`. After `stop` it is run at once, by the caller: nothing that was asked for is dropped."""
        with self._lock:
            if not self._stopped:
                self._free -= 1
                self._queue.put(work)
                if self._free < 0 and len(self._threads) < POOL_LIMIT:
                    self._begin()
                return
        self._call(work)

    def _begin(self) -> None:
        """Start a thread. Hold the lock."""
        self._free += 1
        self._number += 1
        thread = threading.Thread(target=self._run, name=f"{self._name}-{self._number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        # A thread that is given up is sent ProcessorRetired wherever it is: also behind the item that had kept it so long.
        with contextlib.suppress(ProcessorRetired):
            self._serve()

    def _serve(self) -> None:
        me = threading.current_thread()
        while (work := self._queue.get()) is not None:
            self._call(work)
            del work
            with self._lock:
                if all(thread is not me for thread in self._threads):
                    return  # it was given up, and came back
                self._free += 1

    def _call(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ProcessorRetired:
            return
        except BaseException as error:  # noqa: BLE001 - latched
            self._on_error(error)

    def retire(self, ident: int) -> None:
        """If it is one of its threads, it hangs: it is given up, and what is queued does not wait for it."""
        with self._lock:
            left = [thread for thread in self._threads if thread.ident != ident]
            if len(left) < len(self._threads):
                self._threads = left
                if self._free < 0 or self._stopped:
                    self._begin()

    def stop(self) -> list[int]:
        """Run what is queued, then end the threads. Returns the identifiers of those that did not end in time."""
        with self._lock:
            again, self._stopped = self._stopped, True
            threads = list(self._threads)
            if not again:
                for _ in threads:
                    self._queue.put(None)
        deadline = time.monotonic() + JOIN_SECONDS
        others = [thread for thread in threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.ident or 0 for thread in others if thread.is_alive()]
