"""What the verifier of one bridge knows, and how it reports."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hilbridge.iomgr.base import holder_of
from hilbridge.kernel import culprit
from hilbridge.model.codes import IrpMajor
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.observe.verifier import remlocks
from hilbridge.observe.verifier.finding import Finding, Moment, describe_irp, describe_moment
from hilbridge.observe.verifier.rule import BUG_CHECK_NAMES, Rule, Severity
from hilbridge.observe.verifier.rules import RULES, rule_of

if TYPE_CHECKING:
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.device import DeviceObject
    from hilbridge.observe.verifier.irp import VerifiedIrp
    from hilbridge.observe.verifier.relations import Relations
    from hilbridge.observe.verifier.remlocks import Hold


class Running(NamedTuple):
    """A routine of a driver that a thread is in."""

    kind: str
    """``dispatch``, ``completion``, ``cancel``, ``StartIo``, ``DPC``, ``ISR``."""
    device: DeviceObject[Any] | None
    irp: Irp | None = None
    major: int = -1
    minor: int = -1
    held: int = 0
    """Spin locks that the thread held already when it came in."""


class ThreadNotes:
    """What is known of one thread."""

    __slots__ = ("added", "completed", "holds", "locks", "running", "signaled", "unwaited")

    def __init__(self) -> None:
        self.running: list[Running] = []
        """The routines of drivers that it is in, outermost first."""
        self.locks: list[Any] = []
        """The spin locks that it holds, in the order in which it acquired them."""
        self.holds: list[Hold] = []
        """What it holds of remove locks since it is in the routines that it is in."""
        self.completed: list[tuple[int, VerifiedIrp, DeviceObject[Any] | None, str | None]] = []
        """IRPs with remove locks that it has completed in them: how deep, which, whose driver has, and where."""
        self.unwaited: list[tuple[int, VerifiedIrp, DeviceObject[Any] | None, str | None]] = []
        """IRPs with events that it has sent in them, and that were answered STATUS_PENDING: as above."""
        self.signaled: list[Any] = []
        """Events that it has set since the innermost completion routine was called."""
        self.added: list[DeviceObject[Any]] = []
        """The PDOs for which it is in AddDevice routines."""


class _ThreadLocal(threading.local):
    def __init__(self) -> None:
        self.notes = ThreadNotes()


RECENT = 20
"""IRPs whose histories are kept for a crash dump."""
OWN_DRIVER = "rootbus"
"""The bridge's own driver, whose devices are never refused."""
MOST_FINDINGS = 1000
"""Findings that are kept. The same rule of the same driver on the same line is kept once."""


