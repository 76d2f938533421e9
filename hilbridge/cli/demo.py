"""``hilbridge demo``: the main job, on a board made of a YAML file. No hardware, no system package.

What it prints on stdout is the same in each run, so that a test can compare it with what the README shows. The numbers
that depend on how the bytes happened to arrive go to stderr.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import hilbridge
from hilbridge.bridge.console import Console
from hilbridge.bridge.handle import Handle
from hilbridge.cli import output
from hilbridge.testing.fixture import start_fixture

DESCRIPTION = """\
The main job, without hardware: a scripted board is served on a pseudo-terminal by a process of its own; hilbridge opens
it, stops its autoboot, runs two commands, resets it, and catches its banner again."""

EXAMPLES = """\
examples:
  hilbridge demo
  hilbridge demo --story     one read on its way through the bridge: eleven steps, from a real run
"""

STEP_TIMEOUT = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[--story]."""
    parser.add_argument("--story", action="store_true", help="tell the story of one read instead")


def run(args: argparse.Namespace) -> int:
    """Run one of the two."""
    if args.story:
        from hilbridge.cli.demo_story import story

        output.data(story())
        return 0
    began = time.monotonic()
    # Held in reset until the port is open: so the board's first byte is heard.
    with (
        start_fixture("boards/demo", held=True) as board,
        hilbridge.open(board.port, upper_filters=["counter"]) as port,
        port.bridge.open(port.name, access="r") as listener,
    ):
        board.reset()
        results = converse(port.console(prompt="=> "))
        heard = listener.read(listener.in_waiting)
        numbers = port.bridge.statistics()
        stack = " over ".join(device.driver_object.name for device in port.bridge.stack(port.name))
    output.data(report(port, stack, heard.decode(), results, numbers))
    requests = ", ".join(f"{count} {name}" for name, count in numbers["drivers"][f"{port.name}/counter"].items())
    output.talk(f"this run: {requests}; {numbers['machine']}; {time.monotonic() - began:.1f} s")
    return 0


def converse(console: Console[str]) -> dict[str, str]:
    """What a script does with a board. Returns what was learnt."""
    _stop_autoboot(console)
    version = console.command("version", timeout=STEP_TIMEOUT)
    commands = console.command("help", timeout=STEP_TIMEOUT)
    console.sendline("reset")
    console.expect("resetting", timeout=STEP_TIMEOUT)
    banner = console.expect(r"HILBoot ([0-9.]+)", timeout=STEP_TIMEOUT)
    _stop_autoboot(console)
    return {
        "version": version.splitlines()[0],
        "help": ", ".join(line.split()[0] for line in commands.splitlines()),
        "reset": f"the banner came again: {banner.text}",
    }


def _stop_autoboot(console: Console[str]) -> None:
    console.expect("autoboot", timeout=STEP_TIMEOUT)
    console.send(" ")
    console.expect(r"\n=> ", timeout=STEP_TIMEOUT)


def report(port: Handle, stack: str, heard: str, results: dict[str, str], numbers: dict[str, Any]) -> str:
    """What the demo prints."""
    counted = numbers["drivers"][f"{port.name}/counter"]
    filtered = f"The filter driver counted {counted['WRITE']} writes and {counted['CREATE']} opens."
    ended = f"Requests pending: {numbers['pending']}. Mistakes of drivers: {len(numbers['faults'])}."
    lines = [
        f"A scripted board on a pseudo-terminal, opened as {port.name}: {stack}.",
        f"What it said, as a second reader of {port.name} heard it:",
        "",
        *(f"  | {line}".rstrip() for line in as_shown(heard)),
        "",
        "What the script learnt:",
        "",
        *(f"  {name:9} {text}" for name, text in results.items()),
        "",
        f"{filtered} {ended}",
    ]
    return "\n".join(lines) + "\n"


def as_shown(text: str) -> list[str]:
    """The lines that a terminal would show: a countdown is drawn over itself with backspaces."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        cells: list[str] = []
        column = 0
        for character in line:
            if character in "\b\r":
                column = 0 if character == "\r" else max(0, column - 1)
                continue
            cells[column : column + 1] = character
            column += 1
        lines.append("".join(cells))
    return lines
