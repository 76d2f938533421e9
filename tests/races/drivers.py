"""Races in the model itself, seen from small drivers: completion, cancellation, StartIo, DPCs and timers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import EventType, Kevent
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.kernel.processor import Processor
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import BugCheck, HilbridgeError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DRIVER_INTERNAL_ERROR,
    STATUS_DRIVER_PROCESS_TERMINATED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Race
from tests.races.racekit import CountingIo, race
from tests.support import Extension, TinyDriver, complete, complete_cancelled, hold, pend


class Bench:
    """A tiny driver on a manual bridge, with its device opened."""

    def __init__(self, read: Any, *, above: TinyDriver | None = None, start_io: Any = None) -> None:
        self.driver = TinyDriver("lower", {IrpMajor.READ: read}, start_io=start_io)
        self.bridge = Bridge.manual(io_manager=CountingIo)
        self.io, self.ke = self.bridge.io, self.bridge.ke
        upper = () if above is None else (above,)
        self.bridge.plug("virtual:null", name="TINY", driver=self.driver, upper_filters=upper)
        self.handle: Handle = self.bridge.open("TINY")
        self.device: DeviceObject[Extension] = self.driver.device
        self.requests: list[tuple[Request, Collection[NtStatus]]] = []
        self.processors: list[Processor] = []

    def read(self, *allowed: NtStatus) -> Request:
        """A read that is to end once, with one of these statuses."""
        request = self.handle.submit_read(0)
        self.requests.append((request, allowed))
        return request

    def race(self, threads: dict[str, Callable[[], object]], *checks: Callable[[], object]) -> Race:
        def watched(body: Callable[[], object]) -> None:
            body()
            self.processors.append(self.ke.current())

        def check() -> None:
            for one in checks:
                one()
            self.check()

        return Race({name: partial(watched, body) for name, body in threads.items()}, check, self.close)

    def check(self) -> None:
        self.bridge.machine.run_until_idle()
        assert not self.ke.faults, f"latched: {self.ke.faults}"
        for request, allowed in self.requests:
            assert request.done, f"{request!r} has not ended"
            assert request.status in allowed, f"ended with {request.status.name}"
            assert isinstance(self.io, CountingIo)
            assert request.irp is not None
            assert self.io.finished[request.irp.id] == 1
        assert not self.handle.file.irps
        for processor in self.processors:
            assert processor.irql == 0
            assert not processor.dpcs
        assert not len(self.ke.timers)

    def close(self) -> None:
        self.handle.close()
        self.bridge.close()


def end(device: DeviceObject[Any], irp: Irp) -> None:
    complete(device, irp, STATUS_SUCCESS)


# -- who completes -------------------------------------------------------------------------------------------------------


@race
def completion_against_completion() -> Race:
    """A faulty driver: exactly one wins, and the other gets bug check 0x44, which fails the stack.

    The caller is told one thing, once: the request's own end, or that its stack has failed, whichever came first.
    """
    bench = Bench(hold)
    bench.read(STATUS_SUCCESS, STATUS_DRIVER_PROCESS_TERMINATED)
    [irp] = bench.device.extension.held
    caught: list[BugCheck] = []

    def finish() -> None:
        try:
            end(bench.device, irp)
        except BugCheck as error:
            caught.append(error)

    def one_lost() -> None:
        assert [error.code for error in caught] == [0x44]
        assert bench.ke.faults == caught, "latched, and once"
        assert bench.device.device_stack.fault is caught[0]
        bench.ke.faults.clear()

    return bench.race({"one": finish, "two": finish}, one_lost)


@race
def disowning_against_completion() -> Race:
    """The caller gives up on a driver that completes just now: one of the two has the last word, and no one is blamed."""
    bench = Bench(hold)
    request = bench.read(STATUS_SUCCESS, STATUS_DRIVER_INTERNAL_ERROR)
    [irp] = bench.device.extension.held

    def consistent() -> None:
        assert request.disowned is (request.status == STATUS_DRIVER_INTERNAL_ERROR)

    return bench.race({"disown": request.disown, "complete": lambda: end(bench.device, irp)}, consistent)


@race
def disowning_against_completion_of_data() -> Race:
    """What is done stands: a disowned request gets no bytes afterwards."""
    bench = Bench(hold)
    request = bench.handle.submit_read(4)
    bench.requests.append((request, (STATUS_SUCCESS, STATUS_DRIVER_INTERNAL_ERROR)))
    [irp] = bench.device.extension.held
    assert irp.system_buffer is not None
    irp.system_buffer[:] = b"abcd"

    def consistent() -> None:
        assert request.data == (b"" if request.disowned else b"abcd")

    return bench.race(
        {"disown": request.disown, "complete": lambda: complete(bench.device, irp, STATUS_SUCCESS, 4)}, consistent
    )


@race
def cancel_against_a_dequeue() -> Race:
    """IO_CSQ: the one who gets the cancel routine owns the IRP's end."""
    bench = Bench(pend)
    bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    bench.read(STATUS_SUCCESS)
    queue = bench.device.extension.queue
    first = bench.requests[0][0]

    def serve() -> None:
        with queue.lock:
            irp = queue.remove_next_locked()
        if irp is not None:
            end(bench.device, irp)

    def serve_the_rest() -> None:
        while queue.irps:
            serve()

    return bench.race({"cancel": first.cancel, "serve": serve}, serve_the_rest)


