"""``hilbridge crash show FILE``: the crash dump of a driver that has failed, in words."""

from __future__ import annotations

import argparse
from pathlib import Path

from hilbridge.bridge import dump
from hilbridge.cli import output
from hilbridge.cli.options import add_json

DESCRIPTION = "Print a crash dump: the fault, driver and line, the requests that ended with it, and all device stacks."

EXAMPLES = """\
examples:
  hilbridge crash show ~/.local/state/hilbridge/crashes/20261126T094500123-COM1-0.json
  hilbridge crash show --json dump.json | jq .fault.place
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Show FILE [--json]."""
    parser.add_argument("action", metavar="ACTION", choices=["show"], help="show")
    parser.add_argument("file", metavar="FILE", type=Path, help="a crash dump")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    found = dump.read(args.file)
    if args.json:
        output.document({key: value for key, value in found.items() if key != "schema_version"})
    else:
        output.data(dump.show(found))
    return 0
