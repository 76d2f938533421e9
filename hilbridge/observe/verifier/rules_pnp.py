"""The rules about Plug and Play requests: their status on the way down and up, and who completes them."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

PNP_RULES: tuple[Rule, ...] = (
    Rule(
        "PnpInitialStatus",
        0xC9,
        0x20E,
        N,
        "a Plug and Play IRP was sent without STATUS_NOT_SUPPORTED in it",
        "set irp.io_status.status = STATUS_NOT_SUPPORTED before it is sent",
    ),
    Rule(
        "PnpStatusChanged",
        0xC9,
        0x213,
        N,
        "the status of a Plug and Play IRP that the driver does not understand was changed on its way down",
        "pass on what you do not know as it came",
    ),
    Rule(
        "PnpFailurePassedDown",
        0xC9,
        0x215,
        N,
        "a Plug and Play IRP was failed, and passed down all the same",
        "complete it with the error",
    ),
    Rule(
        "PnpTurnedIntoNotSupported",
        0xC9,
        0x216,
        N,
        "the status of a Plug and Play IRP was turned into STATUS_NOT_SUPPORTED",
        "that status means that nobody knows the request: fail with another one",
    ),
    Rule(
        "PnpIrpCompletion",
        0xC9,
        0x22E,
        N,
        "a Plug and Play IRP that the driver had handled with success was completed instead of passed down",
        "only the bus driver completes these: set the status, and pass the IRP on",
    ),
    Rule(
        "PnpUntouchedCompleted",
        0xC9,
        0x22F,
        N,
        "a Plug and Play IRP that the driver does not know was completed instead of passed down",
        "skip_current_stack_location(), and call_driver",
    ),
    Rule(
        "MayNotFail",
        0xC9,
        0x247,
        F,
        "an IRP was failed that may not fail",
        "STOP, the CANCELs and SURPRISE_REMOVAL tell what is so: do your part, set STATUS_SUCCESS, pass it on",
    ),
    Rule(
        "RemoveFailed",
        0xC9,
        0x306,
        N,
        "REMOVE_DEVICE was completed with a failure",
        "it cannot be refused: set STATUS_SUCCESS",
    ),
)
