"""Draws the life of an IRP from its transition table: the diagram in ``docs/irp-life.md`` is this, letter for letter.

``python -m tests.model.irp_diagram`` prints it.
"""

from __future__ import annotations

from hilbridge.model.irp_life import LIFE, IrpEvent, IrpState


def draw(life: dict[IrpState, dict[IrpEvent, IrpState]] = LIFE) -> str:
    """A Mermaid state diagram: one arrow for each pair of states, labelled with the events that lead over it."""
    lines = ["stateDiagram-v2", f"    [*] --> {IrpState.ALLOCATED.name}"]
    for state, steps in life.items():
        arrows: dict[IrpState, list[str]] = {}
        for event, follows in steps.items():
            arrows.setdefault(follows, []).append(event.name)
        lines += [f"    {state.name} --> {follows.name}: {', '.join(events)}" for follows, events in arrows.items()]
        if not steps:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(draw(), end="")  # noqa: T201
