"""FILE_OBJECT: one open of a device. Handles point to it; outstanding IRPs hold references to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import FILE_READ_DATA, FILE_WRITE_DATA, IO_TYPE_FILE

if TYPE_CHECKING:
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import FastIoDispatch
    from hilbridge.model.irp import Irp


class FileObject:
    """FILE_OBJECT. ``fs_context`` belongs to the driver that completes IRP_MJ_CREATE."""

    __slots__ = (
        "current_byte_offset",
        "device_object",
        "fast_io",
        "file_name",
        "flags",
        "fs_context",
        "fs_context2",
        "granted_access",
        "handles",
        "id",
        "irps",
        "pointer_count",
        "share_access",
        "shared_as",
    )

    type = IO_TYPE_FILE

    def __init__(
        self, device: DeviceObject[Any], file_name: str, granted_access: int, file_id: int = 0, share_access: int = 0
    ) -> None:
        self.id = file_id
        self.device_object = device
        self.file_name = file_name
        self.granted_access = granted_access
        self.share_access = share_access
        """What this open allows others: FILE_SHARE_*."""
        self.flags = 0
        self.fast_io: FastIoDispatch | None = None
        """The fast I/O routines, while they may be used: no filter above the device, no fault, not closed."""
        self.fs_context: Any = None
        self.fs_context2: Any = None
        self.current_byte_offset = 0
        self.irps: dict[int, Irp] = {}
        """Outstanding IRPs of this open, by id; they are what CLEANUP cancels and what holds CLOSE back."""
        self.handles = 1
        """How many handles there are: IRP_MJ_CLEANUP comes when the last one is closed."""
        self.pointer_count = 1
        """The handles together, and what drivers took with ObReferenceObject: IRP_MJ_CLOSE comes when it falls to 0."""
        self.shared_as: tuple[int, int] | None = None
        """How this open is counted in a SHARE_ACCESS: its data access and its sharing, as they were then."""

    def __repr__(self) -> str:
        mode = ("r" if self.granted_access & FILE_READ_DATA else "") + (
            "w" if self.granted_access & FILE_WRITE_DATA else ""
        )
        return f"<FILE {self.id} on {self.device_object.name} ({mode or 'no data'})>"


class ShareAccess:
    """SHARE_ACCESS: how the opens of one thing share it. A driver keeps one for each of its devices, say."""

    __slots__ = ("deleters", "open_count", "readers", "shared_delete", "shared_read", "shared_write", "writers")

    def __init__(self) -> None:
        self.open_count = 0
        self.readers = 0
        self.writers = 0
        self.deleters = 0
        self.shared_read = 0
        self.shared_write = 0
        self.shared_delete = 0
