"""What drivers ask of the I/O manager at PASSIVE_LEVEL as a rule: IRPs of their own, devices, interrupts, references.

Each routine looks first, then does what the base class does. Requests on their way are in `manager`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial, wraps
from typing import Any, TypeVar

from hilbridge.iomgr.build import Buffer
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel import culprit
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.kernel.kernel import Kernel
from hilbridge.model.codes import FILE_DEVICE_UNKNOWN, DeviceProperty, IrpMajor, RelationType
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverEntry, DriverObject
from hilbridge.model.errors import UsageFault
from hilbridge.model.irp import IoStatusBlock, Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.mdl import Mdl, MdlBuffer
from hilbridge.model.parameters import NO_PARAMETERS, Parameters
from hilbridge.model.status import NtStatus
from hilbridge.observe.verifier import adding, buffers, devices, irql, remlocks
from hilbridge.observe.verifier.forced import Forced
from hilbridge.observe.verifier.kernel import VerifiedKernel
from hilbridge.observe.verifier.references import References
from hilbridge.observe.verifier.relations import Relations
from hilbridge.observe.verifier.watch import OWN_DRIVER, Verifier, place_of_routine

ExtensionT = TypeVar("ExtensionT")


@irql.limited(irql.IO_LIMITS)
class VerifiedCalls(IoManager):
    """Checks what drivers do with devices, and with IRPs of their own."""

    def __init__(self, ke: Kernel) -> None:
        super().__init__(ke)
        if not isinstance(ke, VerifiedKernel):
            raise UsageFault("the verifier needs both classes: use Bridge(verify=True)")
        self.verifier: Verifier = ke.verifier
        self.verifier.relations = Relations(ke.verifier)
        self.fast_io = ke.options.fast_io
        self.forced = Forced(ke.options)
        self._references = References(self.verifier)
        self._mdls: dict[Mdl, str | None] = {}
        self._allocated: dict[int, tuple[DriverObject, Irp, str | None]] = {}

    # -- IRPs of drivers ---------------------------------------------------------------------------------------------

    def allocate_irp(self, stack_size: int) -> Irp:
        """IoAllocateIrp."""
        if self.verifier.running():
            self.forced.refuse("an IRP")
        irp = super().allocate_irp(stack_size)
        device = self.verifier.caller()
        if device is not None:
            self._allocated[irp.id] = (device.driver_object, irp, culprit.find(sys._getframe(1)).place)
        return irp

    def build_asynchronous_fsd_request(
        self,
        major: IrpMajor,
        device: DeviceObject[Any],
        buffer: bytes | Buffer | None = None,
        *,
        minor: int = 0,
        parameters: Parameters = NO_PARAMETERS,
        iosb: IoStatusBlock | None = None,
    ) -> Irp:
        """IoBuildAsynchronousFsdRequest."""
        buffers.of_read_or_write(self.verifier, major, buffer)
        irp = super().build_asynchronous_fsd_request(
            major, device, buffer, minor=minor, parameters=parameters, iosb=iosb
        )
        caller = self.verifier.caller()
        if caller is not None:
            self._allocated[irp.id] = (caller.driver_object, irp, culprit.find(sys._getframe(1)).place)
        return irp

    def build_device_io_control_request(
        self,
        code: int,
        device: DeviceObject[Any],
        data: bytes | Buffer,
        output_length: int,
        event: Kevent,
        *,
        internal: bool = False,
        output: Buffer | None = None,
        iosb: IoStatusBlock | None = None,
    ) -> Irp:
        """IoBuildDeviceIoControlRequest."""
        buffers.of_control(self.verifier, code, data, output_length, output)
        return super().build_device_io_control_request(
            code, device, data, output_length, event, internal=internal, output=output, iosb=iosb
        )

    def forward_and_wait(self, lower: DeviceObject[Any], irp: Irp) -> NtStatus:
        """Send a request down, and wait for it."""
        if irp.current_stack_location.major_function == IrpMajor.POWER:
            self.verifier.report("PowerDispatchWait", irp=irp)
        return super().forward_and_wait(lower, irp)

    def free_irp(self, irp: Irp) -> None:
        """IoFreeIrp."""
        given: object = irp
        if not isinstance(given, Irp):
            self.verifier.report("IoFreeIrp", details=f"got {given!r}")
        super().free_irp(irp)
        self._allocated.pop(irp.id, None)

    # -- MDLs of drivers ---------------------------------------------------------------------------------------------

    def allocate_mdl(self, buffer: MdlBuffer) -> Mdl:
        """IoAllocateMdl."""
        if self.verifier.running():
            self.forced.refuse("an MDL")
        mdl = super().allocate_mdl(buffer)
        if mdl.device is not None:
            self._mdls[mdl] = mdl.place
        return mdl

    def free_mdl(self, mdl: Mdl) -> None:
        """IoFreeMdl."""
        super().free_mdl(mdl)
        self._mdls.pop(mdl, None)

    # -- devices and drivers -----------------------------------------------------------------------------------------

    def create_device(
        self,
        driver: DriverObject,
        extension: ExtensionT,
        name: str | None = None,
        device_type: int = FILE_DEVICE_UNKNOWN,
        characteristics: int = 0,
        *,
        exclusive: bool = False,
    ) -> DeviceObject[ExtensionT]:
        """IoCreateDevice."""
        if driver.name != OWN_DRIVER:
            self.forced.refuse("a device")
        return super().create_device(driver, extension, name, device_type, characteristics, exclusive=exclusive)

    def attach_device_to_device_stack(self, source: DeviceObject[Any], target: DeviceObject[Any]) -> DeviceObject[Any]:
        """IoAttachDeviceToDeviceStack."""
        adding.attaches(self.verifier, source, target)
        return super().attach_device_to_device_stack(source, target)

    def connect_interrupt(self, device: DeviceObject[Any], *arguments: Any, **options: Any) -> Interrupt:
        """IoConnectInterrupt."""
        devices.connects(self.verifier, device)
        return super().connect_interrupt(device, *arguments, **options)

    def detach_device(self, lower: DeviceObject[Any]) -> None:
        """IoDetachDevice."""
        upper = lower.attached_device or lower
        devices.in_surprise_removal(self.verifier, "SurpriseDetach", upper)
        remlocks.detaches(self.verifier, upper)
        super().detach_device(lower)

    def delete_device(self, device: DeviceObject[Any]) -> None:
        """IoDeleteDevice."""
        devices.in_surprise_removal(self.verifier, "PnpSurpriseRemove", device)
        if self.wmi_registered(device):
            self.verifier.report("WmiRegisteredAtDelete", device=device)
        self.verifier.relations.deleted(device)
        super().delete_device(device)

    # -- what is for PDOs only ---------------------------------------------------------------------------------------

    def invalidate_device_relations(self, device: DeviceObject[Any], kind: RelationType = RelationType.BUS) -> None:
        """IoInvalidateDeviceRelations."""
        devices.needs_pdo(self.verifier, device, "invalidate_device_relations")
        super().invalidate_device_relations(device, kind)

    def request_device_eject(self, device: DeviceObject[Any]) -> None:
        """IoRequestDeviceEject."""
        devices.needs_pdo(self.verifier, device, "request_device_eject")
        super().request_device_eject(device)

    def get_device_property(self, device: DeviceObject[Any], which: DeviceProperty) -> Any:
        """IoGetDeviceProperty."""
        devices.needs_pdo(self.verifier, device, "get_device_property")
        return super().get_device_property(device, which)

    # -- references --------------------------------------------------------------------------------------------------

    def get_attached_device_reference(self, device: DeviceObject[Any]) -> DeviceObject[Any]:
        """IoGetAttachedDeviceReference."""
        return self._references.taken(super().get_attached_device_reference(device))

    def get_lower_device_object(self, device: DeviceObject[Any]) -> DeviceObject[Any] | None:
        """IoGetLowerDeviceObject."""
        return self._references.taken(super().get_lower_device_object(device))

    def get_device_attachment_base_ref(self, device: DeviceObject[Any]) -> DeviceObject[Any]:
        """IoGetDeviceAttachmentBaseRef."""
        return self._references.taken(super().get_device_attachment_base_ref(device))

    def dereference_object(self, thing: object) -> None:
        """ObDereferenceObject."""
        self._references.given_back(thing)
        super().dereference_object(thing)

    # -- drivers -----------------------------------------------------------------------------------------------------

    def load_driver(
        self, name: str, entry: DriverEntry, parameters: Mapping[str, object] | None = None
    ) -> DriverObject:
        """IoLoadDriver. What its AddDevice does is looked at: see `adding`."""
        driver = super().load_driver(name, entry, parameters)
        routine = driver.add_device
        if routine is not None and driver.name != OWN_DRIVER:
            driver.add_device = wraps(routine)(partial(adding.call, self.verifier, routine))
        return driver

    def driver_unloaded(self, driver: DriverObject) -> None:
        """The unload routine has returned: what is left now is left for ever."""
        devices.unloaded(self.verifier, driver)
        self._references.left_by(driver)
        for irp_id, (owner, irp, where) in list(self._allocated.items()):
            if owner is driver:
                del self._allocated[irp_id]
                if irp.state != IrpState.FREED:
                    self.verifier.report("IrpLeaked", irp=irp, driver=driver.name, place=where)
        for mdl, where in list(self._mdls.items()):
            if mdl.device is not None and mdl.device.driver_object is driver:
                del self._mdls[mdl]
                self.verifier.report("MdlLeaked", device=mdl.device, driver=driver.name, details=repr(mdl), place=where)
        for timer in self.ke.timers.running():
            dpc = timer.dpc
            if dpc is not None and dpc.device is not None and dpc.device.driver_object is driver:
                place = place_of_routine(dpc.routine)
                self.verifier.report("TimerLeftAtUnload", device=dpc.device, driver=driver.name, place=place)
        super().driver_unloaded(driver)
