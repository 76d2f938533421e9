r"""How do I give a device one request at a time, while the others wait and can be cancelled? With a CSQ that may refuse.

After the second variant of Microsoft's sample ``general/cancel``. Reads of ``\Device\CANCELSTARTIO`` are answered one after
another; each is a ULONG, which counts the answers. A read that finds the device idle is not queued: `Reads.insert` refuses
it, and its dispatch routine starts the device with it. Who has ended a read takes the next one out of the queue.

The device is made up: an answer takes it `POLL_SECONDS`. It has no interrupt: a timer's DPC asks whether it is ready. (With an
interrupt its DPC would do the same.) The read that the device works on cannot be cancelled. It ends soon; and CLEANUP, which
must not wait for it, takes it away.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from hilbridge.iomgr.csq import IoCsq
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)

NAME = r"\Device\CANCELSTARTIO"
LINK = r"\DosDevices\CancelStartIo"
ANSWER = struct.Struct("<I")
POLL_SECONDS = 0.5
ALL = object()
"""As peek context: whatever waits, to be ended. (A file: what waits for that; None: the next one for the device.)"""


class Reads(IoCsq):
    """The reads: one that the device works on, and those that wait. All of it under `lock`."""

    def __init__(self, device: DeviceObject[Any]) -> None:
        super().__init__(device.io)
        self.device = device
        self.lock = device.ke.spin_lock()
        self.waiting: list[Irp] = []
        self.busy = False
        """The device is taken: by `current`, or by who is about to start it."""
        self.current: Irp | None = None
        """What the device works on. Whoever takes it from here ends it, and starts the next one."""
        self.gone = False
        """The device is not started any more."""

    def insert(self, irp: Irp, _context: object) -> NtStatus:
        """CSQ_INSERT_IRP_EX: an idle device takes it at once, so it is not queued."""
        if not self.busy:
            self.busy = True
            return STATUS_UNSUCCESSFUL
        self.waiting.append(irp)
        return STATUS_SUCCESS

    def remove(self, irp: Irp) -> None:
        """CSQ_REMOVE_IRP."""
        self.waiting.remove(irp)

    def peek_next(self, irp: Irp | None, context: object) -> Irp | None:
        """CSQ_PEEK_NEXT_IRP. With None as context the device is given to what is found, or set free, in the same step."""
        behind = self.waiting if irp is None else self.waiting[self.waiting.index(irp) + 1 :]
        found = (one for one in behind if context in (None, ALL, one.current_stack_location.file_object))
        following = next(found, None)
        if context is None:
            self.busy = following is not None
        return following

    def acquire_lock(self) -> None:
        """CSQ_ACQUIRE_LOCK."""
        self.lock.acquire()

    def release_lock(self) -> None:
        """CSQ_RELEASE_LOCK."""
        self.lock.release()

    def complete_canceled(self, irp: Irp) -> None:
        """CSQ_COMPLETE_CANCELED_IRP."""
        complete(self.device, irp, STATUS_CANCELLED)


class Extension:
    """What the driver remembers of its device. The lock of `reads` guards the rest, too."""

    def __init__(self) -> None:
        self.lower: DeviceObject[Any]
        self.reads: Reads
        self.timer = Ktimer()
        self.dpc: Kdpc
        self.answered = self.ready_at = 0


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None  # each device has cancelled its timer when it went
    for major in (IrpMajor.CREATE, IrpMajor.CLOSE):
        driver.major_function[major] = lambda device, irp: complete(device, irp, STATUS_SUCCESS)
    driver.major_function[IrpMajor.READ] = read
    driver.major_function[IrpMajor.CLEANUP] = cleanup
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice. What has been made is taken back if the next step fails: nobody else would do it."""
    extension = Extension()
    device = driver.io.create_device(driver, extension, NAME)
    try:
        driver.io.create_symbolic_link(LINK, NAME)
    except NtStatusError as error:
        driver.io.delete_device(device)
        return error.status
    extension.reads = Reads(device)
    extension.dpc = Kdpc(poll, None, device)
    extension.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags |= DO_BUFFERED_IO
    device.flags &= ~DO_DEVICE_INITIALIZING
    return STATUS_SUCCESS


