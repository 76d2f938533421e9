"""What the tests of the model share: tiny drivers, and ways to put them into a bridge.

A `TinyDriver` is a whole driver made of a few functions. What a test does not say it does as a well-behaved driver would:
CREATE, CLEANUP and CLOSE succeed, Plug and Play requests are forwarded, REMOVE takes the device out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import pytest

from hilbridge import Bridge, BugCheck
from hilbridge.iomgr.csq import CancelSafeQueue
from hilbridge.iomgr.manager import IoManager
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.manual import ManualMachine
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DEVICE_INITIALIZING,
    FILE_READ_DATA,
    FILE_WRITE_DATA,
    IrpMajor,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.file import FileObject
from hilbridge.model.hardware import CAUSE_GONE, CAUSE_RX, Line
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus

PATIENCE = 10.0
"""Seconds that a test waits for another thread or process before it fails."""

PNP_AT_START = 4
"""Plug and Play requests that a stack gets when it is started: START, then its state, capabilities and bus relations."""

READ_WRITE = FILE_READ_DATA | FILE_WRITE_DATA

T = TypeVar("T")

Dispatch = Callable[[DeviceObject[Any], Irp], NtStatus]


class Extension:
    """DEVICE_EXTENSION of every tiny driver. `notes` is for whatever a test wants to see afterwards."""

    def __init__(self) -> None:
        self.lower: DeviceObject[Any]
        self.queue: CancelSafeQueue
        self.line: Line | None = None
        self.interrupt: Interrupt | None = None
        self.dpc: Kdpc
        self.received = bytearray()
        self.held: list[Irp] = []
        self.notes: list[Any] = []


class TinyDriver(ModuleType):
    """A driver, in the form in which `Bridge.plug` takes one: a module with a ``driver_entry``."""

    def __init__(
        self,
        name: str,
        dispatch: Mapping[IrpMajor, Any] | None = None,
        *,
        named: bool = True,
        flags: int = DO_BUFFERED_IO,
        exclusive: bool = False,
        on_start: Callable[[DeviceObject[Extension], Any], None] | None = None,
        start_io: Callable[[DeviceObject[Extension], Irp], None] | None = None,
    ) -> None:
        super().__init__(name)
        self.dispatch = dict(dispatch or {})
        self.named = named
        self.flags = flags
        self.exclusive = exclusive
        self.on_start = on_start
        self.start_io = start_io
        self.devices: list[DeviceObject[Extension]] = []
        """Every device that AddDevice has made, oldest first."""

    @property
    def device(self) -> DeviceObject[Extension]:
        """The device that was made last."""
        return self.devices[-1]

    @property
    def notes(self) -> list[Any]:
        return self.device.extension.notes

    def driver_entry(self, driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
        driver.add_device = self.add_device
        driver.unload = lambda _driver: None
        driver.driver_start_io = self.start_io
        for major in (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE):
            driver.major_function[major] = succeed
        driver.major_function[IrpMajor.PNP] = self.pnp
        for major, routine in self.dispatch.items():
            driver.major_function[major] = routine
        return STATUS_SUCCESS

    def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        extension = Extension()
        name = f"\\Device\\{self.__name__}{len(self.devices)}" if self.named else None
        device = driver.io.create_device(driver, extension, name, exclusive=self.exclusive)
        extension.lower = driver.io.attach_device_to_device_stack(device, physical)
        extension.queue = CancelSafeQueue(driver.io, driver.ke.spin_lock(), complete_cancelled)
        device.flags |= self.flags
        device.flags &= ~DO_DEVICE_INITIALIZING
        self.devices.append(device)
        return STATUS_SUCCESS

    def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        minor, extension = location.minor_function, device.extension
        if minor == PnpMinor.START_DEVICE:
            status = device.io.forward_and_wait(extension.lower, irp)
            if status.is_success and self.on_start is not None:
                self.on_start(device, location.parameters.start_device.allocated_resources)
            return complete(device, irp, status)
        if minor in (PnpMinor.STOP_DEVICE, PnpMinor.SURPRISE_REMOVAL, PnpMinor.REMOVE_DEVICE):
            irp.io_status.status = STATUS_SUCCESS
            interrupt, extension.interrupt = extension.interrupt, None
            if interrupt is not None:
                device.io.disconnect_interrupt(interrupt)
        irp.skip_current_stack_location()
        status = device.io.call_driver(extension.lower, irp)
        if minor == PnpMinor.REMOVE_DEVICE:
            device.io.detach_device(extension.lower)
            device.io.delete_device(device)
        return status


# -- dispatch routines ---------------------------------------------------------------------------------------------------


def complete(device: DeviceObject[Any], irp: Irp, status: NtStatus = STATUS_SUCCESS, information: int = 0) -> NtStatus:
    """The first disposition: complete now, and return the same status."""
    irp.io_status.status = status
    irp.io_status.information = information
    device.io.complete_request(irp)
    return status


def succeed(device: DeviceObject[Any], irp: Irp) -> NtStatus:
    return complete(device, irp)


def pass_down(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """The third disposition, without a look back."""
    irp.skip_current_stack_location()
    return device.io.call_driver(device.extension.lower, irp)


def pend(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """The second disposition: queued cancel-safely in ``extension.queue``."""
    device.extension.queue.insert(irp)
    return STATUS_PENDING


def hold(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """As `pend`, but without a cancel routine: the driver that forgets its requests. They are in ``extension.held``."""
    irp.mark_pending()
    device.extension.held.append(irp)
    return STATUS_PENDING


def complete_cancelled(irp: Irp) -> None:
    device = irp.current_stack_location.device_object
    assert device is not None
    complete(device, irp, STATUS_CANCELLED)


def answer(data: bytes) -> Dispatch:
    """A READ or DEVICE_CONTROL routine that answers with `data` in the system buffer."""

    def routine(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        assert irp.system_buffer is not None
        irp.system_buffer[: len(data)] = data
        return complete(device, irp, STATUS_SUCCESS, len(data))

    return routine


def raises(error: BaseException) -> Callable[..., Any]:
    """A routine of any kind that raises."""

    def routine(*_arguments: Any) -> Any:
        raise error

    return routine


# -- interrupt-driven devices --------------------------------------------------------------------------------------------


def uart(name: str = "uart", **options: Any) -> TinyDriver:
    """An interrupt-driven driver in the smallest form: the ISR takes bytes, the DPC ends the oldest read with them."""

    def on_start(device: DeviceObject[Extension], resources: Any) -> None:
        extension = device.extension
        extension.line = resources.line
        extension.dpc = Kdpc(uart_dpc, None, device)
        extension.interrupt = device.io.connect_interrupt(device, uart_isr, device, resources.vector)
        resources.line.enable_interrupts(CAUSE_RX)

    options = {"on_start": on_start, **options}
    return TinyDriver(name, {IrpMajor.READ: uart_read}, **options)


def uart_read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    device.extension.queue.insert(irp)
    device.ke.insert_queue_dpc(device.extension.dpc)  # what came before is there already
    return STATUS_PENDING


def uart_isr(_interrupt: Interrupt, device: DeviceObject[Extension]) -> bool:
    line = device.extension.line
    causes = line.causes() if line is not None else 0
    if line is None or not causes & (CAUSE_RX | CAUSE_GONE):
        return False
    if causes & CAUSE_RX:
        device.extension.received += line.read(4096)
    device.ke.insert_queue_dpc(device.extension.dpc)
    return True


def uart_dpc(dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
    device: DeviceObject[Extension] | None = dpc.device
    assert device is not None
    extension = device.extension
    with extension.queue.lock:
        irp = extension.queue.remove_next_locked() if extension.received else None
    if irp is not None and irp.system_buffer is not None:
        count = min(len(extension.received), len(irp.system_buffer))
        irp.system_buffer[:count] = extension.received[:count]
        del extension.received[:count]
        complete(device, irp, STATUS_SUCCESS, count)


# -- putting them together -----------------------------------------------------------------------------------------------


def plug(bridge: Bridge, driver: Any, name: str = "DUT", line: Line | None = None, **options: Any) -> None:
    """Plug in a device with a driver of the test's, without hardware unless there is a `line`."""
    bridge.plug("virtual:null" if line is None else line, driver=driver, name=name, **options)


