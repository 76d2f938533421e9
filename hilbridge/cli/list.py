"""``hilbridge list``: which serial ports there are, what they are, and who has them open."""

from __future__ import annotations

import argparse
from typing import Any

from hilbridge.cli import output
from hilbridge.cli.options import add_json
from hilbridge.hal.enumerate import Port, port, ports

DESCRIPTION = "The serial ports of this machine: device node, USB id, serial number, description, who has it open."

EXAMPLES = """\
examples:
  hilbridge list
  hilbridge list /dev/ttyUSB0        one port; a pty or a link to a port will do, too
  hilbridge list --json | jq -r '.ports[] | select(.serial_number == "A50285BI").device'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[NAME] [--json]."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this port: /dev/ttyUSB0, serial:by-id/...")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print them. Processes of other users are seen by root only."""
    found = ports() if args.name is None else [port(args.name)]
    if args.json:
        output.document({"ports": [_keys(one) for one in found]})
    elif found:
        output.data(table(found))
    else:
        output.talk("no serial ports: plug one in, or try `hilbridge demo`, which needs none")
    return 0


def table(found: list[Port]) -> str:
    """One line for each port, in columns."""
    rows = [("DEVICE", "USB ID", "SERIAL NUMBER", "DESCRIPTION", "HELD BY")]
    rows += [
        (
            one.device,
            one.usb_id or "-",
            _plain(one.serial_number),
            _plain(one.description),
            ", ".join(map(str, one.holders)) or "-",
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join(lines) + "\n"


def _plain(text: str | None) -> str:
    # A device says what it likes; it shall not steer the terminal.
    return "".join(character if character.isprintable() else "?" for character in text or "-")


def _keys(one: Port) -> dict[str, Any]:
    return {
        "device": one.device,
        "description": one.description,
        "vid": one.vid,
        "pid": one.pid,
        "serial_number": one.serial_number,
        "manufacturer": one.manufacturer,
        "product": one.product,
        "location": one.location,
        "holders": [{"pid": holder.pid, "command": holder.command} for holder in one.holders],
    }
