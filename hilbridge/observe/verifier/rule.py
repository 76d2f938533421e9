"""What a rule of the verifier is: its name, its bug check, how bad it is, and what to do about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

IOMANAGER = 0xC9
DETECTED = 0xC4

BUG_CHECK_NAMES = {
    0x02: "DEVICE_QUEUE_NOT_BUSY",
    0x08: "IRQL_NOT_DISPATCH_LEVEL",
    0x09: "IRQL_NOT_GREATER_OR_EQUAL",
    0x0A: "IRQL_NOT_LESS_OR_EQUAL",
    0x0F: "SPIN_LOCK_ALREADY_OWNED",
    0x10: "SPIN_LOCK_NOT_OWNED",
    0x11: "THREAD_NOT_MUTEX_OWNER",
    0x20: "KERNEL_APC_PENDING_DURING_EXIT",
    0x2A: "INCONSISTENT_IRP",
    0x35: "NO_MORE_IRP_STACK_LOCATIONS",
    0x44: "MULTIPLE_IRP_COMPLETE_REQUESTS",
    0x48: "CANCEL_STATE_IN_COMPLETED_IRP",
    0xB8: "ATTEMPTED_SWITCH_FROM_DPC",
    0xBF: "MUTEX_ALREADY_OWNED",
    0xC4: "DRIVER_VERIFIER_DETECTED_VIOLATION",
    0xC9: "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
    0xCB: "DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS",
    0xCE: "DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS",
    0xE1: "WORKER_THREAD_RETURNED_AT_BAD_IRQL",
    0xE4: "WORKER_INVALID",
    0xF2: "HARDWARE_INTERRUPT_STORM",
    0x11B: "DRIVER_RETURNED_HOLDING_CANCEL_LOCK",
    0x4000008A: "THREAD_TERMINATE_HELD_MUTEX",
}


class Severity(StrEnum):
    """What a broken rule leads to."""

    FATAL = "F"
    """A bug check: the driver's stack fails."""
    NON_FATAL = "N"
    """Recorded; the driver goes on, and who closes the bridge is told."""
    WARNING = "W"
    """Recorded."""


class Rule(NamedTuple):
    """One rule. `parameter` is the first parameter of its bug check, None where that says nothing about the rule."""

    name: str
    code: int
    parameter: int | None
    severity: Severity
    text: str
    advice: str

    @property
    def number(self) -> str:
        """``0xC9/0x203``, or ``0x44``."""
        return f"0x{self.code:X}" + ("" if self.parameter is None else f"/0x{self.parameter:X}")
