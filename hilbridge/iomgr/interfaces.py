r"""Device interfaces: how a device without a name is found. IoRegisterDeviceInterface, IoSetDeviceInterfaceState.

A driver registers an interface of its PDO: a GUID that says what can be done with the device. While the interface is enabled,
its symbolic link, ``\??\ROOT#toasterbus#bus#{d35f...}``, opens the device, and applications find it by the GUID. While it is
not, it is invisible. A reference string is appended to the link, and reaches CREATE as the file's name.

What a driver enables in START_DEVICE is seen when the whole stack has started, as Microsoft's page on IoSetDeviceInterfaceState
says: a callback that opens the device at once must not come too early. If the start fails, nobody hears anything.
"""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.pnp import PNP_TIMEOUT, PnpAnswer, PnpRoutines
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import DO_BUS_ENUMERATED_DEVICE, IdType, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.guid import normal_guid
from hilbridge.model.parameters import NO_PARAMETERS, Parameters, QueryIdParameters, QueryInterfaceParameters
from hilbridge.model.status import (
    STATUS_INVALID_PARAMETER,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_SUCCESS,
    NtStatus,
)

_VERIFIER = "DRIVER_VERIFIER_IOMANAGER_VIOLATION"


class DeviceInterface:
    """One interface of one device."""

    __slots__ = ("enabled", "exposed", "guid", "link", "physical", "reference")

    def __init__(self, physical: DeviceObject[Any], guid: str, base: str, reference: str) -> None:
        self.physical = physical
        self.guid = guid
        self.reference = reference
        self.link = f"\\??\\{base}\\{reference}" if reference else f"\\??\\{base}"
        self.enabled = False
        self.exposed = False
        """Enabled, and to be seen: that is later if it was enabled during the start of the device."""


def checked_guid(guid: str) -> str:
    """A GUID as it is kept: in lower case. Raises `NtStatusError` STATUS_INVALID_PARAMETER for anything else."""
    normal = normal_guid(guid)
    if normal is None:
        raise NtStatusError(
            STATUS_INVALID_PARAMETER, f"{guid!r} is no GUID: write it as {{781EF630-72B2-11D2-B852-00C04FAD5171}}"
        )
    return normal.lower()


