"""What the commands say: data on stdout, talk on stderr. No colour, and nothing that a program could stumble over."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from hilbridge.model.errors import HilbridgeError

SCHEMA_VERSION = 1
"""Of every JSON document. It changes when a key goes or changes its meaning, not when one is added."""


class OutputFault(HilbridgeError):
    """stdout does not take what is written to it: a full disk, for instance."""

    exit_code = 1


def data(content: str | bytes) -> None:
    """Write to stdout: bytes as they are, text in stdout's encoding; what that lacks is escaped.

    Raises `BrokenPipeError` when nobody reads any more, `OutputFault` when it cannot be written.
    """
    stream = sys.stdout
    if stream is None:  # closed before we came: >&-
        raise OutputFault("stdout is closed: give it somewhere to go, or /dev/null")
    try:
        if isinstance(content, str):
            stream.write(content.encode(stream.encoding, "backslashreplace").decode(stream.encoding))
        else:
            stream.flush()
            stream.buffer.write(content)
            stream.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(error) from error


def document(keys: Mapping[str, Any]) -> None:
    """Write one JSON document. It is ASCII, whatever the terminal is."""
    data(json.dumps({"schema_version": SCHEMA_VERSION, **keys}, indent=2) + "\n")


def flush() -> None:
    """Make sure that stdout has everything. Raises what `data` raises."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write(error) from error


def give_up() -> None:
    """Nobody takes what is still buffered for stdout: it goes nowhere, in silence, when Python closes it."""
    try:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.stdout.fileno(), inheritable=False)
        os.close(null)
    except (OSError, AttributeError, ValueError):
        return  # not a real file: then nobody flushes it at exit either


def talk(line: str) -> None:
    """One line to stderr. If nobody can hear it that is no reason to fail."""
    if sys.stdout is not None:  # for who reads both: what was said first comes first
        with contextlib.suppress(
            OSError, ValueError
        ):  # what cannot be written is noticed where it was said, or at the end
            sys.stdout.flush()
    if sys.stderr is None:
        return
    try:
        shown = line.encode(sys.stderr.encoding or "ascii", "backslashreplace").decode(sys.stderr.encoding or "ascii")
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()
    except OSError:
        return


def _cannot_write(error: OSError) -> OutputFault:
    return OutputFault(
        f"the output cannot be written: {os.strerror(error.errno or 0)}; make room, or send it elsewhere"
    )
