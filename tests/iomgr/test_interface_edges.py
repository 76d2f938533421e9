"""Device interfaces and notifications where several things meet: starts that fail, drivers that go, callbacks that wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from hilbridge import Bridge, NameNotFound
from hilbridge.iomgr.pnpnotify import CALLBACK_PATIENCE, NotificationEntry, NotifyCategory, NotifyEvent, PnpNotification
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import APC_LEVEL, DISPATCH_LEVEL, PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.errors import BugCheck, DriverFault, HilbridgeError, NtStatusError, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_FILE_CLOSED,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_EXISTS,
    STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL,
    NtStatus,
)
from tests.support import Extension, TinyDriver, complete, plug, raises

CLASS = "{781EF630-72B2-11D2-B852-00C04FAD5171}"
OTHER = "{D35F7840-6A0C-11D2-B841-00C04FAD5171}"
EVENT = "{01CDAFF1-C901-45B4-B359-B5542725E29C}"
HERE = "test_interface_edges.py:"


class Offering(TinyDriver):
    """Registers its interface in AddDevice, and enables it in START_DEVICE, before that is complete."""

    def __init__(self, name: str = "offering") -> None:
        super().__init__(name, named=False)
        self.link = ""
        self.statuses: list[NtStatus] = []
        self.asked: list[int] = []
        self.while_starting: Callable[[], object] = lambda: None

    def add_device(self, driver: DriverObject, physical: DeviceObject[Any]) -> NtStatus:
        status = super().add_device(driver, physical)
        self.link = driver.io.register_device_interface(physical, CLASS)
        return status

    def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
        minor = irp.current_stack_location.minor_function
        self.asked.append(minor)
        if minor == PnpMinor.START_DEVICE:
            self.statuses.append(device.io.set_device_interface_state(self.link, True))
            self.while_starting()
        return super().pnp(device, irp)


class Registrar(TinyDriver):
    """Registers in START_DEVICE, and forgets to unregister."""

    def __init__(self, callback: Any) -> None:
        super().__init__("registrar", on_start=self.register)
        self.callback = callback
        self.entries: list[NotificationEntry] = []

    def register(self, device: DeviceObject[Extension], _resources: Any) -> None:
        kind, io = NotifyCategory.DEVICE_INTERFACE_CHANGE, device.io
        self.entries.append(io.register_plug_play_notification(kind, CLASS, device.driver_object, self.callback))


class Listener:
    """A driver without any device."""

    def __init__(self, bridge: Bridge, name: str = "listener") -> None:
        self.io = bridge.io
        self.driver = bridge.io.load_driver(name, TinyDriver(name).driver_entry)
        self.news: list[str] = []
        self.then: Callable[[PnpNotification], Any] = lambda _told: STATUS_SUCCESS

    def hear(self, told: PnpNotification, _context: Any) -> Any:
        self.news.append(told.event.name)
        return self.then(told)

    def listen(self, data: Any = CLASS, **options: Any) -> NotificationEntry:
        kind = NotifyCategory.DEVICE_INTERFACE_CHANGE if isinstance(data, str) else NotifyCategory.TARGET_DEVICE_CHANGE
        return self.io.register_plug_play_notification(kind, data, self.driver, self.hear, **options)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """What is registered when a test ends is none of its business, unless it is about that."""
    with Bridge.manual(restarts=0) as bridge:
        yield bridge
        for driver in list(bridge.io.drivers.values()):
            bridge.io.take_away_notifications(driver)
        bridge.acknowledge_faults()


def settle(bridge: Bridge) -> None:
    bridge.machine.run_until_idle()


def switch(bridge: Bridge, link: str, *states: bool) -> None:
    for state in states:
        assert bridge.io.set_device_interface_state(link, state) == STATUS_SUCCESS


def offer(bridge: Bridge, name: str = "DUT") -> str:
    """A device with an interface that is not enabled; returns the link."""
    driver = Offering()
    plug(bridge, driver, name)
    switch(bridge, driver.link, False)
    return driver.link


# -- the start -----------------------------------------------------------------------------------------------------------


def test_what_is_enabled_during_the_start_is_seen_when_the_start_is_over(bridge: Bridge) -> None:
    driver, listener, seen = Offering(), Listener(bridge), list[Any]()
    listener.listen()

    def in_the_middle() -> None:
        settle(bridge)
        with pytest.raises(NameNotFound):
            bridge.open(driver.link)
        seen.append((list(listener.news), bridge.interfaces(CLASS)))

    driver.while_starting = in_the_middle

    def opens(told: PnpNotification) -> NtStatus:
        bridge.open(told.link).close()
        return STATUS_SUCCESS

    listener.then = opens
    plug(bridge, driver)
    settle(bridge)
    assert seen == [([], [])] and listener.news == ["INTERFACE_ARRIVAL"] and not bridge.faults
    driver.while_starting = lambda: None
    bridge.stop("DUT")
    bridge.start("DUT")
    settle(bridge)
    assert driver.statuses == [STATUS_SUCCESS, STATUS_OBJECT_NAME_EXISTS] and listener.news == ["INTERFACE_ARRIVAL"]


@pytest.mark.parametrize("fails", ["status", "fault"])
def test_nobody_hears_of_a_device_that_does_not_start(bridge: Bridge, fails: str) -> None:
    class Above(TinyDriver):
        def pnp(self, device: DeviceObject[Extension], irp: Irp) -> NtStatus:
            if irp.current_stack_location.minor_function != PnpMinor.START_DEVICE:
                return super().pnp(device, irp)
            device.io.forward_and_wait(device.extension.lower, irp)
            if fails == "fault":
                raise ValueError("no bread")
            return complete(device, irp, STATUS_UNSUCCESSFUL)

    driver, listener = Offering(), Listener(bridge)
    listener.listen()
    with pytest.raises((HilbridgeError, OSError)):
        plug(bridge, driver, upper_filters=[Above("above")])
    settle(bridge)
    assert driver.statuses == [STATUS_SUCCESS] and listener.news == []


def test_what_is_disabled_again_during_the_start_was_never_there(bridge: Bridge) -> None:
    driver, listener = Offering(), Listener(bridge)
    listener.listen()
    driver.while_starting = lambda: switch(bridge, driver.link, False)
    plug(bridge, driver)
    settle(bridge)
    assert listener.news == [] and bridge.interfaces(CLASS) == []


def test_a_stack_that_is_being_built_is_not_asked_for_its_ids(bridge: Bridge) -> None:
    driver = Offering()
    plug(bridge, driver)
    assert PnpMinor.QUERY_ID not in driver.asked and "#DUT#" in driver.link


def test_what_has_gone_or_failed_cannot_be_enabled(bridge: Bridge) -> None:
    driver, listener = Offering(), Listener(bridge)
    plug(bridge, driver)
    handle = bridge.open(driver.link)
    listener.listen()
    bridge.unplug("DUT")
    assert bridge.io.set_device_interface_state(driver.link, True) == STATUS_NO_SUCH_DEVICE
    settle(bridge)
    assert listener.news == ["INTERFACE_REMOVAL"]
    handle.close()
    plug(bridge, driver)
    assert bridge.interfaces(CLASS) == [driver.link]


# -- callbacks -----------------------------------------------------------------------------------------------------------


def test_a_callback_that_waits_is_not_called_again_meanwhile(bridge: Bridge) -> None:
    """On the manual machine a wait turns the crank, which would run the next notification inside this one."""
    link, listener, other = offer(bridge), Listener(bridge), Listener(bridge, "other")
    inside: list[int] = []

    def nap(_told: PnpNotification) -> NtStatus:
        inside.append(1)
        assert sum(inside) == 1
        bridge.ke.delay_execution_thread(0.1)
        inside.append(-1)
        return STATUS_SUCCESS

    listener.then = nap
    listener.listen()
    other.listen()
    switch(bridge, link, True, False, True)
    bridge.machine.advance(1)
    assert listener.news == other.news == ["INTERFACE_ARRIVAL", "INTERFACE_REMOVAL", "INTERFACE_ARRIVAL"]
    assert not bridge.faults


def test_callbacks_are_called_at_passive_level(bridge: Bridge) -> None:
    link, listener, irqls = offer(bridge), Listener(bridge), list[int]()

    def look(_told: PnpNotification) -> NtStatus:
        irqls.append(bridge.ke.irql)
        return STATUS_SUCCESS

    listener.then = look
    listener.listen()
    switch(bridge, link, True)
    with bridge.ke.raised_irql(APC_LEVEL):
        settle(bridge)
        assert bridge.ke.irql == APC_LEVEL
    assert irqls == [0]


@pytest.mark.parametrize("whose", ["driver", "application"])
def test_a_callback_that_does_not_return_is_waited_for_with_a_bound(bridge: Bridge, whose: str) -> None:
    link, listener, ended, caught = offer(bridge), Listener(bridge), Kevent(), list[HilbridgeError]()

    def leave(_context: Any) -> None:
        try:
            bridge.io.unregister_plug_play_notification(entry)
        except HilbridgeError as error:
            caught.append(error)
            ended.set()

    def hangs(*_: Any) -> NtStatus:
        bridge.ke.create_system_thread(listener.driver, leave)
        assert bridge.ke.wait_for_single_object(ended, CALLBACK_PATIENCE + 1)
        return STATUS_SUCCESS

    listener.then = hangs
    entry = listener.listen() if whose == "driver" else bridge.watch(CLASS, hangs)._entry
    switch(bridge, link, True)
    bridge.machine.advance(CALLBACK_PATIENCE + 2)
    assert "did not return within 60 s" in str(caught[0])
    if whose == "driver":
        assert bridge.faults == caught and "driver listener" in str(caught[0]) and HERE in str(caught[0])
    else:
        assert isinstance(caught[0], UsageFault) and not bridge.faults


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (raises(ValueError("no jam")), "raised ValueError: no jam"),
        (lambda _told: None, "returned None: return STATUS_SUCCESS"),
        (lambda told: leak(told), "returned at IRQL 2"),
    ],
)
def test_a_driver_without_devices_takes_nobody_with_it(bridge: Bridge, then: Any, words: str) -> None:
    link, listener = offer(bridge), Listener(bridge)
    leak.ke = bridge.ke  # type: ignore[attr-defined]
    listener.then = then
    listener.listen()
    switch(bridge, link, True)
    settle(bridge)
    (fault,) = bridge.faults
    assert isinstance(fault, DriverFault) and fault.driver == "listener" and words in str(fault)
    assert fault.place is not None and (HERE in fault.place or "support.py:" in fault.place)
    assert bridge.devices()[0]["state"] == "started" and bridge.ke.irql == 0
    bridge.open(link).close()


def leak(_told: PnpNotification) -> NtStatus:
    leak.ke.current().irql = DISPATCH_LEVEL  # type: ignore[attr-defined]
    return STATUS_SUCCESS


def test_a_driver_whose_stack_has_failed_is_told_nothing_more(bridge: Bridge) -> None:
    link, told = offer(bridge), list[str]()

    def callback(news: PnpNotification, _context: Any) -> NtStatus:
        told.append(news.event.name)
        return bridge.io.delete_device(registrar.device) or STATUS_SUCCESS  # type: ignore[func-returns-value]

    registrar = Registrar(callback)
    plug(bridge, registrar, "R1")
    plug(bridge, registrar, "R2")
    assert [entry.device for entry in registrar.entries] == registrar.devices
    bridge.io.unregister_plug_play_notification(registrar.entries[0])
    switch(bridge, link, True, False)
    settle(bridge)
    (fault,) = bridge.faults
    assert isinstance(fault, BugCheck) and (fault.driver, fault.code) == ("registrar", 0xC9)
    assert told == ["INTERFACE_ARRIVAL"]
    states = {device["name"]: device["state"] for device in bridge.devices()}
    assert states == {"DUT": "started", "R1": "started", "R2": "failed"}
    bridge.unplug("R2")
    assert not bridge.io.registered_for_news(registrar.device.driver_object)
    bridge.io.unregister_plug_play_notification(registrar.entries[1])  # it could not know


# -- the end of a driver -------------------------------------------------------------------------------------------------


def test_a_driver_is_not_unloaded_while_it_runs_its_last_callback(bridge: Bridge) -> None:
    link, listener, loaded = offer(bridge), Listener(bridge), list[bool]()
    entry = listener.listen()

    def leave(_told: PnpNotification) -> NtStatus:
        bridge.io.unregister_plug_play_notification(entry)
        loaded.append("listener" in bridge.io.drivers)
        return STATUS_SUCCESS

    listener.then = leave
    assert bridge.io.unload_driver("listener") is False
    with pytest.raises(NtStatusError) as caught:
        listener.listen()
    assert caught.value.status == STATUS_DELETE_PENDING
    switch(bridge, link, True)
    settle(bridge)
    assert loaded == [True] and "listener" not in bridge.io.drivers and not bridge.faults


def test_a_driver_entry_that_fails_leaves_no_registration_behind(bridge: Bridge) -> None:
    def entry(driver: DriverObject, _parameters: Mapping[str, object]) -> NtStatus:
        kind = NotifyCategory.DEVICE_INTERFACE_CHANGE
        driver.io.register_plug_play_notification(kind, CLASS, driver, raises(AssertionError("called")))
        return STATUS_UNSUCCESSFUL

    with pytest.raises(NtStatusError, match="it has left behind <notification of driver bad"):
        bridge.io.load_driver("bad", entry)
    switch(bridge, offer(bridge), True)
    settle(bridge)
    assert not bridge.faults


def test_who_has_forgotten_to_unregister_is_named_at_the_end() -> None:
    bridge = Bridge.manual()
    plug(bridge, Registrar(lambda *_: STATUS_SUCCESS))
    with pytest.raises(DriverFault, match="driver registrar has left behind <notification of driver registrar about"):
        bridge.close()


# -- target devices ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_closed_has_no_target(bridge: Bridge) -> None:
    listener = Listener(bridge)
    handle = bridge.open(plugged(bridge))
    handle.close()
    with pytest.raises(NtStatusError) as caught:
        listener.listen(handle.file)
    assert caught.value.status == STATUS_FILE_CLOSED


def plugged(bridge: Bridge) -> str:
    plug(bridge, Offering())
    return bridge.interfaces(CLASS)[0]


def test_an_event_between_question_and_answer_does_not_make_the_answer_forgotten(bridge: Bridge) -> None:
    listener = Listener(bridge)
    with bridge.open(plugged(bridge)) as handle:
        listener.listen(handle.file)
        pdo, io = bridge.stack("DUT")[-1], bridge.io
        assert io.notify_target_device(pdo, NotifyEvent.QUERY_REMOVE) is None
        io.report_target_device_change(pdo, EVENT)
        io.notify_target_device(pdo, NotifyEvent.REMOVE_CANCELLED)
        assert listener.news == ["QUERY_REMOVE", "CUSTOM", "REMOVE_CANCELLED"]


def test_a_callback_may_report_and_be_told_inside_itself(bridge: Bridge) -> None:
    listener, io = Listener(bridge), bridge.io
    with bridge.open(plugged(bridge)) as handle:
        entry, pdo = listener.listen(handle.file), bridge.stack("DUT")[-1]

        def then(told: PnpNotification) -> NtStatus:
            if told.event is NotifyEvent.QUERY_REMOVE:
                io.report_target_device_change(pdo, EVENT)
                assert entry.running is not None
            return STATUS_SUCCESS

        listener.then = then
        assert io.notify_target_device(pdo, NotifyEvent.QUERY_REMOVE) is None
        assert listener.news == ["QUERY_REMOVE", "CUSTOM"] and entry.running is None


def test_who_asks_waits_for_a_call_that_is_under_way_but_not_for_ever(bridge: Bridge) -> None:
    listener, io, ended, answers = Listener(bridge), bridge.io, Kevent(), list[Any]()
    with bridge.open(plugged(bridge)) as handle:
        listener.listen(handle.file)
        pdo = bridge.stack("DUT")[-1]

        def asks(_context: Any) -> None:
            answers.append(io.notify_target_device(pdo, NotifyEvent.QUERY_REMOVE))
            ended.set()

        def hangs(_told: PnpNotification) -> NtStatus:
            bridge.ke.create_system_thread(listener.driver, asks)
            assert bridge.ke.wait_for_single_object(ended, CALLBACK_PATIENCE + 1)
            return STATUS_SUCCESS

        listener.then = hangs
        io.report_target_device_change_asynchronous(pdo, EVENT)
        bridge.machine.advance(CALLBACK_PATIENCE + 2)
        assert answers == [listener.driver] and listener.news == ["CUSTOM"]
        assert "did not return" in str(bridge.faults[0])
