"""A power request's way: in line, down, back up, to its callback; and its ends when that is not what happens.

A power IRP has two stack locations of the power manager's own above that of the top device. The lower of them keeps the
arguments of the callback, and its completion routine is the last of all, so that the callback runs when every driver has
seen the end of the request.

Of SET_POWER and QUERY_POWER a stack has one of a kind at a time: one for a system state, and one for a device state, which the
first as a rule gives rise to. What comes meanwhile waits, first come first served, whoever has asked. The one that is out has
`POWER_TIMEOUT` to end, also if nobody waits for it: so each gets its turn. A request ends once, with its IRP, or with the stack
that has failed, or with the removal of the device.

Requests are sent at the IRQL of the caller, or at that of who has ended the one before: at up to DISPATCH_LEVEL. If a device
of the stack has DO_POWER_PAGABLE, they are sent at PASSIVE_LEVEL, if need be by a worker.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hilbridge.iomgr.pnp import PnpRoutines
from hilbridge.iomgr.powerqueue import (
    PowerLine,
    PowerRequest,
    PowerState,
    PowerStatusBlock,
    RequestPowerComplete,
    StackPower,
    set_state,
)
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import relative_ms
from hilbridge.model.codes import (
    DISPATCH_LEVEL,
    DO_POWER_PAGABLE,
    DevicePowerState,
    IrpMajor,
    PowerAction,
    PowerMinor,
    PowerStateType,
    SystemPowerState,
)
from hilbridge.model.device import DeviceObject, DeviceStack
from hilbridge.model.errors import BugCheck, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.irp import IoStatusBlock, Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.parameters import OthersParameters, PowerParameters
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_INVALID_PARAMETER_2,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NO_SUCH_DEVICE,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    NtStatus,
)

POWER_TIMEOUT = 60.0
"""Seconds that a stack may take for one SET_POWER or QUERY_POWER. Windows has 10 minutes, or 120 s, by version; here it is
UMDF's limit for critical requests, as for Plug and Play."""

_ASKED_FOR = (PowerMinor.WAIT_WAKE, PowerMinor.SET_POWER, PowerMinor.QUERY_POWER)
DRIVER_POWER_STATE_FAILURE = "DRIVER_POWER_STATE_FAILURE"
IS_GONE = (STATUS_DELETE_PENDING, STATUS_NO_SUCH_DEVICE, STATUS_DEVICE_NOT_CONNECTED)
"""With these a driver may fail a SET_POWER, too: its device is being removed."""


