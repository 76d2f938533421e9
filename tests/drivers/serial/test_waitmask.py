"""SET_WAIT_MASK, GET_WAIT_MASK, WAIT_ON_MASK: the mask, its history, and how a wait ends."""

from __future__ import annotations

import pytest

from hilbridge.model import ntddser as ser
from hilbridge.model.codes import DevicePowerState, IrpMajor
from hilbridge.model.parameters import NO_PARAMETERS
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
)
from tests.drivers.serial.serialkit import Port, end_of, waits
from tests.drivers.serial.stopkit import MakePort, StopPort
from tests.drivers.serial.waitkit import get_mask, set_mask, told, wait

RXCHAR, TXEMPTY, CTS = ser.SERIAL_EV_RXCHAR, ser.SERIAL_EV_TXEMPTY, ser.SERIAL_EV_CTS


@pytest.fixture
def make_port(make_stop_port: MakePort) -> MakePort:
    return make_stop_port


@pytest.fixture
def port(stop_port: StopPort) -> StopPort:
    return stop_port


# -- the mask ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, *(1 << bit for bit in range(13)), 0x1FFF])
def test_each_defined_bit_can_be_asked_for(port: Port, mask: int) -> None:
    set_mask(port, mask)
    assert get_mask(port) == mask


@pytest.mark.parametrize("bad", [1 << 13, 1 << 31, 0xFFFF_FFFF, 0x2001])
def test_undefined_bits_are_refused_and_change_nothing(port: Port, bad: int) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    refused = port.control(ser.IOCTL_SERIAL_SET_WAIT_MASK, ser.pack_ulong(bad))
    assert refused.status == STATUS_INVALID_PARAMETER
    assert get_mask(port) == RXCHAR and waits(request)


def test_nobody_has_a_mask_at_first(port: Port) -> None:
    assert get_mask(port) == 0
    assert end_of(wait(port)) == (STATUS_INVALID_PARAMETER, b"")


def test_a_mask_of_nothing_cannot_be_waited_for(port: Port) -> None:
    set_mask(port, RXCHAR)
    set_mask(port, 0)
    assert end_of(wait(port)) == (STATUS_INVALID_PARAMETER, b"")


def test_one_waits_at_a_time(port: Port) -> None:
    set_mask(port, RXCHAR)
    first = wait(port)
    assert end_of(wait(port)) == (STATUS_INVALID_PARAMETER, b"")
    assert waits(first)
    port.feed(b"x")
    assert told(first) == RXCHAR


def test_after_the_end_of_a_wait_the_next_may_come(port: Port) -> None:
    set_mask(port, RXCHAR)
    for byte in (b"a", b"b", b"c"):
        request = wait(port)
        assert waits(request)
        port.feed(byte)
        assert told(request) == RXCHAR


# -- the history -------------------------------------------------------------------------------------------------------


def test_what_happened_while_nobody_waited_is_told_at_once_and_once(port: Port) -> None:
    set_mask(port, RXCHAR)
    port.feed(b"x")
    assert told(wait(port)) == RXCHAR
    assert waits(wait(port))


def test_what_was_there_before_the_mask_is_no_event(port: Port) -> None:
    port.feed(b"old")
    set_mask(port, RXCHAR)
    request = wait(port)
    assert waits(request)
    port.feed(b"n")
    assert told(request) == RXCHAR


def test_events_add_up(port: Port) -> None:
    set_mask(port, RXCHAR | TXEMPTY)
    port.feed(b"x")
    port.handle.write(b"y")
    port.settle()
    assert told(wait(port)) == RXCHAR | TXEMPTY


def test_what_is_not_in_the_mask_is_not_kept(port: Port) -> None:
    set_mask(port, TXEMPTY)
    port.feed(b"x")
    set_mask(port, RXCHAR)
    assert waits(wait(port))


def test_a_new_mask_keeps_what_it_has_of_the_history(port: Port) -> None:
    set_mask(port, RXCHAR | TXEMPTY)
    port.feed(b"x")
    port.handle.write(b"y")
    port.settle()
    set_mask(port, TXEMPTY | CTS)
    assert told(wait(port)) == TXEMPTY


def test_an_event_that_nobody_has_been_told_of_yet_is_the_waits(port: StopPort) -> None:
    """The ISR has taken the byte, and its DPC has not run: the old mask had it, and the old wait was there."""
    set_mask(port, RXCHAR)
    request = wait(port)
    port.extension.inbox.append(b"x")
    set_mask(port, TXEMPTY)
    assert told(request) == RXCHAR
    assert waits(wait(port))


def test_a_second_wait_may_come_when_the_first_has_its_event(port: StopPort) -> None:
    set_mask(port, RXCHAR)
    first = wait(port)
    port.extension.inbox.append(b"x")
    second = wait(port)
    assert told(first) == RXCHAR and waits(second)


