r"""How do I get at the buffers of an I/O control? That depends on the method, the last two bits of its code.

After Microsoft's sample ``general/ioctl/wdm``. Each control says something to the driver, and asks it for `MESSAGE`:

* METHOD_BUFFERED: one system buffer for both directions. Read what came before you write the answer.
* METHOD_IN_DIRECT: what came is in the system buffer, and more of it in the MDL, which is only to be read: no answer.
* METHOD_OUT_DIRECT: what came is in the system buffer, the answer goes into the MDL.
* METHOD_NEITHER: the caller's own memory, twice. Nobody has looked at it: the driver describes, probes and locks it itself,
  in the caller's context, and gives it back on every way out. `locked` does that. (Who forgets it: bug check 0xCB.)

An MDL that comes with the request is a `memoryview`. One that the driver makes has one when it is locked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hilbridge.model.codes import DO_DEVICE_INITIALIZING, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, METHOD_OUT_DIRECT, ctl_code
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import DeviceIoControlParameters
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import (
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    NtStatus,
)

NAME = r"\Device\SIOCTL"
LINK = r"\DosDevices\IoctlTest"
SIOCTL_TYPE = 40000  # 32768 and up are for everybody's own use, as function numbers from 0x800 on
IOCTL_IN_DIRECT = ctl_code(SIOCTL_TYPE, 0x900, METHOD_IN_DIRECT, 0)
IOCTL_OUT_DIRECT = ctl_code(SIOCTL_TYPE, 0x901, METHOD_OUT_DIRECT, 0)
IOCTL_BUFFERED = ctl_code(SIOCTL_TYPE, 0x902, METHOD_BUFFERED, 0)
IOCTL_NEITHER = ctl_code(SIOCTL_TYPE, 0x903, METHOD_NEITHER, 0)
MESSAGE = b"this string is from the driver\0"


class Extension:
    """What the driver remembers of its device."""

    def __init__(self) -> None:
        self.lower: DeviceObject[Any]
        self.received: dict[int, tuple[bytes, ...]] = {}
        """Control code -> what came in with the last one: from the input buffer, and with IN_DIRECT from the MDL as well."""


Device = DeviceObject[Extension]
Answer = tuple[tuple[bytes, ...], int]


def driver_entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
    """Fill in the dispatch table."""
    driver.add_device = add_device
    driver.unload = lambda _driver: None
    for major in (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE):
        driver.major_function[major] = lambda device, irp: complete(device, irp, STATUS_SUCCESS)
    driver.major_function[IrpMajor.DEVICE_CONTROL] = device_control
    driver.major_function[IrpMajor.PNP] = pnp
    return STATUS_SUCCESS


def add_device(driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
    """AddDevice. What has been made is taken back if the next step fails: nobody else would do it."""
    device = driver.io.create_device(driver, Extension(), NAME, SIOCTL_TYPE)
    try:
        driver.io.create_symbolic_link(LINK, NAME)
    except NtStatusError as error:
        driver.io.delete_device(device)
        return error.status
    device.extension.lower = driver.io.attach_device_to_device_stack(device, physical)
    device.flags &= ~DO_DEVICE_INITIALIZING  # neither DO_BUFFERED_IO nor DO_DIRECT_IO: they are about reads and writes
    return STATUS_SUCCESS


def complete(device: DeviceObject[Any], irp: Irp, status: NtStatus, information: int = 0) -> NtStatus:
    """Complete, and return the same status."""
    irp.io_status.status = status
    irp.io_status.information = information
    device.io.complete_request(irp)
    return status


def device_control(device: Device, irp: Irp) -> NtStatus:
    """Dispatch routine of IRP_MJ_DEVICE_CONTROL."""
    control = irp.current_stack_location.parameters.device_io_control
    if not control.input_buffer_length or not control.output_buffer_length:
        return complete(device, irp, STATUS_INVALID_PARAMETER)
    serve = METHODS.get(control.io_control_code)
    if serve is None:
        return complete(device, irp, STATUS_INVALID_DEVICE_REQUEST)
    try:
        received, information = serve(device, irp, control)
    except NtStatusError as error:  # C's __except around MmProbeAndLockPages; or there was no MDL to be had
        return complete(device, irp, error.status)
    device.extension.received[control.io_control_code] = received
    return complete(device, irp, STATUS_SUCCESS, information)


# -- the methods: each returns what came in, and Information -------------------------------------------------------------


def answer(buffer: bytearray | memoryview, length: int) -> int:
    """Write the message, or as much of it as there is room for."""
    count = min(length, len(MESSAGE))
    buffer[:count] = MESSAGE[:count]
    return count


def buffered(_device: Device, irp: Irp, control: DeviceIoControlParameters) -> Answer:
    """The system buffer is as long as the longer one of the caller's: mind which length is which."""
    assert irp.system_buffer is not None
    received = bytes(irp.system_buffer[: control.input_buffer_length])
    return (received,), answer(irp.system_buffer, control.output_buffer_length)


def in_direct(_device: Device, irp: Irp, _control: DeviceIoControlParameters) -> Answer:
    """The "output" buffer is one more for input. Information says how much of it was taken: MmGetMdlByteCount."""
    assert irp.system_buffer is not None
    assert irp.mdl_address is not None
    return (bytes(irp.system_buffer), bytes(irp.mdl_address)), len(irp.mdl_address)


def out_direct(_device: Device, irp: Irp, control: DeviceIoControlParameters) -> Answer:
    """What is written into the MDL is in the caller's memory at once."""
    assert irp.system_buffer is not None
    assert irp.mdl_address is not None
    return (bytes(irp.system_buffer),), answer(irp.mdl_address, control.output_buffer_length)


def neither(device: Device, irp: Irp, control: DeviceIoControlParameters) -> Answer:
    """One after the other: each is given back before the next is taken, also if something is wrong with it."""
    with locked(device, control.type3_input_buffer, write=False) as view:
        received = bytes(view)
    with locked(device, irp.user_buffer, write=True) as view:
        return (received,), answer(view, control.output_buffer_length)


METHODS: dict[int, Callable[[Device, Irp, DeviceIoControlParameters], Answer]] = {
    IOCTL_IN_DIRECT: in_direct,
    IOCTL_OUT_DIRECT: out_direct,
    IOCTL_BUFFERED: buffered,
    IOCTL_NEITHER: neither,
}


@contextmanager
def locked(device: Device, buffer: bytes | bytearray | memoryview | None, *, write: bool) -> Iterator[memoryview]:
    """IoAllocateMdl, MmProbeAndLockPages, MmGetSystemAddressForMdlSafe; at the end MmUnlockPages, IoFreeMdl.

    Raises `NtStatusError` STATUS_ACCESS_VIOLATION for what is no memory, or is to be written and cannot be.
    """
    mdl = device.io.allocate_mdl(buffer)
    try:
        mdl.probe_and_lock_pages(write=write)
        try:
            yield mdl.system_address()
        finally:
            mdl.unlock_pages()
    finally:
        device.io.free_mdl(mdl)


def pnp(device: Device, irp: Irp) -> NtStatus:
    """Dispatch routine. No request is ever pending, and there is no hardware: nothing stands against any change."""
    lower, minor = device.extension.lower, irp.current_stack_location.minor_function
    if minor in CHANGES_STATE:
        irp.io_status.status = STATUS_SUCCESS
    irp.skip_current_stack_location()
    status = device.io.call_driver(lower, irp)
    if minor == PnpMinor.REMOVE_DEVICE:
        device.io.detach_device(lower)
        device.io.delete_symbolic_link(LINK)
        device.io.delete_device(device)
    return status
