"""Where the devices of a bench are: each device of the file, and the port of this machine that it is. Nothing is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilbridge.bridge.monikers import check_moniker
from hilbridge.hal.enumerate import Port, port, ports
from hilbridge.hal.monikers import serial_path
from hilbridge.model.errors import DeviceNotFound, DriverFault, HilbridgeError, UsageFault
from hilbridge.pnp.registry import find_driver

if TYPE_CHECKING:
    from hilbridge.files.bench import Bench

MAX_LISTED = 12
"""Ports in one message."""


@dataclass(frozen=True, slots=True)
class Found:
    """One device of a bench: what it is plugged in with, or why it cannot be."""

    name: str
    wanted: str
    """What the file says, in a reader's words: ``usb 0403:6001, serial_number A50285BI``."""
    moniker: str | None = None
    """What to plug in; None for a board that is yet to be served, and where there is a `problem`."""
    port: Port | None = None
    """The port of this machine, for those that are one."""
    board: Path | None = None
    """The board file to serve."""
    problem: HilbridgeError | None = None


def look(bench: Bench, *, virtual: bool) -> list[Found]:
    """Find every device, in the file's order; with `virtual` its twin. A device that is not there has its `problem`.

    Raises `ConfigError` for a driver, a filter or a virtual device that there is none of, and `DeviceFault` if the ports
    cannot be listed.
    """
    check_monikers(bench)
    check_drivers(bench)
    if virtual:
        return [_twin(bench, name) for name in bench.devices]
    listed = ports() if any(device.match is not None for device in bench.devices.values()) else []
    found = [_hardware(bench, name, listed) for name in bench.devices]
    taken: dict[str, str] = {}
    for index, one in enumerate(found):
        if one.port is None:
            continue
        first = taken.setdefault(one.port.device, one.name)
        if first != one.name:
            problem = bench.fault(f"is {one.port.device}, and so is {first!r}", "devices", one.name)
            found[index] = replace(one, moniker=None, problem=problem)
    return found


def all_of(found: list[Found]) -> None:
    """Raise for the devices that are not there: the first one's error, with what there is to say of the others."""
    problems = [one.problem for one in found if one.problem is not None]
    if problems:
        first = problems[0].again()
        first.add_words("".join(f"\n{problem}" for problem in problems[1:]))
        raise first


def check_monikers(bench: Bench) -> None:
    """Raise `ConfigError` for the first moniker that cannot be, be it of hardware or of a twin."""
    for name in bench.devices:
        for path, moniker in ((("at",), bench.moniker(name)), (("virtual", "at"), bench.moniker(name, virtual=True))):
            if moniker is not None:
                try:
                    check_moniker(moniker)
                except UsageFault as error:
                    raise bench.fault(str(error), "devices", name, *path) from error


def check_drivers(bench: Bench) -> None:
    """Raise `ConfigError` for the first driver or filter that cannot be found. ``package.module`` is imported for that."""
    for name, device in bench.devices.items():
        wanted: list[tuple[tuple[str | int, ...], str]] = [(("filters", at), w) for at, w in enumerate(device.filters)]
        if device.driver is not None:
            wanted.insert(0, (("driver",), device.driver))
        for path, driver in wanted:
            try:
                find_driver(driver)
            except (UsageFault, DriverFault) as error:
                raise bench.fault(str(error), "devices", name, *path) from error


def _twin(bench: Bench, name: str) -> Found:
    board, moniker = bench.board(name), bench.moniker(name, virtual=True)
    if board is not None:
        return Found(name, f"board {board.name}", board=board)
    if moniker is not None:
        return Found(name, moniker, moniker)
    message = "has no twin: give it a 'virtual', or leave --virtual away (virtual=True in a script)"
    return Found(name, "nothing", problem=bench.fault(message, "devices", name, key=True))


def _hardware(bench: Bench, name: str, listed: list[Port]) -> Found:
    moniker = bench.moniker(name)
    if moniker is None:
        return _matching(bench, name, listed)
    try:
        if serial_path(moniker) is None:
            return Found(name, moniker, moniker)  # another machine's, or virtual: known when it is opened
        return Found(name, moniker, moniker, port(moniker))
    except HilbridgeError as error:
        problem = error.again()
        # A file that can be corrected says where; a device that is missing says which.
        problem.message = f"{bench.where('devices', name, 'at')}: {name}: {error}"
        problem.args = (problem.message,)
        return Found(name, moniker, problem=problem)


def _matching(bench: Bench, name: str, listed: list[Port]) -> Found:
    match = bench.devices[name].match
    assert match is not None
    wanted = match.wanted()
    words = ", ".join(f"{key} {value}" for key, value in wanted.items())
    fitting = [one for one in listed if all(_of(one, key) == value for key, value in wanted.items())]
    if len(fitting) == 1:
        return Found(name, words, fitting[0].device, fitting[0])
    where = ("devices", name, "match")
    problem: HilbridgeError
    if fitting:
        message = f"{len(fitting)} ports have {words}: {_shown(fitting)}; tell them apart by serial_number or location"
        problem = bench.fault(message, *where)
    else:
        there = f"there are {_shown(listed)}" if listed else "this machine has no serial port at all"
        problem = DeviceNotFound(f"{bench.where(*where)}: {name}: no port has {words}; {there}")
    return Found(name, words, problem=problem)


def _of(one: Port, key: str) -> str | None:
    value: str | None = one.usb_id if key == "usb" else getattr(one, key)
    return value


def _shown(found: list[Port]) -> str:
    """Ports with what tells them apart. A device says of itself what it likes: it shall not steer the terminal."""
    shown = []
    for one in found[:MAX_LISTED]:
        marks = [one.usb_id, one.serial_number and f"serial_number {one.serial_number}"]
        marks.append(one.location and f"location {one.location}")
        known = ", ".join(mark for mark in marks if mark)
        shown.append(f"{one.device} ({known})" if known else one.device)
    if len(found) > MAX_LISTED:
        shown.append(f"and {len(found) - MAX_LISTED} more")
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]", "?", ", ".join(shown))
