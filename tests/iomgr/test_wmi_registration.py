"""IoWMIRegistrationControl: who may be asked from when to when, and that nobody is asked in the middle of his end."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge
from hilbridge.iomgr.wmi import wmi_dispatch
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import IrpMajor, WmiMinor, WmiRegAction
from hilbridge.model.errors import DriverFault, NtStatusError
from hilbridge.model.irp import Irp
from hilbridge.model.status import (
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_EXISTS,
    STATUS_SUCCESS,
    STATUS_WMI_GUID_NOT_FOUND,
    NtStatus,
)
from hilbridge.model.wmi import WMIREGISTER, WMIUPDATE, WmiBlock, WmiProvider
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.iomgr.wmikit import INFO, SLOTS, Device, Kitchen, info, noting, provider, toaster
from tests.support import Thread, TinyDriver, complete, hold, pass_down

REGISTER, DEREGISTER = WmiRegAction.REGISTER, WmiRegAction.DEREGISTER
REREGISTER, UPDATE_GUIDS = WmiRegAction.REREGISTER, WmiRegAction.UPDATE_GUIDS
MODULES = ("hilbridge.iomgr.wmi", "hilbridge.iomgr.wmiquery", __name__)


def registrations(device: Device) -> list[int | str]:
    """The data paths of the REGINFO_EX that the device has seen."""
    return [data_path for minor, data_path in device.extension.notes if minor == WmiMinor.REGINFO_EX]


def changing(blocks: dict[str, WmiBlock]) -> TinyDriver:
    """A driver that publishes what `blocks` has at that moment."""

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        return wmi_dispatch(WmiProvider(blocks))(device, irp)

    return TinyDriver("changing", {IrpMajor.SYSTEM_CONTROL: noting(dispatch)})


# -- what is answered ----------------------------------------------------------------------------------------------------


def test_registered_and_deregistered() -> None:
    kitchen = Kitchen(registered=False)
    io, device = kitchen.io, kitchen.device
    assert not io.wmi_registered(device)
    assert kitchen.control(device, REGISTER) == STATUS_SUCCESS
    assert io.wmi_registered(device) and len(io.wmi_blocks(device)) == 2
    assert kitchen.control(device, DEREGISTER) == STATUS_SUCCESS
    assert not io.wmi_registered(device) and io.wmi_blocks(device) == []


def test_to_register_twice_is_no_error_and_makes_no_difference() -> None:
    kitchen = Kitchen()
    again = kitchen.control(kitchen.device, REGISTER)
    assert again == STATUS_OBJECT_NAME_EXISTS and again.is_success
    assert kitchen.control(kitchen.device, DEREGISTER) == STATUS_SUCCESS
    assert not kitchen.io.wmi_registered(kitchen.device)


@pytest.mark.parametrize("action", [DEREGISTER, REREGISTER, UPDATE_GUIDS], ids=lambda action: action.name)
def test_what_is_not_registered_cannot_be_changed(action: WmiRegAction) -> None:
    kitchen = Kitchen(registered=False)
    assert kitchen.control(kitchen.device, action) == STATUS_INVALID_DEVICE_STATE
    assert not kitchen.io.wmi_registered(kitchen.device)


@pytest.mark.parametrize("action", [0, 5, -1, None, "REGISTER"])
@pytest.mark.parametrize("registered", [False, True])
def test_there_are_no_other_actions(action: Any, registered: bool) -> None:
    kitchen = Kitchen(registered=registered)
    assert kitchen.control(kitchen.device, action) == STATUS_INVALID_PARAMETER
    assert kitchen.io.wmi_registered(kitchen.device) is registered


def test_registered_anew_it_is_asked_anew() -> None:
    blocks = {INFO: WmiBlock("Info", info)}
    kitchen = Kitchen(changing(blocks))
    assert kitchen.io.query_wmi(kitchen.device, "Info")
    blocks[SLOTS] = WmiBlock("Slot", info)
    with pytest.raises(NtStatusError, match="no WMI block Slot"):
        kitchen.io.query_wmi(kitchen.device, "Slot")
    assert kitchen.control(kitchen.device, REREGISTER) == STATUS_SUCCESS
    assert kitchen.io.query_wmi(kitchen.device, "Slot")
    assert registrations(kitchen.device) == [WMIREGISTER, WMIREGISTER]


def test_updated_it_is_asked_for_an_update_each_time() -> None:
    blocks = {INFO: WmiBlock("Info", info)}
    kitchen = Kitchen(changing(blocks))
    for name in ("One", "Two"):
        assert kitchen.io.wmi_blocks(kitchen.device)
        blocks[SLOTS] = WmiBlock(name, info)
        assert kitchen.control(kitchen.device, UPDATE_GUIDS) == STATUS_SUCCESS
        assert [block.name for block in kitchen.io.wmi_blocks(kitchen.device)] == ["Info", name]
    assert registrations(kitchen.device) == [WMIREGISTER, WMIUPDATE, WMIUPDATE]


@pytest.mark.parametrize("before", [0, 1], ids=["the first registration", "an update"])
def test_an_update_that_comes_while_it_is_being_asked_is_not_lost(before: int) -> None:
    blocks = {INFO: WmiBlock("Info", info)}

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        status = wmi_dispatch(WmiProvider(blocks))(device, irp)
        if len(registrations(device)) == before + 1:
            blocks[SLOTS] = WmiBlock("Slot", info)
            assert device.io.wmi_registration_control(device, UPDATE_GUIDS) == STATUS_SUCCESS
        return status

    kitchen = Kitchen(TinyDriver("late", {IrpMajor.SYSTEM_CONTROL: noting(dispatch)}))
    if before:
        kitchen.io.wmi_blocks(kitchen.device)
        kitchen.control(kitchen.device, UPDATE_GUIDS)
    assert len(kitchen.io.wmi_blocks(kitchen.device)) == 1
    assert len(kitchen.io.wmi_blocks(kitchen.device)) == 2


# -- the end of a device -------------------------------------------------------------------------------------------------


def test_a_device_that_is_deleted_is_asked_no_more_and_cannot_be_registered() -> None:
    kitchen = Kitchen()
    io = kitchen.io
    control = io.create_device(io.drivers["toaster"], kitchen.device.extension, "\\Device\\Control")
    assert kitchen.control(control) == STATUS_SUCCESS
    assert io.query_wmi(control, INFO)
    io.reference_object(control)
    io.delete_device(control)
    assert io.wmi_blocks(control) == []
    io.dereference_object(control)
    assert control not in io._wmi, "nothing is kept of it"
    assert kitchen.control(control) == STATUS_DELETE_PENDING


def test_a_driver_that_is_unloaded_leaves_no_registration_behind() -> None:
    kitchen = Kitchen(registered=False)
    io = kitchen.io
    driver = io.load_driver("control", TinyDriver("control").driver_entry)
    driver.add_device = None
    left = io.create_device(driver, kitchen.device.extension, "\\Device\\Left")
    assert kitchen.control(left) == STATUS_SUCCESS
    with pytest.raises(DriverFault, match="left behind <DEVICE"):
        io.unload_driver("control")
    assert left not in io._wmi


def test_a_block_that_goes_between_the_list_and_the_question() -> None:
    kitchen = Kitchen()
    info_block = kitchen.io.wmi_blocks(kitchen.device)[0]
    kitchen.control(kitchen.device, DEREGISTER)
    with pytest.raises(NtStatusError, match=r"WMI block Info .* has just been deregistered") as caught:
        kitchen.io._wmi_all_instances(info_block)
    assert caught.value.status == STATUS_WMI_GUID_NOT_FOUND


# -- waiting for what is being asked -------------------------------------------------------------------------------------


def sleeping() -> TinyDriver:
    """A driver that answers when a test lets it: what it is asked is in ``extension.held``."""

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        if irp.current_stack_location.minor_function == WmiMinor.REGINFO_EX:
            return wmi_dispatch(provider())(device, irp)
        return hold(device, irp)

    return TinyDriver("sleeping", {IrpMajor.SYSTEM_CONTROL: dispatch})


def test_to_deregister_waits_for_the_answer() -> None:
    kitchen = Kitchen(sleeping())
    io, device = kitchen.io, kitchen.device
    told: list[str] = []

    def wake_up(_device: Any, _context: Any) -> None:
        irp = device.extension.held.pop()
        irp.current_stack_location.parameters.wmi.buffer.data = {"Asleep": False}
        told.append("answered")
        complete(device, irp)

    def ask() -> None:
        told.append(str(io.query_wmi(device, INFO)))

    def take_down(_device: Any, _context: Any) -> None:
        # The crank that waits for the answer turns this; it in turn waits, and turns what answers.
        io.queue_work_item(io.allocate_work_item(device), wake_up)
        assert kitchen.control(device, DEREGISTER) == STATUS_SUCCESS
        told.append("deregistered")

    io.queue_work_item(io.allocate_work_item(device), take_down)
    ask()
    assert told == ["answered", "deregistered", "{'Asleep': False}"]
    assert not io.wmi_registered(device)


def test_a_driver_that_deregisters_in_the_answer_would_wait_for_itself() -> None:
    def dispatch(device: Device, irp: Irp) -> NtStatus:
        device.io.wmi_registration_control(device, DEREGISTER)
        return pass_down(device, irp)

    kitchen = Kitchen(TinyDriver("knot", {IrpMajor.SYSTEM_CONTROL: dispatch}))
    with pytest.raises(DriverFault, match=r"driver knot deregisters .* would wait for itself for ever") as caught:
        kitchen.io.wmi_blocks(kitchen.device)
    assert caught.value.place is not None and "test_wmi_registration.py" in caught.value.place
    assert len(kitchen.ke.faults) == 1
    assert not kitchen.io.wmi_registered(kitchen.device)


def test_nor_may_a_filter_deregister_the_device_that_a_request_is_for_before_it_passes_it_on() -> None:
    kitchen = Kitchen(toaster("lower"), TinyDriver("above", named=False))
    lower, above = (driver.device for driver in kitchen.drivers)
    kitchen.io.wmi_blocks(lower)

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        device.io.wmi_registration_control(lower, DEREGISTER)
        return pass_down(device, irp)

    above.driver_object.major_function[IrpMajor.SYSTEM_CONTROL] = dispatch
    with pytest.raises(DriverFault, match="would wait for itself for ever"):
        kitchen.io.query_wmi(lower, INFO)
    assert kitchen.clock.now() == 0


def test_after_the_answer_it_may() -> None:
    def dispatch(device: Device, irp: Irp) -> NtStatus:
        status = wmi_dispatch(provider())(device, irp)
        assert device.io.wmi_registration_control(device, DEREGISTER) == STATUS_SUCCESS
        return status

    kitchen = Kitchen(TinyDriver("once", {IrpMajor.SYSTEM_CONTROL: dispatch}))
    assert len(kitchen.io.wmi_blocks(kitchen.device)) == 2
    assert kitchen.io.wmi_blocks(kitchen.device) == []
    assert kitchen.ke.faults == []


def test_in_the_answer_for_another_device_it_may() -> None:
    kitchen = Kitchen(toaster("lower"), toaster("upper", named=False))
    lower, upper = (driver.device for driver in kitchen.drivers)

    def dispatch(device: Device, irp: Irp) -> NtStatus:
        device.io.wmi_registration_control(device, DEREGISTER)
        return pass_down(device, irp)

    kitchen.io.wmi_blocks(lower)
    upper.driver_object.major_function[IrpMajor.SYSTEM_CONTROL] = dispatch
    assert kitchen.io.query_wmi(lower, INFO)["Driver"] == "lower"
    assert [kitchen.io.wmi_registered(device) for device in (lower, upper)] == [True, False]


def test_a_wait_for_an_answer_that_does_not_come_has_a_bound() -> None:
    kitchen = Kitchen(toaster())
    device = kitchen.device
    there = kitchen.io._wmi[device]
    there.asked.append(Kevent())  # a request inside a dispatch routine that does not return
    with pytest.raises(
        DriverFault, match=r"driver toaster deregisters .* while its dispatch routine .* does not return"
    ):
        kitchen.control(device, DEREGISTER)
    assert kitchen.clock.now() == 60_000_000_000


def test_of_a_stack_that_has_failed_nothing_is_waited_for() -> None:
    kitchen = Kitchen(toaster())
    device = kitchen.device
    kitchen.io._wmi[device].asked.append(Kevent())
    device.device_stack.fault = DriverFault("it burns")
    assert kitchen.control(device, DEREGISTER) == STATUS_SUCCESS
    assert kitchen.clock.now() == 0
    with pytest.raises(DriverFault, match="it burns"):
        kitchen.io.wmi_properties(device)


# -- races ---------------------------------------------------------------------------------------------------------------


def test_no_function_of_a_driver_is_called_for_a_device_that_has_been_deregistered() -> None:
    outcomes: set[str] = set()

    def build() -> Race:
        down: list[bool] = []
        result: list[str] = []

        def query(_device: Any) -> dict[str, object]:
            assert not down, "called for a device that is gone"
            return {"Up": True}

        kitchen = Kitchen(toaster(query=query))
        io, device = kitchen.io, kitchen.device
        io.wmi_blocks(device)

        def ask() -> None:
            try:
                result.append(str(io.query_wmi(device, INFO)["Up"]))
            except NtStatusError as error:
                result.append("gone" if "just been" in error.words else error.words[-11:])

        def take_down() -> None:
            assert kitchen.control(device, DEREGISTER) == STATUS_SUCCESS
            down.append(True)

        def check() -> None:
            assert kitchen.ke.faults == []
            assert not io.wmi_registered(device)
            outcomes.update(result)
            assert len(result) == 1

        return Race({"asks": ask, "takes-down": take_down}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=MODULES)
    assert outcomes == {"True", "gone", "none at all"}


def test_of_two_who_deregister_one_has_done_it() -> None:
    def build() -> Race:
        kitchen = Kitchen()
        statuses: list[NtStatus] = []

        def take_down() -> None:
            statuses.append(kitchen.control(kitchen.device, DEREGISTER))

        def check() -> None:
            assert sorted(map(int, statuses)) == sorted(map(int, (STATUS_SUCCESS, STATUS_INVALID_DEVICE_STATE)))

        return Race({"one": take_down, "two": take_down}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=MODULES)


def test_a_dispatch_routine_that_raises_keeps_nobody_waiting() -> None:
    outcomes: set[str] = set()

    def build() -> Race:
        def dispatch(device: Device, irp: Irp) -> NtStatus:
            if irp.current_stack_location.minor_function == WmiMinor.REGINFO_EX:
                return wmi_dispatch(provider())(device, irp)
            raise ZeroDivisionError

        kitchen = Kitchen(TinyDriver("burns", {IrpMajor.SYSTEM_CONTROL: dispatch}))
        kitchen.io.wmi_blocks(kitchen.device)

        def ask() -> None:
            try:
                kitchen.io.query_wmi(kitchen.device, INFO)
            except (NtStatusError, DriverFault) as error:
                outcomes.add(type(error).__name__)

        def take_down() -> None:
            assert kitchen.control(kitchen.device, DEREGISTER) == STATUS_SUCCESS

        def check() -> None:
            assert kitchen.clock.now() == 0, "it was not waited in vain"

        return Race({"asks": ask, "takes-down": take_down}, check)

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=MODULES)
    assert outcomes == {"NtStatusError", "DriverFault"}


def test_two_who_want_to_know_at_once_both_hear_it() -> None:
    def build() -> Race:
        kitchen = Kitchen()
        heard: list[int] = []

        def ask() -> None:
            heard.append(len(kitchen.io.wmi_blocks(kitchen.device)))

        def check() -> None:
            assert heard == [2, 2]
            assert registrations(kitchen.device) in ([WMIREGISTER], [WMIREGISTER] * 2)

        return Race({"one": ask, "two": ask}, check)

    explore(build, granularity=Granularity.LINES, preemptions=1, modules=MODULES)


def test_on_threads_of_its_own_to_deregister_waits_for_the_dispatch_routine() -> None:
    """The same without a crank: the dispatch routine itself is what is waited for."""
    inside, go_on = Kevent(), Kevent()

    def query(device: Device) -> dict[str, object]:
        inside.set()
        assert device.ke.wait_for_single_object(go_on, None)
        return {"Up": True}

    with Bridge() as bridge:
        driver = toaster(query=query)
        bridge.plug("virtual:null", driver=driver, name="DUT")
        device, io = driver.device, bridge.io
        io.wmi_registration_control(device, REGISTER)
        io.wmi_blocks(device)
        asks = Thread(lambda: io.query_wmi(device, INFO))
        assert bridge.ke.wait_for_single_object(inside, 10)
        takes_down = Thread(lambda: io.wmi_registration_control(device, DEREGISTER))
        go_on.set()
        assert takes_down.finish() == STATUS_SUCCESS
        assert asks.finish() == {"Up": True}
