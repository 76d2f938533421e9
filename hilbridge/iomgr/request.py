"""The caller's end of an IRP: what ReadFile's OVERLAPPED is in Windows.

A request ends exactly once, whatever happens to its IRP. The IRP's completion and the caller's giving up race for one
token; the loser changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hilbridge.model.errors import DriverFault
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_PENDING,
    NtStatus,
)

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.kernel.machine import WakerLike
    from hilbridge.kernel.processor import Processor
    from hilbridge.model.file import FileObject
    from hilbridge.model.irp import Irp

CANCEL_GRACE = 2_000_000_000
"""How long a driver may take to end a cancelled IRP before its caller disowns it, in nanoseconds."""


class IoRequest:
    """One request of an application. `done` is set last, when everything else can be read."""

    __slots__ = (
        "_callbacks",
        "_token",
        "_wakers",
        "capacity",
        "data",
        "disowned",
        "done",
        "file",
        "information",
        "io",
        "irp",
        "status",
    )

    def __init__(self, io: IoManager, file: FileObject, capacity: int = 0) -> None:
        self.io = io
        self.file = file
        self.capacity = capacity
        """How many bytes the caller has room for: a driver that reports more has overrun a buffer."""
        self.irp: Irp | None = None
        self.status: NtStatus = STATUS_PENDING
        self.information = 0
        self.data = b""
        """What a read or a control request brought back."""
        self.done = False
        self.disowned = False
        self._wakers: list[WakerLike] = []
        self._callbacks: list[Callable[[], None]] = []
        self._token: list[None] = [None]

    # -- ending ------------------------------------------------------------------------------------------------------

    def settle(self, status: NtStatus, information: int, data: bytes = b"") -> bool:
        """The IRP has ended. False if the caller had given up before: what he has been told stands."""
        try:
            self._token.pop()
        except IndexError:
            return False
        self.status = status
        self.information = information
        self.data = data
        self._announce()
        return True

    def disown(self, status: NtStatus = STATUS_DRIVER_INTERNAL_ERROR) -> bool:
        """Give up: the request ends now, and the IRP keeps its buffer for whenever its driver comes back to it."""
        try:
            self._token.pop()
        except IndexError:
            return False
        self.disowned = True
        self.data = b""
        self.status = status
        self.information = 0
        irp = self.irp
        if irp is not None and irp.state in (IrpState.DISPATCHED, IrpState.PENDING, IrpState.OFFERED):
            irp.state = IrpState.DISOWNED
        self._announce()
        if irp is not None:
            self.file.irps.pop(irp.id, None)
        return True

    def _announce(self) -> None:
        self.done = True
        # Whoever adds a waker or a callback looks at `done` afterwards, so nothing falls between these lines.
        for waker in self._wakers:
            waker.wake()
        if self._callbacks:
            self._run_callbacks()

    def add_waker(self, waker: WakerLike) -> None:
        """Call ``waker.wake()`` when the request is done; at once if it is."""
        self._wakers.append(waker)
        if self.done:
            waker.wake()

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once when the request is done, on the bridge's callback thread, never on a processor."""
        self._callbacks.append(callback)
        if self.done:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        callbacks = self._callbacks
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:  # the other thread was faster
                return
            self.io.ke.machine.queue_callback(callback)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """CancelIoEx: ask for the end of this request. True if somebody was there to be asked; see `IoManager.cancel_irp`."""
        irp = self.irp
        if self.done or irp is None:
            return False
        processor = self.io.ke.current()
        processor.inside += 1
        try:
            return self.io.cancel_irp(irp)
        finally:
            processor.inside -= 1

    def wait_ended(self, processor: Processor, timeout: int | None) -> bool:
        """Wait, then cancel: when this returns the request *has* ended. False if it took the cancel to end it.

        `timeout` is in nanoseconds. The waiting thread enforces its deadline itself, so that it holds even if the poller
        is stuck. A driver that does not end a cancelled IRP in `CANCEL_GRACE` loses it: the request is disowned and the
        driver is reported. The same is done, in short, when SIGINT ends the wait.
        """
        if self.done:
            return True
        ke = self.io.ke
        pin = self.file.device_object.device_stack.steering
        try:
            if ke.wait(processor, self, timeout, pin):
                return True
            self.end_now(processor)
        except BaseException:
            if not self.done:
                self.end_now(processor)
            raise
        return False

    def end_now(self, processor: Processor) -> None:
        """Cancel, and wait for the end; a driver that does not let go is reported."""
        self.cancel()
        if self.done:
            return
        held = processor.sigint
        processor.sigint = False  # a second Ctrl-C must not tear this wait too
        try:
            ended = self.io.ke.wait(processor, self, CANCEL_GRACE, None)
        finally:
            processor.sigint = processor.sigint or held
        if not ended and self.disown():
            device = self.holder()
            self.io.fault(
                self.file.device_object,
                DriverFault(
                    f"{device} did not complete {self.irp!r} within {CANCEL_GRACE // 1_000_000_000} s of its cancellation: "
                    "its queue lacks a cancel routine, or a callback hangs",
                    irp_id=self.irp.id if self.irp else None,
                ),
                "cancellation",
            )

    def holder(self) -> str:
        """Who has the IRP, in words."""
        irp = self.irp
        if irp is None or irp.current_location > irp.stack_count:
            return "nobody"
        device = irp.current_stack_location.device_object
        if device is None:
            return "nobody"
        return f"driver {device.driver_object.name} ({device.name or 'unnamed device'})"
