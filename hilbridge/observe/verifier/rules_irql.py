"""The rules about IRQL and spin locks."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

IRQL_RULES: tuple[Rule, ...] = (
    Rule(
        "IrqlKeRaise",
        0x09,
        None,
        F,
        "the IRQL was raised to a lower level, or to one that there is not",
        "raised_irql takes the current IRQL or a higher one, up to HIGH_LEVEL",
    ),
    Rule(
        "IrqlPassive",
        0x0A,
        None,
        F,
        "a routine was called at a higher IRQL than it allows",
        "call it at PASSIVE_LEVEL: from a dispatch routine or a work item",
    ),
    Rule(
        "IrqlKeSetEvent",
        0xC4,
        0x80,
        F,
        "an event was set above DISPATCH_LEVEL",
        "queue a DPC in the service routine, and set the event there",
    ),
    Rule("SpinLock", 0x0F, None, F, "a spin lock was acquired by its owner", "a spin lock is not recursive"),
    Rule(
        "SpinlockRelease",
        0x10,
        None,
        F,
        "a spin lock was released by somebody who does not own it",
        "release it once, where it was acquired",
    ),
    Rule(
        "SpinLockIrql",
        0xC4,
        0x42,
        F,
        "a spin lock was acquired above DISPATCH_LEVEL",
        "share data with a service routine through interrupt.synchronize",
    ),
    Rule(
        "LockOrder",
        0xC4,
        0x1001,
        F,
        "two spin locks were acquired in one order here, and in the other order elsewhere",
        "two threads that do so at once wait for each other for ever: decide on one order",
    ),
    Rule(
        "SpinLockHeldAtReturn",
        0xC4,
        0x00040009,
        F,
        "a driver's routine returned and left a spin lock held",
        "use `with lock:`, or release it on every way out",
    ),
    Rule(
        "WaitAtDispatch",
        0xB8,
        None,
        F,
        "a driver waited at DISPATCH_LEVEL",
        "wait in a dispatch routine or a work item; with timeout=0 you may look",
    ),
    Rule(
        "IsrIrql",
        0xC4,
        0x111,
        F,
        "a service routine returned at another IRQL than it was called at",
        "leave the IRQL alone in a service routine",
    ),
    Rule(
        "InterruptStorm",
        0xF2,
        None,
        F,
        "a device interrupts without end",
        "quiet the device before you claim its interrupt",
    ),
    Rule(
        "IrqlIoPassive1",
        0xC4,
        0x0002000A,
        F,
        "a request was built above APC_LEVEL that its thread has to wait for",
        "use allocate_irp, or a work item",
    ),
    Rule(
        "IrqlIoPassive3", 0xC4, 0x0002000C, F, "a device was detached above PASSIVE_LEVEL", "detach it in REMOVE_DEVICE"
    ),
    Rule(
        "IrqlIoPassive5",
        0xC4,
        0x0002000E,
        F,
        "a routine of the I/O manager that is for PASSIVE_LEVEL was called above it",
        "call it in a dispatch routine at PASSIVE_LEVEL, or in a work item",
    ),
    Rule(
        "IrqlIoApcLte",
        0xC4,
        None,
        F,
        "a device was deleted above APC_LEVEL",
        "delete it in REMOVE_DEVICE, or in the unload routine",
    ),
    Rule(
        "IrqlIoDispatchLte",
        0xC4,
        None,
        F,
        "a routine of the I/O manager was called above DISPATCH_LEVEL",
        "queue a DPC in the service routine, and call it there",
    ),
    Rule(
        "IrqlKeDispatchLte",
        0xC4,
        0x00020011,
        F,
        "a routine of the kernel was called above DISPATCH_LEVEL",
        "queue a DPC in the service routine, and call it there",
    ),
    Rule("FileIoIrql", 0xC9, 0x24A, F, "a file was opened or closed above PASSIVE_LEVEL", "use a work item"),
)
