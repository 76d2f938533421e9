"""How instruments hook in: subclasses of the I/O manager and the kernel, which a bridge builds in the place of theirs.

    trace = Trace()
    with Bridge(**observed_by(trace)) as bridge:
        ...

What a method of these classes adds is to tell. The rules of the model are those of the base class, whose method it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypedDict

from hilbridge.iomgr.manager import IoManager
from hilbridge.iomgr.namespace import Namespace
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.interrupt import Interrupt, Pin, ServiceRoutine, Vector
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.machine import Waitable
from hilbridge.kernel.processor import Processor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import HilbridgeError, InternalFault, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus
from hilbridge.observe.instrument import Instrument

P = ParamSpec("P")


class Observers:
    """The instruments of one bridge."""

    def __init__(self, ke: Kernel, instruments: tuple[Instrument, ...]) -> None:
        self._ke = ke
        self.instruments = instruments
        """Those that are switched on. The tuple is replaced, never changed: it is read in many threads without a lock."""

    def tell(self, moment: Callable[Concatenate[Instrument, P], None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call the method `moment`, named as ``Instrument.irp_created``, of each instrument."""
        for instrument in self.instruments:
            try:
                getattr(instrument, moment.__name__)(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - latched
                self._switch_off(instrument, moment.__name__, error)

    def _switch_off(self, instrument: Instrument, moment: str, error: Exception) -> None:
        # An instrument's mistake is nobody's fault inside the model: no device is marked, no request fails. It is kept with
        # the other faults, so that whoever leaves the bridge's `with` block hears of it.
        self.instruments = tuple(other for other in self.instruments if other is not instrument)
        name = type(instrument).__name__
        fault = InternalFault(
            f"instrument {name} raised {type(error).__name__} in {moment}: {error}; it has been switched off, and what it "
            "has noted is incomplete"
        )
        fault.__cause__ = error
        self._ke.faults.append(fault)


class ObservedVector(Vector):
    """A vector that tells when its chain is about to run."""

    __slots__ = ()

    def dispatch(self, pin: Pin) -> None:
        """The line of `pin` is asserted."""
        observers_of(self.ke).tell(Instrument.interrupt_asserted, pin)
        super().dispatch(pin)


class ObservedKernel(Kernel):
    """A kernel whose interrupts, DPCs, waits and faults are told."""

    vector_class = ObservedVector
    with_instruments: tuple[Instrument, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.observers = Observers(self, self.with_instruments)
        self.observers.tell(Instrument.attached, self)

    def insert_queue_dpc(self, dpc: Kdpc, argument1: Any = None, argument2: Any = None) -> bool:
        """KeInsertQueueDpc. Told before: below DISPATCH_LEVEL the DPC has run when this returns."""
        if not dpc.queued:
            self.observers.tell(Instrument.dpc_queued, dpc)
        return super().insert_queue_dpc(dpc, argument1, argument2)

    def run_dpc(self, dpc: Kdpc) -> None:
        """Run one DPC."""
        self.observers.tell(Instrument.dpc, dpc)
        super().run_dpc(dpc)
        self.observers.tell(Instrument.dpc_returned, dpc)

    def wait(
        self, processor: Processor, what: Waitable, timeout: int | None, pin: Pin | None, alert: bool = True
    ) -> bool:
        """Wait on the machine."""
        self.observers.tell(Instrument.wait_began, what, timeout)
        came = super().wait(processor, what, timeout, pin, alert)
        self.observers.tell(Instrument.wait_ended, what, came)
        return came

    def latch_fault(self, device: DeviceObject[Any] | None, error: BaseException, where: str) -> HilbridgeError:
        """Keep an exception that foreign code raised."""
        fault = super().latch_fault(device, error, where)
        self.observers.tell(Instrument.fault, device, fault)
        return fault


class ObservedNamespace(Namespace):
    """A namespace that tells what it has found."""

    def __init__(self, observers: Observers) -> None:
        super().__init__()
        self._observers = observers

    def resolve(self, name: str) -> tuple[DeviceObject[Any], str]:
        """Find the device of a name."""
        device, rest = super().resolve(name)
        self._observers.tell(Instrument.name_resolved, name, device)
        return device, rest


class ObservedIoManager(IoManager):
    """An I/O manager whose requests are told, from their making to their end."""

    # Fast I/O has no IRP that could be told of: while somebody looks, every request takes the whole way.
    fast_io = False

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._observers = observers_of(ke)
        self.namespace = ObservedNamespace(self._observers)
        self.irp_class = _observed_irp(self._observers, self.irp_class)

    def call_driver(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        """IoCallDriver."""
        location = irp.current_location - 2
        if location >= 0:  # else there is no stack location left, and the base class says so
            routine = device.driver_object.major_function[irp.stack[location].major_function]
            self._observers.tell(Instrument.irp_dispatched, device, irp, routine)
        status = super().call_driver(device, irp)
        self._observers.tell(Instrument.dispatch_returned, device, irp, status)
        return status

    def complete_request(self, irp: Irp, _boost: int = 0) -> None:
        """IoCompleteRequest."""
        self._observers.tell(Instrument.irp_completing, irp)
        super().complete_request(irp, _boost)

    def _offer(self, irp: Irp, location: int, routine: Any, context: Any) -> bool:
        device = irp.stack[location - 1].device_object if location <= irp.stack_count else None
        self._observers.tell(Instrument.completion_routine, device, irp, routine)
        goes_on = super()._offer(irp, location, routine, context)
        self._observers.tell(Instrument.completion_routine_returned, irp, not goes_on)
        return goes_on

    def finish(self, irp: Irp) -> None:
        """Past the top of the stack. Told before the caller is: when he goes on, the instruments know all that he does."""
        self._observers.tell(Instrument.irp_completed, irp)
        super().finish(irp)

    def cancel_irp(self, irp: Irp) -> bool:
        """IoCancelIrp."""
        self._observers.tell(Instrument.irp_cancelled, irp)
        return super().cancel_irp(irp)

    def irp_started(self, device: DeviceObject[Any], irp: Irp) -> None:
        """A driver's own queue has come to this request."""
        self._observers.tell(Instrument.irp_started, device, irp)

    def call_start_io(self, device: DeviceObject[Any], irp: Irp) -> None:
        """StartIo's queue: the same moment."""
        self._observers.tell(Instrument.irp_started, device, irp)
        super().call_start_io(device, irp)

    def connect_interrupt(
        self,
        device: DeviceObject[Any],
        isr: ServiceRoutine,
        context: Any,
        vector: int,
        **options: Any,
    ) -> Interrupt:
        """IoConnectInterrupt, of a routine that calls `isr` and tells what it said."""
        tell = self._observers.tell

        def observed(interrupt: Interrupt, context: Any) -> bool:
            claimed = isr(interrupt, context)
            tell(Instrument.interrupt, vector, device, isr, claimed)
            return claimed

        return super().connect_interrupt(device, observed, context, vector, **options)


def observers_of(ke: Kernel) -> Observers:
    """The instruments of a kernel that has some. Raises `UsageFault` for any other."""
    if not isinstance(ke, ObservedKernel):
        raise UsageFault("instruments need both classes: use Bridge(**observed_by(...))")
    return ke.observers


def _observed_irp(observers: Observers, base: type[Irp]) -> type[Irp]:
    class ObservedIrp(base):  # type: ignore[misc, valid-type]  # the verifier's, where there is one
        """An IRP that tells of its making and of being marked pending, which only the IRP itself sees."""

        __slots__ = ()

        def __init__(self, irp_id: int, stack_count: int, born: int = 0) -> None:
            super().__init__(irp_id, stack_count, born)
            observers.tell(Instrument.irp_created, self)

        def mark_pending(self) -> None:
            """IoMarkIrpPending."""
            super().mark_pending()
            observers.tell(Instrument.irp_pended, self)

    return ObservedIrp


class Classes(TypedDict):
    """What a bridge is told to build itself from: ``Bridge(**classes)``."""

    io_manager: type[IoManager]
    kernel: type[Kernel]


def observed_by(*instruments: Instrument) -> Classes:
    """The classes of a bridge with these instruments: ``Bridge(**observed_by(trace))``."""

    class KernelWithInstruments(ObservedKernel):
        """Knows its instruments, because a bridge builds its kernel itself."""

        with_instruments = instruments

    return Classes(io_manager=ObservedIoManager, kernel=KernelWithInstruments)
