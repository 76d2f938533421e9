"""IRP, IO_STACK_LOCATION and IO_STATUS_BLOCK: a request, and its way through a device stack.

Stack locations are numbered as in C: 1 is the lowest device's, ``stack_count`` the top device's, and
``current_location == stack_count + 1`` means that nobody has been called yet. ``stack[n - 1]`` is location n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED
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


class IoStatusBlock:
    """IO_STATUS_BLOCK: how a request ended, and how much it moved."""

    __slots__ = ("information", "status")

    def __init__(self) -> None:
        self.status: NtStatus = STATUS_SUCCESS
        self.information: int = 0


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


class Irp:
    """IRP. `id` is unique within one bridge and appears in every message, trace and capture."""

    __slots__ = (
        "_cancel_cell",
        "_completion_token",
        "born",
        "cancel",
        "current_location",
        "driver_context",
        "error",
        "file_object",
        "flags",
        "id",
        "io_status",
        "mdl_address",
        "pending_returned",
        "stack",
        "stack_count",
        "state",
        "system_buffer",
        "user_buffer",
        "user_event",
        "user_request",
    )

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
            raise BugCheck(0x35, "NO_MORE_IRP_STACK_LOCATIONS", self, hint="there is no device below this one")
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
        code, name, hint = BROKEN_RULES[IrpEvent(event)]
        raise BugCheck(code, name, self, IrpState(self.state).name, IrpEvent(event).name, hint=hint)

    def take_completion_token(self) -> None:
        """Become the one who completes this IRP; anybody else gets bug check 0x44, also in a race."""
        try:
            self._completion_token.pop()
        except IndexError:
            self.broken(IrpEvent.COMPLETE)

    def return_completion_token(self) -> None:
        """Give up the right to complete: a completion routine is about to be offered the IRP, or it is reused."""
        self._completion_token.append(None)
