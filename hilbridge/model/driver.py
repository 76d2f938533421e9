"""DRIVER_OBJECT: a driver's table of contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hilbridge.model.codes import DRVO_LEGACY_DRIVER, IO_TYPE_DRIVER, IRP_MJ_MAXIMUM_FUNCTION
from hilbridge.model.status import NtStatus

if TYPE_CHECKING:
    from hilbridge.iomgr.manager import IoManager
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.file import FileObject
    from hilbridge.model.irp import Irp


DriverDispatch = Callable[["DeviceObject[Any]", "Irp"], NtStatus]
DispatchTable = list[Any]
"""28 dispatch routines (`DriverDispatch`), or None where DriverEntry wants the default."""
AddDevice = Callable[["DriverObject", "DeviceObject[Any]"], NtStatus]
DriverEntry = Callable[["DriverObject", Mapping[str, object]], NtStatus]
DriverUnload = Callable[["DriverObject"], None]
StartIo = Callable[["DeviceObject[Any]", "Irp"], None]
Reinitialize = Callable[["DriverObject", Any, int], None]
"""DRIVER_REINITIALIZE(driver, context, count): `count` is 1 at the first call."""


class FastIoDispatch(NamedTuple):
    """FAST_IO_DISPATCH: requests that a driver can serve at once, in the caller's thread, without an IRP.

    Both routines answer None when they cannot: then the I/O manager builds the IRP. They are called only when no filter is
    attached above the driver's device, and never wait.
    """

    read: Callable[[DeviceObject[Any], FileObject, int, int, bytes], bytes | None]
    """FastIoRead(device, file, length, minimum, terminator): the bytes, if the read can end now."""
    write: Callable[
        [
            DeviceObject[Any],
            FileObject,
            bytes | bytearray | memoryview,
            Callable[[bytes | bytearray | memoryview], Irp],
        ],
        int | Irp | None,
    ]
    """FastIoWrite(device, file, data, make_irp): how much was written, which is all; or None.

    A driver that could write a part only calls ``make_irp(data)``, which gives it the write's IRP as if it had been
    dispatched to it; it queues this as pending and returns it.
    """


class DriverObject:
    """DRIVER_OBJECT. ``driver_entry`` fills it in; ``major_function`` is indexed by `IrpMajor`.

    An entry that the driver leaves alone, or sets to None, completes its requests with STATUS_INVALID_DEVICE_REQUEST.
    """

    __slots__ = (
        "add_device",
        "count",
        "device_names",
        "device_object",
        "driver_start_io",
        "driver_unload",
        "extensions",
        "fast_io_dispatch",
        "flags",
        "io",
        "ke",
        "major_function",
        "name",
        "parameters",
        "po",
        "pointer_count",
        "reinitialize",
        "unload_pending",
    )

    type = IO_TYPE_DRIVER

    def __init__(
        self,
        name: str,
        io: IoManager,
        ke: Kernel,
        default_dispatch: DriverDispatch,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        self.name = name
        self.io = io
        self.ke = ke
        self.po: IoManager = io
        """The power manager's routines; they are the I/O manager's."""
        self.parameters = parameters or {}
        self.flags = DRVO_LEGACY_DRIVER
        self.major_function: DispatchTable = [default_dispatch] * (IRP_MJ_MAXIMUM_FUNCTION + 1)
        self.add_device: AddDevice | None = None
        self.driver_unload: DriverUnload | None = None
        self.driver_start_io: StartIo | None = None
        self.fast_io_dispatch: FastIoDispatch | None = None
        self.device_object: DeviceObject[Any] | None = None
        """Head of the list of this driver's devices, newest first, linked by ``next_device``."""
        self.count = 0
        """DriverExtension->Count: how often reinitialization routines of this driver have been called."""
        self.extensions: dict[Any, Any] = {}
        """What IoAllocateDriverObjectExtension has put here, by its identification."""
        self.reinitialize: list[tuple[Reinitialize, Any]] = []
        """Reinitialization routines that wait for their turn, with their contexts."""
        self.device_names: set[str] = set()
        """Every name that a device of this driver ever had, in lower case: so that links left behind can be told."""
        self.pointer_count = 0
        """References that drivers took with ObReferenceObject: while there is one the driver is not unloaded."""
        self.unload_pending = False
        """IoUnloadDriver was called; the unload routine runs when nothing uses the driver any more."""

    def __repr__(self) -> str:
        return f"<DRIVER {self.name}>"

    @property
    def driver_name(self) -> str:
        r"""DRIVER_OBJECT.DriverName: ``\Driver\serial``."""
        return f"\\Driver\\{self.name}"

    @property
    def service_key_name(self) -> str:
        """DriverExtension->ServiceKeyName: the name under which the driver was loaded."""
        return self.name

    @property
    def devices(self) -> list[DeviceObject[Any]]:
        """This driver's devices, newest first."""
        found = []
        device = self.device_object
        while device is not None:
            found.append(device)
            device = device.next_device
        return found

    @property
    def unload(self) -> DriverUnload | None:
        """DriverUnload, by its short name."""
        return self.driver_unload

    @unload.setter
    def unload(self, routine: DriverUnload | None) -> None:
        self.driver_unload = routine