class PowerSending(PnpRoutines):
    """What the power manager does with a request."""

    # -- a request's way ---------------------------------------------------------------------------------------------

    def _request(
        self,
        device: DeviceObject[Any],
        minor: PowerMinor,
        state: PowerState,
        callback: RequestPowerComplete | None = None,
        context: Any = None,
        action: PowerAction | None = None,
    ) -> PowerRequest:
        """Make a request and send it, or put it in line. `action`: it is the system's. Raises `NtStatusError`."""
        if self.ke.irql > DISPATCH_LEVEL:
            raise self.bug_check(
                0xA, "IRQL_NOT_LESS_OR_EQUAL", "request_power_irp", self.ke.irql, hint="ask for power in a DPC"
            )
        if minor not in _ASKED_FOR:
            raise NtStatusError(STATUS_INVALID_PARAMETER_2, f"{minor!r} is not sent by request_power_irp")
        wanted = SystemPowerState if minor == PowerMinor.WAIT_WAKE else DevicePowerState
        if action is None and not isinstance(state, wanted):
            raise DriverFault(
                f"{PowerMinor(minor).name} was asked for with {state!r}: give a {wanted.__name__}; states of the system are "
                "the power manager's"
            )
        request = self._make(device, PowerMinor(minor), state, callback, context, action or PowerAction.NONE)
        power = request.power
        refusal = power.enter(request)
        if refusal is not None:
            self.free_irp(request.irp)
            raise NtStatusError(refusal, f"{device!r} takes no power requests any more")
        if request.kind is not None:
            self._pump(power, power.lines[request.kind])
        elif self._must_wait_for_passive(request):
            self._on_a_worker(partial(self._send_power, request))
        else:
            self._send_power(request)
        return request

    def _make(
        self,
        device: DeviceObject[Any],
        minor: PowerMinor,
        state: PowerState,
        callback: RequestPowerComplete | None,
        context: Any,
        action: PowerAction,
    ) -> PowerRequest:
        irp = self.allocate_irp(device.top.stack_size + 2)
        irp.io_status = PowerStatusBlock(STATUS_NOT_SUPPORTED)
        request = PowerRequest(irp, device, self._power_of(device.device_stack), minor, state, callback, context)
        irp.set_next_stack_location()
        irp.set_next_stack_location()
        own = irp.current_stack_location
        own.device_object = request.requester
        own.parameters = OthersParameters(device, minor, state, context)
        there = irp.next_stack_location
        there.major_function = IrpMajor.POWER
        there.minor_function = minor
        kind = PowerStateType.DEVICE if isinstance(state, DevicePowerState) else PowerStateType.SYSTEM
        there.parameters = PowerParameters(kind, state, action)
        irp.set_completion_routine(self._power_irp_completed, request)
        return request

    def _power_of(self, stack: DeviceStack) -> StackPower:
        with self._lock:
            if stack.power is None:
                stack.power = StackPower()
            return stack.power

    def _must_wait_for_passive(self, request: PowerRequest) -> bool:
        return self.ke.irql >= DISPATCH_LEVEL and any(
            device.flags & DO_POWER_PAGABLE for device in request.top.walk_down()
        )

    def _on_a_worker(self, work: Any) -> None:
        """At PASSIVE_LEVEL, on a thread that may be held up by a driver without holding up the system's own work."""
        self.ke.machine.queue_item(partial(self.ke.run_work_item, work))

    def _pump(self, power: StackPower, line: PowerLine) -> None:
        """Send what is next in line, if none is out; and the next one, if that has ended at once."""
        while True:
            with power.lock:
                if line.pumping or line.busy is not None or not line.waiting:
                    return  # who pumps looks again, and so does who ends the one that is out
                request = line.waiting[0]
                later = self._must_wait_for_passive(request)
                if not later:
                    line.waiting.popleft()
                    line.busy, line.pumping = request, True
            if later:
                self._on_a_worker(partial(self._pump, power, line))
                return
            try:
                self._send_power(request)
            finally:
                with power.lock:
                    line.pumping = False

    def _send_power(self, request: PowerRequest) -> None:
        """IoCallDriver, and a look at how the dispatch routine behaved. A request that has been ended meanwhile is not sent."""
        irp, processor = request.irp, self.ke.current()
        if request.is_done():
            self.free_irp(irp)
            return
        if request.kind is not None:
            self._arm(request)
        irql = processor.irql
        wrong: Exception | None = None
        try:
            status = self.call_driver(request.top, irp)
            if status.__class__ is not NtStatus:
                wrong = DriverFault(f"{request.holder()!r} returned {status!r} for {request}: return an NtStatus")
            elif processor.irql != irql:
                leak = (0x05, irql, processor.irql, request.holder())
                wrong = BugCheck(0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", *leak, hint="IRQL leak")
            elif status != STATUS_PENDING and irp.state in (IrpState.DISPATCHED, IrpState.PENDING):
                wrong = DriverFault(f"{request.holder()!r} returned {status.name} for {request} without completing it")
        except Exception as error:  # noqa: BLE001 - latched below
            wrong = error
        if wrong is None:
            return
        processor.irql = irql
        holder = request.holder()
        if request.is_done() and holder.device_stack.fault is not None:
            return  # it was ended with its stack, by the fault that this follows from
        fault = self.fault(holder, wrong, f"its dispatch routine for {request}")
        fault.irp_id = fault.irp_id or irp.id
        self._end(request, fault.status, fault)

    def _power_irp_completed(self, _device: DeviceObject[Any] | None, irp: Irp, request: PowerRequest) -> NtStatus:
        """Completion routine of every power IRP, the last one. From here on the IRP is nobody's."""
        if request.claim():
            block = irp.io_status
            status = block.status if isinstance(block.status, NtStatus) else NtStatus(block.status)
            self._finish_power(request, status, self._failed_set_power(request, status), block)
        self.free_irp(irp)
        return STATUS_MORE_PROCESSING_REQUIRED

    def _failed_set_power(self, request: PowerRequest, status: NtStatus) -> HilbridgeError | None:
        """A SET_POWER tells what is so, and may not be failed. STATUS_NOT_SUPPORTED: nobody has failed it, or done it."""
        failed = not status.is_success and status != STATUS_NOT_SUPPORTED and status not in IS_GONE
        stack = request.device.device_stack
        if request.minor != PowerMinor.SET_POWER or not failed or stack.removed is not None or stack.fault is not None:
            return None
        guilty = request.refused_by()
        fault = BugCheck(
            0xC9,
            "DRIVER_VERIFIER_IOMANAGER_VIOLATION",
            0x247,
            request.irp,
            hint=f"{guilty!r} has failed {request} with {status.name}: SET_POWER may not be refused; refuse the QUERY_POWER, "
            "and call invalidate_device_state if the device does not work any more",
        )
        fault.irp_id = request.irp.id
        return self.fault(guilty, fault, f"its dispatch routine for {request}")

    def _finish_power(
        self, request: PowerRequest, status: NtStatus, fault: HilbridgeError | None, block: IoStatusBlock
    ) -> None:
        """It has ended, and is ours: tell who has asked, and let the next one go."""
        self.ke.cancel_timer(request.timer)
        request.status, request.fault = status, fault
        if request.minor == PowerMinor.SET_POWER and status.is_success and request.kind is not None:
            for device in request.device.bottom.walk_up():
                set_state(device, request.kind, request.state)
        power = request.power
        try:
            if request.callback is not None and request.requester.device_stack.fault is None:
                self._call_back(request, block)
        finally:
            power.leave(request)
            request.ended.set()
        if request.kind is not None:
            self._pump(power, power.lines[request.kind])

    @calls_driver("completion", "its power completion routine", lambda frame: frame["guilty"], begun="guilty")
    def _call_back(self, request: PowerRequest, block: IoStatusBlock) -> None:
        guilty, callback = request.requester, request.callback
        try:
            if callback is not None:
                callback(request.device, request.minor, request.state, request.context, block)
        except BaseException as error:  # noqa: BLE001 - latched
            self.fault(guilty, error, "its power completion routine")

    # -- ends that are not the IRP's ---------------------------------------------------------------------------------

    def _end(
        self,
        request: PowerRequest,
        status: NtStatus,
        fault: HilbridgeError | None = None,
        *,
        later: bool = False,
        unsent: bool = False,
    ) -> None:
        """End a request whose IRP has not ended, and may never. `later`: its callback, if any, is called by a worker."""
        if not request.claim():
            return
        if unsent:
            self.free_irp(request.irp)
        self._end_claimed(request, status, fault, later=later)

    def _end_claimed(
        self, request: PowerRequest, status: NtStatus, fault: HilbridgeError | None, *, later: bool
    ) -> None:
        """The same for one whose token we have. An IRP that is out stays its driver's, and is freed when it comes back."""
        block = IoStatusBlock()
        block.status = status
        finish = partial(self._finish_power, request, status, fault, block)
        if later and request.callback is not None and request.requester.device_stack.fault is None:
            self._on_a_worker(finish)
        else:
            finish()

    def _arm(self, request: PowerRequest) -> None:
        dpc = Kdpc(self._power_overdue, request)
        dpc.__class__, dpc.device = Kdpc, None  # ours, whoever runs: no driver has left this timer behind
        self.ke.set_timer(request.timer, relative_ms(POWER_TIMEOUT * 1000), dpc=dpc)
        if request.is_done():
            self.ke.cancel_timer(request.timer)

    def _power_overdue(self, _dpc: Kdpc, request: PowerRequest, _a: object, _b: object) -> None:
        """DPC: a driver holds the IRP, for too long."""
        lines = request.power.lines
        if request.kind is PowerStateType.SYSTEM and lines[PowerStateType.DEVICE].busy is not None:
            self._arm(request)  # it waits for the device's, which has a time of its own: who holds that one is to blame
            return
        if not request.claim():
            return  # it ends just now; from here on it cannot, so that nobody is blamed for what he has done in time
        holder = request.holder()
        fault = BugCheck(
            0x9F,
            DRIVER_POWER_STATE_FAILURE,
            3,
            request.device.bottom,
            0,
            request.irp,
            hint=f"{holder!r} has had {request} for {POWER_TIMEOUT:g} s: complete it, or pass it on",
        )
        fault.irp_id = request.irp.id
        if holder.device_stack.fault is None:
            self.fault(holder, fault, f"its dispatch routine for {request}")
        self._end_claimed(request, fault.status, fault, later=True)

    def fail_stack(self, device: DeviceObject[Any]) -> None:
        """A driver of this stack is broken: its power requests end as well, those that wait and those that are out."""
        super().fail_stack(device)
        stack = device.device_stack
        power: StackPower | None = stack.power
        if power is not None:
            for request in power.take_waiting():
                self._end(request, STATUS_DRIVER_PROCESS_TERMINATED, stack.fault, later=True, unsent=True)
            for request in power.sent():
                self._end(request, STATUS_DRIVER_PROCESS_TERMINATED, stack.fault, later=True)
