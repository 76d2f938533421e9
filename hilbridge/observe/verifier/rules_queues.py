"""The rules about cancellation and queues."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

QUEUE_RULES: tuple[Rule, ...] = (
    Rule(
        "IrpCancelField",
        0xC4,
        None,
        N,
        "a cancel routine was set, and the driver did not look at irp.cancel afterwards",
        "a cancellation that came before finds no routine: look at irp.cancel, and take the routine back; "
        "CancelSafeQueue does it for you",
    ),
    Rule(
        "CancelRoutineBelow",
        0xC9,
        0x229,
        F,
        "a cancel routine was set in an IRP that another driver has",
        "set it before you pass the IRP down, and take it away before that",
    ),
    Rule(
        "CancelSpinLock",
        0x11B,
        None,
        F,
        "a cancel routine returned holding the cancel spin lock",
        "its first line is io.release_cancel_spin_lock(device)",
    ),
    Rule(
        "CancelStateInCompletedIrp",
        0x48,
        None,
        F,
        "a completed IRP was cancelled, and still had a cancel routine",
        "take the cancel routine away before the IRP is completed",
    ),
    Rule(
        "StartIoRecursion",
        0xC4,
        None,
        W,
        "StartIo started the next packet itself",
        "io.set_start_io_attributes(device, deferred=True): in Windows this recurses as deep as the queue is long",
    ),
    Rule(
        "DeviceQueueNotBusy",
        0x02,
        None,
        F,
        "the next packet was asked for while none was in progress",
        "each packet is followed by exactly one start_next_packet",
    ),
    Rule(
        "StartNextPacketIrql", 0x08, None, F, "start_next_packet was not called at DISPATCH_LEVEL", "call it from a DPC"
    ),
    Rule(
        "MarkingQueuedIrps",
        0xC4,
        None,
        N,
        "an IRP was queued with start_packet before it was marked pending",
        "mark_pending() first: StartIo may have completed it when start_packet returns",
    ),
)
