"""What drivers and the Plug and Play manager say to each other: its requests, and what a driver may ask of it.

The manager itself is a floor above (`hilbridge.pnp`): the I/O manager knows it as `PnpHooks` only.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from hilbridge.iomgr.files import FileRoutines
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.capabilities import DeviceCapabilities
from hilbridge.model.codes import DeviceProperty, IdType, IrpMajor, PnpMinor, RelationType, TextType
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import HilbridgeError, NtStatusError
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import (
    NO_PARAMETERS,
    DeviceCapabilitiesParameters,
    Parameters,
    QueryDeviceRelationsParameters,
    QueryDeviceTextParameters,
    QueryIdParameters,
    StartDeviceParameters,
)
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import (
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_NO_SUCH_DEVICE,
    STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_NOT_FOUND,
    NtStatus,
)

PNP_TIMEOUT = 60.0
"""Seconds that a stack may take for one request: UMDF's limit for critical requests."""


class PnpHooks(Protocol):
    """The Plug and Play manager, as the I/O manager sees it. Called at PASSIVE_LEVEL, on a system worker."""

    def device_state_changed(self, device: DeviceObject[Any]) -> None:
        """A driver has called `invalidate_device_state`."""

    def relations_changed(self, device: DeviceObject[Any], kind: RelationType) -> None:
        """A driver has called `invalidate_device_relations`."""

    def eject_requested(self, device: DeviceObject[Any]) -> None:
        """A driver has called `request_device_eject`."""

    def property_of(self, device: DeviceObject[Any], which: DeviceProperty) -> object:
        """What is known of the device; None if nothing is. At once, in the caller's thread."""


class PnpAnswer:
    """How a Plug and Play request ended: `status`, the answer itself, and who refused it if it was refused."""

    __slots__ = ("answer", "refused_by", "status", "words")

    def __init__(self, status: NtStatus, answer: Any, irp: Irp) -> None:
        self.status = status
        self.answer = answer
        """What IO_STATUS_BLOCK.Information holds: in C a pointer, here the thing itself. None if the request failed."""
        failed = not status.is_success
        # Nobody passes on what he refuses: the lowest that has seen it is who refused. Locations are used again by who skips.
        self.refused_by = next((at.device_object for at in irp.stack if at.device_object), None) if failed else None
        self.words: HilbridgeError | None = irp.error if failed else None
        """What that driver said to it: see `IoManager.write_error_log_entry`."""

    def why(self) -> str:
        """Who refused it, and with what, in words."""
        who = f"driver {self.refused_by.driver_object.name}" if self.refused_by is not None else "its stack"
        return f"{who}: {self.words.message}" if self.words is not None else f"{who} answered {self.status.name}"


