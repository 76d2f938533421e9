"""WMI: who is asked, what comes back, and what becomes of drivers that do it wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge.iomgr.wmi import wmi_dispatch
from hilbridge.model.codes import DISPATCH_LEVEL, IrpMajor, WmiDisposition, WmiMinor, WmiRegAction
from hilbridge.model.errors import DeviceGone, DriverFault, HilbridgeError, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_DEVICE_NOT_READY,
    STATUS_NOT_SUPPORTED,
    STATUS_SUCCESS,
    STATUS_WMI_GUID_NOT_FOUND,
    STATUS_WMI_INSTANCE_NOT_FOUND,
    STATUS_WMI_READ_ONLY,
    NtStatus,
)
from hilbridge.model.wmi import WMIREGISTER, WmiRegGuid, Wnode
from tests.iomgr.wmikit import ABSENT, INFO, SLOTS, Device, Kitchen, info, noting, provider, toaster
from tests.support import System, TinyDriver, bug_check, complete, hold, pass_down, raises, succeed

REGINFO = (WmiMinor.REGINFO_EX, WMIREGISTER)


def refused(status: NtStatus, call: Callable[[], object]) -> str:
    """The call is refused with that status; returns the words."""
    with pytest.raises(NtStatusError) as caught:
        call()
    assert caught.value.status == status
    return caught.value.words


# -- asking --------------------------------------------------------------------------------------------------------------


def test_the_properties_of_a_block_by_its_guid_or_its_name() -> None:
    kitchen = Kitchen()
    assert kitchen.io.query_wmi(kitchen.device, INFO) == {"Driver": "toaster", "Asked": 2}
    assert kitchen.io.query_wmi(kitchen.device, INFO.lower()) == {"Driver": "toaster", "Asked": 3}
    assert kitchen.io.query_wmi(kitchen.device, "Info") == {"Driver": "toaster", "Asked": 4}
    single = (WmiMinor.QUERY_SINGLE_INSTANCE, INFO)
    assert kitchen.device.extension.notes == [REGINFO, single, single, single]


def test_nobody_is_asked_anything_before_somebody_wants_to_know() -> None:
    kitchen = Kitchen()
    kitchen.machine.run_until_idle()
    assert kitchen.device.extension.notes == []
    kitchen.io.wmi_blocks(kitchen.device)
    kitchen.io.wmi_blocks(kitchen.device)
    assert kitchen.device.extension.notes == [REGINFO]


def test_instances_by_name_by_number_and_all_of_them() -> None:
    kitchen = Kitchen()
    io, device = kitchen.io, kitchen.device
    assert io.query_wmi(device, SLOTS, "right") == io.query_wmi(device, "Slot", 1) == {"Slot": 2}
    assert io.query_wmi_all(device, SLOTS) == {"left": {"Slot": 1}, "right": {"Slot": 2}}
    assert list(io.query_wmi_all(device, "Info")) == ["toaster0_0"]


def test_any_device_of_the_stack_will_do() -> None:
    kitchen = Kitchen(
        toaster(), TinyDriver("filter", {IrpMajor.SYSTEM_CONTROL: pass_down}, named=False), registered=False
    )
    kitchen.control(kitchen.device)
    for device in kitchen.top.walk_down():
        assert kitchen.io.query_wmi(device, INFO)["Driver"] == "toaster"


def test_a_filter_without_a_dispatch_routine_does_not_stand_in_the_way() -> None:
    kitchen = Kitchen(toaster(), TinyDriver("filter", named=False))
    assert kitchen.io.query_wmi(kitchen.top, INFO)["Driver"] == "toaster"


def test_blocks_are_listed_from_the_top_down() -> None:
    kitchen = Kitchen(toaster("lower"), toaster("upper", named=False))
    lower, upper = (driver.device for driver in kitchen.drivers)
    assert kitchen.io.wmi_blocks(kitchen.device) == [
        (upper, INFO, "Info", ("upper_0",)),
        (upper, SLOTS, "Slot", ("left", "right")),
        (lower, INFO, "Info", ("lower0_0",)),
        (lower, SLOTS, "Slot", ("left", "right")),
    ]


def test_of_two_drivers_with_the_same_block_the_one_that_is_meant_answers_else_the_upper_one() -> None:
    kitchen = Kitchen(toaster("lower"), toaster("upper", named=False))
    lower, upper = (driver.device for driver in kitchen.drivers)
    bottom = lower.lower_device
    assert bottom is not None
    asked = [kitchen.io.query_wmi(device, INFO)["Driver"] for device in (lower, upper, bottom)]
    assert asked == ["lower", "upper", "upper"]


def test_all_properties_of_a_stack() -> None:
    kitchen = Kitchen(toaster("lower"), toaster("upper", named=False))
    found = kitchen.io.wmi_properties(kitchen.device)
    assert {name: list(properties.values()) for name, properties in found.items()} == {
        "Info": ["upper", 3],
        "Slot[left]": [1],
        "Slot[right]": [2],
        "Info#2": ["lower", 2],
        "Slot[left]#2": [1],
        "Slot[right]#2": [2],
    }


def test_a_stack_that_publishes_nothing() -> None:
    kitchen = Kitchen(registered=False)
    assert kitchen.io.wmi_blocks(kitchen.device) == []
    assert kitchen.io.wmi_properties(kitchen.device) == {}
    words = refused(STATUS_WMI_GUID_NOT_FOUND, lambda: kitchen.io.query_wmi(kitchen.device, INFO))
    assert words.endswith("there are: none at all")
    assert kitchen.device.extension.notes == []


@pytest.mark.parametrize("block", [ABSENT, "info", "", "{}"])
def test_an_unknown_block_is_refused_and_the_known_ones_are_named(block: str) -> None:
    kitchen = Kitchen()
    for ask in (kitchen.io.query_wmi, kitchen.io.query_wmi_all):
        words = refused(STATUS_WMI_GUID_NOT_FOUND, lambda ask=ask: ask(kitchen.device, block))  # type: ignore[misc]
        assert words.endswith(f"has no WMI block {block}; there are: Info {INFO}, Slot {SLOTS}")


@pytest.mark.parametrize("instance", [None, 2, -1, "middle"])
def test_an_unknown_instance_is_refused_and_the_known_ones_are_named(instance: str | int | None) -> None:
    kitchen = Kitchen()
    words = refused(STATUS_WMI_INSTANCE_NOT_FOUND, lambda: kitchen.io.query_wmi(kitchen.device, "Slot", instance))
    assert "has the instances left, right: " in words
    assert ("say which" if instance is None else f"there is no {instance!r}") in words


def test_it_is_for_passive_level() -> None:
    kitchen = Kitchen()
    calls: list[Callable[[], object]] = [
        lambda: kitchen.control(kitchen.device),
        lambda: kitchen.io.wmi_blocks(kitchen.device),
        lambda: kitchen.io.query_wmi(kitchen.device, INFO),
        lambda: kitchen.io.query_wmi_all(kitchen.device, INFO),
        lambda: kitchen.io.wmi_properties(kitchen.device),
    ]
    for call in calls:
        with kitchen.ke.raised_irql(DISPATCH_LEVEL), bug_check(0xA):
            call()


# -- a driver's dispatch routine -----------------------------------------------------------------------------------------


def test_requests_for_another_device_are_passed_on_untouched() -> None:
    kitchen = Kitchen()
    for minor in WmiMinor:
        wnode = Wnode()
        irp = kitchen.send(kitchen.device.lower_device, minor, INFO, wnode)
        assert (irp.io_status.status, wnode.data) == (STATUS_NOT_SUPPORTED, None)
    assert len(kitchen.device.extension.notes) == len(WmiMinor), "it has seen them"


def test_a_minor_function_that_is_not_wmis_is_passed_on() -> None:
    kitchen = Kitchen(TinyDriver("bottom", {IrpMajor.SYSTEM_CONTROL: succeed}), toaster(named=False), registered=False)
    assert kitchen.send(kitchen.top, 0x7F).io_status.status == STATUS_SUCCESS, "the lower driver has answered"


def test_at_the_bottom_of_a_stack_they_end_with_the_status_that_they_came_with() -> None:
    system = System()
    driver = system.io.load_driver("bottom", TinyDriver("bottom").driver_entry)
    driver.major_function[IrpMajor.SYSTEM_CONTROL] = wmi_dispatch(provider())
    kitchen = Kitchen(registered=False)
    kitchen.io, kitchen.ke = system.io, system.ke
    kitchen.top = system.io.create_device(driver, kitchen.device.extension)
    assert kitchen.send(None, WmiMinor.QUERY_ALL_DATA).io_status.status == STATUS_NOT_SUPPORTED
    assert kitchen.send(kitchen.top, 0x7F).io_status.status == STATUS_NOT_SUPPORTED
    assert kitchen.send(kitchen.top, WmiMinor.QUERY_ALL_DATA).io_status.status == STATUS_SUCCESS


def test_what_a_driver_sends_by_hand_is_answered_as_well() -> None:
    kitchen = Kitchen()
    wnode = Wnode("left")
    irp = kitchen.send(kitchen.device, WmiMinor.QUERY_SINGLE_INSTANCE, SLOTS, wnode)
    assert (irp.io_status.status, irp.io_status.information, wnode.data) == (STATUS_SUCCESS, 0, {"Slot": 1})
    assert kitchen.send(kitchen.device, WmiMinor.CHANGE_SINGLE_INSTANCE).io_status.status == STATUS_WMI_READ_ONLY
    assert kitchen.send(kitchen.device, WmiMinor.QUERY_ALL_DATA, ABSENT).io_status.status == STATUS_WMI_GUID_NOT_FOUND
    no_buffer = kitchen.send(kitchen.device, WmiMinor.QUERY_ALL_DATA, INFO, b"")
    assert no_buffer.io_status.status == STATUS_BUFFER_TOO_SMALL


DISPOSITIONS: dict[tuple[int, bool], WmiDisposition] = {
    (WmiMinor.REGINFO_EX, True): WmiDisposition.IRP_NOT_COMPLETED,
    (WmiMinor.QUERY_ALL_DATA, True): WmiDisposition.IRP_PROCESSED,
    (WmiMinor.CHANGE_SINGLE_INSTANCE, True): WmiDisposition.IRP_NOT_COMPLETED,
    (WmiMinor.QUERY_ALL_DATA, False): WmiDisposition.IRP_FORWARD,
    (0x7F, True): WmiDisposition.IRP_NOT_WMI,
    (0x7F, False): WmiDisposition.IRP_NOT_WMI,
}


@pytest.mark.parametrize(("minor", "mine"), DISPOSITIONS)
def test_wmi_system_control_says_what_is_to_be_done(minor: int, mine: bool) -> None:
    said: list[tuple[WmiDisposition, NtStatus]] = []

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        disposition, status = device.io.wmi_system_control(provider(), device, irp)
        said.append((disposition, status))
        return status if disposition is WmiDisposition.IRP_PROCESSED else complete(device, irp, status)

    kitchen = Kitchen(TinyDriver("by hand", {IrpMajor.SYSTEM_CONTROL: dispatch}))
    irp = kitchen.send(kitchen.device if mine else None, minor)
    assert said == [(DISPOSITIONS[minor, mine], irp.io_status.status)]


# -- drivers that do it wrong --------------------------------------------------------------------------------------------


def test_a_function_that_raises_fails_its_stack_and_the_caller_hears_of_it() -> None:
    kitchen = Kitchen(toaster(query=raises(ZeroDivisionError("crumbs"))))
    with pytest.raises(DriverFault, match=r"driver toaster .* ZeroDivisionError: crumbs in its WMI provider") as caught:
        kitchen.io.query_wmi(kitchen.device, INFO)
    assert caught.value.driver == "toaster"
    assert caught.value.place is not None and "support.py" in caught.value.place
    assert kitchen.device.device_stack.fault is not None
    assert len(kitchen.ke.faults) == 1
    for ask in (kitchen.io.wmi_properties, kitchen.io.wmi_blocks):
        with pytest.raises(DriverFault, match="crumbs"):
            ask(kitchen.device)


def test_the_request_ends_also_then() -> None:
    kitchen = Kitchen(toaster(query=raises(ZeroDivisionError("crumbs"))))
    irp = kitchen.send(kitchen.device, WmiMinor.QUERY_ALL_DATA)
    assert irp.io_status.status.is_error


def test_a_function_may_answer_with_a_status() -> None:
    kitchen = Kitchen(toaster(query=raises(NtStatusError(STATUS_DEVICE_NOT_READY, "it warms up"))))
    assert refused(STATUS_DEVICE_NOT_READY, lambda: kitchen.io.query_wmi(kitchen.device, INFO)) == "it warms up"
    assert kitchen.io.query_wmi(kitchen.device, SLOTS, 0) == {"Slot": 1}, "nothing has failed"


def test_a_function_whose_device_is_gone_answers_so() -> None:
    kitchen = Kitchen(toaster(query=raises(DeviceGone("the plug was pulled"))))
    with pytest.raises(DeviceGone, match="the plug was pulled") as caught:
        kitchen.io.query_wmi(kitchen.device, INFO)
    assert caught.value.status == STATUS_DEVICE_NOT_CONNECTED
    assert kitchen.ke.faults == []


@pytest.mark.parametrize("dispatch", [None, pass_down], ids=["no routine", "it passes on what is its own"])
def test_a_driver_that_registers_and_answers_nothing_is_named(dispatch: Any) -> None:
    kitchen = Kitchen(TinyDriver("mute", {} if dispatch is None else {IrpMajor.SYSTEM_CONTROL: dispatch}))
    if dispatch is None:
        kitchen.control(kitchen.device)
    words = refused(STATUS_NOT_SUPPORTED, lambda: kitchen.io.wmi_blocks(kitchen.device))
    assert words.startswith("driver mute has registered") and "answer IRP_MN_REGINFO_EX" in words


def by_hand(answers: dict[WmiMinor, object]) -> TinyDriver:
    """A driver that puts something of its own into the request's buffer."""

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        minor = WmiMinor(location.minor_function)
        if minor not in answers:
            return pass_down(device, irp)
        location.parameters.wmi.buffer.data = answers[minor]
        return complete(device, irp)

    return TinyDriver("by hand", {IrpMajor.SYSTEM_CONTROL: dispatch})


