"""Every shipped driver, but for the serial one, when it is stopped and started, asked, and asked for nothing it knows.

The serial driver has real hardware to give up, and tests of its own for that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hilbridge import Bridge, DeviceBusy
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.drivers.samples import event, sioctl
from hilbridge.drivers.samples.toaster import public
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import relative_ms
from hilbridge.model.codes import IrpMajor, PnpMinor, PowerMinor, RelationType, WmiMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import NO_PARAMETERS, Parameters, QueryDeviceRelationsParameters
from hilbridge.model.pnp_life import CHANGES_STATE
from hilbridge.model.status import STATUS_DELETE_PENDING, STATUS_NOT_SUPPORTED, STATUS_SUCCESS, NtStatus
from hilbridge.pnp.registry import DRIVERS
from tests.support import complete

M = PnpMinor

# -- the drivers at work -------------------------------------------------------------------------------------------------


def null_works(handle: Handle) -> None:
    assert handle.write(b"abc") == 3


def polled_works(handle: Handle) -> None:
    first, second = (struct.unpack("<I", handle.read(4))[0] for _ in range(2))
    assert second == first + 1


def event_works(handle: Handle) -> None:
    request = register(handle, 10)
    assert not request.done
    handle.bridge.machine.advance(0.01)
    assert request.status == STATUS_SUCCESS


def register(handle: Handle, milliseconds: float) -> Request:
    """An answer when that time is over."""
    due = event.REGISTER.pack(event.IRP_BASED, 0, relative_ms(milliseconds))
    return handle.submit_ioctl(event.IOCTL_REGISTER_EVENT, due)


def sioctl_works(handle: Handle) -> None:
    for code in (sioctl.IOCTL_BUFFERED, sioctl.IOCTL_OUT_DIRECT, sioctl.IOCTL_NEITHER):
        assert handle.ioctl(code, b"x", size=100) == sioctl.MESSAGE


def counter_works(handle: Handle) -> None:
    counts = handle.bridge.stack("DUT")[0].extension.counts
    before = counts[IrpMajor.WRITE]
    null_works(handle)
    assert counts[IrpMajor.WRITE] == before + 1


def toaster_works(handle: Handle) -> None:
    toast = handle.submit_ioctl(public.IOCTL_TOAST)
    assert not toast.done
    handle.ioctl(public.IOCTL_POP)
    assert toast.status == STATUS_SUCCESS


def bus_works(handle: Handle) -> None:
    devices = len(handle.bridge.devices())
    handle.ioctl(public.IOCTL_PLUGIN_HARDWARE, public.plugin(1))
    handle.bridge.machine.run_until_idle()
    assert len(handle.bridge.devices()) == devices + 1
    handle.ioctl(public.IOCTL_UNPLUG_HARDWARE, public.serial_of(1))
    handle.bridge.machine.run_until_idle()
    assert len(handle.bridge.devices()) == devices


WORKS: dict[str, Callable[[Handle], None]] = {
    "null": null_works,
    "cancel": polled_works,
    "cancel-startio": polled_works,
    "event": event_works,
    "sioctl": sioctl_works,
    "counter": counter_works,
    "toaster": toaster_works,
    "toasterbus": bus_works,
    "toasterfilter": null_works,
}
WAITS: dict[str, Callable[[Handle], Request]] = {
    "cancel": lambda handle: handle.submit_read(4),
    "cancel-startio": lambda handle: handle.submit_read(4),
    "event": lambda handle: register(handle, 100),
}
"""A request that waits for a while, where a driver has such."""
FILTERS = ("counter", "toasterfilter")


def test_no_driver_is_left_out() -> None:
    assert sorted(WORKS) == sorted(DRIVERS.keys() - {"serial"})


class Bench:
    """One driver on a manual bridge, with the verifier."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bridge = Bridge.manual(verify=True)
        filters = [name] if name in FILTERS else []
        self.bridge.plug("virtual:null", name="DUT", driver="null" if filters else name, upper_filters=filters)
        self.top, *_, self.bottom = self.bridge.stack("DUT")

    def works(self) -> None:
        with self.bridge.open("DUT") as handle:
            WORKS[self.name](handle)

    def send(self, *minors: PnpMinor) -> None:
        for minor in minors:
            assert self.bridge.io.send_pnp(self.bottom, minor).is_success, minor


