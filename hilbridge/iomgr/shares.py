"""IoCheckShareAccess and its kin: who may open the same thing at the same time.

Optional, as in Windows: a driver calls these in CREATE and CLEANUP, at PASSIVE_LEVEL and one at a time, with a `ShareAccess`
that it keeps for what is shared. An open says what it wants to do, and what it lets the others do meanwhile; it succeeds if
each open agrees with all the others.
"""

from __future__ import annotations

from hilbridge.iomgr.base import IoBase
from hilbridge.model.codes import (
    DELETE,
    FILE_READ_DATA,
    FILE_SHARE_DELETE,
    FILE_SHARE_READ,
    FILE_SHARE_WRITE,
    FILE_WRITE_DATA,
)
from hilbridge.model.file import FileObject, ShareAccess
from hilbridge.model.status import STATUS_SHARING_VIOLATION, STATUS_SUCCESS, NtStatus

_DATA_ACCESS = FILE_READ_DATA | FILE_WRITE_DATA | DELETE


class ShareRoutines(IoBase):
    """The I/O manager's routines about sharing."""

    @staticmethod
    def check_share_access(
        desired_access: int, share: int, file: FileObject, share_access: ShareAccess, *, update: bool = False
    ) -> NtStatus:
        """IoCheckShareAccess: STATUS_SUCCESS, or STATUS_SHARING_VIOLATION. `update`: count this open, if it succeeds.

        An open that touches no data (FILE_READ_DATA, FILE_WRITE_DATA, DELETE) disturbs nobody, and is not counted.
        """
        if desired_access & _DATA_ACCESS:
            opens = share_access.open_count
            refused = (
                (desired_access & FILE_READ_DATA and share_access.shared_read < opens)
                or (desired_access & FILE_WRITE_DATA and share_access.shared_write < opens)
                or (desired_access & DELETE and share_access.shared_delete < opens)
                or (share_access.readers and not share & FILE_SHARE_READ)
                or (share_access.writers and not share & FILE_SHARE_WRITE)
                or (share_access.deleters and not share & FILE_SHARE_DELETE)
            )
            if refused:
                return STATUS_SHARING_VIOLATION
        file.shared_as = (desired_access & _DATA_ACCESS, share)
        if update:
            _count(share_access, file, 1)
        return STATUS_SUCCESS

    @staticmethod
    def set_share_access(desired_access: int, share: int, file: FileObject, share_access: ShareAccess) -> None:
        """IoSetShareAccess: the first open; whatever `share_access` said before is forgotten."""
        share_access.__init__()  # type: ignore[misc]
        file.shared_as = (desired_access & _DATA_ACCESS, share)
        _count(share_access, file, 1)

    @staticmethod
    def update_share_access(file: FileObject, share_access: ShareAccess) -> None:
        """IoUpdateShareAccess: count an open that was checked, without `update`, before."""
        _count(share_access, file, 1)

    @staticmethod
    def remove_share_access(file: FileObject, share_access: ShareAccess) -> None:
        """IoRemoveShareAccess: in CLEANUP, an open that was counted goes."""
        _count(share_access, file, -1)
        file.shared_as = None


def _count(share_access: ShareAccess, file: FileObject, one: int) -> None:
    access, share = file.shared_as or (0, 0)
    if not access:
        return
    share_access.open_count += one
    share_access.readers += one * bool(access & FILE_READ_DATA)
    share_access.writers += one * bool(access & FILE_WRITE_DATA)
    share_access.deleters += one * bool(access & DELETE)
    share_access.shared_read += one * bool(share & FILE_SHARE_READ)
    share_access.shared_write += one * bool(share & FILE_SHARE_WRITE)
    share_access.shared_delete += one * bool(share & FILE_SHARE_DELETE)
