"""The I/O manager under the verifier: every routine looks first, then does what the base class does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from hilbridge.iomgr.base import maker_of
from hilbridge.iomgr.manager import IoManager
from hilbridge.iomgr.request import IoRequest
from hilbridge.iomgr.workitem import WorkItem, WorkRoutine
from hilbridge.kernel import culprit
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.processor import Processor
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.file import FileObject
from hilbridge.model.irp import CancelRoutine, Irp
from hilbridge.model.irp_life import IrpEvent, IrpState
from hilbridge.model.status import STATUS_PENDING, NtStatus
from hilbridge.observe.verifier import devices, down, protocol, remlocks, up
from hilbridge.observe.verifier.calls import VerifiedCalls
from hilbridge.observe.verifier.irp import VerifiedIrp
from hilbridge.observe.verifier.protocol import PROTOCOL
from hilbridge.observe.verifier.watch import Running, place_of_routine


class VerifiedIoManager(VerifiedCalls):
    """Checks what drivers do with IRPs and devices."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self.irp_class = type("VerifiedIrp", (VerifiedIrp,), {"__slots__": (), "verifier": self.verifier})
        self._put_off: set[int] = set()

    # -- down --------------------------------------------------------------------------------------------------------

    def call_driver(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        """IoCallDriver, with a look before and after."""
        verifier, processor = self.verifier, self.ke.local.processor or self.ke.current()
        down.before(verifier, device, irp, processor.irql)
        if not isinstance(irp, VerifiedIrp):
            return super().call_driver(device, irp)
        from_where = irp.current_location
        location = from_where - 1
        if location <= 0:
            return super().call_driver(device, irp)
        there = irp.stack[location - 1]
        major, minor = there.major_function, there.minor_function
        first, irp.sent = not irp.sent, True
        # The driver has skipped its own location if this is the one that the IRP was in before.
        forwarded_from = location if not first and irp.at == location else from_where
        if first and major == IrpMajor.PNP and minor == PnpMinor.START_DEVICE and not verifier.running():
            devices.started(verifier, device, self.invalid_device_request)
        # A location that is used again, after the IRP was taken back, starts anew.
        for noted in (irp.marked_at, irp.completed_at):
            noted.discard(location)
        irp.forwarded.pop(location, None)
        irp.reached = irp.at = location
        if major in PROTOCOL:
            protocol.arrived(irp, location, device)
        irp.note("sent to", device.driver_object.name, 2)
        event = irp.user_event
        event_was_set = first and event is not None and event.signaled
        regions = processor.critical_regions
        me = verifier.me()  # as `Verifier.entered` does, spelled out: this is on every request's way
        held, running = len(me.locks), me.running
        over = Running("dispatch", device, irp, major, minor, held)
        running.append(over)
        try:
            status = super().call_driver(device, irp)
        finally:
            running.pop()
            if me.holds or me.completed or me.unwaited:
                verifier.routine_over(me, over)
        down.after(verifier, device, irp, location, status, event_was_set)
        if irp.holds:
            place = place_of_routine(device.driver_object.major_function[major])
            remlocks.dispatched(verifier, irp, location, device, place)
        irp.forwarded[forwarded_from] = status
        if major == IrpMajor.PNP and minor == PnpMinor.REMOVE_DEVICE:
            devices.removed(verifier, device)
        if len(me.locks) > held or processor.critical_regions != regions:
            self._left_behind(device, irp, major, len(me.locks) > held, regions)
        if first and event is not None and running and status == STATUS_PENDING:
            me.unwaited.append((len(running), irp, running[-1].device, culprit.find(sys._getframe()).place))
        if first and irp.user_request is not None and status == STATUS_PENDING and self.forced.cancels():
            self.cancel_irp(irp)
        return status

    def _left_behind(self, device: DeviceObject[Any], irp: Irp, major: int, locked: bool, regions: int) -> None:
        """What a dispatch routine has left of its thread."""
        processor = self.ke.current()
        was, processor.critical_regions = processor.critical_regions, regions
        place = place_of_routine(device.driver_object.major_function[major])
        if was != regions:
            words = f"the depth was {regions}, and is {was}"
            self.verifier.report("CriticalRegionAtReturn", device=device, irp=irp, place=place, details=words)
        if locked:
            self.verifier.report("SpinLockHeldAtReturn", device=device, irp=irp, place=place)

    # -- up ----------------------------------------------------------------------------------------------------------

    def complete_request(self, irp: Irp, _boost: int = 0) -> None:
        """IoCompleteRequest, with a look before."""
        processor = self.ke.local.processor or self.ke.current()
        up.completing(self.verifier, irp, processor.irql)
        if isinstance(irp, VerifiedIrp):
            if irp.state in (IrpState.DISPATCHED, IrpState.PENDING, IrpState.OFFERED):
                passed = range(irp.current_location, irp.stack_count + 1)
                irp.completed_at.update(passed)
                irp.ended_with.update(dict.fromkeys(passed, irp.io_status.status))
            irp.note("completed with", irp.io_status.status, 2)
            if irp.protocol is not None:
                self.verifier.relations.told(irp)
            if irp.holds:
                remlocks.completes(self.verifier, irp)
            if irp.id in self._put_off:
                irp.take_completion_token()  # completed a second time while the first is still to come
                irp.broken(IrpEvent.COMPLETE)
            if irp.marked_at and irp.user_request is not None and self.forced.delays():
                # The driver was answered STATUS_PENDING and has to bear with an end that comes later, after others.
                self._put_off.add(irp.id)
                self.ke.queue_work_item(partial(self._complete_late, irp))
                return
        super().complete_request(irp, _boost)

    def ends_later(self, irp: Irp) -> bool:
        """Whether its completion has been put off, above."""
        return irp.id in self._put_off

    def _complete_late(self, irp: Irp) -> None:
        self._put_off.discard(irp.id)
        with self.ke.raised_irql(DISPATCH_LEVEL):
            IoManager.complete_request(self, irp)

    def _offer(self, irp: Irp, location: int, routine: Any, context: Any) -> bool:
        device = irp.stack[location - 1].device_object if location <= irp.stack_count else None
        verifier, processor = self.verifier, self.ke.local.processor or self.ke.current()
        irql, pending, came = processor.irql, irp.pending_returned, int(irp.io_status.status)
        me, marks = verifier.me(), getattr(irp, "marks", 0)
        outer, me.signaled = me.signaled, []
        try:
            with verifier.entered("completion", device, irp) as held:
                went_on = super()._offer(irp, location, routine, context)
        finally:
            signaled, me.signaled = me.signaled, outer
        place = place_of_routine(routine)
        up.offered(verifier, device, irp, location, pending and went_on, place)
        if not isinstance(irp, VerifiedIrp):
            return went_on
        if isinstance(context, Kevent):
            notes = any(event is context for event in signaled), irp.marks > marks, pending and not went_on
            up.with_event(verifier, device or maker_of(irp), irp, context, notes, place)
        if went_on:
            if irp.protocol is not None:
                verifier.relations.told(irp)
            if irp.holds:
                remlocks.went_on(verifier, irp, device, place)
        else:
            # Kept: from this location upward nobody has completed it.
            irp.completed_at.difference_update(range(location, irp.stack_count + 2))
            irp.at = location
            if irp.protocol is not None:
                irp.protocol.came_back[location] = came
        blamed = device or maker_of(irp)
        if processor.irql != irql:
            was, processor.irql = processor.irql, irql
            verifier.report(
                "CompletionRoutineIrql", irp=irp, device=blamed, details=f"{irql} became {was}", place=place
            )
        if len(verifier.locks()) > held:
            verifier.report("SpinLockHeldAtReturn", device=blamed, irp=irp, place=place)
        return went_on

    # -- fast I/O ----------------------------------------------------------------------------------------------------

    def fast_read(
        self,
        processor: Processor,
        file: FileObject,
        length: int,
        minimum: int = 0,
        terminator: bytes = b"",
        briefly: bool = True,
    ) -> bytes | None:
        """Fast I/O."""
        irql = processor.irql
        data = super().fast_read(processor, file, length, minimum, terminator, briefly)
        if processor.irql != irql:
            fast = file.device_object.driver_object.fast_io_dispatch
            self._fast_io_leaks(processor, irql, file, fast and fast.read)
        return data

    def fast_write(
        self,
        file: FileObject,
        data: bytes | bytearray | memoryview,
        make_irp: Callable[[bytes | bytearray | memoryview], Irp],
    ) -> int | Irp | None:
        """Fast I/O."""
        processor = self.ke.local.processor or self.ke.current()
        irql = processor.irql
        result = super().fast_write(file, data, make_irp)
        if processor.irql != irql:
            fast = file.device_object.driver_object.fast_io_dispatch
            self._fast_io_leaks(processor, irql, file, fast and fast.write)
        return result

    def dispatched_write(self, request: IoRequest, data: bytes | bytearray | memoryview) -> Irp:
        """The rest of a fast write: an IRP that counts as sent, although nobody has called the driver with it."""
        irp = super().dispatched_write(request, data)
        if isinstance(irp, VerifiedIrp):
            irp.sent = True
            irp.reached = irp.at = irp.current_location
        return irp

    def _fast_io_leaks(self, processor: Processor, irql: int, file: FileObject, routine: object) -> None:
        was, processor.irql = processor.irql, irql
        place = place_of_routine(routine)
        self.verifier.report("FastIoIrql", device=file.device_object, place=place, details=f"{irql} became {was}")

    # -- cancellation and StartIo ------------------------------------------------------------------------------------

    def run_cancel_routine(self, device: DeviceObject[Any], irp: Irp, routine: CancelRoutine, irql: int) -> None:
        """Call a cancel routine."""
        with self.verifier.entered("cancel", device, irp):
            super().run_cancel_routine(device, irp, routine, irql)

    def call_start_io(self, device: DeviceObject[Any], irp: Irp) -> None:
        """Call StartIo."""
        with self.verifier.entered("StartIo", device, irp):
            super().call_start_io(device, irp)

    def _run_work_item(self, item: WorkItem, device: DeviceObject[Any], routine: WorkRoutine, context: Any) -> None:
        with self.verifier.entered("work item", device):
            super()._run_work_item(item, device, routine, context)

    def start_packet(
        self, device: DeviceObject[Any], irp: Irp, key: int | None = None, cancel: CancelRoutine | None = None
    ) -> None:
        """IoStartPacket."""
        if isinstance(irp, VerifiedIrp) and irp.current_location not in irp.marked_at:
            self.verifier.report("MarkingQueuedIrps", irp=irp, device=device)
        super().start_packet(device, irp, key, cancel)

    def start_next_packet(self, device: DeviceObject[Any], *, cancelable: bool = False) -> None:
        """IoStartNextPacket."""
        for running in reversed(self.verifier.running()):
            if running.kind == "StartIo" and running.device is device and not device.deferred_start_io:
                self.verifier.report("StartIoRecursion", device=device)
        held = self.verifier.held_here()
        if held:
            self.verifier.report("SpinLockSafe", device=device, details=f"{len(held)} held")
        super().start_next_packet(device, cancelable=cancelable)
