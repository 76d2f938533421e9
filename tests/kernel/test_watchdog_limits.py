"""What the watchdog takes for hung, when it looks, and how a bridge ends with a thread that a driver keeps."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hilbridge import Bridge, BugCheck, DriverFault
from hilbridge.kernel import workers
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.limits import Limits
from hilbridge.kernel.processor import Processor, ProcessorRetired
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_PENDING, STATUS_SUCCESS, NtStatus
from tests.kernel.hangkit import Hang, Neighbour, Scene, look
from tests.support import (
    PATIENCE,
    Extension,
    System,
    Thread,
    TinyDriver,
    complete,
    do,
    hold,
    now,
    plug,
    raises,
    succeed,
    wait,
)

pytestmark = pytest.mark.slow  # they wait for threads that are hung on purpose

# -- what does not hang ------------------------------------------------------------------------------------------------


def test_a_dispatch_routine_that_waits_for_minutes_does_not_hang() -> None:
    event, waiting = Kevent(), threading.Event()

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        waiting.set()
        device.ke.wait_for_single_object(event, None)
        return complete(device, irp)

    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        plug(bridge, TinyDriver("patient", {IrpMajor.READ: read}))
        with bridge.open("DUT") as handle:
            reader = Thread(lambda: handle.read(0))
            wait(waiting)
            for _ in range(100):
                bridge.ke.watchdog.look(9.0)
            event.set()
            assert reader.finish() == b""
        assert bridge.faults == []


def test_the_time_that_it_has_waited_does_not_count_afterwards() -> None:
    event, waiting, hang = Kevent(), threading.Event(), Hang("block")

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        waiting.set()
        device.ke.wait_for_single_object(event, None)
        hang()
        return complete(device, irp)

    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        plug(bridge, TinyDriver("patient", {IrpMajor.READ: read}))
        with bridge.open("DUT") as handle:
            reader = Thread(lambda: handle.read(0))
            wait(waiting)
            look(bridge.ke, 0.0)
            look(bridge.ke, 100.0)
            event.set()
            wait(hang.entered)
            bridge.ke.watchdog.look(9.0)
            hang.leave.set()
            assert reader.finish() == b""
        assert bridge.faults == []


def test_a_busy_driver_is_not_taken_for_a_hung_one() -> None:
    # Each look finds it in its DPC, and each time it is another run of it.
    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        driver = TinyDriver("busy")
        plug(bridge, driver)
        go, inside = threading.Semaphore(0), threading.Semaphore(0)

        def routine(dpc: Kdpc, *_: Any) -> None:
            inside.release()
            assert go.acquire(timeout=PATIENCE)

        dpc = Kdpc(routine, None, driver.device)
        for _ in range(20):
            bridge.ke.set_timer(Ktimer(), relative_ms(0.1), 0, dpc)
            assert inside.acquire(timeout=PATIENCE)
            bridge.ke.watchdog.look(1.9)
            go.release()
        assert bridge.faults == []


def test_while_the_watchdog_could_not_look_nobody_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scene("block", "dpc_of_a_timer") as scene:
        clock = [1000.0]
        monkeypatch.setattr("hilbridge.kernel.watchdog.time.monotonic", lambda: clock[0])
        scene.watchdog.look()
        scene.hangs()
        scene.watchdog.look()
        clock[0] += 3600  # the lid of the computer was closed
        scene.watchdog.look()
        assert now(scene.ke.faults) == []
        for _ in range(10):
            clock[0] += 0.5
            scene.watchdog.look()
        scene.check(0x133)


def test_a_thread_that_is_traced_is_left_alone() -> None:
    def trace(*_: Any) -> Any:
        return trace

    leave, inside = threading.Event(), threading.Event()

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        inside.set()
        wait(leave)
        return complete(device, irp)

    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        plug(bridge, TinyDriver("debugged", {IrpMajor.READ: read}))
        with bridge.open("DUT") as handle:

            def debugged() -> bytes:
                before = sys.gettrace()
                sys.settrace(trace)
                try:
                    return handle.read(0)
                finally:
                    sys.settrace(before)

            reader = Thread(debugged)
            wait(inside)
            look(bridge.ke, 0.0)
            look(bridge.ke, 1000.0)
            leave.set()
            assert reader.finish() == b""
        assert bridge.faults == []


def test_a_drivers_callee_that_hangs_is_to_blame_and_not_the_caller() -> None:
    # A DPC of one driver completes a request, in whose completion routine another driver hangs: of two calls that are over
    # their time the inner one has been so for as long.
    system = System()
    hang = Hang("block")
    lower = TinyDriver("lower", {IrpMajor.READ: hold})
    low = system.stack(lower)

    def routine(_device: Any, irp: Irp, _context: object) -> NtStatus:
        hang()
        return STATUS_SUCCESS

    upper = system.stack(TinyDriver("upper"))
    irp = system.io.allocate_irp(low.stack_size + 1)
    irp.next_stack_location.device_object = upper
    irp.current_location -= 1
    irp.next_stack_location.major_function = IrpMajor.READ
    irp.set_completion_routine(routine)
    assert system.io.call_driver(low, irp) == STATUS_PENDING
    dpc = Kdpc(lambda *_: do(lambda: complete(low, irp)), None, low)
    thread = Thread(lambda: system.ke.insert_queue_dpc(dpc))
    wait(hang.entered)
    look(system.ke, 0.0)
    look(system.ke, 3.0)
    hang.leave.set()
    with pytest.raises(ProcessorRetired):
        thread.finish()
    assert upper.device_stack.fault is not None and low.device_stack.fault is None


# -- Plug and Play -----------------------------------------------------------------------------------------------------


def test_a_plug_and_play_request_that_waits_for_a_minute_is_ended() -> None:
    inside = threading.Event()

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == PnpMinor.START_DEVICE:
            inside.set()
            device.ke.wait_for_single_object(Kevent(), None)
        return driver.pnp(device, irp)

    with Bridge(restarts=0) as bridge:
        bridge.ke.watchdog.stop()
        neighbour = Neighbour(bridge)
        driver = TinyDriver("forgetful", {IrpMajor.PNP: pnp})
        thread = Thread(lambda: plug(bridge, driver))
        wait(inside)
        bridge.ke.watchdog.look(0)
        for _ in range(5):
            bridge.ke.watchdog.look(10.0)
        assert now(bridge.faults) == [] and thread.is_alive()
        bridge.ke.watchdog.look(10.0)
        bridge.ke.watchdog.look(10.0)
        with pytest.raises(BugCheck, match=r"0x1D5 DRIVER_PNP_WATCHDOG.*forgetful"):
            thread.finish()
        neighbour.goes_on()
        neighbour.stop()
        assert len(bridge.acknowledge_faults()) == 1


# -- its thread --------------------------------------------------------------------------------------------------------


def test_it_sleeps_when_nothing_moves_and_is_woken_by_what_moves() -> None:
    ke = System().ke
    processor = ke.current()
    assert ke.watchdog.turn() is None, "nobody has moved yet"
    for what in ("irql", "inside"):
        setattr(processor, what, 0)
        period = ke.watchdog.turn()
        assert period == ke.limits.shortest / 4, "it looks again"
        assert type(processor) is not Processor, "it rests until it moves"
        assert ke.watchdog.turn() is None


@pytest.mark.parametrize("where", ["system thread", "dispatch routine"])
def test_it_does_not_stay_up_for_who_may_wait_for_ever_and_hears_of_his_return(where: str) -> None:
    event, waiting, hang = Kevent(), threading.Event(), Hang("loop")

    def waits(*_: Any) -> NtStatus:
        waiting.set()
        bridge.ke.wait_for_single_object(event, None)
        hang()
        return STATUS_SUCCESS

    def calls(_context: object) -> None:
        waiting.set()
        bridge.ke.wait_for_single_object(event, None)
        bridge.io.call_driver(driver.device, bridge.io.allocate_irp(1))

    with Bridge(restarts=0) as bridge:
        driver = TinyDriver("patient", {IrpMajor.CREATE: succeed, IrpMajor.READ: waits})
        plug(bridge, driver)
        watchdog = bridge.ke.watchdog
        watchdog.stop()
        if where == "dispatch routine":
            handle = bridge.open("DUT")
            reader = Thread(lambda: handle.read(0))
            end: Callable[[], object] = reader.finish
        else:
            driver.device.driver_object.major_function[IrpMajor.CREATE] = hang
            thread = bridge.ke.create_system_thread(driver.device, calls)
            end = partial(bridge.ke.wait_for_single_object, thread, PATIENCE)
        wait(waiting)
        for _ in range(3):
            watchdog.look(0)
        assert watchdog.look(0) is False, "it may sleep"
        event.set()
        wait(hang.entered)
        assert watchdog.look(0) is True, "he has moved, or is seen at it"
        watchdog.look(20.0)
        wait(hang.gone)
        if where == "dispatch routine":
            with pytest.raises(BugCheck, match="0xEA"):
                end()
        else:
            assert end() is True
        (fault,) = bridge.acknowledge_faults()
        assert isinstance(fault, BugCheck) and fault.code == 0xEA


def test_it_finds_a_hung_driver_by_itself() -> None:
    hang = Hang("loop")
    with Bridge(restarts=0) as bridge:
        bridge.ke.limits = Limits(isr=0.1, dpc=0.1, dispatch=0.1)
        plug(bridge, TinyDriver("bad", {IrpMajor.READ: hang}))
        with bridge.open("DUT") as handle, pytest.raises(BugCheck, match="0xEA THREAD_STUCK_IN_DEVICE_DRIVER"):
            handle.read(1, timeout=None)
        bridge.acknowledge_faults()


def test_it_wakes_up_for_a_driver_that_hangs_after_a_long_rest() -> None:
    hang = Hang("loop")
    with Bridge(restarts=0) as bridge:
        bridge.ke.limits = Limits(isr=0.08, dpc=0.08, dispatch=0.1)
        watchdog = bridge.ke.watchdog
        plug(bridge, TinyDriver("bad", {IrpMajor.READ: hang}))
        handle = bridge.open("DUT")
        asleep = threading.Event()
        for _ in range(500):
            if watchdog._asleep:
                break
            asleep.wait(0.01)
        assert watchdog._asleep
        with pytest.raises(BugCheck, match="0xEA"):
            handle.read(1, timeout=None)
        handle.close()
        bridge.acknowledge_faults()


def test_a_watchdog_that_cannot_look_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ke = System().ke
    monkeypatch.setattr("hilbridge.kernel.watchdog.current_frames", raises(RuntimeError("no frames")))
    assert ke.watchdog.turn() is None
    (fault,) = ke.faults
    assert "no frames" in str(fault) and "looks no more" in str(fault) and ke.watchdog.stopped


def test_the_limits_are_those_of_the_moment() -> None:
    with Scene("block", "dispatch_routine") as scene:
        scene.ke.limits = Limits(dispatch=100.0)
        victim = scene.hangs()
        look(scene.ke, 0.0)
        look(scene.ke, 50.0)
        assert now(scene.ke.faults) == []
        scene.ke.limits = Limits(dispatch=1.0)
        scene.watchdog.look(1.0)
        scene.check(0xEA)
        scene.hang.leave.set()
        with pytest.raises(BugCheck):
            victim.finish()


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="needs the main thread")
def test_ctrl_c_ends_a_call_that_blocks_in_the_main_threads_driver() -> None:
    with Scene("block", "dispatch_routine") as scene:
        scene.other = scene.bridge.open("BAD").submit_write(b"x")
        me = scene.ke.current()

        def helper() -> None:
            wait(scene.hang.entered)
            while not me.sigint:  # held back: the driver has still time
                interrupt()
            scene.look()
            while not scene.hang.gone.is_set():
                interrupt()

        def interrupt() -> None:
            # More than once: a signal that comes just before a thread begins to block does not wake it.
            os.kill(os.getpid(), signal.SIGINT)
            scene.hang.gone.wait(0.5)

        other = Thread(helper)
        with pytest.raises(KeyboardInterrupt):
            scene.begin()
        other.finish()
        assert not scene.hang.leave.is_set()


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["isr", "work_item"])
def test_a_bridge_closes_although_a_thread_of_it_never_comes_back_and_says_so(place: str) -> None:
    scene = Scene("block", place)
    victim = scene.hangs()
    scene.look()
    with pytest.raises(BugCheck):
        victim.finish()
    scene.neighbour.stop()
    with (
        pytest.warns(
            RuntimeWarning, match=r"not all of its threads have ended: hilbridge-(poller|worker) .*hangkit.py:"
        ),
        pytest.raises(DriverFault, match=r"driver bad was unloaded while thread 'hilbridge-(poller|worker)' is inside"),
    ):
        scene.bridge.close()
    scene.hang.leave.set()
    wait(scene.hang.gone)


@pytest.mark.parametrize("place", ["isr", "work_item"])
def test_a_bridge_that_is_closed_before_the_watchdog_has_seen_it_does_not_hang_either(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "JOIN_SECONDS", 0.2)
    monkeypatch.setattr("hilbridge.kernel.poller.JOIN_SECONDS", 0.2)
    scene = Scene("block", place)
    victim = scene.hangs()
    scene.neighbour._enough = True  # what it waits for is cancelled by the close
    with pytest.warns(RuntimeWarning, match="not all of its threads"), contextlib.suppress(DriverFault):
        scene.bridge.close()
    assert any(isinstance(fault, BugCheck) for fault in scene.bridge.faults)
    scene.hang.leave.set()
    wait(scene.hang.gone)
    victim.join(PATIENCE)
    scene.neighbour._thread.join(PATIENCE)
