"""Crash dumps: what was so when a driver failed, as one JSON file that says who, where, and with which requests."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilbridge.model.errors import BugCheck, ConfigError, DeviceNotFound, DriverFault, HilbridgeError
from hilbridge.observe.verifier.finding import Finding, describe_irp

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.irp import Irp
    from hilbridge.pnp.node import DeviceNode

SCHEMA_VERSION = 1
KEPT = 50
"""Dumps that a folder keeps; the oldest are deleted."""


def default_folder() -> Path:
    """``$XDG_STATE_HOME/hilbridge/crashes``."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "hilbridge" / "crashes"


def chosen_folder(wish: Path | str | bool) -> Path | None:
    """Where dumps go: True is the default folder, False is nowhere."""
    if wish is True:
        return default_folder()
    return Path(wish) if wish else None


def describe(
    fault: HilbridgeError, failed: DeviceNode, nodes: Iterable[DeviceNode], irps: list[Irp], ke: Kernel
) -> dict[str, Any]:
    """The dump, made in the moment of the failure: later the requests have ended, and the stack is another one."""
    now = ke.clock.now()
    verifier = getattr(ke, "verifier", None)
    finding = fault.finding if isinstance(fault, DriverFault) else None
    cause = fault.__cause__ or fault
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "hilbridge crash",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "device": failed.name,
        "moniker": failed.moniker,
        "fault": {
            "class": type(fault).__name__,
            "message": fault.message,
            "status": str(fault.status),
            "bug_check": f"0x{fault.code:X}" if isinstance(fault, BugCheck) else None,
            "driver": fault.driver if isinstance(fault, DriverFault) else None,
            "place": fault.place if isinstance(fault, DriverFault) else None,
            "traceback": [line.rstrip("\n") for line in traceback.format_exception(cause)],
        },
        "finding": finding.as_dict() if isinstance(finding, Finding) else None,
        "irps": [_irp(irp, now) for irp in irps],
        "events": [{"age": round((now - when) / 1e9, 6), "what": what} for when, what in ke.journal],
        "recent_irps": [] if verifier is None else verifier.recent_irps(),
        "stacks": [
            {
                "name": node.name,
                "state": node.state,
                "failures": node.failures,
                "opens": len(node.pdo.device_stack.files),
                "devices": [_device(device) for device in reversed(node.devices)],
            }
            for node in nodes
        ],
    }


def _device(device: Any) -> dict[str, Any]:
    return {
        "driver": device.driver_object.name,
        "name": device.name,
        "flags": f"0x{device.flags:X}",
        "references": device.reference_count,
        "extension": type(device.extension).__name__,
    }


def _irp(irp: Irp, now: int) -> dict[str, Any]:
    described = describe_irp(irp)
    described["age"] = round((now - irp.born) / 1e9, 6)
    described["what"] = getattr(irp.user_request, "what", "")
    return described


def write(folder: Path, dump: dict[str, Any]) -> Path:
    """Write the dump into `folder` under a new name, and forget the oldest. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = dump["time"].replace(":", "").replace("-", "").replace(".", "").partition("+")[0]
    safe = "".join(c if c.isalnum() else "_" for c in dump["device"])
    text = json.dumps(dump, indent=1, default=str) + "\n"
    number = 0
    while True:
        path = folder / f"{stamp}-{safe}-{number}.json"
        try:
            # Never half-written under its name: another process may list the folder meanwhile.
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            break
        except FileExistsError:
            number += 1
    for old in sorted(folder.glob("*.json"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def read(path: Path) -> dict[str, Any]:
    """A dump from its file. Raises `DeviceNotFound` if there is none, `ConfigError` if it is no dump."""
    try:
        dump = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DeviceNotFound(f"there is no file {path}; crash dumps are in {default_folder()}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}:1:1: this is no crash dump: {error}") from error
    if not isinstance(dump, dict) or dump.get("kind") != "hilbridge crash":
        raise ConfigError(f"{path}:1:1: this is JSON, but no crash dump of hilbridge")
    if dump.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{path}:1:1: a crash dump of another version, {dump.get('schema_version')!r}")
    return dump


def show(dump: dict[str, Any]) -> str:
    """The dump in words."""
    fault = dump["fault"]
    lines = [
        f"{dump['device']} ({dump['moniker']}) failed at {dump['time']}",
        "",
        f"  {fault['message']}",
        f"  driver  {fault['driver'] or '-'}",
        f"  where   {fault['place'] or '-'}",
        f"  status  {fault['status']}",
    ]
    if dump["finding"]:
        lines += ["", f"  rule    {dump['finding']['rule']}: {dump['finding']['text']}"]
        lines.append(f"  do      {dump['finding']['advice']}")
    lines += ["", f"requests of this device that ended with it: {len(dump['irps'])}"]
    for irp in dump["irps"]:
        lines.append(f"  {irp['id']} {irp['major']} {irp['what']}, {irp['state']}, {irp['age']:.3f} s old")
        lines += [f"    {number}. {text}" for number, text in irp["stack"]]
        lines += [f"    {text}" for text in irp["history"]]
    lines += ["", f"the last {len(dump['events'])} events, and how long before the failure they were:"]
    lines += [f"  {event['age']:10.3f} s  {event['what']}" for event in dump["events"]]
    if dump["recent_irps"]:
        lines += ["", "the last requests of all devices, newest last (the driver verifier was on):"]
        for irp in dump["recent_irps"]:
            lines += [f"  {irp['id']}", *(f"    {text}" for text in irp["history"])]
    lines += ["", "device stacks, top first:"]
    for stack in dump["stacks"]:
        over = " over ".join(device["driver"] for device in stack["devices"])
        lines.append(
            f"  {stack['name']}: {over}; {stack['state']}, {stack['opens']} open, {stack['failures']} failures"
        )
    lines += ["", "traceback:", *(f"  {line}" for text in fault["traceback"] for line in text.split("\n"))]
    return "\n".join(lines) + "\n"
