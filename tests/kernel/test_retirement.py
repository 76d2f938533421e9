"""What is thrown at a hung thread arrives in it or is caught when it leaves, and leaves nothing behind in the interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from hilbridge.kernel import processor
from hilbridge.kernel.processor import ProcessorRetired, Retirement
from hilbridge.model.errors import DriverFault
from tests.support import PATIENCE, Thread

SCRIPT = """
import sys, threading
from hilbridge.kernel.processor import ProcessorRetired, Retirement
from hilbridge.model.errors import DriverFault

come_back, inside = threading.Lock(), threading.Event()
come_back.acquire()

def blocks():
    inside.set()
    try:
        come_back.acquire()
        for _ in range(100_000):
            pass
        print("nothing arrived")
    except ProcessorRetired:
        print("arrived")

def leaves():
    Retirement(DriverFault("hung"), threading.get_ident()).leave()

def traced():
    def called():
        return 42
    sys.settrace(lambda *_: None)
    try:
        return called()
    finally:
        sys.settrace(None)

thread = threading.Thread(target={routine})
thread.start()
if {routine} is blocks:
    inside.wait()
    Retirement(DriverFault("hung"), thread.ident).throw()
else:
    thread.join()
assert traced() == 42
print("traced")
come_back.release()
thread.join()
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


@pytest.mark.parametrize(("routine", "printed"), [("blocks", "traced\narrived\n"), ("leaves", "traced\n")])
def test_a_process_in_which_a_thread_was_retired_can_still_be_traced(routine: str, printed: str) -> None:
    """In a process of its own: a thread that is traced where this went wrong never comes back."""
    code = SCRIPT.format(routine=routine)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, printed, "")


def test_a_ctrl_c_that_is_faster_is_raised_when_ours_has_been_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    really, calls = processor._throw_at, list[int]()

    def interrupted(thread: int) -> None:
        calls.append(thread)
        if len(calls) == 1:
            raise KeyboardInterrupt
        really(thread)

    monkeypatch.setattr(processor, "_throw_at", interrupted)

    def work() -> str:
        try:
            Retirement(DriverFault("hung"), threading.get_ident()).leave()
        except KeyboardInterrupt:
            for _ in range(100_000):
                pass
            return "raised, and nothing else comes"
        return "swallowed"

    assert Thread(work).finish() == "raised, and nothing else comes"
    assert len(calls) == 2
