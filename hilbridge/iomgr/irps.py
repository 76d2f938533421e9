"""Sending IRPs down and bringing them back up: IoCallDriver and IoCompleteRequest.

Completion walks the stack in a loop, never by recursion: a stack of any depth and a driver that completes one request
from another's completion cost no Python stack.
"""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import IoBase
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    IRP_INPUT_OPERATION,
    IRP_SYNCHRONOUS_API,
    SL_ERROR_RETURNED,
    SL_INVOKE_ON_CANCEL,
    SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverDispatch
from hilbridge.model.errors import BugCheck, DriverFault
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import STEPS, IrpEvent, IrpState
from hilbridge.model.parameters import NO_PARAMETERS, DeviceIoControlParameters, Parameters
from hilbridge.model.status import (
    STATUS_ACCESS_VIOLATION,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_VERIFY_REQUIRED,
    NtStatus,
)

_CALL, _COMPLETE, _OFFER, _CONTINUE, _FINISH, _FREE, _REUSE = (
    int(e)
    for e in (
        IrpEvent.CALL,
        IrpEvent.COMPLETE,
        IrpEvent.OFFER,
        IrpEvent.CONTINUE,
        IrpEvent.FINISH,
        IrpEvent.FREE,
        IrpEvent.REUSE,
    )
)
_MORE = int(STATUS_MORE_PROCESSING_REQUIRED)
_NT_ERROR = 0xC000_0000
_NT_FAILURE = 0x8000_0000
_FILLED_BY_PNP = (IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL)


