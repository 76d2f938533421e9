"""Devices that are asked to stop, to go, to come back; and what becomes of those that hang on them."""

from __future__ import annotations

import os

import pytest

from hilbridge import Bridge, DeviceBusy, DeviceGone, DriverFault, UsageFault
from hilbridge.model.codes import DO_DEVICE_INITIALIZING, PNP_DEVICE_NOT_DISABLEABLE, PnpMinor
from hilbridge.model.errors import DeviceFault
from hilbridge.model.status import (
    STATUS_DEVICE_BUSY,
    STATUS_DEVICE_CONFIGURATION_ERROR,
    STATUS_UNSUCCESSFUL,
)
from hilbridge.virtual.line import VirtualLine
from tests.hal.halkit import Pty
from tests.pnp.pnpkit import Tree, Watched
from tests.support import plug, uart

STOP = ["gadget QUERY_STOP", "gadget STOP"]

# -- stop ----------------------------------------------------------------------------------------------------------------


def test_a_device_is_stopped_and_goes_on(tree: Tree) -> None:
    tree.put("1")
    tree.log.clear()
    tree.bridge.stop("gadget1")
    assert tree.log == STOP
    assert tree.states()["gadget1"] == "stopped"
    tree.bridge.start("gadget1")
    assert tree.log == [*STOP, "gadget START"]
    assert tree.states()["gadget1"] == "started"


def test_what_hangs_on_a_bus_is_stopped_before_it_and_started_after_it(tree: Tree) -> None:
    tree.put("1")
    tree.put("2")
    tree.log.clear()
    tree.bridge.stop("bus")
    queries = ["gadget QUERY_STOP", "gadget QUERY_STOP", "toybus QUERY_STOP"]
    assert tree.log == [*queries, "gadget STOP", "gadget STOP", "toybus STOP"]
    tree.log.clear()
    tree.bridge.start("bus")
    assert tree.log == ["toybus START", "gadget START", "gadget START"]
    assert set(tree.states().values()) == {"started"}


def test_if_one_refuses_all_that_were_asked_hear_that_nothing_comes_of_it(tree: Tree) -> None:
    tree.put("1")
    tree.bus.refuses[PnpMinor.QUERY_STOP_DEVICE] = STATUS_DEVICE_BUSY
    tree.log.clear()
    with pytest.raises(DeviceBusy, match="bus cannot be stopped: driver toybus answered STATUS_DEVICE_BUSY"):
        tree.bridge.stop("bus")
    assert tree.log == ["gadget QUERY_STOP", "toybus QUERY_STOP", "toybus CANCEL_STOP", "gadget CANCEL_STOP"]
    assert set(tree.states().values()) == {"started"}


def test_what_a_driver_says_to_its_refusal_is_passed_on(tree: Tree) -> None:
    tree.put("1")
    tree.gadget.refuses[PnpMinor.QUERY_STOP_DEVICE] = STATUS_DEVICE_BUSY
    tree.gadget.words = DeviceFault("a flash is being written", status=STATUS_DEVICE_BUSY)
    with pytest.raises(DeviceBusy, match="driver gadget: a flash is being written"):
        tree.bridge.stop("gadget1")


def test_only_what_is_started_can_be_stopped(tree: Tree) -> None:
    tree.put("1")
    tree.bridge.stop("gadget1")
    with pytest.raises(UsageFault, match="gadget1 is stopped"):
        tree.bridge.stop("gadget1")
    tree.bridge.start("gadget1")
    with pytest.raises(UsageFault, match="gadget1 is started"):
        tree.bridge.start("gadget1")


def test_a_driver_that_fails_what_may_not_fail_is_at_fault(unverified_tree: Tree) -> None:
    tree = unverified_tree
    tree.put("1")
    tree.gadget.refuses[PnpMinor.STOP_DEVICE] = STATUS_UNSUCCESSFUL
    tree.bridge.stop("gadget1")
    tree.gadget.refuses.clear()
    (fault,) = tree.bridge.acknowledge_faults()
    assert isinstance(fault, DriverFault)
    assert "IRP_MN_STOP_DEVICE may not fail, and did on gadget1: driver gadget answered STATUS_UNSUCCESSFUL" in str(
        fault
    )
    tree.bridge.machine.run_until_idle()
    assert tree.states() == {"bus": "started", "gadget1": "started"}, "it was started again, as after any other fault"


def test_while_it_is_stopped_its_port_is_free_for_another_program(pty: Pty) -> None:
    with Bridge() as bridge:
        driver = uart()
        plug_pty = bridge.plug(pty.path, driver=driver)
        first = bridge.stack(plug_pty)[0].extension.line
        with Bridge() as other, pytest.raises(DeviceBusy):
            other.plug(pty.path)
        bridge.stop(plug_pty)
        with Bridge() as other:
            other.plug(pty.path)
        bridge.start(plug_pty)
        assert bridge.stack(plug_pty)[0].extension.line is not first
        with bridge.open(plug_pty) as port:
            os.write(pty.board, b"after")
            assert port.read(5)


def test_a_line_of_the_callers_own_is_kept_through_a_stop() -> None:
    with Bridge.manual() as bridge:
        line, driver = VirtualLine(), uart()
        plug(bridge, driver, line=line)
        vector = bridge.pnp.node("DUT").pin.vector.number  # type: ignore[union-attr]
        bridge.stop("DUT")
        line.feed(b"meanwhile")
        bridge.start("DUT")
        assert bridge.pnp.node("DUT").pin.vector.number == vector  # type: ignore[union-attr]
        with bridge.open("DUT") as port:
            assert port.read(9) == b"meanwhile"


def test_a_port_that_is_taken_meanwhile_leaves_the_device_stopped_and_can_be_tried_again(pty: Pty) -> None:
    with Bridge() as bridge:
        name = bridge.plug(pty.path, driver=uart())
        bridge.stop(name)
        with Bridge() as other:
            other.plug(pty.path)
            with pytest.raises(DeviceBusy):
                bridge.start(name)
            assert bridge.devices()[0]["state"] == "stopped"
        bridge.start(name)
        assert bridge.devices()[0]["state"] == "started"


def test_a_device_that_does_not_start_again_goes() -> None:
    with Bridge.manual() as bridge:
        driver = Watched("moody")
        plug(bridge, driver)
        bridge.stop("DUT")
        driver.refuses[PnpMinor.START_DEVICE] = STATUS_DEVICE_CONFIGURATION_ERROR
        with pytest.raises(DeviceFault, match="STATUS_DEVICE_CONFIGURATION_ERROR"):
            bridge.start("DUT")
        assert driver.log[-2:] == ["moody START", "moody REMOVE"]
        assert bridge.devices() == []


def test_one_that_does_not_start_again_waits_for_the_handles_that_are_open() -> None:
    with Bridge.manual() as bridge:
        driver = Watched("moody")
        plug(bridge, driver)
        handle = bridge.open("DUT")
        bridge.stop("DUT")
        driver.refuses[PnpMinor.START_DEVICE] = STATUS_DEVICE_CONFIGURATION_ERROR
        with pytest.raises(DeviceFault):
            bridge.start("DUT")
        assert driver.log[-2:] == ["moody START", "moody SURPRISE_REMOVAL"]
        with pytest.raises(DeviceGone, match="did not start again"):
            bridge.open("DUT")
        handle.close()
        assert driver.log[-1] == "moody REMOVE"
        assert bridge.devices() == []


@pytest.mark.parametrize("end", ["unplug", "remove", "close"])
def test_a_stopped_device_can_end_in_every_way(end: str) -> None:
    with Bridge.manual() as bridge:
        driver = Watched("dut")
        plug(bridge, driver)
        bridge.stop("DUT")
        getattr(bridge, end)(*(() if end == "close" else ("DUT",)))
    assert driver.log[-1] == "dut REMOVE"
    assert driver.device.delete_pending


# -- remove --------------------------------------------------------------------------------------------------------------


def test_what_was_plugged_in_is_gone_after_its_removal() -> None:
    with Bridge.manual() as bridge:
        driver = Watched("dut")
        plug(bridge, driver)
        bridge.remove("DUT")
        assert driver.log == ["dut START", "dut QUERY_REMOVE", "dut REMOVE"]
        assert bridge.devices() == []
        plug(bridge, driver)


def test_what_a_bus_reports_stays_without_drivers_and_can_be_brought_back(tree: Tree) -> None:
    pdo = tree.put("1")
    tree.bridge.remove("gadget1")
    assert tree.states()["gadget1"] == "removed"
    assert tree.bridge.stack("gadget1") == [pdo]
    assert not pdo.delete_pending
    tree.settle()
    assert tree.states()["gadget1"] == "removed", "its bus reports it still, and nobody has asked for its drivers"
    tree.bridge.start("gadget1")
    assert tree.states()["gadget1"] == "started"
    with tree.bridge.open("gadget1"):
        pass


def test_one_whose_drivers_have_left_can_be_pulled(tree: Tree) -> None:
    pdo = tree.put("1")
    tree.bridge.remove("gadget1")
    tree.pull("1")
    assert tree.states() == {"bus": "started"}
    assert pdo.delete_pending
    assert pdo.extension.asked[-2:] == ["SURPRISE_REMOVAL", "REMOVE_DEVICE"]


def test_an_open_device_is_not_removed(tree: Tree) -> None:
    tree.put("1")
    with tree.bridge.open("gadget1"), tree.bridge.open("gadget1"):
        tree.log.clear()
        with pytest.raises(DeviceBusy, match=r"gadget1 cannot be removed: it is open \(2 handles\)"):
            tree.bridge.remove("gadget1")
        assert tree.log == [], "its drivers are not even asked"


def test_a_bus_is_not_removed_under_an_open_device(tree: Tree) -> None:
    tree.put("1")
    tree.put("2")
    with tree.bridge.open("gadget2"):
        tree.log.clear()
        with pytest.raises(DeviceBusy, match="gadget2"):
            tree.bridge.remove("bus")
        assert tree.log == ["gadget QUERY_REMOVE", "gadget CANCEL_REMOVE"]
    assert set(tree.states().values()) == {"started"}


