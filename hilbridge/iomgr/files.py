"""User mode's side of the I/O manager: opening, requests, cancelling, closing.

The order is CREATE, requests, CLEANUP, CLOSE, always. CLEANUP comes when the handle is closed and cancels what that
handle has outstanding; CLOSE comes when the last of these has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hilbridge.iomgr.build import mdl_of
from hilbridge.iomgr.cancelio import CancelIoRoutines
from hilbridge.iomgr.drivers import DriverRoutines
from hilbridge.iomgr.request import IoRequest
from hilbridge.iomgr.unload import LOOKS_AFTERWARDS
from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DIRECT_IO,
    DO_EXCLUSIVE,
    FILE_READ_DATA,
    FILE_WRITE_DATA,
    FO_CLEANUP_COMPLETE,
    FO_FILE_OPEN,
    FO_HANDLE_CREATED,
    IRP_BUFFERED_IO,
    IRP_INPUT_OPERATION,
    IRP_READ_OPERATION,
    IRP_WRITE_OPERATION,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, DriverFault, HilbridgeError, NtStatusError, UsageFault
from hilbridge.model.file import FileObject
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, ioctl_access, ioctl_method
from hilbridge.model.irp import BuiltIrp, Irp, IrpOrigin
from hilbridge.model.irp_life import IrpEvent, IrpState
from hilbridge.model.parameters import (
    NO_PARAMETERS,
    CreateParameters,
    DeviceIoControlParameters,
    Parameters,
    ReadParameters,
    WriteParameters,
)
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_FILE_CLOSED,
    STATUS_INVALID_HANDLE,
    STATUS_NO_SUCH_DEVICE,
    STATUS_PENDING,
    NtStatus,
)

if TYPE_CHECKING:
    from hilbridge.kernel.interrupt import Pin
    from hilbridge.kernel.processor import Processor

RequestT = TypeVar("RequestT", bound=IoRequest)
_OWN = BuiltIrp(IrpOrigin.SYNCHRONOUS, tells_always=True)


class FileRoutines(DriverRoutines, CancelIoRoutines):
    """NtCreateFile, NtReadFile, NtWriteFile, NtDeviceIoControlFile, NtCancelIoFile, NtClose; and PnP's requests."""

    # -- open and close ----------------------------------------------------------------------------------------------

    def create_file(self, name: str, access: int = FILE_READ_DATA | FILE_WRITE_DATA, share: int = 0) -> FileObject:
        """NtCreateFile: find the device, build the FILE_OBJECT, send IRP_MJ_CREATE to the top of its stack.

        Raises `NameNotFound`, or `NtStatusError` with what the stack said.
        """
        device, rest = self.namespace.resolve(name)
        self.refuse_if_dead(device)
        if device.device_stack.removed is not None:
            raise device.device_stack.removed.again()
        with self._lock:
            if device.delete_pending:
                raise NtStatusError(STATUS_NO_SUCH_DEVICE, f"{name} is being removed")
            if device.driver_object.unload_pending:
                raise NtStatusError(
                    STATUS_NO_SUCH_DEVICE, f"driver {device.driver_object.name} of {name} is being unloaded"
                )
            if device.flags & DO_EXCLUSIVE and device.reference_count:
                raise NtStatusError(STATUS_ACCESS_DENIED, f"{name} is exclusive, and open already")
            device.reference_count += 1
        file = FileObject(device, rest, access, next(self._file_ids), share)
        try:
            status, _ = self.send_and_wait(device.top, file, IrpMajor.CREATE, CreateParameters(access, share))
        except BaseException:
            self._drop_handle(device)
            raise
        if not status.is_success:
            self._drop_handle(device)
            raise NtStatusError(status, f"{name} could not be opened")
        file.flags |= FO_FILE_OPEN | FO_HANDLE_CREATED
        self.ke.note(f"{file!r}: opened")
        device.device_stack.files.append(file)
        if self.fast_io and device.attached_device is None:
            file.fast_io = device.driver_object.fast_io_dispatch
        return file

    def duplicate_handle(self, file: FileObject) -> FileObject:
        """NtDuplicateObject: one more handle of the same file; returns it. No driver is asked. Close each of them.

        Raises `NtStatusError` STATUS_INVALID_HANDLE if the last one has been closed.
        """
        with self._lock:
            if file.flags & FO_CLEANUP_COMPLETE:
                raise NtStatusError(STATUS_INVALID_HANDLE, f"{file!r} has been closed")
            file.handles += 1
        return file

    def close_file(self, file: FileObject, *, force: bool = False) -> None:
        """NtClose. With the last handle: CLEANUP, the end of every outstanding request of this file, and CLOSE.

        A driver whose CLEANUP forgets a request is helped out: the request is cancelled, and if that does not end it in
        time it is disowned and the driver reported. Nothing of this can fail: when it returns the file is closed. CLOSE waits
        for references that drivers hold (`reference_object`). `force`: all handles are closed, and no reference is waited for.
        """
        with self._lock:
            first = not file.flags & FO_CLEANUP_COMPLETE
            if first:
                file.handles = 0 if force else file.handles - 1
                if file.handles:
                    return
                file.flags |= FO_CLEANUP_COMPLETE
                file.fast_io = None
            elif not force:
                return
        processor = self.ke.current()
        processor.inside += 1
        try:
            try:
                if first:
                    self._cleanup(file)
            finally:
                with self._lock:
                    if force:
                        file.pointer_count = 0
                    elif first:
                        file.pointer_count -= 1
                    last = file.pointer_count == 0
                if last:
                    self._last_reference(file)
        finally:
            processor.inside -= 1

    def _cleanup(self, file: FileObject) -> None:
        """The last handle is closed. In the context of who closes it."""
        device = file.device_object
        self.ke.note(f"{file!r}: closed, with {len(file.irps)} requests outstanding")
        try:
            if device.device_stack.fault is None:
                self.send_and_wait(device.top, file, IrpMajor.CLEANUP, NO_PARAMETERS)
        finally:
            self.end_outstanding(file)

    def _last_reference(self, file: FileObject) -> None:
        """Nothing points to the file any more: CLOSE. At PASSIVE_LEVEL, in any thread."""
        device = file.device_object
        with self._lock:
            if not file.flags & FO_FILE_OPEN:
                return  # by force, and then again
            file.flags &= ~FO_FILE_OPEN
        try:
            if device.device_stack.fault is None:
                self.send_and_wait(device.top, file, IrpMajor.CLOSE, NO_PARAMETERS)
        finally:
            self.end_outstanding(file)
            if self._locked_mdls:
                self.look_for_locked_pages(file)
            stack = device.device_stack
            stack.files = [f for f in stack.files if f is not file]
            self._drop_handle(device)

    def get_device_object_pointer(
        self, name: str, access: int = FILE_READ_DATA | FILE_WRITE_DATA
    ) -> tuple[FileObject, DeviceObject[Any]]:
        """IoGetDeviceObjectPointer: the file, referenced, and the top of that device's stack, at PASSIVE_LEVEL.

        The driver sends its own IRPs to the device. It keeps it open by its reference on the file, and lets it go with
        ``io.dereference_object(file)``. Raises as `create_file` does.
        """
        file = self.reference_object(self.create_file(name, access))
        self.close_file(file)
        return file, file.device_object.top

    def end_outstanding(self, file: FileObject) -> None:
        """Cancel what this file has outstanding, and see to it that it ends."""
        processor = self.ke.current()
        for irp in list(file.irps.values()):
            request: IoRequest = irp.user_request
            if not request.done:
                request.end_now(processor)

    def _drop_handle(self, device: DeviceObject[Any]) -> None:
        with self._lock:
            device.reference_count -= 1
            last = device.reference_count == 0
            free = last and device.delete_pending and not device.pointer_count
        if last:
            if free:
                self._free_device(device)
            self.on_last_close(device)
        for one in device.bottom.walk_up():
            if one.driver_object.unload_pending:
                self.last_use_gone(one.driver_object)

    # -- fast I/O ----------------------------------------------------------------------------------------------------

    fast_io = True
    """Whether requests may be served without an IRP; a tracer or a verifier, which wants to see IRPs, says False."""

    @calls_driver("dispatch", "its fast read routine", lambda frame: frame["device"], begun="device")
    def fast_read(
        self,
        processor: Processor,
        file: FileObject,
        length: int,
        minimum: int = 0,
        terminator: bytes = b"",
        briefly: bool = True,
    ) -> bytes | None:
        """Fast I/O: the bytes, if they are there now or come within a moment; else None, and nothing has happened.

        `briefly`: whether to wait for that moment, which is up to a millisecond.
        Only for a stack whose top is the device that was opened, and whose driver offers it. Everything that is unusual
        is left to the IRP: closed handles, missing access, broken drivers, reads that wait already.
        """
        fast = file.fast_io
        if fast is None or not file.granted_access & FILE_READ_DATA:
            return None
        device = file.device_object
        try:
            stack = device.device_stack
            pin: Pin | None = stack.steering
            served = 0 if pin is None else pin.served
            data = fast.read(device, file, length, minimum, terminator)
            if data is None and briefly and pin is not None:
                if not self.ke.machine.serve_briefly(processor, pin, served):
                    return None
                data = fast.read(device, file, length, minimum, terminator)
                if pin.parked and (file.irps or (len(stack.files) > 1 and any(other.irps for other in stack.files))):
                    # A request waits that nobody fetches interrupts for. Who makes one looks whether the pin is parked
                    # after his IRP is on the list; we look at the list after the pin is parked: one sees the other.
                    self.ke.machine.unpark(pin)
        except BaseException as error:
            raise self.fault(device, error, "its fast read routine") from error
        return data

    @calls_driver("dispatch", "its fast write routine", lambda frame: frame["device"], begun="device")
    def fast_write(
        self,
        file: FileObject,
        data: bytes | bytearray | memoryview,
        make_irp: Callable[[bytes | bytearray | memoryview], Irp],
    ) -> int | Irp | None:
        """Fast I/O: how much was written, which is all of it; or the IRP that it has become; or None, and nothing has been.

        `make_irp` makes a request of the caller's and returns what `dispatched_write` makes of it.
        """
        fast = file.fast_io
        if fast is None or not file.granted_access & FILE_WRITE_DATA:
            return None
        device = file.device_object
        try:
            return fast.write(device, file, data, make_irp)
        except NtStatusError:
            raise
        except BaseException as error:
            raise self.fault(device, error, "its fast write routine") from error

    def dispatched_write(self, request: IoRequest, data: bytes | bytearray | memoryview) -> Irp:
        """A write's IRP as the driver of the device that was opened would see it in its dispatch routine."""
        irp, device = self._irp_for(request)
        irp.flags = IRP_WRITE_OPERATION
        irp.system_buffer = bytearray(data)
        location = irp.stack[-1]
        location.major_function = IrpMajor.WRITE
        location.parameters = WriteParameters(len(data))
        location.file_object = request.file
        location.device_object = device
        irp.step(IrpEvent.CALL)
        irp.current_location -= 1
        irp.thread = self.ke.current()
        self._register(irp, request.file)
        if self.ke.local.at_end is None:
            self.watch_thread()
        return irp

    # -- requests ----------------------------------------------------------------------------------------------------

    def submit_read(self, request: RequestT, length: int, *, minimum: int = 0, terminator: bytes = b"") -> RequestT:
        """NtReadFile. `request.capacity` must be `length`."""
        file = request.file
        if not file.granted_access & FILE_READ_DATA:
            raise NtStatusError(STATUS_ACCESS_DENIED, f"{file!r} was not opened for reading")
        irp, device = self._irp_for(request)
        irp.flags = IRP_READ_OPERATION | IRP_INPUT_OPERATION
        flags = device.flags
        if flags & DO_BUFFERED_IO:
            irp.system_buffer = bytearray(length)
        elif flags & DO_DIRECT_IO:
            irp.user_buffer = bytearray(length)
            irp.mdl_address = mdl_of(irp.user_buffer)
        else:
            irp.user_buffer = bytearray(length)
        location = irp.stack[-1]
        location.major_function = IrpMajor.READ
        location.parameters = ReadParameters(length, 0, 0, minimum, terminator)
        location.file_object = file
        self._dispatch(device, irp, request)
        return request

    def submit_write(self, request: RequestT, data: bytes | bytearray | memoryview) -> RequestT:
        """NtWriteFile. With buffered I/O the data is copied; else the driver reads the caller's memory."""
        file = request.file
        if not file.granted_access & FILE_WRITE_DATA:
            raise NtStatusError(STATUS_ACCESS_DENIED, f"{file!r} was not opened for writing")
        irp, device = self._irp_for(request)
        irp.flags = IRP_WRITE_OPERATION
        flags = device.flags
        if flags & DO_BUFFERED_IO:
            irp.system_buffer = bytearray(data)
        elif flags & DO_DIRECT_IO:
            irp.mdl_address = mdl_of(data)
        else:
            irp.user_buffer = data
        location = irp.stack[-1]
        location.major_function = IrpMajor.WRITE
        location.parameters = WriteParameters(len(data))
        location.file_object = file
        self._dispatch(device, irp, request)
        return request

    def submit_ioctl(
        self,
        request: RequestT,
        code: int,
        data: bytes | bytearray | memoryview = b"",
        *,
        second: bytearray | memoryview | None = None,
        internal: bool = False,
    ) -> RequestT:
        """NtDeviceIoControlFile; the output buffer is `second`, or `request.capacity` new bytes.

        The access that the code demands is checked here, before any driver sees it. METHOD_BUFFERED: one system buffer for
        both directions. METHOD_IN_DIRECT and METHOD_OUT_DIRECT: input in the system buffer, the second buffer as an MDL.
        METHOD_NEITHER: both as they are.
        """
        file, length = request.file, request.capacity
        wanted = ioctl_access(code)
        if wanted & ~file.granted_access:
            raise NtStatusError(
                STATUS_ACCESS_DENIED, f"{file!r} lacks the access that control code 0x{code:08X} demands"
            )
        irp, device = self._irp_for(request)
        method = ioctl_method(code)
        type3: bytes | bytearray | memoryview | None = None
        if method == METHOD_BUFFERED:
            irp.flags = IRP_BUFFERED_IO | IRP_INPUT_OPERATION
            irp.system_buffer = bytearray(max(len(data), length))
            irp.system_buffer[: len(data)] = data
        elif method == METHOD_NEITHER:
            type3 = data
            irp.flags = IRP_INPUT_OPERATION
            irp.user_buffer = bytearray(length) if second is None else second
        else:
            irp.system_buffer = bytearray(data)
            irp.user_buffer = bytearray(length) if second is None else second
            irp.mdl_address = mdl_of(irp.user_buffer, writable=method != METHOD_IN_DIRECT)
            irp.flags = 0 if method == METHOD_IN_DIRECT else IRP_INPUT_OPERATION
        location = irp.stack[-1]
        location.major_function = IrpMajor.INTERNAL_DEVICE_CONTROL if internal else IrpMajor.DEVICE_CONTROL
        location.parameters = DeviceIoControlParameters(length, len(data), code, type3)
        location.file_object = file
        self._dispatch(device, irp, request)
        return request

    def submit_simple(self, request: RequestT, major: IrpMajor) -> RequestT:
        """A request without parameters or data: NtFlushBuffersFile."""
        irp, device = self._irp_for(request)
        location = irp.stack[-1]
        location.major_function = major
        location.file_object = request.file
        self._dispatch(device, irp, request)
        return request

    def _irp_for(self, request: IoRequest) -> tuple[Irp, DeviceObject[Any]]:
        file = request.file
        if file.flags & FO_CLEANUP_COMPLETE:
            raise NtStatusError(STATUS_FILE_CLOSED, f"{file!r} has been closed")
        device = file.device_object
        if self.closed is not None or device.device_stack.fault is not None:
            self.refuse_if_dead(device)
        while device.attached_device is not None:
            device = device.attached_device
        irp = self.irp_class(next(self._irp_ids), device.stack_size, self.ke.clock.now())
        irp.user_request = request
        irp.file_object = file
        request.irp = irp
        return irp, device

    @staticmethod
    def _register(irp: Irp, file: FileObject) -> None:
        file.irps[irp.id] = irp
        if file.flags & FO_CLEANUP_COMPLETE:
            # The handle was closed after the first look. Whoever closes it may have missed this IRP in its list, or may have
            # found it there and wait for its end already: both are served by ending it here.
            irp.user_request.settle(STATUS_FILE_CLOSED, 0)
            file.irps.pop(irp.id, None)
            raise NtStatusError(STATUS_FILE_CLOSED, f"{file!r} has been closed")

    def _dispatch(self, device: DeviceObject[Any], irp: Irp, request: IoRequest) -> None:
        """Send a request's IRP down, and look at how the dispatch routine behaved."""
        irp.thread = processor = self.ke.current()
        self._register(irp, request.file)
        irql = processor.irql
        try:
            status = self.call_driver(device, irp)
        except BaseException as error:
            processor.irql = irql
            raise self._blame(irp, request, error) from error
        if status.__class__ is not NtStatus:
            guilty = irp.stack[min(irp.current_location, irp.stack_count) - 1].device_object or device
            what = f"{guilty!r} returned {status!r} from its dispatch routine: return an NtStatus"
            raise self._blame(irp, request, DriverFault(what))
        if processor.irql != irql:
            was, processor.irql = processor.irql, irql
            raise self._blame(
                irp, request, BugCheck(0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", 0x05, irql, was, hint="IRQL leak")
            )
        if device.device_stack.fault is not None and request.done and not request.disowned:
            # A driver of this stack broke a rule just now, after it had completed the request, and has swallowed the bug
            # check. This call hears of it all the same. (A request that was not done has been ended with the stack.)
            fault = device.device_stack.fault.again()
            fault.irp_id, fault.partial = fault.irp_id or irp.id, request.data
            raise fault
        if status == STATUS_PENDING:
            if self.ke.local.at_end is None:
                self.watch_thread()
            pin = device.device_stack.steering
            if pin is not None and pin.parked:
                self.ke.machine.unpark(pin)
        elif irp.state in (IrpState.DISPATCHED, IrpState.PENDING):
            raise self._blame(
                irp,
                request,
                DriverFault(f"{request.holder()} returned {status.name} without completing {irp!r}", irp_id=irp.id),
            )

    def _blame(self, irp: Irp, request: IoRequest, error: BaseException) -> HilbridgeError:
        """A dispatch routine raised or broke a rule: end the request, mark the stack, tell the caller."""
        location = irp.stack[min(irp.current_location, irp.stack_count) - 1]
        device = location.device_object or request.file.device_object
        fault = self.fault(device, error, f"its dispatch routine for {IrpMajor(location.major_function).name}")
        fault.irp_id = fault.irp_id or irp.id
        request.disown(fault.status)
        return fault

    def send_and_wait(
        self,
        device: DeviceObject[Any],
        file: FileObject,
        major: IrpMajor,
        parameters: Parameters,
        timeout: float = 30.0,
    ) -> tuple[NtStatus, int]:
        """Send a request of the I/O manager's own (CREATE, CLEANUP, CLOSE) and wait for its end, with a bound."""
        event = Kevent()
        irp = self.build_synchronous_fsd_request(major, device, event, parameters=parameters)
        irp.file_object = file
        irp.next_stack_location.file_object = file
        return self._send(device, irp, event, timeout, f"IRP_MJ_{major.name}")

    def _send(
        self, device: DeviceObject[Any], irp: Irp, event: Kevent, timeout: float, what: str
    ) -> tuple[NtStatus, int]:
        processor = self.ke.current()
        irql = processor.irql
        irp.built = _OWN
        holder = device
        wrong: BaseException | None = None
        try:
            status = self.call_driver(device, irp)
            holder = irp.stack[min(irp.current_location, irp.stack_count) - 1].device_object or device
            if status.__class__ is not NtStatus:
                wrong = DriverFault(f"{holder!r} returned {status!r} for {what}: return an NtStatus", irp_id=irp.id)
            elif processor.irql != irql:
                wrong = BugCheck(
                    0xC9, "DRIVER_VERIFIER_IOMANAGER_VIOLATION", 0x05, irql, processor.irql, holder, hint="IRQL leak"
                )
            elif status == STATUS_PENDING and not self.ke.wait_for_single_object(event, timeout):
                wrong = DriverFault(f"{holder!r} did not complete {what} within {timeout:g} s", irp_id=irp.id)
            elif irp.state in (IrpState.DISPATCHED, IrpState.PENDING):
                wrong = DriverFault(
                    f"{holder!r} returned {status.name} for {what} without completing it", irp_id=irp.id
                )
        except Exception as error:  # noqa: BLE001 - latched below
            holder = irp.stack[min(irp.current_location, irp.stack_count) - 1].device_object or device
            wrong = error
        if wrong is not None:
            processor.irql = irql
            self._threaded.pop(irp.id, None)
            raise self.fault(holder, wrong, f"its dispatch routine for {what}") from wrong
        if self._unload_later:
            self.unload_what_waits()
        final = irp.io_status.status
        return final if isinstance(final, NtStatus) else NtStatus(final), irp.io_status.information

    # -- looking -----------------------------------------------------------------------------------------------------

    def fail_stack(self, device: DeviceObject[Any]) -> None:
        """A driver of this stack is broken: end every request that its files have outstanding, now.

        With STATUS_DRIVER_PROCESS_TERMINATED, as in UMDF, when the process that hosts a driver ends.
        """
        for file in list(device.device_stack.files):
            file.fast_io = None
            for irp in list(file.irps.values()):
                request: IoRequest = irp.user_request
                request.disown(STATUS_DRIVER_PROCESS_TERMINATED)


LOOKS_AFTERWARDS.add(FileRoutines._send.__code__)


def access_from_mode(mode: str) -> int:
    """``"r"``, ``"w"`` or ``"rw"`` as an access mask."""
    masks = {"r": FILE_READ_DATA, "w": FILE_WRITE_DATA, "rw": FILE_READ_DATA | FILE_WRITE_DATA}
    if mode not in masks:
        raise UsageFault(f"access {mode!r}: use 'r', 'w' or 'rw'")
    return masks[mode]
