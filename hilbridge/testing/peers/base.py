"""What every peer has in common: a pty, and what the process's loop asks of it.

A peer is driven by the loop in `hilbridge.testing.fixture_process`: it says which descriptors it watches and when it
wants to be called, and it never blocks the loop.
"""

from __future__ import annotations

import os
import tty
from collections.abc import Callable, Mapping

from hilbridge.model.errors import DeviceUnsupported, HilbridgeError, UsageFault

CHUNK = 4096
"""Bytes to ask a pty for: it hands over at most 4095 at a time."""

Done = Callable[[HilbridgeError | None], None]
"""Told once when a control line has had its effect, or why it could not have it."""


class Pty:
    """A pseudo-terminal in raw mode; the fixture owns the master, clients open `node`.

    A slave descriptor stays open here: without it the master would read EIO, and poll as hung up, whenever no client
    has the port open.
    """

    def __init__(self) -> None:
        self.master, self.keeper = os.openpty()
        tty.setraw(self.keeper)
        self.node = os.ttyname(self.keeper)
        self.open = True

    def close(self) -> None:
        """Unplug: clients see a hang-up. What they have not read by now is lost: so does the kernel close a pty."""
        if self.open:
            self.open = False
            os.close(self.keeper)
            os.close(self.master)


class Peer:
    """What the loop asks of every peer."""

    nodes: tuple[str, ...] = ()
    """The device nodes that clients open."""

    def work(self, now_ns: int) -> None:
        """Do what is due."""

    def watched(self) -> Mapping[int, int]:
        """Descriptors to wait for, with their poll masks."""
        return {}

    def ready(self, descriptor: int, now_ns: int) -> None:
        """One of the watched descriptors is ready."""

    def deadline(self, now_ns: int) -> int | None:
        """When `work` is to be called at the latest, in nanoseconds of the monotonic clock."""
        return None

    def reset(self, now_ns: int, done: Done) -> None:
        done(DeviceUnsupported(f"{self._called()} has no reset"))

    def say(self, what: object, now_ns: int, done: Done) -> None:
        done(DeviceUnsupported(f"{self._called()} has nothing to say"))

    def hang_up(self, done: Done) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let everything go. Called once, at the end."""

    def _called(self) -> str:
        return f"a fixture of this kind ({type(self).__name__.removesuffix('Peer').lower()})"


def spoken(what: object) -> bytes:
    """The bytes of a ``say``: a text, or ``{"hex": "00ff"}``. Raises `UsageFault`."""
    try:
        if isinstance(what, str):
            return what.encode()
        if isinstance(what, dict) and list(what) == ["hex"] and isinstance(what["hex"], str):
            return bytes.fromhex(what["hex"])
    except ValueError:
        pass
    raise UsageFault('say takes a JSON string, or {"hex": "00ff"} for bytes')
