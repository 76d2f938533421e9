"""What an instrument may be told: the moments in the life of a request, and of the machine that serves it.

A verifier, a trace, a log, a statistic is an `Instrument`: it overrides the methods that it cares about. Bridges without
instruments do not know that there is such a thing (`hilbridge.observe.observed` swaps two classes), so they pay nothing.

The methods are called where things happen: in any thread, at any IRQL, inside an interrupt service routine, under a
driver's lock. So they note down and return. They do not wait, take locks that others hold while they call the model, send
requests, or change what they are shown. One that raises is switched off, and the mistake is reported; the request that it
looked at goes on as if nothing had been.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.interrupt import Pin, ServiceRoutine
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.machine import Waitable
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverDispatch
    from hilbridge.model.errors import HilbridgeError
    from hilbridge.model.irp import CompletionRoutine, Irp
    from hilbridge.model.status import NtStatus


class Instrument:
    """Base class: every method does nothing."""

    def attached(self, ke: Kernel) -> None:
        """A bridge is being built that this instrument belongs to: its kernel, with the clock."""

    # -- the way down ------------------------------------------------------------------------------------------------

    def name_resolved(self, name: str, device: DeviceObject[Any]) -> None:
        """The namespace has found the device of a name."""

    def irp_created(self, irp: Irp) -> None:
        """An IRP has been allocated; nothing but its id and the size of its stack is filled in."""

    def irp_dispatched(self, device: DeviceObject[Any], irp: Irp, routine: DriverDispatch) -> None:
        """The IRP is about to be handed to `routine`, out of the dispatch table of `device`'s driver."""

    def irp_pended(self, irp: Irp) -> None:
        """A driver has marked the IRP pending."""

    def dispatch_returned(self, device: DeviceObject[Any], irp: Irp, status: NtStatus) -> None:
        """The dispatch routine has returned. After STATUS_PENDING the IRP may be anybody's, and may have ended."""

    def irp_started(self, device: DeviceObject[Any], irp: Irp) -> None:
        """A request is begun: StartIo is about to get it, or a driver with queues of its own has come to one that waited."""

    # -- the interrupt -----------------------------------------------------------------------------------------------

    def interrupt_asserted(self, pin: Pin) -> None:
        """The interrupt line of a device is asserted: the chain of its vector, ``pin.vector``, is about to run."""

    def interrupt(self, vector: int, device: DeviceObject[Any], isr: ServiceRoutine, claimed: bool) -> None:
        """A service routine on that vector has said "mine" (True) or "not mine" (False). At DIRQL."""

    def dpc_queued(self, dpc: Kdpc) -> None:
        """A DPC has been queued; not told when it was queued already."""

    def dpc(self, dpc: Kdpc) -> None:
        """A DPC is about to run, at DISPATCH_LEVEL."""

    def dpc_returned(self, dpc: Kdpc) -> None:
        """Its routine has returned, or raised."""

    # -- the way up --------------------------------------------------------------------------------------------------

    def irp_cancelled(self, irp: Irp) -> None:
        """Somebody asks for the IRP's end. It may end otherwise all the same."""

    def irp_completing(self, irp: Irp) -> None:
        """IoCompleteRequest is called, with the status in ``irp.io_status``."""

    def completion_routine(self, device: DeviceObject[Any] | None, irp: Irp, routine: CompletionRoutine) -> None:
        """A completion routine is about to see the IRP. `device` is its driver's, None for the creator's own."""

    def completion_routine_returned(self, irp: Irp, kept: bool) -> None:
        """It has returned; `kept` with STATUS_MORE_PROCESSING_REQUIRED: the IRP is its driver's again."""

    def irp_completed(self, irp: Irp) -> None:
        """The IRP has been all the way up. Its caller is told next."""

    # -- who waits, and what goes wrong --------------------------------------------------------------------------------

    def wait_began(self, what: Waitable, timeout: int | None) -> None:
        """The calling thread waits for `what`, a request or an event, for `timeout` nanoseconds at most."""

    def wait_ended(self, what: Waitable, came: bool) -> None:
        """It waits no more; False when the time was up first. Not told when the wait was interrupted."""

    def fault(self, device: DeviceObject[Any] | None, fault: HilbridgeError) -> None:
        """A mistake of a driver has been latched."""
