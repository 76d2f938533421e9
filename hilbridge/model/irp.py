"""IRP, IO_STACK_LOCATION and IO_STATUS_BLOCK: a request, and its way through a device stack.

Stack locations are numbered as in C: 1 is the lowest device's, ``stack_count`` the top device's, and
``current_location == stack_count + 1`` means that nobody has been called yet. ``stack[n - 1]`` is location n.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import (
    IO_TYPE_IRP,
    SL_INVOKE_ON_CANCEL,
    SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED,
)
from hilbridge.model.errors import BugCheck, HilbridgeError
from hilbridge.model.irp_life import BROKEN_RULES, STEPS, IrpEvent, IrpState
from hilbridge.model.parameters import NO_PARAMETERS, Parameters
from hilbridge.model.status import STATUS_SUCCESS, NtStatus

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.file import FileObject

CompletionRoutine = Callable[["DeviceObject[Any] | None", "Irp", Any], NtStatus]
CancelRoutine = Callable[["DeviceObject[Any] | None", "Irp"], None]

_PEND = int(IrpEvent.PEND)


class IrpOrigin(IntEnum):
    """Who made an IRP, and so: who gets it back, and who frees it."""

    USER = 0
    """The I/O manager, for a handle: it tells the caller and lets go of the IRP."""
    ALLOCATED = 1
    """A driver, with IoAllocateIrp: its completion routine keeps the IRP; it frees or reuses it."""
    ASYNCHRONOUS = 2
    """A driver, with IoBuildAsynchronousFsdRequest: as ALLOCATED. (The verifier minds if it is reused.)"""
    SYNCHRONOUS = 3
    """A driver, with IoBuildSynchronousFsdRequest or IoBuildDeviceIoControlRequest: the I/O manager signals the event."""
    ASSOCIATED = 4
    """A driver, with IoMakeAssociatedIrp: the I/O manager counts it off at its master."""


class ProcessorMode(IntEnum):
    """KPROCESSOR_MODE: on whose behalf a request is made."""

    KERNEL = 0
    USER = 1


class IoStatusBlock:
    """IO_STATUS_BLOCK: how a request ended, and what came of it."""

    __slots__ = ("information", "status")

    def __init__(self) -> None:
        self.status: NtStatus = STATUS_SUCCESS
        self.information: Any = 0
        """How much was moved, in bytes. The answer to a question of Plug and Play is put here itself: in C, a pointer to it."""


class IoStackLocation:
    """IO_STACK_LOCATION: what one driver of the stack is asked to do."""

    __slots__ = (
        "completion_routine",
        "context",
        "control",
        "device_object",
        "file_object",
        "flags",
        "major_function",
        "minor_function",
        "parameters",
    )

    def __init__(self) -> None:
        self.major_function: int = 0
        self.minor_function: int = 0
        self.flags: int = 0
        self.control: int = 0
        self.parameters: Parameters = NO_PARAMETERS
        self.device_object: DeviceObject[Any] | None = None
        self.file_object: FileObject | None = None
        self.completion_routine: CompletionRoutine | None = None
        self.context: Any = None


class BuiltIrp:
    """What the I/O manager keeps about an IRP that a driver has built: requests of applications do without."""

    __slots__ = ("iosb", "master", "origin", "tells_always")

    def __init__(
        self,
        origin: IrpOrigin,
        iosb: IoStatusBlock | None = None,
        master: Irp | None = None,
        *,
        tells_always: bool = False,
    ) -> None:
        self.origin = origin
        self.iosb = iosb
        """Where the outcome is written, besides the IRP's own block."""
        self.master = master
        self.tells_always = tells_always
        """The I/O manager's own: its event is set also after an error that call_driver has returned."""