# -- a filter that keeps an IRP for a while ------------------------------------------------------------------------------


def _keeper(*, cancellable: bool) -> TinyDriver:
    """A filter whose completion routine keeps each read, to complete it later on another thread."""

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(kept, device)
        device.io.call_driver(device.extension.lower, irp)
        return STATUS_PENDING

    def kept(_device: DeviceObject[Any] | None, irp: Irp, filter_device: DeviceObject[Extension]) -> NtStatus:
        if cancellable:
            filter_device.extension.queue.insert(irp)
        else:
            filter_device.extension.held.append(irp)
        return STATUS_MORE_PROCESSING_REQUIRED

    return TinyDriver("keeper", {IrpMajor.READ: read}, named=False)


def _let_go(device: DeviceObject[Extension]) -> None:
    """The filter's worker: completes what the completion routine has kept, perhaps before that has returned."""
    extension = device.extension
    while extension.held:
        device.io.complete_request(extension.held.pop())
    with extension.queue.lock:
        irp = extension.queue.remove_next_locked()
    if irp is not None:
        device.io.complete_request(irp)


@race
def cancel_against_a_routine_that_keeps_the_irp() -> Race:
    keeper = _keeper(cancellable=True)
    bench = Bench(hold, above=keeper)
    request = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    [irp] = bench.device.extension.held
    return bench.race(
        {"cancel": request.cancel, "complete": lambda: end(bench.device, irp)}, lambda: _let_go(keeper.device)
    )


@race
def cancel_against_a_cancellable_lower_driver_and_a_keeper() -> Race:
    keeper = _keeper(cancellable=True)
    bench = Bench(pend, above=keeper)
    request = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    queue = bench.device.extension.queue

    def serve() -> None:
        with queue.lock:
            irp = queue.remove_next_locked()
        if irp is not None:
            end(bench.device, irp)

    return bench.race({"cancel": request.cancel, "serve": serve}, lambda: _let_go(keeper.device))


@race
def keeping_against_letting_go() -> Race:
    """The IRP may be completed, and gone, before the routine that has kept it returns."""
    keeper = _keeper(cancellable=False)
    bench = Bench(hold, above=keeper)
    bench.read(STATUS_SUCCESS)
    [irp] = bench.device.extension.held
    return bench.race(
        {"complete": lambda: end(bench.device, irp), "worker": lambda: _let_go(keeper.device)},
        lambda: _let_go(keeper.device),
    )


@race
def keeping_against_letting_go_and_cancel() -> Race:
    keeper = _keeper(cancellable=True)
    bench = Bench(hold, above=keeper)
    request = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    [irp] = bench.device.extension.held
    end_it = partial(end, bench.device, irp)
    return bench.race(
        {"complete": end_it, "worker": lambda: _let_go(keeper.device), "cancel": request.cancel},
        lambda: _let_go(keeper.device),
    )


def _watcher() -> TinyDriver:
    """A filter whose completion routine looks at each read and lets it go on."""

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(seen, device)
        return device.io.call_driver(device.extension.lower, irp)

    def seen(_device: DeviceObject[Any] | None, irp: Irp, filter_device: DeviceObject[Extension]) -> NtStatus:
        if irp.pending_returned:
            irp.mark_pending()
        filter_device.extension.notes.append(irp.id)
        return STATUS_SUCCESS

    return TinyDriver("watcher", {IrpMajor.READ: read}, named=False)


@race
def cancel_against_completion_through_a_filter() -> Race:
    watcher = _watcher()
    bench = Bench(pend, above=watcher)
    request = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    queue = bench.device.extension.queue

    def serve() -> None:
        with queue.lock:
            irp = queue.remove_next_locked()
        if irp is not None:
            end(bench.device, irp)

    def seen_once() -> None:
        assert len(watcher.notes) == 1

    return bench.race({"cancel": request.cancel, "serve": serve}, seen_once)


