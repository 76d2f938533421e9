"""The default dispatch: what a device of the layer does with Plug and Play, power and the rest, without a line of its own."""

from __future__ import annotations

from typing import Any

import pytest

from hilbridge import Bridge, DeviceFault, DriverFault, UsageFault, ddk
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DevicePowerState,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    PowerStateType,
    SystemPowerState,
    WmiMinor,
)
from hilbridge.model.parameters import PowerParameters, WmiParameters
from hilbridge.virtual.line import VirtualLine
from tests.ddk.ddkkit import Bare, Setup, bare, dpc, plug, plugged
from tests.support import System, now


def with_writes(self: Bare) -> None:
    ddk.SequentialQueue(self, write=lambda request: done(request))


def done(request: ddk.Request) -> None:
    request.complete(information=request.length)


def nothing(self: Bare) -> None:
    """No queues."""


def fails(error: Exception) -> Any:
    def hook(self: Bare, *_arguments: Any) -> None:
        self.diary.append("failing")
        raise error

    return hook


# -- Plug and Play -------------------------------------------------------------------------------------------------------


def test_a_device_comes_and_is_pulled() -> None:
    with plugged(bare(with_writes)) as it:
        device = it.device
        assert device.in_d0
        assert now(device.pnp.state) is ddk.PnpState.STARTED
        with it.open() as handle:
            handle.write(b"abc")
        it.bridge.unplug("DUT")
        assert device.diary == ["prepare", "entry from D3", "surprise", "exit to D3", "release", "removed"]
        assert now(device.pnp.state) is ddk.PnpState.REMOVED
        assert device.device_object.delete_pending
        assert device.remove_lock.removed
        assert device.remove_lock.count == 0


def test_the_orderly_way() -> None:
    with plugged(bare(nothing)) as it:
        device = it.device
        assert it.pnp(PnpMinor.QUERY_STOP_DEVICE) == ddk.STATUS_SUCCESS
        assert it.pnp(PnpMinor.CANCEL_STOP_DEVICE) == ddk.STATUS_SUCCESS
        assert device.in_d0
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        assert it.pnp(PnpMinor.STOP_DEVICE) == ddk.STATUS_SUCCESS
        assert (device.in_d0, device.has_hardware) == (False, False)
        it.pnp(PnpMinor.START_DEVICE)
        assert it.pnp(PnpMinor.QUERY_REMOVE_DEVICE) == ddk.STATUS_SUCCESS
        assert it.pnp(PnpMinor.CANCEL_REMOVE_DEVICE) == ddk.STATUS_SUCCESS
        assert now(device.pnp.state) is ddk.PnpState.STARTED
        device.diary.clear()
        it.bridge.close()
        assert device.diary == ["exit to D3", "release", "removed"]


@pytest.mark.parametrize(
    ("hook", "minor"),
    [("query_stop", PnpMinor.QUERY_STOP_DEVICE), ("query_remove", PnpMinor.QUERY_REMOVE_DEVICE)],
)
@pytest.mark.parametrize("raises", [False, True])
def test_a_query_may_be_refused(hook: str, minor: PnpMinor, raises: bool) -> None:
    def veto(self: Bare) -> ddk.NtStatus:
        if raises:
            raise ddk.NtStatusError(ddk.STATUS_DEVICE_BUSY, "printing")
        return ddk.STATUS_DEVICE_BUSY

    with plugged(bare(nothing, **{hook: veto})) as it:
        assert it.pnp(minor) == ddk.STATUS_DEVICE_BUSY
        assert it.device.pnp.state is ddk.PnpState.STARTED


