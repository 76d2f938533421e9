"""Opening and closing: CREATE, requests, CLEANUP, CLOSE, in that order; names, access, exclusive devices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, BridgeClosed, DriverFault, NameNotFound
from hilbridge.iomgr.files import access_from_mode
from hilbridge.iomgr.request import IoRequest
from hilbridge.model.codes import (
    FILE_READ_DATA,
    FILE_WRITE_DATA,
    FO_CLEANUP_COMPLETE,
    FO_FILE_OPEN,
    FO_HANDLE_CREATED,
    IrpMajor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_READY,
    STATUS_FILE_CLOSED,
    STATUS_PENDING,
    STATUS_SHARING_VIOLATION,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import (
    READ_WRITE,
    Extension,
    System,
    Thread,
    TinyDriver,
    complete,
    hold,
    now,
    pass_down,
    pend,
    plug,
    raises,
    succeed,
)

LIFE = (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE)


class Story:
    """A driver that writes down what it is asked, in order."""

    def __init__(self, **dispatch: Callable[..., Any]) -> None:
        self.told: list[str] = []
        self.driver = TinyDriver("d", {major: self._telling(succeed) for major in LIFE})
        for name, routine in dispatch.items():
            self.driver.dispatch[IrpMajor[name]] = self._telling(routine)
        self.system = System()
        self.top = self.system.stack(self.driver)

    def _telling(self, routine: Callable[..., Any]) -> Callable[..., Any]:
        def dispatch(device: DeviceObject[Any], irp: Irp) -> Any:
            self.told.append(IrpMajor(irp.current_stack_location.major_function).name)
            return routine(device, irp)

        return dispatch


def refused(status: NtStatus, call: Callable[[], object]) -> None:
    with pytest.raises(NtStatusError) as caught:
        call()
    assert caught.value.status == status


# -- order ---------------------------------------------------------------------------------------------------------------


def test_create_requests_cleanup_close() -> None:
    story = Story(READ=succeed, FLUSH_BUFFERS=succeed)
    file = story.system.open(story.top)
    story.system.read(file, 1)
    story.system.io.submit_simple(IoRequest(story.system.io, file), IrpMajor.FLUSH_BUFFERS)
    story.system.io.close_file(file)
    assert story.told == ["CREATE", "READ", "FLUSH_BUFFERS", "CLEANUP", "CLOSE"]


def test_closing_twice_tells_the_driver_once() -> None:
    story = Story()
    file = story.system.open(story.top)
    story.system.io.close_file(file)
    story.system.io.close_file(file)
    assert story.told == ["CREATE", "CLEANUP", "CLOSE"]
    assert story.top.reference_count == 0


def test_of_threads_that_close_one_file_one_does() -> None:
    story = Story()
    for _ in range(50):
        story.told.clear()
        file = story.system.open(story.top)
        start = threading.Barrier(2, timeout=10)

        def close(file: Any = file, start: threading.Barrier = start) -> None:
            start.wait()
            story.system.io.close_file(file)

        for thread in [Thread(close) for _ in range(2)]:
            thread.finish()
        assert story.told == ["CREATE", "CLEANUP", "CLOSE"]


def test_the_file_says_what_state_it_is_in() -> None:
    story = Story()
    file = story.system.open(story.top)
    assert file.flags == FO_FILE_OPEN | FO_HANDLE_CREATED
    assert story.top.device_stack.files == [file] and story.top.reference_count == 1
    story.system.io.close_file(file)
    assert file.flags & (FO_CLEANUP_COMPLETE | FO_FILE_OPEN) == FO_CLEANUP_COMPLETE
    assert story.top.device_stack.files == [] and story.top.reference_count == 0


def test_each_open_has_a_file_object_of_its_own_that_the_driver_may_write_on() -> None:
    def create(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        file = irp.current_stack_location.file_object
        assert file is not None and irp.file_object is file
        file.fs_context = f"open number {file.id}"
        return succeed(device, irp)

    story = Story(CREATE=create)
    one, two = story.system.open(story.top), story.system.open(story.top)
    assert one is not two and one.id != two.id
    assert (one.fs_context, two.fs_context) == (f"open number {one.id}", f"open number {two.id}")


def test_create_carries_the_access_and_what_is_left_of_the_name() -> None:
    seen: list[Any] = []

    def create(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        file = location.file_object
        assert file is not None
        seen.append((*location.parameters.create, file.file_name, file.device_object is device))
        return succeed(device, irp)

    story = Story(CREATE=create)
    io = story.system.io
    io.create_symbolic_link("COM1", "\\Device\\d0")
    io.create_file("\\Device\\d0", FILE_READ_DATA, FILE_WRITE_DATA)
    io.create_file("com1\\some\\File")
    assert seen == [(FILE_READ_DATA, FILE_WRITE_DATA, "", True), (READ_WRITE, 0, "\\some\\File", True)]


def test_create_goes_to_the_top_and_the_file_belongs_to_the_device_that_was_named() -> None:
    seen: list[str] = []

    def create(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        seen.append(device.driver_object.name)
        return pass_down(device, irp)

    system = System()
    lower = TinyDriver("lower")
    top = system.stack(lower, TinyDriver("upper", {IrpMajor.CREATE: create}, named=False))
    file = system.open(lower.device)
    assert seen == ["upper"]
    assert file.device_object is lower.device is not top


def test_a_create_that_pends_is_waited_for() -> None:
    def later(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.mark_pending()

        def work() -> None:
            complete(device, irp)

        device.ke.queue_work_item(work)
        return STATUS_PENDING

    story = Story(CREATE=later, CLEANUP=later, CLOSE=later)
    file = story.system.open(story.top)
    story.system.io.close_file(file)
    assert story.told == ["CREATE", "CLEANUP", "CLOSE"]


@pytest.mark.parametrize("status", [STATUS_SHARING_VIOLATION, STATUS_DEVICE_NOT_READY])
def test_after_a_create_that_failed_there_is_no_cleanup_and_no_close(status: NtStatus) -> None:
    story = Story(CREATE=lambda device, irp: complete(device, irp, status))
    refused(status, lambda: story.system.open(story.top))
    assert story.told == ["CREATE"]
    assert story.top.reference_count == 0 and story.top.device_stack.files == []


def test_a_create_that_raises_marks_the_stack_and_leaves_nothing_open() -> None:
    story = Story(CREATE=raises(KeyError("boom")))
    with pytest.raises(DriverFault, match="KeyError: 'boom' in its dispatch routine for IRP_MJ_CREATE"):
        story.system.open(story.top)
    assert story.top.reference_count == 0
    with pytest.raises(DriverFault, match="boom"):
        story.system.open(story.top)
    assert story.told == ["CREATE"], "a broken stack is not asked again"


def test_a_create_that_never_ends_has_a_bound() -> None:
    story = Story(CREATE=hold)
    with pytest.raises(DriverFault, match="did not complete IRP_MJ_CREATE within 30 s"):
        story.system.open(story.top)
    assert story.system.clock.now() == 30_000_000_000
    assert story.top.reference_count == 0


@pytest.mark.parametrize("answer", [None, STATUS_SUCCESS])
def test_a_create_that_is_not_completed_is_the_drivers_fault(answer: Any) -> None:
    story = Story(CREATE=lambda _device, _irp: answer)
    with pytest.raises(DriverFault, match="IRP_MJ_CREATE"):
        story.system.open(story.top)
    assert story.top.reference_count == 0


def test_a_create_that_leaks_irql_is_the_drivers_fault() -> None:
    def create(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        device.ke.spin_lock().acquire()
        return succeed(device, irp)

    story = Story(CREATE=create)
    with pytest.raises(DriverFault, match="IRQL"):
        story.system.open(story.top)
    assert story.system.ke.irql == 0


# -- outstanding requests at the close -------------------------------------------------------------------------------------


def cleanup_of_queue(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """What CLEANUP is for: end what this file has queued."""
    queue, file = device.extension.queue, irp.current_stack_location.file_object
    while True:
        with queue.lock:
            queued = queue.remove_next_locked(lambda one: one.file_object is file)
        if queued is None:
            return succeed(device, irp)
        complete(device, queued, STATUS_CANCELLED)


@pytest.mark.parametrize("cleanup", [cleanup_of_queue, succeed])
def test_closing_cancels_this_files_requests_and_nobody_elses(cleanup: Callable[..., NtStatus]) -> None:
    # A driver whose CLEANUP forgets its queue is helped out.
    story = Story(READ=pend, CLEANUP=cleanup)
    one, two = story.system.open(story.top), story.system.open(story.top)
    mine = [story.system.read(one, 4) for _ in range(3)]
    other = story.system.read(two, 4)
    story.system.io.close_file(one)
    assert [request.status for request in mine] == [STATUS_CANCELLED] * 3
    assert not other.done and list(two.irps.values()) == [other.irp]
    story.system.io.close_file(two)
    assert other.status == STATUS_CANCELLED


def test_close_comes_when_the_last_request_has_ended() -> None:
    ended: list[bool] = []
    requests: list[IoRequest] = []

    def close(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        ended.extend(request.done for request in requests)
        return succeed(device, irp)

    story = Story(READ=pend, CLOSE=close)
    file = story.system.open(story.top)
    requests += [story.system.read(file, 4), story.system.read(file, 4)]
    story.system.io.close_file(file)
    assert ended == [True, True]
    assert story.told == ["CREATE", "READ", "READ", "CLEANUP", "CLOSE"]


def test_a_driver_that_never_lets_go_is_reported_and_the_file_closes_all_the_same() -> None:
    story = Story(READ=hold)
    file = story.system.open(story.top)
    request = story.system.read(file, 4)
    story.system.io.close_file(file)
    assert request.done and request.disowned and request.status.is_error
    assert story.top.reference_count == 0 and file.flags & FO_CLEANUP_COMPLETE
    (fault,) = story.system.ke.faults
    assert "did not complete" in str(fault)


@pytest.mark.parametrize("major", ["CLEANUP", "CLOSE"])
def test_a_close_that_fails_or_raises_closes_all_the_same(major: str) -> None:
    story = Story(**{major: lambda device, irp: complete(device, irp, STATUS_DEVICE_NOT_READY)})
    file = story.system.open(story.top)
    story.system.io.close_file(file)
    assert story.told == ["CREATE", "CLEANUP", "CLOSE"] and story.top.reference_count == 0

    story = Story(**{major: raises(KeyError("boom"))})
    file = story.system.open(story.top)
    with pytest.raises(DriverFault, match=f"IRP_MJ_{major}"):
        story.system.io.close_file(file)
    assert story.top.reference_count == 0 and story.top.device_stack.files == []


def test_after_the_close_requests_are_refused() -> None:
    story = Story(READ=succeed, WRITE=succeed, DEVICE_CONTROL=succeed, FLUSH_BUFFERS=succeed)
    system = story.system
    file = system.open(story.top)
    system.io.close_file(file)
    for call in (
        lambda: system.read(file, 1),
        lambda: system.write(file, b"x"),
        lambda: system.ioctl(file, 0x222000),
        lambda: system.io.submit_simple(IoRequest(system.io, file), IrpMajor.FLUSH_BUFFERS),
    ):
        refused(STATUS_FILE_CLOSED, call)
    assert story.told == ["CREATE", "CLEANUP", "CLOSE"]


def test_a_request_from_within_cleanup_is_refused() -> None:
    late: list[BaseException] = []

    def cleanup(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        try:
            story.system.read(files[0], 1)
        except NtStatusError as error:
            late.append(error)
        return succeed(device, irp)

    story = Story(READ=pend, CLEANUP=cleanup)
    files = [story.system.open(story.top)]
    story.system.io.close_file(files[0])
    assert [getattr(error, "status", None) for error in late] == [STATUS_FILE_CLOSED]


# -- access --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "access"), [("r", FILE_READ_DATA), ("w", FILE_WRITE_DATA), ("rw", READ_WRITE)])
def test_modes(mode: str, access: int) -> None:
    assert access_from_mode(mode) == access


@pytest.mark.parametrize("mode", ["", "x", "wr", "rb"])
def test_other_modes_are_refused(mode: str) -> None:
    with pytest.raises(UsageFault, match="use 'r', 'w' or 'rw'"):
        access_from_mode(mode)


def test_without_the_access_no_driver_is_asked() -> None:
    story = Story(READ=succeed, WRITE=succeed)
    reader = story.system.open(story.top, FILE_READ_DATA)
    writer = story.system.open(story.top, FILE_WRITE_DATA)
    story.told.clear()
    refused(STATUS_ACCESS_DENIED, lambda: story.system.write(reader, b"x"))
    refused(STATUS_ACCESS_DENIED, lambda: story.system.read(writer, 1))
    assert story.told == []
    story.system.read(reader, 1)
    story.system.write(writer, b"x")
    assert story.told == ["READ", "WRITE"]


# -- exclusive devices ---------------------------------------------------------------------------------------------------


def test_an_exclusive_device_is_opened_once_at_a_time_whatever_file_is_named() -> None:
    system = System()
    driver = TinyDriver("d", exclusive=True)
    system.stack(driver)
    file = system.open(driver.device)
    refused(STATUS_ACCESS_DENIED, lambda: system.open(driver.device))
    refused(STATUS_ACCESS_DENIED, lambda: system.io.create_file("\\Device\\d0\\another"))
    assert driver.device.reference_count == 1
    system.io.close_file(file)
    system.io.close_file(system.open(driver.device))


def test_a_failed_open_does_not_keep_an_exclusive_device_taken() -> None:
    answers = iter([STATUS_DEVICE_NOT_READY, STATUS_SUCCESS])
    driver = TinyDriver("d", {IrpMajor.CREATE: lambda d, irp: complete(d, irp, next(answers))}, exclusive=True)
    system = System()
    system.stack(driver)
    refused(STATUS_DEVICE_NOT_READY, lambda: system.open(driver.device))
    system.open(driver.device)


def test_exclusiveness_is_that_of_the_device_that_is_named() -> None:
    system = System()
    lower = TinyDriver("lower")
    system.stack(lower, TinyDriver("upper", {IrpMajor.CREATE: pass_down}, named=False, exclusive=True))
    system.open(lower.device)
    system.open(lower.device)
    assert lower.device.reference_count == 2


def test_of_threads_that_open_an_exclusive_device_one_gets_it() -> None:
    system = System()
    driver = TinyDriver("d", exclusive=True)
    system.stack(driver)
    for _ in range(50):
        start = threading.Barrier(3, timeout=10)

        def opened(start: threading.Barrier = start) -> Any:
            start.wait()
            try:
                return system.open(driver.device)
            except NtStatusError as error:
                return error.status

        outcomes = [thread.finish() for thread in [Thread(opened) for _ in range(3)]]
        assert outcomes.count(STATUS_ACCESS_DENIED) == 2
        (file,) = [outcome for outcome in outcomes if not isinstance(outcome, NtStatus)]
        system.io.close_file(file)


def test_an_exclusive_device_says_so_to_the_application() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d", exclusive=True))
        with bridge.open("DUT"), pytest.raises(PermissionError, match="exclusive"):
            bridge.open("DUT")


# -- through a bridge ----------------------------------------------------------------------------------------------------


def test_a_device_is_opened_by_every_spelling_of_its_names() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d"), "COM7")
        for name in ("COM7", "com7", "\\\\.\\COM7", "\\??\\COM7", "\\DosDevices\\com7", "\\Device\\d0", "\\device\\D0"):
            bridge.open(name).close()
        with pytest.raises(NameNotFound, match="COM7"):
            bridge.open("COM8")


def test_a_handle_of_a_device_that_was_unplugged_closes_and_then_the_device_goes() -> None:
    with Bridge.manual() as bridge:
        driver = TinyDriver("d", {IrpMajor.READ: pend})
        plug(bridge, driver)
        handle = bridge.open("DUT")
        request = handle.submit_read(4)
        bridge.unplug("DUT")
        assert request.done
        assert not now(driver.device.delete_pending), "REMOVE_DEVICE waits for the last close"
        handle.close()
        assert driver.device.delete_pending
        assert bridge.devices() == []


def test_a_closed_handle_says_so() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("d", {IrpMajor.READ: pend}))
        handle = bridge.open("DUT")
        handle.close()
        assert handle.closed
        with pytest.raises(BridgeClosed):
            handle.read(1)
