"""The kernel under the verifier: spin locks, IRQL, interrupts and DPCs."""

from __future__ import annotations

import sys
from typing import Any

from hilbridge.kernel import culprit
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.spinlock import SpinLock
from hilbridge.model.codes import DISPATCH_LEVEL
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, HilbridgeError
from hilbridge.observe.verifier import irql
from hilbridge.observe.verifier.options import Verify
from hilbridge.observe.verifier.remlocks import VerifiedRemoveLock
from hilbridge.observe.verifier.watch import Verifier


class VerifiedSpinLock(SpinLock):
    """A spin lock that knows who holds it, and in which order it was acquired after others."""

    __slots__ = ("serial",)

    _ke: VerifiedKernel

    def __init__(self, ke: VerifiedKernel) -> None:
        super().__init__(ke)
        ke.locks_made += 1
        self.serial = ke.locks_made

    def acquire(self) -> None:
        """KeAcquireSpinLock."""
        ke = self._ke
        processor = self._local.processor or ke.current()
        if processor.irql > DISPATCH_LEVEL:
            ke.verifier.report("SpinLockIrql", details=f"at IRQL {processor.irql}")
        held = ke.verifier.locks()
        if held and self not in held:
            ke.check_order(held, self)
        super().acquire()
        held.append(self)

    def release(self, *exception: object) -> None:
        """KeReleaseSpinLock."""
        held = self._ke.verifier.locks()
        if self in held:
            held.remove(self)
        super().release(*exception)

    __enter__ = acquire
    __exit__ = release


@irql.limited(irql.KE_LIMITS)
class VerifiedKernel(Kernel):
    """A kernel that checks what drivers do with it."""

    options = Verify()
    remove_lock_class = VerifiedRemoveLock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.verifier = Verifier(self)
        self.verifier.seed = self.options.seed
        self.locks_made = 0
        self._order: dict[tuple[int, int], str] = {}
        super().__init__(*args, **kwargs)

    def spin_lock(self) -> SpinLock:
        """KeInitializeSpinLock."""
        return VerifiedSpinLock(self)

    def check_order(self, held: list[Any], lock: VerifiedSpinLock) -> None:
        """`lock` is about to be acquired while others are held: not if it was the other way round before."""
        for other in held:
            pair = (other.serial, lock.serial)
            if pair in self._order:
                continue
            before = self._order.get((lock.serial, other.serial))
            if before is not None:
                self.verifier.report("LockOrder", details=f"the other order was taken at {before}")
            self._order[pair] = culprit.find(sys._getframe(1)).place or "the model"

    def latch_fault(self, device: DeviceObject[Any] | None, error: BaseException, where: str) -> HilbridgeError:
        """Keep a fault; a broken rule is a finding."""
        fault = super().latch_fault(device, error, where)
        if isinstance(fault, BugCheck):
            self.verifier.bug_check_latched(device, fault)
        return fault

    def set_event(self, event: Kevent) -> bool:
        """KeSetEvent."""
        level = self.irql
        if level > DISPATCH_LEVEL:
            self.verifier.report("IrqlKeSetEvent", details=f"at IRQL {level}")
        self.verifier.me().signaled.append(event)
        return super().set_event(event)

    def run_dpc(self, dpc: Kdpc) -> None:
        """Run one DPC."""
        with self.verifier.entered("DPC", dpc.device) as held:
            super().run_dpc(dpc)
        if len(self.verifier.locks()) > held:
            try:
                self.verifier.report("SpinLockHeldAtReturn", device=dpc.device)
            except BugCheck:
                return  # latched: a DPC has no caller that could be told
