"""A trace: what happened, in order, each event with the id of its IRP and the code that did it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import IrpMajor
from hilbridge.model.status import NtStatus
from hilbridge.observe.instrument import Instrument
from hilbridge.observe.where import callers, where

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.interrupt import Pin, ServiceRoutine
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Waitable
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverDispatch
    from hilbridge.model.errors import HilbridgeError
    from hilbridge.model.irp import CompletionRoutine, Irp

LIMIT = 100_000
"""Events that a trace keeps: some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class Event:
    """One moment. `kind` is the name of the `Instrument` method that was called."""

    number: int
    """From 1, in the order of the moments."""
    time: int
    """On the bridge's clock, in nanoseconds."""
    kind: str
    irp_id: int | None = None
    """Of the IRP that it is about; None for interrupts and DPCs, which belong to a device."""
    device: str = ""
    """``serial \\Device\\Serial0``: the driver and the name of its device."""
    routine: str = ""
    """``file:function`` of the driver's routine that is called, or has answered."""
    path: tuple[str, ...] = ()
    """``file:function`` of who called for it, innermost first."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say, by kind; plain numbers and texts."""

    def __str__(self) -> str:
        irp = "" if self.irp_id is None else f"IRP 0x{self.irp_id:04X}"
        detail = " ".join(f"{key}={value}" for key, value in self.detail.items())
        return " ".join(filter(None, (f"{self.number:4d} {self.kind}", irp, self.device, self.routine, detail)))


class Trace(Instrument):
    """Records every event of one bridge. Of more than `limit` the oldest are dropped, and counted in `dropped`.

    With ``callers=False`` the events have no `path`, which takes most of the time.
    """

    def __init__(self, limit: int = LIMIT, *, callers: bool = True) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self._numbers = itertools.count(1)
        self._callers = callers
        self._ke: Kernel | None = None

    @property
    def events(self) -> list[Event]:
        """All that are kept, in order."""
        # Two threads may draw their numbers in one order and append in the other.
        return sorted(self._events.copy(), key=lambda event: event.number)

    @property
    def dropped(self) -> int:
        """Events that are not kept any more."""
        events = self._events.copy()
        return max((event.number for event in events), default=0) - len(events)

    def of(self, irp_id: int, kind: str | None = None) -> list[Event]:
        """The events of one IRP, or those of one kind among them."""
        return [e for e in self.events if e.irp_id == irp_id and kind in (None, e.kind)]

    def _note(self, kind: str, irp: Irp | None = None, device: str = "", routine: object = None, **detail: Any) -> None:
        self._events.append(
            Event(
                next(self._numbers),
                self._ke.clock.now() if self._ke is not None else 0,
                kind,
                None if irp is None else irp.id,
                device,
                "" if routine is None else where(routine),
                callers() if self._callers else (),
                detail,
            )
        )

    # -- what it is told ---------------------------------------------------------------------------------------------

    def attached(self, ke: Kernel) -> None:
        self._ke = ke

    def name_resolved(self, name: str, device: DeviceObject[Any]) -> None:
        stack = " > ".join(above.driver_object.name for above in device.top.walk_down())
        self._note("name_resolved", None, _device(device), name=name, stack=stack)

    def irp_created(self, irp: Irp) -> None:
        self._note("irp_created", irp, locations=irp.stack_count)

    def irp_dispatched(self, device: DeviceObject[Any], irp: Irp, routine: DriverDispatch) -> None:
        location = irp.stack[irp.current_location - 2]
        length = getattr(location.parameters, "length", None)
        detail = {} if length is None else {"length": length}
        self._note(
            "irp_dispatched", irp, _device(device), routine, major=IrpMajor(location.major_function).name, **detail
        )

    def irp_pended(self, irp: Irp) -> None:
        location = irp.current_stack_location if irp.current_location <= irp.stack_count else None
        device = location.device_object if location is not None else None
        self._note("irp_pended", irp, _device(device), major=IrpMajor(location.major_function).name if location else "")

    def dispatch_returned(self, device: DeviceObject[Any], irp: Irp, status: NtStatus) -> None:
        self._note("dispatch_returned", irp, _device(device), status=_status(status))

    def irp_started(self, device: DeviceObject[Any], irp: Irp) -> None:
        self._note("irp_started", irp, _device(device))

    def interrupt_asserted(self, pin: Pin) -> None:
        self._note("interrupt_asserted", vector=pin.vector.number, irql=pin.vector.irql)

    def interrupt(self, vector: int, device: DeviceObject[Any], isr: ServiceRoutine, claimed: bool) -> None:
        self._note("interrupt", None, _device(device), isr, vector=vector, irql=self._irql(), claimed=claimed)

    def dpc_queued(self, dpc: Kdpc) -> None:
        self._note("dpc_queued", None, _device(dpc.device), dpc.routine)

    def dpc(self, dpc: Kdpc) -> None:
        self._note("dpc", None, _device(dpc.device), dpc.routine, irql=self._irql())

    def dpc_returned(self, dpc: Kdpc) -> None:
        self._note("dpc_returned", None, _device(dpc.device), dpc.routine)

    def irp_cancelled(self, irp: Irp) -> None:
        self._note("irp_cancelled", irp)

    def irp_completing(self, irp: Irp) -> None:
        location = irp.current_location
        device = irp.stack[location - 1].device_object if location <= irp.stack_count else None
        self._note("irp_completing", irp, _device(device), **_outcome(irp))

    def completion_routine(self, device: DeviceObject[Any] | None, irp: Irp, routine: CompletionRoutine) -> None:
        self._note("completion_routine", irp, _device(device), routine)

    def completion_routine_returned(self, irp: Irp, kept: bool) -> None:
        self._note("completion_routine_returned", irp, kept=kept)

    def irp_completed(self, irp: Irp) -> None:
        self._note("irp_completed", irp, **_outcome(irp))

    def wait_began(self, what: Waitable, timeout: int | None) -> None:
        self._note("wait_began", getattr(what, "irp", None), timeout=timeout)

    def wait_ended(self, what: Waitable, came: bool) -> None:
        self._note("wait_ended", getattr(what, "irp", None), came=came)

    def fault(self, device: DeviceObject[Any] | None, fault: HilbridgeError) -> None:
        self._note("fault", None, _device(device), fault=str(fault))

    def _irql(self) -> int:
        return self._ke.irql if self._ke is not None else 0


def _device(device: DeviceObject[Any] | None) -> str:
    if device is None:
        return ""
    return f"{device.driver_object.name} {device.name}" if device.name else device.driver_object.name


def _outcome(irp: Irp) -> dict[str, Any]:
    return {"status": _status(irp.io_status.status), "information": irp.io_status.information}


def _status(status: object) -> str:
    # What a driver says is shown as it is, also when it is no status at all.
    return status.name if isinstance(status, NtStatus) else repr(status)