class PnpRoutines(FileRoutines):
    """The I/O manager's routines about Plug and Play."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self.pnp: PnpHooks | None = None

    # -- what the manager sends --------------------------------------------------------------------------------------

    def ask_pnp(
        self,
        device: DeviceObject[Any],
        minor: PnpMinor,
        parameters: Parameters = NO_PARAMETERS,
        timeout: float = PNP_TIMEOUT,
    ) -> PnpAnswer:
        """Send a Plug and Play request to the top of the device's stack, and wait for its end. At PASSIVE_LEVEL.

        A driver that does not answer in time, or breaks a rule, is a fault, which is latched and raised.
        """
        event = Kevent()
        top = device.top
        irp = self.build_synchronous_fsd_request(IrpMajor.PNP, top, event, minor=minor, parameters=parameters)
        status, information = self._send(top, irp, event, timeout, f"IRP_MN_{minor.name}")
        if minor in CHANGES_STATE:
            self.ke.note(f"{device!r}: IRP_MN_{minor.name}, {status.name}")
        return PnpAnswer(status, information if status.is_success else None, irp)

    def send_pnp(
        self, device: DeviceObject[Any], minor: PnpMinor, resources: Any = None, timeout: float = PNP_TIMEOUT
    ) -> NtStatus:
        """As `ask_pnp`, for a request that tells something; raises what a driver has said in words to a failure."""
        answer = self.ask_pnp(device, minor, StartDeviceParameters(resources), timeout)
        if answer.words is not None:
            raise answer.words
        return answer.status

    def query_id(self, device: DeviceObject[Any], kind: IdType) -> Any:
        """IRP_MN_QUERY_ID: a string, or for hardware and compatible ids a list of them; None where there is none."""
        return self.ask_pnp(device, PnpMinor.QUERY_ID, QueryIdParameters(kind)).answer or None

    def query_device_text(self, device: DeviceObject[Any], kind: TextType) -> str:
        """IRP_MN_QUERY_DEVICE_TEXT: a text for people; empty where there is none."""
        return self.ask_pnp(device, PnpMinor.QUERY_DEVICE_TEXT, QueryDeviceTextParameters(kind)).answer or ""

    def query_capabilities(self, device: DeviceObject[Any]) -> DeviceCapabilities:
        """IRP_MN_QUERY_CAPABILITIES: what the stack says the device can do; defaults where it says nothing."""
        capabilities = DeviceCapabilities()
        self.ask_pnp(device, PnpMinor.QUERY_CAPABILITIES, DeviceCapabilitiesParameters(capabilities))
        return capabilities

    def query_device_relations(self, device: DeviceObject[Any], kind: RelationType) -> list[DeviceObject[Any]] | None:
        """IRP_MN_QUERY_DEVICE_RELATIONS: PDOs, each of them referenced for the caller; None if nobody answered."""
        answer = self.ask_pnp(device, PnpMinor.QUERY_DEVICE_RELATIONS, QueryDeviceRelationsParameters(kind))
        if answer.status == STATUS_NOT_SUPPORTED or not answer.status.is_success:
            return None
        return list(answer.answer or ())

    # -- what drivers ask --------------------------------------------------------------------------------------------

    def invalidate_device_relations(self, device: DeviceObject[Any], kind: RelationType = RelationType.BUS) -> None:
        """IoInvalidateDeviceRelations, up to DISPATCH_LEVEL: what is plugged into this PDO's bus may have changed.

        Returns at once. The manager asks with IRP_MN_QUERY_DEVICE_RELATIONS, on another thread, builds and starts the stacks
        of what is new, and sends SURPRISE_REMOVAL to what is missing. May be called as often as one likes.
        """
        hooks = self.pnp
        if hooks is not None:
            self.ke.queue_work_item(partial(hooks.relations_changed, device, kind))

    def invalidate_device_state(self, device: DeviceObject[Any]) -> None:
        """IoInvalidateDeviceState: the driver says that its device has gone or failed. Callable at DISPATCH_LEVEL.

        The Plug and Play manager asks with IRP_MN_QUERY_PNP_DEVICE_STATE, on another thread. A device that says that it was
        removed or has failed, or whose stack has set ``device_stack.removed``, gets IRP_MN_SURPRISE_REMOVAL.
        """
        hooks = self.pnp
        if hooks is not None:
            self.ke.queue_work_item(partial(hooks.device_state_changed, device))

    def request_device_eject(self, device: DeviceObject[Any]) -> None:
        """IoRequestDeviceEject, up to DISPATCH_LEVEL: somebody has pressed the button. Returns at once.

        The device is removed if its drivers agree, and its bus driver then gets IRP_MN_EJECT.
        """
        hooks = self.pnp
        if hooks is not None:
            self.ke.queue_work_item(partial(hooks.eject_requested, device))

    def get_device_property(self, device: DeviceObject[Any], which: DeviceProperty) -> Any:
        """IoGetDeviceProperty, of a PDO, at PASSIVE_LEVEL. Raises `NtStatusError`.

        STATUS_INVALID_DEVICE_REQUEST if the device is no PDO that the manager knows, STATUS_OBJECT_NAME_NOT_FOUND if it has no
        such property.
        """
        known = None if self.pnp is None else self.pnp.property_of(device, which)
        if known is None:
            raise NtStatusError(
                STATUS_INVALID_DEVICE_REQUEST, f"{device!r} is no device of Plug and Play's: give its PDO"
            )
        if known in ("", []):
            raise NtStatusError(STATUS_OBJECT_NAME_NOT_FOUND, f"{device!r} has no {which.name}")
        return known

    def get_related_target_device(self, file: FileObject) -> DeviceObject[Any]:
        """IoGetRelatedTargetDevice: the PDO below an open file, referenced. At PASSIVE_LEVEL."""
        relations = self.query_device_relations(file.device_object, RelationType.TARGET_DEVICE)
        if not relations:
            raise NtStatusError(STATUS_NO_SUCH_DEVICE, f"no driver of {file!r} has said which device it is")
        return relations[0]
