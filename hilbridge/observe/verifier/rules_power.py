"""The rules about power requests."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

POWER_RULES: tuple[Rule, ...] = (
    Rule(
        "PowerInitialStatus",
        0xC9,
        0x20F,
        N,
        "a power IRP was sent without STATUS_NOT_SUPPORTED in it",
        "set irp.io_status.status = STATUS_NOT_SUPPORTED before it is sent",
    ),
    Rule(
        "PowerFailurePassedDown",
        0xC9,
        0x219,
        N,
        "a power IRP was failed, and passed down all the same",
        "complete it with the error",
    ),
    Rule(
        "PowerIrpCompletion",
        0xC9,
        0x231,
        F,
        "a power IRP that had not failed was completed instead of passed down",
        "only the bus driver completes these: pass the IRP on",
    ),
)
