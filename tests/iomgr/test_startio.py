"""StartIo: one packet at a time, the next when the last is over, and chains of any length."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hilbridge import DriverFault
from hilbridge.iomgr.request import IoRequest
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import CancelRoutine, Irp
from hilbridge.model.status import STATUS_CANCELLED, STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.support import PATIENCE, Extension, System, Thread, TinyDriver, bug_check, complete, raises, wait


class Serial(System):
    """A device with StartIo. Reads are packets; StartIo writes them down, and what else it does is the test's."""

    def __init__(self, start_io: Any = None, *, deferred: bool = False, cancel: CancelRoutine | None = None) -> None:
        super().__init__()
        self.started: list[Irp] = []
        self.irqls: list[int] = []
        self.cancel = cancel
        self.key: int | None = None

        def routine(device: DeviceObject[Extension], irp: Irp) -> None:
            assert device.current_irp is irp
            self.started.append(irp)
            self.irqls.append(device.ke.irql)
            if start_io is not None:
                start_io(device, irp)

        def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            irp.mark_pending()
            device.io.start_packet(device, irp, self.key, self.cancel)
            return STATUS_PENDING

        self.driver = TinyDriver("d", {IrpMajor.READ: read}, start_io=routine)
        self.stack(self.driver)
        self.device = self.driver.device
        self.io.set_start_io_attributes(self.device, deferred=deferred)
        self.file = self.open(self.device)

    def packet(self, key: int | None = None) -> IoRequest:
        self.key = key
        return self.read(self.file, 4)

    def next(self) -> None:
        with self.ke.raised_irql(DISPATCH_LEVEL):
            self.io.start_next_packet(self.device)

    def finish(self) -> None:
        """What a DPC does when the hardware is done with the packet."""
        irp = self.device.current_irp
        assert irp is not None
        complete(self.device, irp, STATUS_SUCCESS, 0)
        self.next()


def irps(requests: list[IoRequest]) -> list[Irp]:
    return [request.irp for request in requests if request.irp is not None]


# -- one after the other -------------------------------------------------------------------------------------------------


def test_a_packet_for_an_idle_device_is_started_at_once_at_dispatch_level() -> None:
    system = Serial()
    request = system.packet()
    assert system.started == [request.irp] and system.irqls == [DISPATCH_LEVEL]
    assert system.device.current_irp is request.irp
    assert system.ke.irql == PASSIVE_LEVEL


def test_packets_wait_for_the_one_in_progress_and_keep_their_order() -> None:
    system = Serial()
    requests = [system.packet() for _ in range(4)]
    assert system.started == irps(requests[:1])
    for count in range(1, 5):
        assert len(system.started) == count
        system.finish()
    assert system.started == irps(requests)
    assert all(request.status == STATUS_SUCCESS for request in requests)
    assert system.device.current_irp is None and not system.device.device_queue.busy
    again = system.packet()
    assert system.started[-1] is again.irp


def test_keys_order_what_waits() -> None:
    system = Serial()
    first = system.packet(100)
    late, early, middle = system.packet(30), system.packet(10), system.packet(20)
    for _ in range(4):
        system.finish()
    assert system.started == irps([first, early, middle, late])


def test_asking_for_the_next_packet_of_an_idle_device_is_bug_check_2() -> None:
    system = Serial()
    with bug_check(0x2):
        system.next()
    system.packet()
    system.finish()
    with bug_check(0x2):
        system.next()
    assert system.ke.irql == PASSIVE_LEVEL
    assert system.packet().irp is system.started[-1], "the queue still works"


def test_the_next_packet_is_asked_for_at_dispatch_level() -> None:
    system = Serial()
    system.packet()
    with bug_check(0x8):
        system.io.start_next_packet(system.device)
    with system.ke.raised_irql(DISPATCH_LEVEL + 1), bug_check(0x8):
        system.io.start_next_packet(system.device)


def test_a_driver_without_start_io_is_told_so() -> None:
    system = Serial()
    system.device.driver_object.driver_start_io = None
    with pytest.raises(DriverFault, match="no driver_start_io"):
        system.packet()


# -- chains --------------------------------------------------------------------------------------------------------------


def done_at_once(device: DeviceObject[Extension], irp: Irp) -> None:
    """A StartIo whose hardware is done at once."""
    complete(device, irp, STATUS_SUCCESS, 0)
    device.io.start_next_packet(device)


class Gate:
    """Holds the first packet, so that the others pile up; then lets them go."""

    def __init__(self) -> None:
        self.closed = True

    def __call__(self, device: DeviceObject[Extension], irp: Irp) -> None:
        if not self.closed:
            done_at_once(device, irp)


@pytest.mark.parametrize("deferred", [True, False])
def test_a_start_io_that_is_done_at_once_serves_the_whole_queue(deferred: bool) -> None:
    gate = Gate()
    system = Serial(gate, deferred=deferred)
    requests = [system.packet() for _ in range(50)]
    gate.closed = False
    system.finish()
    assert system.started == irps(requests)
    assert all(request.done for request in requests)
    assert system.device.current_irp is None and not system.device.device_queue.busy


def test_ten_thousand_deferred_packets_need_no_deep_stack() -> None:
    gate = Gate()
    system = Serial(gate, deferred=True)
    requests = [system.packet() for _ in range(10_000)]
    gate.closed = False
    system.finish()
    assert all(request.done for request in requests)
    assert system.started == irps(requests) and set(system.irqls) == {DISPATCH_LEVEL}
    assert system.ke.faults == []


def test_a_deferred_start_io_is_never_inside_itself() -> None:
    depth, deepest = [0], [0]

    def start_io(device: DeviceObject[Extension], irp: Irp) -> None:
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        if len(system.started) > 1:
            done_at_once(device, irp)
        depth[0] -= 1

    system = Serial(start_io, deferred=True)
    for _ in range(5):
        system.packet()
    system.finish()
    assert len(system.started) == 5 and deepest == [1]


def test_start_io_is_never_called_from_within_itself() -> None:
    # In Windows it is, without DeferredStartIo.
    depth, deepest = [0], [0]

    def start_io(device: DeviceObject[Extension], irp: Irp) -> None:
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        if len(system.started) > 1:
            done_at_once(device, irp)
        depth[0] -= 1

    system = Serial(start_io)
    for _ in range(5):
        system.packet()
    system.finish()
    assert len(system.started) == 5 and deepest == [1]


def test_a_deferred_packet_that_another_processor_ends_while_start_io_runs_is_followed_up_by_it() -> None:
    inside, go_on = threading.Event(), threading.Event()

    def start_io(_device: DeviceObject[Extension], irp: Irp) -> None:
        if irp is system.started[0]:
            inside.set()
            wait(go_on)

    system = Serial(start_io, deferred=True)
    first = Thread(system.packet)
    wait(inside)
    second = Thread(system.packet).finish()
    Thread(system.finish).finish()
    assert system.started == [system.started[0]], "not while the first StartIo runs"
    go_on.set()
    first.finish()
    assert system.started[1:] == irps([second])
    system.finish()
    assert second.done and not system.device.device_queue.busy


def test_deferred_packets_that_end_on_other_processors_are_never_forgotten() -> None:
    # StartIo returns while another thread asks for the next packet: one of the two must see the other.
    system = Serial(deferred=True)
    for _ in range(200):
        requests = [system.packet() for _ in range(2)]
        start = threading.Barrier(2, timeout=PATIENCE)

        def finish(start: threading.Barrier = start) -> None:
            start.wait()
            system.finish()

        threads = [Thread(finish)]
        start.wait()
        third = system.packet()
        for thread in threads:
            thread.finish()
        system.finish()
        system.finish()
        assert all(request.done for request in [*requests, third])
        assert not system.device.device_queue.busy


def test_a_start_io_that_raises_does_not_block_its_device_for_ever() -> None:
    boom = [True]

    def start_io(device: DeviceObject[Extension], irp: Irp) -> None:
        if boom[0]:
            device.io.start_next_packet(device)
            raise KeyError("boom")

    system = Serial(start_io, deferred=True)
    with pytest.raises(DriverFault, match="KeyError"):
        system.packet()
    assert system.ke.irql == PASSIVE_LEVEL
    assert system.device.start_io_running == {}
    boom[0] = False
    system.device.device_stack.fault = None  # as after a new start of the device
    system.next()
    request = system.packet()
    system.finish()
    assert request.done


# -- cancelling ----------------------------------------------------------------------------------------------------------


def cancel_routine(device: DeviceObject[Any] | None, irp: Irp) -> None:
    """The cancel routine of a StartIo driver (Microsoft, "Cancel routines in drivers with StartIo routines")."""
    assert device is not None
    if irp is device.current_irp:
        device.io.release_cancel_spin_lock(device)
        with device.ke.raised_irql(DISPATCH_LEVEL):
            device.io.start_next_packet(device)
    else:
        device.io.release_cancel_spin_lock(device)
        with device.queue_lock:
            device.device_queue.remove_entry(irp)
    complete(device, irp, STATUS_CANCELLED)


def test_a_packet_that_waits_can_be_cancelled() -> None:
    system = Serial(cancel=cancel_routine)
    first, second, third = (system.packet() for _ in range(3))
    assert second.cancel() is True
    assert second.status == STATUS_CANCELLED
    for request in (first, third):
        assert request.irp is not None
        request.irp.set_cancel_routine(None)
        system.finish()
    assert system.started == irps([first, third])


def test_the_packet_in_progress_can_be_cancelled_and_the_next_is_started() -> None:
    system = Serial(cancel=cancel_routine)
    first, second = system.packet(), system.packet()
    assert first.cancel() is True
    assert first.status == STATUS_CANCELLED
    assert system.started == irps([first, second]) and system.device.current_irp is second.irp


def already_cancelled(system: Serial) -> None:
    """From now on every IRP has been cancelled when it reaches its dispatch routine."""
    read = system.device.driver_object.major_function[IrpMajor.READ]

    def cancel_first(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        system.io.cancel_irp(irp)
        status: NtStatus = read(device, irp)
        return status

    system.device.driver_object.major_function[IrpMajor.READ] = cancel_first


def test_a_packet_that_was_cancelled_before_it_was_queued_has_its_routine_called() -> None:
    system = Serial(cancel=cancel_routine)
    first = system.packet()
    already_cancelled(system)
    second = system.packet()
    assert second.status == STATUS_CANCELLED
    assert system.started == irps([first])
    assert system.device.device_stack.cancel_lock.owner is None and system.ke.irql == PASSIVE_LEVEL


@pytest.mark.parametrize("fault", ["raises", "keeps the lock"])
def test_a_routine_that_is_called_for_a_cancelled_packet_obeys_the_same_rules(fault: str) -> None:
    broken = raises(KeyError("boom")) if fault == "raises" else lambda _device, _irp: None
    system = Serial(cancel=broken)
    system.packet()
    already_cancelled(system)
    with pytest.raises(DriverFault):
        system.packet()
    assert system.device.device_stack.cancel_lock.owner is None, "or every later cancellation hangs"
    assert system.ke.irql == PASSIVE_LEVEL
    assert "cancel routine" in str(system.ke.faults[0]) or getattr(system.ke.faults[0], "code", 0) == 0x11B


def test_without_a_cancel_routine_a_cancelled_packet_waits_its_turn() -> None:
    system = Serial()
    first = system.packet()
    already_cancelled(system)
    second = system.packet()
    assert not second.done
    system.finish()
    assert system.started == irps([first, second])