# -- how a wait ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0, RXCHAR, TXEMPTY])
def test_a_new_mask_ends_the_wait_with_nothing(port: Port, mask: int) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    set_mask(port, mask)
    assert told(request) == 0


def test_it_can_be_cancelled_and_loses_nothing(port: Port) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    request.cancel()
    assert end_of(request) == (STATUS_CANCELLED, b"")
    port.feed(b"x")
    assert told(wait(port)) == RXCHAR


def test_it_ends_with_its_handle_and_takes_the_mask_along(port: StopPort) -> None:
    with port.open() as other:
        set_mask(port, RXCHAR)
        set_mask(port, RXCHAR, other)
        mine, others = wait(port), wait(port, other)
        port.handle.close()
        assert end_of(mine) == (STATUS_CANCELLED, b"") and waits(others)
        port.feed(b"x")
        assert told(others) == RXCHAR
    assert port.extension.waits.watches == [] and port.extension.watched == 0
    with port.open() as again:
        assert get_mask(port, again) == 0


def test_the_drivers_own_cleanup_ends_it(port: StopPort) -> None:
    """Without the I/O manager, which would cancel what a driver forgets."""
    set_mask(port, RXCHAR)
    request = wait(port)
    port.bridge.io.send_and_wait(port.device, port.handle.file, IrpMajor.CLEANUP, NO_PARAMETERS)
    assert end_of(request) == (STATUS_CANCELLED, b"")
    set_mask(port, RXCHAR)  # a request that was on its way
    port.bridge.io.send_and_wait(port.device, port.handle.file, IrpMajor.CLOSE, NO_PARAMETERS)
    assert port.extension.waits.watches == [] and port.extension.watched == 0


def test_it_ends_with_the_device(port: Port) -> None:
    set_mask(port, TXEMPTY)
    request = wait(port)
    port.unplug()
    assert end_of(request) == (STATUS_DEVICE_NOT_CONNECTED, b"")


def test_what_the_device_did_last_is_told_before_it_goes(port: Port) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    port.line.feed(b"bye")
    port.unplug()
    assert told(request) == RXCHAR


def test_none_begins_when_it_has_gone(port: StopPort) -> None:
    """The driver has heard of it; the removal is still to come."""
    set_mask(port, RXCHAR)
    earlier = wait(port)
    port.line.unplug()
    port.machine.step()
    assert port.extension.gone is not None
    assert end_of(earlier) == (STATUS_DEVICE_NOT_CONNECTED, b"")
    request = port.handle.submit_ioctl(ser.IOCTL_SERIAL_WAIT_ON_MASK, size=4)
    assert end_of(request) == (STATUS_DEVICE_NOT_CONNECTED, b"")
    port.settle()


# -- who is told -------------------------------------------------------------------------------------------------------


def test_each_handle_has_a_mask_of_its_own(port: Port) -> None:
    with port.open() as other:
        set_mask(port, TXEMPTY)
        set_mask(port, RXCHAR, other)
        mine, others = wait(port), wait(port, other)
        port.feed(b"x")
        assert told(others) == RXCHAR and waits(mine)
        set_mask(port, RXCHAR, other)
        assert waits(mine)
        port.handle.write(b"y")
        port.settle()
        assert told(mine) == TXEMPTY


# -- while the device is stopped, or asleep ------------------------------------------------------------------------------


def test_a_wait_outlasts_a_stop(port: StopPort) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    port.stop()
    assert waits(request) and get_mask(port) == RXCHAR
    port.start()
    assert waits(request)
    port.feed(b"x")
    assert told(request) == RXCHAR


def test_all_three_are_served_while_it_is_stopped(port: StopPort) -> None:
    port.stop()
    set_mask(port, RXCHAR)
    request = wait(port)
    assert waits(request) and len(port.extension.hold) == 0
    set_mask(port, TXEMPTY)
    assert told(request) == 0
    again = wait(port)
    again.cancel()
    assert end_of(again) == (STATUS_CANCELLED, b"")
    port.start()


def test_what_the_line_had_at_the_stop_is_an_event(port: StopPort) -> None:
    set_mask(port, RXCHAR)
    request = wait(port)
    port.line.feed(b"x")
    port.stop()
    assert told(request) == RXCHAR
    port.start()


def test_a_wait_ends_with_the_removal_of_a_stopped_device(make_port: MakePort) -> None:
    port = make_port()
    set_mask(port, RXCHAR)
    request = wait(port)
    port.stop()
    port.bridge.unplug(port.name)
    port.settle()
    assert end_of(request) == (STATUS_DEVICE_NOT_CONNECTED, b"")


def test_a_wait_outlasts_a_sleep(port: StopPort) -> None:
    set_mask(port, RXCHAR | CTS)
    request = wait(port)
    assert port.set_power(DevicePowerState.D3) == STATUS_SUCCESS
    port.pass_time(1000)
    assert waits(request)
    assert port.set_power(DevicePowerState.D0) == STATUS_SUCCESS
    port.feed(b"x")
    assert told(request) == RXCHAR
