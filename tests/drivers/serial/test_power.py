"""D0 and the states below it: requests wait while the port sleeps, and it wakes as it was left."""

from __future__ import annotations

import pytest

from hilbridge import DeviceGone, DeviceTimeout
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import DevicePowerState, PnpMinor, PowerMinor, PowerStateType, SystemPowerState
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import LineSettings
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_NOT_SUPPORTED,
    STATUS_PENDING,
    STATUS_SUCCESS,
)
from tests.drivers.serial.serialkit import end_of, flush, numbered, waits
from tests.drivers.serial.stopkit import MakePort, Recorder, StopPort
from tests.support import now

D0, D1, D3 = DevicePowerState.D0, DevicePowerState.D1, DevicePowerState.D3


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


def done_to(port: StopPort) -> list[object]:
    """What the line was told since it was last asked."""
    assert isinstance(port.line, Recorder)
    done, port.line.done = port.line.done, []
    return done


def test_the_line_is_left_alone_while_the_port_sleeps(port: StopPort) -> None:
    assert port.set_power(D3) == STATUS_SUCCESS
    assert isinstance(port.line, Recorder) and port.line.quiet
    done_to(port)
    before = port.line.touched
    port.handle.submit_write(b"x")
    port.submit_dtr(True)
    port.set_baud_rate(9600)
    port.feed(b"abc")
    assert port.comm_status().amount_in_in_queue == 0
    port.purge(ser.SERIAL_PURGE_RXCLEAR | ser.SERIAL_PURGE_TXCLEAR)
    assert (done_to(port), bytes(port.line.sent), port.line.untaken) == ([], b"", 3)
    assert isinstance(port.line, Recorder) and port.line.quiet
    assert port.line.touched == before


def test_it_wakes_as_it_was_left(port: StopPort) -> None:
    port.set_baud_rate(9600)
    port.submit_dtr(False)
    port.control(ser.IOCTL_SERIAL_SET_BREAK_ON)
    port.set_power(D3)
    done_to(port)
    assert port.set_power(D0) == STATUS_SUCCESS
    assert done_to(port) == [9600, (False, None), "break True"]
    assert port.extension.power_state == D0


@pytest.mark.parametrize("state", [D1, D3])
def test_requests_wait_and_go_on_in_order(port: StopPort, state: DevicePowerState) -> None:
    port.feed(b"ab")
    read = port.handle.submit_read(4)
    assert port.set_power(state) == STATUS_SUCCESS
    assert port.extension.power_state == state
    writes = [port.handle.submit_write(data) for data in (b"one ", b"two")]
    rest = [port.submit_dtr(True), port.submit_dtr(False), port.set_baud_rate(9600), flush(port)]
    assert waits(read, *writes, *rest)
    done_to(port)
    port.set_power(D0)
    assert [request.status for request in (*writes, *rest)] == [STATUS_SUCCESS] * 6
    assert bytes(port.line.sent) == b"one two"
    assert done_to(port) == [115200, (True, None), (False, None), 9600]
    port.feed(b"cd")
    assert end_of(read) == (STATUS_SUCCESS, b"abcd")


def test_what_had_arrived_can_be_read_while_it_sleeps(port: StopPort) -> None:
    port.line.feed(b"abc")  # it has not interrupted yet
    port.set_power(D3)
    assert port.handle.read(3) == b"abc"


def test_what_arrives_while_it_sleeps_is_read_when_it_wakes(port: StopPort) -> None:
    read = port.handle.submit_read(5)
    port.set_power(D3)
    port.feed(b"hello")
    assert waits(read)
    port.set_power(D0)
    assert end_of(read) == (STATUS_SUCCESS, b"hello")


def test_a_long_write_across_several_sleeps(make_port: MakePort) -> None:
    port = make_port(room=0)
    data = numbered(200_000)
    write = port.handle.submit_write(data)
    for _ in range(5):
        port.accept(30_001)
        port.set_power(D3)
        port.accept(1_000)
        port.set_power(D0)
    port.accept(len(data))
    assert (write.status, write.information) == (STATUS_SUCCESS, len(data))
    assert bytes(port.line.sent) == data


def test_what_waits_can_be_cancelled_and_has_its_deadline(port: StopPort) -> None:
    port.set_power(D3)
    requests = [port.handle.submit_write(b"x"), port.submit_dtr(True), port.handle.submit_read(1)]
    for request in requests:
        request.cancel()
    assert [request.status for request in requests] == [STATUS_CANCELLED] * 3
    with pytest.raises(DeviceTimeout):
        port.handle.write(b"x", timeout=0.1)
    port.set_power(D0)
    assert bytes(port.line.sent) == b""


def test_d0_in_d0_leaves_the_hardware_alone(port: StopPort) -> None:
    assert isinstance(port.line, Recorder)
    done_to(port)
    before = port.line.touched
    assert port.set_power(D0) == STATUS_SUCCESS
    assert done_to(port) == [] and port.line.touched == before


def test_d3_twice(port: StopPort) -> None:
    for _ in range(2):
        assert port.set_power(D3) == STATUS_SUCCESS
    port.set_power(D0)
    port.handle.write(b"x")
    assert bytes(port.line.sent) == b"x"


def test_a_power_request_does_not_wait_in_the_dispatch_routine(port: StopPort) -> None:
    """Both ways are gone on a worker, with the request pending."""
    for state in (D3, D0):
        irp, event, status = port.submit_power(PowerMinor.SET_POWER, PowerStateType.DEVICE, state)
        assert status == STATUS_PENDING and not now(event.signaled)
        port.settle()
        assert event.signaled and irp.io_status.status == STATUS_SUCCESS


