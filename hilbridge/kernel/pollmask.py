"""Poll events and interrupt causes, translated once. Linux gives poll and epoll the same numbers for these."""

from __future__ import annotations

from hilbridge.model.hardware import CAUSE_GONE, CAUSE_RX, CAUSE_TX

POLL_IN = 0x01
POLL_OUT = 0x04
POLL_ERR = 0x08
POLL_HUP = 0x10
POLL_NVAL = 0x20
POLL_GONE = POLL_ERR | POLL_HUP | POLL_NVAL

MASKS = (0, POLL_IN, POLL_OUT, POLL_IN | POLL_OUT)
"""What to ask the selector for: indexed by CAUSE_RX | CAUSE_TX."""
CAUSES = tuple(
    (CAUSE_RX if event & POLL_IN else 0)
    | (CAUSE_TX if event & POLL_OUT else 0)
    | (CAUSE_GONE if event & POLL_GONE else 0)
    for event in range(64)
)
"""What the selector's answer means to a driver: indexed by the answer, which has none but the bits above."""


def poll_mask(causes: int) -> int:
    """What to ask the selector for. Hang-ups come unasked."""
    return MASKS[causes & 3]
