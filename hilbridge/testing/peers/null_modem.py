"""The null modem: two ptys, wired crosswise by socat, a program that nobody here wrote."""

from __future__ import annotations

import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping

from hilbridge.model.errors import DeviceFault, UsageFault
from hilbridge.testing.peers.base import Done, Peer

_START_DEADLINE = 5.0
_END = "pty,raw,echo=0"
_NODE = re.compile(rb"PTY is (\S+)")
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class NullModemPeer(Peer):
    """Runs socat. Clients may come and go: it keeps the client's end of both ptys open itself (seen with 1.7.4)."""

    def __init__(self) -> None:
        program = shutil.which("socat")
        if program is None:
            raise UsageFault(
                "the null modem is wired by socat, which is not here: install the package socat (apt-get install socat)"
            )
        libc = ctypes.CDLL(None, use_errno=True)
        parent = os.getpid()

        def die_with_parent() -> None:
            # Runs in the child between fork and exec. The fixture may be killed with SIGKILL, and then nobody else
            # would end socat while a client holds one of its ptys.
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        self._socat = subprocess.Popen(
            [program, "-d", "-d", _END, _END],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # this process has one thread
        )
        assert self._socat.stderr is not None
        self._log = self._socat.stderr.fileno()
        try:
            self.nodes = self._wait_for_nodes()
        except BaseException:
            self.close()
            raise

    def _wait_for_nodes(self) -> tuple[str, ...]:
        """Both device nodes, once socat says that it transfers data."""
        poll = select.poll()
        poll.register(self._log, select.POLLIN)
        deadline = time.monotonic() + _START_DEADLINE
        said = b""
        while b"starting data transfer loop" not in said:
            left = deadline - time.monotonic()
            ready = poll.poll(left * 1000) if left > 0 else []
            more = os.read(self._log, 4096) if ready else b""
            if not more:
                how = "ended" if ready else f"was not ready within {_START_DEADLINE:g} s"
                raise DeviceFault(f"socat {how}; it said: {said.decode(errors='replace').strip()}")
            said += more
        nodes = tuple(os.fsdecode(node) for node in _NODE.findall(said))
        if len(nodes) != 2:
            raise DeviceFault(f"socat named {len(nodes)} ptys, not 2; it said: {said.decode(errors='replace').strip()}")
        return nodes

    def watched(self) -> Mapping[int, int]:
        return {} if self._cut() else {self._log: select.POLLIN}

    def ready(self, descriptor: int, now_ns: int) -> None:
        said = os.read(descriptor, 4096)
        if not said:
            raise DeviceFault("socat ended by itself: the null modem is cut")

    def hang_up(self, done: Done) -> None:
        self._end()
        done(None)

    def close(self) -> None:
        self._end()

    def _cut(self) -> bool:
        return self._socat.stderr is None or self._socat.stderr.closed

    def _end(self) -> None:
        if not self._cut() and self._socat.stderr is not None:
            self._socat.kill()
            self._socat.wait()  # SIGKILL cannot be refused
            self._socat.stderr.close()
