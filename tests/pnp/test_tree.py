"""Devices that a bus finds: they arrive, are told apart, get their drivers, and go."""

from __future__ import annotations

import pytest

from hilbridge import Bridge, DeviceGone, DriverFault, UsageFault
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    PNP_DEVICE_FAILED,
    DevicePowerState,
    DeviceProperty,
    IrpMajor,
    PnpMinor,
    RelationType,
    RemovalPolicy,
)
from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_CONFIGURATION_ERROR,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_NO_SUCH_DEVICE,
    STATUS_OBJECT_NAME_NOT_FOUND,
)
from tests.pnp.pnpkit import GADGET_ID, Bus, Tree, Watched
from tests.support import PATIENCE, TinyDriver, bug_check, pend, plug, raises

# -- arrival -----------------------------------------------------------------------------------------------------------


def test_what_the_bus_reports_gets_its_stack_and_is_started(tree: Tree) -> None:
    pdo = tree.put("7")
    assert tree.states() == {"bus": "started", "gadget1": "started"}
    assert tree.bridge.stack("gadget1") == [tree.gadget.device, pdo]
    seen = tree.look("gadget1")
    assert (seen["parent"], seen["moniker"], seen["hardware_ids"]) == ("bus", "TOY\\Gadget\\7", [GADGET_ID])
    assert tree.log == ["toybus START", "gadget START"]


def test_what_is_in_the_bus_when_it_is_plugged_in_is_found_at_once() -> None:
    class Full(Bus):
        def add_device(self, driver: object, physical: object) -> object:  # type: ignore[override]
            status = super().add_device(driver, physical)  # type: ignore[arg-type]
            self.fill("1")
            return status

    with Bridge.manual() as bridge:
        bridge.install(Watched("gadget"), GADGET_ID)
        plug(bridge, Full(), name="bus")
        assert [device["name"] for device in bridge.devices()] == ["bus", "gadget1"]


def test_a_report_changes_nothing_for_what_was_reported_before(tree: Tree) -> None:
    tree.put("1")
    tree.put("2")
    tree.settle()
    assert tree.log == ["toybus START", "gadget START", "gadget START"]
    assert tree.bridge.pnp.node("gadget2").instance_path == "TOY\\Gadget\\2"


def test_the_first_id_that_somebody_has_installed_a_driver_for_decides(tree: Tree) -> None:
    exact, common = Watched("exact"), Watched("common")
    tree.bridge.install(common, "TOY\\Any")
    tree.bridge.install(exact, "toy\\exact")
    tree.put("1", "TOY\\Exact", "TOY\\Any")
    tree.put("2", "TOY\\Other", "TOY\\Any")
    assert set(tree.states()) == {"bus", "exact1", "common1"}


def test_filters_and_a_name_can_be_installed_with_the_driver(tree: Tree) -> None:
    above, below = Watched("above", named=False), Watched("below", named=False)
    tree.bridge.install(tree.gadget, GADGET_ID, name="dut", upper_filters=[above], lower_filters=[below])
    tree.put("1")
    drivers = [device.driver_object.name for device in tree.bridge.stack("dut1")]
    assert drivers == ["above", "gadget", "below", "toybus"]


def test_a_driver_for_no_id_cannot_be_installed(tree: Tree) -> None:
    with pytest.raises(UsageFault, match="at least one hardware id"):
        tree.bridge.install(tree.gadget)


def test_a_device_without_a_driver_is_seen_and_says_what_it_lacks(tree: Tree) -> None:
    tree.put("1", "TOY\\Unheard")
    seen = tree.look("device1")
    assert seen["state"] == "added"
    assert "no driver is installed for TOY\\Unheard" in seen["problem"]


def test_a_device_that_can_do_without_a_driver_is_started_raw(tree: Tree) -> None:
    pdo = tree.put("1", "TOY\\Unheard", raw_device_ok=True)
    assert tree.states()["device1"] == "started"
    assert "START_DEVICE" in pdo.extension.asked


def test_a_driver_that_does_not_start_is_no_affair_of_its_bus(tree: Tree) -> None:
    tree.gadget.refuses[PnpMinor.START_DEVICE] = STATUS_DEVICE_CONFIGURATION_ERROR
    tree.put("1")
    tree.gadget.refuses.clear()
    tree.put("2")
    assert tree.states() == {"bus": "started", "gadget1": "removed", "gadget2": "started"}
    assert "STATUS_DEVICE_CONFIGURATION_ERROR" in tree.look("gadget1")["problem"]
    assert tree.log[-3:] == ["gadget START", "gadget REMOVE", "gadget START"]
    tree.bridge.start("gadget1")
    assert tree.states()["gadget1"] == "started"
    assert tree.look("gadget1")["problem"] == ""