def test_a_start_that_fails_gives_back_its_hardware() -> None:
    made = bare(nothing, prepare_hardware=fails(ddk.DeviceFault("no answer", status=ddk.STATUS_DEVICE_DATA_ERROR)))
    devices: list[Bare] = []
    init = made.__init__

    def remember(self: Bare, what: ddk.DeviceInit) -> None:
        init(self, what)
        devices.append(self)

    made.__init__ = remember  # type: ignore[assignment, method-assign]
    with Bridge.manual(verify=True) as bridge:
        with pytest.raises(DeviceFault, match="no answer"):
            plug(bridge, made)
        assert devices[0].diary == ["failing", "release", "removed"]
        assert not bridge.findings
        assert not bridge.faults


def test_an_entry_into_d0_that_fails_fails_the_start() -> None:
    made = bare(nothing, d0_entry=fails(ddk.NtStatusError(ddk.STATUS_DEVICE_POWER_FAILURE, "dead")))
    with Bridge.manual(verify=True) as bridge, pytest.raises(DeviceFault, match="dead"):
        plug(bridge, made)


def test_a_start_hook_that_raises_something_else_is_the_drivers_fault() -> None:
    with Bridge.manual() as bridge:
        with pytest.raises(DriverFault, match="ZeroDivisionError"):
            plug(bridge, bare(nothing, prepare_hardware=fails(ZeroDivisionError("oops"))))
        bridge.acknowledge_faults()


def test_hardware_that_does_not_answer_on_the_way_out_stops_nothing() -> None:
    made = bare(nothing, d0_exit=fails(ddk.DeviceGone("silence")))
    with plugged(made) as it:
        it.bridge.unplug("DUT")
        assert it.device.diary[-3:] == ["failing", "release", "removed"]
        assert str(it.device.last_error) == "silence"


def test_init_that_forgets_its_base_class_is_named_and_leaves_nothing() -> None:
    def forgets(self: Bare, init: ddk.DeviceInit) -> None:
        self.diary = []

    with Bridge.manual(verify=True) as bridge:
        with pytest.raises(DriverFault, match=r"did not call super\(\).__init__"):
            plug(bridge, bare(nothing, __init__=forgets))
        assert not [device for driver in bridge.io.drivers.values() for device in driver.devices]


def test_add_device_that_fails_takes_back_what_it_has_done() -> None:
    """Not all who call AddDevice tidy up behind it, as a bridge does."""
    system = System()
    made = bare(fails(ddk.NtStatusError(ddk.STATUS_NO_MEMORY, "no")))
    driver = system.io.load_driver("made", ddk.driver(made))
    bottom = system.stack()
    assert driver.add_device is not None
    with pytest.raises(ddk.NtStatusError, match="NO_MEMORY"):
        driver.add_device(driver, bottom)
    assert bottom.attached_device is None
    assert driver.devices == []


def test_the_context_is_typed() -> None:
    class Meter(Bare):
        __module__ = "tests.ddk.made"
        reading = 7

    with Bridge.manual(verify=True) as bridge:
        context = plug(bridge, Meter)
        device: ddk.DeviceObject[Meter] = context.device_object
        assert device.extension.reading == 7
        with pytest.raises(DriverFault, match="is a Meter, not a Other"):
            ddk.context_of(device, type("Other", (Bare,), {}))


def test_resources_reach_the_driver() -> None:
    got: list[Any] = []
    line = VirtualLine("virtual:line")
    with plugged(bare(nothing, prepare_hardware=lambda self, resources: got.append(resources)), line):
        assert got[0].line is line


def test_a_name_of_its_own() -> None:
    entry = ddk.driver(bare(nothing), name=r"\Device\Teapot")
    with Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", driver=entry, name="first")
        assert bridge.stack("first")[0].name == r"\Device\Teapot"
        with pytest.raises(DriverFault, match="OBJECT_NAME_COLLISION"):
            bridge.plug("virtual:null", driver=entry, name="second")


# -- files ---------------------------------------------------------------------------------------------------------------