class Irp:
    """IRP. `id` is unique within one bridge and appears in every message, trace and capture."""

    __slots__ = (
        "_cancel_cell",
        "_completion_token",
        "born",
        "built",
        "cancel",
        "current_location",
        "driver_context",
        "error",
        "file_object",
        "flags",
        "id",
        "io_status",
        "irp_count",
        "mdl_address",
        "pending_returned",
        "stack",
        "stack_count",
        "state",
        "system_buffer",
        "thread",
        "user_buffer",
        "user_event",
        "user_request",
    )

    type = IO_TYPE_IRP

    # These three are set by who needs them, not by __init__: an application's request should not pay for them.
    built: BuiltIrp
    """Only in IRPs of drivers; read `origin` and `master_irp` instead."""
    thread: Any
    """Tail.Overlay.Thread: the processor of the thread that made the request, or None. Set when it is sent."""
    irp_count: int
    """AssociatedIrp.IrpCount: how many associated IRPs are still out. A driver sets it before it sends the first one."""

    def __init__(self, irp_id: int, stack_count: int, born: int = 0) -> None:
        self.id = irp_id
        self.born = born
        self.stack_count = stack_count
        self.current_location = stack_count + 1
        self.stack = [IoStackLocation()]
        while stack_count > 1:  # cheaper than a comprehension, for the few there are
            self.stack.append(IoStackLocation())
            stack_count -= 1
        self.io_status = IoStatusBlock()
        self.flags = 0
        self.state: int = 0
        self.cancel = False
        self.pending_returned = False
        self.file_object: FileObject | None = None
        self.system_buffer: bytearray | None = None
        self.user_buffer: bytearray | memoryview | bytes | None = None
        self.mdl_address: memoryview | None = None
        self.user_event: Any = None
        self.user_request: Any = None
        self.driver_context: list[Any] = [None, None, None, None]
        self.error: HilbridgeError | None = None
        """What a driver said in words to the status that it gives: see `IoBase.write_error_log_entry`."""
        # The two cells below make two races decidable without a lock: list.pop() is atomic, and only one thread gets the
        # item. Whoever pops the token may complete the IRP; whoever pops the cancel routine owns the cancellation.
        self._completion_token: list[None] = [None]
        self._cancel_cell: list[CancelRoutine] = []

    def __repr__(self) -> str:
        return f"<IRP 0x{self.id:04X} {IrpState(self.state).name} at {self.current_location}/{self.stack_count}>"

    @property
    def origin(self) -> IrpOrigin:
        """Who made it, which decides who frees it."""
        if self.user_request is not None:
            return IrpOrigin.USER
        built = getattr(self, "built", None)
        return IrpOrigin.ALLOCATED if built is None else built.origin

    @property
    def requestor_mode(self) -> ProcessorMode:
        """IRP.RequestorMode: USER for a request of an application, KERNEL for one that a driver has made."""
        return ProcessorMode.KERNEL if self.user_request is None else ProcessorMode.USER

    @property
    def master_irp(self) -> Irp | None:
        """IRP.AssociatedIrp.MasterIrp: of an associated IRP, the one that it is a part of."""
        built = getattr(self, "built", None)
        return None if built is None else built.master

    # -- stack locations -------------------------------------------------------------------------------------------

    @property
    def current_stack_location(self) -> IoStackLocation:
        """IoGetCurrentIrpStackLocation: what *this* driver is asked to do."""
        return self.stack[self.current_location - 1]

    @property
    def next_stack_location(self) -> IoStackLocation:
        """IoGetNextIrpStackLocation: what the next lower driver will be asked to do."""
        location = self.current_location - 2
        if location < 0:
            raise self._bug_check(0x35, "NO_MORE_IRP_STACK_LOCATIONS", self, hint="there is no device below this one")
        return self.stack[location]

    def copy_current_stack_location_to_next(self) -> None:
        """IoCopyCurrentIrpStackLocationToNext: everything but the completion routine; Control is zeroed."""
        here, there = self.current_stack_location, self.next_stack_location
        there.major_function = here.major_function
        there.minor_function = here.minor_function
        there.flags = here.flags
        there.parameters = here.parameters
        there.file_object = here.file_object
        there.control = 0
        there.completion_routine = None
        there.context = None

    def skip_current_stack_location(self) -> None:
        """IoSkipCurrentIrpStackLocation: the lower driver uses this driver's location again.

        Not after `mark_pending`, and not together with `set_completion_routine`: both would land in the location of the
        driver above.
        """
        self.current_location += 1

    def set_next_stack_location(self) -> None:
        """IoSetNextIrpStackLocation: make a location the *creator's* own, to keep something in it.

        For a driver that has made the IRP, with one stack location more than the stack below needs. Its completion routine is
        then called with the ``device_object`` that it puts there.
        """
        if self.current_location <= 1:
            raise self._bug_check(
                0x35, "NO_MORE_IRP_STACK_LOCATIONS", self, hint="make the IRP with one more stack location"
            )
        self.current_location -= 1

    def set_completion_routine(
        self,
        routine: CompletionRoutine,
        context: Any = None,
        *,
        on_success: bool = True,
        on_error: bool = True,
        on_cancel: bool = True,
    ) -> None:
        """IoSetCompletionRoutine: ask to see the IRP again on its way up. The routine is kept in the *next* location."""
        there = self.next_stack_location
        there.completion_routine = routine
        there.context = context
        there.control = (
            (SL_INVOKE_ON_SUCCESS if on_success else 0)
            | (SL_INVOKE_ON_ERROR if on_error else 0)
            | (SL_INVOKE_ON_CANCEL if on_cancel else 0)
        )

    # -- disposition -----------------------------------------------------------------------------------------------

    def mark_pending(self) -> None:
        """IoMarkIrpPending: before the IRP becomes visible to anybody else; then return STATUS_PENDING, always."""
        self.step(_PEND)
        location = self.current_location
        if location <= self.stack_count:
            self.stack[location - 1].control |= SL_PENDING_RETURNED

    def set_cancel_routine(self, routine: CancelRoutine | None) -> CancelRoutine | None:
        """IoSetCancelRoutine: swap the cancel routine; returns the previous one, or None.

        None means that there was none, *or that the cancellation has already taken it* and owns the IRP's end. Taking
        the routine away is one atomic step. Putting a new one over an old one is two, with "none" in between; a cancel
        that falls between them finds none, sets ``irp.cancel``, and the caller sees that in the check which must follow
        every set.
        """
        cell = self._cancel_cell
        try:
            previous = cell.pop() if cell else None
        except IndexError:  # the canceller was faster between the test and the pop
            previous = None
        if routine is not None:
            cell.append(routine)
        return previous

    @property
    def cancel_routine(self) -> CancelRoutine | None:
        """The routine that a cancellation would call now. For looking only: decide by what `set_cancel_routine` returns."""
        cell = self._cancel_cell[:]
        return cell[0] if cell else None

    # -- life ------------------------------------------------------------------------------------------------------

    def step(self, event: int) -> None:
        """Step through the table of `irp_life`; a step that is not in it is a broken rule."""
        state = STEPS[self.state][event]
        if state < 0:
            self.broken(event)
        self.state = state

    def broken(self, event: int) -> None:
        """Raise the bug check of a step that the table does not have."""
        code, name, hint, first = BROKEN_RULES[IrpEvent(event)]
        what = (self, IrpState(self.state).name, IrpEvent(event).name)
        raise self._bug_check(code, name, *(what if first is None else (first, *what)), hint=hint)

    def _bug_check(self, code: int, name: str, *parameters: object, hint: str) -> BugCheck:
        """A bug check about this IRP, latched if a device has had it: that of the driver that runs, else of who holds it."""
        top = min(max(self.current_location, 1), self.stack_count)
        around = [*self.stack[top - 1 :], *self.stack[: top - 1]]
        holder = next((there.device_object for there in around if there.device_object is not None), None)
        if holder is None:
            return BugCheck(code, name, *parameters, hint=hint)
        return holder.ke.bug_check(code, name, *parameters, hint=hint, holder=holder)

    def take_completion_token(self) -> None:
        """Become the one who completes this IRP; anybody else gets bug check 0x44, also in a race."""
        try:
            self._completion_token.pop()
        except IndexError:
            self.broken(IrpEvent.COMPLETE)

    def return_completion_token(self) -> None:
        """Give up the right to complete: a completion routine is about to be offered the IRP, or it is reused."""
        self._completion_token.append(None)
