"""MDL: memory that a driver describes, probes, locks and looks at. For memory that nobody has looked at: METHOD_NEITHER.

The MDL of direct I/O is made by the I/O manager, and is a bare `memoryview` in ``irp.mdl_address``: it is on a request's way,
and a driver does nothing with it but read and write. The one here is what a driver makes itself, with ``io.allocate_mdl``.

Memory that is locked is memory that has a view: Python refuses to resize it. To unlock it is to release that view. Who has
kept it, and looks at it afterwards, gets a ValueError, as he would get a page fault in Windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL
from hilbridge.model.errors import BugCheck, NtStatusError
from hilbridge.model.status import STATUS_ACCESS_VIOLATION

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.file import FileObject

PAGE_SIZE = 4096
MdlBuffer = bytes | bytearray | memoryview | None
_VERIFIER = "DRIVER_VERIFIER_DETECTED_VIOLATION"


class Mdl:
    """MDL. The numbers of its bug checks are those of "Bug Check 0xC4" (Microsoft), with or without the verifier."""

    __slots__ = ("_io", "_view", "buffer", "device", "file", "freed", "mapped", "place")

    def __init__(self, io: IoManager, buffer: MdlBuffer, device: DeviceObject[Any] | None, place: str | None) -> None:
        self._io = io
        self._view: memoryview | None = None
        self.buffer = buffer
        """MmGetMdlVirtualAddress: the memory itself, which may be anything that an application has passed."""
        self.device = device
        """Whose driver has made it; None if it was no routine of a device's."""
        self.place = place
        """``file:line`` of the driver's code: where it was made, and from then on where it was locked last."""
        self.file: FileObject | None = None
        """While it is locked: the open in whose context that was done. None in a DPC, or in a thread of the system's."""
        self.mapped = False
        self.freed = False

    def __repr__(self) -> str:
        state = "freed" if self.freed else "mapped" if self.mapped else "locked" if self.locked else "not locked"
        return f"<MDL of {self.byte_count} bytes, {state}>"

    @property
    def byte_count(self) -> int:
        """MmGetMdlByteCount."""
        try:
            return self.buffer.nbytes if isinstance(self.buffer, memoryview) else len(self.buffer or b"")
        except (TypeError, ValueError):  # no memory; or a view that its owner has released
            return 0

    @property
    def pages(self) -> int:
        """How many pages it spans. There are no addresses here: memory counts as if it began with a page."""
        return -(-self.byte_count // PAGE_SIZE)

    @property
    def locked(self) -> bool:
        """Whether its pages are locked: MDL_PAGES_LOCKED."""
        return self._view is not None

    def probe_and_lock_pages(self, *, write: bool) -> None:
        """MmProbeAndLockPages, in the context of the caller whose memory it is, up to APC_LEVEL: unlock it on every way out.

        `write`: IoWriteAccess, else IoReadAccess. Raises `NtStatusError` STATUS_ACCESS_VIOLATION for what is no memory, or is
        to be written and cannot be. Bug check 0xC4/0xB0 if it is locked already; 0xA at DISPATCH_LEVEL, 0xC4/0x70 above: the
        memory of others may be paged out. (Windows allows DISPATCH_LEVEL for memory that cannot be; that need not be locked.)
        """
        io = self._io
        irql = io.ke.irql
        if irql > DISPATCH_LEVEL:
            raise self._broken(0x70, irql, self, hint="probe and lock at PASSIVE_LEVEL, in the dispatch routine")
        if irql > APC_LEVEL:
            raise io.bug_check(
                0xA,
                "IRQL_NOT_LESS_OR_EQUAL",
                "probe_and_lock_pages",
                irql,
                hint="probe and lock at PASSIVE_LEVEL, in the dispatch routine",
                device=self.device,
            )
        self._check_alive()
        if self._view is not None:
            raise self._broken(0xB0, self, hint="unlock_pages before it is locked again")
        self._view = _probe(self.buffer, write=write)
        io.pages_locked(self)

    def system_address(self) -> memoryview:
        """MmGetSystemAddressForMdlSafe: the memory, for the driver to look at in any context; the same view each time.

        It is good until `unlock_pages`, which unmaps it. Read-only if it was locked for reading. Up to DISPATCH_LEVEL (bug
        check 0xC4/0x76); 0xC4/0xB3 if it is not locked.
        """
        irql = self._io.ke.irql
        if irql > DISPATCH_LEVEL:
            raise self._broken(0x76, irql, self, hint="map it before, and keep the view")
        self._check_alive()
        if self._view is None:
            raise self._broken(0xB3, self, hint="probe_and_lock_pages first")
        self.mapped = True
        return self._view

    def unlock_pages(self) -> None:
        """MmUnlockPages: unmaps it as well. Up to DISPATCH_LEVEL (bug check 0xC4/0x78); 0xC4/0x7C if it is not locked."""
        irql = self._io.ke.irql
        if irql > DISPATCH_LEVEL:
            raise self._broken(0x78, irql, self, hint="unlock it in a DPC, or in the dispatch routine")
        self._check_alive()
        if self._view is None:
            raise self._broken(0x7C, self, hint="unlock it once for each time that it was locked, and only then")
        self.give_back()

    def give_back(self) -> None:
        """Let go of the memory. Also done by the I/O manager for a driver that has left it locked, and failed for that.

        Raises BufferError if the driver still has an object that is made of the view: it has not let go of it yet.
        """
        view, self._view, self.mapped, self.file = self._view, None, False, None
        self._io.pages_unlocked(self)
        if view is not None:
            view.release()

    def free(self) -> None:
        """What is left of IoFreeMdl: see `MdlRoutines.free_mdl`.

        Bug check 0xC4/0xB8 if it is still mapped. One that is only locked has the same, because nobody could unlock it any
        more; Windows finds that out later, when it is 0xCB.
        """
        if self.freed:
            raise self._broken(0x13, self, hint="free it once")
        if self._view is not None:
            raise self._broken(0xB8, self, hint="unlock_pages first: that unmaps it, too")
        self.freed = True

    def _check_alive(self) -> None:
        if self.freed:
            raise self._broken(0x16, self, hint="it was freed: allocate another one")

    def _broken(self, *parameters: object, hint: str) -> BugCheck:
        return self._io.bug_check(0xC4, _VERIFIER, *parameters, hint=hint, device=self.device)


def _probe(buffer: MdlBuffer, *, write: bool) -> memoryview:
    try:
        with memoryview(buffer) as view:  # type: ignore[arg-type]
            if write and view.readonly:
                raise NtStatusError(STATUS_ACCESS_VIOLATION, "this memory cannot be written")
            flat = view if (view.format, view.ndim) == ("B", 1) else view.cast("B")  # a driver sees bytes
            return flat[:] if write else flat.toreadonly()
    except (TypeError, ValueError, BufferError) as error:
        raise NtStatusError(STATUS_ACCESS_VIOLATION, f"this is no memory: {error}") from error
