"""IRPs that drivers make: IoAllocateIrp, IoBuild...Request, IoMakeAssociatedIrp, and who gives them back.

Who has made an IRP how decides who ends its life (`Irp.origin`):

* `allocate_irp`: the driver. It sets a completion routine that keeps the IRP, and frees it or reuses it.
* `build_asynchronous_fsd_request`: the driver, as above.
* `build_synchronous_fsd_request`, `build_device_io_control_request`: the I/O manager. It signals the driver's event; the
  driver waits if it was answered STATUS_PENDING, and never frees the IRP. It belongs to the thread that has made it, and is
  cancelled at that thread's end.
* `make_associated_irp`: the I/O manager, which counts it off at its master.

An allocated or asynchronous IRP that goes all the way up because no routine keeps it is freed there.
"""

from __future__ import annotations

from typing import Any

from hilbridge.iomgr.base import holder_of
from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DIRECT_IO,
    IRP_ASSOCIATED_IRP,
    IRP_BUFFERED_IO,
    IRP_INPUT_OPERATION,
    IRP_READ_OPERATION,
    IRP_SYNCHRONOUS_API,
    IRP_WRITE_OPERATION,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, ioctl_method
from hilbridge.model.irp import BuiltIrp, IoStatusBlock, Irp, IrpOrigin
from hilbridge.model.irp_life import IrpEvent, IrpState
from hilbridge.model.parameters import (
    NO_PARAMETERS,
    DeviceIoControlParameters,
    Parameters,
    ReadParameters,
    WriteParameters,
)
from hilbridge.model.status import (
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)

Buffer = bytearray | memoryview
_FREE, _REUSE = int(IrpEvent.FREE), int(IrpEvent.REUSE)
_FILLED_BY_PNP = (IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL)
_ALLOCATED = BuiltIrp(IrpOrigin.ALLOCATED)
_SYNCHRONOUS = BuiltIrp(IrpOrigin.SYNCHRONOUS)
_NOT_THE_DRIVERS = (IrpOrigin.USER, IrpOrigin.SYNCHRONOUS)
_VERIFIER = "DRIVER_VERIFIER_IOMANAGER_VIOLATION"


