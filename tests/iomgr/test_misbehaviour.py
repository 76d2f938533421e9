"""Drivers that break the rules: each is caught, its own requests end, its stack is marked, and its neighbours go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DeviceTimeout, DriverFault, Handle
from hilbridge.model.codes import DISPATCH_LEVEL, PASSIVE_LEVEL, IrpMajor
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DEVICE_NOT_READY,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import (
    Extension,
    TinyDriver,
    answer,
    complete,
    hold,
    pass_down,
    pend,
    plug,
    raises,
)


class Pair:
    """A device with a bad READ, and beside it a good one of another driver with a request under way."""

    def __init__(self, read: Any, *, below: Any = None) -> None:
        self.bridge = Bridge.manual()
        self.bad = TinyDriver("bad", {IrpMajor.READ: read, IrpMajor.WRITE: pend})
        good = TinyDriver("good", {IrpMajor.READ: answer(b"good"), IrpMajor.WRITE: hold})
        if below is None:
            plug(self.bridge, self.bad, "BAD")
        else:
            lower = TinyDriver("lower", {IrpMajor.READ: below, IrpMajor.WRITE: pend})
            through: dict[IrpMajor, Any] = {m: pass_down for m in IrpMajor if m not in (IrpMajor.PNP, IrpMajor.READ)}
            self.bad.dispatch = {**through, IrpMajor.READ: read}
            self.bad.named = False
            plug(self.bridge, lower, "BAD", upper_filters=[self.bad])
            self.lower = lower
        plug(self.bridge, good, "GOOD")
        self.handle: Handle = self.bridge.open("BAD")
        self.other = self.bridge.open("BAD")
        self.neighbour = self.bridge.open("GOOD")
        self.queued = self.other.submit_write(b"queued")
        self.beside = self.neighbour.submit_write(b"beside")

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.check()
        complete_of(self.beside)
        self.bridge.close()

    def check(self) -> None:
        """What holds after every mistake of a driver."""
        (fault,) = self.bridge.faults
        assert self.bad.device.device_stack.fault is fault
        assert self.queued.done and self.queued.status.is_error, "the requests of the other handles end too"
        with pytest.raises(type(fault)) as again:
            self.handle.read(1)
        assert str(again.value) == str(fault), "and every later one is refused with the reason"
        with pytest.raises(type(fault)):
            self.bridge.open("BAD")
        assert self.bridge.ke.irql == PASSIVE_LEVEL
        assert not self.beside.done and self.neighbour.read(4) == b"good", "the neighbour does not notice"
        assert self.bridge.acknowledge_faults() == [fault]

    @property
    def fault(self) -> Any:
        return self.bridge.faults[0]


def complete_of(request: Any) -> None:
    device = request.irp.current_stack_location.device_object
    complete(device, request.irp, STATUS_SUCCESS, 0)


# -- dispatch routines ---------------------------------------------------------------------------------------------------


def test_a_dispatch_routine_that_raises() -> None:
    boom = KeyError("boom")
    with Pair(raises(boom)) as pair:
        with pytest.raises(
            DriverFault, match=r"driver bad of \\Device\\bad0 raised KeyError.*dispatch routine for READ"
        ):
            pair.handle.read(4)
        assert pair.fault.__cause__ is boom and pair.fault.irp_id is not None


def test_a_status_error_that_escapes_a_dispatch_routine_is_a_mistake_too() -> None:
    escapes = raises(NtStatusError(STATUS_DEVICE_NOT_READY, "not now"))
    with Pair(escapes) as pair, pytest.raises(DriverFault, match="not now"):
        pair.handle.read(4)


@pytest.mark.parametrize("answer", [None, 0, True, "STATUS_SUCCESS"])
def test_a_dispatch_routine_that_returns_no_status(answer: Any) -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> Any:
        complete(device, irp)
        return answer

    with Pair(read) as pair, pytest.raises(DriverFault, match=r"returned .*return an NtStatus"):
        pair.handle.read(4)


@pytest.mark.parametrize("status", [STATUS_SUCCESS, STATUS_DEVICE_NOT_READY])
def test_a_dispatch_routine_that_forgets_to_complete(status: NtStatus) -> None:
    words = f"returned {status.name} without completing"
    with Pair(lambda _device, _irp: status) as pair, pytest.raises(DriverFault, match=words):
        pair.handle.read(4)


def test_a_dispatch_routine_that_marks_pending_and_returns_something_else() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.mark_pending()
        return STATUS_SUCCESS

    with Pair(read) as pair, pytest.raises(DriverFault, match="without completing"):
        pair.handle.read(4)


def leak_lock(device: DeviceObject[Any]) -> None:
    device.ke.spin_lock().acquire()


def leak_irql(device: DeviceObject[Any]) -> None:
    device.ke.current().irql = DISPATCH_LEVEL


@pytest.mark.parametrize("leak", [leak_lock, leak_irql])
@pytest.mark.parametrize("pends", [False, True])
def test_a_dispatch_routine_that_leaks_irql(leak: Callable[..., None], pends: bool) -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        status = hold(device, irp) if pends else complete(device, irp)
        leak(device)
        return status

    with Pair(read) as pair:
        with pytest.raises(BugCheck, match="IRQL leak"):
            pair.handle.read(4)
        assert pair.fault.code == 0xC9


def test_a_dispatch_routine_that_raises_with_a_lock_in_its_hand_leaves_the_caller_at_passive_level() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        leak_lock(device)
        raise KeyError("boom")

    with Pair(read) as pair, pytest.raises(DriverFault, match="KeyError"):
        pair.handle.read(4)


def test_a_dispatch_routine_that_pends_and_never_completes_loses_its_irp_after_the_grace() -> None:
    with Pair(hold) as pair:
        with pytest.raises(DriverFault, match="did not complete") as caught:
            pair.handle.read(4, timeout=7.0)
        assert pair.handle.now() == 9.0, "the deadline, and two seconds of grace; no real time"
        assert not isinstance(caught.value, DeviceTimeout)
        assert caught.value.irp_id is not None


def test_a_driver_that_ends_a_cancelled_request_in_time_only_costs_a_time_out() -> None:
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("slow", {IrpMajor.READ: pend}))
        with bridge.open("DUT") as handle:
            with pytest.raises(DeviceTimeout, match="within 7 s"):
                handle.read(4, timeout=7.0)
            assert handle.now() == 7.0
        assert bridge.faults == []


def test_what_a_driver_completes_long_after_it_lost_it_hurts_nobody() -> None:
    with Pair(hold) as pair:
        with pytest.raises(DriverFault):
            pair.handle.read(4, timeout=1.0)
        (irp,) = pair.bad.device.extension.held
        complete(pair.bad.device, irp, STATUS_SUCCESS, 4)


def test_a_dispatch_routine_that_completes_and_raises() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        complete(device, irp, STATUS_SUCCESS, 0)
        raise KeyError("too late")

    with Pair(read) as pair, pytest.raises(DriverFault, match="too late"):
        pair.handle.read(4)


def test_a_dispatch_routine_that_completes_twice() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        complete(device, irp)
        return complete(device, irp)

    with Pair(read) as pair, pytest.raises(BugCheck, match="0x44 MULTIPLE_IRP_COMPLETE_REQUESTS"):
        pair.handle.read(4)


def test_a_dispatch_routine_that_sends_the_irp_to_nowhere() -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        return device.io.call_driver(device, irp)

    with Pair(read) as pair, pytest.raises(BugCheck, match="0x35 NO_MORE_IRP_STACK_LOCATIONS"):
        pair.handle.read(4)


def test_a_dispatch_routine_that_asks_for_the_wrong_parameters() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        return complete(device, irp, STATUS_SUCCESS, irp.current_stack_location.parameters.write.length)

    with Pair(read) as pair, pytest.raises(DriverFault, match=r"Parameters\.write was read"):
        pair.handle.read(4)


def test_a_dispatch_routine_that_asks_for_the_truth_of_a_status() -> None:
    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        status: Any = pass_down(device, irp)
        return STATUS_PENDING if status else STATUS_SUCCESS

    with Pair(read, below=answer(b"data")) as pair, pytest.raises(DriverFault, match="truth of STATUS_SUCCESS"):
        pair.handle.read(4)


def test_a_filter_that_raises_is_blamed_and_not_the_driver_below() -> None:
    with Pair(raises(KeyError("boom")), below=answer(b"data")) as pair, pytest.raises(DriverFault, match="driver bad"):
        pair.handle.read(4)


def test_a_driver_below_that_raises_is_blamed_and_not_the_filter() -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        return device.io.call_driver(device.extension.lower, irp)

    with Pair(read, below=raises(KeyError("boom"))) as pair, pytest.raises(DriverFault, match="driver lower"):
        pair.handle.read(4)


@pytest.mark.parametrize("work", ["write", "ioctl", "flush"])
def test_the_other_requests_are_watched_in_the_same_way(work: str) -> None:
    majors = {"write": IrpMajor.WRITE, "ioctl": IrpMajor.DEVICE_CONTROL, "flush": IrpMajor.FLUSH_BUFFERS}
    with Bridge.manual() as bridge:
        plug(bridge, TinyDriver("bad", {majors[work]: raises(KeyError("boom"))}))
        handle = bridge.open("DUT")
        calls: dict[str, Callable[[], object]]
        calls = {"write": lambda: handle.write(b"x"), "ioctl": lambda: handle.ioctl(0x222000), "flush": handle.flush}
        with pytest.raises(DriverFault, match=f"KeyError.*dispatch routine for {majors[work].name}"):
            calls[work]()
        handle.close()
        bridge.acknowledge_faults()


# -- other routines --------------------------------------------------------------------------------------------------------


def test_a_completion_routine_that_raises() -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(raises(KeyError("boom")))
        return device.io.call_driver(device.extension.lower, irp)

    with Pair(read, below=pend) as pair:
        request = pair.handle.submit_read(4)
        queue = pair.lower.device.extension.queue
        with queue.lock:
            irp = queue.remove_next_locked(lambda one: one.id == request.irp.id)  # type: ignore[union-attr]
        assert irp is not None
        complete(pair.lower.device, irp, STATUS_SUCCESS, 0)
        with pytest.raises(DriverFault, match=r"driver bad.*KeyError.*completion routine"):
            request.result()


def test_a_completion_routine_that_raises_while_the_dispatch_routine_is_still_under_way() -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.copy_current_stack_location_to_next()
        irp.set_completion_routine(raises(KeyError("boom")))
        return device.io.call_driver(device.extension.lower, irp)

    with Pair(read, below=answer(b"data")) as pair, pytest.raises(DriverFault, match=r"KeyError.*completion routine"):
        pair.handle.read(4)


@pytest.mark.parametrize("releases", [True, False])
def test_a_cancel_routine_that_raises(releases: bool) -> None:
    def cancel(device: DeviceObject[Any] | None, _irp: Irp) -> None:
        assert device is not None
        if releases:
            device.io.release_cancel_spin_lock(device)
        raise KeyError("boom")

    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.set_cancel_routine(cancel)
        return hold(device, irp)

    with Pair(read) as pair:
        with pytest.raises(DriverFault, match=r"KeyError.*cancel routine"):
            pair.handle.read(4, timeout=1.0)
        assert pair.handle.now() == 1.0


def test_a_cancel_routine_that_keeps_the_cancel_lock() -> None:
    def read(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        irp.set_cancel_routine(lambda _device, _irp: None)
        return hold(device, irp)

    with Pair(read) as pair, pytest.raises(BugCheck, match="0x11B DRIVER_RETURNED_HOLDING_CANCEL_LOCK"):
        pair.handle.read(4, timeout=1.0)


# -- afterwards ------------------------------------------------------------------------------------------------------------


def test_a_device_whose_driver_failed_is_unplugged_and_plugged_in_again() -> None:
    driver = TinyDriver("d", {IrpMajor.READ: raises(KeyError("boom"))})
    with Bridge.manual() as bridge:
        plug(bridge, driver)
        handle = bridge.open("DUT")
        with pytest.raises(DriverFault):
            handle.read(4)
        assert "boom" in bridge.devices()[0]["fault"]
        handle.close()
        bridge.unplug("DUT")
        bridge.acknowledge_faults()
        driver.device.driver_object.major_function[IrpMajor.READ] = answer(b"data")
        plug(bridge, driver)
        with bridge.open("DUT") as handle:
            assert handle.read(4) == b"data"


def test_faults_are_kept_in_the_order_in_which_they_happened() -> None:
    with Bridge.manual() as bridge:
        for number in range(3):
            plug(bridge, TinyDriver(f"bad{number}", {IrpMajor.READ: raises(KeyError(number))}), f"D{number}")
            with bridge.open(f"D{number}") as handle, pytest.raises(DriverFault):
                handle.read(1)
        assert [getattr(fault.__cause__, "args", None) for fault in bridge.faults] == [(0,), (1,), (2,)]
        assert len(bridge.statistics()["faults"]) == 3
        assert len(bridge.acknowledge_faults()) == 3 and bridge.acknowledge_faults() == []
        assert len(bridge.faults) == 3