def test_create_may_refuse_or_wait() -> None:
    def create(self: Bare, request: ddk.Request) -> None:
        if not self.kept:
            self.kept.append(request)
            raise ddk.NtStatusError(ddk.STATUS_ACCESS_DENIED, "not you")
        timer = ddk.Ktimer()
        self.ke.set_timer(timer, ddk.relative_ms(10), 0, dpc(request.complete, self.device_object))

    with plugged(bare(nothing, create=create)) as it:
        with pytest.raises(Exception, match=r"lacks that access|ACCESS_DENIED|not you|refused"):
            it.open()
        with it.open() as handle:
            assert handle.file.device_object is it.device.device_object


def test_nothing_opens_a_device_that_has_gone() -> None:
    with plugged(bare(nothing)) as it, it.open():
        it.bridge.unplug("DUT")
        with pytest.raises(Exception, match="unplugged"):
            it.bridge.open(it.device.device_object.name or "")


# -- power ---------------------------------------------------------------------------------------------------------------


def power(it: Setup, minor: PowerMinor, kind: PowerStateType, state: int) -> ddk.NtStatus:
    top, event = it.pdo.top, Kevent()
    irp = it.bridge.io.build_synchronous_fsd_request(
        IrpMajor.POWER, top, event, minor=minor, parameters=PowerParameters(kind, state)
    )
    return it.bridge.io.call_and_wait(top, irp)


def test_device_power_goes_down_and_up_and_requests_are_held_meanwhile() -> None:
    with plugged(bare(with_writes)) as it, it.open() as handle:
        it.device.diary.clear()
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D2)
        assert it.device.diary == ["exit to D2"]
        request = handle.submit_write(b"abc")
        it.idle()
        assert not now(request.done)
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D0)
        assert it.device.diary == ["exit to D2", "entry from D2"]
        assert request.done
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D0)  # D0 in D0: leave it alone
        assert it.device.diary == ["exit to D2", "entry from D2"]
        assert it.device.remove_lock.count == 0


def test_the_system_goes_to_sleep_and_wakes() -> None:
    with plugged(bare(with_writes)) as it:
        it.device.diary.clear()
        assert power(it, PowerMinor.QUERY_POWER, PowerStateType.SYSTEM, SystemPowerState.SLEEPING3).is_success
        power(it, PowerMinor.SET_POWER, PowerStateType.SYSTEM, SystemPowerState.SLEEPING3)
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D3)  # a policy owner's, to the same end
        power(it, PowerMinor.SET_POWER, PowerStateType.SYSTEM, SystemPowerState.WORKING)
        assert it.device.diary == ["exit to D3", "entry from D3"]


def test_a_device_that_does_not_wake_up_is_gone() -> None:
    made = bare(nothing)
    with plugged(made) as it:
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D3)
        made.d0_entry = fails(ddk.DeviceFault("it sleeps on"))  # type: ignore[method-assign]
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D0)
        it.idle()
        assert it.device.pnp.state is ddk.PnpState.REMOVED
        assert it.bridge.devices() == []


def test_a_driver_says_that_its_device_is_of_no_use_any_more() -> None:
    with plugged(bare(nothing)) as it, it.open() as handle:
        with it.bridge.ke.raised_irql(ddk.DISPATCH_LEVEL):
            it.device.set_failed(ddk.DeviceGone("it burns"))
        answer = it.bridge.io.ask_pnp(it.pdo, PnpMinor.QUERY_PNP_DEVICE_STATE)
        assert answer.answer == ddk.PNP_DEVICE_FAILED | ddk.PNP_DEVICE_REMOVED
        it.idle()
        assert it.device.pnp.state is ddk.PnpState.SURPRISE_REMOVED
        with pytest.raises(ddk.DeviceGone, match="it burns"):
            handle.write(b"x")


def test_power_of_a_stopped_device_touches_no_hardware() -> None:
    with plugged(bare(nothing)) as it:
        it.pnp(PnpMinor.QUERY_STOP_DEVICE)
        it.pnp(PnpMinor.STOP_DEVICE)
        it.device.diary.clear()
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D3)
        power(it, PowerMinor.SET_POWER, PowerStateType.DEVICE, DevicePowerState.D0)
        power(it, PowerMinor.WAIT_WAKE, PowerStateType.SYSTEM, SystemPowerState.SLEEPING1)
        assert it.device.diary == []


