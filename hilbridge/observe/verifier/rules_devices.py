"""The rules about devices: how they are set up, how they go, and what a driver leaves behind at its unloading."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

DEVICE_RULES: tuple[Rule, ...] = (
    Rule(
        "DeviceDeletedAttached",
        0xC9,
        0x201,
        F,
        "a device was deleted that is still attached above another",
        "detach_device(lower) first",
    ),
    Rule("DetachedNotAttached", 0xC9, 0x202, F, "detach_device of a device that nothing is attached to", "detach once"),
    Rule("DeviceDeletedTwice", 0xC9, 0x240, F, "a device was deleted twice", "delete_device once, in REMOVE_DEVICE"),
    Rule(
        "RemoveWithoutDetach",
        0xC9,
        0x21D,
        F,
        "REMOVE_DEVICE was handled, and the device is still attached",
        "after the IRP has been passed down: detach_device(lower), delete_device(device)",
    ),
    Rule(
        "RemoveWithoutDelete",
        0xC9,
        0x21E,
        F,
        "REMOVE_DEVICE was handled, and the device is still there",
        "after the IRP has been passed down: detach_device(lower), delete_device(device)",
    ),
    Rule(
        "SurpriseDetach",
        0xC9,
        0x241,
        F,
        "a device was detached during SURPRISE_REMOVAL",
        "that is for REMOVE_DEVICE, which follows when all handles are closed",
    ),
    Rule(
        "PnpSurpriseRemove",
        0xC9,
        0x242,
        F,
        "a device was deleted during SURPRISE_REMOVAL",
        "that is for REMOVE_DEVICE, which follows when all handles are closed",
    ),
    Rule(
        "RequiredMajorMissing",
        0xC9,
        0x21F,
        N,
        "a Plug and Play driver has no dispatch routine for IRP_MJ_PNP",
        "without it the device is never taken down: fill in major_function[IrpMajor.PNP]",
    ),
    Rule(
        "DeviceInitializing",
        0xC9,
        0x243,
        F,
        "AddDevice did not clear DO_DEVICE_INITIALIZING",
        "device.flags &= ~DO_DEVICE_INITIALIZING, at the end of add_device",
    ),
    Rule(
        "CheckDeviceObjectFlags",
        0xC9,
        0x244,
        F,
        "a filter did not copy DO_BUFFERED_IO or DO_DIRECT_IO from the device below it",
        "device.flags |= lower.flags & (DO_BUFFERED_IO | DO_DIRECT_IO)",
    ),
    Rule(
        "BufferedAndDirect",
        0xC9,
        0x245,
        F,
        "a device has both DO_BUFFERED_IO and DO_DIRECT_IO",
        "choose one of the two",
    ),
    Rule(
        "DeviceTypeNotCopied",
        0xC9,
        0x246,
        F,
        "a filter did not copy the device type of the device below it",
        "device.device_type = lower.device_type",
    ),
    Rule(
        "PowerPagableNotInherited",
        0xC9,
        0x23F,
        F,
        "a filter did not copy DO_POWER_PAGABLE from the device below it",
        "device.flags |= lower.flags & (DO_POWER_PAGABLE | DO_POWER_INRUSH)",
    ),
    Rule(
        "DeviceLeftAtUnload",
        0xC4,
        None,
        N,
        "the driver was unloaded, and left a device behind",
        "delete in the unload routine what driver_entry has created",
    ),
    Rule(
        "TimerLeftAtUnload",
        0xCE,
        None,
        N,
        "the driver was unloaded, and a timer of its own is still running",
        "cancel_timer for every timer, at the latest in the unload routine",
    ),
)
