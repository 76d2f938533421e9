"""DEVICE_OBJECT and the stack that attached devices form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hilbridge.model.codes import DO_DEVICE_INITIALIZING, IO_TYPE_DEVICE, DevicePowerState, SystemPowerState
from hilbridge.model.devqueue import DeviceQueue
from hilbridge.model.errors import HilbridgeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hilbridge.iomgr.manager import IoManager
    from hilbridge.iomgr.powerqueue import StackPower
    from hilbridge.kernel.kernel import Kernel
    from hilbridge.kernel.spinlock import SpinLock
    from hilbridge.model.driver import DriverObject
    from hilbridge.model.file import FileObject
    from hilbridge.model.irp import Irp

ExtensionT = TypeVar("ExtensionT")


class DeviceStack:
    """What all devices of one stack share. One driver's mistake stays in here, and so does its cancel lock."""

    __slots__ = ("cancel_lock", "fault", "files", "power", "removed", "steering")

    def __init__(self, cancel_lock: SpinLock) -> None:
        self.cancel_lock = cancel_lock
        """Windows has one cancel spin lock for the whole system; here each stack has its own, so that a cancel routine
        that hangs holds up its own stack only."""
        self.fault: HilbridgeError | None = None
        """The first fault of a driver in this stack; every later request is refused with it."""
        self.removed: HilbridgeError | None = None
        """Why the device went, once it has gone: what a caller is told, in words."""
        self.files: list[FileObject] = []
        """Every open of a device of this stack, oldest first."""
        self.steering: Any = None
        """The interrupt pin that a waiting thread may serve itself; None when the vector is shared or there is none."""
        self.power: StackPower | None = None
        """Its power requests, from when there was a first one."""


class DeviceObject(Generic[ExtensionT]):
    """DEVICE_OBJECT. ``extension`` is the driver's own memory for this device: any object, typed by the parameter."""

    __slots__ = (
        "attached_device",
        "characteristics",
        "current_irp",
        "deferred_start_io",
        "delete_pending",
        "device_queue",
        "device_stack",
        "device_type",
        "driver_object",
        "extension",
        "flags",
        "io",
        "ke",
        "lower_device",
        "name",
        "next_device",
        "non_cancelable_start_io",
        "po",
        "pointer_count",
        "power_state",
        "queue_lock",
        "reference_count",
        "stack_size",
        "start_io_running",
        "system_power_state",
    )

    type = IO_TYPE_DEVICE

    def __init__(
        self,
        driver: DriverObject,
        extension: ExtensionT,
        name: str | None,
        device_type: int,
        characteristics: int,
        device_stack: DeviceStack,
        queue_lock: SpinLock,
    ) -> None:
        self.driver_object = driver
        self.io: IoManager = driver.io
        self.ke: Kernel = driver.ke
        self.po: IoManager = driver.po
        self.extension = extension
        self.name = name
        self.device_type = device_type
        self.characteristics = characteristics
        self.flags = DO_DEVICE_INITIALIZING
        self.stack_size = 1
        self.next_device: DeviceObject[Any] | None = None
        self.attached_device: DeviceObject[Any] | None = None
        self.lower_device: DeviceObject[Any] | None = None
        self.device_stack = device_stack
        self.reference_count = 0
        """DEVICE_OBJECT.ReferenceCount: opens of this very device, and opens that are under way."""
        self.pointer_count = 0
        """References that drivers took with ObReferenceObject: while there is one the device is not freed."""
        self.delete_pending = False
        # PoSetPowerState: in which state its driver says that it is.
        self.power_state = DevicePowerState.UNSPECIFIED
        self.system_power_state = SystemPowerState.UNSPECIFIED
        # StartIo: the queue, the packet in progress, and what keeps StartIo from calling itself for ever.
        self.queue_lock = queue_lock
        self.device_queue: DeviceQueue[Irp] = DeviceQueue(queue_lock)
        self.current_irp: Irp | None = None
        self.deferred_start_io = False
        self.non_cancelable_start_io = False
        self.start_io_running: dict[Any, list[int | None]] = {}
        """Who runs StartIo now (a processor; None with DeferredStartIo), and the keys of the packets that it has to start
        when it has returned: one for each `start_next_packet` that came meanwhile."""

    def __repr__(self) -> str:
        return f"<DEVICE {self.name or '(unnamed)'} of {self.driver_object.name}>"

    def walk_up(self) -> Iterator[DeviceObject[Any]]:
        """This device and all that are attached above it, bottom first."""
        device: DeviceObject[Any] | None = self
        while device is not None:
            yield device
            device = device.attached_device

    def walk_down(self) -> Iterator[DeviceObject[Any]]:
        """This device and all below it, top first."""
        device: DeviceObject[Any] | None = self
        while device is not None:
            yield device
            device = device.lower_device

    @property
    def top(self) -> DeviceObject[Any]:
        """IoGetAttachedDevice: the top of this device's stack."""
        device: DeviceObject[Any] = self
        while device.attached_device is not None:
            device = device.attached_device
        return device

    @property
    def bottom(self) -> DeviceObject[Any]:
        """IoGetDeviceAttachmentBaseRef: the bottom of this device's stack."""
        device: DeviceObject[Any] = self
        while device.lower_device is not None:
            device = device.lower_device
        return device
