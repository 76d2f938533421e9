"""Draws the life of a device from its transition table: the diagram in ``docs/pnp-life.md`` is this, letter for letter.

``python -m tests.model.pnp_diagram`` prints it.
"""

from __future__ import annotations

from hilbridge.model.pnp_life import LIFE, PnpState


def draw() -> str:
    """A Mermaid state diagram: one arrow for each pair of states, labelled with the requests that lead over it."""
    lines = ["stateDiagram-v2", f"    [*] --> {PnpState.ADDED.name}: AddDevice"]
    for state, steps in LIFE.items():
        arrows: dict[PnpState, list[str]] = {}
        for minor, follows in steps.items():
            arrows.setdefault(follows, []).append(minor.name.removesuffix("_DEVICE"))
        lines += [f"    {state.name} --> {follows.name}: {', '.join(minors)}" for follows, minors in arrows.items()]
        if not steps:
            lines.append(f"    {state.name} --> [*]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(draw(), end="")  # noqa: T201
