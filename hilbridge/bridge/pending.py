"""A request that is under way, as an application sees it."""

from __future__ import annotations

from typing import NamedTuple


class PendingIrp(NamedTuple):
    """A line of `Bridge.pending`: which request, for how long (seconds), and who has it."""

    irp_id: int
    device: str
    what: str
    age: float
    holder: str
