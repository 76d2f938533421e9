"""Remove locks: who holds one for which IRP, and whether he gives it back.

A driver acquires its remove lock with the IRP as the tag, and releases it when it is done with that IRP. When that is depends
on what becomes of the IRP: at the latest when its dispatch routine returns, if it has completed the IRP there or passed it on
without a completion routine; in its completion routine, if it has set one; in the routine that completes the IRP later, if it
has pended it. Many drivers hold the lock for as long as the dispatch routine runs only, also if another thread completes the
IRP meanwhile: so nothing is said as long as that routine runs. Tags that are no IRP are not followed: such a lock may be held
for a timer or a thread.

A device's own lock is the one in its extension. Others, as a file object's, have nothing to do with removal.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, cast

from hilbridge.kernel import culprit
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import IrpMajor, PnpMinor
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import NtStatus

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.observe.verifier.irp import VerifiedIrp
    from hilbridge.observe.verifier.kernel import VerifiedKernel
    from hilbridge.observe.verifier.watch import Running, ThreadNotes, Verifier

_ENDED = (IrpState.COMPLETED, IrpState.FREED)
_GOES = {
    PnpMinor.QUERY_REMOVE_DEVICE: "RemoveLockQueryMnRemove",
    PnpMinor.REMOVE_DEVICE: "RemoveLockMnRemove",
    PnpMinor.SURPRISE_REMOVAL: "RemoveLockMnSurpriseRemove",
}


class Hold:
    """One acquisition of a remove lock."""

    __slots__ = ("depth", "device", "in_dispatch", "lock", "place", "released", "tag")

    def __init__(self, lock: RemoveLock, tag: Hashable, running: list[Running], place: str | None) -> None:
        self.lock = lock
        self.tag = tag
        self.device = running[-1].device
        self.depth = len(running)
        self.in_dispatch = running[-1].kind == "dispatch"
        """The dispatch routine that has acquired it is still running."""
        self.place = place
        self.released = False


class VerifiedRemoveLock(RemoveLock):
    """A remove lock that remembers who has acquired it, and where."""

    __slots__ = ()

    _ke: VerifiedKernel

    def acquire(self, tag: Hashable = None) -> NtStatus:
        """IoAcquireRemoveLock."""
        status = super().acquire(tag)
        verifier = self._ke.verifier
        me = verifier.me()
        if not me.running:
            return status
        inner = me.running[-1]
        if not status.is_success:
            if inner.kind == "dispatch" and inner.irp is not None:
                cast("VerifiedIrp", inner.irp).refused = inner.device
            return status
        hold = Hold(self, tag, me.running, culprit.find(sys._getframe(1)).place)
        me.holds.append(hold)
        irp = _irp(tag)
        if irp is not None:
            irp.holds = [*(irp.holds or ()), hold]
        if hold.device is not None and self in locks_of(hold.device) and locks_of(hold.device)[0] is not self:
            verifier.report("MultRemoveLock", device=hold.device, irp=inner.irp)
        return status

    def release(self, tag: Hashable = None) -> None:
        """IoReleaseRemoveLock."""
        self._let_go(tag)
        super().release(tag)

    def release_and_wait(self, tag: Hashable = None, timeout: float | None = None) -> bool:
        """IoReleaseRemoveLockAndWait."""
        verifier = self._ke.verifier
        inner = verifier.innermost_dispatch()
        if inner is not None and inner.device is not None and self in locks_of(inner.device) and not _removes(inner):
            verifier.report("IoReleaseRemoveLockAndWaitOutsideRemoveDevice", device=inner.device, irp=inner.irp)
        self._let_go(tag)
        return super().release_and_wait(tag, timeout)

    def _let_go(self, tag: Hashable) -> None:
        me = self._ke.verifier.me()
        irp = _irp(tag)
        holds = list((irp.holds if irp is not None else None) or ())
        hold = next(
            (h for h in reversed([*holds, *me.holds]) if h.lock is self and h.tag is tag and not h.released), None
        )
        if hold is None:
            return
        hold.released = True
        if hold in me.holds:
            me.holds.remove(hold)
        if irp is not None:
            irp.holds = [h for h in holds if h is not hold] or None


def _irp(tag: Hashable) -> VerifiedIrp | None:
    """A tag that is an IRP."""
    return cast("VerifiedIrp", tag) if isinstance(tag, Irp) else None


def locks_of(device: DeviceObject[Any]) -> list[RemoveLock]:
    """The remove locks in the extension of a device."""
    extension = device.extension
    values = list(getattr(extension, "__dict__", {}).values())
    for kind in type(extension).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        values += [getattr(extension, name, None) for name in ((slots,) if isinstance(slots, str) else slots)]
    return [value for value in (extension, *values) if isinstance(value, RemoveLock)]


def _removes(running: Running) -> bool:
    return running.major == IrpMajor.PNP and running.minor == PnpMinor.REMOVE_DEVICE


def goes_down(verifier: Verifier, irp: VerifiedIrp, caller: DeviceObject[Any] | None, minor: int) -> None:
    """A removal is about to be passed down: the driver has to hold its remove lock, if it has one."""
    me = verifier.me()
    if minor not in _GOES or caller is None or not me.running:
        return
    inner = me.running[-1]
    locks = locks_of(caller)
    if inner.kind != "dispatch" or inner.irp is not irp or len(locks) != 1 or locks[0].removed:
        return
    if all(hold.lock is not locks[0] for hold in me.holds):
        verifier.report(_GOES[PnpMinor(minor)], irp=irp, device=caller)


def detaches(verifier: Verifier, device: DeviceObject[Any]) -> None:
    """`device` is about to be detached: in REMOVE_DEVICE nobody may use it any more."""
    inner = verifier.innermost_dispatch()
    if inner is not None and inner.device is device and _removes(inner):
        locks = locks_of(device)
        if len(locks) == 1 and not locks[0].removed:
            verifier.report("RemoveLockCheck", irp=inner.irp, device=device, details=f"{locks[0]!r}")


def completes(verifier: Verifier, irp: VerifiedIrp) -> None:
    """An IRP for which remove locks are held is being completed: who does so is looked at when its routine is over."""
    me = verifier.me()
    if me.running:
        me.completed.append((len(me.running), irp, me.running[-1].device, culprit.find(sys._getframe(2)).place))


def routine_over(verifier: Verifier, me: ThreadNotes, over: Running | None) -> None:
    """A routine of a driver has returned. `over`: if it was a dispatch routine."""
    depth = len(me.running)
    for hold in [hold for hold in me.holds if hold.depth > depth]:
        me.holds.remove(hold)
        hold.in_dispatch = False
    for one in [one for one in me.completed if one[0] > depth]:
        me.completed.remove(one)
        _, irp, device, place = one
        own = over is not None and over.irp is irp
        _report(verifier, "RemoveLock" if own else "RemoveLockRelease2", irp, device, place)


def dispatched(
    verifier: Verifier, irp: VerifiedIrp, location: int, device: DeviceObject[Any], place: str | None
) -> None:
    """The dispatch routine of `device` has returned, and has passed the IRP on: does it hold a lock that it cannot release?"""
    if irp.stack[location - 1].device_object is device:  # else it has skipped its location, and sees the IRP no more
        if location in irp.marked_at or (location in irp.completed_at and irp.forwarded.get(location) is None):
            return
        if location - 1 in irp.routine_at and irp.state not in _ENDED:
            return  # its completion routine will
    _report(verifier, "RemoveLockForward", irp, device, place)


def went_on(verifier: Verifier, irp: VerifiedIrp, device: DeviceObject[Any] | None, place: str | None) -> None:
    """A completion routine has let the IRP go on."""
    _report(verifier, "RemoveLockForward2", irp, device, place)


def _report(
    verifier: Verifier, rule: str, irp: VerifiedIrp, device: DeviceObject[Any] | None, place: str | None
) -> None:
    """What this driver still holds of the IRP's remove locks it will hold for ever. Each is reported once."""
    for hold in irp.holds or ():
        if hold.device is device and not hold.released and not hold.in_dispatch:
            hold.released = True
            verifier.report(rule, irp=irp, device=device, place=place, details=f"acquired at {hold.place}")
