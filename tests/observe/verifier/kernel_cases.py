"""A faulty driver and its clean twin for each rule about IRQL, locks, objects of the kernel and unloading."""

from __future__ import annotations

import contextlib
from typing import Any

from hilbridge import HilbridgeError
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.mutex import Kmutex
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import Irql, WmiRegAction
from hilbridge.model.driver import DriverObject
from hilbridge.model.hardware import CAUSE_RX
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus
from hilbridge.virtual.line import VirtualLine
from tests.observe.verifier.stage import Device, Stage, case
from tests.support import TinyDriver, complete, uart


def _in_read(stage: Stage, work: Any) -> None:
    def read(device: Device, irp: Irp) -> NtStatus:
        work(device)
        return complete(device, irp)

    stage.read(read)


@case("IrqlKeRaise")
def irql_ke_raise(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        with device.ke.raised_irql(Irql.DISPATCH), device.ke.raised_irql(Irql.PASSIVE if wrong else Irql.DISPATCH):
            device.extension.notes.append("raised")

    _in_read(stage, work)


@case("IrqlPassive")
def irql_passive(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        with device.ke.raised_irql(Irql.DISPATCH if wrong else Irql.PASSIVE):
            device.io.create_symbolic_link("\\DosDevices\\TWIN", device.name or "")
        device.io.delete_symbolic_link("\\DosDevices\\TWIN")

    _in_read(stage, work)


@case("SpinLock")
def spin_lock(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        one, other = device.ke.spin_lock(), device.ke.spin_lock()
        with one, one if wrong else other:
            device.extension.notes.append("locked")

    _in_read(stage, work)


@case("SpinlockRelease")
def spinlock_release(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        lock = device.ke.spin_lock()
        lock.acquire()
        lock.release()
        if wrong:
            lock.release()

    _in_read(stage, work)


@case("SpinLockIrql")
def spin_lock_irql(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH), device.extension.queue.lock:
            device.extension.notes.append("locked")

    _in_read(stage, work)


@case("LockOrder")
def lock_order(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        one, other = device.ke.spin_lock(), device.ke.spin_lock()
        with one, other:
            device.extension.notes.append("in this order")
        first, second = (other, one) if wrong else (one, other)
        with first, second:
            device.extension.notes.append("in that order")

    _in_read(stage, work)


@case("SpinLockHeldAtReturn")
def spin_lock_held_at_return(stage: Stage, wrong: bool) -> None:
    """In a DPC: a dispatch routine with a lock has another IRQL as well when it returns."""

    def routine(dpc: Kdpc, lock: Any, _a: object, _b: object) -> None:
        lock.acquire()
        if not wrong:
            lock.release()

    def work(device: Device) -> None:
        device.ke.insert_queue_dpc(Kdpc(routine, device.extension.queue.lock, device))

    _in_read(stage, work)


@case("WaitAtDispatch")
def wait_at_dispatch(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        with device.ke.raised_irql(Irql.DISPATCH):
            device.ke.wait_for_single_object(Kevent(), 1.0 if wrong else 0)

    _in_read(stage, work)


def _interrupt(stage: Stage, isr: Any, reads: bool) -> None:
    line = VirtualLine("virtual:faulty", loop=True)

    def on_start(device: Device, resources: Any) -> None:
        device.extension.line = resources.line
        device.extension.interrupt = device.io.connect_interrupt(device, isr, device, resources.vector)
        resources.line.enable_interrupts(CAUSE_RX)

    driver = uart("faulty", on_start=on_start)
    stage.bridge.plug(line, name="DUT", driver=driver)
    line.write(b"x")
    with contextlib.suppress(HilbridgeError):
        stage.bridge.machine.run_until_idle()
    assert reads or stage.bridge.faults


@case("IsrIrql")
def isr_irql(stage: Stage, wrong: bool) -> None:
    def isr(_interrupt: Any, device: Device) -> bool:
        line = device.extension.line
        assert line is not None
        line.causes()
        line.read(64)
        if wrong:
            device.ke.current().irql = Irql.HIGH
        return True

    _interrupt(stage, isr, not wrong)


@case("InterruptStorm")
def interrupt_storm(stage: Stage, wrong: bool) -> None:
    def isr(_interrupt: Any, device: Device) -> bool:
        line = device.extension.line
        assert line is not None
        line.causes()
        if not wrong:
            line.read(64)
        return True

    _interrupt(stage, isr, not wrong)


@case("RemoveLockRelease")
def remove_lock_release(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        lock = RemoveLock(device.ke)
        lock.acquire("one")
        lock.release("other" if wrong else "one")

    _in_read(stage, work)


@case("RemoveLockReleaseAndWait")
def remove_lock_release_and_wait(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        lock = RemoveLock(device.ke)
        if not wrong:
            lock.acquire("remove")
        lock.release_and_wait("remove")

    _in_read(stage, work)


@case("WorkItemInvalid")
def work_item_invalid(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        item, other = device.io.allocate_work_item(device), device.io.allocate_work_item(device)
        device.io.queue_work_item(item, lambda _device, _context: None)
        device.io.queue_work_item(item if wrong else other, lambda _device, _context: None)

    _in_read(stage, work)


@case("WorkItemIrql")
def work_item_irql(stage: Stage, wrong: bool) -> None:
    def routine(device: Device, _context: object) -> None:
        device.ke.current().irql = Irql.DISPATCH if wrong else Irql.PASSIVE

    def work(device: Device) -> None:
        device.io.queue_work_item(device.io.allocate_work_item(device), routine)

    _in_read(stage, work)
    stage.bridge.machine.run_until_idle()


@case("MutexNotOwner")
def mutex_not_owner(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        mutex = Kmutex()
        if not wrong:
            device.ke.wait_for_single_object(mutex, 0)
        device.ke.release_mutex(mutex)

    _in_read(stage, work)


@case("FastMutexOwned")
def fast_mutex_owned(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        mutex = device.ke.fast_mutex()
        with mutex:
            if wrong:
                mutex.acquire()

    _in_read(stage, work)


@case("CriticalRegions")
def critical_regions(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        device.ke.enter_critical_region()
        for _ in range(2 if wrong else 1):
            device.ke.leave_critical_region()

    _in_read(stage, work)


@case("RemoveLockInitialize")
def remove_lock_initialize(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        lock = RemoveLock(device.ke)
        if wrong:
            lock.__init__(device.ke)  # type: ignore[misc]

    _in_read(stage, work)


@case("ThreadExit")
def thread_exit(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        def routine(_context: object) -> None:
            device.ke.enter_critical_region()
            if not wrong:
                device.ke.leave_critical_region()

        device.ke.create_system_thread(device, routine)

    _in_read(stage, work)
    stage.bridge.machine.run_until_idle()


@case("ThreadExitWithMutex")
def thread_exit_with_mutex(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        def routine(mutex: Kmutex) -> None:
            device.ke.wait_for_single_object(mutex, None)
            if not wrong:
                device.ke.release_mutex(mutex)

        device.ke.create_system_thread(device, routine, Kmutex())

    _in_read(stage, work)
    stage.bridge.machine.run_until_idle()


@case("IrqlKeSetEvent")
def irql_ke_set_event(stage: Stage, wrong: bool) -> None:
    def work(device: Device) -> None:
        with device.ke.raised_irql(Irql.DEVICE_LOWEST if wrong else Irql.DISPATCH):
            device.ke.set_event(Kevent())

    _in_read(stage, work)


# -- unloading -------------------------------------------------------------------------------------------------------------


def _control_device(stage: Stage, unload: Any, wrong: bool, *, registered: bool = False) -> None:
    """A driver with a device of its own, that is no part of a stack, is loaded and unloaded."""

    class Control(TinyDriver):
        def driver_entry(self, driver: DriverObject, parameters: Any) -> NtStatus:
            status = super().driver_entry(driver, parameters)
            control = driver.io.create_device(driver, None, "\\Device\\Control")
            if registered:
                driver.io.wmi_registration_control(control, WmiRegAction.REGISTER)
            driver.unload = lambda driver: unload(driver.io, control)
            return status

    stage.io.load_driver("faulty", Control("faulty").driver_entry)
    with contextlib.suppress(HilbridgeError):
        stage.io.unload_driver("faulty")
    if wrong:
        stage.bridge.acknowledge_faults()


@case("DeviceLeftAtUnload")
def device_left_at_unload(stage: Stage, wrong: bool) -> None:
    def unload(io: Any, control: Any) -> None:
        if not wrong:
            io.delete_device(control)

    _control_device(stage, unload, wrong)


@case("WmiRegisteredAtUnload")
def wmi_registered_at_unload(stage: Stage, wrong: bool) -> None:
    def unload(io: Any, control: Any) -> None:
        if not wrong:
            io.wmi_registration_control(control, WmiRegAction.DEREGISTER)
            io.delete_device(control)

    _control_device(stage, unload, wrong, registered=True)


@case("TimerLeftAtUnload")
def timer_left_at_unload(stage: Stage, wrong: bool) -> None:
    timer = Ktimer()

    def work(device: Device) -> None:
        dpc = Kdpc(lambda *_arguments: None, None, device)
        device.ke.set_timer(timer, relative_ms(60_000), 0, dpc)

    _in_read(stage, work)
    if not wrong:
        stage.ke.cancel_timer(timer)
