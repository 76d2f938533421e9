"""What is thrown at a hung thread arrives in it or is caught when it leaves, and leaves nothing behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

from hilbridge.kernel.processor import ProcessorRetired, Retirement
from hilbridge.model.errors import DriverFault
from tests.support import PATIENCE, Thread

TRACED = """
import sys, threading
from hilbridge.kernel.processor import Retirement
from hilbridge.model.errors import DriverFault

def thrown_and_left():
    retirement = Retirement(DriverFault("hung"), threading.get_ident())
    retirement.{what}()
    if {left}:
        retirement.leave()

def traced():
    def called():
        return 42
    sys.settrace(lambda *_: None)
    try:
        assert called() == 42
    finally:
        sys.settrace(None)

thread = threading.Thread(target=thrown_and_left)
thread.start()
thread.join()
traced()
print("traced")
"""


def test_what_was_thrown_is_caught_by_who_leaves() -> None:
    def work() -> str:
        retirement = Retirement(DriverFault("hung"), threading.get_ident())
        retirement.leave()
        retirement.throw()
        return "nothing is thrown at who has left"

    assert Thread(work).finish() == "nothing is thrown at who has left"


def test_a_loop_in_python_is_ended() -> None:
    started, ended = threading.Event(), list[Any]()

    def loop() -> None:
        started.set()
        try:
            while True:
                pass
        except ProcessorRetired as retired:
            ended.append(retired)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    assert thread.ident is not None
    Retirement(DriverFault("hung"), thread.ident).throw()
    thread.join(PATIENCE)
    assert len(ended) == 1


def test_a_process_in_which_a_thread_was_retired_can_still_be_traced() -> None:
    """In a process of its own: a thread that is traced where this went wrong never comes back."""
    code = TRACED.format(what="leave", left="True")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "traced\n", "")
