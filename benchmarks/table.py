"""One table on the terminal, and the same as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import hilbridge
from benchmarks.harness import Measurement, Row, Samples, Target

HEADINGS = ("what", "against", "ours", "peer", "ratio", "at best", "target", "reached")
LEFT_ALIGNED = 2


def context() -> dict[str, object]:
    """What the figures depend on, and the reader cannot see."""
    return {
        "hilbridge": hilbridge.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def context_line(facts: Mapping[str, object]) -> str:
    return (
        f"hilbridge {facts['hilbridge']}, {facts['python']}, {facts['kernel']}, {facts['cpus']} CPUs, "
        f"load {facts['load']} at the start"
    )


def render(rows: Sequence[Row]) -> str:
    """The table as text; every row has as many cells as there are headings."""
    lines = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    texts = [
        "  ".join(
            cell.ljust(width) if column < LEFT_ALIGNED else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    texts.insert(1, "-" * max(map(len, texts)))
    return "\n".join(texts)


def cells(row: Row) -> tuple[str, ...]:
    quantity = format_rate if row.unit == "B/s" else format_time
    reached = {None: "-", True: "yes", False: "no"}[row.reached]
    return (
        row.what,
        row.against,
        "-" if row.ours is None else quantity(row.ours),
        "-" if row.peer is None else quantity(row.peer),
        "too rare" if row.ratio is None else format_ratio(row.ratio, row.ratio_unit),
        "-" if row.best is None else format_ratio(row.best, row.ratio_unit),
        "-" if row.target is None else format_target(row.target, row.ratio_unit),
        reached,
    )


def format_ratio(ratio: float, unit: str) -> str:
    number = f"{ratio:.2f}" if abs(ratio) < 10 else f"{ratio:.0f}"
    return f"{number} {unit}"


def format_target(target: Target, unit: str) -> str:
    return f"{'>=' if target.at_least else '<='} {target.limit:g} {unit}"


def format_time(seconds: float) -> str:
    size = abs(seconds)
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if size >= length:
            return f"{seconds / length:.3g} {unit}" if size < 100 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def format_rate(rate: float) -> str:
    return f"{rate / 1e6:.3g} MB/s"


def as_json(facts: Mapping[str, object], measurements: Mapping[str, Measurement]) -> dict[str, object]:
    """Times are in seconds per item, rates in bytes per second. `blocks` lists every block of every contestant."""
    return {
        "context": dict(facts),
        "rows": [
            {"name": name, **asdict(row), "reached": row.reached}
            for name, measurement in measurements.items()
            for row in measurement.rows
        ],
        "notes": [note for measurement in measurements.values() for note in measurement.notes],
        "blocks": {name: summary(measurement.samples) for name, measurement in measurements.items()},
    }


def summary(samples: Samples) -> dict[str, object]:
    return {
        contestant: {
            "median": statistics.median(sample.wall for sample in blocks),
            "minimum": min(sample.wall for sample in blocks),
            "wall": [sample.wall for sample in blocks],
            "cpu": [sample.cpu for sample in blocks],
            "far_cpu": [sample.far_cpu for sample in blocks],
        }
        for contestant, blocks in samples.items()
    }