BLOCKS = [WmiRegGuid(INFO, "Info", ("one",))]


@pytest.mark.parametrize("answer", [None, b"WMIREGINFO", [INFO], {INFO: "Info"}], ids=repr)
def test_a_registration_that_is_none_is_its_drivers_fault(answer: object) -> None:
    kitchen = Kitchen(by_hand({WmiMinor.REGINFO_EX: answer}))
    with pytest.raises(DriverFault, match=r"answered IRP_MN_REGINFO_EX with .* return a list of WmiRegGuid") as caught:
        kitchen.io.wmi_blocks(kitchen.device)
    assert caught.value.driver == "by hand"
    assert kitchen.device.device_stack.fault is not None


@pytest.mark.parametrize("answer", [None, b"WNODE", {"one": 5}, [1]], ids=repr)
def test_data_that_are_none_are_its_drivers_fault(answer: object) -> None:
    asks: dict[WmiMinor, list[Callable[[Kitchen], object]]] = {
        WmiMinor.QUERY_SINGLE_INSTANCE: [lambda kitchen: kitchen.io.query_wmi(kitchen.device, INFO)],
        WmiMinor.QUERY_ALL_DATA: [
            lambda kitchen: kitchen.io.query_wmi_all(kitchen.device, INFO),
            lambda kitchen: kitchen.io.wmi_properties(kitchen.device),
        ],
    }
    for minor, calls in asks.items():
        for call in calls:
            if isinstance(answer, dict) and minor is WmiMinor.QUERY_SINGLE_INSTANCE:
                continue  # there it is a property
            kitchen = Kitchen(by_hand({WmiMinor.REGINFO_EX: BLOCKS, minor: answer}))
            with pytest.raises(DriverFault, match=r"WMI block Info .* return dicts of properties"):
                call(kitchen)


