"""FILE_OBJECT: one open of a device. Handles point to it; outstanding IRPs hold references to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import FILE_READ_DATA, FILE_WRITE_DATA

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
        "id",
        "irps",
    )

    def __init__(self, device: DeviceObject[Any], file_name: str, granted_access: int, file_id: int = 0) -> None:
        self.id = file_id
        self.device_object = device
        self.file_name = file_name
        self.granted_access = granted_access
        self.flags = 0
        self.fast_io: FastIoDispatch | None = None
        """The fast I/O routines, while they may be used: no filter above the device, no fault, not closed."""
        self.fs_context: Any = None
        self.fs_context2: Any = None
        self.current_byte_offset = 0
        self.irps: dict[int, Irp] = {}
        """Outstanding IRPs of this open, by id; they are what CLEANUP cancels and what holds CLOSE back."""

    def __repr__(self) -> str:
        mode = ("r" if self.granted_access & FILE_READ_DATA else "") + (
            "w" if self.granted_access & FILE_WRITE_DATA else ""
        )
        return f"<FILE {self.id} on {self.device_object.name} ({mode or 'no data'})>"
