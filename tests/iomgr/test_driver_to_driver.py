"""Requests that drivers make: forwarded and taken back, built for the device below, sent and waited for."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import BugCheck, DriverFault
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import DISPATCH_LEVEL, IRP_SYNCHRONOUS_API, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.ioctl import METHOD_BUFFERED, ctl_code
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.parameters import ReadParameters, StartDeviceParameters
from hilbridge.model.status import (
    STATUS_DEVICE_NOT_READY,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import Extension, System, TinyDriver, bug_check, complete, hold, pass_down, raises, succeed

CONTROL = ctl_code(0x8000, 0x800, METHOD_BUFFERED, 0)


def later(status: NtStatus = STATUS_SUCCESS, data: bytes = b"") -> Any:
    """A dispatch routine that pends, and completes from a work item."""

    def dispatch(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()

        def work() -> None:
            if irp.system_buffer is not None:
                irp.system_buffer[: len(data)] = data
            complete(device, irp, status, len(data))

        device.ke.queue_work_item(work)
        return STATUS_PENDING

    return dispatch


def at_once(status: NtStatus = STATUS_SUCCESS) -> Any:
    return lambda device, irp: complete(device, irp, status)


# -- forward and wait ----------------------------------------------------------------------------------------------------


def forwarding(notes: list[Any]) -> Any:
    """A dispatch routine that lets the driver below go first, then does its own part and completes."""

    def dispatch(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        location = irp.current_location
        status = device.io.forward_and_wait(device.extension.lower, irp)
        notes.append((status, irp.current_location == location, IrpState(irp.state).name, irp.io_status.information))
        return complete(device, irp, status, irp.io_status.information + 1)

    return dispatch


@pytest.mark.parametrize("below", [at_once, later])
@pytest.mark.parametrize("status", [STATUS_SUCCESS, STATUS_DEVICE_NOT_READY])
def test_a_forwarded_irp_comes_back_to_its_driver_who_completes_it(below: Any, status: NtStatus) -> None:
    notes: list[Any] = []
    system = System()
    lower = TinyDriver("lower", {IrpMajor.FLUSH_BUFFERS: below(status)})
    top = system.stack(lower, TinyDriver("upper", {IrpMajor.FLUSH_BUFFERS: forwarding(notes)}, named=False))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, top, Kevent())
    assert system.io.call_and_wait(top, irp) == status
    assert notes == [(status, True, "OFFERED", 0)]
    assert irp.io_status.information == 1 and irp.state == IrpState.COMPLETED


def test_start_device_goes_from_the_bottom_up() -> None:
    order: list[str] = []

    def starts(name: str) -> Any:
        return lambda _device, resources: order.append(f"{name} with {resources}")

    system = System()
    bus = TinyDriver("bus", {IrpMajor.PNP: succeed})
    drivers = [TinyDriver(name, named=False, on_start=starts(name)) for name in ("function", "filter")]
    top = system.stack(bus, *drivers)
    assert system.io.send_pnp(top, PnpMinor.START_DEVICE, "resources") == STATUS_SUCCESS
    assert order == ["function with resources", "filter with resources"]


def test_forwarding_needs_a_device_below() -> None:
    system = System()
    driver = system.io.load_driver("lone", TinyDriver("lone").driver_entry)
    device = system.io.create_device(driver, Extension())

    def dispatch(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        return device.io.forward_and_wait(device, irp)

    driver.major_function[IrpMajor.READ] = dispatch
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, device, Kevent())
    with bug_check(0x35, irp):
        system.io.call_driver(device, irp)


def test_forwarding_at_dispatch_level_something_that_pends_is_bug_check_b8() -> None:
    system = System()
    lower = TinyDriver("lower", {IrpMajor.FLUSH_BUFFERS: later()})
    top = system.stack(lower, TinyDriver("upper", {IrpMajor.FLUSH_BUFFERS: forwarding([])}, named=False))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, top, Kevent())
    with system.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xB8):
        system.io.call_driver(top, irp)


# -- built requests ------------------------------------------------------------------------------------------------------


def test_a_built_request_has_its_codes_in_the_top_devices_location() -> None:
    system = System()
    top = system.stack(TinyDriver("lower"), TinyDriver("upper", named=False))
    event, buffer, parameters = Kevent(), bytearray(4), ReadParameters(4)
    irp = system.io.build_synchronous_fsd_request(
        IrpMajor.READ, top, event, minor=3, parameters=parameters, buffer=buffer
    )
    assert irp.stack_count == top.stack_size == 3
    location = irp.next_stack_location
    assert (location.major_function, location.minor_function) == (IrpMajor.READ, 3)
    assert location.parameters is parameters
    assert irp.user_buffer is buffer and irp.user_event is event and irp.flags & IRP_SYNCHRONOUS_API
    assert irp.system_buffer == bytearray(4), "the device is buffered: its driver gets a buffer of its own"
    assert irp.io_status.status == STATUS_SUCCESS


@pytest.mark.parametrize("major", [IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL], ids=lambda m: m.name)
def test_plug_and_play_power_and_wmi_requests_start_as_not_supported(major: IrpMajor) -> None:
    system = System()
    top = system.stack(TinyDriver("d"))
    irp = system.io.build_synchronous_fsd_request(major, top, Kevent())
    assert irp.io_status.status == STATUS_NOT_SUPPORTED


@pytest.mark.parametrize("below", [at_once, later])
def test_a_built_request_signals_its_event_at_the_end(below: Any) -> None:
    system = System()
    top = system.stack(TinyDriver("d", {IrpMajor.READ: below()}))
    event = Kevent()
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, event)
    system.io.call_driver(top, irp)
    system.machine.run_until_idle()
    assert event.signaled and irp.state == IrpState.COMPLETED


@pytest.mark.parametrize("how", ["at once", "later"])
def test_a_control_request_to_the_device_below(how: str) -> None:
    seen: list[Any] = []

    def control(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        assert irp.system_buffer is not None
        seen.append(
            (IrpMajor(location.major_function).name, bytes(irp.system_buffer), *location.parameters.device_io_control)
        )
        if how == "later":
            status: NtStatus = later(data=b"answer")(device, irp)
            return status
        irp.system_buffer[:6] = b"answer"
        return complete(device, irp, STATUS_SUCCESS, 6)

    system = System()
    both = dict.fromkeys((IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL), control)
    top = system.stack(TinyDriver("d", both))
    irp = system.io.build_device_io_control_request(CONTROL, top, b"in", 8, Kevent())
    assert system.io.call_and_wait(top, irp) == STATUS_SUCCESS
    assert irp.io_status.information == 6 and bytes(irp.system_buffer or b"").startswith(b"answer")
    irp = system.io.build_device_io_control_request(CONTROL, top, b"longer than output", 4, Kevent(), internal=True)
    system.io.call_and_wait(top, irp)
    assert seen == [
        ("DEVICE_CONTROL", b"in\0\0\0\0\0\0", 8, 2, CONTROL, None),
        ("INTERNAL_DEVICE_CONTROL", b"longer than output", 4, 18, CONTROL, None),
    ]


def test_a_driver_asks_the_one_below_on_behalf_of_its_own_request() -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        lower = device.extension.lower
        asked = device.io.build_device_io_control_request(CONTROL, lower, b"", 4, Kevent(), internal=True)
        status = device.io.call_and_wait(lower, asked)
        assert irp.system_buffer is not None and asked.system_buffer is not None
        irp.system_buffer[:4] = asked.system_buffer
        return complete(device, irp, status, asked.io_status.information)

    system = System()
    lower = TinyDriver("lower", {IrpMajor.INTERNAL_DEVICE_CONTROL: later(data=b"deep")})
    through = {IrpMajor.CREATE: pass_down, IrpMajor.READ: read}
    system.stack(lower, TinyDriver("upper", through, named=False))
    assert system.read(system.open(lower.device), 4).data == b"deep"


def test_a_request_that_the_driver_below_never_ends_is_bug_check_9f_4() -> None:
    system = System()
    lower = TinyDriver("lower", {IrpMajor.READ: hold})
    top = system.stack(lower)
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent())
    with bug_check(0x9F, 4, irp):
        system.io.call_and_wait(top, irp, timeout=5.0)
    assert system.clock.now() == 5_000_000_000


# -- allocated IRPs ------------------------------------------------------------------------------------------------------


def test_an_allocated_irp_that_nobody_wants_back_is_freed_when_it_ends() -> None:
    system = System()
    top = system.stack(TinyDriver("d", {IrpMajor.READ: succeed}))
    irp = system.io.allocate_irp(top.stack_size)
    irp.next_stack_location.major_function = IrpMajor.READ
    system.io.call_driver(top, irp)
    assert irp.state == IrpState.FREED
    with bug_check(0xC9, 0x20A, irp):
        system.io.free_irp(irp)
    with bug_check(0x2A, irp):
        irp.current_location = irp.stack_count + 1
        system.io.call_driver(top, irp)


def test_irp_ids_are_never_given_twice() -> None:
    system = System()
    assert len({system.io.allocate_irp(1).id for _ in range(100)}) == 100


def test_an_irp_that_was_never_sent_cannot_be_completed() -> None:
    system = System()
    irp = system.io.allocate_irp(1)
    with bug_check(0x44, irp):
        system.io.complete_request(irp)


# -- what the Plug and Play manager sends ------------------------------------------------------------------------------------


def test_plug_and_play_requests_go_to_the_top_and_bring_the_status_back() -> None:
    seen: list[Any] = []

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        seen.append((location.minor_function, location.parameters, irp.io_status.status))
        return complete(device, irp, STATUS_DEVICE_NOT_READY)

    system = System()
    lower = TinyDriver("lower")
    system.stack(lower, TinyDriver("upper", {IrpMajor.PNP: pnp}, named=False))
    assert system.io.send_pnp(lower.device, PnpMinor.START_DEVICE, "resources") == STATUS_DEVICE_NOT_READY
    assert seen == [(PnpMinor.START_DEVICE, StartDeviceParameters("resources"), STATUS_NOT_SUPPORTED)]


@pytest.mark.parametrize(
    "dispatch",
    [
        pytest.param(hold, id="never completes"),
        pytest.param(lambda _device, _irp: STATUS_SUCCESS, id="does not complete"),
        pytest.param(lambda _device, _irp: None, id="returns nothing"),
        pytest.param(raises(KeyError("boom")), id="raises"),
    ],
)
def test_a_plug_and_play_request_that_does_not_end_properly_marks_the_stack(dispatch: Any) -> None:
    system = System()
    driver = TinyDriver("d", {IrpMajor.PNP: dispatch})
    top = system.stack(driver)
    with pytest.raises(DriverFault, match="IRP_MN_START_DEVICE") as caught:
        system.io.send_pnp(top, PnpMinor.START_DEVICE)
    assert not isinstance(caught.value, BugCheck)
    assert top.device_stack.fault is caught.value