class InterfaceRoutines(PnpRoutines):
    """The I/O manager's routines about device interfaces. At PASSIVE_LEVEL."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        self._interfaces: dict[str, DeviceInterface] = {}
        """By link, in lower case. Guarded by the I/O manager's lock."""
        self._starting: set[DeviceObject[Any]] = set()
        """PDOs whose stacks have START_DEVICE."""

    def register_device_interface(self, physical: DeviceObject[Any], interface_class: str, reference: str = "") -> str:
        r"""IoRegisterDeviceInterface, of a PDO, usually in AddDevice: returns the symbolic link of the interface.

        It is disabled until `set_device_interface_state`. Registering it again returns the same link. Raises `NtStatusError`
        STATUS_INVALID_PARAMETER for what is no GUID, or a reference string with a backslash; a device that is no PDO is bug
        check 0xC9/0x24D.
        """
        self._passive("register_device_interface")
        guid = checked_guid(interface_class)
        if "\\" in reference or "/" in reference:
            raise NtStatusError(STATUS_INVALID_PARAMETER, f"reference string {reference!r} has a slash in it")
        if not physical.flags & DO_BUS_ENUMERATED_DEVICE:
            hint = "interfaces belong to the physical device that AddDevice was given"
            raise self.bug_check(0xC9, _VERIFIER, 0x24D, physical, hint=hint)
        path = f"{self._id(physical, IdType.DEVICE_ID) or 'UNKNOWN'}\\{self._id(physical, IdType.INSTANCE_ID)}"
        found = DeviceInterface(physical, guid, f"{path.replace(chr(92), '#')}#{guid}", reference)
        with self._lock:
            known = self._interfaces.get(found.link.lower())
            if known is None or known.physical is not physical:
                self._interfaces[found.link.lower()] = known = found
        return known.link

    def _id(self, physical: DeviceObject[Any], kind: IdType) -> str:
        """What the bus driver calls the device. It is asked past the drivers above: in AddDevice they are half built."""
        event = Kevent()
        irp = self.build_synchronous_fsd_request(
            IrpMajor.PNP, physical, event, minor=PnpMinor.QUERY_ID, parameters=QueryIdParameters(kind)
        )
        answer: tuple[NtStatus, Any] = self._send(physical, irp, event, PNP_TIMEOUT, "IRP_MN_QUERY_ID")
        return answer[1] if answer[0].is_success and isinstance(answer[1], str) else ""

    def set_device_interface_state(self, link: str, enable: bool) -> NtStatus:
        """IoSetDeviceInterfaceState: from now on the device can be found and opened by this link; or cannot any more.

        Who waits for interfaces of this class is told, once for each change. As Microsoft's page on the routine says:
        STATUS_OBJECT_NAME_EXISTS if it is enabled already, which is no error; STATUS_OBJECT_NAME_NOT_FOUND if it is disabled
        already, or nobody has registered it. STATUS_NO_SUCH_DEVICE, which is ours: to enable one whose device has gone or
        failed, so that what the system has disabled stays so.
        """
        self._passive("set_device_interface_state")
        with self._lock:
            interface = self._interfaces.get(link.lower())
            if interface is None:
                return STATUS_OBJECT_NAME_NOT_FOUND
            if interface.enabled == enable:
                return STATUS_OBJECT_NAME_EXISTS if enable else STATUS_OBJECT_NAME_NOT_FOUND
            stack = interface.physical.device_stack
            if enable and (interface.physical.delete_pending or stack.removed is not None or stack.fault is not None):
                return STATUS_NO_SUCH_DEVICE
            interface.enabled = enable
            told = [] if interface.physical in self._starting and enable else self._expose(interface, enable)
        self.post_news(told)
        return STATUS_SUCCESS

    def get_device_interfaces(
        self,
        interface_class: str,
        *,
        physical: DeviceObject[Any] | None = None,
        include_disabled: bool = False,
    ) -> list[str]:
        """IoGetDeviceInterfaces: the links of all enabled interfaces of a class, in the order in which they were registered.

        `physical`: only those of that device.
        """
        guid = checked_guid(interface_class)
        with self._lock:
            return [
                one.link
                for one in self._interfaces.values()
                if one.guid == guid
                and (one.exposed or include_disabled)
                and (physical is None or one.physical is physical)
            ]

    def query_interface(
        self, device: DeviceObject[Any], interface_type: str, version: int, interface: Any, specific: Any = None
    ) -> NtStatus:
        """IRP_MN_QUERY_INTERFACE: have a driver of the stack fill `interface` in. STATUS_NOT_SUPPORTED if none knows it."""
        parameters = QueryInterfaceParameters(interface_type, version, interface, specific)
        return self.ask_pnp(device, PnpMinor.QUERY_INTERFACE, parameters).status

    # -- for the Plug and Play manager -------------------------------------------------------------------------------

    def disable_interfaces_of(self, physical: DeviceObject[Any], *, forget: bool = False) -> None:
        """The device has gone: what its driver has left enabled is disabled. `forget`: and is not registered any more."""
        told: list[Any] = []
        with self._lock:
            for key, interface in list(self._interfaces.items()):
                if interface.physical is physical:
                    interface.enabled = False
                    told += self._expose(interface, False)
                    if forget:
                        del self._interfaces[key]
        self.post_news(told)

    def ask_pnp(
        self,
        device: DeviceObject[Any],
        minor: PnpMinor,
        parameters: Parameters = NO_PARAMETERS,
        timeout: float = PNP_TIMEOUT,
    ) -> PnpAnswer:
        """Send a Plug and Play request. What START_DEVICE enables is to be seen when all of the stack has started."""
        if minor != PnpMinor.START_DEVICE:
            return super().ask_pnp(device, minor, parameters, timeout)
        physical = device.bottom
        with self._lock:
            self._starting.add(physical)
        answer = None
        try:
            answer = super().ask_pnp(device, minor, parameters, timeout)
        finally:
            told: list[Any] = []
            with self._lock:
                self._starting.discard(physical)
                if answer is not None and answer.status.is_success:
                    for one in self._interfaces.values():
                        if one.physical is physical and one.enabled:
                            told += self._expose(one, True)
            self.post_news(told)
        return answer

    def _expose(self, interface: DeviceInterface, exposed: bool) -> list[Any]:
        """Under the lock: so that who registers for news hears of each change, and of none twice. Returns who is to be told."""
        if interface.exposed == exposed:
            return []
        interface.exposed = exposed
        if exposed:
            self.namespace.link_device(interface.link, interface.physical)
        else:
            self.namespace.unlink_device(interface.link)
        return self.interface_changed(interface)

    def interface_changed(self, interface: DeviceInterface) -> list[Any]:
        """Under the lock: an interface has come or gone. See `hilbridge.iomgr.pnpnotify`, and so for the next one."""
        raise NotImplementedError

    def post_news(self, entries: list[Any]) -> None:
        """The lock has been released: now they are told."""
        raise NotImplementedError
