"""The process that serves one fixture: its ports, and the control channel on stdin and stdout.

It lives as long as somebody holds the other end of its stdin. However the parent ends, SIGKILL included, the kernel
closes that end, and this process goes, with its ports and its links. One loop waits for everything (poll, with the next
deadline as its time-out); nothing here is done by waiting a while.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hilbridge.files.fixture import Echo, NullModem, Source, find_fixture, load_fixture
from hilbridge.model.errors import HilbridgeError, UsageFault
from hilbridge.testing.peers.base import Done, Peer

USAGE = """\
usage: python -m hilbridge.testing.fixture FILE|NAME [--link PATH]... [--held]

Serves a fixture file (or a shipped fixture: echo, null_modem, source, boards/demo ...) on ptys until stdin ends.
  --link PATH   a symbolic link to the port; once for each port
  --held        a board is held in reset until the control line `reset`
When it is ready it prints one JSON line: {"ports": [...], "nodes": [...], "pid": N, "kind": "..."}.
Control lines on stdin, each answered by a JSON line {"reply": N, "ok": true} or {"reply": N, "error": "..."}, where N
counts the lines from 1:
  reset         reset the board
  hangup        unplug: close the port
  say JSON      send a JSON string, {"hex": "00ff"}, or, from a source, {"bytes": N, "line_length": L}
"""

_STDIN, _STDOUT = 0, 1
_MAX_CONTROL_LINE = 1 << 20


class _Links:
    """Symbolic links to device nodes, removed at the end if they are still ours."""

    def __init__(self) -> None:
        self._made: list[tuple[Path, str]] = []

    def make(self, path: str, node: str) -> None:
        link = Path(path)
        if link.exists() and not link.is_symlink():
            raise UsageFault(f"{path}: is in the way, and no symbolic link; choose another name for --link")
        # A link that an earlier run left behind is replaced in one step: a client sees the old or the new one.
        temporary = link.with_name(f"{link.name}.{os.getpid()}")
        try:
            temporary.symlink_to(node)
            temporary.replace(link)
        except OSError as error:
            raise UsageFault(f"{path}: the link cannot be made: {os.strerror(error.errno or 0)}") from error
        self._made.append((link, node))

    def remove(self) -> None:
        for link, node in self._made:
            try:
                if os.fspath(link.readlink()) == node:
                    link.unlink()
            except OSError:
                pass  # somebody else removed or replaced it: it is theirs now
        self._made.clear()


class _Control:
    """The control channel: lines in, one JSON line out for each."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._received = b""
        self._count = 0

    def read(self) -> bool:
        """Take what came on stdin; False when it has ended."""
        data = os.read(_STDIN, 65536)
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            self._count += 1
            self._obey(line.strip(), self._answerer(self._count))
        if len(self._received) > _MAX_CONTROL_LINE:
            raise UsageFault(f"a control line is longer than {_MAX_CONTROL_LINE} bytes")
        return bool(data)

    @staticmethod
    def _answerer(number: int) -> Done:
        def done(error: HilbridgeError | None) -> None:
            report({"reply": number, "ok": True} if error is None else {"reply": number, "error": str(error)})

        return done

    def _obey(self, line: bytes, done: Done) -> None:
        verb, _, argument = line.partition(b" ")
        now = time.monotonic_ns()
        try:
            if verb == b"say":
                self._peer.say(json.loads(argument), now, done)
            elif line == b"reset":
                self._peer.reset(now, done)
            elif line == b"hangup":
                self._peer.hang_up(done)
            else:
                shown = line.decode(errors="replace")
                raise UsageFault(f"no control line: {shown!r}; there are reset, hangup and say JSON")
        except HilbridgeError as error:
            done(error)
        except ValueError as error:
            done(UsageFault(f'say takes JSON, for instance say "text": {error}'))


def report(what: dict[str, object]) -> None:
    """Write one JSON line to stdout."""
    os.write(_STDOUT, json.dumps(what).encode() + b"\n")