class Verifier:
    """The findings of one bridge."""

    relations: Relations
    """What its bus drivers have said. The I/O manager puts it here."""

    def __init__(self, ke: Kernel) -> None:
        self._ke = ke
        self.findings: list[Finding] = []
        """What was found, oldest first."""
        self.seed: int | None = None
        self._recent: deque[tuple[int, list[Moment]]] = deque(maxlen=RECENT)
        self._known: set[tuple[str, str, str | None]] = set()
        self._failed: set[str] = set()
        """Drivers that have caused a bug check."""
        self._local = _ThreadLocal()

    def irp_made(self, irp_id: int, history: list[Moment]) -> None:
        """A new IRP: its history is kept for a while, also when it has ended. The IRP itself is not, nor are its buffers."""
        self._recent.append((irp_id, history))

    def recent_irps(self) -> list[dict[str, Any]]:
        """The histories of the IRPs that were made last, oldest first, in words: for crash dumps."""
        return [
            {"id": f"IRP 0x{irp_id:04X}", "history": [describe_moment(moment) for moment in list(history)]}
            for irp_id, history in list(self._recent)
        ]

    def me(self) -> ThreadNotes:
        """What is known of the calling thread."""
        return self._local.notes

    def running(self) -> list[Running]:
        """The routines of drivers that the calling thread is in, outermost first."""
        return self._local.notes.running

    def caller(self) -> DeviceObject[Any] | None:
        """Whose driver the calling thread runs."""
        running = self._local.notes.running
        return running[-1].device if running else None

    def innermost_dispatch(self) -> Running | None:
        """The dispatch routine that the calling thread is in."""
        return next((one for one in reversed(self._local.notes.running) if one.kind == "dispatch"), None)

    @contextmanager
    def entered(self, kind: str, device: DeviceObject[Any] | None, irp: Irp | None = None) -> Iterator[int]:
        """In this block the thread is in a routine of a driver. Gives how many spin locks it held when it came in."""
        me = self._local.notes
        held = len(me.locks)
        me.running.append(Running(kind, device, irp, held=held))
        try:
            yield held
        finally:
            me.running.pop()
            if me.holds or me.completed or me.unwaited:
                self.routine_over(me, None)

    def routine_over(self, me: ThreadNotes, over: Running | None) -> None:
        """A routine of a driver has returned, and has left something to be looked at. `over`: if it was a dispatch routine."""
        remlocks.routine_over(self, me, over)
        depth = len(me.running)
        for one in [one for one in me.unwaited if one[0] > depth]:
            me.unwaited.remove(one)
            _, irp, device, place = one
            if irp.state not in (IrpState.COMPLETED, IrpState.FREED):
                control = irp.stack[-1].major_function in (IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL)
                name = "IoBuildDeviceControlWait" if control else "IoBuildSynchronousFsdRequestWait"
                self.report(name, irp=irp, device=device, place=place)

    def locks(self) -> list[Any]:
        """The spin locks that the calling thread holds, in the order in which it acquired them."""
        return self._local.notes.locks

    def held_here(self) -> list[Any]:
        """The spin locks that the routine of a driver which the calling thread runs has acquired, and not released."""
        me = self._local.notes
        running, locks = me.running, me.locks
        return locks[running[-1].held :] if running else list(locks)

    def report(
        self,
        name: str,
        *,
        irp: Irp | None = None,
        device: DeviceObject[Any] | None = None,
        details: str = "",
        place: str | None = None,
        driver: str = "",
    ) -> None:
        """A rule was broken. Raises the bug check of a fatal one, which has been latched by then.

        To blame is `device`, else whose driver the calling thread runs, else who has the IRP.
        """
        rule = RULES[name]
        found = culprit.find(sys._getframe(1))
        guilty = device or found.device or (holder_of(irp) if irp is not None else None)
        if driver in self._failed or (guilty is not None and guilty.device_stack.fault is not None):
            return  # what a driver does, or leaves behind, after its stack has failed follows from that
        finding = self._keep(rule, guilty, place or found.place, irp, details, driver)
        if rule.severity is Severity.FATAL:
            parameters: tuple[object, ...] = () if rule.parameter is None else (rule.parameter,)
            fault = BugCheck(
                rule.code, BUG_CHECK_NAMES[rule.code], *parameters, irp or guilty, hint=f"{rule.text}: {rule.advice}"
            )
            if guilty is not None:
                fault.blame(guilty.driver_object.name, finding.place)
                fault.finding = finding
                self._ke.latch_fault(guilty, fault, found.routine)
            raise fault

    def bug_check_latched(self, device: DeviceObject[Any] | None, fault: BugCheck) -> None:
        """A bug check has failed a stack. One that the model itself has found is a finding as well, if it is in the table."""
        if device is not None:
            self._failed.add(device.driver_object.name)
        if fault.finding is not None:
            return
        rule = rule_of(fault.code, fault.parameters)
        if rule is None:
            return
        irp = next((p for p in fault.parameters if isinstance(p, Irp)), None)
        fault.finding = self._keep(rule, device, fault.place, irp)

    def _keep(
        self,
        rule: Rule,
        guilty: DeviceObject[Any] | None,
        place: str | None,
        irp: Irp | None,
        details: str = "",
        driver: str = "",
    ) -> Finding:
        if irp is None:  # then the one that it is busy with says how it came there
            irp = next((one.irp for one in reversed(self.running()) if one.irp and one.device is guilty), None)
        finding = Finding(
            rule,
            driver or (guilty.driver_object.name if guilty is not None else "(no driver)"),
            (guilty.name or "(unnamed)") if guilty is not None else "-",
            place,
            details,
            describe_irp(irp) if irp is not None else None,
            self.seed,
        )
        key = (finding.rule.name, finding.driver, finding.place)
        if key not in self._known and len(self.findings) < MOST_FINDINGS:
            self._known.add(key)
            self.findings.append(finding)
            if finding.rule.severity is Severity.NON_FATAL:
                # As with every other mistake of a driver: who closes the bridge hears of it.
                self._ke.log_fault(RuleBroken(finding))
        return finding


def place_of_routine(routine: Any) -> str | None:
    """``file:line`` at which a routine begins: for what was found when it had returned."""
    routine = getattr(routine, "__wrapped__", routine)
    code = getattr(getattr(routine, "__func__", routine), "__code__", None)
    return culprit.place_of(code, code.co_firstlineno) if code is not None else None


def is_below(holder: DeviceObject[Any] | None, caller: DeviceObject[Any] | None) -> bool:
    """Whether `holder` is a device further down in the stack of `caller`."""
    return (
        caller is not None
        and holder is not None
        and holder is not caller
        and holder.device_stack is caller.device_stack
        and holder in caller.walk_down()
    )


class RuleBroken(DriverFault):
    """A rule that is not fatal was broken: recorded, and raised when the bridge closes."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding
