"""The end of drivers: unloading that waits for the last use, and the end of the system; and how drivers begin twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, DriverFault
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.codes import (
    DISPATCH_LEVEL,
    DO_SHUTDOWN_REGISTERED,
    DRVO_INITIALIZED,
    DRVO_LEGACY_DRIVER,
    DRVO_REINIT_REGISTERED,
    DRVO_UNLOAD_INVOKED,
    IrpMajor,
    PnpMinor,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_IMAGE_ALREADY_LOADED,
    STATUS_MORE_PROCESSING_REQUIRED,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_COLLISION,
    STATUS_SUCCESS,
    NtStatus,
)
from tests.support import System, Thread, TinyDriver, complete, do, now, pend, plug, raises, succeed, wait


class Unloaded(System):
    """A driver without Plug and Play, whose unload routine deletes its devices and is noted."""

    def __init__(self, *, devices: int = 1, **dispatch: Callable[..., Any]) -> None:
        super().__init__()
        self.unloaded: list[tuple[str, int]] = []
        tiny = TinyDriver("d", {IrpMajor[name]: routine for name, routine in dispatch.items()})

        def entry(driver: DriverObject, parameters: Any) -> NtStatus:
            tiny.driver_entry(driver, parameters)
            driver.add_device = None
            driver.unload = self._unload
            for number in range(devices):
                driver.io.create_device(driver, None, f"\\Device\\D{number}")
            return STATUS_SUCCESS

        self.entry = entry
        self.driver = self.io.load_driver("d", entry)
        self.device = self.driver.devices[-1] if devices else None

    def _unload(self, driver: DriverObject) -> None:
        self.unloaded.append((threading.current_thread().name, self.ke.irql))
        for device in driver.devices:
            self.io.delete_device(device)

    @property
    def gone(self) -> bool:
        assert len(self.unloaded) <= 1, "once"
        assert bool(self.unloaded) == ("d" not in self.io.drivers) == bool(self.driver.flags & DRVO_UNLOAD_INVOKED)
        return bool(self.unloaded)

    def the_device(self) -> DeviceObject[Any]:
        assert self.device is not None
        return self.device


def fails_with(status: NtStatus, call: Callable[[], object], match: str | None = None) -> None:
    with pytest.raises(NtStatusError, match=match) as caught:
        call()
    assert caught.value.status == status


# -- unload pending ------------------------------------------------------------------------------------------------------


def test_a_driver_that_nobody_uses_is_unloaded_at_once() -> None:
    system = Unloaded()
    assert system.io.unload_driver("d") is True
    assert system.gone and system.unloaded[0][1] == 0
    system.io.load_driver("d", system.entry)


def test_an_open_device_keeps_its_driver_until_it_is_closed() -> None:
    system = Unloaded(READ=pend)
    file = system.open(system.the_device())
    assert system.io.unload_driver("d") is False
    assert not system.gone and not system.driver.flags & DRVO_UNLOAD_INVOKED
    assert system.io.in_use(system.driver) == "<DEVICE \\Device\\D0 of d> is open"
    system.io.close_file(file)
    assert now(system.gone)


def test_meanwhile_nothing_is_opened_or_attached_and_what_is_open_goes_on() -> None:
    system = Unloaded(READ=succeed)
    file = system.open(system.the_device())
    system.io.unload_driver("d")
    fails_with(STATUS_NO_SUCH_DEVICE, lambda: system.open(system.the_device()), "driver d .* is being unloaded")
    other = system.io.create_device(system.io.load_driver("other", TinyDriver("other").driver_entry), None)
    fails_with(
        STATUS_NO_SUCH_DEVICE,
        lambda: system.io.attach_device_to_device_stack(other, system.the_device()),
        "driver other",
    )
    fails_with(STATUS_DELETE_PENDING, lambda: system.io.unload_driver("d"))
    fails_with(STATUS_IMAGE_ALREADY_LOADED, lambda: system.io.load_driver("d", system.entry), "being unloaded")
    assert system.read(file, 1).status == STATUS_SUCCESS
    system.io.close_file(file)
    assert system.gone


@pytest.mark.parametrize("of", ["device", "driver"])
@pytest.mark.parametrize("irql", [0, DISPATCH_LEVEL])
def test_a_reference_keeps_a_driver_until_it_is_given_back(of: str, irql: int) -> None:
    system = Unloaded()
    thing = system.io.reference_object(system.device if of == "device" else system.driver)
    assert system.io.unload_driver("d") is False
    assert "references to" in system.io.in_use(system.driver)
    with system.ke.raised_irql(irql):
        system.io.dereference_object(thing)
        assert system.gone is (irql == 0), "not above PASSIVE_LEVEL"
    system.machine.run_until_idle()
    assert now(system.gone) and system.unloaded[0][1] == 0


def test_a_device_on_top_keeps_the_driver_below_until_it_is_detached() -> None:
    system = Unloaded()
    upper = system.io.create_device(system.io.load_driver("upper", TinyDriver("upper").driver_entry), None)
    system.io.attach_device_to_device_stack(upper, system.the_device())
    assert system.io.unload_driver("d") is False
    system.io.detach_device(system.the_device())
    assert system.gone


def test_a_file_that_a_driver_holds_keeps_the_driver_behind_it() -> None:
    system = Unloaded()
    file, _ = system.io.get_device_object_pointer("\\Device\\D0")
    assert system.io.unload_driver("d") is False
    system.io.dereference_object(file)
    assert system.gone


def test_a_legacy_filter_stays_while_its_stack_is_open() -> None:
    system = Unloaded()
    lower = TinyDriver("lower")
    system.stack(lower)
    system.io.attach_device_to_device_stack(system.the_device(), lower.device)
    file = system.open(system.the_device())
    other = system.io.create_file("\\Device\\lower0")
    assert system.io.unload_driver("d") is False
    system.io.close_file(file)
    assert not now(system.gone)
    assert "the stack of" in system.io.in_use(system.driver)

    def unload(driver: DriverObject) -> None:
        system.io.detach_device(lower.device)
        system._unload(driver)

    system.driver.unload = unload
    system.io.close_file(other)
    assert now(system.gone)
    assert system.ke.faults == []


def test_a_plug_and_play_driver_goes_when_its_last_device_has_been_removed() -> None:
    unloaded: list[str] = []
    driver = TinyDriver("pnp")
    with Bridge.manual() as bridge:
        plug(bridge, driver, "A")
        plug(bridge, driver, "B")
        loaded = bridge.io.drivers["pnp"]
        loaded.unload = lambda _driver: unloaded.append("gone")
        assert bridge.io.unload_driver("pnp") is False
        bridge.unplug("A")
        assert unloaded == []
        bridge.unplug("B")
        # The device was deleted in its driver's own routine: that has returned before the driver was unloaded.
        assert now(unloaded) == ["gone"]
        assert "pnp" not in bridge.io.drivers
        assert bridge.faults == []


def test_a_driver_is_not_unloaded_while_its_own_routine_deletes_the_last_device() -> None:
    order: list[str] = []

    def pnp(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        minor = irp.current_stack_location.minor_function
        status = TinyDriver.pnp(driver, device, irp)
        if minor == PnpMinor.REMOVE_DEVICE:
            order.append("routine")
        return status

    driver = TinyDriver("late", {IrpMajor.PNP: pnp})
    with Bridge.manual() as bridge:
        plug(bridge, driver)
        order.append("removal")
        bridge.io.drivers["late"].unload = lambda _driver: order.append("unload")
        bridge.io.unload_driver("late")
        bridge.unplug("DUT")
    assert order == ["removal", "routine", "unload"]


def test_a_driver_that_unloads_itself_goes_when_its_request_is_over() -> None:
    answers: list[bool] = []

    def ioctl(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        answers.append(device.io.unload_driver("d"))
        return complete(device, irp)

    system = Unloaded(DEVICE_CONTROL=ioctl)
    file = system.open(system.the_device())
    assert system.ioctl(file, 0x2A000).status == STATUS_SUCCESS
    assert answers == [False]
    assert not now(system.gone)
    system.io.close_file(file)
    assert now(system.gone)
    assert system.ke.faults == []


# -- what is left behind, and who is still inside ------------------------------------------------------------------------


def test_what_a_driver_leaves_behind_is_reported_and_taken_away() -> None:
    system = Unloaded(devices=2)
    device = system.the_device()
    system.driver.unload = lambda _driver: None
    timer = Ktimer()
    system.ke.set_timer(timer, relative_ms(100), 0, Kdpc(lambda *_arguments: None, None, device))
    system.io.connect_interrupt(device, lambda *_arguments: False, None, system.ke.vector().number)
    system.io.create_symbolic_link("\\DosDevices\\LEFT", "\\Device\\D0")
    with pytest.raises(DriverFault) as caught:
        system.io.unload_driver("d")
    words = str(caught.value)
    assert words.startswith("driver d has left behind ")
    for what in (
        "D0 of d>",
        "D1 of d>",
        "a timer of <DEVICE \\Device\\D0",
        "an interrupt routine",
        "the link \\DosDevices\\LEFT",
    ):
        assert what in words, words
    assert system.io.drivers == {} and len(system.ke.timers) == 0 and system.io.namespace.links() == []
    system.driver = system.io.load_driver("d", system.entry)  # its names are free
    system.unloaded.clear()
    system.device = None
    assert system.io.unload_driver("d") is True


def test_links_of_others_stay() -> None:
    system = Unloaded()
    system.io.create_symbolic_link("\\DosDevices\\OTHER", "\\Device\\Elsewhere")
    assert system.io.unload_driver("d") is True
    assert system.io.namespace.links() == [("\\DosDevices\\OTHER", "\\Device\\Elsewhere")]


def test_a_bad_end_that_comes_late_is_kept_with_the_faults_and_hurts_nobody_else() -> None:
    system = Unloaded()
    system.driver.unload = raises(KeyError("boom"))
    file = system.open(system.the_device())
    system.io.unload_driver("d")
    system.io.close_file(file)
    (fault,) = system.ke.faults
    assert str(fault).startswith("driver d raised KeyError in its unload routine: 'boom'; it has left behind <DEVICE")
    assert "d" not in system.io.drivers


def test_who_is_just_on_his_way_out_is_waited_for() -> None:
    inside, leave = threading.Event(), threading.Event()

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        irp.mark_pending()
        complete(device, irp)
        inside.set()
        wait(leave)
        return STATUS_SUCCESS

    system = Unloaded(READ=read)
    top = system.the_device()
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent())
    reader = Thread(lambda: system.io.call_driver(top, irp))
    wait(inside)
    unloader = Thread(lambda: system.io.unload_driver("d"))
    unloader.join(0.05)
    assert unloader.is_alive() and system.unloaded == []
    leave.set()
    assert unloader.finish() is True
    reader.finish()
    assert now(system.gone)


def test_a_thread_that_stays_inside_is_reported_by_name_and_place_and_the_driver_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hilbridge.iomgr.unload.LOOKS", 3)
    inside, leave = threading.Event(), threading.Event()

    def read(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        inside.set()
        wait(leave)
        return complete(device, irp)

    system = Unloaded(READ=read)
    top = system.the_device()
    irp = system.io.build_synchronous_fsd_request(IrpMajor.READ, top, Kevent())
    reader = Thread(lambda: system.io.call_driver(top, irp))
    wait(inside)
    with pytest.raises(DriverFault, match=r"driver d was unloaded while thread 'Thread-.*' is inside it") as caught:
        system.io.unload_driver("d")
    assert "its dispatch routine for READ" in str(caught.value) and "test_unload.py:" in str(caught.value)
    assert now(system.gone)
    leave.set()
    reader.finish()


def test_a_thread_inside_a_dpc_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilbridge.iomgr.unload.LOOKS", 3)
    inside, leave = threading.Event(), threading.Event()

    def routine(*_arguments: object) -> None:
        inside.set()
        wait(leave)

    system = Unloaded()
    thread = Thread(lambda: system.ke.insert_queue_dpc(Kdpc(routine, None, system.device)))
    wait(inside)
    with pytest.raises(DriverFault, match="is inside it, in a DPC"):
        system.io.unload_driver("d")
    leave.set()
    thread.finish()


def test_a_system_thread_is_the_drivers_to_end_in_its_unload_routine() -> None:
    stop = Kevent()
    system = Unloaded()
    thread = system.ke.create_system_thread(
        system.the_device(), lambda _context: do(lambda: system.ke.wait_for_single_object(stop, None))
    )
    unload = system.driver.driver_unload
    assert unload is not None

    def end_it_first(driver: DriverObject) -> None:
        system.ke.set_event(stop)
        assert system.ke.wait_for_single_object(thread, 5.0)
        unload(driver)

    system.driver.unload = end_it_first
    assert system.io.unload_driver("d") is True
    assert system.gone and system.ke.faults == []


def test_a_system_thread_that_is_left_behind_is_reported() -> None:
    stop = Kevent()
    system = Unloaded()
    system.ke.create_system_thread(
        system.the_device(), lambda _context: do(lambda: system.ke.wait_for_single_object(stop, None)), name="poll"
    )
    with pytest.raises(DriverFault, match="has left behind <system thread poll of driver d>"):
        system.io.unload_driver("d")
    system.ke.set_event(stop)
    system.ke.close()


def test_a_driver_whose_own_system_thread_gives_back_the_last_reference_goes_on_another() -> None:
    # Its unload routine waits for that very thread.
    system = Unloaded()
    device = system.io.reference_object(system.the_device())
    thread = system.ke.create_system_thread(device, lambda _context: system.io.dereference_object(device))
    unload = system.driver.driver_unload
    assert unload is not None

    def wait_for_it(driver: DriverObject) -> None:
        assert system.ke.wait_for_single_object(thread, 5.0)
        unload(driver)

    system.driver.unload = wait_for_it
    assert system.io.unload_driver("d") is False
    system.machine.run_until_idle()
    assert now(system.gone)
    assert system.ke.faults == []


def test_a_completion_routine_that_gives_back_the_last_reference_returns_first() -> None:
    order: list[str] = []
    system = Unloaded(READ=pend)
    device = system.io.reference_object(system.the_device())

    def routine(_device: object, irp: Irp, _context: object) -> NtStatus:
        system.io.dereference_object(device)
        order.append("routine")
        system.io.free_irp(irp)
        return STATUS_MORE_PROCESSING_REQUIRED

    other = system.stack(TinyDriver("other", {IrpMajor.READ: succeed}))
    system.driver.unload = lambda driver: order.append("unload") or system._unload(driver)  # type: ignore[func-returns-value]

    def ask(*_arguments: object) -> None:
        irp = system.io.allocate_irp(other.stack_size + 1)
        irp.set_next_stack_location()
        irp.current_stack_location.device_object = device
        irp.next_stack_location.major_function = IrpMajor.READ
        irp.set_completion_routine(routine)
        system.io.call_driver(other, irp)

    assert system.io.unload_driver("d") is False
    ask()
    system.machine.run_until_idle()
    assert order == ["routine", "unload"]
    assert now(system.gone)


def test_a_pulled_device_goes_when_a_driver_lets_go_of_the_file() -> None:
    driver = TinyDriver("d")
    with Bridge.manual() as bridge:
        plug(bridge, driver)
        file, _ = bridge.io.get_device_object_pointer("DUT")
        bridge.unplug("DUT")
        assert [device["state"] for device in bridge.devices()] == ["surprise-removed"]
        bridge.io.dereference_object(file)
        bridge.machine.run_until_idle()
        assert bridge.devices() == []


# -- beginning -----------------------------------------------------------------------------------------------------------


def test_how_a_driver_object_looks_on_entry() -> None:
    seen: list[Any] = []

    def entry(driver: DriverObject, _parameters: object) -> NtStatus:
        table = driver.major_function
        seen.append((driver.driver_name, driver.service_key_name, driver.count, driver.flags, driver.device_object))
        seen.append((driver.add_device, driver.unload, len(table), len(set(table)), table[0] is not None))
        return STATUS_SUCCESS

    System().io.load_driver("svc", entry)
    assert seen == [("\\Driver\\svc", "svc", 0, DRVO_LEGACY_DRIVER, None), (None, None, 28, 1, True)]


def test_reinitialization_comes_after_the_entry_and_counts() -> None:
    calls: list[tuple[str, int, int]] = []

    def again(driver: DriverObject, context: str, count: int) -> None:
        calls.append((context, count, driver.flags & (DRVO_INITIALIZED | DRVO_REINIT_REGISTERED)))
        if count < 3:
            driver.io.register_driver_reinitialization(driver, again, context)

    def entry(driver: DriverObject, _parameters: object) -> NtStatus:
        driver.io.register_driver_reinitialization(driver, again, "context")
        assert driver.flags & DRVO_REINIT_REGISTERED and not calls
        return STATUS_SUCCESS

    driver = System().io.load_driver("d", entry)
    both = DRVO_INITIALIZED | DRVO_REINIT_REGISTERED
    assert calls == [("context", 1, both), ("context", 2, both), ("context", 3, both)]
    assert driver.count == 3 and not driver.flags & DRVO_REINIT_REGISTERED


def test_a_driver_that_fails_is_not_reinitialized() -> None:
    def entry(driver: DriverObject, _parameters: object) -> NtStatus:
        driver.io.register_driver_reinitialization(driver, raises(AssertionError("called")))
        return STATUS_DELETE_PENDING

    system = System()
    fails_with(STATUS_DELETE_PENDING, lambda: system.io.load_driver("d", entry))
    assert system.ke.faults == []


def test_a_reinitialization_that_raises_or_never_ends_is_reported_and_the_driver_is_loaded() -> None:
    def forever(driver: DriverObject, _context: object, _count: int) -> None:
        driver.io.register_driver_reinitialization(driver, forever)

    system = System()
    for name, routine in {"a": raises(KeyError("boom")), "b": forever}.items():

        def entry(driver: DriverObject, _parameters: object, routine: Any = routine) -> NtStatus:
            driver.io.register_driver_reinitialization(driver, routine)
            return STATUS_SUCCESS

        system.io.load_driver(name, entry)
        assert name in system.io.drivers
    one, two = map(str, system.ke.faults)
    assert one == "the reinitialization routine of driver a raised KeyError: 'boom'"
    assert "driver b asked to be called more than 100 times" in two


def test_a_driver_keeps_objects_under_keys_of_its_own() -> None:
    system = Unloaded()
    io, driver = system.io, system.driver
    assert io.allocate_driver_object_extension(driver, "table", {"a": 1}) == {"a": 1}
    fails_with(STATUS_OBJECT_NAME_COLLISION, lambda: io.allocate_driver_object_extension(driver, "table", {}))
    assert io.get_driver_object_extension(driver, "table") == {"a": 1}
    assert io.get_driver_object_extension(driver, "other") is None
    io.unload_driver("d")
    assert driver.extensions == {}


# -- the end of the system -----------------------------------------------------------------------------------------------


def test_devices_that_asked_for_it_are_told_of_the_end_the_last_one_first() -> None:
    told: list[str | None] = []

    def shutdown(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        told.append(device.name)
        return succeed(device, irp)

    system = Unloaded(devices=4, SHUTDOWN=shutdown)
    devices = system.driver.devices[::-1]
    for device in [*devices, devices[0]]:
        system.io.register_shutdown_notification(device)
        assert device.flags & DO_SHUTDOWN_REGISTERED
    system.io.unregister_shutdown_notification(devices[1])
    system.io.delete_device(devices[2])
    system.io.shutdown_system()
    assert told == ["\\Device\\D3", "\\Device\\D0"]
    system.io.shutdown_system()
    assert len(told) == 2 and not devices[0].flags & DO_SHUTDOWN_REGISTERED


def test_the_request_goes_to_the_very_device_and_one_that_fails_keeps_it_from_nobody() -> None:
    told: list[str] = []

    def shutdown(device: DeviceObject[Any], irp: Irp) -> NtStatus:
        told.append("lower")
        return succeed(device, irp)

    lower = TinyDriver("lower", {IrpMajor.SHUTDOWN: shutdown})
    bad = TinyDriver("bad", {IrpMajor.SHUTDOWN: raises(KeyError("boom"))})
    system = System()
    system.stack(lower, TinyDriver("above"))
    system.stack(bad)
    system.io.register_shutdown_notification(lower.device)
    system.io.register_shutdown_notification(bad.device)
    system.io.shutdown_system()
    assert told == ["lower"] and len(system.ke.faults) == 1


def test_a_bridge_that_closes_tells_before_it_takes_anything_down() -> None:
    told: list[tuple[str, bool]] = []

    def note(name: str) -> Any:
        def routine(device: DeviceObject[Any], irp: Irp) -> NtStatus:
            told.append((name, request.done))
            return succeed(device, irp)

        return routine

    driver = TinyDriver(
        "d",
        {IrpMajor.SHUTDOWN: note("SHUTDOWN"), IrpMajor.CLEANUP: note("CLEANUP"), IrpMajor.READ: pend},
        on_start=lambda device, _resources: device.io.register_shutdown_notification(device),
    )
    with Bridge.manual() as bridge:
        plug(bridge, driver)
        request = bridge.open("DUT").submit_read(4)
    assert told == [("SHUTDOWN", False), ("CLEANUP", False)]
