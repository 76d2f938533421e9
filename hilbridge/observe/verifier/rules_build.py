"""The rules about IRPs that drivers make."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule, Severity

F, N, W = Severity.FATAL, Severity.NON_FATAL, Severity.WARNING

BUILD_RULES: tuple[Rule, ...] = (
    Rule(
        "IoAllocateForward",
        0xC4,
        None,
        F,
        "an IRP of allocate_irp was sent without a completion routine: nobody gets it back",
        "set_completion_routine with one that returns STATUS_MORE_PROCESSING_REQUIRED, and frees or reuses the IRP",
    ),
    Rule(
        "IoAllocateComplete",
        0xC9,
        0x20A,
        F,
        "an IRP was freed that is still under way",
        "free it when it has come back: in its completion routine",
    ),
    Rule(
        "IoBuildFree",
        0xC9,
        0x02,
        F,
        "an IRP was freed that belongs to a thread",
        "the I/O manager frees what build_synchronous_fsd_request and build_device_io_control_request made",
    ),
    Rule("IoFreeIrp", 0xC9, 0x01, F, "free_irp was given something that is no IRP", "pass the Irp itself"),
    Rule("IoReuseIrp", 0xC9, 0x310, F, "an IRP was reused that is still under way", "reuse it when it has come back"),
    Rule(
        "IoReuseIrp2",
        0xC9,
        0x311,
        F,
        "an IRP was reused that was not allocated with allocate_irp",
        "build a new one each time, or allocate one that you may reuse",
    ),
    Rule(
        "IrpLeaked",
        0xC4,
        0x62,
        N,
        "the driver was unloaded, and an IRP that it had allocated was never freed",
        "free_irp for each allocate_irp, also on the way out after an error",
    ),
    Rule(
        "IoBuildDeviceControlWait",
        0xC4,
        None,
        N,
        "a control request that the driver has built is still under way when its routine returns",
        "wait for its event if call_driver returns STATUS_PENDING; call_and_wait does both",
    ),
    Rule(
        "IoBuildSynchronousFsdRequestWait",
        0xC4,
        None,
        N,
        "a synchronous request that the driver has built is still under way when its routine returns",
        "wait for its event if call_driver returns STATUS_PENDING; call_and_wait does both",
    ),
    Rule(
        "IoBuildFsdComplete",
        0xC4,
        None,
        F,
        "a driver completed an IRP that it has made itself",
        "free it or reuse it when its completion routine has kept it",
    ),
    Rule(
        "InvalidFsdBuffer",
        0xC9,
        0x08,
        F,
        "build_asynchronous_fsd_request was given something that is no buffer for this request",
        "a bytearray for a read; bytes or a bytearray for a write",
    ),
    Rule(
        "InvalidControlBuffer",
        0xC9,
        0x09,
        F,
        "build_device_io_control_request was given something that is no buffer for this request",
        "bytes for the input; for the output a bytearray of output_length bytes, or nothing",
    ),
    Rule(
        "CreateWithClosedFile",
        0xC9,
        0x0F,
        F,
        "IRP_MJ_CREATE was sent for a file that has been closed, or whose opening was cancelled",
        "open a file of your own with get_device_object_pointer",
    ),
)
