"""Where every thread is: found without hanging, whatever is garbage meanwhile."""

from __future__ import annotations

import gc
import threading
import traceback

from hilbridge.kernel.frames import current_frames
from tests.support import Thread, wait


def test_a_thread_is_found_where_it_is() -> None:
    there, leave = threading.Event(), threading.Event()

    def deep_inside() -> None:
        there.set()
        wait(leave)

    thread = Thread(deep_inside)
    wait(there)
    names = [frame.f_code.co_name for frame, _ in traceback.walk_stack(current_frames()[thread.ident or 0])]
    leave.set()
    thread.finish()
    assert "deep_inside" in names


def test_garbage_with_thread_local_data_does_not_make_it_hang() -> None:
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            local = threading.local()
            local.itself = local  # a cycle, which a collection has to take apart
            del local
            current_frames()
    finally:
        gc.set_threshold(*threshold)
    assert gc.isenabled()


def test_who_collects_no_garbage_goes_on_collecting_none() -> None:
    gc.disable()
    try:
        current_frames()
        assert not gc.isenabled()
    finally:
        gc.enable()
