"""``hilbridge send NAME TEXT``: send text to a port, and wait for an answer if asked to."""

from __future__ import annotations

import argparse
import os
import sys

from hilbridge.cli import output
from hilbridge.cli.conversation import Said, add_timeout, add_waiting, listen, opened, show, wait_for
from hilbridge.cli.options import add_json, add_port
from hilbridge.model.errors import UsageFault

DESCRIPTION = """\
Send text to a port, as it is. With --expect the command waits for an answer and prints what matched; without it, it ends
when everything has left the port."""

EXAMPLES = """\
examples:
  hilbridge send /dev/ttyUSB0 version --newline lf --expect "=> " --all
  hilbridge send /dev/ttyUSB0 $'\\x03'
  hilbridge send /dev/ttyUSB0 - < image.bin

TEXT that begins with "-" goes behind "--": hilbridge send /dev/ttyUSB0 -- -h
"""

NEWLINES = {"none": b"", "lf": b"\n", "cr": b"\r", "crlf": b"\r\n"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """NAME TEXT and options."""
    add_port(parser)
    parser.add_argument("text", metavar="TEXT", help='what to send; "-" sends what comes on stdin')
    parser.add_argument("--newline", choices=NEWLINES, default="none", help="what to put behind it (default: none)")
    parser.add_argument("--expect", metavar="REGEX", help="wait for an answer that matches, and print what did")
    add_timeout(parser)
    add_waiting(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Send; with --expect, wait for the answer. Each of the two may take --timeout seconds."""
    if args.expect is None and (args.refuse is not None or args.all or args.exact):
        raise UsageFault("--not, --all and --exact say how to wait: they need --expect REGEX")
    data = _data(args.text) + NEWLINES[args.newline]
    said: Said | None = None
    with opened(args) as port:
        console = listen(port)
        count = port.write(data, timeout=args.timeout)
        if args.expect is None:
            port.flush(timeout=args.timeout)
        else:
            said = wait_for(console, args.expect, args)
    if said is not None:
        show(said, args)
    elif args.json:
        output.document({"name": args.name, "sent": count})
    if args.verbose:
        output.talk(f"{count} bytes were sent to {args.name}")
    return 0


def _data(text: str) -> bytes:
    if text != "-":
        return os.fsencode(text)
    if sys.stdin is None:
        raise UsageFault('"-" stands for stdin, which is closed')
    return sys.stdin.buffer.read()
