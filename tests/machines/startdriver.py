"""A real driver with StartIo that follows the packets of `queuemodel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.machines.queuemodel import Event, Packet
from tests.support import Extension, TinyDriver, complete


class Starter(TinyDriver):
    """Does one thing at a time."""

    def __init__(self, *, deferred: bool, non_cancelable: bool) -> None:
        routines: dict[IrpMajor, Callable[..., NtStatus]] = {IrpMajor.READ: self.read, IrpMajor.CLEANUP: self.cleanup}
        super().__init__("starter", routines, start_io=self.start_io)
        self.deferred = deferred
        self.non_cancelable = non_cancelable
        self.events: list[Event] = []
        self.next_packet: Packet | None = None
        self.packets: dict[int, Packet] = {}
        self.live: dict[str, Irp] = {}

    def add_device(self, driver: Any, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        driver.io.set_start_io_attributes(self.device, deferred=self.deferred, non_cancelable=self.non_cancelable)
        return status

    def name(self, irp: Irp | None) -> str | None:
        return None if irp is None else self.packets[irp.id].name

    def read(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        packet, self.next_packet = self.next_packet, None
        assert packet is not None
        self.packets[irp.id] = packet
        self.live[packet.name] = irp
        if packet.cancelled_before:
            device.io.cancel_irp(irp)
        irp.mark_pending()
        device.io.start_packet(device, irp, packet.key, self.cancelled if packet.cancelable else None)
        return STATUS_PENDING

    def start_io(self, device: DeviceObject[Extension], irp: Irp) -> None:
        assert device.ke.irql == DISPATCH_LEVEL and device.current_irp is irp
        packet = self.packets[irp.id]
        self.events.append(("start", packet.name, irp.cancel_routine is not None))
        if not packet.keeps_routine or irp.cancel or packet.at_once:
            irp.set_cancel_routine(None)
        if irp.cancel or packet.at_once:
            self.end(device, irp, STATUS_CANCELLED if irp.cancel else STATUS_SUCCESS)
            self.start_next(device, packet)

    def end(self, device: DeviceObject[Extension], irp: Irp, status: NtStatus) -> None:
        name = self.packets[irp.id].name
        del self.live[name]
        self.events.append(("end", name, status))
        complete(device, irp, status)

    def start_next(self, device: DeviceObject[Extension], packet: Packet) -> None:
        with device.ke.raised_irql(DISPATCH_LEVEL):
            if packet.next_key is None:
                device.io.start_next_packet(device, cancelable=True)
            else:
                device.io.start_next_packet_by_key(device, packet.next_key, cancelable=True)

    def hardware_is_done(self) -> None:
        """What its DPC would do."""
        device = self.device
        irp = device.current_irp
        assert irp is not None
        with device.device_stack.cancel_lock:
            irp.set_cancel_routine(None)
        self.end(device, irp, STATUS_SUCCESS)
        self.start_next(device, self.packets[irp.id])

    def cancelled(self, device: DeviceObject[Extension] | None, irp: Irp) -> None:
        assert device is not None
        self.take_out(device, irp, device.io.release_cancel_spin_lock)

    def cleanup(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        file = irp.current_stack_location.file_object
        for one in list(self.live.values()):
            if one.file_object is file and one in self.live.values():
                one.set_cancel_routine(None)
                self.take_out(device, one, lambda _device: None)
        return complete(device, irp)

    def take_out(self, device: DeviceObject[Extension], irp: Irp, let_go: Callable[[DeviceObject[Any]], None]) -> None:
        """The packet in progress, or one that is queued, ends as cancelled."""
        if irp is device.current_irp:
            let_go(device)
            self.start_next(device, self.packets[irp.id])
        else:
            assert device.ke.remove_entry_device_queue(device.device_queue, irp), "neither in progress nor queued"
            let_go(device)
        self.end(device, irp, STATUS_CANCELLED)
