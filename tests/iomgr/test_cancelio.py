"""Whose requests are cancelled: CancelIo, CancelIoEx, and what a thread leaves behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

from hilbridge import Bridge
from hilbridge.iomgr.request import IoRequest
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS
from tests.support import PATIENCE, System, Thread, TinyDriver, bug_check, complete, hold, now, pend, plug, wait


class Reader(System):
    """A device whose reads wait, opened twice."""

    def __init__(self, read: Any = pend) -> None:
        super().__init__()
        self.driver = TinyDriver("d", {IrpMajor.READ: read, IrpMajor.WRITE: pend})
        self.stack(self.driver)
        self.file = self.open(self.driver.device)
        self.other = self.open(self.driver.device)

    def thread(self, work: Callable[[], Any]) -> Any:
        """What a thread of its own returns; it has ended."""
        thread = Thread(work)
        result = thread.finish()
        del thread
        gc.collect()
        return result


def irp_of(request: IoRequest) -> Irp:
    assert request.irp is not None
    return request.irp


# -- CancelIo and CancelIoEx ---------------------------------------------------------------------------------------------


def test_cancel_io_means_what_the_calling_thread_has_on_that_file() -> None:
    system = Reader()
    mine = [system.read(system.file, 4) for _ in range(2)]
    elsewhere = system.read(system.other, 4)
    asked, go_on = threading.Event(), threading.Event()
    theirs: list[IoRequest] = []

    def another() -> int:
        theirs.append(system.read(system.file, 4))
        asked.set()
        wait(go_on)
        return system.io.cancel_io(system.file)

    thread = Thread(another)
    wait(asked)
    assert system.io.cancel_io(system.file) == 2
    assert [request.status for request in mine] == [STATUS_CANCELLED] * 2
    assert not theirs[0].done and not elsewhere.done
    go_on.set()
    assert thread.finish() == 1
    assert now(theirs[0].status) == STATUS_CANCELLED and not elsewhere.done
    assert system.io.cancel_io(system.file) == 0


def test_cancel_io_ex_means_one_request_or_all_whoever_made_them() -> None:
    system = Reader()
    one, two, elsewhere = system.read(system.file, 4), system.read(system.file, 4), system.read(system.other, 4)
    done = threading.Event()
    theirs: list[IoRequest] = []

    def another() -> None:
        theirs.append(system.read(system.file, 4))
        done.set()
        wait(leave)

    leave = threading.Event()
    thread = Thread(another)
    wait(done)
    assert system.io.cancel_io_ex(system.file, irp_of(one)) == 1
    assert one.status == STATUS_CANCELLED and not two.done
    assert system.io.cancel_io_ex(system.file, irp_of(one)) == 0, "it has ended"
    assert system.io.cancel_io_ex(system.file, irp_of(elsewhere)) == 0, "it is not of this file"
    assert system.io.cancel_io_ex(system.file) == 2
    assert two.status == theirs[0].status == STATUS_CANCELLED and not elsewhere.done
    leave.set()
    thread.finish()


def test_a_completed_irp_that_keeps_a_cancel_routine_is_bug_check_48_when_it_is_cancelled() -> None:
    system = Reader(hold)
    irp = irp_of(system.read(system.file, 4))
    complete(system.driver.device, irp)
    irp.set_cancel_routine(lambda _device, _irp: None)
    with bug_check(0x48, irp):
        system.io.cancel_irp(irp)


# -- the end of a thread -------------------------------------------------------------------------------------------------


def test_a_threads_end_cancels_what_it_has_left_behind_and_nothing_else() -> None:
    system = Reader()
    mine = system.read(system.file, 4)
    theirs = system.thread(lambda: [system.read(system.file, 4), system.write(system.other, b"x")])
    assert not any(request.done for request in theirs), "a finalizer does nothing itself"
    system.machine.run_until_idle()
    assert [request.status for request in theirs] == [STATUS_CANCELLED] * 2
    assert not mine.done


def test_a_request_that_had_ended_before_its_thread_is_not_touched() -> None:
    system = Reader()

    def work() -> IoRequest:
        request = system.read(system.file, 4)
        with system.driver.device.extension.queue.lock:
            irp = system.driver.device.extension.queue.remove_next_locked()
        assert irp is not None
        complete(system.driver.device, irp, STATUS_SUCCESS, 0)
        return request

    request = system.thread(work)
    system.machine.run_until_idle()
    assert request.status == STATUS_SUCCESS


def test_a_thread_whose_requests_did_not_wait_is_not_watched() -> None:
    system = Reader(lambda device, irp: complete(device, irp))

    def work() -> object:
        assert system.read(system.file, 4).done
        return system.ke.local.at_end

    assert system.thread(work) is None and not system.ke.finalized


def test_a_synchronous_request_that_its_driver_did_not_wait_for_goes_with_its_thread() -> None:
    system = Reader()
    top = system.driver.device
    event = Kevent()

    def work() -> None:
        system.io.call_driver(top, system.io.build_synchronous_fsd_request(IrpMajor.READ, top, event))
        system.read(system.file, 4)

    system.thread(work)
    system.machine.run_until_idle()
    assert event.signaled


def test_nothing_is_left_for_a_system_that_is_gone() -> None:
    requests: list[IoRequest] = []

    def work() -> None:
        system = Reader()
        requests.append(system.read(system.file, 4))

    Thread(work).finish()
    gc.collect()
    assert not requests[0].done


def test_the_end_of_a_thread_of_a_program_ends_its_requests() -> None:
    driver = TinyDriver("d", {IrpMajor.READ: pend})
    with Bridge() as bridge:
        plug(bridge, driver)
        with bridge.open("DUT") as handle:
            mine = handle.submit_read(4)
            thread = Thread(lambda: handle.submit_read(4))
            theirs = thread.finish()
            del thread
            assert theirs.wait(PATIENCE) and theirs.status == STATUS_CANCELLED
            assert not mine.done
            assert handle.cancel_io() == 1 and mine.status == STATUS_CANCELLED
