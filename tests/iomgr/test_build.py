"""IRPs that drivers make: who ends them, who hears of it, where their buffers are; and requests in several parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import DO_BUFFERED_IO, DO_DIRECT_IO, IRP_ASSOCIATED_IRP, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck
from hilbridge.model.ioctl import METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, METHOD_OUT_DIRECT, ctl_code
from hilbridge.model.irp import IoStatusBlock, Irp, IrpOrigin, ProcessorMode
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_ACCESS_VIOLATION,
    STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_READY,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    STATUS_VERIFY_REQUIRED,
    NtStatus,
)
from tests.support import Extension, System, Thread, TinyDriver, bug_check, complete, do, hold, pend, succeed

BUFFERED, DIRECT, NEITHER = DO_BUFFERED_IO, DO_DIRECT_IO, 0
KINDS = [pytest.param(BUFFERED, id="buffered"), pytest.param(DIRECT, id="direct"), pytest.param(NEITHER, id="neither")]
TYPE = 0x8123


class Lower(System):
    """A driver whose routine ends every request as the test says: `answer(irp)` returns status and information."""

    def __init__(self, answer: Any = None, *, flags: int = BUFFERED, pending: bool = False) -> None:
        super().__init__()
        self.irps: list[Irp] = []

        def dispatch(device: DeviceObject[Any], irp: Irp) -> NtStatus:
            self.irps.append(irp)
            if pending:
                irp.mark_pending()
            status, information = answer(irp) if answer else (STATUS_SUCCESS, 0)
            complete(device, irp, status, information)
            return STATUS_PENDING if pending else status

        majors = (IrpMajor.READ, IrpMajor.WRITE, IrpMajor.DEVICE_CONTROL, IrpMajor.INTERNAL_DEVICE_CONTROL)
        self.driver = TinyDriver("d", dict.fromkeys(majors, dispatch), flags=flags)
        self.top = self.stack(self.driver)


def place(irp: Irp) -> Any:
    """Where a driver finds the data of a read or write."""
    return irp.mdl_address if irp.mdl_address is not None else irp.system_buffer or irp.user_buffer


# -- whose they are ------------------------------------------------------------------------------------------------------


def test_who_has_made_an_irp() -> None:
    system = Lower()
    io, top = system.io, system.top
    master = io.allocate_irp(1)
    assert master.origin is IrpOrigin.ALLOCATED
    assert io.build_asynchronous_fsd_request(IrpMajor.READ, top).origin is IrpOrigin.ASYNCHRONOUS
    assert io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent()).origin is IrpOrigin.SYNCHRONOUS
    assert io.build_device_io_control_request(0, top, b"", 0, Kevent()).origin is IrpOrigin.SYNCHRONOUS
    part = io.make_associated_irp(master, 1)
    assert part.origin is IrpOrigin.ASSOCIATED and part.master_irp is master and part.flags & IRP_ASSOCIATED_IRP
    assert master.master_irp is None
    request = system.read(system.open(top), 1)
    assert request.irp is not None and request.irp.origin is IrpOrigin.USER


def test_an_application_asks_in_user_mode_and_a_driver_in_kernel_mode() -> None:
    system = Lower()
    assert system.io.allocate_irp(1).requestor_mode is ProcessorMode.KERNEL
    request = system.read(system.open(system.top), 1)
    assert request.irp is not None and request.irp.requestor_mode is ProcessorMode.USER


def test_a_synchronous_request_belongs_to_its_thread_and_the_others_to_none() -> None:
    system = Lower()
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, system.top, Kevent())
    assert irp.thread is system.ke.current()
    assert system.io.allocate_irp(1).thread is None
    assert system.io.build_asynchronous_fsd_request(IrpMajor.READ, system.top).thread is None


@pytest.mark.parametrize("major", [IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL], ids=lambda m: m.name)
def test_an_asynchronous_request_that_must_be_forwarded_arrives_as_not_supported(major: IrpMajor) -> None:
    system = Lower()
    assert system.io.build_asynchronous_fsd_request(major, system.top).io_status.status == STATUS_NOT_SUPPORTED


def test_a_creator_may_keep_a_stack_location_for_itself() -> None:
    system = Lower(pending=True)
    seen: list[Any] = []

    def routine(device: DeviceObject[Any] | None, irp: Irp, context: object) -> NtStatus:
        seen.append((device, context, irp.current_stack_location.parameters.others.argument1))
        return STATUS_MORE_PROCESSING_REQUIRED

    irp = system.io.allocate_irp(system.top.stack_size + 1)
    irp.set_next_stack_location()
    irp.current_stack_location.device_object = system.top
    irp.current_stack_location.parameters = irp.current_stack_location.parameters.others._replace(argument1="mine")
    irp.next_stack_location.major_function = IrpMajor.READ
    irp.set_completion_routine(routine, "context")
    assert system.io.call_driver(system.top, irp) == STATUS_PENDING
    assert seen == [(system.top, "context", "mine")]


def test_there_is_no_location_below_the_lowest() -> None:
    irp = Lower().io.allocate_irp(1)
    irp.set_next_stack_location()
    with bug_check(0x35, irp):
        irp.set_next_stack_location()


# -- asynchronous requests -----------------------------------------------------------------------------------------------


def test_an_asynchronous_request_is_kept_and_freed_by_its_routine() -> None:
    system = Lower(lambda irp: (STATUS_SUCCESS, 2))

    def routine(_device: object, irp: Irp, _context: object) -> NtStatus:
        system.io.free_irp(irp)
        return STATUS_MORE_PROCESSING_REQUIRED

    irp = system.io.build_asynchronous_fsd_request(IrpMajor.WRITE, system.top, b"ab")
    irp.set_completion_routine(routine)
    assert system.io.call_driver(system.top, irp) == STATUS_SUCCESS
    assert irp.state == IrpState.FREED and system.ke.faults == []


@pytest.mark.parametrize(
    ("status", "pending", "told"),
    [
        (STATUS_SUCCESS, False, True),
        (STATUS_BUFFER_OVERFLOW, False, True),
        (STATUS_UNSUCCESSFUL, False, False),
        (STATUS_UNSUCCESSFUL, True, True),
    ],
)
def test_the_status_block_is_written_unless_the_error_was_returned_at_once(
    status: NtStatus, pending: bool, told: bool
) -> None:
    block = IoStatusBlock()
    block.status, block.information = STATUS_CANCELLED, 77
    system = Lower(lambda irp: (status, 3), pending=pending)
    irp = system.io.build_asynchronous_fsd_request(IrpMajor.READ, system.top, bytearray(4), iosb=block)
    system.io.call_driver(system.top, irp)
    assert (block.status, block.information) == ((status, 3) if told else (STATUS_CANCELLED, 77))
    assert irp.state == IrpState.FREED


@pytest.mark.parametrize(
    ("status", "pending", "told"),
    [(STATUS_SUCCESS, False, True), (STATUS_UNSUCCESSFUL, False, False), (STATUS_UNSUCCESSFUL, True, True)],
)
def test_the_event_is_set_unless_the_error_was_returned_at_once(status: NtStatus, pending: bool, told: bool) -> None:
    event = Kevent()
    system = Lower(lambda irp: (status, 0), pending=pending)
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, system.top, event)
    assert system.io.call_and_wait(system.top, irp) == status
    assert event.signaled is told and irp.state == IrpState.COMPLETED


def test_a_driver_that_pends_without_saying_so_holds_up_nobody_who_asks_for_the_end() -> None:
    # Its error reaches neither event nor block; the I/O manager looks at the IRP as well.
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        complete(device, irp, STATUS_UNSUCCESSFUL)
        return STATUS_PENDING

    system = System()
    top = system.stack(TinyDriver("d", {IrpMajor.READ: read}))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent())
    assert system.io.call_and_wait(top, irp) == STATUS_UNSUCCESSFUL
    assert system.clock.now() == 0


# -- buffers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pending", [False, True])
def test_a_drivers_read_fills_its_buffer_whatever_the_device_wants(kind: int, pending: bool) -> None:
    def answer(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.current_stack_location.parameters.read.length == 8
        place(irp)[:4] = b"data"
        return STATUS_SUCCESS, 4

    buffer = bytearray(b"--------")
    system = Lower(answer, flags=kind, pending=pending)
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, system.top, Kevent(), buffer=buffer)
    assert system.io.call_and_wait(system.top, irp) == STATUS_SUCCESS
    assert buffer == b"data----"


@pytest.mark.parametrize("kind", KINDS)
def test_a_drivers_write_carries_its_data_whatever_the_device_wants(kind: int) -> None:
    def answer(irp: Irp) -> tuple[NtStatus, int]:
        assert bytes(place(irp)) == b"data" and irp.current_stack_location.parameters.write.length == 4
        return STATUS_SUCCESS, 4

    system = Lower(answer, flags=kind)
    irp = system.io.build_synchronous_fsd_request(IrpMajor.WRITE, system.top, Kevent(), buffer=b"data")
    assert system.io.call_and_wait(system.top, irp) == STATUS_SUCCESS


@pytest.mark.parametrize(
    ("status", "copied"),
    [
        (STATUS_SUCCESS, True),
        (STATUS_BUFFER_OVERFLOW, True),
        (STATUS_VERIFY_REQUIRED, False),
        (STATUS_UNSUCCESSFUL, False),
    ],
)
def test_buffered_input_is_copied_back_unless_it_is_an_error_or_the_media_must_be_verified(
    status: NtStatus, copied: bool
) -> None:
    def answer(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.system_buffer is not None
        irp.system_buffer[:4] = b"data"
        return status, 4

    buffer = bytearray(4)
    system = Lower(answer)
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, system.top, Kevent(), buffer=buffer)
    assert system.io.call_and_wait(system.top, irp) == status
    assert buffer == (b"data" if copied else bytes(4))


@pytest.mark.parametrize("information", [5, -1])
def test_more_information_than_buffer_is_an_access_violation(information: int) -> None:
    buffer = bytearray(4)
    system = Lower(lambda irp: (STATUS_SUCCESS, information))
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, system.top, Kevent(), buffer=buffer)
    assert system.io.call_and_wait(system.top, irp) == STATUS_ACCESS_VIOLATION
    assert irp.io_status.information == 0 and buffer == bytes(4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_bytes_have_no_mdl(kind: int) -> None:
    system = Lower(lambda irp: (STATUS_SUCCESS, 0), flags=kind)
    file = system.open(system.top)
    for request in (system.read(file, 0), system.write(file, b"")):
        assert request.status == STATUS_SUCCESS and request.irp is not None
        assert request.irp.mdl_address is None
    for method in (METHOD_IN_DIRECT, METHOD_OUT_DIRECT):
        request = system.ioctl(file, ctl_code(TYPE, 0x800, method, 0), b"in", 0)
        assert request.status == STATUS_SUCCESS and request.data == b""
        assert system.irps[-1].mdl_address is None and bytes(system.irps[-1].system_buffer or b"") == b"in"


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("method", [METHOD_BUFFERED, METHOD_OUT_DIRECT, METHOD_NEITHER])
@pytest.mark.parametrize("own_buffer", [False, True])
def test_a_drivers_control_request_both_ways_by_every_method(method: int, internal: bool, own_buffer: bool) -> None:
    def answer(irp: Irp) -> tuple[NtStatus, int]:
        control = irp.current_stack_location.parameters.device_io_control
        assert (control.input_buffer_length, control.output_buffer_length) == (2, 6)
        given = control.type3_input_buffer if method == METHOD_NEITHER else irp.system_buffer
        assert given is not None and bytes(given)[:2] == b"in"
        target = {METHOD_BUFFERED: irp.system_buffer, METHOD_OUT_DIRECT: irp.mdl_address}.get(method, irp.user_buffer)
        assert target is not None
        target[:3] = b"out"  # type: ignore[index]
        return STATUS_SUCCESS, 3

    output = bytearray(8) if own_buffer else None
    system = Lower(answer)
    code = ctl_code(TYPE, 0x801, method, 0)
    irp = system.io.build_device_io_control_request(
        code, system.top, b"in", 6, Kevent(), internal=internal, output=output
    )
    major = IrpMajor.INTERNAL_DEVICE_CONTROL if internal else IrpMajor.DEVICE_CONTROL
    assert irp.next_stack_location.major_function == major
    assert system.io.call_and_wait(system.top, irp) == STATUS_SUCCESS
    found = output if output is not None else irp.system_buffer if method == METHOD_BUFFERED else irp.user_buffer
    assert found is not None and bytes(found[:3]) == b"out"


def test_in_direct_gives_the_driver_a_second_input_that_it_cannot_write() -> None:
    def answer(irp: Irp) -> tuple[NtStatus, int]:
        assert irp.mdl_address is not None and irp.mdl_address.readonly and bytes(irp.mdl_address) == b"second"
        return STATUS_SUCCESS, len(irp.mdl_address)

    system = Lower(answer)
    code = ctl_code(TYPE, 0x802, METHOD_IN_DIRECT, 0)
    irp = system.io.build_device_io_control_request(
        code, system.top, b"first", 6, Kevent(), output=bytearray(b"second")
    )
    assert system.io.call_and_wait(system.top, irp) == STATUS_SUCCESS
    assert irp.io_status.information == 6


# -- associated IRPs -----------------------------------------------------------------------------------------------------


class Splitter(System):
    """A filter that reads in parts: each of its reads becomes `parts` reads of the driver below, which holds them."""

    def __init__(self, parts: int, *, counted: bool = True, keep: bool = False) -> None:
        super().__init__()
        self.kept: list[Irp] = []
        self.lower = TinyDriver("lower", {IrpMajor.READ: hold})

        def kept(_device: object, irp: Irp, _context: object) -> NtStatus:
            self.kept.append(irp)
            return STATUS_MORE_PROCESSING_REQUIRED

        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            below = device.extension.lower
            irp.mark_pending()
            if counted:
                irp.irp_count = parts
            pieces = [device.io.make_associated_irp(irp, below.stack_size) for _ in range(parts)]
            for piece in pieces:
                piece.next_stack_location.major_function = IrpMajor.READ
                if keep:
                    piece.set_completion_routine(kept)
                device.io.call_driver(below, piece)
            return STATUS_PENDING

        self.top = self.stack(self.lower, TinyDriver("upper", {IrpMajor.READ: read}))
        self.request = self.read(self.open(self.top), 0)
        self.held = self.lower.device.extension.held

    def end(self, status: NtStatus = STATUS_SUCCESS) -> Irp:
        irp = self.held.pop(0)
        complete(self.lower.device, irp, status)
        return irp


def test_the_last_part_ends_the_whole() -> None:
    system = Splitter(3)
    pieces = []
    for left in (2, 1, 0):
        assert not system.request.done
        pieces.append(system.end())
        assert system.request.irp is not None and system.request.irp.irp_count == left
    assert system.request.status == STATUS_SUCCESS
    assert all(piece.state == IrpState.FREED for piece in pieces)


def test_the_first_error_of_a_part_is_that_of_the_whole() -> None:
    system = Splitter(4)
    for status in (STATUS_SUCCESS, STATUS_DEVICE_NOT_READY, STATUS_UNSUCCESSFUL, STATUS_SUCCESS):
        system.end(status)
    assert system.request.status == STATUS_DEVICE_NOT_READY


def test_a_part_that_its_routine_keeps_is_the_drivers_to_count() -> None:
    system = Splitter(2, keep=True)
    system.end()
    system.end()
    master = system.request.irp
    assert master is not None and not system.request.done and master.irp_count == 2
    for piece in system.kept:
        system.io.free_irp(piece)
    complete(system.top, master)
    assert system.request.status == STATUS_SUCCESS


def test_parts_that_were_not_counted_are_the_drivers_fault() -> None:
    system = Splitter(2, counted=False)
    with bug_check(0x2A, system.request.irp) as caught:
        system.end()
    assert "irp_count" in str(caught.value)
    assert system.request.done and system.request.status.is_error, "nobody waits for it"
    assert isinstance(system.ke.faults[0], BugCheck) and system.top.device_stack.fault is system.ke.faults[0]


def test_parts_that_end_in_two_threads_end_the_whole_once() -> None:
    for _ in range(100):
        system = Splitter(2)
        one, two = system.held[0], system.held[1]
        threads = [Thread(partial(complete, system.lower.device, irp)) for irp in (one, two)]
        for thread in threads:
            thread.finish()
        assert system.request.status == STATUS_SUCCESS and system.ke.faults == []


def test_cancelling_the_whole_is_the_drivers_business() -> None:
    lower = TinyDriver("lower", {IrpMajor.READ: pend})
    parts: list[Irp] = []

    def cancelled(device: DeviceObject[Any] | None, irp: Irp) -> None:
        assert device is not None
        device.io.release_cancel_spin_lock(device)
        for part in parts:
            device.io.cancel_irp(part)

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.irp_count = 2
        parts.extend(device.io.make_associated_irp(irp, device.extension.lower.stack_size) for _ in range(2))
        irp.set_cancel_routine(cancelled)
        for part in parts:
            part.next_stack_location.major_function = IrpMajor.READ
            device.io.call_driver(device.extension.lower, part)
        return STATUS_PENDING

    system = System()
    request = system.read(system.open(system.stack(lower, TinyDriver("upper", {IrpMajor.READ: read}))), 0)
    assert request.cancel() is True
    assert request.status == STATUS_CANCELLED


def test_the_io_managers_own_requests_are_never_left_waiting_by_an_unmarked_pending() -> None:
    def create(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        device.ke.queue_work_item(lambda: do(lambda: complete(device, irp, STATUS_DEVICE_NOT_READY)))
        return STATUS_PENDING  # and has not marked it

    system = System()
    top = system.stack(TinyDriver("d", {IrpMajor.CREATE: create, IrpMajor.READ: succeed}))
    with pytest.raises(Exception, match="STATUS_DEVICE_NOT_READY"):
        system.open(top)
    assert system.clock.now() == 0
