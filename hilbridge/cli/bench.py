"""``hilbridge bench check|schema``: is the bench file right, and is its hardware there?"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hilbridge.cli import output
from hilbridge.cli.options import add_json
from hilbridge.model.errors import ConfigError, UsageFault

if TYPE_CHECKING:
    from hilbridge.bridge.benchports import Found
    from hilbridge.files.bench import Bench

DESCRIPTION = """\
check: read a bench file, and list its devices and whether their hardware is there. Nothing is opened or started.
schema: print the JSON Schema of bench files, for editors.

Without FILE it is the one that HILBRIDGE_BENCH names, or the hilbridge.yaml of the project that you are in."""

EXAMPLES = """\
examples:
  hilbridge bench check
  hilbridge bench check lab.yaml --virtual      has every device a twin, and is it right?
  hilbridge bench schema > hilbridge.schema.json

Exit code 3: the file is wrong; the message begins with file:line:column. 1: something is not there as the file says.
"""

NOT_THERE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """ACTION [FILE] [--virtual] [--json]."""
    parser.add_argument("action", metavar="ACTION", choices=["check", "schema"], help="check or schema")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a bench file")
    parser.add_argument("--virtual", action="store_true", help="the twins, and not the hardware")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if a device is not there; a file that is wrong is raised."""
    from hilbridge.files.bench import bench_schema, find_bench, load_bench

    if args.action == "schema":
        if args.file is not None or args.virtual:
            raise UsageFault("bench schema takes no FILE and no --virtual: there is one schema for all bench files")
        output.data(json.dumps(bench_schema(), indent=2) + "\n")
        return 0
    from hilbridge.bridge.benchports import look

    bench = load_bench(find_bench(args.file))
    found = look(bench, virtual=args.virtual)
    wrong = [one.problem for one in found if isinstance(one.problem, ConfigError)]
    if wrong:
        raise ConfigError("\n".join(map(str, wrong)))
    if args.json:
        devices = [keys(bench, one) for one in found]
        output.document({"file": str(bench.path), "virtual": args.virtual, "devices": devices})
    else:
        output.data(table(found))
        for one in found:
            if one.problem is not None:
                output.talk(f"hilbridge: {one.problem}")
    return NOT_THERE if any(one.problem is not None for one in found) else 0


def state(one: Found) -> str:
    """``there``, ``missing``, or ``not looked for``: what is at another machine is known when it is opened."""
    if one.problem is not None:
        return "missing"
    if one.port is not None or one.board is not None or (one.moniker or "").startswith(("virtual:", "loop:")):
        return "there"
    return "not looked for"


def table(found: list[Found]) -> str:
    """One line for each device, in columns."""
    rows = [("NAME", "STATE", "PORT", "HELD BY", "IS")]
    for one in found:
        holders = ", ".join(map(str, one.port.holders)) if one.port is not None else ""
        rows.append((one.name, state(one), one.port.device if one.port else "-", holders or "-", one.wanted))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    return "\n".join(lines) + "\n"


def keys(bench: Bench, one: Found) -> dict[str, Any]:
    """One device, for the JSON document."""
    device = bench.devices[one.name]
    return {
        "name": one.name,
        "state": state(one),
        "is": one.wanted,
        "port": one.port.device if one.port is not None else None,
        "holders": [{"pid": holder.pid, "command": holder.command} for holder in one.port.holders] if one.port else [],
        "has_twin": device.virtual is not None,
        "can": [key for key in ("reset", "power", "flash") if getattr(device, key) is not None],
        "problem": None if one.problem is None else str(one.problem),
    }
