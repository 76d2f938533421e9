"""MDLs that drivers make: IoAllocateMdl, IoFreeMdl; and who has left memory of an application locked.

Locked memory belongs to the process in whose context it was locked, and Windows looks at a process's end whether some is
left: bug check 0xCB, DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS. The process is the *open file* here: the one whose request is
dispatched in the thread that locks. It is looked at when the file has gone, after CLEANUP, its requests and CLOSE, as a
process closes its handles before it goes. Not at the end of the request: a driver may keep memory of an application for as
long as that has the file open, and unlock it in CLEANUP.

What is locked in a DPC, in a completion routine or in a thread of the system's is locked in nobody's context: it is the
driver's, and is missed when the driver goes.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from types import FrameType

from hilbridge.iomgr.base import IoBase
from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.kernel import culprit
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import BugCheck
from hilbridge.model.file import FileObject
from hilbridge.model.mdl import Mdl, MdlBuffer

_CALL_DRIVER = IrpRoutines.call_driver.__code__


class MdlRoutines(IoBase):
    """The I/O manager's routines about MDLs of drivers. Up to DISPATCH_LEVEL."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._locked_mdls: dict[Mdl, None] = {}  # oldest first

    def allocate_mdl(self, buffer: MdlBuffer) -> Mdl:
        """IoAllocateMdl: describe memory, whatever it is: `Mdl.probe_and_lock_pages` looks at it. Free it on every way out.

        It does not go into ``irp.mdl_address``, and the I/O manager does not free it.
        """
        found = culprit.find(sys._getframe(1))
        return Mdl(self, buffer, found.device, found.place)  # type: ignore[arg-type]

    def free_mdl(self, mdl: Mdl) -> None:
        """IoFreeMdl: once (bug check 0xC4/0x13), and unlocked (0xC4/0xB8)."""
        mdl.free()

    # -- who has locked what -----------------------------------------------------------------------------------------

    def pages_locked(self, mdl: Mdl) -> None:
        """From an `Mdl`: it has been locked by the calling thread."""
        frame = sys._getframe(1)
        found = culprit.find(frame)
        mdl.device, mdl.place = mdl.device or found.device, found.place
        mdl.file = file_of_caller(frame)
        self._locked_mdls[mdl] = None

    def pages_unlocked(self, mdl: Mdl) -> None:
        """From an `Mdl`."""
        self._locked_mdls.pop(mdl, None)

    def locked_mdls(self, *, file: FileObject | None = None, driver: DriverObject | None = None) -> list[Mdl]:
        """What is locked in the context of that file, or was made by that driver; oldest first."""
        return [
            mdl
            for mdl in list(self._locked_mdls)
            if (mdl.file is file if driver is None else mdl.device is not None and mdl.device.driver_object is driver)
        ]

    def look_for_locked_pages(self, file: FileObject) -> None:
        """The file has gone: what is locked in its context now stays locked for ever. The driver's stack fails for it.

        It is not raised: who closes a file is not to blame, and hears of it as of every other fault of a driver. The memory is
        given back, also by a driver whose stack had failed before and that was not asked any more.
        """
        for mdl in self.locked_mdls(file=file):
            device, place, pages = mdl.device, mdl.place, mdl.pages
            # Parameters: the tracking structure (what we have of that is the place), reserved, the MDL, its pages.
            fault = BugCheck(
                0xCB,
                "DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS",
                f"locked at {place}",
                0,
                mdl,
                pages,
                hint="unlock_pages for each probe_and_lock_pages, also on the way out after an error",
            )
            with suppress(BufferError):
                mdl.give_back()
            if device is not None and device.device_stack.fault is None:
                fault.blame(device.driver_object.name, place)
                self.fault(device, fault, "a request that is over")


def file_of_caller(frame: FrameType | None) -> FileObject | None:
    """In whose context a thread is: the file whose request is dispatched there, read from its frames as `culprit.find` does.

    A request that one driver has made for another has no file: it is in the context of the one further out, for which it was
    made.
    """
    while frame is not None:
        boundary = culprit.BOUNDARIES.get(frame.f_code)
        if boundary is not None and boundary.begun in frame.f_locals:
            if frame.f_code is not _CALL_DRIVER:
                return None  # a DPC, or a completion routine: whose thread that runs on is chance
            file: FileObject | None = frame.f_locals["irp"].file_object
            if file is not None:
                return file
        frame = frame.f_back
    return None
