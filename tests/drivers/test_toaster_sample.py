"""The toaster: a bus, what is plugged into it, and applications that have it open when it goes."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from hilbridge import Bridge, DeviceBusy, DeviceGone, HilbridgeError, Request, UsageFault
from hilbridge.drivers.samples.toaster import bus as bus_driver
from hilbridge.drivers.samples.toaster import public
from hilbridge.drivers.samples.toaster.public import GUID_BUSENUM_TOASTER, GUID_TOASTER, plugin, serial_of
from hilbridge.model.codes import DevicePowerState, SystemPowerState
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_SUCCESS
from hilbridge.testing.interleave import Race, explore
from tests.support import PATIENCE


class Kitchen:
    """A bridge with a toaster bus, opened by its interface."""

    def __init__(self, bridge: Bridge, **installed: Any) -> None:
        self.bridge = bridge
        if installed:
            bridge.install("toaster", public.HARDWARE_ID, **installed)
        bridge.plug("virtual:toasterbus", name="bus")
        (self.link,) = bridge.interfaces(GUID_BUSENUM_TOASTER)
        self.bus = bridge.open(self.link)

    def plug(self, serial: int = 1, *ids: str) -> None:
        self.bus.ioctl(public.IOCTL_PLUGIN_HARDWARE, plugin(serial, *ids))
        self.settle()

    def unplug(self, serial: int = 1) -> None:
        self.bus.ioctl(public.IOCTL_UNPLUG_HARDWARE, serial_of(serial))
        self.settle()

    def settle(self) -> None:
        self.bridge.machine.run_until_idle()

    def toasters(self) -> list[str]:
        return self.bridge.interfaces(GUID_TOASTER)

    def states(self) -> dict[str, str]:
        return {device["name"]: device["state"] for device in self.bridge.devices()}


@pytest.fixture
def kitchen() -> Iterator[Kitchen]:
    with Bridge.manual() as bridge:
        yield Kitchen(bridge)


def test_the_codes_are_those_of_the_sample() -> None:
    assert public.IOCTL_PLUGIN_HARDWARE == 0x002A4000
    assert public.IOCTL_UNPLUG_HARDWARE == 0x002A4004
    assert public.IOCTL_EJECT_HARDWARE == 0x002A4008


def test_what_is_plugged_in_is_found_by_its_interface_and_toasts(kitchen: Kitchen) -> None:
    assert kitchen.toasters() == []
    kitchen.plug()
    (link,) = kitchen.toasters()
    with kitchen.bridge.open(link) as toaster_:
        request = toaster_.submit_ioctl(public.IOCTL_TOAST)
        assert not request.done
        toaster_.ioctl(public.IOCTL_POP)
        assert request.status == STATUS_SUCCESS


def test_each_toaster_is_told_apart(kitchen: Kitchen) -> None:
    for serial in (3, 1, 2):
        kitchen.plug(serial)
    assert len(set(kitchen.toasters())) == 3
    node = kitchen.bridge.pnp.node("toaster1")
    assert node.instance_path == f"{public.HARDWARE_ID}\\3"
    assert node.description == "Toaster 3"
    assert node.capabilities.ui_number == 3
    assert node.capabilities.device_state[SystemPowerState.SLEEPING2] is DevicePowerState.D2


def test_a_toaster_goes_with_handles_open(kitchen: Kitchen) -> None:
    """Acceptance of the sample: the pending request fails, the news comes, and REMOVE only after the close."""
    news: list[tuple[str, bool]] = []
    watching = kitchen.bridge.watch(GUID_TOASTER, lambda link, arrived: news.append((link, arrived)))
    kitchen.plug()
    (link,) = kitchen.toasters()
    handle = kitchen.bridge.open(link)
    pending = handle.submit_ioctl(public.IOCTL_TOAST)
    kitchen.unplug()
    assert pending.status == STATUS_DELETE_PENDING
    assert kitchen.toasters() == []
    assert kitchen.states()["toaster1"] == "surprise-removed"
    with pytest.raises(DeviceGone):
        handle.ioctl(public.IOCTL_POP)
    with pytest.raises(HilbridgeError):
        kitchen.bridge.open(link)
    handle.close()
    kitchen.settle()
    assert "toaster1" not in kitchen.states()
    assert news == [(link, True), (link, False)]
    watching.close()


def test_the_same_serial_can_be_plugged_in_again(kitchen: Kitchen) -> None:
    for _ in range(3):
        kitchen.plug(7)
        kitchen.unplug(7)
    kitchen.plug(7)
    assert kitchen.states() == {"bus": "started", "toaster1": "started"}


def test_all_are_pulled_at_once(kitchen: Kitchen) -> None:
    for serial in (1, 2, 3):
        kitchen.plug(serial)
    kitchen.unplug(0)
    assert kitchen.states() == {"bus": "started"}


BAD = [
    (public.IOCTL_PLUGIN_HARDWARE, b""),
    (public.IOCTL_PLUGIN_HARDWARE, public.PLUGIN.pack(4, 1) + plugin(1)[8:]),
    (public.IOCTL_PLUGIN_HARDWARE, plugin(0)),
    (public.IOCTL_PLUGIN_HARDWARE, plugin(5)),
    (public.IOCTL_PLUGIN_HARDWARE, public.PLUGIN.pack(8, 9)),
    (public.IOCTL_PLUGIN_HARDWARE, public.PLUGIN.pack(8, 9) + b"\x00\xd8\x00"),
    (public.IOCTL_UNPLUG_HARDWARE, serial_of(9)),
    (public.IOCTL_UNPLUG_HARDWARE, b"\x08"),
    (public.IOCTL_EJECT_HARDWARE, serial_of(9)),
    (0x002A4010, serial_of(5)),
]


@pytest.mark.parametrize(("code", "data"), BAD)
def test_bad_requests_are_refused_and_change_nothing(kitchen: Kitchen, code: int, data: bytes) -> None:
    kitchen.plug(5)
    with pytest.raises(UsageFault):
        kitchen.bus.ioctl(code, data)
    kitchen.settle()
    assert kitchen.states() == {"bus": "started", "toaster1": "started"}
    assert len(bus_devices(kitchen)) == 2


def bus_devices(kitchen: Kitchen) -> list[Any]:
    return kitchen.bridge.io.drivers["toasterbus"].devices


def test_a_toaster_is_ejected_when_nobody_toasts(kitchen: Kitchen) -> None:
    kitchen.plug()
    (link,) = kitchen.toasters()
    with kitchen.bridge.open(link):
        kitchen.bus.ioctl(public.IOCTL_EJECT_HARDWARE, serial_of(1))
        kitchen.settle()
        assert kitchen.states()["toaster1"] == "started"
        with pytest.raises(DeviceBusy, match="1 handle"):
            kitchen.bridge.eject("toaster1")
    kitchen.bus.ioctl(public.IOCTL_EJECT_HARDWARE, serial_of(0))
    kitchen.settle()
    assert kitchen.states() == {"bus": "started"}
    assert len(bus_devices(kitchen)) == 1


def test_a_cleanup_ends_its_own_toast_only(kitchen: Kitchen) -> None:
    kitchen.plug()
    (link,) = kitchen.toasters()
    mine, yours = kitchen.bridge.open(link), kitchen.bridge.open(link)
    first, second = mine.submit_ioctl(public.IOCTL_TOAST), yours.submit_ioctl(public.IOCTL_TOAST)
    mine.close()
    assert first.status == STATUS_CANCELLED
    assert not second.done
    yours.ioctl(public.IOCTL_POP)
    assert second.status == STATUS_SUCCESS
    yours.close()


def test_the_bus_goes_with_everything_on_it(kitchen: Kitchen) -> None:
    kitchen.plug(1)
    kitchen.plug(2)
    handle = kitchen.bridge.open(kitchen.toasters()[0])
    pending = handle.submit_ioctl(public.IOCTL_TOAST)
    kitchen.bridge.unplug("bus")
    assert pending.status == STATUS_DELETE_PENDING
    assert kitchen.bridge.interfaces(GUID_BUSENUM_TOASTER) == []
    handle.close()
    kitchen.bus.close()
    kitchen.settle()
    assert kitchen.bridge.devices() == []


def test_a_removal_in_good_order_and_back(kitchen: Kitchen) -> None:
    kitchen.plug()
    kitchen.bridge.remove("toaster1")
    assert kitchen.toasters() == []
    kitchen.bridge.start("toaster1")
    assert len(kitchen.toasters()) == 1
    kitchen.bridge.stop("toaster1")
    kitchen.bridge.start("toaster1")
    with kitchen.bridge.open(kitchen.toasters()[0]) as handle:
        handle.ioctl(public.IOCTL_POP)


def test_a_filter_counts_what_passes() -> None:
    with Bridge.manual() as bridge:
        kitchen = Kitchen(bridge, upper_filters=["toasterfilter"], lower_filters=["toasterfilter"])
        kitchen.plug()
        with bridge.open(kitchen.toasters()[0]) as handle:
            done = handle.submit_ioctl(public.IOCTL_TOAST)
            handle.ioctl(public.IOCTL_POP)
            burnt = handle.submit_ioctl(public.IOCTL_TOAST)
            burnt.cancel()
            assert (done.status, burnt.status) == (STATUS_SUCCESS, STATUS_CANCELLED)
            numbers = bridge.statistics()["drivers"]
            assert numbers["toaster1/toasterfilter"] == {"slices": 1, "burnt": 1}
            assert numbers["toaster1/toasterfilter#2"] == {"slices": 0, "burnt": 0}, "the function driver ends them"
            last = handle.submit_ioctl(public.IOCTL_TOAST)
            kitchen.unplug()
            assert last.status == STATUS_DELETE_PENDING


def test_the_whole_life_passes_the_verifier() -> None:
    with Bridge.manual(verify=True) as bridge:
        kitchen = Kitchen(bridge, upper_filters=["toasterfilter"])
        kitchen.plug(1)
        kitchen.plug(2)
        handle = bridge.open(kitchen.toasters()[0])
        handle.submit_ioctl(public.IOCTL_TOAST)
        bridge.stop("toaster2")
        bridge.start("toaster2")
        kitchen.unplug(0)
        handle.close()
        kitchen.plug(3)
        bridge.remove("toaster1")
        kitchen.bus.close()
        bridge.remove("bus")
        assert bridge.findings == []
        assert bridge.faults == []


def toast_against_the_pulled_plug() -> Race:
    """A request that comes while the toaster goes is refused, or it is one of those that are ended."""
    bridge = Bridge.manual()
    kitchen = Kitchen(bridge)
    kitchen.plug()
    handle = bridge.open(kitchen.toasters()[0])
    outcome: list[Request | HilbridgeError] = []

    def toast() -> None:
        try:
            outcome.append(handle.submit_ioctl(public.IOCTL_TOAST))
        except HilbridgeError as error:
            outcome.append(error)

    def pull() -> None:
        with bridge.pnp.lock:
            bridge.pnp.surprise(bridge.pnp.node("toaster1"), DeviceGone("pulled"))

    def check() -> None:
        (one,) = outcome
        assert isinstance(one, DeviceGone) or (isinstance(one, Request) and one.status == STATUS_DELETE_PENDING), one
        assert bridge.faults == []

    return Race({"toast": toast, "pull": pull}, check, bridge.close)


def test_toast_against_the_pulled_plug_in_every_order() -> None:
    assert explore(toast_against_the_pulled_plug, preemptions=2).schedules > 10


def test_on_a_running_machine() -> None:
    news: queue.Queue[tuple[str, bool]] = queue.Queue()
    with Bridge() as bridge:
        bridge.watch(GUID_TOASTER, lambda link, arrived: news.put((link, arrived)))
        bridge.plug("virtual:toasterbus", name="bus")
        with bridge.open(bridge.interfaces(GUID_BUSENUM_TOASTER)[0]) as bus:
            bus.ioctl(public.IOCTL_PLUGIN_HARDWARE, plugin(1))
            link, arrived = news.get(timeout=PATIENCE)
            assert arrived
            with bridge.open(link) as handle:
                pending = handle.submit_ioctl(public.IOCTL_TOAST)
                bus.ioctl(public.IOCTL_UNPLUG_HARDWARE, serial_of(1))
                with pytest.raises(DeviceGone):
                    pending.result(timeout=PATIENCE)
            assert news.get(timeout=PATIENCE) == (link, False)


def test_a_toaster_without_its_driver_cannot_be_opened(kitchen: Kitchen) -> None:
    kitchen.plug(1, "TOASTER\\Unheard")
    assert kitchen.toasters() == []
    assert "no driver" in kitchen.bridge.devices()[1]["problem"]
    assert isinstance(kitchen.bridge.stack("device1")[0].extension, bus_driver.Child)
