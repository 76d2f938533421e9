"""Removal of a port that is lent, a start that fails, and who may be asked to go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import DeviceBusy, DeviceGone, DeviceUnsupported, HilbridgeError
from hilbridge.model.codes import PnpMinor
from hilbridge.model.errors import NtStatusError
from hilbridge.model.hardware import LineSettings
from hilbridge.model.pnp_life import PnpState
from hilbridge.model.status import STATUS_DEVICE_BUSY, STATUS_DEVICE_NOT_CONNECTED, STATUS_SUCCESS
from tests.drivers.serial.serialkit import end_of, fault_of, flush, waits
from tests.drivers.serial.stopkit import MakePort, Recorder, StopPort

GONE = STATUS_DEVICE_NOT_CONNECTED


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


def query(port: StopPort) -> None:
    assert port.send(PnpMinor.QUERY_STOP_DEVICE) == STATUS_SUCCESS


FROM: list[Callable[[StopPort], None]] = [query, StopPort.stop]
from_either = pytest.mark.parametrize("lend", FROM, ids=["stop pending", "stopped"])


# -- the device goes ---------------------------------------------------------------------------------------------------


@from_either
def test_everything_ends_once_and_with_the_news(port: StopPort, lend: Callable[[StopPort], None]) -> None:
    with port.open() as other:
        port.feed(b"ab")
        lend(port)
        reads = [port.handle.submit_read(5), port.handle.submit_read(5)]
        rest = [port.handle.submit_write(b"x"), port.set_baud_rate(9600), flush(port)]
        held = [port.submit_dtr(True, handle) for handle in (port.handle, other)] if lend is not query else []
        assert waits(*reads, *rest, *held)
        port.bridge.unplug(port.name)
        assert [end_of(read) for read in reads] == [(STATUS_SUCCESS, b"ab"), (GONE, b"")]
        assert [request.status for request in (*rest, *held)] == [GONE] * len((*rest, *held))
        assert "was unplugged" in str(fault_of(rest[0]))
        assert port.bridge.pending() == [] and port.bridge.statistics()["timers"] == 0
        assert port.extension.life.state is PnpState.SURPRISE_REMOVED


@from_either
def test_afterwards_nothing_waits_any_more(port: StopPort, lend: Callable[[StopPort], None]) -> None:
    lend(port)
    port.bridge.unplug(port.name)
    calls: list[Callable[[], Any]] = [
        lambda: port.handle.read(1),
        lambda: port.handle.write(b"x"),
        lambda: port.handle.ioctl(0x1B0024),
        port.open,
    ]
    for call in calls:
        with pytest.raises(DeviceGone):
            call()
    port.handle.close()
    assert port.bridge.devices() == []


@from_either
def test_removal_without_a_warning(port: StopPort, lend: Callable[[StopPort], None]) -> None:
    """What the bridge does when it closes."""
    lend(port)
    write = port.handle.submit_write(b"x")
    assert port.send(PnpMinor.REMOVE_DEVICE) == STATUS_SUCCESS
    assert write.status == GONE
    assert port.device.delete_pending


def test_hardware_that_goes_while_the_question_waits_is_no_reason_to_refuse(port: StopPort) -> None:
    port.line.unsent = 5

    class Gone(Recorder):
        def output_waiting(self) -> int:
            raise DeviceGone("it went")

    port.line.output_waiting = Gone().output_waiting  # type: ignore[method-assign]
    assert port.send(PnpMinor.QUERY_STOP_DEVICE) == STATUS_SUCCESS


def test_a_line_that_is_found_gone_when_it_is_given_back_is_removed(port: StopPort) -> None:
    """Its interrupt has not come yet. What it had said is delivered first."""
    read, late = port.handle.submit_read(5), port.handle.submit_read(5)
    port.line.feed(b"bye")
    port.line.unplug()
    port.machine._raised.clear()  # the interrupt is late
    port.stop()
    port.settle()
    assert end_of(read) == (STATUS_SUCCESS, b"bye") and late.status == GONE
    assert port.bridge.devices()[0]["state"] == "surprise-removed"


# -- a start that fails ------------------------------------------------------------------------------------------------


class Refuses(Recorder):
    def configure(self, settings: LineSettings) -> None:
        raise DeviceUnsupported(f"{self.name} cannot do {settings.baudrate} baud")


def fails_to_start(port: StopPort, line: Recorder, **changes: Any) -> HilbridgeError:
    resources = port.resources(line)
    for name, value in changes.items():
        object.__setattr__(resources, name, value)
    with pytest.raises(HilbridgeError) as failure:
        port.send(PnpMinor.START_DEVICE, resources)
    return failure.value


def test_a_line_that_cannot_be_configured_says_why_and_nothing_of_it_is_kept(port: StopPort) -> None:
    port.set_baud_rate(9600)
    port.stop()
    failure = fails_to_start(port, Refuses("virtual:slow"))
    assert str(failure) == "virtual:slow cannot do 9600 baud"
    assert port.extension.line is None and port.extension.interrupt is None


def test_after_that_it_is_still_stopped_and_can_be_started(port: StopPort) -> None:
    port.stop()
    read, write, dtr = port.handle.submit_read(2), port.handle.submit_write(b"x"), port.submit_dtr(True)
    fails_to_start(port, Refuses())
    assert waits(read, write, dtr) and port.extension.life.state is PnpState.STOPPED
    line = port.start()
    port.feed(b"ok")
    assert end_of(read) == (STATUS_SUCCESS, b"ok")
    assert (write.status, dtr.status, bytes(line.sent)) == (STATUS_SUCCESS, STATUS_SUCCESS, b"x")


def test_after_that_it_can_be_removed(port: StopPort) -> None:
    port.stop()
    read, write, dtr = port.handle.submit_read(2), port.handle.submit_write(b"x"), port.submit_dtr(True)
    fails_to_start(port, Refuses())
    port.bridge.unplug(port.name)
    assert [request.status for request in (read, write, dtr)] == [GONE] * 3


def test_a_vector_that_is_taken_is_a_reason_too(port: StopPort) -> None:
    port.stop()
    other = port.bridge.io.connect_interrupt(port.device, lambda *_: False, None, 0x200, share=False)
    line = Recorder()
    failure = fails_to_start(port, line, vector=0x200)
    assert "in use, and not shared" in str(failure)
    assert port.extension.line is None
    line.feed(b"x")
    port.settle()
    assert line.untaken == 1
    port.bridge.io.disconnect_interrupt(other)
    port.start()


def test_a_name_that_is_taken_is_a_reason_too_and_the_old_one_stays(port: StopPort) -> None:
    port.bridge.io.create_symbolic_link("COM9", "\\Device\\Elsewhere")
    port.stop()
    line = Recorder()
    failure = fails_to_start(port, line, port_name="COM9")
    assert isinstance(failure, NtStatusError)
    assert port.extension.port_name == port.name and port.extension.interrupt is None
    line.feed(b"x")
    port.settle()
    assert line.untaken == 1, "its interrupt is connected still"
    port.bridge.io.delete_symbolic_link("COM9")


def test_it_can_come_back_under_another_name(port: StopPort) -> None:
    port.stop()
    resources = port.resources(Recorder())
    object.__setattr__(resources, "port_name", "COM7")
    assert port.send(PnpMinor.START_DEVICE, resources) == STATUS_SUCCESS
    assert port.bridge.io.namespace.links_to(port.device) == ["COM7"]
    port.bridge.open("COM7", access="r").close()


# -- QUERY_REMOVE ------------------------------------------------------------------------------------------------------


def test_an_open_port_is_not_removed(port: StopPort) -> None:
    with port.open(), pytest.raises(DeviceBusy, match=r"COM1 cannot be removed: it has 2 handles open") as refused:
        port.send(PnpMinor.QUERY_REMOVE_DEVICE)
    assert refused.value.status == STATUS_DEVICE_BUSY
    with pytest.raises(DeviceBusy, match="it has a handle open"):
        port.send(PnpMinor.QUERY_REMOVE_DEVICE)
    port.handle.write(b"goes on")
    assert bytes(port.line.sent) == b"goes on"


def test_one_that_has_agreed_is_not_opened_until_that_is_cancelled(port: StopPort) -> None:
    port.handle.close()
    assert port.send(PnpMinor.QUERY_REMOVE_DEVICE) == STATUS_SUCCESS
    with pytest.raises(DeviceGone):
        port.open()
    assert port.send(PnpMinor.CANCEL_REMOVE_DEVICE) == STATUS_SUCCESS
    port.open().close()


def test_a_stopped_port_is_stopped_again_after_a_cancelled_removal(port: StopPort) -> None:
    port.handle.close()
    port.stop()
    assert port.send(PnpMinor.QUERY_REMOVE_DEVICE) == STATUS_SUCCESS
    assert port.send(PnpMinor.CANCEL_REMOVE_DEVICE) == STATUS_SUCCESS
    assert port.extension.life.state is PnpState.STOPPED
    handle = port.open()
    port.start()
    port.feed(b"x")
    assert handle.read(1) == b"x"
    handle.close()
