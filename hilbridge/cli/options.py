"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import math
from typing import Any

SETTINGS = ("baudrate", "bytesize", "parity", "stopbits", "xonxoff", "rtscts")


def seconds(text: str) -> float:
    """A number of seconds, from 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds: give 0 or more, as 2.5")
    return value


def add_port(parser: argparse.ArgumentParser) -> None:
    """NAME, the line's settings, filters."""
    parser.add_argument("name", metavar="NAME", help="which port: /dev/ttyUSB0, socket://host:port, virtual:loop, ...")
    group = parser.add_argument_group(
        "line settings (115200 8N1 unless told otherwise; names and values as in pyserial)"
    )
    group.add_argument("--baudrate", type=int, metavar="N", help="bits per second")
    group.add_argument("--bytesize", type=int, metavar="N", help="5, 6, 7 or 8")
    group.add_argument("--parity", metavar="P", help="N, E, O, M or S")
    group.add_argument("--stopbits", type=float, metavar="N", help="1, 1.5 or 2")
    group.add_argument("--xonxoff", action="store_true", default=None, help="software flow control")
    group.add_argument("--rtscts", action="store_true", default=None, help="hardware flow control")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="DRIVER",
        help="put a filter driver on top of the port: counter, or package.module; may be repeated",
    )


def line_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given; the others keep their defaults."""
    return {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout, with stable keys")
