"""The rules about MDLs. The numbers are those of "Bug Check 0xC4" and "Bug Check 0xCB" (Microsoft)."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N = Severity.FATAL, Severity.NON_FATAL

MDL_RULES: tuple[Rule, ...] = (
    Rule(
        "MdlProbeIrql",
        0xC4,
        0x70,
        F,
        "an MDL was probed and locked above DISPATCH_LEVEL",
        "probe and lock in the dispatch routine, at PASSIVE_LEVEL: memory may have to be paged in",
    ),
    Rule(
        "MdlMapIrql",
        0xC4,
        0x76,
        F,
        "the system address of an MDL was asked for above DISPATCH_LEVEL",
        "ask for it when you lock the MDL, and keep the view until you unlock it",
    ),
    Rule(
        "MdlUnlockIrql",
        0xC4,
        0x78,
        F,
        "an MDL was unlocked above DISPATCH_LEVEL",
        "queue a DPC in the service routine, and unlock the MDL there",
    ),
    Rule(
        "MdlNotLocked",
        0xC4,
        0x7C,
        F,
        "an MDL was unlocked that is not locked",
        "unlock_pages once for each probe_and_lock_pages that has not raised",
    ),
    Rule(
        "MdlLockedTwice",
        0xC4,
        0xB0,
        F,
        "an MDL was locked that is locked already",
        "unlock_pages first, or allocate another MDL for the same memory",
    ),
    Rule(
        "MdlMapNotLocked",
        0xC4,
        0xB3,
        F,
        "the system address of an MDL was asked for that is not locked",
        "probe_and_lock_pages first",
    ),
    Rule(
        "MdlFreeMapped",
        0xC4,
        0xB8,
        F,
        "an MDL was freed that is still mapped or locked",
        "unlock_pages, which unmaps it, and then free_mdl",
    ),
    Rule("MdlFreedTwice", 0xC4, 0x13, F, "an MDL was freed twice", "free_mdl once for each allocate_mdl"),
    Rule(
        "MdlUsedAfterFree",
        0xC4,
        0x16,
        F,
        "an MDL was used that has been freed",
        "free_mdl comes last; allocate another MDL for other memory",
    ),
    Rule(
        "LeftLockedPages",
        0xCB,
        None,
        F,
        "a file was closed, and memory of its application is still locked",
        "unlock_pages for each probe_and_lock_pages, on every way out, at the latest in CLEANUP",
    ),
    # IoAllocateMdl's memory is pool. The newer number of pool that is not freed at unload, 0x62, is `IrpLeaked`.
    Rule(
        "MdlLeaked",
        0xC4,
        0x60,
        N,
        "the driver was unloaded, and an MDL that it had allocated was never freed",
        "free_mdl for each allocate_mdl, also on the way out after an error",
    ),
)
