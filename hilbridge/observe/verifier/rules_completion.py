"""The rules about completion: who completes an IRP, with what, and what a completion routine leaves behind."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

COMPLETION_RULES: tuple[Rule, ...] = (
    Rule(
        "DoubleCompletion",
        0x44,
        None,
        F,
        "an IRP was completed twice",
        "find out in the history who completed it first; after complete_request the IRP is not yours",
    ),
    Rule(
        "CompletedWithStatusPending",
        0xC9,
        0x06,
        F,
        "an IRP was completed with STATUS_PENDING or 0xFFFFFFFF in it",
        "set irp.io_status.status to how it ended",
    ),
    Rule(
        "CompletedWithCancelRoutine",
        0xC9,
        0x07,
        F,
        "an IRP was completed while its cancel routine was still set",
        "set_cancel_routine(None) first: if that returns None the cancel routine is running, and completes the IRP",
    ),
    Rule(
        "CompletedAboveDispatch",
        0xC9,
        0x0E,
        F,
        "complete_request was called above DISPATCH_LEVEL",
        "queue a DPC in the service routine, and complete from there",
    ),
    Rule(
        "CompletedWhilePendingBelow",
        0xC9,
        0x209,
        F,
        "an IRP was completed by a driver that had passed it down",
        "it is completed by whoever has it; complete it in a completion routine that keeps it",
    ),
    Rule(
        "CompletedNeverSent",
        0xC9,
        0x239,
        F,
        "an IRP was completed that was never sent with call_driver",
        "free what you have allocated and not sent",
    ),
    Rule(
        "SpinLockSafe",
        0xC4,
        None,
        N,
        "an IRP was completed, or the next packet started, while the driver held a spin lock",
        "completion routines of other drivers run in there: release the lock first",
    ),
    Rule(
        "PendingNotPropagated",
        0xC9,
        0x228,
        N,
        "a completion routine saw irp.pending_returned and did not mark the IRP pending",
        "if irp.pending_returned: irp.mark_pending()",
    ),
    Rule(
        "CompletionRoutineIrql",
        0xC4,
        0xFA,
        F,
        "a completion routine returned at another IRQL than it was called at",
        "release every spin lock that you acquire, on every way out",
    ),
    Rule(
        "InformationTooLarge",
        0xC9,
        0x312,
        N,
        "an IRP was completed with more bytes in Information than its output buffer has",
        "Information is how many bytes the caller gets: at most what he has room for",
    ),
    Rule(
        "SuspiciousStatus",
        0xC9,
        0x300,
        N,
        "an IRP was completed with a status that is no NtStatus",
        "irp.io_status.status is one of STATUS_*, or an NtStatus of your own",
    ),
    Rule(
        "CompletionEventChecking",
        0xC4,
        None,
        N,
        "a completion routine set the event that is its context, and marked the IRP pending",
        "who waits for the IRP returns its status: so it is not pending",
    ),
    Rule(
        "SignalEventInCompletion",
        0xC4,
        None,
        N,
        "a completion routine kept an IRP that had been pended, and did not set the event with which somebody waits for it",
        "ke.set_event(context) on every way out: the wait does not end otherwise",
    ),
)
