"""SIGINT: deferred inside the model, delivered in waits.

Python raises KeyboardInterrupt between any two bytecodes of the main thread. In the middle of a dispatch routine that
would tear an IRP apart. So, while a bridge is open and nobody has installed a handler of his own, ours is in place: if
the main thread is inside a bridge it notes the signal; the next wait, or the way out, raises KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import threading
import weakref
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor

_lock = threading.Lock()
_main_processors: weakref.WeakSet[Processor] = weakref.WeakSet()
_users = 0


def watch(processor: Processor) -> None:
    """`processor` belongs to the main thread."""
    _main_processors.add(processor)


def _on_sigint(signum: int, frame: FrameType | None) -> None:
    for processor in list(_main_processors):
        if processor.retirement is not None:
            continue  # a driver hangs on it, and may well hang in a call that this exception ends
        if processor.inside or processor.irql:
            processor.sigint = True
            return
    signal.default_int_handler(signum, frame)


def acquire() -> None:
    """A bridge opens. Only the main thread can install a handler; a bridge that opens elsewhere does without."""
    global _users  # noqa: PLW0603 - the handler is the process's, and so is the count of those who need it
    with _lock:
        _users += 1
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _on_sigint)


def release() -> None:
    """A bridge closes; the last one puts Python's own handler back.

    If it closes on another thread, ours stays until the next bridge: with no bridge open it does what Python's does.
    """
    global _users  # noqa: PLW0603
    with _lock:
        _users = max(0, _users - 1)
        if threading.current_thread() is not threading.main_thread():
            return
        if _users == 0 and signal.getsignal(signal.SIGINT) is _on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
