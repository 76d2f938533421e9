"""``python -m benchmarks``: one run, one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import bulk, irp, lines, roundtrip, verified
from benchmarks.harness import Effort, Measurement
from benchmarks.table import as_json, context, context_line, render

GROUPS: dict[str, Callable[[Effort], Measurement]] = {
    "round-trip": roundtrip.measure,
    "lines": lines.measure,
    "bulk": bulk.measure,
    "irp": irp.measure,
    "verified": verified.measure,
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures hilbridge against its peers, all in one run. benchmarks/README.md says how to read it.",
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=GROUPS, help=f"one of {', '.join(GROUPS)}; may be repeated"
    )
    parser.add_argument(
        "--repeat", metavar="N", type=positive, help="rounds per measurement, instead of its own number"
    )
    parser.add_argument("--quick", action="store_true", help="tiny counts: shows that it works, measures nothing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the table and every block to FILE")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    effort = Effort(quick=options.quick, repeat=options.repeat)
    wanted = [name for name in GROUPS if not options.only or name in options.only]
    facts = context()
    measurements: dict[str, Measurement] = {}
    for name in wanted:
        if sys.stderr.isatty():
            print(f"measuring {name} ...", file=sys.stderr)
        measurements[name] = GROUPS[name](effort)
    print(context_line(facts))
    print()
    print(render([row for measurement in measurements.values() for row in measurement.rows]))
    notes = [note for measurement in measurements.values() for note in measurement.notes]
    if notes:
        print()
        print("\n".join(notes))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(facts, measurements), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
