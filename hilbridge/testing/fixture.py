"""Fixtures: stand-ins for hardware, each served by a process of its own.

From a test, a demo or a benchmark::

    with start_fixture("boards/demo") as board:
        port = hilbridge.open(board.port)

By hand, until Ctrl-C: ``python -m hilbridge.testing.fixture boards/demo --link /tmp/board``. The parent's end is here;
what the process does is in `hilbridge.testing.fixture_process`, and the files are explained in
``loopback_fixtures/README.md``.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hilbridge.model.errors import (
    ConfigError,
    DeviceFault,
    DeviceGone,
    DeviceTimeout,
    InternalFault,
    NameNotFound,
    UsageFault,
)

if TYPE_CHECKING:
    from subprocess import Popen
    from types import TracebackType

START_DEADLINE = 10.0
"""Seconds that a fixture may take to be ready. It takes about a tenth of one; a loaded machine takes longer."""

_STOP_DEADLINE = 3.0


class RunningFixture:
    """A fixture that is being served. A context manager: at its end the process is gone.

    It is used by one thread at a time. Errors of a control line are `UsageFault`; a process that ended is `DeviceGone`.
    """

    def __init__(self, process: Popen[bytes], stderr: int, name: str) -> None:
        self._process = process
        self._stderr = stderr
        self._name = name
        self._received = b""
        self._sent_lines = 0
        self._stopped = False
        self.pid = process.pid
        self.ports: tuple[str, ...] = ()
        """What to open: the links that were asked for, otherwise the device nodes."""
        self.nodes: tuple[str, ...] = ()
        """The device nodes, ``/dev/pts/N``."""
        self.kind = ""
        """``board``, ``echo``, ``null-modem`` or ``source``."""

    @property
    def port(self) -> str:
        """The first port; most fixtures have one."""
        return self.ports[0]

    def control(self, line: str, *, timeout: float = 5.0) -> None:
        """Send one control line (``reset``, ``hangup``, ``say "text"``) and wait until it has had its effect.

        Raises `UsageFault` when it is refused, `DeviceTimeout` when it is not done within `timeout` seconds (for a
        ``say``: the client does not read), `DeviceGone` when the process has ended.
        """
        if "\n" in line:
            raise UsageFault("a control line is one line")
        assert self._process.stdin is not None
        if self._stopped:
            raise UsageFault(f"fixture {self._name} was stopped")
        unsent = memoryview(line.encode() + b"\n")
        try:
            while unsent:
                unsent = unsent[os.write(self._process.stdin.fileno(), unsent) :]
        except BrokenPipeError as error:
            raise DeviceGone(f"fixture {self._name}: the process has ended: {self._said()}") from error
        self._sent_lines += 1
        deadline = time.monotonic() + timeout
        while True:
            answer = self._read_answer(deadline, f"control line {line[:60]!r}")
            if answer.get("reply") == self._sent_lines:  # others belong to lines whose time was up
                break
        if "error" in answer:
            raise UsageFault(f"fixture {self._name}: {answer['error']}")

    def reset(self) -> None:
        """Reset the board; powers it on, if it was started with ``held=True``."""
        self.control("reset")

    def hang_up(self) -> None:
        """Unplug. What the client has not read by now is lost: a pty forgets it, as a pulled cable does not."""
        self.control("hangup")

    def say(self, data: str | bytes, *, timeout: float = 5.0) -> None:
        """Send `data` out of the fixture's port; returns when the pty has taken it all."""
        what: object = data if isinstance(data, str) else {"hex": data.hex()}
        self.control(f"say {json.dumps(what)}", timeout=timeout)

    def produce(self, count: int, *, line_length: int = 64) -> None:
        """Let a source send `count` bytes in lines of `line_length` (0: no lines). Returns when it has begun."""
        self.control(f"say {json.dumps({'bytes': count, 'line_length': line_length})}")

    def stop(self) -> None:
        """End the process and take what it leaves. Raises `InternalFault` if it had failed by itself. Idempotent."""
        if self._stopped:
            return
        code, said = self._end()
        if code > 0:
            raise _failure(f"fixture {self._name} failed with exit code {code}", said)

    def _end(self) -> tuple[int, str]:
        """Close its stdin, which is its signal to go; kill it when it does not. Returns exit code and stderr."""
        self._stopped = True
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has gone already
        # Its stdout ends when it does: that can be waited for with a deadline, without polling.
        deadline = time.monotonic() + _STOP_DEADLINE
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            if not os.read(process.stdout.fileno(), 65536):
                break
        else:
            process.kill()
        process.stdout.close()
        code = process.wait()
        said = self._said()
        os.close(self._stderr)
        return code, said

    def _read_answer(self, deadline: float, what: str) -> dict[str, object]:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        while b"\n" not in self._received:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise DeviceTimeout(f"fixture {self._name}: {what}: no answer in time. {self._said()}".rstrip())
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                raise DeviceGone(f"fixture {self._name}: the process has ended: {self._said()}")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, object] = json.loads(line)
        return answer

    def _said(self) -> str:
        """What the process wrote to stderr."""
        return os.pread(self._stderr, 65536, 0).decode(errors="replace").strip()

    def _start(self, deadline: float) -> None:
        try:
            ready = self._read_answer(deadline, "start")
        except DeviceGone:
            code, said = self._end()
            # The message was written by the same classes on the other side; the exit code says by which.
            classes = {fault.exit_code: fault for fault in (UsageFault, ConfigError, NameNotFound, DeviceFault)}
            if code in classes:
                raise classes[code](said) from None
            raise _failure(f"fixture {self._name} did not start (exit code {code})", said) from None
        self.ports = tuple(str(port) for port in _strings(ready["ports"]))
        self.nodes = tuple(str(node) for node in _strings(ready["nodes"]))
        self.kind = str(ready["kind"])

    def __enter__(self) -> RunningFixture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._stopped:
            self.stop()
            return
        code, said = self._end()
        if code > 0:  # it may be why the test fails, but it must not hide how
            error.add_note(f"fixture {self._name} failed with exit code {code}: {said}")