class System:
    """A kernel and an I/O manager on a virtual clock, without a bridge around them: what the lower floors need."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.ke = Kernel(self.clock, self._machine)
        self.io = IoManager(self.ke)
        self.ke.on_fault = self._on_fault

    def _machine(self, ke: Kernel) -> ManualMachine:
        self.machine = ManualMachine(ke, self.clock, lambda: "")
        return self.machine

    def _on_fault(self, device: DeviceObject[Any] | None, _fault: object) -> None:
        if device is not None:
            self.io.fail_stack(device)

    def stack(self, *drivers: TinyDriver) -> DeviceObject[Extension]:
        """A device stack, the bottom driver first; returns the top. The lowest device stands on a bare one."""
        root = self.io.load_driver(f"root{len(self.io.drivers)}", TinyDriver("root").driver_entry)
        bottom = self.io.create_device(root, Extension())
        for driver in drivers:
            loaded = self.io.drivers.get(driver.__name__) or self.io.load_driver(driver.__name__, driver.driver_entry)
            assert loaded.add_device is not None
            assert loaded.add_device(loaded, bottom) == STATUS_SUCCESS
        return bottom.top

    def open(self, device: DeviceObject[Any], access: int = READ_WRITE) -> FileObject:
        assert device.name is not None
        return self.io.create_file(device.name, access)

    def read(self, file: FileObject, length: int) -> IoRequest:
        return self.io.submit_read(IoRequest(self.io, file, length), length)

    def write(self, file: FileObject, data: bytes | bytearray | memoryview) -> IoRequest:
        return self.io.submit_write(IoRequest(self.io, file), data)

    def ioctl(self, file: FileObject, code: int, data: bytes = b"", size: int = 0, **options: Any) -> IoRequest:
        return self.io.submit_ioctl(IoRequest(self.io, file, size), code, data, **options)


@contextmanager
def bug_check(code: int, *parameters: object) -> Iterator[pytest.ExceptionInfo[BugCheck]]:
    """The block raises that bug check; `parameters`, if given, are its first ones."""
    with pytest.raises(BugCheck) as caught:
        yield caught
    assert caught.value.code == code, caught.value
    assert caught.value.parameters[: len(parameters)] == parameters, caught.value


class Thread(threading.Thread):
    """A thread whose exception fails the test: `finish` waits for it, with a bound, and raises what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by `finish`
            self.error = error

    def finish(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread did not end"
        if self.error is not None:
            raise self.error
        return self.result


def do(work: Callable[[], object]) -> None:
    """Do it, and return nothing: what a DPC and a timer routine are expected to do."""
    work()


def now(value: T) -> T:
    """`value`. For assertions before and after a call: mypy believes that a call leaves every attribute as it was."""
    return value


def wait(event: threading.Event) -> None:
    """Wait for an event, with a bound."""
    assert event.wait(PATIENCE), "the event did not come"