def test_the_questions_are_agreed_to(port: StopPort) -> None:
    irp, _, status = port.submit_power(PowerMinor.QUERY_POWER, PowerStateType.DEVICE, D3)
    assert status == irp.io_status.status == STATUS_SUCCESS
    port.handle.write(b"x")
    assert bytes(port.line.sent) == b"x"


def test_the_systems_states_are_the_power_managers(port: StopPort) -> None:
    """They are passed on as they came: nothing here is done about them."""
    for minor in (PowerMinor.SET_POWER, PowerMinor.QUERY_POWER, PowerMinor.WAIT_WAKE):
        port.submit_power(minor, PowerStateType.SYSTEM, SystemPowerState.SLEEPING3)
    port.handle.write(b"x")
    assert bytes(port.line.sent) == b"x" and port.extension.power_state == D0


def test_a_setting_whose_turn_had_come_has_it_again(port: StopPort) -> None:
    change = port.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600))
    port.submit_power(PowerMinor.SET_POWER, PowerStateType.DEVICE, D3)
    port.settle()
    assert waits(change) and port.line.settings.baudrate == 115200
    port.set_power(D0)
    assert change.status == STATUS_SUCCESS and port.line.settings.baudrate == 9600


# -- with Plug and Play ------------------------------------------------------------------------------------------------


def test_a_port_that_sleeps_can_be_stopped_and_a_start_wakes_it(port: StopPort) -> None:
    old = port.line
    port.set_power(D3)
    done_to(port)
    dtr = port.submit_dtr(True)
    port.stop()
    old.feed(b"x")
    assert isinstance(old, Recorder) and old.untaken == 1
    line = port.start()
    assert dtr.status == STATUS_SUCCESS and port.extension.power_state == D0
    port.handle.write(b"x")
    assert bytes(line.sent) == b"x" and old.done == []


def test_a_port_that_is_lent_sleeps_and_wakes_without_its_line(port: StopPort) -> None:
    port.stop()
    write, dtr = port.handle.submit_write(b"x"), port.submit_dtr(True)
    for state in (D3, D0):
        assert port.set_power(state) == STATUS_SUCCESS
        assert waits(write, dtr)
    line = port.start()
    assert (write.status, dtr.status, bytes(line.sent)) == (STATUS_SUCCESS, STATUS_SUCCESS, b"x")


def test_a_port_that_was_lent_with_power_is_not_released_by_power_alone(port: StopPort) -> None:
    port.set_power(D3)
    port.stop()
    write, dtr = port.handle.submit_write(b"x"), port.submit_dtr(True)
    port.set_power(D0)
    assert waits(write, dtr)
    port.start()
    assert (write.status, dtr.status) == (STATUS_SUCCESS, STATUS_SUCCESS)


def test_removal_of_a_port_that_sleeps_ends_everything(port: StopPort) -> None:
    port.feed(b"a")
    port.set_power(D3)
    requests = [port.handle.submit_write(b"x"), port.submit_dtr(True), port.set_baud_rate(9600), flush(port)]
    read = port.handle.submit_read(5)
    port.bridge.unplug(port.name)
    assert [request.status for request in requests] == [STATUS_DEVICE_NOT_CONNECTED] * 4
    assert end_of(read) == (STATUS_SUCCESS, b"a")
    port.handle.close()
    assert port.bridge.devices() == []


def test_a_port_that_is_pulled_out_while_it_sleeps_says_so(port: StopPort) -> None:
    read = port.handle.submit_read(5)
    port.set_power(D3)
    port.line.feed(b"bye")
    port.unplug()
    assert end_of(read) == (STATUS_SUCCESS, b"bye")
    with pytest.raises(DeviceGone):
        port.handle.read(1)
    assert port.bridge.devices()[0]["state"] == "surprise-removed"


def test_a_line_that_cannot_be_programmed_when_it_wakes_counts_as_gone(port: StopPort) -> None:
    read, write = port.handle.submit_read(5), port.handle
    port.set_power(D3)
    held = write.submit_write(b"x")

    def refuse(settings: LineSettings) -> None:
        raise DeviceUnsupported(f"no {settings.baudrate} baud any more")

    port.line.configure = refuse  # type: ignore[method-assign]
    assert port.set_power(D0) == STATUS_SUCCESS, "SET_POWER is not refused"
    assert (read.status, held.status) == (STATUS_DEVICE_NOT_CONNECTED, STATUS_DEVICE_NOT_CONNECTED)
    with pytest.raises(DeviceGone, match=r"COM1 does not work after its sleep: no 115200 baud any more"):
        port.handle.write(b"x")
    assert bytes(port.line.sent) == b""


def test_a_removal_waits_for_a_power_request_that_is_under_way(port: StopPort) -> None:
    irp, event, _ = port.submit_power(PowerMinor.SET_POWER, PowerStateType.DEVICE, D3)
    port.handle.close()
    assert not now(event.signaled) and port.extension.remove_lock.tags == {irp: 1}
    assert port.send(PnpMinor.REMOVE_DEVICE) == STATUS_SUCCESS
    assert event.signaled and irp.io_status.status == STATUS_SUCCESS


def test_after_the_removal_power_requests_are_refused(make_port: MakePort) -> None:
    """Who sends one does so against the rules, which a verifier would say first."""
    port = make_port(verify=False)
    device = port.device
    port.handle.close()
    port.bridge.unplug(port.name)
    assert device.extension.remove_lock.removed
    irp = port.bridge.io.allocate_irp(1)
    irp.next_stack_location.major_function = 0x16
    irp.io_status.status = STATUS_NOT_SUPPORTED
    assert port.bridge.io.call_driver(device, irp) == STATUS_DELETE_PENDING
