"""The rules about system control requests, which are WMI."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

WMI_RULES: tuple[Rule, ...] = (
    Rule(
        "WmiInitialStatus",
        0xC9,
        0x210,
        N,
        "a system control IRP was sent without STATUS_NOT_SUPPORTED in it",
        "set irp.io_status.status = STATUS_NOT_SUPPORTED before it is sent",
    ),
    Rule(
        "WmiForward",
        0xC9,
        0x220,
        N,
        "a system control IRP for another device was completed instead of passed down",
        "handle it only if Parameters.WMI.ProviderId is your device object",
    ),
    Rule(
        "WmiRegisteredAtDelete",
        0xC4,
        0xDB,
        F,
        "a device was deleted that is registered with WMI",
        "wmi_registration_control(device, DEREGISTER) in SURPRISE_REMOVAL, or else in REMOVE_DEVICE",
    ),
    Rule(
        "WmiRegisteredAtUnload",
        0xC4,
        0xDA,
        N,
        "the driver was unloaded, and left a device behind that is registered with WMI",
        "deregister and delete in the unload routine what driver_entry has created and registered",
    ),
)
