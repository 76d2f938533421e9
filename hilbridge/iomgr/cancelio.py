"""CancelIo, CancelIoEx, and the end of a thread: whose requests are cancelled.

A request belongs to the thread that has made it. When that thread ends, what it has not waited for is cancelled, as in
Windows. Nothing is done for that on a request's way but to note the thread: only a thread whose request had to wait gets a
watch, a small object in its thread-local storage, which Python drops at the thread's end. Being a finalizer it only leaves
work behind, which a system worker does.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from hilbridge.iomgr.cancel import CancelRoutines
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp

if TYPE_CHECKING:
    from hilbridge.kernel.processor import Processor


class CancelIoRoutines(CancelRoutines):
    """User mode's cancellation, and that of threads."""

    def cancel_io(self, file: FileObject) -> int:
        """NtCancelIoFile: cancel what the *calling thread* has outstanding on this file; returns how many requests."""
        processor = self.ke.current()
        return self._cancel_all(irp for irp in list(file.irps.values()) if irp.thread is processor)

    def cancel_io_ex(self, file: FileObject, irp: Irp | None = None) -> int:
        """NtCancelIoFileEx: cancel one request of this file, or all, whoever made them; returns how many requests that were."""
        if irp is not None:
            return self._cancel_all([irp] if file.irps.get(irp.id) is irp else [])
        return self._cancel_all(list(file.irps.values()))

    def _cancel_all(self, irps: Any) -> int:
        waiting = [irp for irp in irps if irp.user_request is None or not irp.user_request.done]
        for irp in waiting:
            self.cancel_irp(irp)
        return len(waiting)

    # -- the end of a thread -----------------------------------------------------------------------------------------

    def watch_thread(self) -> None:
        """A request of the calling thread has to wait: what the thread leaves behind at its end is cancelled."""
        if self.closed is not None:
            return  # it has been in a driver meanwhile, for a long time
        self.ke.local.at_end = ThreadEnd(self, self.ke.current())
        self.ke.machine.timer_changed()  # a finalizer can ring, but only a machine that runs hears it: this starts it

    def thread_ended(self, processor: Processor) -> None:
        """Work item: cancel what that thread has outstanding."""
        irps = [*self._threaded.values(), *(irp for file in self.files() for irp in list(file.irps.values()))]
        self._cancel_all([irp for irp in irps if irp.thread is processor])

    def files(self) -> list[FileObject]:
        """Every file that is open."""
        stacks = {
            id(device.device_stack): device.device_stack
            for driver in list(self.drivers.values())
            for device in driver.devices
        }
        return [file for stack in stacks.values() for file in list(stack.files)]


class ThreadEnd:
    """Lives in a thread's local storage, and dies with it."""

    __slots__ = ("_io", "_processor")

    def __init__(self, io: CancelIoRoutines, processor: Processor) -> None:
        self._io = weakref.ref(io)
        self._processor = processor

    def __del__(self) -> None:
        # A finalizer runs anywhere, also inside the model: it only leaves work behind. See `Kernel.finalized`.
        io = self._io()
        if io is not None and io.closed is None:
            io.ke.finalized.append(partial(io.thread_ended, self._processor))
            io.ke.machine.ring()
