"""A driver with an interrupt, a timer and a queue, and a filter above it: both refuse what they are told to, and write down
what they are asked. Each keeps its state by the table, which raises at a request that may not come."""

from __future__ import annotations

from typing import Any

from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.hardware import CAUSE_RX
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import CHANGES_STATE, PnpLife, PnpState
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_PENDING, STATUS_SUCCESS, STATUS_UNSUCCESSFUL, NtStatus
from tests.support import Extension, TinyDriver, complete, pass_down, uart_dpc, uart_isr

TICK = 10
"""Milliseconds between two ticks of the driver's timer."""
REFUSABLE = (PnpMinor.START_DEVICE, PnpMinor.QUERY_STOP_DEVICE, PnpMinor.QUERY_REMOVE_DEVICE)


class Asked(TinyDriver):
    """What both do with Plug and Play requests: the table, the log, the refusals."""

    def __init__(self, name: str, dispatch: dict[IrpMajor, Any], **options: Any) -> None:
        super().__init__(name, dispatch, **options)
        self.log: list[str] = []
        self.life = PnpLife()
        self.refuses: PnpMinor | None = None

    def add_device(self, driver: Any, physical: DeviceObject[Any]) -> NtStatus:
        self.life = PnpLife()
        return super().add_device(driver, physical)

    def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        minor = irp.current_stack_location.minor_function
        if minor not in CHANGES_STATE:
            return pass_down(device, irp)
        self.log.append(PnpMinor(minor).name.removesuffix("_DEVICE"))
        assert self.life.may(minor), f"{self.__name__} is {self.life.state.name}"
        if minor == PnpMinor.START_DEVICE:
            return self.start(device, irp)
        if minor == self.refuses:
            return complete(device, irp, STATUS_UNSUCCESSFUL)
        self.life.step(minor)
        if minor in (PnpMinor.STOP_DEVICE, PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
            self.let_go(device)
        irp.io_status.status = STATUS_SUCCESS
        irp.skip_current_stack_location()
        status = device.io.call_driver(device.extension.lower, irp)
        if minor == PnpMinor.REMOVE_DEVICE:
            device.io.detach_device(device.extension.lower)
            device.io.delete_device(device)
        return status

    def start(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        status = device.io.forward_and_wait(device.extension.lower, irp)
        if status.is_success and self.refuses == PnpMinor.START_DEVICE:
            status = STATUS_UNSUCCESSFUL
        if status.is_success:
            self.life.step(PnpMinor.START_DEVICE)
            self.take(device, irp)
        return complete(device, irp, status)

    def take(self, device: DeviceObject[Extension], irp: Irp) -> None:
        """Its hardware is there."""

    def let_go(self, device: DeviceObject[Extension]) -> None:
        """Its hardware goes, for a while or for good."""


class Filter(Asked):
    """Passes on what comes."""

    def __init__(self, name: str) -> None:
        majors = (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE, IrpMajor.READ)
        super().__init__(name, dict.fromkeys(majors, pass_down), named=False)


class Function(Asked):
    """Queues reads, also while it is stopped, and ends them with what its line brings."""

    def __init__(self, name: str) -> None:
        super().__init__(name, {IrpMajor.CREATE: self.create, IrpMajor.READ: self.read})
        self.ticks = 0
        self.timer = Ktimer()

    def create(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        gone = self.life.state is PnpState.SURPRISE_REMOVED
        return complete(device, irp, STATUS_DELETE_PENDING if gone else STATUS_SUCCESS)

    def read(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if self.life.state is PnpState.SURPRISE_REMOVED:
            return complete(device, irp, STATUS_DELETE_PENDING)
        device.extension.queue.insert(irp)
        if self.life.state is PnpState.STARTED:
            device.ke.insert_queue_dpc(device.extension.dpc)
        return STATUS_PENDING

    def take(self, device: DeviceObject[Extension], irp: Irp) -> None:
        extension, resources = device.extension, irp.current_stack_location.parameters.start_device.allocated_resources
        extension.line = resources.line
        extension.dpc = Kdpc(self.serve, None, device)
        extension.interrupt = device.io.connect_interrupt(device, uart_isr, device, resources.vector)
        resources.line.enable_interrupts(CAUSE_RX)
        device.ke.set_timer(self.timer, relative_ms(TICK), TICK, Kdpc(self.tick, None, device))
        device.ke.insert_queue_dpc(extension.dpc)  # what has been queued meanwhile

    def serve(self, dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        device: DeviceObject[Extension] | None = dpc.device
        assert device is not None
        while device.extension.received and len(device.extension.queue):
            uart_dpc(dpc, None, None, None)

    def tick(self, *_: object) -> None:
        self.ticks += 1

    def let_go(self, device: DeviceObject[Extension]) -> None:
        extension = device.extension
        device.ke.cancel_timer(self.timer)
        interrupt, extension.interrupt = extension.interrupt, None
        if interrupt is not None:
            device.io.disconnect_interrupt(interrupt)
        if self.life.state is not PnpState.STOPPED:
            while (irp := self.oldest(device)) is not None:
                complete(device, irp, STATUS_DELETE_PENDING)

    @staticmethod
    def oldest(device: DeviceObject[Extension]) -> Irp | None:
        with device.extension.queue.lock:
            return device.extension.queue.remove_next_locked()