class BuildRoutines(IrpRoutines):
    """The I/O manager's routines about IRPs of drivers. Up to DISPATCH_LEVEL, where nothing else is said."""

    # -- bare ones ---------------------------------------------------------------------------------------------------

    def allocate_irp(self, stack_size: int) -> Irp:
        """IoAllocateIrp. The caller owns it: it sets a completion routine that keeps it, and frees or reuses it."""
        irp = self.irp_class(next(self._irp_ids), stack_size, self.ke.clock.now())
        irp.built = _ALLOCATED
        irp.thread = None
        return irp

    def free_irp(self, irp: Irp) -> None:
        """IoFreeIrp: only an IRP that the driver has made, and that has come back. See the top of this module."""
        if irp.origin in _NOT_THE_DRIVERS:
            raise self.bug_check(
                0xC9, _VERIFIER, 0x02, irp, hint="the I/O manager frees this IRP: it belongs to a thread"
            )
        irp.step(_FREE)

    def reuse_irp(self, irp: Irp, status: NtStatus = STATUS_SUCCESS) -> None:
        """IoReuseIrp: as new, with the same id and the same number of stack locations. For IRPs of `allocate_irp`."""
        if irp.origin in _NOT_THE_DRIVERS:
            raise self.bug_check(0xC9, _VERIFIER, 0x311, irp, hint="only an IRP of allocate_irp can be reused")
        # Checked by the table; then it is made anew, in the same object, because its owner and others point to that.
        irp.step(_REUSE)
        irp.__init__(irp.id, irp.stack_count, self.ke.clock.now())  # type: ignore[misc]
        irp.io_status.status = status

    # -- whole ones --------------------------------------------------------------------------------------------------

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
        """IoBuildAsynchronousFsdRequest, for `device`. The driver sets a completion routine that keeps the IRP, and frees it.

        `buffer` is what is read into or written, where the flags of the device want it; without `parameters` the length of a
        read or write is that of the buffer. `iosb` is written at the end, unless `call_driver` has returned an error itself.
        """
        irp = self._build(BuiltIrp(IrpOrigin.ASYNCHRONOUS, iosb), major, device, minor, parameters)
        irp.thread = None
        self._place(irp, device, major, buffer)
        return irp

    def build_synchronous_fsd_request(
        self,
        major: IrpMajor,
        device: DeviceObject[Any],
        event: Kevent,
        *,
        minor: int = 0,
        parameters: Parameters = NO_PARAMETERS,
        buffer: bytes | Buffer | None = None,
        iosb: IoStatusBlock | None = None,
    ) -> Irp:
        """IoBuildSynchronousFsdRequest, at PASSIVE_LEVEL: the creator waits for `event`, and must not free the IRP.

        It waits if `call_driver` returned STATUS_PENDING, and only then: after an error that was returned at once the event
        is not set. The outcome is in ``irp.io_status``, which here stays readable afterwards, and in `iosb`.
        """
        irp = self._build(
            _SYNCHRONOUS if iosb is None else BuiltIrp(IrpOrigin.SYNCHRONOUS, iosb), major, device, minor, parameters
        )
        irp.flags = IRP_SYNCHRONOUS_API
        irp.user_event = event
        self._place(irp, device, major, buffer)
        irp.thread = self.ke.current()
        self._threaded[irp.id] = irp
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
        """IoBuildDeviceIoControlRequest: as above, for a control request to the driver below, by its method.

        `output` is the second buffer, of at least `output_length` bytes; without it the answer is found in
        ``irp.system_buffer`` (METHOD_BUFFERED) or in ``irp.user_buffer``.
        """
        major = IrpMajor.INTERNAL_DEVICE_CONTROL if internal else IrpMajor.DEVICE_CONTROL
        method = ioctl_method(code)
        type3 = data if method == METHOD_NEITHER else None
        parameters = DeviceIoControlParameters(output_length, len(data), code, type3)
        irp = self.build_synchronous_fsd_request(major, device, event, parameters=parameters, iosb=iosb)
        if output is not None:
            output = memoryview(output)[:output_length]
        if method == METHOD_BUFFERED:
            irp.flags |= IRP_BUFFERED_IO | (IRP_INPUT_OPERATION if output is not None else 0)
            irp.system_buffer = bytearray(max(len(data), output_length))
            irp.system_buffer[: len(data)] = data
            irp.user_buffer = output
        else:
            irp.user_buffer = bytearray(output_length) if output is None else output
            if method != METHOD_NEITHER:
                irp.system_buffer = bytearray(data)
                irp.mdl_address = mdl_of(irp.user_buffer, writable=method != METHOD_IN_DIRECT)
        return irp

    def make_associated_irp(self, master: Irp, stack_size: int) -> Irp:
        """IoMakeAssociatedIrp: one part of a request that is carried out in several.

        The driver that has `master` marks it pending, sets ``master.irp_count`` to the number of its parts, and then sends
        the parts. The I/O manager frees each part that comes back, and completes the master after the last, with the first
        error of a part. A part whose completion routine keeps it is the driver's to count off and to free.
        """
        irp = self.allocate_irp(stack_size)
        irp.built = BuiltIrp(IrpOrigin.ASSOCIATED, None, master)
        irp.flags = IRP_ASSOCIATED_IRP
        irp.thread = getattr(master, "thread", None)
        return irp

    def _build(
        self, built: BuiltIrp, major: IrpMajor, device: DeviceObject[Any], minor: int, parameters: Parameters
    ) -> Irp:
        irp = self.irp_class(next(self._irp_ids), device.stack_size, self.ke.clock.now())
        irp.built = built
        location = irp.next_stack_location
        location.major_function = major
        location.minor_function = minor
        location.parameters = parameters
        if major in _FILLED_BY_PNP:
            irp.io_status.status = STATUS_NOT_SUPPORTED
        return irp

    @staticmethod
    def _place(irp: Irp, device: DeviceObject[Any], major: IrpMajor, buffer: bytes | Buffer | None) -> None:
        """Put a read's or write's buffer where the flags of the device say that it is looked for."""
        if buffer is None:
            return
        location = irp.next_stack_location
        reads = major == IrpMajor.READ
        if location.parameters is NO_PARAMETERS and major in (IrpMajor.READ, IrpMajor.WRITE):
            location.parameters = ReadParameters(len(buffer)) if reads else WriteParameters(len(buffer))
        if not reads and major != IrpMajor.WRITE:
            irp.system_buffer = bytearray(buffer) if isinstance(buffer, bytes) else buffer  # type: ignore[assignment]
            return
        irp.flags |= IRP_READ_OPERATION | IRP_INPUT_OPERATION if reads else IRP_WRITE_OPERATION
        if device.flags & DO_BUFFERED_IO:
            irp.flags |= IRP_BUFFERED_IO
            irp.system_buffer = bytearray(len(buffer)) if reads else bytearray(buffer)
            irp.user_buffer = buffer
        elif device.flags & DO_DIRECT_IO:
            irp.user_buffer = buffer
            irp.mdl_address = mdl_of(buffer)
        else:
            irp.user_buffer = buffer

    # -- sending and waiting -----------------------------------------------------------------------------------------

    def call_and_wait(self, device: DeviceObject[Any], irp: Irp, timeout: float | None = 60.0) -> NtStatus:
        """Send an IRP built with an event, and wait for its end, at PASSIVE_LEVEL: the commonest use of the two above."""
        event = irp.user_event
        status = self.call_driver(device, irp)
        if (
            int(status) == STATUS_PENDING
            and irp.state != IrpState.COMPLETED
            and not self.ke.wait_for_single_object(event, timeout)
            and irp.state != IrpState.COMPLETED
        ):
            raise self.bug_check(
                0x9F,
                "DRIVER_POWER_STATE_FAILURE",
                4,
                irp,
                hint=f"{device!r} did not complete it in {timeout} s",
                device=holder_of(irp) or device,
            )
        return irp.io_status.status

    def forward_and_wait(self, lower: DeviceObject[Any], irp: Irp) -> NtStatus:
        """Send the current IRP to the device below and take it back: what START_DEVICE handlers begin with.

        The IRP belongs to the caller again afterwards, who completes it.
        """
        event = Kevent()

        def taken_back(_device: DeviceObject[Any] | None, _irp: Irp, _context: object) -> NtStatus:
            event.set()
            return STATUS_MORE_PROCESSING_REQUIRED

        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(taken_back)
        if int(self.call_driver(lower, irp)) == STATUS_PENDING:
            self.ke.wait_for_single_object(event, None)
        return irp.io_status.status


def mdl_of(buffer: bytes | Buffer, *, writable: bool = True) -> memoryview | None:
    """An MDL that describes `buffer`. There is none for no bytes, as in C: a driver looks at the length first."""
    if not len(buffer):
        return None
    view = memoryview(buffer)
    return view if writable else view.toreadonly()
