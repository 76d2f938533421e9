"""Device interfaces, and the notifications of Plug and Play."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hilbridge import Bridge, DeviceBusy, NameNotFound
from hilbridge.iomgr.pnpnotify import NotifyCategory, NotifyEvent, PnpNotification
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import DriverFault, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DEVICE_BUSY,
    STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
    STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.support import Extension, Thread, TinyDriver, bug_check, complete, plug

CLASS = "{781EF630-72B2-11D2-B852-00C04FAD5171}"
OTHER = "{D35F7840-6A0C-11D2-B841-00C04FAD5171}"
EVENT = "{01CDAFF1-C901-45B4-B359-B5542725E29C}"


class Offering(TinyDriver):
    """A driver whose device has no name, and an interface."""

    def __init__(self, name: str = "offering") -> None:
        super().__init__(name, {IrpMajor.CREATE: self.create}, named=False)
        self.opened: list[str] = []

    def create(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        file = irp.current_stack_location.file_object
        assert file is not None
        self.opened.append(file.file_name)
        return complete(device, irp)


class Stage:
    """A bridge with such a device, and one more driver that listens."""

    def __init__(self, **options: Any) -> None:
        self.bridge = Bridge.manual(**options)
        self.io = self.bridge.io
        self.driver = Offering()
        plug(self.bridge, self.driver)
        self.pdo = self.bridge.stack("DUT")[-1]
        self.link = self.io.register_device_interface(self.pdo, CLASS)
        plug(self.bridge, TinyDriver("listener"), name="LISTENER")
        self.listener: DriverObject = self.io.drivers["listener"]
        self.news: list[tuple[Any, ...]] = []
        self.entries: list[Any] = []
        self.answer: Any = STATUS_SUCCESS

    def hear(self, told: PnpNotification, context: Any) -> NtStatus:
        self.news.append((told.event.name, told.link or told.custom or told.file, context))
        return self.answer if not callable(self.answer) else self.answer(told)  # type: ignore[no-any-return]

    def listen(self, data: Any = CLASS, **options: Any) -> Any:
        kind = NotifyCategory.DEVICE_INTERFACE_CHANGE if isinstance(data, str) else NotifyCategory.TARGET_DEVICE_CHANGE
        entry = self.io.register_plug_play_notification(kind, data, self.listener, self.hear, "context", **options)
        self.entries.append(entry)
        return entry

    def close(self) -> None:
        for entry in self.entries:
            self.io.unregister_plug_play_notification(entry)
        self.bridge.close()

    def enable(self, on: bool = True) -> NtStatus:
        return self.io.set_device_interface_state(self.link, on)

    def settle(self) -> list[str]:
        self.bridge.machine.run_until_idle()
        return [event for event, *_ in self.news]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


# -- interfaces ----------------------------------------------------------------------------------------------------------


def test_an_enabled_interface_is_found_and_opens_the_device(stage: Stage) -> None:
    assert stage.io.get_device_interfaces(CLASS) == []
    with pytest.raises(NameNotFound):
        stage.bridge.open(stage.link)
    assert stage.enable() == STATUS_SUCCESS
    assert stage.io.get_device_interfaces(CLASS.lower()) == [stage.link]
    assert stage.io.get_device_interfaces(OTHER) == []
    for spelling in (stage.link, stage.link.upper(), stage.link.replace("\\??\\", "\\\\?\\", 1)):
        with stage.bridge.open(spelling) as handle:
            assert handle.file.device_object is stage.pdo
    assert stage.enable(False) == STATUS_SUCCESS
    with pytest.raises(NameNotFound):
        stage.bridge.open(stage.link)
    assert stage.io.get_device_interfaces(CLASS, include_disabled=True) == [stage.link]


def test_its_link_names_the_device_and_the_class(stage: Stage) -> None:
    assert stage.link == f"\\??\\ROOT#offering#DUT#{CLASS.lower()}"
    assert stage.io.register_device_interface(stage.pdo, CLASS.lower()) == stage.link
    assert stage.io.register_device_interface(stage.pdo, OTHER) != stage.link


def test_a_reference_string_reaches_create(stage: Stage) -> None:
    link = stage.io.register_device_interface(stage.pdo, CLASS, "left")
    assert link == f"{stage.link}\\left"
    stage.io.set_device_interface_state(link, True)
    stage.bridge.open(link).close()
    with pytest.raises(NameNotFound):
        stage.bridge.open(f"{stage.link}\\right")
    with pytest.raises(NameNotFound):
        stage.bridge.open(stage.link)
    stage.enable()
    stage.bridge.open(f"{stage.link}\\right").close()
    assert stage.driver.opened == ["\\left", "\\right"]


def test_a_state_that_is_so_already_is_said(stage: Stage) -> None:
    assert stage.enable(False) == STATUS_OBJECT_NAME_NOT_FOUND
    stage.enable()
    assert stage.enable() == STATUS_OBJECT_NAME_EXISTS
    assert stage.io.set_device_interface_state("\\??\\nobody's", True) == STATUS_OBJECT_NAME_NOT_FOUND


@pytest.mark.parametrize("guid", ["", "toaster", CLASS[1:-1], CLASS[:-2] + "g}", 7])
def test_what_is_no_guid_is_refused(stage: Stage, guid: Any) -> None:
    for call in (
        lambda: stage.io.register_device_interface(stage.pdo, guid),
        lambda: stage.io.get_device_interfaces(guid),
        lambda: stage.io.report_target_device_change(stage.pdo, guid),
    ):
        with pytest.raises(NtStatusError, match="is no GUID") as refused:
            call()
        assert refused.value.status == STATUS_INVALID_PARAMETER


def test_a_reference_string_has_no_slash(stage: Stage) -> None:
    with pytest.raises(NtStatusError, match="slash"):
        stage.io.register_device_interface(stage.pdo, CLASS, "a\\b")


def test_only_a_pdo_has_interfaces(stage: Stage) -> None:
    with bug_check(0xC9, 0x24D) as caught:
        stage.io.register_device_interface(stage.driver.device, CLASS)
    assert "the physical device that AddDevice was given" in str(caught.value)


def test_they_are_registered_at_passive_level(stage: Stage) -> None:
    with stage.bridge.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA):
        stage.enable()


def test_what_a_driver_leaves_enabled_goes_with_its_device(stage: Stage) -> None:
    stage.enable()
    stage.listen()
    stage.bridge.unplug("DUT")
    assert stage.settle() == ["INTERFACE_REMOVAL"]
    assert stage.io.get_device_interfaces(CLASS, include_disabled=True) == []
    with pytest.raises(NameNotFound):
        stage.bridge.open(stage.link)


def test_a_driver_is_asked_for_an_interface_of_routines(stage: Stage) -> None:
    class Routines:
        toast: Any = None

    def pnp(device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        if location.minor_function == PnpMinor.QUERY_INTERFACE:
            asked = location.parameters.query_interface
            if asked.interface_type == CLASS and asked.version == 1:
                asked.interface.toast = "toasted"
                irp.io_status.status = STATUS_SUCCESS
        irp.skip_current_stack_location()
        return device.io.call_driver(device.extension.lower, irp)

    stage.listener.major_function[IrpMajor.PNP] = pnp
    found = Routines()
    device = stage.bridge.stack("LISTENER")[0]
    assert stage.io.query_interface(device, CLASS, 1, found) == STATUS_SUCCESS
    assert found.toast == "toasted"
    assert stage.io.query_interface(device, OTHER, 1, Routines()) == STATUS_NOT_SUPPORTED


# -- news of interfaces --------------------------------------------------------------------------------------------------


def test_each_change_is_told_once_and_in_order(stage: Stage) -> None:
    stage.listen()
    for on in (True, True, False, False, True):
        stage.enable(on)
    assert stage.news == [], "not in the thread of who has changed it"
    assert stage.settle() == ["INTERFACE_ARRIVAL", "INTERFACE_REMOVAL", "INTERFACE_ARRIVAL"]
    assert stage.news[0] == ("INTERFACE_ARRIVAL", stage.link, "context")


def test_those_that_are_there_are_told_if_one_wants_to_hear_of_them(stage: Stage) -> None:
    stage.enable()
    stage.listen(OTHER, include_existing=True)
    stage.listen()
    assert stage.settle() == []
    stage.listen(include_existing=True)
    assert stage.settle() == ["INTERFACE_ARRIVAL"]


def test_who_has_unregistered_hears_nothing_more_not_even_what_was_on_its_way(stage: Stage) -> None:
    entry = stage.listen()
    stage.enable()
    stage.io.unregister_plug_play_notification(entry)
    stage.io.unregister_plug_play_notification(entry)
    assert stage.settle() == []


def test_a_callback_may_unregister_itself(stage: Stage) -> None:
    def once(_told: PnpNotification) -> NtStatus:
        stage.io.unregister_plug_play_notification(entry)
        return STATUS_SUCCESS

    stage.answer = once
    entry = stage.listen()
    stage.enable()
    stage.enable(False)
    assert stage.settle() == ["INTERFACE_ARRIVAL"]


def test_to_unregister_waits_for_a_callback_that_runs() -> None:
    with Bridge() as bridge:
        stage = Stage.__new__(Stage)
        inside, go_on, order = Kevent(), Kevent(), list[str]()

        def slow(_told: PnpNotification, _context: Any) -> NtStatus:
            inside.set()
            bridge.ke.wait_for_single_object(go_on, 10.0)
            order.append("callback")
            return STATUS_SUCCESS

        driver = Offering()
        plug(bridge, driver)
        pdo = bridge.stack("DUT")[-1]
        stage.link = bridge.io.register_device_interface(pdo, CLASS)
        loaded = bridge.io.drivers["offering"]
        entry = bridge.io.register_plug_play_notification(NotifyCategory.DEVICE_INTERFACE_CHANGE, CLASS, loaded, slow)
        bridge.io.set_device_interface_state(stage.link, True)
        assert bridge.ke.wait_for_single_object(inside, 10.0)

        def leave() -> None:
            bridge.io.unregister_plug_play_notification(entry)
            order.append("unregistered")

        leaving = Thread(leave)
        go_on.set()
        leaving.finish()
        assert order == ["callback", "unregistered"]


@pytest.mark.parametrize("wrong", [None, 0, "STATUS_SUCCESS"])
def test_a_callback_that_returns_no_status_is_its_drivers_fault(stage: Stage, wrong: Any) -> None:
    stage.answer = lambda _told: wrong
    stage.listen()
    stage.enable()
    stage.settle()
    (fault,) = stage.bridge.acknowledge_faults()
    assert isinstance(fault, DriverFault)
    assert fault.driver == "listener"
    assert "return STATUS_SUCCESS" in str(fault)


def test_a_callback_that_raises_is_its_drivers_fault_and_the_others_are_told(stage: Stage) -> None:
    def raises(_told: PnpNotification) -> NtStatus:
        raise ZeroDivisionError("in a callback")

    stage.answer = raises
    stage.listen()
    heard: list[str] = []
    stage.bridge.watch(CLASS, lambda link, _arrived: heard.append(link))
    stage.enable()
    stage.settle()
    assert heard == [stage.link]
    (fault,) = stage.bridge.acknowledge_faults()
    assert isinstance(fault, DriverFault)
    assert "tests/iomgr/test_interfaces.py" in str(fault.place)


def test_an_application_hears_of_what_is_there_and_what_comes(stage: Stage) -> None:
    stage.enable()
    heard: list[tuple[str, bool]] = []
    with stage.bridge.watch(CLASS, lambda link, arrived: heard.append((link, arrived))):
        stage.enable(False)
        stage.settle()
    stage.enable()
    stage.settle()
    assert heard == [(stage.link, True), (stage.link, False)]


def test_a_driver_is_not_unloaded_while_it_waits_for_news(stage: Stage) -> None:
    entry = stage.listen()
    stage.bridge.remove("LISTENER")
    assert stage.io.unload_driver("listener") is False
    assert "notifications" in stage.io.in_use(stage.listener)
    stage.io.unregister_plug_play_notification(entry)
    assert "listener" not in stage.io.drivers


# -- target devices ------------------------------------------------------------------------------------------------------


def test_who_uses_a_device_closes_it_when_it_is_to_be_removed(stage: Stage) -> None:
    handle = stage.bridge.open("DUT")

    def close(told: PnpNotification) -> NtStatus:
        if told.event is NotifyEvent.QUERY_REMOVE:
            handle.close()
        return STATUS_SUCCESS

    stage.answer = close
    stage.listen(handle.file)
    stage.bridge.remove("DUT")
    assert stage.news == [("QUERY_REMOVE", handle.file, "context"), ("REMOVE_COMPLETE", handle.file, "context")]


def test_it_may_refuse(stage: Stage) -> None:
    handle = stage.bridge.open("DUT")
    stage.listen(handle.file)
    stage.answer = STATUS_DEVICE_BUSY
    stage.listen(handle.file)
    with pytest.raises(DeviceBusy, match="driver listener, which uses it, refuses"):
        stage.bridge.remove("DUT")
    assert stage.settle() == ["QUERY_REMOVE"]
    handle.close()


def test_those_that_had_agreed_hear_that_nothing_comes_of_it(stage: Stage) -> None:
    handle = stage.bridge.open("DUT")
    answers = iter([STATUS_SUCCESS, STATUS_DEVICE_BUSY, STATUS_SUCCESS])
    stage.answer = lambda _told: next(answers)
    stage.listen(handle.file)
    stage.listen(handle.file)
    with pytest.raises(DeviceBusy):
        stage.bridge.remove("DUT")
    assert stage.settle() == ["QUERY_REMOVE", "QUERY_REMOVE", "REMOVE_CANCELLED"]
    handle.close()


def test_who_has_agreed_is_told_if_somebody_else_keeps_the_device(stage: Stage) -> None:
    handle = stage.bridge.open("DUT")
    stage.listen(handle.file)
    with pytest.raises(DeviceBusy, match="1 handle"):
        stage.bridge.remove("DUT")
    assert stage.settle() == ["QUERY_REMOVE", "REMOVE_CANCELLED"]
    handle.close()


def test_of_a_surprise_only_the_end_is_told(stage: Stage) -> None:
    handle = stage.bridge.open("DUT")
    stage.listen(handle.file)
    stage.bridge.unplug("DUT")
    assert stage.settle() == ["REMOVE_COMPLETE"]
    handle.close()
    assert stage.settle() == ["REMOVE_COMPLETE"]


def test_a_driver_reports_events_of_its_own(stage: Stage) -> None:
    handle = stage.bridge.open("DUT")
    stage.listen(handle.file)
    assert stage.io.report_target_device_change(stage.pdo, EVENT, b"hot") == STATUS_SUCCESS
    assert stage.news == [("CUSTOM", EVENT.lower(), "context")]
    with stage.bridge.ke.raised_irql(DISPATCH_LEVEL):
        stage.io.report_target_device_change_asynchronous(stage.pdo, EVENT)
        assert len(stage.news) == 1
    assert stage.settle() == ["CUSTOM", "CUSTOM"]
    handle.close()


@pytest.mark.parametrize("data", [7, None])
def test_what_cannot_be_listened_to_is_said(stage: Stage, data: Any) -> None:
    for kind in NotifyCategory:
        with pytest.raises(DriverFault, match="give a GUID for interface changes, and the open file"):
            stage.io.register_plug_play_notification(kind, data, stage.listener, stage.hear)
    assert stage.bridge.acknowledge_faults()


# -- races ---------------------------------------------------------------------------------------------------------------


def switching_against_registering() -> Race:
    """Who registers hears of the interface exactly once if it is enabled, whatever comes first."""
    stage = Stage()

    def check() -> None:
        assert stage.settle() == ["INTERFACE_ARRIVAL"]

    return Race({"enable": stage.enable, "register": lambda: stage.listen(include_existing=True)}, check, stage.close)


def unregistering_against_the_news() -> Race:
    """After unregistering has returned no callback begins."""
    stage = Stage()
    entry = stage.listen()
    stage.enable()
    left: list[int] = []

    def leave() -> None:
        stage.io.unregister_plug_play_notification(entry)
        left.append(len(stage.news))

    def check() -> None:
        assert len(stage.settle()) == left[0]

    return Race({"leave": leave, "tell": lambda: stage.bridge.machine.run_until_idle()}, check, stage.close)


@pytest.mark.slow
@pytest.mark.parametrize("race", [switching_against_registering, unregistering_against_the_news])
def test_in_every_order(race: Any) -> None:
    modules = ["hilbridge.iomgr.pnpnotify", "hilbridge.iomgr.interfaces"]
    assert explore(race, granularity=Granularity.LINES, preemptions=2, modules=modules).schedules > 20