def make_peer(file: Path, *, held: bool) -> tuple[str, Peer]:
    """The kind of a fixture file, and its peer, running. Each kind is imported by whom it serves only."""
    fixture = load_fixture(file)
    if isinstance(fixture, Echo):
        from hilbridge.testing.peers.echo import EchoPeer

        return "echo", EchoPeer()
    if isinstance(fixture, NullModem):
        from hilbridge.testing.peers.null_modem import NullModemPeer

        return "null-modem", NullModemPeer()
    if isinstance(fixture, Source):
        from hilbridge.testing.peers.source import SourcePeer

        return "source", SourcePeer(fixture)
    from hilbridge.testing.peers.board import BoardPeer

    return "board", BoardPeer(fixture, held=held)


def serve(peer: Peer, wake: int) -> None:
    """Run until stdin ends or `wake` becomes readable."""
    control = _Control(peer)
    poll = select.poll()
    poll.register(_STDIN, select.POLLIN)
    poll.register(wake, select.POLLIN)
    registered: dict[int, int] = {}
    while True:
        now = time.monotonic_ns()
        peer.work(now)
        wanted = dict(peer.watched())
        if wanted != registered:
            for descriptor in registered.keys() - wanted.keys():
                poll.unregister(descriptor)
            for descriptor, mask in wanted.items():
                poll.register(descriptor, mask)  # also changes the mask
            registered = wanted
        due = peer.deadline(now)
        for descriptor, _ in poll.poll(None if due is None else max(0, due - now + 999_999) // 1_000_000):
            if descriptor == wake:
                return
            if descriptor == _STDIN:
                if not control.read():
                    return
            elif descriptor in peer.watched():  # a control line of this round may have unplugged it
                peer.ready(descriptor, time.monotonic_ns())


def run(arguments: Sequence[str]) -> int:
    """Serve a fixture as the command line says. Returns the exit code; errors are told on stderr."""
    wake, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    # The handlers do nothing: the signal's byte in the pipe ends the loop. So no signal is missed between a look at a
    # flag and the wait.
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGHUP, lambda *_: None)
    # Ctrl-C goes to everybody on the terminal. A parent's fixture must outlive it until the parent has cleaned up.
    signal.signal(signal.SIGINT, (lambda *_: None) if os.isatty(_STDIN) else signal.SIG_IGN)
    links = _Links()
    peer: Peer | None = None
    try:
        name, wanted_links, held = _parse(arguments)
        kind, peer = make_peer(find_fixture(name), held=held)
        if len(wanted_links) > len(peer.nodes):
            raise UsageFault(f"{name} has {len(peer.nodes)} port(s); --link was given {len(wanted_links)} times")
        for path, node in zip(wanted_links, peer.nodes, strict=False):
            links.make(path, node)
        ports = [*wanted_links, *peer.nodes[len(wanted_links) :]]
        report({"ports": ports, "nodes": list(peer.nodes), "pid": os.getpid(), "kind": kind})
        serve(peer, wake)
    except HilbridgeError as error:
        os.write(2, f"{error}\n".encode())
        return error.exit_code
    except BrokenPipeError:
        return 0  # nobody listens any more: that is an end like any other
    finally:
        links.remove()
        if peer is not None:
            peer.close()
    return 0


def _parse(arguments: Sequence[str]) -> tuple[str, list[str], bool]:
    names: list[str] = []
    links: list[str] = []
    held = False
    rest = iter(arguments)
    for argument in rest:
        if argument == "--link":
            path = next(rest, None)
            if path is None:
                raise UsageFault(f"--link needs a path\n{USAGE}")
            links.append(path)
        elif argument == "--held":
            held = True
        elif argument.startswith("-"):
            raise UsageFault(f"{argument}: no such option\n{USAGE}")
        else:
            names.append(argument)
    if len(names) != 1:
        raise UsageFault(f"one fixture is needed, {len(names)} were named\n{USAGE}")
    return names[0], links, held


def main() -> NoReturn:
    """Entry point of ``python -m hilbridge.testing.fixture``."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        os.write(_STDOUT, USAGE.encode())
        sys.exit(0)
    code = run(sys.argv[1:])
    # Not sys.exit(): the echo's thread is blocked in the kernel, and the interpreter has nothing left to tidy up.
    os._exit(code)