def test_an_add_device_that_raises_is_told_and_leaves_nothing_behind(tree: Tree) -> None:
    broken = TinyDriver("broken")
    broken.add_device = raises(RuntimeError("no"))  # type: ignore[method-assign]
    tree.bridge.install(broken, "TOY\\Broken")
    pdo = tree.put("1", "TOY\\Broken")
    assert "raised RuntimeError in add_device" in tree.look("broken1")["problem"]
    assert pdo.attached_device is None
    with pytest.raises(DriverFault, match="raised RuntimeError"):
        tree.bridge.start("broken1")


def test_it_is_asked_what_it_is_and_what_it_can(tree: Tree) -> None:
    pdo = tree.put("7", removable=True, ui_number=3, device_wake=DevicePowerState.D1)
    node = tree.bridge.pnp.node("gadget1")
    assert (node.description, node.location) == ("a gadget", "slot 7")
    assert node.capabilities.ui_number == 3
    assert node.capabilities.device_wake is DevicePowerState.D1
    io = tree.bridge.io
    assert io.get_device_property(pdo, DeviceProperty.DEVICE_DESCRIPTION) == "a gadget"
    assert io.get_device_property(pdo, DeviceProperty.HARDWARE_ID) == [GADGET_ID]
    assert io.get_device_property(pdo, DeviceProperty.ENUMERATOR_NAME) == "TOY"
    assert io.get_device_property(pdo, DeviceProperty.UI_NUMBER) == 3
    assert io.get_device_property(pdo, DeviceProperty.REMOVAL_POLICY) is RemovalPolicy.EXPECT_ORDERLY_REMOVAL
    with pytest.raises(NtStatusError) as none:
        io.get_device_property(pdo, DeviceProperty.COMPATIBLE_IDS)
    assert none.value.status == STATUS_OBJECT_NAME_NOT_FOUND
    with pytest.raises(NtStatusError, match="give its PDO") as wrong:
        io.get_device_property(tree.gadget.device, DeviceProperty.ADDRESS)
    assert wrong.value.status == STATUS_INVALID_DEVICE_REQUEST


def test_what_was_plugged_in_by_hand_is_asked_as_well(tree: Tree) -> None:
    node = tree.bridge.pnp.node("bus")
    assert node.instance_path == "ROOT\\toybus\\bus"
    assert node.location == "virtual:null"
    policy = tree.bridge.io.get_device_property(node.pdo, DeviceProperty.REMOVAL_POLICY)
    assert policy is RemovalPolicy.EXPECT_SURPRISE_REMOVAL


def test_the_pdo_below_an_open_file_is_found() -> None:
    driver = TinyDriver("plain")
    with Bridge.manual() as bridge:
        plug(bridge, driver)
        with bridge.open("DUT") as dut:
            pdo = bridge.io.get_related_target_device(dut.file)
            assert pdo is bridge.stack("DUT")[-1]
            assert pdo.pointer_count == 1
            bridge.io.dereference_object(pdo)


def test_a_driver_that_hides_its_pdo_has_none(tree: Tree) -> None:
    tree.put("1")
    with tree.bridge.open("gadget1") as gadget, pytest.raises(NtStatusError) as none:
        tree.bridge.io.get_related_target_device(gadget.file)
    assert none.value.status == STATUS_NO_SUCH_DEVICE


# -- reports that cannot be ------------------------------------------------------------------------------------------------


def test_a_bus_that_reports_a_device_twice_is_stopped(tree: Tree) -> None:
    pdo = tree.bus.fill("1")
    tree.bus.report = [pdo, pdo]
    with bug_check(0xCA, 1):
        tree.bridge.pnp.relations_changed(tree.bus.device.bottom, RelationType.BUS)
    assert tree.bridge.acknowledge_faults()
    assert pdo.pointer_count == 0
    tree.bus.report = None
    tree.bridge.machine.run_until_idle()
    assert tree.states() == {"bus": "started", "gadget1": "started"}, "it was started again, and tells the truth now"


def test_a_bus_that_reports_no_pdo_is_stopped(unverified_tree: Tree) -> None:
    tree = unverified_tree
    tree.bus.report = [tree.bus.device]
    with bug_check(0xCA, 2) as caught:
        tree.bridge.pnp.relations_changed(tree.bus.device.bottom, RelationType.BUS)
    assert "DO_BUS_ENUMERATED_DEVICE" in str(caught.value)
    assert caught.value.driver == "toybus"
    assert tree.bridge.acknowledge_faults()
    tree.bus.report = None
    tree.bridge.machine.run_until_idle()


