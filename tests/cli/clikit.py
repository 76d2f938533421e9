"""What the tests of the command line share: running it in this process, and as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hilbridge.cli.main import main

TOP = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds. Nothing here takes that long."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        assert document.pop("schema_version") == 1
        return document

    @property
    def complaint(self) -> str:
        """The one line of an error."""
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("hilbridge: ")
        return line.removeprefix("hilbridge: ")


class Cli:
    """Runs command lines in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> Ran:
        self._capsys.readouterr()
        code = main(words)
        said = self._capsys.readouterr()
        return Ran(code, said.out, said.err)


def command(*words: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "hilbridge", *words]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP), **extra}


def run(*words: str, stdin: bytes = b"", **extra: str) -> Ran:
    """Run it as a process of its own, to its end."""
    done = subprocess.run(
        command(*words), input=stdin, capture_output=True, timeout=PATIENCE, check=False, env=environment(**extra)
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start it as a process of its own, which is gone at the end of the block."""
    with subprocess.Popen(
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[bytes]) -> Ran:
    """Wait for its end."""
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out.decode(), err.decode())


# A first run imports everything: the interpreter may lie where nobody may look.
AS_NOBODY = """
import contextlib, io, os, sys
import hilbridge.hal.serial_line
from hilbridge.cli.main import main
with contextlib.redirect_stderr(io.StringIO()):
    assert main(["expect", "virtual:loop", "x", "--timeout", "0"]) == 8
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def run_as_nobody(words: Sequence[str]) -> Ran:
    """Run it as a user who may do nothing. Only root can."""
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *words],
        capture_output=True,
        timeout=PATIENCE,
        text=True,
        check=False,
        env=environment(),
    )
    return Ran(done.returncode, done.stdout, done.stderr)
