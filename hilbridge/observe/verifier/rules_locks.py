"""The rules about remove locks."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

LOCK_RULES: tuple[Rule, ...] = (
    Rule(
        "RemoveLockRelease",
        0xC4,
        0xD5,
        F,
        "a remove lock was released with a tag that nobody holds it with",
        "release it once for each acquire, with the same tag",
    ),
    Rule(
        "RemoveLockReleaseAndWait",
        0xC4,
        0xD6,
        F,
        "release_and_wait of a remove lock with a tag that nobody holds it with",
        "acquire the lock for the removal itself, and give it up with the same tag",
    ),
    Rule(
        "RemoveLockInitialize",
        0xC4,
        0xD7,
        F,
        "a remove lock was initialized twice",
        "initialize it once, where the device is made",
    ),
    Rule(
        "RemoveLock",
        0xC4,
        None,
        N,
        "a dispatch routine completed its IRP, and kept the remove lock that it had acquired for it",
        "release the lock on every way out, with the same tag",
    ),
    Rule(
        "RemoveLockRelease2",
        0xC4,
        None,
        N,
        "an IRP that had waited was completed, and its remove lock was kept",
        "release the lock where you complete what you have pended",
    ),
    Rule(
        "RemoveLockForward",
        0xC4,
        None,
        N,
        "an IRP was passed down, and nobody can release the remove lock that was acquired for it",
        "release it after call_driver, or in a completion routine",
    ),
    Rule(
        "RemoveLockForward2",
        0xC4,
        None,
        N,
        "a completion routine let an IRP go on, and kept its remove lock",
        "release the lock in the completion routine, on every way out",
    ),
    Rule(
        "RemoveLockRefused",
        0xC4,
        None,
        N,
        "an IRP was passed down though the remove lock was refused",
        "complete the IRP with the status that acquire returned: the device below may be gone",
    ),
    Rule(
        "RemoveLockCheck",
        0xC4,
        None,
        N,
        "a device was detached in REMOVE_DEVICE while its remove lock could still be acquired",
        "release_and_wait first: it waits for who still uses the device",
    ),
    Rule(
        "RemoveLockMnRemove",
        0xC4,
        None,
        N,
        "REMOVE_DEVICE was passed down without the remove lock",
        "acquire it first; release_and_wait gives it up afterwards",
    ),
    Rule(
        "RemoveLockMnSurpriseRemove",
        0xC4,
        None,
        N,
        "SURPRISE_REMOVAL was passed down without the remove lock",
        "acquire it first, and release it when the request has come back",
    ),
    Rule(
        "RemoveLockQueryMnRemove",
        0xC4,
        None,
        N,
        "QUERY_REMOVE_DEVICE was passed down without the remove lock",
        "acquire it first, and release it when the request has come back",
    ),
    Rule(
        "IoReleaseRemoveLockAndWaitOutsideRemoveDevice",
        0xC4,
        None,
        N,
        "release_and_wait of the device's remove lock outside REMOVE_DEVICE",
        "release it there: only the removal waits for the others",
    ),
    Rule(
        "MultRemoveLock",
        0xC4,
        None,
        W,
        "a device has two remove locks and uses both",
        "one lock for the device: the removal has to wait for all users",
    ),
)
