"""Cancellation: IoCancelIrp and the cancel spin lock, which here is one per device stack.

Who ends a cancelled IRP is decided by who gets its cancel routine: `Irp.set_cancel_routine` and `cancel_irp` take it in
one atomic step. All that drivers do about races rests on that step.
"""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import IoBase, holder_of
from hilbridge.kernel.culprit import calls_driver
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck
from hilbridge.model.irp import CancelRoutine, Irp
from hilbridge.model.irp_life import IrpState


class CancelRoutines(IoBase):
    """The I/O manager's routines about cancellation. Callable at or below DISPATCH_LEVEL."""

    def cancel_irp(self, irp: Irp) -> bool:
        """IoCancelIrp: ask for the IRP's end. True if a cancel routine was called.

        Promises nothing about how the IRP ends: it may be done just now, and end with SUCCESS.
        """
        if irp.state == IrpState.COMPLETED and irp.cancel_routine is not None:
            raise self.bug_check(
                0x48,
                "CANCEL_STATE_IN_COMPLETED_IRP",
                irp,
                irp.cancel_routine,
                hint="clear the cancel routine, then complete",
                device=irp.stack[0].device_object,
            )
        # Said before anything is looked at: an IRP that nobody has yet may be given to a driver meanwhile. Then that driver,
        # which looks when it has set its cancel routine, sees it; said later, neither of us would see the other.
        irp.cancel = True
        device = holder_of(irp)
        if device is None:
            return False
        lock = device.device_stack.cancel_lock
        irql = self.ke.irql
        lock.acquire()
        routine = irp.set_cancel_routine(None)
        if routine is None:
            lock.release()
            return False
        # Meanwhile the IRP may have gone down the stack. Now that we have the routine it stays with the driver that set it.
        self.run_cancel_routine(holder_of(irp) or device, irp, routine, irql)
        return True

    @calls_driver("cancel", "a cancel routine", lambda frame: frame["device"])
    def run_cancel_routine(self, device: DeviceObject[Any], irp: Irp, routine: CancelRoutine, irql: int) -> None:
        """Call a cancel routine that has been taken, with the cancel lock held, and check that it has let go of the lock.

        `irql` is what the thread was at before it took the lock: what the routine's release restores.
        """
        lock = device.device_stack.cancel_lock
        processor = self.ke.current()
        try:
            routine(device, irp)
        except BaseException as error:
            if lock.owner is processor:
                lock.release()
            processor.irql = irql
            raise self.fault(device, error, "a cancel routine") from error
        if lock.owner is processor:
            lock.release()
            raise self.fault(
                device,
                BugCheck(
                    0x11B,
                    "DRIVER_RETURNED_HOLDING_CANCEL_LOCK",
                    irp,
                    routine,
                    hint="a cancel routine begins with io.release_cancel_spin_lock(device)",
                ),
                "a cancel routine",
            )

    def acquire_cancel_spin_lock(self, device: DeviceObject[Any]) -> None:
        """IoAcquireCancelSpinLock, of this device's stack."""
        device.device_stack.cancel_lock.acquire()

    def release_cancel_spin_lock(self, device: DeviceObject[Any]) -> None:
        """IoReleaseCancelSpinLock: the first thing that a cancel routine does."""
        device.device_stack.cancel_lock.release()
