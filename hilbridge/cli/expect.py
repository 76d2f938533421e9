"""``hilbridge expect NAME REGEX``: wait until a port says something that matches, and print it."""

from __future__ import annotations

import argparse

from hilbridge.cli.conversation import add_timeout, add_waiting, listen, opened, show, wait_for
from hilbridge.cli.options import add_json, add_port

DESCRIPTION = """\
Wait until a port says something that matches, and print what did, on a line of its own. What was received before the
port was opened counts. The port is given back at the end, and what came behind the match goes with it."""

EXAMPLES = """\
examples:
  hilbridge expect /dev/ttyUSB0 "login:" --timeout 30
  hilbridge expect /dev/ttyUSB0 "U-Boot [0-9.]+" --not "panic" --baudrate 1500000
  hilbridge expect socket://localhost:4000 "=> " --exact --all > boot.log

A pattern is a Python regular expression; "." matches line ends, too, and "(?m)^" is the start of a line.
Exit code 8: it did not come in time. 1: what --not names came first. 7: the port went away.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """NAME REGEX and options."""
    add_port(parser)
    parser.add_argument("regex", metavar="REGEX", help="what to wait for")
    add_timeout(parser)
    add_waiting(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Wait, and print what matched."""
    with opened(args) as port:
        said = wait_for(listen(port), args.regex, args)
    show(said, args)
    return 0
