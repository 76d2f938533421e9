"""System worker threads: one queue, one thread, started when first used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

JOIN_SECONDS = 5.0


class Worker:
    """Runs functions one after the other on a thread of its own, at PASSIVE_LEVEL."""

    __slots__ = ("_lock", "_name", "_on_error", "_queue", "_stopped", "_thread")

    def __init__(self, name: str, on_error: Callable[[BaseException], None]) -> None:
        self._name = name
        self._on_error = on_error
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def put(self, work: Callable[[], None]) -> None:
        """Queue `work`. After `stop` it is run at once, by the caller: nothing that was asked for is dropped."""
        with self._lock:
            if not self._stopped:
                self._queue.put(work)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
                return
        self._call(work)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            self._call(work)
            del work

    def _call(self, work: Callable[[], None]) -> None:
        try:
            work()
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
        return not thread.is_alive()
