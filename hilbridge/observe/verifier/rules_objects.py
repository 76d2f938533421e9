"""The rules about other objects of the kernel: work items, mutexes, critical regions, threads."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

OBJECT_RULES: tuple[Rule, ...] = (
    Rule(
        "WorkItemInvalid",
        0xE4,
        None,
        F,
        "a work item was queued or freed that is queued already, or was freed before",
        "one work item for each piece of work that may be under way",
    ),
    Rule(
        "WorkItemIrql",
        0xE1,
        None,
        F,
        "a work item returned at a raised IRQL",
        "release every spin lock that you acquire, on every way out",
    ),
    Rule(
        "MutexNotOwner",
        0x11,
        None,
        F,
        "a mutex was released by a thread that does not own it",
        "release it in the thread that has acquired it",
    ),
    Rule(
        "FastMutexOwned",
        0xBF,
        None,
        F,
        "a thread acquired a fast mutex that it has already",
        "a fast mutex is not recursive: take a mutex, or acquire it in one place",
    ),
    Rule(
        "CriticalRegions",
        0xC4,
        0x3E,
        F,
        "a critical region was left that was not entered",
        "pair leave_critical_region with enter_critical_region, in the same thread",
    ),
    Rule(
        "ThreadExit",
        0x20,
        None,
        F,
        "a system thread ended at raised IRQL or in a critical region",
        "lower the IRQL and leave the region before the routine returns, on every way out",
    ),
    Rule(
        "ThreadExitWithMutex",
        0x4000008A,
        None,
        F,
        "a system thread ended while it owned a mutex",
        "release the mutex as often as it was acquired, on every way out",
    ),
)
