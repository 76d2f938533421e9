"""The life of an IRP, as one table.

Every operation on an IRP is an event; the table says which state it leads to, and what is not in the table is a broken
rule with a bug check of its own. The I/O manager steps through this very table, and the diagram in ``docs/`` is drawn
from it, so that neither can be wrong alone.

Who may touch an IRP follows from its state: its creator (ALLOCATED, COMPLETED), the driver it was sent to
(DISPATCHED, PENDING, DISOWNED), the I/O manager (COMPLETING), a completion routine and the driver that keeps the IRP from
it (OFFERED), nobody (FREED).
"""

from __future__ import annotations

from enum import IntEnum


class IrpState(IntEnum):
    """Where an IRP is in its life."""

    ALLOCATED = 0
    DISPATCHED = 1
    PENDING = 2
    COMPLETING = 3
    OFFERED = 4
    COMPLETED = 5
    DISOWNED = 6
    FREED = 7


class IrpEvent(IntEnum):
    """What can happen to an IRP."""

    CALL = 0  # IoCallDriver
    PEND = 1  # IoMarkIrpPending
    COMPLETE = 2  # IoCompleteRequest
    OFFER = 3  # handed to a completion routine, which may keep it (STATUS_MORE_PROCESSING_REQUIRED)
    CONTINUE = 4  # the completion routine did not keep it
    FINISH = 5  # the last completion routine has run; the caller is told
    DISOWN = 6  # the caller gave up on a driver that does not complete
    REUSE = 7  # IoReuseIrp
    FREE = 8  # IoFreeIrp


_S, _E = IrpState, IrpEvent

LIFE: dict[IrpState, dict[IrpEvent, IrpState]] = {
    _S.ALLOCATED: {_E.CALL: _S.DISPATCHED, _E.REUSE: _S.ALLOCATED, _E.FREE: _S.FREED},
    _S.DISPATCHED: {_E.CALL: _S.DISPATCHED, _E.PEND: _S.PENDING, _E.COMPLETE: _S.COMPLETING, _E.DISOWN: _S.DISOWNED},
    _S.PENDING: {_E.CALL: _S.PENDING, _E.PEND: _S.PENDING, _E.COMPLETE: _S.COMPLETING, _E.DISOWN: _S.DISOWNED},
    _S.COMPLETING: {_E.OFFER: _S.OFFERED, _E.FINISH: _S.COMPLETED, _E.DISOWN: _S.DISOWNED},
    _S.OFFERED: {
        _E.CONTINUE: _S.COMPLETING,
        _E.PEND: _S.OFFERED,
        _E.COMPLETE: _S.COMPLETING,
        _E.CALL: _S.DISPATCHED,
        _E.DISOWN: _S.DISOWNED,
        _E.REUSE: _S.ALLOCATED,
        _E.FREE: _S.FREED,
    },
    # The caller may give up at any moment, also while a completion routine runs or the I/O manager is on its way up, and
    # it writes the state without asking them: so whatever they were about to do is still allowed.
    # The caller gives up whenever he likes, also between any two steps of the driver: none of these is the driver's mistake.
    _S.DISOWNED: {
        _E.CALL: _S.DISOWNED,
        _E.PEND: _S.DISOWNED,
        _E.COMPLETE: _S.COMPLETING,
        _E.OFFER: _S.OFFERED,
        _E.CONTINUE: _S.COMPLETING,
        _E.FINISH: _S.COMPLETED,
    },
    _S.COMPLETED: {_E.REUSE: _S.ALLOCATED, _E.FREE: _S.FREED},
    _S.FREED: {},
}
"""state -> event -> next state. An event that is missing is a broken rule."""

STEPS: tuple[tuple[int, ...], ...] = tuple(tuple(int(LIFE[s].get(e, -1)) for e in IrpEvent) for s in IrpState)
"""The same table for the hot path: ``STEPS[state][event]`` is the next state, or -1."""

BROKEN_RULES: dict[IrpEvent, tuple[int, str, str, int | None]] = {
    _E.CALL: (0x2A, "INCONSISTENT_IRP", "the IRP was sent on by somebody who does not own it any more", None),
    _E.PEND: (0x2A, "INCONSISTENT_IRP", "mark an IRP pending before anybody else can see and complete it", None),
    _E.COMPLETE: (
        0x44,
        "MULTIPLE_IRP_COMPLETE_REQUESTS",
        "an IRP is completed once; find who completed it first",
        None,
    ),
    _E.OFFER: (0x2A, "INCONSISTENT_IRP", "completion went on although the IRP has another owner", None),
    _E.CONTINUE: (
        0x44,
        "MULTIPLE_IRP_COMPLETE_REQUESTS",
        "a completion routine that gives the IRP away returns STATUS_MORE_PROCESSING_REQUIRED",
        None,
    ),
    _E.FINISH: (0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS", "an IRP is completed once", None),
    _E.DISOWN: (0x2A, "INCONSISTENT_IRP", "only an IRP that a driver holds can be disowned", None),
    _E.REUSE: (
        0xC9,
        "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
        "reuse an IRP only when it has come back to you",
        0x310,
    ),
    _E.FREE: (
        0xC9,
        "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
        "free an IRP only when it has come back to you",
        0x20A,
    ),
}
"""event -> (bug check code, name, what to do, its first parameter before the IRP) when the table has no such step."""