# -- departure -----------------------------------------------------------------------------------------------------------


def test_what_is_missing_has_gone_and_its_pdo_with_it(tree: Tree) -> None:
    pdo = tree.put("1")
    tree.log.clear()
    tree.pull("1")
    assert tree.log == ["gadget SURPRISE_REMOVAL", "gadget REMOVE"]
    assert tree.states() == {"bus": "started"}
    assert pdo.delete_pending
    assert tree.gadget.device.delete_pending
    assert tree.bus.device.driver_object.devices == [tree.bus.device]


def test_with_a_handle_open_the_removal_waits_for_it() -> None:
    with Bridge.manual() as bridge:
        tree = Tree(bridge, dispatch={IrpMajor.READ: pend})
        tree.put("1")
        tree.log.clear()
        handle = bridge.open("gadget1")
        waiting = handle.submit_read(4)
        tree.pull("1")
        assert tree.log == ["gadget SURPRISE_REMOVAL"]
        assert tree.states()["gadget1"] == "surprise-removed"
        assert waiting.status == STATUS_CANCELLED, "by the system: this driver does not do so itself"
        with pytest.raises(DeviceGone, match="bus does not report it"):
            bridge.open("gadget1")
        tree.put("2")
        assert tree.states()["gadget2"] == "started"
        handle.close()
        assert tree.log[-1] == "gadget REMOVE"
        assert "gadget1" not in tree.states()


def test_a_bus_that_is_pulled_takes_what_hangs_on_it_along(tree: Tree) -> None:
    first, second = tree.put("1"), tree.put("2")
    tree.log.clear()
    tree.bridge.unplug("bus")
    assert tree.log == [
        *["gadget SURPRISE_REMOVAL"] * 2,
        "toybus SURPRISE_REMOVAL",
        *["gadget REMOVE"] * 2,
        "toybus REMOVE",
    ]
    assert tree.bridge.devices() == []
    assert first.delete_pending
    assert second.delete_pending


def test_a_bus_waits_for_the_handles_of_what_hangs_on_it(tree: Tree) -> None:
    tree.put("1")
    handle = tree.bridge.open("gadget1")
    tree.log.clear()
    tree.bridge.unplug("bus")
    assert tree.log == ["gadget SURPRISE_REMOVAL", "toybus SURPRISE_REMOVAL"]
    handle.close()
    assert tree.log[2:] == ["gadget REMOVE", "toybus REMOVE"]
    assert tree.bridge.devices() == []


def test_only_the_bus_says_what_is_plugged_into_it(tree: Tree) -> None:
    tree.put("1")
    with pytest.raises(UsageFault, match=r"plugged into bus.*remove\('gadget1'\)"):
        tree.bridge.unplug("gadget1")


def test_a_driver_that_says_that_its_device_has_failed_is_believed(tree: Tree) -> None:
    tree.put("1")
    tree.gadget.state = PNP_DEVICE_FAILED
    tree.gadget.device.io.invalidate_device_state(tree.gadget.device.bottom)
    tree.bridge.machine.run_until_idle()
    assert tree.log[-2:] == ["gadget SURPRISE_REMOVAL", "gadget REMOVE"]
    assert tree.states()["gadget1"] == "removed"


def test_a_device_that_fails_in_its_start_goes_again() -> None:
    with Bridge.manual() as bridge:
        driver = Watched("stillborn")
        driver.state = PNP_DEVICE_FAILED
        plug(bridge, driver)
        assert driver.log == ["stillborn START", "stillborn SURPRISE_REMOVAL", "stillborn REMOVE"]
        assert bridge.devices() == []


def test_closing_the_bridge_takes_the_tree_down_from_its_leaves() -> None:
    with Bridge.manual() as bridge:
        tree = Tree(bridge)
        tree.put("1")
        bridge.open("gadget1")
        tree.log.clear()
    assert tree.log == ["gadget REMOVE", "toybus REMOVE"]


def test_on_a_running_machine_the_bus_is_asked_on_another_thread() -> None:
    with Bridge() as bridge:
        tree = Tree(bridge)
        tree.bus.fill("1")
        tree.bus.say()
        arrived, told = Kevent(), list[bool]()
        bridge.ke.queue_work_item(lambda: told.append(arrived.set()))  # behind the manager's, in the same queue
        assert bridge.ke.wait_for_single_object(arrived, PATIENCE)
        assert tree.states() == {"bus": "started", "gadget1": "started"}
        with bridge.open("gadget1"):
            pass
