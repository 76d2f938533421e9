"""MDLs that drivers make: locked memory, whose it is, and who has left it locked."""

from __future__ import annotations

import array
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault
from hilbridge.bridge.handle import Handle
from hilbridge.kernel.dpc import Kdpc
from hilbridge.model.codes import IrpMajor, Irql
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.file import FileObject
from hilbridge.model.irp import Irp
from hilbridge.model.mdl import PAGE_SIZE, Mdl
from hilbridge.model.status import (
    STATUS_ACCESS_VIOLATION,
    STATUS_CANCELLED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import Extension, System, TinyDriver, bug_check, complete, pass_down, plug, succeed

Device = DeviceObject[Extension]


@pytest.fixture
def system() -> System:
    return System()


def locked(system: System, buffer: Any, *, write: bool = True) -> Mdl:
    mdl = system.io.allocate_mdl(buffer)
    mdl.probe_and_lock_pages(write=write)
    return mdl


def can_be_resized(memory: bytearray) -> bool:
    try:
        memory.append(0)
    except BufferError:
        return False
    del memory[-1]
    return True


# -- memory --------------------------------------------------------------------------------------------------------------


def test_from_allocation_to_free(system: System) -> None:
    memory = bytearray(b"abc")
    mdl = system.io.allocate_mdl(memory)
    assert (mdl.locked, mdl.mapped, mdl.byte_count) == (False, False, 3)
    assert can_be_resized(memory)
    mdl.probe_and_lock_pages(write=True)
    assert (mdl.locked, mdl.mapped) == (True, False)
    assert not can_be_resized(memory)
    view = mdl.system_address()
    assert mdl.mapped and mdl.system_address() is view
    view[1] = ord("X")
    assert memory == b"aXc"
    mdl.unlock_pages()
    assert (mdl.locked, mdl.mapped) == (False, False)
    assert can_be_resized(memory)
    system.io.free_mdl(mdl)
    assert mdl.freed


def test_what_is_kept_after_unlock_is_good_for_nothing(system: System) -> None:
    mdl = locked(system, bytearray(4))
    view = mdl.system_address()
    mdl.unlock_pages()
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_it_can_be_locked_again(system: System) -> None:
    memory = bytearray(4)
    mdl = locked(system, memory)
    mdl.unlock_pages()
    mdl.probe_and_lock_pages(write=False)
    assert mdl.system_address().readonly
    mdl.unlock_pages()
    assert can_be_resized(memory)


def test_locked_for_reading_it_cannot_be_written(system: System) -> None:
    view = locked(system, bytearray(b"abc"), write=False).system_address()
    assert bytes(view) == b"abc"
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1


def released() -> memoryview:
    view = memoryview(bytearray(4))
    view.release()
    return view


@pytest.mark.parametrize(
    ("buffer", "write"),
    [
        (b"abc", True),
        (memoryview(bytearray(3)).toreadonly(), True),
        (None, True),
        (None, False),
        (released(), True),
        (released(), False),
        (memoryview(array.array("I", range(8)))[::2], True),
        (7, False),
    ],
)
def test_what_the_probe_refuses(system: System, buffer: Any, write: bool) -> None:
    """An application may pass what it likes: that is a status, and no mistake of the driver's."""
    mdl = system.io.allocate_mdl(buffer)
    with pytest.raises(NtStatusError) as refused:
        mdl.probe_and_lock_pages(write=write)
    assert refused.value.status == STATUS_ACCESS_VIOLATION
    assert not mdl.locked
    system.io.free_mdl(mdl)


def test_a_refused_probe_leaves_nothing_locked(system: System) -> None:
    memory = bytearray(4)
    readonly = memoryview(memory).toreadonly()
    mdl = system.io.allocate_mdl(readonly)
    with pytest.raises(NtStatusError):
        mdl.probe_and_lock_pages(write=True)
    readonly.release()
    assert can_be_resized(memory)


@pytest.mark.parametrize("buffer", [memoryview(array.array("I", [1, 2])), memoryview(bytearray(8)).cast("B", (2, 4))])
def test_a_driver_sees_bytes(system: System, buffer: memoryview) -> None:
    mdl = locked(system, buffer)
    view = mdl.system_address()
    assert (view.format, view.ndim, len(view), mdl.byte_count) == ("B", 1, 8, 8)
    view[:8] = bytes(range(8))
    assert buffer.tobytes() == bytes(range(8))
    mdl.unlock_pages()


@pytest.mark.parametrize(
    ("length", "pages"), [(0, 0), (1, 1), (PAGE_SIZE, 1), (PAGE_SIZE + 1, 2), (10 * PAGE_SIZE, 10)]
)
def test_its_pages(system: System, length: int, pages: int) -> None:
    mdl = locked(system, bytearray(length))
    assert (mdl.byte_count, mdl.pages) == (length, pages)
    mdl.unlock_pages()


def test_it_says_in_which_state_it_is(system: System) -> None:
    mdl = system.io.allocate_mdl(bytearray(5))
    said = [repr(mdl)]
    mdl.probe_and_lock_pages(write=True)
    said.append(repr(mdl))
    mdl.system_address()
    said.append(repr(mdl))
    mdl.unlock_pages()
    system.io.free_mdl(mdl)
    said.append(repr(mdl))
    assert said == [f"<MDL of 5 bytes, {state}>" for state in ("not locked", "locked", "mapped", "freed")]
    assert repr(system.io.allocate_mdl(released())) == "<MDL of 0 bytes, not locked>"


def test_who_has_made_something_of_the_view_has_not_let_go_of_it(system: System) -> None:
    mdl = locked(system, bytearray(b"x-x"))
    kept = re.finditer(b"x", mdl.system_address())  # searches as it is asked, and holds on to the memory
    with pytest.raises(BufferError):
        mdl.unlock_pages()
    assert not mdl.locked
    assert [match.start() for match in kept] == [0, 2]


# -- rules that the verifier's table does not have of its own ----------------------------------------------------------------


def test_the_memory_of_others_may_be_paged_out(system: System) -> None:
    mdl = system.io.allocate_mdl(bytearray(4))
    with system.ke.raised_irql(Irql.DISPATCH), bug_check(0xA, "probe_and_lock_pages", Irql.DISPATCH):
        mdl.probe_and_lock_pages(write=True)
    assert not mdl.locked


def test_it_is_not_freed_while_it_is_locked(system: System) -> None:
    mdl = locked(system, bytearray(4))
    with bug_check(0xC4, 0xB8, mdl):
        system.io.free_mdl(mdl)
    mdl.unlock_pages()
    system.io.free_mdl(mdl)


@pytest.mark.parametrize("routine", [Mdl.system_address, Mdl.unlock_pages])
def test_a_freed_one_is_not_used(system: System, routine: Callable[[Mdl], object]) -> None:
    mdl = system.io.allocate_mdl(bytearray(4))
    system.io.free_mdl(mdl)
    with bug_check(0xC4, 0x16, mdl):
        routine(mdl)


# -- in whose context ----------------------------------------------------------------------------------------------------


class Locking:
    """A device whose driver does `work(device, irp, lock)` in READ; `lock()` locks memory, which stays locked."""

    def __init__(
        self, work: Callable[[Device, Irp, Callable[[], Mdl]], NtStatus], dispatch: Any = None, **options: Any
    ) -> None:
        self.memory = bytearray(100)
        self.mdls: list[Mdl] = []
        self.files: list[FileObject | None] = []
        self.bridge = Bridge.manual(**options)

        def read(device: Device, irp: Irp) -> NtStatus:
            def lock() -> Mdl:
                mdl = device.io.allocate_mdl(self.memory)
                mdl.probe_and_lock_pages(write=True)
                self.line = sys._getframe().f_lineno - 1
                self.mdls.append(mdl)
                self.files.append(mdl.file)
                return mdl

            return work(device, irp, lock)

        self.driver = TinyDriver("locking", {IrpMajor.READ: read, **(dispatch or {})})
        plug(self.bridge, self.driver)

    def open(self) -> Handle:
        return self.bridge.open("DUT")

    def unlock_all(self) -> None:
        for mdl in self.mdls:
            mdl.unlock_pages()


def at_once(device: Device, irp: Irp, lock: Callable[[], Mdl]) -> NtStatus:
    lock()
    return complete(device, irp)


def test_a_dispatch_routine_locks_in_the_context_of_the_file() -> None:
    bench = Locking(at_once)
    with bench.bridge, bench.open() as one, bench.open() as other:
        one.submit_read(1)
        other.submit_read(1)
        assert bench.files == [one.file, other.file]
        bench.unlock_all()


def test_a_request_that_a_driver_makes_is_in_the_context_of_the_one_it_serves() -> None:
    bench = Locking(at_once)

    def outer(device: Device, irp: Irp) -> NtStatus:
        own = device.io.build_asynchronous_fsd_request(IrpMajor.READ, device.extension.lower, bytearray(1))
        assert own.file_object is None
        device.io.call_driver(device.extension.lower, own)
        return complete(device, irp)

    with bench.bridge as bridge:
        upper = TinyDriver("upper", {IrpMajor.READ: outer}, named=False)
        bridge.plug("virtual:null", name="TWO", driver=bench.driver, upper_filters=[upper])
        with bridge.open("TWO") as handle:
            handle.submit_read(1)
            assert bench.files == [handle.file]
            assert bench.mdls[0].device is bench.driver.device
            bench.unlock_all()


def in_a_dpc(device: Device, irp: Irp, lock: Callable[[], Mdl]) -> NtStatus:
    def routine(*_arguments: object) -> None:
        device.ke.current().irql = Irql.APC  # what is refused is not the point here
        lock()
        device.ke.current().irql = Irql.DISPATCH

    device.ke.insert_queue_dpc(Kdpc(routine, None, device))
    return complete(device, irp)


def in_a_work_item(device: Device, irp: Irp, lock: Callable[[], Mdl]) -> NtStatus:
    device.io.queue_work_item(device.io.allocate_work_item(device), lambda _device, _context: lock())
    return complete(device, irp)


def in_a_completion_routine(device: Device, irp: Irp, lock: Callable[[], Mdl]) -> NtStatus:
    def routine(_device: Any, own: Irp, _context: object) -> NtStatus:
        lock()
        device.io.free_irp(own)
        return STATUS_MORE_PROCESSING_REQUIRED

    own = device.io.build_asynchronous_fsd_request(IrpMajor.FLUSH_BUFFERS, device.extension.lower)
    own.set_completion_routine(routine)
    device.io.call_driver(device.extension.lower, own)
    return complete(device, irp)


@pytest.mark.parametrize("where", [in_a_dpc, in_a_work_item, in_a_completion_routine])
def test_elsewhere_it_is_nobodys_context(where: Any) -> None:
    """It is the driver's own affair, and is missed when the driver goes."""
    bench = Locking(where)
    bridge = bench.bridge
    with bench.open() as handle:
        handle.submit_read(1)
        bridge.machine.run_until_idle()
    assert bench.files == [None]
    assert bridge.faults == []
    assert not can_be_resized(bench.memory)
    with pytest.raises(
        DriverFault, match=rf"locking has left behind <MDL of 100 bytes, locked> \(at .*test_mdl.py:{bench.line}\)"
    ):
        bridge.close()
    assert can_be_resized(bench.memory)


# -- what is left locked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
def test_who_leaves_memory_locked_is_found_when_the_file_is_closed(verify: bool) -> None:
    bench = Locking(at_once, verify=verify)
    bridge = bench.bridge
    handle = bench.open()
    handle.submit_read(1)
    assert bridge.faults == []
    handle.close()
    (fault,) = bridge.faults
    assert isinstance(fault, BugCheck)
    assert (fault.code, fault.name) == (0xCB, "DRIVER_LEFT_LOCKED_PAGES_IN_PROCESS")
    assert fault.driver == "locking"
    assert fault.place is not None
    assert fault.place.endswith(f"tests/iomgr/test_mdl.py:{bench.line}"), "where it was probed"
    assert fault.parameters == (f"locked at {fault.place}", 0, bench.mdls[0], 1)
    assert bench.driver.device.device_stack.fault is fault
    assert can_be_resized(bench.memory), "it is given back"
    if verify:
        assert [(one.rule.name, one.place) for one in bridge.findings] == [("LeftLockedPages", fault.place)]
    with pytest.raises(BugCheck, match="0xCB"):
        bench.open()
    bridge.acknowledge_faults()
    bridge.close()


def test_only_the_file_that_has_gone_is_looked_at() -> None:
    bench = Locking(at_once)
    with bench.bridge as bridge:
        one, other = bench.open(), bench.open()
        one.submit_read(1)
        other.close()
        assert bridge.faults == []
        bench.unlock_all()
        one.close()
        assert bridge.faults == []


@pytest.mark.parametrize("major", [IrpMajor.CLEANUP, IrpMajor.CLOSE])
def test_it_may_be_kept_as_long_as_the_file_is_open(major: IrpMajor) -> None:
    """As a driver does that shares memory with an application."""

    def unlock(device: Device, irp: Irp) -> NtStatus:
        bench.unlock_all()
        return complete(device, irp)

    bench = Locking(at_once, {major: unlock})
    with bench.bridge as bridge:
        handle = bench.open()
        handle.submit_read(1)
        assert not can_be_resized(bench.memory)
        handle.close()
        assert can_be_resized(bench.memory)
        assert bridge.faults == []


def test_a_request_that_is_cancelled_by_the_close_may_hold_it_until_then() -> None:
    def cancelled(device: Any, irp: Irp) -> None:
        device.io.release_cancel_spin_lock(device)
        bench.unlock_all()
        complete(device, irp, STATUS_CANCELLED)

    def pending(_device: Device, irp: Irp, lock: Callable[[], Mdl]) -> NtStatus:
        lock()
        irp.mark_pending()
        irp.set_cancel_routine(cancelled)
        assert not irp.cancel
        return STATUS_PENDING

    bench = Locking(pending)
    with bench.bridge as bridge:
        handle = bench.open()
        request = handle.submit_read(1)
        handle.close()
        assert request.status == STATUS_CANCELLED
        assert bridge.faults == []


def test_who_has_made_it_is_to_blame_and_not_who_is_opened() -> None:
    """A filter has left it; the device that is opened is the one below."""
    bottom = TinyDriver("bottom", {IrpMajor.READ: succeed})

    def read(device: Device, irp: Irp) -> NtStatus:
        device.io.allocate_mdl(bytearray(4)).probe_and_lock_pages(write=True)
        return pass_down(device, irp)

    dispatch: dict[IrpMajor, Any] = {major: pass_down for major in IrpMajor if major is not IrpMajor.PNP}
    leaky = TinyDriver("leaky", {**dispatch, IrpMajor.READ: read}, named=False)
    with Bridge.manual() as bridge:
        bridge.plug("virtual:null", name="DUT", driver=bottom, upper_filters=[leaky])
        with bridge.open("DUT") as handle:
            assert handle.submit_read(1).status == STATUS_SUCCESS
        (fault,) = bridge.faults
        assert isinstance(fault, BugCheck)
        assert (fault.code, fault.driver) == (0xCB, "leaky")
        bridge.acknowledge_faults()


def test_a_stack_that_has_failed_already_is_not_blamed_once_more() -> None:
    """Its driver was not asked any more. Its memory comes back all the same."""

    def fails(_device: Device, _irp: Irp, lock: Callable[[], Mdl]) -> NtStatus:
        lock()
        raise ZeroDivisionError

    bench = Locking(fails)
    handle = bench.open()
    with pytest.raises(DriverFault, match="ZeroDivisionError"):
        handle.submit_read(1)
    assert not can_be_resized(bench.memory)
    handle.close()
    assert can_be_resized(bench.memory)
    assert len(bench.bridge.faults) == 1
    bench.bridge.acknowledge_faults()
    bench.bridge.close()
