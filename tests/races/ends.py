"""Races about who has the last word: cancel-safe queues of a driver's own, parts of a request, handles, threads, drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge.bridge.request import Request
from hilbridge.iomgr.csq import CsqIrpContext, IoCsq
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NameNotFound, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import IrpState
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Race
from tests.races.drivers import Bench, end
from tests.races.racekit import race
from tests.support import Extension, TinyDriver, complete_cancelled, hold, pend, succeed

# -- IO_CSQ --------------------------------------------------------------------------------------------------------------


class Fifo(IoCsq):
    """The plainest of all."""

    def __init__(self, io: Any) -> None:
        super().__init__(io)
        self.lock = io.ke.spin_lock()
        self.irps: list[Irp] = []

    def insert(self, irp: Irp, context: Any) -> None:
        self.irps.append(irp)

    def remove(self, irp: Irp) -> None:
        self.irps.remove(irp)

    def peek_next(self, irp: Irp | None, context: Any) -> Irp | None:
        start = 0 if irp is None else self.irps.index(irp) + 1
        return self.irps[start] if start < len(self.irps) else None

    def acquire_lock(self) -> None:
        self.lock.acquire()

    def release_lock(self) -> None:
        self.lock.release()

    def complete_canceled(self, irp: Irp) -> None:
        complete_cancelled(irp)


class CsqBench(Bench):
    """A driver that puts its reads into such a queue, each under a name."""

    def __init__(self) -> None:
        self.names: list[CsqIrpContext] = []

        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            self.names.append(CsqIrpContext())
            self.csq.insert_irp(irp, self.names[-1])
            return STATUS_PENDING

        super().__init__(read)
        self.csq = Fifo(self.io)

    def serve(self, irp: Irp | None) -> None:
        if irp is not None:
            end(self.device, irp)

    def empty(self) -> None:
        assert self.csq.irps == [] and all(name.irp is None for name in self.names)


@race
def cancel_against_removal_from_an_io_csq() -> Race:
    bench = CsqBench()
    first = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    bench.read(STATUS_SUCCESS)

    def serve() -> None:
        for _ in range(2):
            bench.serve(bench.csq.remove_next_irp())

    return bench.race({"cancel": first.cancel, "serve": serve}, serve, bench.empty)


@race
def cancel_against_removal_of_one_from_an_io_csq() -> Race:
    bench = CsqBench()
    request = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    name = bench.names[0]
    return bench.race({"cancel": request.cancel, "serve": lambda: bench.serve(bench.csq.remove_irp(name))}, bench.empty)


@race
def removal_of_one_against_removal_of_the_next_from_an_io_csq() -> Race:
    bench = CsqBench()
    bench.read(STATUS_SUCCESS)
    name = bench.names[0]
    return bench.race(
        {
            "one": lambda: bench.serve(bench.csq.remove_irp(name)),
            "next": lambda: bench.serve(bench.csq.remove_next_irp()),
        },
        bench.empty,
    )


@race
def cancel_against_insertion_into_an_io_csq() -> Race:
    bench = CsqBench()
    request = Request(bench.handle, "read(0)")
    bench.requests.append((request, (STATUS_SUCCESS, STATUS_CANCELLED)))

    def ended_if_asked() -> None:
        assert request.irp is not None
        assert request.done or not request.irp.cancel, "it was cancelled, and nobody has ended it"
        bench.serve(bench.csq.remove_next_irp())
        bench.empty()

    return bench.race({"submit": lambda: bench.io.submit_read(request, 0), "cancel": request.cancel}, ended_if_asked)


# -- associated IRPs -----------------------------------------------------------------------------------------------------


@race
def completion_of_one_part_against_completion_of_the_other() -> Race:
    """The last part ends the whole, whichever is the last, and once."""
    parts: list[Irp] = []

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.irp_count = 2
        below = device.extension.lower
        parts.extend(device.io.make_associated_irp(irp, below.stack_size) for _ in range(2))
        for part in parts:
            part.next_stack_location.major_function = IrpMajor.READ
            device.io.call_driver(below, part)
        return STATUS_PENDING

    bench = Bench(hold, above=TinyDriver("splitter", {IrpMajor.READ: read, **_THROUGH}, named=False))
    bench.read(STATUS_SUCCESS)
    one, two = bench.device.extension.held

    def freed() -> None:
        assert [part.state for part in parts] == [IrpState.FREED] * 2

    return bench.race({"one": lambda: end(bench.device, one), "two": lambda: end(bench.device, two)}, freed)


_THROUGH = dict.fromkeys((IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE), succeed)


# -- threads -------------------------------------------------------------------------------------------------------------


@race
def end_of_a_thread_against_completion() -> Race:
    bench = Bench(pend)
    for _ in range(2):
        bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    owner = bench.ke.current()

    def serve() -> None:
        queue = bench.device.extension.queue
        with queue.lock:
            irp = queue.remove_next_locked()
        if irp is not None:
            end(bench.device, irp)

    return bench.race({"end": lambda: bench.io.thread_ended(owner), "serve": serve})


@race
def end_of_a_thread_against_a_request_of_another() -> Race:
    bench = Bench(pend)
    bench.read(STATUS_CANCELLED)
    owner = bench.ke.current()

    def other_is_left_alone() -> None:
        request, _ = bench.requests[-1]
        assert not request.done and request.cancel()

    return bench.race(
        {"end": lambda: bench.io.thread_ended(owner), "submit": lambda: bench.read(STATUS_CANCELLED)},
        other_is_left_alone,
    )


# -- handles and references ------------------------------------------------------------------------------------------------


class Ends(Bench):
    """A second driver beside the bench's, without Plug and Play, which notes what its file and it itself go through."""

    def __init__(self) -> None:
        super().__init__(pend)
        self.told: list[str] = []
        self.unloaded = 0
        self.legacy = self.io.load_driver("legacy", self._entry)
        self.named = self.io.create_device(self.legacy, None, "\\Device\\Legacy")

    def _entry(self, driver: DriverObject, _parameters: Any) -> NtStatus:
        for major in (IrpMajor.CREATE, IrpMajor.CLEANUP, IrpMajor.CLOSE):
            driver.major_function[major] = self._tell
        driver.unload = self._unload
        return STATUS_SUCCESS

    def _tell(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        self.told.append(IrpMajor(irp.current_stack_location.major_function).name)
        return succeed(device, irp)

    def _unload(self, driver: DriverObject) -> None:
        self.unloaded += 1
        for device in driver.devices:
            self.io.delete_device(device)

    @staticmethod
    def refused(work: Callable[[], object], *statuses: NtStatus) -> bool:
        """Whether it is refused; only these statuses are right."""
        try:
            work()
        except (NtStatusError, NameNotFound) as error:
            if error.status not in statuses:
                raise
            return True
        return False


@race
def closing_of_one_handle_against_closing_of_the_other() -> Race:
    bench = Ends()
    file = bench.io.create_file("\\Device\\Legacy")
    bench.io.duplicate_handle(file)

    def once() -> None:
        assert bench.told == ["CREATE", "CLEANUP", "CLOSE"] and bench.named.reference_count == 0

    return bench.race({"one": lambda: bench.io.close_file(file), "two": lambda: bench.io.close_file(file)}, once)


@race
def closing_of_the_last_handle_against_the_end_of_a_reference() -> Race:
    bench = Ends()
    file = bench.io.reference_object(bench.io.create_file("\\Device\\Legacy"))

    def once() -> None:
        assert bench.told == ["CREATE", "CLEANUP", "CLOSE"] and bench.named.reference_count == 0

    return bench.race(
        {"close": lambda: bench.io.close_file(file), "dereference": lambda: bench.io.dereference_object(file)}, once
    )


@race
def end_of_one_reference_against_deletion() -> Race:
    bench = Ends()
    bench.io.reference_object(bench.named)

    def free() -> None:
        assert bench.legacy.devices == []
        bench.io.create_device(bench.legacy, None, "\\Device\\Legacy")

    return bench.race(
        {
            "delete": lambda: bench.io.delete_device(bench.named),
            "dereference": lambda: bench.io.dereference_object(bench.named),
        },
        free,
    )


# -- unloading -----------------------------------------------------------------------------------------------------------


@race
def unloading_against_opening() -> Race:
    """Either the open is refused and the driver is gone, or it has come first, and the driver goes when it is closed."""
    bench = Ends()
    opened: list[Any] = []

    def open_it() -> None:
        bench.refused(
            lambda: opened.append(bench.io.create_file("\\Device\\Legacy")),
            STATUS_NO_SUCH_DEVICE,
            STATUS_OBJECT_NAME_NOT_FOUND,
        )

    def gone_in_the_end() -> None:
        assert bench.unloaded == (0 if opened else 1)
        for file in opened:
            bench.io.close_file(file)
        assert bench.unloaded == 1 and "legacy" not in bench.io.drivers
        assert bench.told in ([], ["CREATE", "CLEANUP", "CLOSE"])

    return bench.race({"unload": lambda: bench.io.unload_driver("legacy"), "open": open_it}, gone_in_the_end)


@race
def unloading_against_the_last_close() -> Race:
    bench = Ends()
    file = bench.io.create_file("\\Device\\Legacy")

    def once() -> None:
        assert bench.unloaded == 1 and "legacy" not in bench.io.drivers

    return bench.race(
        {"unload": lambda: bench.io.unload_driver("legacy"), "close": lambda: bench.io.close_file(file)}, once
    )


@race
def unloading_against_unloading() -> Race:
    bench = Ends()
    refusals: list[bool] = []

    def unload() -> None:
        refusals.append(
            bench.refused(lambda: bench.io.unload_driver("legacy"), STATUS_DELETE_PENDING, STATUS_OBJECT_NAME_NOT_FOUND)
        )

    def once() -> None:
        assert sorted(refusals) == [False, True] and bench.unloaded == 1

    return bench.race({"one": unload, "two": unload}, once)


@race
def unloading_against_attaching() -> Race:
    bench = Ends()
    other = bench.io.create_device(bench.io.load_driver("other", _nothing), None)
    attached: list[bool] = []

    def attach() -> None:
        attached.append(
            not bench.refused(lambda: bench.io.attach_device_to_device_stack(other, bench.named), STATUS_NO_SUCH_DEVICE)
        )

    def gone_in_the_end() -> None:
        if attached == [True]:
            bench.io.detach_device(bench.named)
        assert bench.unloaded == 1
        bench.io.delete_device(other)

    return bench.race({"unload": lambda: bench.io.unload_driver("legacy"), "attach": attach}, gone_in_the_end)


def _nothing(_driver: DriverObject, _parameters: Any) -> NtStatus:
    return STATUS_SUCCESS


# -- StartIo -------------------------------------------------------------------------------------------------------------


@race
def cancel_of_a_packet_against_a_start_that_takes_its_routine_away() -> Race:
    """With the NonCancelable attribute: a packet is either cancelled while it waits, or StartIo has it for good."""
    both: list[Irp] = []

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.io.start_packet(device, irp, None, cancelled)
        return STATUS_PENDING

    def cancelled(device: DeviceObject[Any] | None, irp: Irp) -> None:
        assert device is not None
        if not device.ke.remove_entry_device_queue(device.device_queue, irp):
            both.append(irp)
        device.io.release_cancel_spin_lock(device)
        complete_cancelled(irp)

    def start_io(device: DeviceObject[Extension], irp: Irp) -> None:
        assert irp.cancel_routine is None
        device.extension.held.append(irp)

    def hardware() -> None:
        with bench.ke.raised_irql(DISPATCH_LEVEL):
            while bench.device.extension.held:
                end(bench.device, bench.device.extension.held.pop())
                bench.io.start_next_packet(bench.device, cancelable=True)

    def idle() -> None:
        hardware()
        assert not bench.device.device_queue.busy and both == [], "cancelled, and started all the same"

    bench = Bench(read, start_io=start_io)
    bench.io.set_start_io_attributes(bench.device, deferred=False, non_cancelable=True)
    bench.read(STATUS_SUCCESS)
    second = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    bench.read(STATUS_SUCCESS)
    return bench.race({"cancel": second.cancel, "hardware": hardware}, idle)
