"""An IRP that remembers: what was done to it, where, and by whom.

Each step costs one tuple. The code object and the line are kept as they are; words are made of them for a report only.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hilbridge.iomgr.base import holder_of
from hilbridge.model.irp import CancelRoutine, CompletionRoutine, Irp
from hilbridge.observe.verifier import protocol
from hilbridge.observe.verifier.watch import is_below

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.observe.verifier.finding import Moment
    from hilbridge.observe.verifier.protocol import Protocol
    from hilbridge.observe.verifier.remlocks import Hold
    from hilbridge.observe.verifier.watch import Verifier

HISTORY = 64
"""Moments that an IRP keeps; the oldest are forgotten."""


_CANCEL = vars(Irp)["cancel"]
"""The slot of the base class, which the property below hides."""


class VerifiedIrp(Irp):
    """An IRP under the verifier. Each bridge has a subclass of its own, with its `verifier`."""

    __slots__ = (
        "at",
        "completed_at",
        "copied_at",
        "ended_with",
        "forwarded",
        "history",
        "holds",
        "looked_at_cancel",
        "marked_at",
        "marks",
        "protocol",
        "reached",
        "refused",
        "routine_at",
        "sent",
    )

    verifier: Verifier

    def __init__(self, irp_id: int, stack_count: int, born: int = 0) -> None:
        super().__init__(irp_id, stack_count, born)
        self.history: list[Moment] = []
        self.verifier.irp_made(irp_id, self.history)
        self.sent = False
        """Whether it was sent with call_driver since it was made."""
        self.reached = stack_count + 1
        """The lowest location it has been sent to."""
        self.at = stack_count + 1
        """The location of the driver that has it: who passes it on from there has skipped his own."""
        self.marked_at: set[int] = set()
        """Locations at which it was marked pending."""
        self.marks = 0
        """How often it was marked pending."""
        self.holds: list[Hold] | None = None
        """The remove locks that were acquired for it, and not released."""
        self.refused: DeviceObject[Any] | None = None
        """Whose driver was refused its remove lock in its dispatch routine for it."""
        self.routine_at: set[int] = set()
        """Locations into which set_completion_routine has put a routine."""
        self.copied_at: set[int] = set()
        """Locations that were filled by copy_current_stack_location_to_next."""
        self.completed_at: set[int] = set()
        """Locations that it has passed on its way up."""
        self.forwarded: dict[int, Any] = {}
        """Location -> what call_driver returned to the driver of that location."""
        self.protocol: Protocol | None = None
        """What is noted of a Plug and Play, power or system control request."""
        self.ended_with: dict[int, Any] = {}
        """Location -> the status with which it was completed there. A completion routine above that takes the IRP back may
        complete it with another one, before the driver below has returned."""
        self.looked_at_cancel = True
        """Whether somebody has asked for `cancel` since a cancel routine was set."""

    @property
    def cancel(self) -> bool:
        """Irp.Cancel. Who sets a cancel routine has to look at it afterwards, so looking is noted."""
        self.looked_at_cancel = True
        return bool(_CANCEL.__get__(self))

    @cancel.setter
    def cancel(self, value: bool) -> None:
        _CANCEL.__set__(self, value)

    def note(self, event: str, word: object = "", depth: int = 2) -> None:
        """Remember a moment; `depth` is how far up the caller is who did it."""
        frame = sys._getframe(depth)
        history = self.history
        history.append((event, frame.f_code, frame.f_lineno, word))
        if len(history) > HISTORY:
            del history[0]

    def mark_pending(self) -> None:
        """IoMarkIrpPending."""
        here = self.current_location
        self.marked_at.add(here)
        self.marks += 1
        self.note("marked pending")
        running = self.verifier.running()
        if running and here <= self.stack_count and self.stack[here - 1].device_object is not running[-1].device:
            self._marked_below(running[-1].device)
        super().mark_pending()

    def copy_current_stack_location_to_next(self) -> None:
        """IoCopyCurrentIrpStackLocationToNext."""
        super().copy_current_stack_location_to_next()
        self.copied_at.add(self.current_location - 1)

    def set_completion_routine(
        self,
        routine: CompletionRoutine,
        context: Any = None,
        *,
        on_success: bool = True,
        on_error: bool = True,
        on_cancel: bool = True,
    ) -> None:
        """IoSetCompletionRoutine."""
        super().set_completion_routine(routine, context, on_success=on_success, on_error=on_error, on_cancel=on_cancel)
        self.routine_at.add(self.current_location - 1)

    def set_cancel_routine(self, routine: CancelRoutine | None) -> CancelRoutine | None:
        """IoSetCancelRoutine."""
        if routine is not None:
            self.looked_at_cancel = False
            self.note("cancel routine set")
            self._holder_sets_it()
        return super().set_cancel_routine(routine)

    def _holder_sets_it(self) -> None:
        caller = self.verifier.caller()
        if is_below(holder_of(self), caller):
            self.verifier.report("CancelRoutineBelow", irp=self, device=caller)

    def _marked_below(self, caller: DeviceObject[Any] | None) -> None:
        if is_below(holder_of(self), caller):
            self.verifier.report(protocol.mark_rule(self.stack[self.current_location - 1]), irp=self, device=caller)
