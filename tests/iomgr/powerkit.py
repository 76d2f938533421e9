"""Stacks whose bus driver knows power requests, for the tests of the power manager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.codes import DevicePowerState, IrpMajor, PnpMinor, PowerMinor, PowerStateType
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import IoStatusBlock, Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.support import Dispatch, Extension, System, TinyDriver, complete, complete_cancelled

D0, D1, D2, D3 = (DevicePowerState(n) for n in (1, 2, 3, 4))
SET, QUERY, WAKE = PowerMinor.SET_POWER, PowerMinor.QUERY_POWER, PowerMinor.WAIT_WAKE
POWER = IrpMajor.POWER


def words(irp: Irp) -> str:
    """``SET D3``, ``QUERY SLEEPING3``, ``WAKE``: what a power IRP asks."""
    location = irp.current_stack_location
    if location.minor_function == WAKE:
        return "WAKE"
    power = location.parameters.power
    assert power.type == (PowerStateType.DEVICE if isinstance(power.state, DevicePowerState) else PowerStateType.SYSTEM)
    return f"{PowerMinor(location.minor_function).name.removesuffix('_POWER')} {power.state.name}"  # type: ignore[attr-defined]


class PowerBus:
    """A bus driver: what it is asked it notes in `log`, and completes at once, or keeps in `held` while `holds`.

    One WAIT_WAKE is pended cancel-safely, a second one refused.
    """

    def __init__(self, system: System) -> None:
        self.log: list[str] = []
        self.held: list[Irp] = []
        self.holds = False
        self.status = STATUS_SUCCESS
        self.armed: list[Irp] = []
        """The WAIT_WAKE that is pending."""
        self.driver = system.io.load_driver("powerbus", TinyDriver("powerbus").driver_entry)
        self.driver.major_function[IrpMajor.PNP] = self.pnp
        self.driver.major_function[POWER] = self.power

    def pnp(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        return complete(device, irp)

    def power(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        self.log.append(words(irp))
        if irp.current_stack_location.minor_function == WAKE:
            return self.wait_wake(device, irp)
        if not self.holds:
            return complete(device, irp, self.status)
        irp.mark_pending()
        self.held.append(irp)
        return STATUS_PENDING

    def wait_wake(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        if self.armed:
            return complete(device, irp, STATUS_DEVICE_BUSY)
        irp.mark_pending()
        self.armed.append(irp)
        irp.set_cancel_routine(self.cancelled)
        if irp.cancel and irp.set_cancel_routine(None) is not None:
            self.armed.clear()
            complete_cancelled(irp)
        return STATUS_PENDING

    def cancelled(self, device: DeviceObject[Any] | None, irp: Irp) -> None:
        assert device is not None
        device.io.release_cancel_spin_lock(device)
        self.armed.clear()
        complete(device, irp, STATUS_CANCELLED)

    def wake(self) -> None:
        """The device wakes the system."""
        irp = self.armed.pop()
        if irp.set_cancel_routine(None) is not None:
            self.let_go(irp)

    def let_go(self, irp: Irp | None = None, status: NtStatus = STATUS_SUCCESS) -> None:
        """Complete an IRP that is held: that one, or the oldest."""
        irp = irp or self.held.pop(0)
        device = irp.current_stack_location.device_object
        assert device is not None
        complete(device, irp, status)


class PowerSystem(System):
    """A kernel and an I/O manager with one stack: a bus driver's device, and those of some drivers on it, started."""

    def __init__(self, *drivers: TinyDriver, start: bool = True) -> None:
        super().__init__()
        self.bus = PowerBus(self)
        self.pdo = self.stack_on_bus(*drivers, start=start)
        self.done: list[Any] = []
        """What the callback has been told: ``(words, status)``."""

    def stack_on_bus(self, *drivers: TinyDriver, start: bool = True) -> DeviceObject[Extension]:
        pdo = self.io.create_device(self.bus.driver, Extension())
        for driver in drivers:
            loaded = self.io.drivers.get(driver.__name__) or self.io.load_driver(driver.__name__, driver.driver_entry)
            assert loaded.add_device is not None
            assert loaded.add_device(loaded, pdo) == STATUS_SUCCESS
        if start:
            assert self.io.send_pnp(pdo, PnpMinor.START_DEVICE) == STATUS_SUCCESS
        return pdo

    def callback(
        self, _device: DeviceObject[Any], minor: PowerMinor, state: Any, context: Any, iosb: IoStatusBlock
    ) -> None:
        name = f"{minor.name.removesuffix('_POWER')} {state.name}"
        self.done.append((name if context is None else context, iosb.status))

    def ask(self, minor: PowerMinor, state: Any, context: Any = None) -> NtStatus:
        """A request for the stack, with the callback that notes its end."""
        return self.io.request_power_irp(self.pdo, minor, state, self.callback, context)


def lets_through(note: Callable[[DeviceObject[Extension], Irp], object]) -> Dispatch:
    """A POWER routine that looks at the IRP, and passes it on."""

    def routine(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        note(device, irp)
        irp.skip_current_stack_location()
        return device.io.call_driver(device.extension.lower, irp)

    return routine


def locked(driver: TinyDriver) -> list[RemoveLock]:
    """Gives a driver a remove lock that is held while a power request is under way, and that its removal waits for."""
    locks: list[RemoveLock] = []

    def start(device: DeviceObject[Extension], _resources: Any) -> None:
        locks.append(RemoveLock(device.ke, device))

    def power(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        status = locks[0].acquire(irp)
        if not status.is_success:
            irp.io_status.status = status
            device.io.complete_request(irp)
            return status
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(came_back)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    def came_back(_device: DeviceObject[Any] | None, irp: Irp, _context: Any) -> NtStatus:
        locks[0].release(irp)
        return STATUS_SUCCESS

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE:
            locks[0].acquire("removal")
            locks[0].release_and_wait("removal")
        return driver.pnp(device, irp)

    driver.on_start = start
    driver.dispatch |= {POWER: power, IrpMajor.PNP: pnp}
    return locks
