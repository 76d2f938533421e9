"""Tests that need a process of their own: it is told what to do in Python, and says in lines how it went."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import PATIENCE

TOP = Path(__file__).resolve().parents[1]

PRELUDE = """
import gc, os, signal, sys, threading
import hilbridge
from hilbridge import Bridge, BridgeClosed
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import IrpMajor
from hilbridge.model.status import STATUS_SUCCESS
from tests.support import TinyDriver, complete, pass_down, pend, plug

def say(*words):
    print(*words, flush=True)

def strike():
    signal.raise_signal(signal.SIGINT)

def filtered(name, routine, major=IrpMajor.READ):
    every = {major: pass_down for major in IrpMajor if major not in (IrpMajor.PNP,)}
    return TinyDriver(name, {**every, major: routine}, named=False)
"""


@contextmanager
def program(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that must end by itself, with exit code 0 and nothing on its standard error."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(code), *arguments],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    ) as process:
        patience = threading.Timer(3 * PATIENCE, process.kill)
        patience.start()
        try:
            yield process
            _, errors = process.communicate()
            assert (process.returncode, errors) == (0, "")
        finally:
            patience.cancel()
            patience.join()
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        assert process.stderr is not None
        pytest.fail(f"the program ended: {process.stderr.read()}")
    return said.rstrip("\n")


def tell(process: subprocess.Popen[str], words: str = "go") -> None:
    """Say a line to it."""
    assert process.stdin is not None
    process.stdin.write(words + "\n")
    process.stdin.flush()
