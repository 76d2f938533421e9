"""What ``send`` and ``expect`` have in common: an open port, and waiting for what it says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import hilbridge
from hilbridge.bridge.console import TIMEOUT, Console
from hilbridge.bridge.handle import Handle
from hilbridge.cli import output
from hilbridge.cli.options import line_settings, seconds
from hilbridge.model.errors import HilbridgeError

# Bytes that are no UTF-8 become lone surrogates on the way in and the same bytes on the way out: nothing is changed.
_CODEC = ("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Said:
    """What a port said: the match, and what came before it, as bytes."""

    matched: bytes
    before: bytes
    groups: tuple[bytes | None, ...]

    def keys(self) -> dict[str, object]:
        """For a JSON document: text, in which what is no UTF-8 is replaced, and the match also in hex."""
        return {
            "matched": _text(self.matched),
            "groups": [None if group is None else _text(group) for group in self.groups],
            "before": _text(self.before),
            "matched_hex": self.matched.hex(),
        }


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """--timeout."""
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT, metavar="S", help=f"seconds to wait (default {TIMEOUT:g})"
    )


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """What to wait for besides the pattern, and how to show it."""
    parser.add_argument("--exact", action="store_true", help="patterns are plain text, no regular expressions")
    parser.add_argument(
        "--not", dest="refuse", metavar="REGEX", help="fail at once, with exit code 1, if this comes first"
    )
    parser.add_argument("--all", action="store_true", help="print what came before the match as well")


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Handle]:
    """The port that was named, open. A driver's mistake that no call has shown is raised at the end."""
    with hilbridge.open(args.name, name=args.name, upper_filters=args.filter, **line_settings(args)) as port:
        yield port
    faults = port.bridge.acknowledge_faults()
    if faults:
        raise faults[0].again()


def listen(port: Handle) -> Console[str]:
    """A console in which every byte survives."""
    console: Console[str] = port.console(encoding=_CODEC[0], errors=_CODEC[1])
    return console


def wait_for(console: Console[str], pattern: str, args: argparse.Namespace) -> Said:
    """Wait for `pattern`, as the options say. With --all, what has come is printed even if the pattern has not."""
    expect = console.expect_exact if args.exact else console.expect
    try:
        match = expect(pattern, timeout=args.timeout, not_matching=args.refuse)
    except HilbridgeError as error:
        if args.all and not args.json and error.partial:
            output.data(_line(error.partial))
        raise
    groups = tuple(None if group is None else group.encode(*_CODEC) for group in match.groups())
    return Said(match.text.encode(*_CODEC), match.before.encode(*_CODEC), groups)


def show(said: Said, args: argparse.Namespace) -> None:
    """Print it: a JSON document, or the bytes as they came."""
    if args.json:
        output.document({"name": args.name, **said.keys()})
    else:
        output.data(_line(said.before + said.matched if args.all else said.matched))


def _line(data: bytes) -> bytes:
    return data if data.endswith(b"\n") else data + b"\n"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
