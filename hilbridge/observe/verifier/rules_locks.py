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
)