@race
def disowning_against_completion_through_a_filter() -> Race:
    """The caller may give up in the middle of the completion; whoever completes does not notice."""
    watcher = _watcher()
    bench = Bench(hold, above=watcher)
    request = bench.read(STATUS_SUCCESS, STATUS_DRIVER_INTERNAL_ERROR)
    [irp] = bench.device.extension.held

    def seen_once() -> None:
        assert len(watcher.notes) == 1

    return bench.race({"disown": request.disown, "complete": lambda: end(bench.device, irp)}, seen_once)


def _own_queue(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
    """A dispatch routine with a cancel routine of its own, which needs to be called with the driver's own device."""

    def cancelled(its_device: DeviceObject[Any] | None, irp: Irp) -> None:
        device.io.release_cancel_spin_lock(device)
        with device.extension.queue.lock:
            device.extension.held.remove(irp)
        assert its_device is device, f"the cancel routine of {device!r} was called with {its_device!r}"
        complete(device, irp, STATUS_CANCELLED)

    with device.extension.queue.lock:
        irp.mark_pending()
        device.extension.held.append(irp)
        irp.set_cancel_routine(cancelled)
        taken_back = irp.cancel and irp.set_cancel_routine(None) is not None
        if taken_back:
            device.extension.held.remove(irp)
    if taken_back:
        complete(device, irp, STATUS_CANCELLED)
    return STATUS_PENDING


@race
def cancel_against_a_way_down_the_stack() -> Race:
    """Wherever the IRP is on its way: either its driver sees the cancellation, or the cancellation sees its driver."""
    bench = Bench(_own_queue, above=_watcher())
    request = Request(bench.handle, "read(0)")

    def ended_if_asked() -> None:
        assert request.irp is not None
        if request.irp.cancel:
            assert request.done, "it was cancelled, and nobody has ended it"
            assert request.status == STATUS_CANCELLED
        else:
            assert request.cancel()

    return bench.race({"submit": lambda: bench.io.submit_read(request, 0), "cancel": request.cancel}, ended_if_asked)


# -- StartIo -------------------------------------------------------------------------------------------------------------


def _start_io_bench(*, deferred: bool) -> Bench:
    """A driver that handles one read at a time: StartIo starts it, `_hardware_is_done` ends it."""

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.mark_pending()
        device.io.start_packet(device, irp, cancel=cancelled)
        return STATUS_PENDING

    def cancelled(device: DeviceObject[Extension] | None, irp: Irp) -> None:
        assert device is not None
        device.io.release_cancel_spin_lock(device)
        with device.queue_lock:
            device.device_queue.remove_entry(irp)
        complete_cancelled(irp)

    def start_io(device: DeviceObject[Extension], irp: Irp) -> None:
        if irp.set_cancel_routine(None) is None:
            device.io.start_next_packet(device)  # a cancellation has it, and completes it
            return
        device.extension.held.append(irp)

    bench = Bench(read, start_io=start_io)
    bench.io.set_start_io_attributes(bench.device, deferred=deferred)
    return bench


def _hardware_is_done(bench: Bench) -> None:
    """The interrupt's DPC: the packet in progress ends, and the next one is started."""
    device = bench.device
    while device.extension.held:
        with bench.ke.raised_irql(DISPATCH_LEVEL):
            irp = device.extension.held.pop()
            end(device, irp)
            device.io.start_next_packet(device)


def _idle(bench: Bench) -> None:
    _hardware_is_done(bench)
    assert not bench.device.device_queue.busy, "no packet is left, and the queue still says that one is in progress"


@race
def cancel_of_a_queued_packet_against_its_start() -> Race:
    bench = _start_io_bench(deferred=False)
    bench.read(STATUS_SUCCESS)
    second = bench.read(STATUS_SUCCESS, STATUS_CANCELLED)
    bench.read(STATUS_SUCCESS)
    return bench.race({"cancel": second.cancel, "hardware": lambda: _hardware_is_done(bench)}, lambda: _idle(bench))


@race
def cancel_of_a_packet_against_its_insertion() -> Race:
    bench = _start_io_bench(deferred=False)
    bench.read(STATUS_SUCCESS)
    request = Request(bench.handle, "read(0)")
    bench.requests.append((request, (STATUS_SUCCESS, STATUS_CANCELLED)))

    def not_left_waiting() -> None:
        assert request.irp is not None
        assert request.done or not request.irp.cancel, "it was cancelled, and waits for the hardware all the same"

    return bench.race(
        {"submit": lambda: bench.io.submit_read(request, 0), "cancel": request.cancel},
        not_left_waiting,
        lambda: _idle(bench),
    )


@race
def start_of_a_packet_against_the_end_of_the_one_before() -> Race:
    bench = _start_io_bench(deferred=False)
    bench.read(STATUS_SUCCESS)
    return bench.race(
        {"submit": lambda: bench.read(STATUS_SUCCESS), "hardware": lambda: _hardware_is_done(bench)},
        lambda: _idle(bench),
    )


@race
def deferred_start_of_a_packet_against_the_end_of_the_one_before() -> Race:
    bench = _start_io_bench(deferred=True)

    def submit() -> None:
        bench.read(STATUS_SUCCESS)
        bench.read(STATUS_SUCCESS)

    return bench.race({"submit": submit, "hardware": lambda: _hardware_is_done(bench)}, lambda: _idle(bench))


# -- interrupts ---------------------------------------------------------------------------------------------------------


@race
def disconnecting_an_interrupt_against_its_service_routine() -> Race:
    """IoDisconnectInterrupt: when it has returned the routine does not run, and never will again."""
    bench = Bench(pend)
    disconnected: list[bool] = []
    late: list[str] = []

    def isr(_interrupt: Interrupt, _context: object) -> bool:
        before = bool(disconnected)
        late.extend(["ran"] if before or disconnected else [])
        return True

    vector = bench.ke.vector()
    pin = bench.ke.add_pin(vector, -1, lambda: False)
    interrupt = bench.io.connect_interrupt(bench.device, isr, None, vector.number)
    bench.device.extension.interrupt = interrupt  # REMOVE_DEVICE disconnects it, also if the race has not been run

    def disconnect() -> None:
        bench.io.disconnect_interrupt(interrupt)
        disconnected.append(True)

    def not_late() -> None:
        assert not late, "the service routine ran, or still did, when it had been disconnected"
        bench.ke.remove_pin(pin)

    return bench.race({"disconnect": disconnect, "interrupt": lambda: vector.dispatch(pin)}, not_late)


# -- DPCs, timers, events ------------------------------------------------------------------------------------------------


@race
def insertion_of_a_dpc_against_itself() -> Race:
    """Each insertion that says True has one run of its own after it."""
    bench = Bench(pend)
    runs: list[int] = []
    queued: list[int] = []
    dpc = Kdpc(lambda _dpc, _context, one, _two: runs.append(one))

    def insert(number: int) -> None:
        if bench.ke.insert_queue_dpc(dpc, number):
            queued.append(number)

    def all_ran() -> None:
        assert queued
        assert sorted(runs) == sorted(queued)

    return bench.race({"one": lambda: insert(1), "two": lambda: insert(2)}, all_ran)


@race
def setting_a_timer_against_its_expiry() -> Race:
    """A timer that is set again just when it expires runs its old DPC now or never, and its new one when that is due."""
    bench = Bench(pend)
    ran: list[str] = []
    old = Kdpc(lambda *_: ran.append("old"))
    new = Kdpc(lambda *_: ran.append("new"))
    timer = Ktimer()
    bench.ke.set_timer(timer, relative_ms(10), dpc=old)

    def expire() -> None:
        while (due := bench.ke.timers.pop_expired(10_000_000)) is not None:
            bench.ke.expire(due)

    def nothing_early() -> None:
        assert ran in ([], ["old"]), f"ran {ran}, and only the old time was over"
        bench.ke.cancel_timer(timer)

    return bench.race(
        {"set": lambda: bench.ke.set_timer(timer, relative_ms(50), dpc=new), "expire": expire}, nothing_early
    )


@race
def cancelling_a_timer_against_its_expiry() -> Race:
    bench = Bench(pend)
    ran: list[str] = []
    cancelled: list[bool] = []
    timer = Ktimer()
    bench.ke.set_timer(timer, relative_ms(10), dpc=Kdpc(lambda *_: ran.append("ran")))

    def expire() -> None:
        due = bench.ke.timers.pop_expired(10_000_000)
        if due is not None:
            bench.ke.expire(due)

    def one_of_them() -> None:
        assert cancelled == [not ran], f"cancelled {cancelled}, ran {ran}"

    return bench.race({"cancel": lambda: cancelled.append(bench.ke.cancel_timer(timer)), "expire": expire}, one_of_them)


@race
def two_waits_for_one_synchronization_event() -> Race:
    """One signal lets one go; the other one's time-out is over."""
    bench = Bench(pend)
    event = Kevent(EventType.SYNCHRONIZATION)
    came: list[bool] = []

    def wait() -> None:
        came.append(bench.ke.wait_for_single_object(event, 0.01))

    def consistent() -> None:
        assert came.count(True) + event.signaled == 1, f"{came}, and the event is {event.signaled}"

    return bench.race({"one": wait, "two": wait, "set": event.set}, consistent)


@race
def bridge_close_against_a_new_read() -> Race:
    bench = Bench(pend)
    request = Request(bench.handle, "read(0)")

    def submit() -> None:
        try:
            bench.io.submit_read(request, 0)
        except HilbridgeError:
            return
        bench.requests.append((request, (STATUS_CANCELLED,)))

    return bench.race({"close": bench.bridge.close, "submit": submit})
