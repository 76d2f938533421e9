"""The power manager: PoRequestPowerIrp and its kin for drivers, what the system asks of a stack, and what removal means to it.

How a request goes, and how it may end, is in `hilbridge.iomgr.powersend`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hilbridge.iomgr.pnp import PnpAnswer
from hilbridge.iomgr.powerqueue import PowerAnswer, PowerState, RequestPowerComplete, StackPower, set_state
from hilbridge.iomgr.powersend import DRIVER_POWER_STATE_FAILURE, PowerSending
from hilbridge.model.codes import (
    DevicePowerState,
    PnpMinor,
    PowerAction,
    PowerMinor,
    PowerStateType,
    SystemPowerState,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, HilbridgeError, NtStatusError, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_PENDING,
    NtStatus,
)


class PowerRoutines(PowerSending):
    """The power manager's routines. A driver finds them at ``device.po``, which is the I/O manager."""

    # -- for drivers -------------------------------------------------------------------------------------------------

    def request_power_irp(
        self,
        device: DeviceObject[Any],
        minor: PowerMinor,
        state: PowerState,
        callback: RequestPowerComplete | None = None,
        context: Any = None,
    ) -> NtStatus:
        """PoRequestPowerIrp, up to DISPATCH_LEVEL: send a power IRP to the top of the device's stack.

        STATUS_PENDING: it was sent, or will be when those before it have ended.

        SET_POWER and QUERY_POWER of a `DevicePowerState`, and WAIT_WAKE of a `SystemPowerState` (`request_wait_wake` also
        hands its IRP out). ``callback(device, minor, state, context, iosb)`` is called after all completion routines, up to
        DISPATCH_LEVEL, and perhaps before this returns; not if this returns anything else, nor when the stack of who has
        asked has failed. STATUS_INVALID_PARAMETER_2 for another minor code, STATUS_INSUFFICIENT_RESOURCES if there is no
        memory; ours: STATUS_DELETE_PENDING and STATUS_DRIVER_PROCESS_TERMINATED for a stack that is removed or has failed.
        """
        try:
            self._request(device, minor, state, callback, context)
        except NtStatusError as error:
            return error.status
        return STATUS_PENDING

    def request_wait_wake(
        self,
        device: DeviceObject[Any],
        state: SystemPowerState,
        callback: RequestPowerComplete | None = None,
        context: Any = None,
    ) -> Irp:
        """PoRequestPowerIrp of IRP_MN_WAIT_WAKE, with the IRP that C hands out through a pointer: to be cancelled, no more.

        At PASSIVE_LEVEL, while the device is in D0. ``io.cancel_irp(irp)`` when the device shall not wake the system any more,
        and in STOP, QUERY_REMOVE, SURPRISE_REMOVAL and REMOVE; the callback then sees STATUS_CANCELLED. After the callback
        the IRP is nobody's. Raises `NtStatusError` with what `request_power_irp` would have returned.
        """
        return self._request(device, PowerMinor.WAIT_WAKE, state, callback, context).irp

    @staticmethod
    def set_power_state(device: DeviceObject[Any], kind: PowerStateType, state: PowerState) -> PowerState:
        """PoSetPowerState, up to DISPATCH_LEVEL: the driver says in which state its device is. Returns the previous state."""
        return set_state(device, kind, state)

    @staticmethod
    def start_next_power_irp(irp: Irp) -> None:
        """PoStartNextPowerIrp: nothing, as since Windows Vista. The power manager counts what it has sent by itself."""

    # -- for the system ----------------------------------------------------------------------------------------------

    def send_power(
        self,
        device: DeviceObject[Any],
        minor: PowerMinor,
        state: PowerState,
        *,
        action: PowerAction = PowerAction.NONE,
    ) -> NtStatus:
        """SET_POWER or QUERY_POWER of a system or a device state, by the type of `state`; returns how it ended.

        As `ask_power`, which also says who has refused.
        """
        return self.ask_power(device, minor, state, action=action).status

    def ask_power(
        self,
        device: DeviceObject[Any],
        minor: PowerMinor,
        state: PowerState,
        *,
        action: PowerAction = PowerAction.NONE,
    ) -> PowerAnswer:
        """Send a power request to the top of the device's stack, and wait for its end. At PASSIVE_LEVEL.

        A QUERY_POWER may be refused, and the answer says by whom. STATUS_NOT_SUPPORTED means that no driver knows such
        requests, and STATUS_DELETE_PENDING that the device is removed. Raises the fault of a driver: one that breaks a rule,
        that fails a SET_POWER (bug check 0xC9/0x247), or that does not let the IRP go (0x9F/3, after `POWER_TIMEOUT`).
        """
        self._passive("ask_power")
        self.refuse_if_dead(device)
        if minor not in (PowerMinor.SET_POWER, PowerMinor.QUERY_POWER):
            raise UsageFault(f"ask_power sends SET_POWER and QUERY_POWER, not {minor!r}")
        processor = self.ke.current()
        processor.inside += 1  # an application's thread that hangs in a driver is told of that on its way out
        try:
            return self._ask_power(device, minor, state, action)
        finally:
            processor.inside -= 1

    def _ask_power(
        self, device: DeviceObject[Any], minor: PowerMinor, state: PowerState, action: PowerAction
    ) -> PowerAnswer:
        try:
            request = self._request(device, minor, state, action=action)
        except NtStatusError as error:
            self.refuse_if_dead(device)
            return PowerAnswer(error.status)
        try:
            # No time-out: the one that is out has its own, and so has each that comes before this one.
            self.ke.wait_for_single_object(request.ended, None)
        except BaseException:
            if request.power.leave(request):
                self._end(request, STATUS_CANCELLED, unsent=True)
            raise
        # Also a fault of who had completed it before, so that it could not end by that.
        fault = request.fault or device.device_stack.fault
        if fault is not None:
            raise fault.again()
        return request.answer()

    @staticmethod
    def device_power_state(device: DeviceObject[Any]) -> DevicePowerState:
        """In which state the device is: what its driver has said last, or the stack's last SET_POWER has made of it.

        D0 from START_DEVICE on, UNSPECIFIED before.
        """
        return device.power_state

    # -- Plug and Play -----------------------------------------------------------------------------------------------

    def ask_pnp(self, device: DeviceObject[Any], minor: PnpMinor, *arguments: Any, **options: Any) -> PnpAnswer:
        """Send a Plug and Play request; see `PnpRoutines`. A device starts in D0, and takes its power requests along."""
        power, bottom = self._power_of(device.device_stack), device.bottom
        if minor == PnpMinor.START_DEVICE:
            with power.lock:
                power.refusal = None
            _enter_state(bottom, DevicePowerState.D0, SystemPowerState.WORKING)
        elif minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
            if minor == PnpMinor.SURPRISE_REMOVAL:
                self._refuse_power(power)
            for request in power.take_waiting():  # before: a removal may wait for the lock that their callbacks release
                self._end(request, STATUS_DELETE_PENDING, unsent=True)
        started = False
        try:
            answer = super().ask_pnp(device, minor, *arguments, **options)
            started = answer.status.is_success
            return answer
        finally:
            if minor == PnpMinor.START_DEVICE and not started:
                _enter_state(bottom, DevicePowerState.UNSPECIFIED, SystemPowerState.UNSPECIFIED)
            elif minor == PnpMinor.REMOVE_DEVICE:
                self._refuse_power(power)
                self._left_at_removal(power)

    @staticmethod
    def _refuse_power(power: StackPower) -> None:
        with power.lock:
            power.refusal = STATUS_DELETE_PENDING

    def _left_at_removal(self, power: StackPower) -> None:
        """REMOVE_DEVICE is over, and some requests are not. Bug check 0x9F/1, for who should have seen to that."""
        for request in power.take_waiting():
            self._end(request, STATUS_DELETE_PENDING, unsent=True)
        for request in power.sent():
            wakes = request.minor == PowerMinor.WAIT_WAKE
            guilty = request.requester if wakes else request.holder()
            fault: BugCheck | None = None
            if guilty.device_stack.fault is None:
                what = "cancel it" if wakes else "complete it, or hold a remove lock until it is back"
                hint = f"{guilty!r} was removed, and {request} is still out: {what} in REMOVE_DEVICE"
                fault = BugCheck(0x9F, DRIVER_POWER_STATE_FAILURE, 1, request.device.bottom, 0, request.irp, hint=hint)
                fault.irp_id = request.irp.id
                self.fault(guilty, fault, f"its dispatch routine for IRP_MN_{PnpMinor.REMOVE_DEVICE.name}")
            if wakes:
                with suppress(HilbridgeError):  # a cancel routine that fails has been latched
                    self.cancel_irp(request.irp)
            self._end(request, STATUS_DELETE_PENDING, fault)


def _enter_state(bottom: DeviceObject[Any], state: DevicePowerState, system: SystemPowerState) -> None:
    for device in bottom.walk_up():
        set_state(device, PowerStateType.DEVICE, state)
        set_state(device, PowerStateType.SYSTEM, system)