@pytest.fixture(params=sorted(WORKS))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param)
    with bench.bridge as bridge:
        yield bench
        assert (bridge.findings, bridge.faults) == ([], [])


# -- the requests that change the state of the device ------------------------------------------------------------------------

STORIES = {
    "stopped and started": (M.QUERY_STOP_DEVICE, M.STOP_DEVICE, M.START_DEVICE),
    "not stopped after all": (M.QUERY_STOP_DEVICE, M.CANCEL_STOP_DEVICE),
    "somebody else has refused the stop": (M.CANCEL_STOP_DEVICE,),
    "not removed after all": (M.QUERY_REMOVE_DEVICE, M.CANCEL_REMOVE_DEVICE),
    "somebody else has refused the removal": (M.CANCEL_REMOVE_DEVICE,),
    "not removed while it is stopped": (
        M.QUERY_STOP_DEVICE,
        M.STOP_DEVICE,
        M.QUERY_REMOVE_DEVICE,
        M.CANCEL_REMOVE_DEVICE,
        M.START_DEVICE,
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_it_works_afterwards(bench: Bench, story: str) -> None:
    for _ in range(2):
        bench.send(*STORIES[story])
        bench.works()


@pytest.mark.parametrize("story", STORIES)
def test_also_for_who_had_it_open(bench: Bench, story: str) -> None:
    with bench.bridge.open("DUT") as handle:
        WORKS[bench.name](handle)
        bench.send(*STORIES[story])
        WORKS[bench.name](handle)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("name", WAITS)
def test_what_waits_meanwhile_ends_as_it_should(name: str, story: str) -> None:
    with Bench(name).bridge as bridge:
        bottom = bridge.stack("DUT")[-1]
        with bridge.open("DUT") as handle:
            if name == "cancel":
                handle.read(4)  # the device is busy from now on
            request = WAITS[name](handle)
            assert not request.done
            for minor in STORIES[story]:
                bridge.io.send_pnp(bottom, minor)
            assert request.wait(1)
            assert request.status == STATUS_SUCCESS
        assert (bridge.findings, bridge.faults) == ([], [])


@pytest.mark.parametrize("before", [(), (M.QUERY_STOP_DEVICE,), (M.QUERY_STOP_DEVICE, M.STOP_DEVICE)])
def test_it_may_go_from_any_state(bench: Bench, before: tuple[PnpMinor, ...]) -> None:
    handle = bench.bridge.open("DUT")
    waiting = [WAITS[bench.name](handle) for _ in range(2)] if bench.name in WAITS else []
    bench.send(*before)
    bench.bridge.unplug("DUT")
    handle.close()
    assert all(request.status in (STATUS_SUCCESS, STATUS_DELETE_PENDING) for request in waiting)
    assert bench.bridge.ke.timers.running() == []
    assert bench.bridge.ke.system_threads == []
    bench.bridge.plug("virtual:null", name="DUT", driver="null" if bench.name in FILTERS else bench.name)


def test_stopped_started_and_removed_by_who_manages_the_devices(bench: Bench) -> None:
    """The same as the Plug and Play manager sends it, which also minds what may come when."""
    bridge = bench.bridge
    for _ in range(2):
        with bridge.open("DUT") as handle:
            bridge.stop("DUT")
            bridge.start("DUT")
            WORKS[bench.name](handle)
            with pytest.raises(DeviceBusy):
                bridge.remove("DUT")
            WORKS[bench.name](handle)
    bridge.remove("DUT")
    assert bridge.devices() == []
    assert bridge.ke.system_threads == []


def test_started_twice_it_is_still_one_of_each() -> None:
    """The system thread of the polling sample, which is made in START_DEVICE."""
    bench = Bench("cancel")
    with bench.bridge as bridge:
        bench.send(M.QUERY_STOP_DEVICE, M.STOP_DEVICE, M.START_DEVICE)
        assert len(bridge.ke.system_threads) == 1


def test_a_start_that_the_bus_refuses_is_refused(bench: Bench) -> None:
    """Also the second one: who sits above the bus does not know better. Nothing is left of it, and the third succeeds."""
    bench.send(M.QUERY_STOP_DEVICE, M.STOP_DEVICE)
    below = Below(bench.bottom, STATUS_NOT_SUPPORTED)
    assert bench.bridge.io.send_pnp(bench.bottom, M.START_DEVICE) == STATUS_NOT_SUPPORTED
    below.leave()
    bench.send(M.START_DEVICE)
    bench.works()


# -- the others ----------------------------------------------------------------------------------------------------------


class Below:
    """In place of the bus driver: notes what reaches it, and answers with one status."""

    MAJORS = (IrpMajor.PNP, IrpMajor.POWER, IrpMajor.SYSTEM_CONTROL)

    def __init__(self, device: DeviceObject[Any], status: NtStatus) -> None:
        self.came: list[tuple[int, int, NtStatus]] = []
        self.status = status
        self.table = device.driver_object.major_function
        self.before = {major: self.table[major] for major in self.MAJORS}
        for major in self.MAJORS:
            self.table[major] = self.dispatch

    def dispatch(self, device: DeviceObject[Any], irp: Irp) -> NtStatus:
        location = irp.current_stack_location
        self.came.append((location.major_function, location.minor_function, irp.io_status.status))
        return complete(device, irp, self.status)

    def leave(self) -> None:
        for major, routine in self.before.items():
            self.table[major] = routine


UNKNOWN = [
    *((IrpMajor.PNP, minor) for minor in PnpMinor if minor not in CHANGES_STATE),
    *((IrpMajor.POWER, minor) for minor in PowerMinor),
    *((IrpMajor.SYSTEM_CONTROL, minor) for minor in WmiMinor),
]


ASKED: dict[int, Parameters] = {M.QUERY_DEVICE_RELATIONS: QueryDeviceRelationsParameters(RelationType.EJECTION)}


@pytest.mark.parametrize("answer", [STATUS_SUCCESS, STATUS_NOT_SUPPORTED], ids=lambda status: status.name)
def test_what_it_does_not_know_reaches_the_bus_untouched_and_the_answer_comes_back(
    bench: Bench, answer: NtStatus
) -> None:
    io = bench.bridge.io
    for major, minor in UNKNOWN:
        below = Below(bench.bottom, answer)
        irp = io.build_synchronous_fsd_request(
            major, bench.top, Kevent(), minor=minor, parameters=ASKED.get(minor, NO_PARAMETERS)
        )
        assert io.call_driver(bench.top, irp) == answer
        below.leave()
        assert irp.io_status.status == answer
        assert below.came == [(major, minor, STATUS_NOT_SUPPORTED)], (major.name, minor.name)
    bench.works()


def test_what_changes_the_state_reaches_the_bus_as_granted(bench: Bench) -> None:
    """A filter that takes no part in it leaves that to the driver below."""
    for minor in (M.QUERY_STOP_DEVICE, M.CANCEL_STOP_DEVICE, M.QUERY_REMOVE_DEVICE, M.CANCEL_REMOVE_DEVICE):
        below = Below(bench.bottom, STATUS_SUCCESS)
        bench.send(minor)
        below.leave()
        assert below.came == [(IrpMajor.PNP, minor, STATUS_SUCCESS)]