class IrpRoutines(IoBase):
    """The I/O manager's routines about IRPs. Callable at or below DISPATCH_LEVEL."""

    # -- making them -------------------------------------------------------------------------------------------------

    def allocate_irp(self, stack_size: int) -> Irp:
        """IoAllocateIrp. The caller owns it: it sets a completion routine that keeps it, and frees or reuses it."""
        return self.irp_class(next(self._irp_ids), stack_size, self.ke.clock.now())

    def free_irp(self, irp: Irp) -> None:
        """IoFreeIrp: only an IRP from `allocate_irp` that has come back."""
        irp.step(_FREE)

    def reuse_irp(self, irp: Irp, status: NtStatus = STATUS_SUCCESS) -> None:
        """IoReuseIrp: as new, with the same id."""
        # Checked by the table; then it is made anew, in the same object, because its owner and others point to that.
        irp.step(_REUSE)
        irp.__init__(irp.id, irp.stack_count, self.ke.clock.now())  # type: ignore[misc]
        irp.io_status.status = status

    def build_synchronous_fsd_request(
        self,
        major: IrpMajor,
        device: DeviceObject[Any],
        event: Kevent,
        *,
        minor: int = 0,
        parameters: Parameters = NO_PARAMETERS,
        buffer: bytearray | None = None,
    ) -> Irp:
        """IoBuildSynchronousFsdRequest: sets `event` when done; the creator waits, and must not free it.

        The outcome is in ``irp.io_status``, which here stays readable afterwards (C copies it to the caller's block).
        """
        irp = self.allocate_irp(device.stack_size)
        irp.flags = IRP_SYNCHRONOUS_API
        irp.user_event = event
        irp.system_buffer = buffer
        location = irp.next_stack_location
        location.major_function = major
        location.minor_function = minor
        location.parameters = parameters
        if major in _FILLED_BY_PNP:
            irp.io_status.status = STATUS_NOT_SUPPORTED
        return irp

    def build_device_io_control_request(
        self,
        code: int,
        device: DeviceObject[Any],
        data: bytes,
        output_length: int,
        event: Kevent,
        *,
        internal: bool = False,
    ) -> Irp:
        """IoBuildDeviceIoControlRequest: as above, for a buffered control request to the driver below."""
        buffer = bytearray(max(len(data), output_length))
        buffer[: len(data)] = data
        major = IrpMajor.INTERNAL_DEVICE_CONTROL if internal else IrpMajor.DEVICE_CONTROL
        parameters = DeviceIoControlParameters(output_length, len(data), code)
        return self.build_synchronous_fsd_request(major, device, event, parameters=parameters, buffer=buffer)

    def call_and_wait(self, device: DeviceObject[Any], irp: Irp, timeout: float | None = 60.0) -> NtStatus:
        """Send an IRP built with an event, and wait for its end, at PASSIVE_LEVEL: the commonest use of the two above."""
        event = irp.user_event
        status = self.call_driver(device, irp)
        if int(status) == STATUS_PENDING and not self.ke.wait_for_single_object(event, timeout):
            raise BugCheck(
                0x9F, "DRIVER_POWER_STATE_FAILURE", 4, irp, hint=f"{device!r} did not complete it in {timeout} s"
            )
        return irp.io_status.status

    def forward_and_wait(self, lower: DeviceObject[Any], irp: Irp) -> NtStatus:
        """Send the current IRP to the device below and take it back: what START_DEVICE handlers begin with.

        The IRP belongs to the caller again afterwards, who completes it.
        """
        event = Kevent()

        def taken_back(_device: DeviceObject[Any] | None, _irp: Irp, _context: object) -> NtStatus:
            event.set()
            return STATUS_MORE_PROCESSING_REQUIRED

        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(taken_back)
        if int(self.call_driver(lower, irp)) == STATUS_PENDING:
            self.ke.wait_for_single_object(event, None)
        return irp.io_status.status

    # -- down --------------------------------------------------------------------------------------------------------

    def call_driver(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        """IoCallDriver: hand the IRP to `device`'s driver; returns what its dispatch routine returned."""
        location = irp.current_location - 1
        if location <= 0:
            raise BugCheck(
                0x35, "NO_MORE_IRP_STACK_LOCATIONS", irp, hint="the IRP was made for a lower stack than this"
            )
        state = STEPS[irp.state][_CALL]
        if state < 0:
            irp.broken(_CALL)
        irp.state = state
        irp.current_location = location
        here = irp.stack[location - 1]
        here.device_object = device
        dispatch: DriverDispatch = device.driver_object.major_function[here.major_function]
        return dispatch(device, irp)

    # -- up ----------------------------------------------------------------------------------------------------------

    def complete_request(self, irp: Irp, _boost: int = 0) -> None:
        """IoCompleteRequest: the IRP is done with the status in ``irp.io_status``. Exactly once, or bug check 0x44.

        Completion routines run here, from the completing driver's location upward, with the rules of the model: a routine
        that returns STATUS_MORE_PROCESSING_REQUIRED keeps the IRP; where no routine runs, "pending" is passed on upward.
        """
        # take_completion_token and step(COMPLETE), spelled out: this is on every request's way.
        try:
            irp._completion_token.pop()
        except IndexError:
            irp.broken(_COMPLETE)
        state = STEPS[irp.state][_COMPLETE]
        if state < 0:
            irp.broken(_COMPLETE)
        irp.state = state
        stack, count = irp.stack, irp.stack_count
        location = irp.current_location
        if location > count + 1:
            raise BugCheck(0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS", irp, hint="the IRP has been all the way up already")
        while location <= count:
            done = stack[location - 1]
            control = done.control
            pending = irp.pending_returned = (control & SL_PENDING_RETURNED) != 0
            location += 1
            irp.current_location = location
            routine = done.completion_routine
            if routine is not None:
                failed = irp.io_status.status >= _NT_FAILURE
                wanted = SL_INVOKE_ON_ERROR if failed else SL_INVOKE_ON_SUCCESS
                if irp.cancel:
                    wanted |= SL_INVOKE_ON_CANCEL
                if control & wanted:
                    context = done.context
                    done.control = 0
                    done.completion_routine = done.context = None
                    if not self._offer(irp, location, routine, context):
                        return
                    continue
            if location <= count:
                above = stack[location - 1]
                if pending:
                    above.control |= SL_PENDING_RETURNED
                if irp.io_status.status >= _NT_ERROR:
                    above.control |= SL_ERROR_RETURNED
        state = STEPS[irp.state][_FINISH]
        if state < 0:
            irp.broken(_FINISH)
        irp.state = state
        self.finish(irp)

    def _offer(self, irp: Irp, location: int, routine: Any, context: Any) -> bool:
        """Let a completion routine see the IRP; False if it kept it.

        From the moment of the call the IRP may be the routine's: it may have passed it to another thread, which has
        completed and freed it before we hear of that. So the token goes back first, and if the routine did not keep the
        IRP it is taken again, which only one can.
        """
        device = irp.stack[location - 1].device_object if location <= irp.stack_count else None
        # The creator's own routine belongs to no device; its mistake is that of the stack which it was sent to.
        blamed = device or irp.stack[irp.stack_count - 1].device_object
        irp.step(_OFFER)
        irp.return_completion_token()
        try:
            result = routine(device, irp, context)
            if result.__class__ is not NtStatus:
                raise DriverFault(f"a completion routine of {blamed!r} returned {result!r}; return an NtStatus")
        except BaseException as error:  # noqa: BLE001 - latched
            # A routine that raised has decided nothing. Its IRP goes on upward, so that the caller hears of it.
            fault = self.fault(blamed, error, "a completion routine")
            irp.io_status.status = fault.status
            irp.io_status.information = 0
            result = STATUS_SUCCESS
        if int(result) == _MORE:
            return False
        irp.take_completion_token()
        irp.step(_CONTINUE)
        return True

    def finish(self, irp: Irp) -> None:
        """Past the top of the stack: copy back, tell the caller, drop the reference on the file object."""
        status = irp.io_status
        request = irp.user_request
        if request is not None:
            data = self._copy_back(irp) if irp.flags & IRP_INPUT_OPERATION else b""
            code = status.status
            request.settle(
                code if code.__class__ is NtStatus else NtStatus(int(code) & 0xFFFF_FFFF), status.information, data
            )
            # Last: who closes the file waits for what is on its list, and must not miss a request that is about to end.
            irp.file_object.irps.pop(irp.id, None)  # type: ignore[union-attr]  # a request always has one
        elif irp.user_event is not None:
            irp.user_event.set()
        elif irp.state == IrpState.COMPLETED:
            # Nobody asked for it back: an IRP of `allocate_irp` without a completion routine that keeps it.
            irp.step(_FREE)

    @staticmethod
    def _copy_back(irp: Irp) -> bytes:
        """Input: Information bytes go to the caller, unless NT_ERROR or VERIFY_REQUIRED.

        With direct and neither I/O the driver has written into the caller's buffer itself; what is made here is the
        `bytes` that the application is given.
        """
        status, buffer = irp.io_status, irp.user_buffer if irp.system_buffer is None else irp.system_buffer
        if irp.mdl_address is not None:
            buffer = irp.user_buffer
        if buffer is None or status.status >= _NT_ERROR or status.status == STATUS_VERIFY_REQUIRED:
            return b""
        count = status.information
        if not 0 <= count <= irp.user_request.capacity:
            # In C this writes over the end of the caller's buffer. The fault is the driver's and the caller is told.
            status.status = STATUS_ACCESS_VIOLATION
            status.information = 0
            return b""
        return bytes(memoryview(buffer)[:count])
