"""Where every thread of the process is now."""

from __future__ import annotations

import gc
import sys
import threading
from types import FrameType

_one_at_a_time = threading.Lock()


def current_frames() -> dict[int, FrameType]:
    """`sys._current_frames`, which older Pythons (3.11.7 is one) let hang for ever: thread identifier -> innermost frame.

    It holds the interpreter's lock of threads while it makes its objects. If that starts a garbage collection, and the garbage
    has thread-local data, the collection waits for this very lock (CPython issue 106883). So no garbage is collected meanwhile.
    """
    with _one_at_a_time:  # or one caller would switch the collection on again while another still looks
        collecting = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collecting:
                gc.enable()