def test_a_driver_that_names_a_block_and_does_not_answer_for_it() -> None:
    kitchen = Kitchen(by_hand({WmiMinor.REGINFO_EX: BLOCKS}))
    words = refused(STATUS_NOT_SUPPORTED, lambda: kitchen.io.query_wmi(kitchen.device, INFO))
    assert "WMI block Info" in words and "nobody has answered" in words


def test_a_request_that_is_never_answered_has_a_bound_and_its_driver_is_named() -> None:
    kitchen = Kitchen(TinyDriver("asleep", {IrpMajor.SYSTEM_CONTROL: hold}))
    with pytest.raises(HilbridgeError, match=r"asleep.*did not complete IRP_MN_REGINFO_EX within 30 s"):
        kitchen.io.wmi_blocks(kitchen.device)
    assert kitchen.control(kitchen.device, WmiRegAction.DEREGISTER) == STATUS_SUCCESS


def test_the_kit_notes_what_passes_by() -> None:
    kitchen = Kitchen(TinyDriver("seen", {IrpMajor.SYSTEM_CONTROL: noting(pass_down)}), registered=False)
    kitchen.send(None, WmiMinor.QUERY_ALL_DATA)
    assert kitchen.device.extension.notes == [(WmiMinor.QUERY_ALL_DATA, INFO)]
    assert info(kitchen.device) == {"Driver": "seen", "Asked": 1}
