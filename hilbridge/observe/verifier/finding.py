"""A finding: which rule was broken, by which driver, on which line, with which IRP, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hilbridge.kernel import culprit
from hilbridge.model.codes import IrpMajor
from hilbridge.model.irp_life import IrpState
from hilbridge.observe.verifier.rule import Rule

if TYPE_CHECKING:
    from types import CodeType

    from hilbridge.model.irp import Irp
    from hilbridge.observe.verifier.irp import VerifiedIrp

_DRIVERS = ("hilbridge/drivers/", "hilbridge/filters/")
Moment = tuple[str, "CodeType | None", int, object]
"""What happened to an IRP: the event, the code and line that did it, and a word more, or a status. Text for a report only."""


@dataclass(slots=True)
class Finding:
    """One broken rule. ``str()`` is a report of several lines; `as_dict` is for JSON."""

    rule: Rule
    driver: str
    device: str
    place: str | None
    """``file:line`` of the driver's own code."""
    details: str = ""
    irp: dict[str, Any] | None = None
    """The IRP, as it was: id, major function, state, status, stack locations, history."""
    seed: int | None = None
    """Of the forced failures, if there were some: repeats the run."""

    def __str__(self) -> str:
        lines = [
            f"{self.rule.name} ({self.rule.number}, {self.rule.severity.name.lower().replace('_', '-')}): {self.rule.text}",
            f"  driver   {self.driver} ({self.device})",
        ]
        if self.place:
            lines.append(f"  where    {self.place}")
        if self.details:
            lines.append(f"  details  {self.details}")
        if self.irp is not None:
            lines.append(f"  request  {self.irp['id']} {self.irp['major']}, {self.irp['state']}, {self.irp['status']}")
            lines += [f"           {n}. {text}" for n, text in self.irp["stack"]]
            lines += [f"  history  {text}" for text in self.irp["history"]]
        lines.append(f"  do       {self.rule.advice}")
        if self.seed is not None:
            lines.append(f"  repeat   seed {self.seed}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The same with stable keys."""
        return {
            "rule": self.rule.name,
            "number": self.rule.number,
            "severity": self.rule.severity.value,
            "text": self.rule.text,
            "advice": self.rule.advice,
            "driver": self.driver,
            "device": self.device,
            "place": self.place,
            "details": self.details,
            "irp": self.irp,
            "seed": self.seed,
        }


def describe_irp(irp: Irp | VerifiedIrp) -> dict[str, Any]:
    """What a report says of an IRP."""
    top = irp.stack[-1]
    stack = []
    for number in range(irp.stack_count, 0, -1):
        location = irp.stack[number - 1]
        device = location.device_object
        who = f"{device.driver_object.name} {device.name or '(unnamed)'}" if device is not None else "(not reached)"
        here = " <- here" if number == irp.current_location else ""
        stack.append((number, f"{who}, control 0x{location.control:02X}{here}"))
    return {
        "id": f"IRP 0x{irp.id:04X}",
        "major": f"IRP_MJ_{IrpMajor(top.major_function).name}",
        "minor": top.minor_function,
        "state": IrpState(irp.state).name,
        "status": str(irp.io_status.status),
        "stack": stack,
        "history": [describe_moment(moment) for moment in getattr(irp, "history", ())],
    }


def describe_moment(moment: Moment) -> str:
    """A moment of an IRP's history, in words."""
    event, code, line, word = moment
    place = culprit.place_of(code, line) if code is not None else ""
    if place.startswith("hilbridge/") and not place.startswith(_DRIVERS):
        place = ""  # the model's own line says nothing to who has written a driver
    return f"{event}{f' {word!s}' if word != '' else ''}{f' at {place}' if place else ''}"