def _failure(what: str, said: str) -> InternalFault:
    """The last line of what the process said leads; all of it, usually a traceback, is a note."""
    failure = InternalFault(f"{what}: {said.splitlines()[-1] if said else 'it said nothing'}")
    if "\n" in said:
        failure.add_note(said)
    return failure


def _strings(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def start_fixture(
    name_or_path: str | os.PathLike[str],
    *,
    link: str | os.PathLike[str] | list[str] | None = None,
    held: bool = False,
    timeout: float = START_DEADLINE,
) -> RunningFixture:
    """Serve a fixture in a process of its own; returns when its ports are there.

    `name_or_path` is a fixture file, or a shipped fixture's name: ``echo``, ``null_modem``, ``source``,
    ``boards/demo``, ``boards/story``. `link` is where to put a symbolic link to the port (a list: one for each port).
    With ``held=True`` a board is held in reset until `RunningFixture.reset`: a client that has opened its port before
    gets the banner from the first byte.

    Raises `ConfigError` for what is wrong in the file, `NameNotFound`, `UsageFault` (socat is missing), and
    `DeviceTimeout` when it is not ready within `timeout` seconds. The process ends when this one does, however this
    one ends.
    """
    import subprocess  # the served side runs this module too, and has no use for it

    name = os.fspath(name_or_path)
    links = [] if link is None else link if isinstance(link, list) else [os.fspath(link)]
    command = [sys.executable, "-P", "-m", "hilbridge.testing.fixture", name]
    command += [word for path in links for word in ("--link", path)]
    command += ["--held"] if held else []
    # The same hilbridge as here, also when this one is found through a path that the child would not have (a checkout).
    root = os.fspath(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # A file in memory and not a pipe: nobody has to read it for the child to go on, and it can be read at any time.
    stderr = os.memfd_create("fixture-stderr")
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except BaseException:
        os.close(stderr)
        raise
    running = RunningFixture(process, stderr, name)
    try:
        running._start(time.monotonic() + timeout)
    except BaseException:
        if not running._stopped:
            running._end()
        raise
    return running


if __name__ == "__main__":
    from hilbridge.testing.fixture_process import main

    main()
