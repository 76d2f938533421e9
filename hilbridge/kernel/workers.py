"""System worker threads: one queue, one thread, started when first used; and another thread if that one hangs."""

from __future__ import annotations

import queue
import threading
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
