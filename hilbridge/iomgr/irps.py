"""Sending IRPs down and bringing them back up: IoCallDriver and IoCompleteRequest.

On the way up the stack is walked in a loop: a stack of any depth costs no Python stack. (On the way down each driver calls
the next one, here as in Windows: two frames a device and what the drivers add, so that 200 devices fit well.)

A completion routine may complete another IRP, whose routine completes a third one, and so on. Each runs inside the one
before, as in Windows, so that `complete_request` returns when the routines have run; in Windows such a chain ends when the
kernel stack is used up. Here, when `NESTED_ROUTINES` are under way on this processor, the next completion is *put off*:
`complete_request` returns, and the routines run as soon as the routine that called it has returned. A chain of any length
then goes on in a loop. Only an IRP that has been marked pending is put off: whoever sent it was, or will be, answered
STATUS_PENDING, and has to be prepared for an end that comes later. An IRP that is completed without that, in a dispatch
routine, must have ended when `call_driver` returns, and does. A processor that is about to wait does first what it has
put off.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from hilbridge.iomgr.base import IoBase, maker_of
from hilbridge.kernel.culprit import calls_driver
from hilbridge.model.codes import (
    IRP_INPUT_OPERATION,
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
from hilbridge.model.irp import IoStackLocation, Irp
from hilbridge.model.irp_life import STEPS, IrpEvent, IrpState
from hilbridge.model.status import (
    STATUS_ACCESS_VIOLATION,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_SUCCESS,
    STATUS_VERIFY_REQUIRED,
    NtStatus,
)

_CALL, _COMPLETE, _OFFER, _CONTINUE, _FINISH, _FREE = (
    int(e)
    for e in (
        IrpEvent.CALL,
        IrpEvent.COMPLETE,
        IrpEvent.OFFER,
        IrpEvent.CONTINUE,
        IrpEvent.FINISH,
        IrpEvent.FREE,
    )
)
_MORE = int(STATUS_MORE_PROCESSING_REQUIRED)
_NT_ERROR = 0xC000_0000
_NT_FAILURE = 0x8000_0000

NESTED_ROUTINES = 32
"""So many completion routines run inside one another on one processor; then completions are put off."""


def dispatch_words(frame: Mapping[str, Any]) -> str:
    """From the local variables of `IrpRoutines.call_driver`: which dispatch routine it calls, in words."""
    return f"its dispatch routine for {IrpMajor(frame['here'].major_function).name}"


class IrpRoutines(IoBase):
    """The I/O manager's routines about IRPs. Callable at or below DISPATCH_LEVEL."""

    # -- down --------------------------------------------------------------------------------------------------------

    @calls_driver("dispatch", dispatch_words, lambda frame: frame["device"], begun="dispatch")
    def call_driver(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        """IoCallDriver: hand the IRP to `device`'s driver; returns what its dispatch routine returned."""
        location = irp.current_location - 1
        if location <= 0:
            raise self.bug_check(
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
            raise self.bug_check(
                0x44, "MULTIPLE_IRP_COMPLETE_REQUESTS", irp, hint="the IRP has been all the way up already"
            )
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
                    if not self._nested(irp, location, done, pending):
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

    def _nested(self, irp: Irp, location: int, done: IoStackLocation, pending: bool) -> bool:
        """Offer the IRP to the routine in `done`, or put that off. False if the completion goes no further now."""
        processor = self.ke.local.processor or self.ke.current()
        if pending and processor.offers >= NESTED_ROUTINES:
            irp.current_location = location - 1
            processor.put_off.append(partial(self._completion_put_off, irp, processor.irql))
            return False
        routine, context = done.completion_routine, done.context
        done.control = 0
        done.completion_routine = done.context = None
        processor.offers += 1
        try:
            goes_on = self._offer(irp, location, routine, context)
        finally:
            processor.offers -= 1
        if processor.put_off and not processor.catching_up:
            processor.catch_up()  # before this IRP goes on: that is where it would have been, nested
        return goes_on

    def _completion_put_off(self, irp: Irp, irql: int) -> None:
        """Complete what has been put off: from where it stopped, at the IRQL at which its driver completed it."""
        # Until now the token was taken: whoever completed it a second time was told so.
        irp.state = IrpState.PENDING
        irp.return_completion_token()
        processor = self.ke.current()
        offers = processor.offers
        processor.offers = min(
            offers, NESTED_ROUTINES - 1
        )  # in a wait all of them are under way: this one goes on all the same
        try:
            with self.ke.raised_irql(max(irql, processor.irql)):
                IrpRoutines.complete_request(self, irp)  # not an instrument's: it has been told
        finally:
            processor.offers = offers

    @calls_driver("completion", "a completion routine", lambda frame: frame["blamed"], begun="blamed")
    def _offer(self, irp: Irp, location: int, routine: Any, context: Any) -> bool:
        """Let a completion routine see the IRP; False if it kept it.

        From the moment of the call the IRP may be the routine's: it may have passed it to another thread, which has
        completed and freed it before we hear of that. So the token goes back first, and if the routine did not keep the
        IRP it is taken again, which only one can.
        """
        device = irp.stack[location - 1].device_object if location <= irp.stack_count else None
        blamed = device or maker_of(irp)
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
        else:
            self._finish_built(irp)

    def _finish_built(self, irp: Irp) -> None:
        """The same for an IRP that a driver has made, and that no completion routine has kept."""
        status, built, event = irp.io_status, getattr(irp, "built", None), irp.user_event
        if irp.flags & IRP_INPUT_OPERATION:
            self._copy_back_built(irp)
        # Who got an error from call_driver itself knows it from there: neither block nor event are touched.
        told_by_return = (
            status.status >= _NT_ERROR and not irp.pending_returned and not (built is not None and built.tells_always)
        )
        if built is not None and built.iosb is not None and not told_by_return:
            built.iosb.status = status.status
            built.iosb.information = status.information
        if event is not None:
            self._threaded.pop(irp.id, None)
            if not told_by_return:
                event.set()
        elif irp.state == IrpState.COMPLETED:
            # Nobody asked for it back: no event, and no completion routine that keeps it.
            irp.step(_FREE)
        if built is not None and built.master is not None:
            self._count_off(irp, built.master)

    def _count_off(self, irp: Irp, master: Irp) -> None:
        """An associated IRP has ended; the last one completes its master.

        The first error of a part becomes the master's status, unless the driver has put an error there itself. (In Windows
        the status of a part is lost if no completion routine of the driver's carries it over.)
        """
        with self._lock:
            try:
                master.irp_count -= 1
                left = master.irp_count
            except AttributeError:
                left = -1
            if irp.io_status.status >= _NT_ERROR and master.io_status.status < _NT_ERROR:
                master.io_status.status = irp.io_status.status
        if left < 0:
            holder = master.stack[min(master.current_location, master.stack_count) - 1].device_object
            raise self.fault(
                holder,
                BugCheck(
                    0x2A,
                    "INCONSISTENT_IRP",
                    master,
                    irp,
                    hint="set master.irp_count to the number of associated IRPs before the first is sent",
                ),
                "the completion of an associated IRP",
            )
        if left == 0:
            self.complete_request(master)

    @staticmethod
    def _copy_back_built(irp: Irp) -> None:
        """Buffered input of a driver's IRP: Information bytes go into the driver's buffer, with the rules of `_copy_back`."""
        status, source, target = irp.io_status, irp.system_buffer, irp.user_buffer
        if source is None or target is None or status.status >= _NT_ERROR or status.status == STATUS_VERIFY_REQUIRED:
            return
        count = status.information
        if not 0 <= count <= min(len(source), len(target)):
            status.status = STATUS_ACCESS_VIOLATION
            status.information = 0
        else:
            memoryview(target)[:count] = memoryview(source)[:count]

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