def test_a_removal_can_be_refused_by_a_driver(tree: Tree) -> None:
    tree.put("1")
    tree.gadget.refuses[PnpMinor.QUERY_REMOVE_DEVICE] = STATUS_DEVICE_BUSY
    with pytest.raises(DeviceBusy, match="driver gadget answered STATUS_DEVICE_BUSY"):
        tree.bridge.remove("bus")
    assert set(tree.states().values()) == {"started"}
    tree.gadget.refuses.clear()
    tree.bridge.remove("bus")
    assert tree.bridge.devices() == []


def test_a_device_that_the_system_needs_is_not_removed(tree: Tree) -> None:
    tree.gadget.state = PNP_DEVICE_NOT_DISABLEABLE
    tree.put("1")
    with pytest.raises(DeviceBusy, match="the system needs it"):
        tree.bridge.remove("gadget1")


def test_what_a_driver_calls_related_goes_along(tree: Tree) -> None:
    first, _second = tree.put("1"), tree.put("2")
    tree.gadget.removal_relations = [first]
    tree.bridge.remove("gadget2")
    assert tree.states() == {"bus": "started", "gadget1": "removed", "gadget2": "removed"}
    assert first.pointer_count == 0


def test_a_device_that_has_gone_cannot_be_removed(tree: Tree) -> None:
    tree.put("1")
    handle = tree.bridge.open("gadget1")
    tree.pull("1")
    with pytest.raises(UsageFault, match="surprise-removed"):
        tree.bridge.remove("gadget1")
    handle.close()


# -- eject ---------------------------------------------------------------------------------------------------------------


def test_an_ejected_device_is_removed_let_out_and_gone(tree: Tree) -> None:
    pdo = tree.put("1", eject_supported=True)
    tree.bridge.eject("gadget1")
    assert pdo.extension.ejected
    assert tree.states() == {"bus": "started"}
    assert pdo.delete_pending


def test_a_device_that_cannot_be_ejected_stays(tree: Tree) -> None:
    tree.put("1")
    with pytest.raises(UsageFault, match="cannot be ejected"):
        tree.bridge.eject("gadget1")
    assert tree.states()["gadget1"] == "started"


def test_somebody_presses_the_button(tree: Tree) -> None:
    pdo = tree.put("1", eject_supported=True)
    with tree.bridge.open("gadget1"):
        pdo.io.request_device_eject(pdo)
        tree.bridge.machine.run_until_idle()
        assert tree.states()["gadget1"] == "started", "it is open"
    pdo.io.request_device_eject(pdo)
    tree.bridge.machine.run_until_idle()
    assert tree.states() == {"bus": "started"}


# -- failure -------------------------------------------------------------------------------------------------------------


def test_a_bus_whose_driver_fails_loses_its_devices_and_finds_them_again(tree: Tree) -> None:
    tree.put("1")
    handle = tree.bridge.open("gadget1")
    tree.log.clear()
    tree.bridge.ke.latch_fault(tree.bus.device, RuntimeError("the bus is on fire"), "its service routine")
    tree.bridge.machine.run_until_idle()
    assert tree.log[0] == "gadget SURPRISE_REMOVAL"
    with pytest.raises(DeviceGone, match="the driver of bus has failed"):
        tree.bridge.open("gadget1")
    assert tree.states() == {"bus": "started", "gadget1": "surprise-removed", "gadget2": "started"}
    assert tree.log == ["gadget SURPRISE_REMOVAL", "toybus START", "gadget START"]
    handle.close()
    assert tree.log[-1] == "gadget REMOVE"
    assert tree.states() == {"bus": "started", "gadget2": "started"}
    assert tree.bridge.acknowledge_faults()


def test_a_driver_that_fails_on_a_bus_is_started_again_on_the_same_pdo(tree: Tree) -> None:
    pdo = tree.put("1")
    handle = tree.bridge.open("gadget1")
    old = tree.gadget.device
    tree.bridge.ke.latch_fault(old, RuntimeError("on fire"), "its service routine")
    tree.bridge.machine.run_until_idle()
    assert tree.states() == {"bus": "started", "gadget1": "started"}
    assert tree.gadget.device is not old
    assert tree.bridge.stack("gadget1") == [tree.gadget.device, pdo]
    with pytest.raises(DriverFault):
        handle.read(1)
    with tree.bridge.open("gadget1") as again:
        assert again.file.device_object is tree.gadget.device
    handle.close()
    assert tree.bridge.acknowledge_faults()
    assert old.delete_pending
    assert not pdo.flags & DO_DEVICE_INITIALIZING


def test_a_failing_pdo_is_its_own_stacks_affair(tree: Tree) -> None:
    tree.put("1")
    tree.bus.breaks = RuntimeError("no answer")
    with pytest.raises(DriverFault, match="no answer"):
        tree.bridge.stop("gadget1")
    tree.bus.breaks = None
    tree.bridge.machine.run_until_idle()
    assert tree.states() == {"bus": "started", "gadget1": "started"}
    assert tree.bridge.acknowledge_faults()
