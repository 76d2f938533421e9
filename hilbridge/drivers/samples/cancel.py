r"""How do I write a driver whose device has to be polled? With a system thread, and a cancel-safe queue.

After Microsoft's sample ``general/cancel``. A read of ``\Device\CANCELSAMP`` waits in a cancel-safe queue. A thread of the
driver asks the device again and again, and gives the oldest read what the device says: a ULONG, which counts its answers.

The device is made up: it has something to say once in `POLL_SECONDS`. The thread sleeps on a semaphore. A file has a remove
lock of its own: CLEANUP lets nobody queue another read, then ends those that there are.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.systhread import SystemThread
from hilbridge.kernel.wait import WaitType
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
    NtStatus,
)

NAME = r"\Device\CANCELSAMP"
LINK = r"\DosDevices\CancelSamp"
ANSWER = struct.Struct("<I")
POLL_SECONDS = 0.5


class Extension:
    """What the driver remembers of its device."""

    def __init__(self) -> None:
        self.lower: DeviceObject[Any]
        self.queue: CancelSafeQueue
        self.queued = Ksemaphore()
        """At least as high as the queue is long: a cancelled read leaves its count behind, and the thread finds nothing."""
        self.stop = Kevent()
        """The device is gone. Set under the queue's lock: who holds that, and finds it not set, may still queue."""
        self.thread: SystemThread | None = None
        self.answered = self.ready_at = 0


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None  # each device has ended its thread when it went
    driver.major_function[IrpMajor.CREATE] = create
    driver.major_function[IrpMajor.READ] = read
    driver.major_function[IrpMajor.CLEANUP] = cleanup
    driver.major_function[IrpMajor.CLOSE] = lambda device, irp: complete(device, irp, STATUS_SUCCESS)
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

    def complete_canceled(irp: Irp) -> None:
        complete(device, irp, STATUS_CANCELLED)

    extension.queue = CancelSafeQueue(driver.io, driver.ke.spin_lock(), complete_canceled)
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


# -- requests ----------------------------------------------------------------------------------------------------------


def create(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine: each file has a remove lock of its own."""
    file = irp.current_stack_location.file_object
    assert file is not None
    file.fs_context = RemoveLock(device.ke, device)
    return complete(device, irp, STATUS_SUCCESS)


def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine: queue it, and say so to the thread."""
    extension, location = device.extension, irp.current_stack_location
    assert location.file_object is not None
    remove_lock: RemoveLock = location.file_object.fs_context
    if not (status := remove_lock.acquire(irp)).is_success:
        return complete(device, irp, status)
    if location.parameters.read.length < ANSWER.size:
        remove_lock.release(irp)
        return complete(device, irp, STATUS_BUFFER_TOO_SMALL)
    device.ke.enter_critical_region()  # suspended between the two, the thread that reads would leave its request unserved
    with extension.queue.lock:
        gone = extension.stop.signaled
        queued = not gone and extension.queue.insert_locked(irp)
    if queued:
        device.ke.release_semaphore(extension.queued)
    device.ke.leave_critical_region()
    remove_lock.release(irp)  # from here on the IRP is not ours; as a tag it still serves
    if gone:
        return complete(device, irp, STATUS_DELETE_PENDING)
    if not queued:  # it had been cancelled before it came
        complete(device, irp, STATUS_CANCELLED)
    return STATUS_PENDING


def cleanup(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine: the last handle of a file is closed."""
    file = irp.current_stack_location.file_object
    assert file is not None
    remove_lock: RemoveLock = file.fs_context
    remove_lock.acquire(irp)
    remove_lock.release_and_wait(irp)  # who is in `read` now comes out, and has queued; nobody comes after him
    end_reads(device, file, STATUS_CANCELLED)
    return complete(device, irp, STATUS_SUCCESS)


def end_reads(device: DeviceObject[Extension], file: object, status: NtStatus) -> None:
    """End what waits for this file, or, with None, for any."""
    queue = device.extension.queue
    with queue.lock:
        irps = [
            irp for irp in queue if file in (None, irp.current_stack_location.file_object) and queue.remove_locked(irp)
        ]
    for irp in irps:  # never complete a request under a lock of your own
        complete(device, irp, status)


# -- the thread --------------------------------------------------------------------------------------------------------


def serve(device: DeviceObject[Extension]) -> None:
    """The system thread's routine, at PASSIVE_LEVEL: one round for each read that was queued."""
    extension, ke = device.extension, device.ke
    while ke.wait_for_multiple_objects((extension.stop, extension.queued), WaitType.ANY, None) == 1:
        while ke.clock.now() < extension.ready_at:  # a real driver asks its hardware: "busy?"
            if ke.wait_for_single_object(extension.stop, POLL_SECONDS):
                return
        # Only now: what has been taken out of the queue cannot be cancelled any more.
        with extension.queue.lock:
            irp = extension.queue.remove_next_locked()
        if irp is None:
            continue  # cancelled meanwhile; the answer is for the next one
        assert irp.system_buffer is not None
        ANSWER.pack_into(irp.system_buffer, 0, extension.answered)
        extension.answered += 1
        extension.ready_at = ke.clock.now() + round(POLL_SECONDS * 1e9)
        complete(device, irp, STATUS_SUCCESS, ANSWER.size)


# -- plug and play -----------------------------------------------------------------------------------------------------


def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """Dispatch routine. The thread lives from the first START_DEVICE until the device goes, also while it is stopped."""
    extension, minor = device.extension, irp.current_stack_location.minor_function
    if minor == PnpMinor.START_DEVICE:
        status = device.io.forward_and_wait(extension.lower, irp)
        if status.is_success and extension.thread is None:
            extension.thread = device.ke.create_system_thread(device, serve, device, name="poll")
        return complete(device, irp, status)
    if minor in (PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
        with extension.queue.lock:
            device.ke.set_event(extension.stop)
        if extension.thread is not None:
            device.ke.wait_for_single_object(extension.thread, None)  # it looks at `stop` wherever it waits
        end_reads(device, None, STATUS_DELETE_PENDING)
    if minor in CHANGES_STATE:
        irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(extension.lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(extension.lower)
        device.io.delete_symbolic_link(LINK)
        device.io.delete_device(device)
    return status
