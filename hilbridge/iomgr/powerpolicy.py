"""What a well-behaved driver does with power requests, so that a driver has to say no more than how it goes up and down.

Microsoft's rules ("Handling device power-up IRPs", "Handling device power-down IRPs", "Handling system power IRPs in a device
power policy owner"): a device is powered down on the way down, before the driver below is told, and powered up on the way
up, when the drivers below are. No driver but the bus driver completes a request that has not failed. The driver that decides
about the device, the policy owner, turns a request for a state of the system into one for the state of the device that
belongs to it, and lets the first one end when that one has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge.iomgr.powerqueue import PowerState
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.model.capabilities import DeviceCapabilities
from hilbridge.model.codes import PASSIVE_LEVEL, DevicePowerState, PowerMinor, PowerStateType, SystemPowerState
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import IoStatusBlock, Irp
from hilbridge.model.status import STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, NtStatus

PowerCallback = Callable[[DeviceObject[Any], DevicePowerState], NtStatus]


class PowerPolicy:
    """The POWER dispatch of one device. ``driver.major_function[IrpMajor.POWER]`` calls ``extension.policy.dispatch``.

    `power_down(device, target)` is called before the device loses power, `power_up(device, previous)` when it has it again:
    both at PASSIVE_LEVEL, one at a time, with the remove lock held if there is one; a request that comes at DISPATCH_LEVEL
    goes on with a work item. They return STATUS_SUCCESS: a SET_POWER may not be refused. `query_power(device, target)` may
    refuse, and is called at up to DISPATCH_LEVEL. D0 while in D0 calls neither.

    `physical` is the PDO, for the policy owner, which is the function driver; a filter leaves it out. `capabilities` say which
    state of the device belongs to which of the system: set them when the device is started and has been asked.
    """

    def __init__(
        self,
        device: DeviceObject[Any],
        lower: DeviceObject[Any],
        *,
        physical: DeviceObject[Any] | None = None,
        remove_lock: RemoveLock | None = None,
        power_up: PowerCallback | None = None,
        power_down: PowerCallback | None = None,
        query_power: PowerCallback | None = None,
        capabilities: DeviceCapabilities | None = None,
    ) -> None:
        self.device = device
        self.lower = lower
        self.physical = physical
        self.remove_lock = remove_lock
        self.power_up = power_up
        self.power_down = power_down
        self.query_power = query_power
        self.capabilities = capabilities or DeviceCapabilities()

    @property
    def state(self) -> DevicePowerState:
        """In which state the device is. One that was never started is taken to be in D0."""
        return max(self.device.power_state, DevicePowerState.D0)

    def dispatch(self, _device: DeviceObject[Any], irp: Irp) -> NtStatus:
        """The dispatch routine for POWER, up to DISPATCH_LEVEL. It does not wait."""
        location = irp.current_stack_location
        minor = location.minor_function
        if self.remove_lock is not None:
            status = self.remove_lock.acquire(irp)
            if not status.is_success:
                return self._complete(irp, status)
        if minor in (PowerMinor.SET_POWER, PowerMinor.QUERY_POWER):
            power = location.parameters.power
            if power.type == PowerStateType.SYSTEM:
                if self.physical is not None:
                    return self._system(irp, SystemPowerState(power.state))
            elif minor == PowerMinor.SET_POWER:
                irp.mark_pending()
                self._at_passive(self._set, (irp, DevicePowerState(power.state)))
                return STATUS_PENDING
            elif self.query_power is not None:
                status = self.query_power(self.device, DevicePowerState(power.state))
                if not status.is_success:
                    self._release(irp)
                    return self._complete(irp, status)
        irp.skip_current_stack_location()
        status = self.device.io.call_driver(self.lower, irp)
        self._release(irp)
        return status

    # -- states of the device ----------------------------------------------------------------------------------------

    def _set(self, _device: DeviceObject[Any], work: tuple[Irp, DevicePowerState]) -> None:
        """At PASSIVE_LEVEL. The IRP is marked pending."""
        irp, target = work
        previous = self.state
        if target > previous:
            status = STATUS_SUCCESS if self.power_down is None else self.power_down(self.device, target)
            if not status.is_success:
                self._release(irp)
                self._complete(irp, status)
                return
            self.device.po.set_power_state(self.device, PowerStateType.DEVICE, target)
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(self._came_back, (irp, target, previous))
        self.device.io.call_driver(self.lower, irp)

    def _came_back(
        self, _device: DeviceObject[Any] | None, irp: Irp, work: tuple[Irp, DevicePowerState, DevicePowerState]
    ) -> NtStatus:
        """Completion routine: the drivers below are in the new state."""
        _, target, previous = work
        if irp.io_status.status.is_success and target < previous:
            if self.device.ke.irql != PASSIVE_LEVEL:
                self._at_passive(self._up_and_complete, work)
                return STATUS_MORE_PROCESSING_REQUIRED
            self._up(work)
        self._release(irp)
        return STATUS_SUCCESS

    def _up_and_complete(
        self, _device: DeviceObject[Any], work: tuple[Irp, DevicePowerState, DevicePowerState]
    ) -> None:
        self._up(work)
        self._release(work[0])
        self.device.io.complete_request(work[0])

    def _up(self, work: tuple[Irp, DevicePowerState, DevicePowerState]) -> None:
        irp, target, previous = work
        status = STATUS_SUCCESS
        if self.power_up is not None and target is DevicePowerState.D0:  # out of a sleeping state there is no other way
            status = self.power_up(self.device, previous)
        if status.is_success:
            self.device.po.set_power_state(self.device, PowerStateType.DEVICE, target)
        else:
            irp.io_status.status = status

    # -- states of the system ----------------------------------------------------------------------------------------

    def _system(self, irp: Irp, state: SystemPowerState) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(self._system_came_back, state)
        self.device.io.call_driver(self.lower, irp)
        return STATUS_PENDING

    def _system_came_back(self, _device: DeviceObject[Any] | None, irp: Irp, state: SystemPowerState) -> NtStatus:
        """Completion routine: the drivers below agree. Now the device's turn."""
        minor = PowerMinor(irp.current_stack_location.minor_function)
        if irp.io_status.status.is_success and self.physical is not None:
            target = self.capabilities.device_state[state]
            if minor == PowerMinor.SET_POWER and state is SystemPowerState.WORKING:
                # The system is not to wait for every device until it works again: this one comes when it can.
                self.device.po.request_power_irp(self.physical, minor, target)
            else:
                status = self.device.po.request_power_irp(self.physical, minor, target, self._device_done, irp)
                if status == STATUS_PENDING:
                    return STATUS_MORE_PROCESSING_REQUIRED
                irp.io_status.status = status
        self._release(irp)
        return STATUS_SUCCESS

    def _device_done(
        self, _device: DeviceObject[Any], _minor: PowerMinor, _state: PowerState, irp: Irp, iosb: IoStatusBlock
    ) -> None:
        """The callback of the request for the device: the system's ends as that has."""
        irp.io_status.status = iosb.status
        self._release(irp)
        self.device.io.complete_request(irp)

    # -- both --------------------------------------------------------------------------------------------------------

    def _at_passive(self, routine: Callable[[DeviceObject[Any], Any], None], work: Any) -> None:
        if self.device.ke.irql == PASSIVE_LEVEL:
            routine(self.device, work)
        else:
            io = self.device.io
            io.queue_work_item(io.allocate_work_item(self.device), routine, work)

    def _release(self, irp: Irp) -> None:
        if self.remove_lock is not None:
            self.remove_lock.release(irp)

    def _complete(self, irp: Irp, status: NtStatus) -> NtStatus:
        irp.io_status.status = status
        self.device.io.complete_request(irp)
        return status