def test_system_control_is_passed_on() -> None:
    with plugged(bare(nothing)) as it:
        top, event = it.pdo.top, Kevent()
        irp = it.bridge.io.build_synchronous_fsd_request(
            IrpMajor.SYSTEM_CONTROL, top, event, minor=WmiMinor.REGINFO, parameters=WmiParameters(it.pdo, "")
        )
        assert it.bridge.io.call_and_wait(top, irp) == ddk.STATUS_NOT_SUPPORTED


# -- filters -------------------------------------------------------------------------------------------------------------


def shouting(self: Bare) -> None:
    def write(request: ddk.Request) -> None:
        self.diary.append(request.input.decode())
        request.forward(self.target)

    def heard(request: ddk.Request, sent: ddk.Sent) -> None:
        answer = bytes(request.output[: sent.information]).upper()
        request.complete(sent.status, data=answer)

    ddk.ParallelQueue(self, write=write, read=lambda request: request.forward(self.target, heard))


def test_a_filter_passes_on_what_it_has_no_queue_for_and_changes_the_rest() -> None:
    entry = ddk.driver(bare(shouting), filter=True)
    with Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:loop", name="DUT", upper_filters=[entry])
        context = ddk.context_of(bridge.stack("DUT")[0], Bare)
        assert context.device_object.device_type == ddk.FILE_DEVICE_SERIAL_PORT
        assert context.device_object.name is None
        with bridge.open("DUT") as handle:
            handle.write(b"hello")
            assert handle.read(5) == b"HELLO"
            handle.set(baudrate=9600)  # a control that the filter does not know
            waits = handle.submit_read(3)
            waits.cancel()
            assert waits.status == ddk.STATUS_CANCELLED
            waits = handle.submit_read(3)
            bridge.unplug("DUT")
            assert waits.status == ddk.STATUS_DEVICE_NOT_CONNECTED
        assert "hello" in context.diary
        assert not bridge.findings


def test_a_filter_is_stopped_while_a_request_is_below() -> None:
    entry = ddk.driver(bare(shouting), filter=True)
    with Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", name="DUT", driver=ddk.driver(bare(keeps)), upper_filters=[entry])
        pdo = bridge.stack("DUT")[-1]
        below = ddk.context_of(bridge.stack("DUT")[1], Bare)
        with bridge.open("DUT") as handle:
            request = handle.submit_read(3)
            bridge.io.send_pnp(pdo, PnpMinor.QUERY_STOP_DEVICE)
            bridge.io.send_pnp(pdo, PnpMinor.STOP_DEVICE)
            later = handle.submit_read(3)
            bridge.io.send_pnp(pdo, PnpMinor.START_DEVICE)
            below.kept[0].complete(data=b"one")
            below.kept[1].complete(data=b"two")
            assert (request.result(), later.result()) == (b"ONE", b"TWO")
        assert not bridge.findings


def keeps(self: Bare) -> None:
    ddk.SequentialQueue(self, read=self.keep)


def test_the_filters_create_may_look_and_pass_on() -> None:
    seen: list[str] = []

    def create(self: Bare, request: ddk.Request) -> None:
        seen.append(request.file.file_name if request.file else "?")
        request.forward(self.target)

    entry = ddk.driver(bare(nothing, create=create), filter=True)
    with Bridge.manual(verify=True) as bridge:
        bridge.plug("virtual:null", name="DUT", upper_filters=[entry])
        bridge.open("DUT").close()
        assert seen == [""]
        assert not bridge.findings


def test_a_device_without_queues_answers_no_read() -> None:
    with plugged(bare(nothing)) as it, it.open() as handle, pytest.raises(UsageFault):
        handle.write(b"x")
