"""What the drivers of a stack do with an IRP: a plan that the IRP machine draws, and that drivers and reference follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from hypothesis import strategies as st

from hilbridge.model.status import (
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_IO_TIMEOUT,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)

ROOM = 8
"""Bytes in the buffer of every request."""
STATUSES = (STATUS_SUCCESS, STATUS_UNSUCCESSFUL, STATUS_BUFFER_OVERFLOW, STATUS_CANCELLED, STATUS_IO_TIMEOUT)


class Does(Enum):
    """What a dispatch routine does."""

    COMPLETES = auto()
    """Completes it now."""
    HOLDS = auto()
    """Marks it pending and keeps it, without a cancel routine."""
    QUEUES = auto()
    """Puts it into a cancel-safe queue."""
    PENDS_AND_COMPLETES = auto()
    """Marks it pending, and completes it before it returns."""
    SKIPS = auto()
    """Passes it down, without a look back."""
    WATCHES = auto()
    """Passes it down with a completion routine, and returns what came back."""
    PENDS_AND_WATCHES = auto()
    """Marks it pending, passes it down with a completion routine, and returns STATUS_PENDING."""
    TAKES_BACK = auto()
    """Passes it down, waits for it, and completes it."""
    ALLOCATES = auto()
    """Marks it pending, and sends an IRP of its own, from allocate_irp, which ends it."""
    BUILDS_ASYNCHRONOUS = auto()
    """The same with build_asynchronous_fsd_request."""
    BUILDS_SYNCHRONOUS = auto()
    """Sends an IRP from build_synchronous_fsd_request, waits for it, and completes its own as that has ended."""
    SPLITS = auto()
    """Marks it pending, and sends associated IRPs."""


class Then(Enum):
    """What the completion routine of a driver that watches does; without pending, `GOES_ON` is all that it may."""

    GOES_ON = auto()
    CHANGES = auto()
    """Writes another status into it, and lets it go on."""
    KEEPS = auto()
    """Returns STATUS_MORE_PROCESSING_REQUIRED. It is completed later."""
    COMPLETES = auto()
    """Completes it in the routine, and returns STATUS_MORE_PROCESSING_REQUIRED."""
    TRIES_AGAIN = auto()
    """Sends it down once more; the second time it goes on. (A driver's own IRP is reused for that.)"""


BOTTOM = (Does.COMPLETES, Does.HOLDS, Does.QUEUES, Does.PENDS_AND_COMPLETES)
OFTEN = (*Does, *(Does.WATCHES,) * 4, *(Does.PENDS_AND_WATCHES,) * 2, *(Does.SKIPS,) * 2)
"""All, and more often what leads on to the drivers below."""
WAITS = (Does.TAKES_BACK, Does.BUILDS_SYNCHRONOUS)


@dataclass(frozen=True)
class Act:
    """What one driver does."""

    does: Does
    status: NtStatus = STATUS_SUCCESS
    information: int = 0
    then: Then = Then.GOES_ON
    on_success: bool = True
    on_error: bool = True
    on_cancel: bool = True
    cancels: bool = False
    """It cancels the IRP first: as if its caller had, at that moment."""
    routine_cancels: bool = False
    """Its completion routine does so."""
    parts: int = 1


Plan = Sequence[Act]
"""An act for each level; level 0 is the lowest device."""


def ends_within(plan: Plan, level: int) -> bool:
    """Whether an IRP that is sent to that level has ended when call_driver returns, whoever cancels it or not."""
    act = plan[level]
    if act.does in (Does.COMPLETES, Does.PENDS_AND_COMPLETES, *WAITS):
        return True
    if act.does in (Does.HOLDS, Does.QUEUES):
        return False
    return ends_within(plan, level - 1) and not (act.does is Does.PENDS_AND_WATCHES and act.then is Then.KEEPS)


def possible(acts: Sequence[Act]) -> Plan:
    """The same without what cannot be: passing down at the bottom, waiting for what does not end."""
    plan: list[Act] = []
    for level, act in enumerate(acts):
        does = act.does
        if level == 0 and does not in BOTTOM:
            does = BOTTOM[does.value % len(BOTTOM)]
        if does in WAITS and not ends_within(plan, level - 1):
            does = Does.PENDS_AND_WATCHES
        plan.append(replace(act, does=does, then=Then.GOES_ON if does is Does.WATCHES else act.then))
    return tuple(plan)


_MOSTLY_NOT = st.sampled_from((False,) * 7 + (True,))
_MOSTLY = st.sampled_from((True, True, False))


def plans(levels: int) -> st.SearchStrategy[Plan]:
    """A plan for a stack of that many devices."""
    acts = st.builds(
        Act,
        does=st.sampled_from(OFTEN),
        status=st.sampled_from(STATUSES),
        information=st.integers(0, ROOM),
        then=st.sampled_from(Then),
        on_success=_MOSTLY,
        on_error=_MOSTLY,
        on_cancel=_MOSTLY,
        cancels=_MOSTLY_NOT,
        routine_cancels=_MOSTLY_NOT,
        parts=st.integers(1, 3),
    )
    return st.lists(acts, min_size=levels, max_size=levels).map(possible)