def complete(device: DeviceObject[Any], irp: Irp, status: NtStatus, information: int = 0) -> NtStatus:
    """Complete, and return the same status."""
    irp.io_status.status = status
    irp.io_status.information = information
    device.io.complete_request(irp)
    return status


def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine: queue it, or start the device with it."""
    if irp.current_stack_location.parameters.read.length < ANSWER.size:
        return complete(device, irp, STATUS_BUFFER_TOO_SMALL)
    if device.extension.reads.insert_irp_ex(irp) == STATUS_UNSUCCESSFUL:
        irp.mark_pending()  # refused, so the queue has not done it: it has the device, and nobody else knows of it yet
        initiate_io(device, irp)
    return STATUS_PENDING


def initiate_io(device: DeviceObject[Extension], irp: Irp | None) -> None:
    """Start the device with this read, which has been given the device. If it may not be any more, with the next one."""
    extension, reads = device.extension, device.extension.reads
    while irp is not None:
        file = irp.current_stack_location.file_object
        with reads.lock:
            closed = file is not None and file.fs_context
            if not reads.gone and not closed:
                reads.current = irp
                extension.ready_at = device.ke.clock.now() + round(POLL_SECONDS * 1e9)
                device.ke.set_timer(extension.timer, relative_ms(POLL_SECONDS * 1000), dpc=extension.dpc)
                return
        complete(device, irp, STATUS_CANCELLED if closed else STATUS_DELETE_PENDING)
        irp = reads.remove_next_irp()


def poll(dpc: Kdpc, _context: object, _argument1: object, _argument2: object) -> None:
    """The timer's DPC, at DISPATCH_LEVEL."""
    device: DeviceObject[Extension] | None = dpc.device
    assert device is not None
    extension, reads = device.extension, device.extension.reads
    with reads.lock:
        irp = reads.current
        if irp is None:
            return  # taken away meanwhile
        if device.ke.clock.now() < extension.ready_at:  # a real driver asks its hardware: "busy?"
            device.ke.set_timer(extension.timer, relative_ms(POLL_SECONDS * 1000), dpc=dpc)
            return
        reads.current = None
        number = extension.answered
        extension.answered += 1
    assert irp.system_buffer is not None
    ANSWER.pack_into(irp.system_buffer, 0, number)
    complete(device, irp, STATUS_SUCCESS, ANSWER.size)
    initiate_io(device, reads.remove_next_irp())


def end_reads(device: DeviceObject[Extension], what: object, status: NtStatus) -> None:
    """End those of a file, or ALL: also the one that the device works on, which then gets the next one."""
    reads = device.extension.reads
    with reads.lock:
        current = reads.current
        if current is not None and what not in (ALL, current.current_stack_location.file_object):
            current = None
        if current is not None:
            reads.current = None
    if current is not None:  # never complete a request under a lock of your own
        complete(device, current, status)
    while (irp := reads.remove_next_irp(what)) is not None:
        complete(device, irp, status)
    if current is not None:
        initiate_io(device, reads.remove_next_irp())


def cleanup(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine: the last handle of a file is closed."""
    file = irp.current_stack_location.file_object
    assert file is not None
    with device.extension.reads.lock:
        file.fs_context = True  # from now on the device is not started with a read of it
    end_reads(device, file, STATUS_CANCELLED)
    return complete(device, irp, STATUS_SUCCESS)


def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine. What an answer needs is a clock: the device may be stopped, and goes on all the same."""
    extension, minor = device.extension, irp.current_stack_location.minor_function
    if minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
        with extension.reads.lock:
            extension.reads.gone = True  # nor is the timer set any more
        end_reads(device, ALL, STATUS_DELETE_PENDING)
        device.ke.cancel_timer(extension.timer)
    if minor in CHANGES_STATE:
        irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(extension.lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(extension.lower)
        device.io.delete_symbolic_link(LINK)
        device.io.delete_device(device)
    return status
