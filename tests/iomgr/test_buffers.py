"""Buffered, direct and neither I/O: where a driver finds the data, what is copied back, and control codes."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, DriverFault
from hilbridge.model.codes import (
    DO_BUFFERED_IO,
    DO_DIRECT_IO,
    FILE_ANY_ACCESS,
    FILE_READ_DATA,
    FILE_WRITE_DATA,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, METHOD_OUT_DIRECT, ctl_code
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_ACCESS_VIOLATION,
    STATUS_BUFFER_OVERFLOW,
    STATUS_PENDING,
    STATUS_SERIAL_MORE_WRITES,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    STATUS_VERIFY_REQUIRED,
    NtStatus,
)
from tests.support import Extension, System, TinyDriver, complete, pass_down, plug

BUFFERED, DIRECT, NEITHER = DO_BUFFERED_IO, DO_DIRECT_IO, 0
KINDS = [pytest.param(BUFFERED, id="buffered"), pytest.param(DIRECT, id="direct"), pytest.param(NEITHER, id="neither")]


class Device(System):
    """One device, whose routine is told where the data is and does with it what the test says."""

    def __init__(self, flags: int, routine: Any) -> None:
        super().__init__()
        self.irps: list[Irp] = []

        def dispatch(device: DeviceObject[Any], irp: Irp) -> NtStatus:
            self.irps.append(irp)
            status, information = routine(irp)
            return complete(device, irp, status, information)

        majors = (IrpMajor.READ, IrpMajor.WRITE, IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL)
        self.driver = TinyDriver("d", dict.fromkeys(majors, dispatch), flags=flags)
        self.stack(self.driver)
        self.file = self.open(self.driver.device)

    @property
    def irp(self) -> Irp:
        return self.irps[-1]


def buffer_of(irp: Irp) -> Any:
    """The one place in which a READ or WRITE routine finds its data."""
    places = [irp.system_buffer, irp.mdl_address, None if irp.mdl_address is not None else irp.user_buffer]
    (found,) = [place for place in places if place is not None]
    return found


# -- reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_brings_back_as_much_as_information_says(kind: int) -> None:
    def read(irp: Irp) -> tuple[NtStatus, int]:
        buffer_of(irp)[:8] = b"datajunk"
        return STATUS_SUCCESS, 4

    device = Device(kind, read)
    request = device.read(device.file, 8)
    assert (request.status, request.information, request.data) == (STATUS_SUCCESS, 4, b"data")
    assert device.irp.stack[-1].parameters.read.length == 8


def test_where_a_read_finds_its_buffer() -> None:
    def irp_of(flags: int) -> Irp:
        device = Device(flags, lambda irp: (STATUS_SUCCESS, 0))
        device.read(device.file, 8)
        return device.irp

    irp = irp_of(BUFFERED)
    assert irp.system_buffer == bytearray(8) and irp.mdl_address is None and irp.user_buffer is None
    irp = irp_of(DIRECT)
    assert irp.system_buffer is None and irp.mdl_address is not None
    assert irp.mdl_address.nbytes == 8 and not irp.mdl_address.readonly
    irp = irp_of(NEITHER)
    assert irp.system_buffer is None and irp.mdl_address is None and irp.user_buffer == bytearray(8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "copied"),
    [
        (STATUS_SUCCESS, True),
        (STATUS_SERIAL_MORE_WRITES, True),
        (STATUS_BUFFER_OVERFLOW, True),
        (STATUS_VERIFY_REQUIRED, False),
        (NtStatus(0xBFFF_FFFF), True),
        (NtStatus(0xC000_0000), False),
        (STATUS_UNSUCCESSFUL, False),
    ],
    ids=str,
)
def test_data_comes_back_unless_it_is_an_error_or_the_media_must_be_verified(
    kind: int, status: NtStatus, copied: bool
) -> None:
    def read(irp: Irp) -> tuple[NtStatus, int]:
        buffer_of(irp)[:4] = b"data"
        return status, 4

    device = Device(kind, read)
    request = device.read(device.file, 4)
    assert request.status == status
    assert request.data == (b"data" if copied else b"")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("information", [9, 1 << 40, -1])
def test_more_information_than_buffer_is_an_access_violation(kind: int, information: int) -> None:
    device = Device(kind, lambda irp: (STATUS_SUCCESS, information))
    request = device.read(device.file, 8)
    assert (request.status, request.information, request.data) == (STATUS_ACCESS_VIOLATION, 0, b"")


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_of_nothing_reaches_the_driver(kind: int) -> None:
    device = Device(kind, lambda irp: (STATUS_SUCCESS, 0))
    request = device.read(device.file, 0)
    assert (request.status, request.data) == (STATUS_SUCCESS, b"") and len(device.irps) == 1


def test_an_application_that_is_given_more_than_it_asked_for_is_told_who_did_it() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        return complete(device, irp, STATUS_SUCCESS, 1000)

    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("greedy", {IrpMajor.READ: read}))
        with bridge.open("DUT") as handle, pytest.raises(DriverFault, match="more bytes than the buffer holds"):
            handle.read(8)


# -- writing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_carries_its_data(kind: int) -> None:
    device = Device(kind, lambda irp: (STATUS_SUCCESS, 3))
    request = device.write(device.file, b"data")
    assert bytes(buffer_of(device.irp)) == b"data"
    assert device.irp.stack[-1].parameters.write.length == 4
    assert (request.information, request.data) == (3, b""), "how much was written is the driver's word"


def test_buffered_writes_are_copies_and_the_others_are_the_callers_memory() -> None:
    for kind in (BUFFERED, DIRECT, NEITHER):
        device = Device(kind, lambda irp: (STATUS_SUCCESS, 4))
        data = bytearray(b"data")
        device.write(device.file, data)
        held = buffer_of(device.irp)
        if kind == NEITHER:
            assert held is data
        else:
            data[:] = b"gone"
            assert bytes(held) == (b"data" if kind == BUFFERED else b"gone")


def test_a_direct_write_of_a_constant_cannot_be_written_to() -> None:
    device = Device(DIRECT, lambda irp: (STATUS_SUCCESS, 4))
    device.write(device.file, b"data")
    assert device.irp.mdl_address is not None and device.irp.mdl_address.readonly


def test_the_kind_of_io_is_that_of_the_top_of_the_stack() -> None:
    seen: list[Irp] = []

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        seen.append(irp)
        return complete(device, irp)

    system = System()
    lower = TinyDriver("lower", {IrpMajor.READ: read}, flags=BUFFERED)
    through = dict.fromkeys((IrpMajor.CREATE, IrpMajor.READ), pass_down)
    system.stack(lower, TinyDriver("upper", through, named=False, flags=DIRECT))
    system.read(system.open(lower.device), 4)
    assert seen[0].system_buffer is None and seen[0].mdl_address is not None


# -- control codes -------------------------------------------------------------------------------------------------------


def code(method: int, access: int = FILE_ANY_ACCESS) -> int:
    return ctl_code(0x8000, 0x800, method, access)


def test_buffered_control_one_buffer_for_both_directions() -> None:
    def control(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.system_buffer == bytearray(b"in\0\0\0\0")
        assert irp.mdl_address is None and irp.user_buffer is None
        irp.system_buffer[:] = b"outoutout"[:6]
        return STATUS_SUCCESS, 5

    device = Device(BUFFERED, control)
    request = device.ioctl(device.file, code(METHOD_BUFFERED), b"in", 6)
    assert request.data == b"outou"
    parameters = device.irp.stack[-1].parameters.device_io_control
    assert parameters == (6, 2, code(METHOD_BUFFERED), None)


@pytest.mark.parametrize(("data", "size"), [(b"", 0), (b"in", 0), (b"", 6), (b"longer", 2)])
def test_the_system_buffer_is_as_large_as_the_larger_direction(data: bytes, size: int) -> None:
    device = Device(BUFFERED, lambda irp: (STATUS_SUCCESS, 0))
    device.ioctl(device.file, code(METHOD_BUFFERED), data, size)
    buffer = device.irp.system_buffer
    assert buffer is not None and len(buffer) == max(len(data), size) and buffer.startswith(data)


def test_what_goes_in_comes_back_only_as_far_as_there_is_room_for_output() -> None:
    device = Device(BUFFERED, lambda irp: (STATUS_SUCCESS, 6))
    request = device.ioctl(device.file, code(METHOD_BUFFERED), b"longer", 2)
    assert request.status == STATUS_ACCESS_VIOLATION and request.data == b""


def test_in_direct_control_the_second_buffer_is_input_too_and_cannot_be_written() -> None:
    second = bytearray(b"second")

    def control(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.system_buffer == bytearray(b"first")
        assert irp.mdl_address is not None and bytes(irp.mdl_address) == b"second"
        with pytest.raises(TypeError):
            irp.mdl_address[0] = 0
        return STATUS_SUCCESS, 6

    device = Device(BUFFERED, control)
    request = device.ioctl(device.file, code(METHOD_IN_DIRECT), b"first", 6, second=second)
    assert request.status == STATUS_SUCCESS and device.irps
    assert request.data == b"", "nothing is copied back"
    assert second == b"second"


def test_out_direct_control_writes_the_callers_second_buffer() -> None:
    second = bytearray(b"......")

    def control(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.system_buffer == bytearray(b"first")
        assert irp.mdl_address is not None
        irp.mdl_address[:4] = b"data"
        return STATUS_SUCCESS, 4

    device = Device(BUFFERED, control)
    request = device.ioctl(device.file, code(METHOD_OUT_DIRECT), b"first", 6, second=second)
    assert second == b"data.." and request.data == b"data"
    request = device.ioctl(device.file, code(METHOD_OUT_DIRECT), b"first", 6)
    assert request.data == b"data", "without a buffer of the caller's there is one"


def test_neither_control_hands_both_buffers_on_as_they_are() -> None:
    second = bytearray(b"......")

    def control(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.system_buffer is None and irp.mdl_address is None
        assert irp.current_stack_location.parameters.device_io_control.type3_input_buffer is first
        assert irp.user_buffer is second
        second[:2] = b"ok"
        return STATUS_SUCCESS, 2

    first = b"first"
    device = Device(BUFFERED, control)
    request = device.ioctl(device.file, code(METHOD_NEITHER), first, 6, second=second)
    assert request.status == STATUS_SUCCESS and request.data == b"ok"


def test_control_codes_use_their_method_whatever_the_devices_flags() -> None:
    for flags in (BUFFERED, DIRECT, NEITHER):
        device = Device(flags, lambda irp: (STATUS_SUCCESS, 0))
        device.ioctl(device.file, code(METHOD_BUFFERED), b"in", 4)
        assert device.irp.system_buffer is not None and device.irp.mdl_address is None


def test_an_internal_control_is_another_major_function() -> None:
    device = Device(BUFFERED, lambda irp: (STATUS_SUCCESS, 0))
    device.ioctl(device.file, code(METHOD_BUFFERED))
    device.ioctl(device.file, code(METHOD_BUFFERED), internal=True)
    majors = [irp.stack[-1].major_function for irp in device.irps]
    assert majors == [IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL]


@pytest.mark.parametrize("granted", [FILE_READ_DATA, FILE_WRITE_DATA, FILE_READ_DATA | FILE_WRITE_DATA])
@pytest.mark.parametrize("wanted", [FILE_ANY_ACCESS, FILE_READ_DATA, FILE_WRITE_DATA, FILE_READ_DATA | FILE_WRITE_DATA])
def test_the_access_of_a_code_is_checked_before_any_driver_sees_it(granted: int, wanted: int) -> None:
    device = Device(BUFFERED, lambda irp: (STATUS_SUCCESS, 0))
    file = device.open(device.driver.device, granted)
    if wanted & ~granted:
        with pytest.raises(NtStatusError) as caught:
            device.ioctl(file, code(METHOD_BUFFERED, wanted))
        assert caught.value.status == STATUS_ACCESS_DENIED
        assert device.irps == []
    else:
        assert device.ioctl(file, code(METHOD_BUFFERED, wanted)).status == STATUS_SUCCESS


def test_a_disowned_request_keeps_its_buffer_for_its_driver() -> None:
    kept: list[Irp] = []

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        kept.append(irp)
        return STATUS_PENDING

    system = System()
    driver = TinyDriver("d", {IrpMajor.READ: read})
    system.stack(driver)
    request = system.read(system.open(driver.device), 4)
    assert request.disown()
    assert kept[0].system_buffer is not None
    kept[0].system_buffer[:] = b"late"
    complete(driver.device, kept[0], STATUS_SUCCESS, 4)
    assert request.data == b"" and request.status.is_error, "what comes late is not delivered"
    assert system.ke.faults == []
