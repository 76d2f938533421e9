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
    Rule(
        "PowerStatusChanged",
        0xC9,
        0x23B,
        N,
        "the status of a power IRP that the driver does not understand was changed",
        "pass on what you do not know as it came",
    ),
    Rule(
        "PowerTurnedIntoNotSupported",
        0xC9,
        0x21A,
        N,
        "the status of a power IRP was turned into STATUS_NOT_SUPPORTED",
        "that status means that nobody knows the request: keep the one that it came with",
    ),
    Rule(
        "PowerUnknownCompleted",
        0xC9,
        0x230,
        N,
        "a power IRP with a minor function that there is not was completed instead of passed down",
        "pass on what you do not know as it came",
    ),
    Rule(
        "PowerUntouchedCompleted",
        0xC9,
        0x232,
        N,
        "a power IRP that the driver does not handle was completed instead of passed down",
        "skip_current_stack_location(), and call_driver",
    ),
    Rule(
        "PowerUpFail",
        0xC4,
        None,
        N,
        "a function or filter driver failed SET_POWER to a state with more power",
        "do what can be done, and pass on the status that came from below: it cannot be refused",
    ),
    Rule(
        "PowerDownFail",
        0xC4,
        None,
        N,
        "a function or filter driver failed SET_POWER to a state with less power",
        "refuse QUERY_POWER, if you may; SET_POWER cannot be refused",
    ),
    Rule(
        "MarkPower",
        0xC4,
        None,
        N,
        "a power IRP was marked pending after it had been passed down",
        "mark_pending() comes before call_driver",
    ),
    Rule(
        "MarkPowerDown",
        0xC4,
        None,
        N,
        "SET_POWER to a sleeping state of the system was marked pending after it had been passed down",
        "mark_pending() comes before call_driver",
    ),
    Rule(
        "MarkDevicePower",
        0xC4,
        None,
        N,
        "SET_POWER to the working state of the system was marked pending after it had been passed down",
        "mark_pending() comes before call_driver",
    ),
    Rule(
        "PowerDispatchWait",
        0xC4,
        None,
        N,
        "a driver waited for a power IRP that it had passed down",
        "a completion routine goes on when it comes back: who waits holds up the whole system",
    ),
)
