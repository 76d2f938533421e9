"""I/O targets and the continuous reader: time-outs, cancellation, what is held, and that a removal ends them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hilbridge import Bridge, DriverFault, ddk
from hilbridge.model.codes import PnpMinor
from hilbridge.virtual.line import VirtualLine
from tests.ddk.ddkkit import Bare, bare, dpc, plug, plugged

ECHO = ddk.ctl_code(ddk.FILE_DEVICE_UNKNOWN, 0x800, ddk.METHOD_BUFFERED, 0)
METHODS = [ddk.ctl_code(ddk.FILE_DEVICE_UNKNOWN, 0x800, method, 0) for method in range(4)]


class Below(Bare):
    """The device that is talked to: reads and writes wait in `kept`, controls are answered."""

    __module__ = "tests.ddk.below"

    def __init__(self, init: ddk.DeviceInit) -> None:
        super().__init__(init)
        ddk.ParallelQueue(
            self, read=self.keep, write=self.keep, device_control=self.control, internal_device_control=self.control
        )

    def control(self, request: ddk.Request) -> None:
        request.complete(data=request.input[::-1][: request.length])


class Above(Bare):
    """The driver under test: stands on `Below` in one stack, and has no queues."""

    __module__ = "tests.ddk.above"


class Pair:
    def __init__(self, bridge: Bridge) -> None:
        bridge.plug(
            "virtual:null", name="DUT", driver=ddk.driver(Below), upper_filters=[ddk.driver(Above, filter=True)]
        )
        self.bridge = bridge
        stack = bridge.stack("DUT")
        self.above, self.below = ddk.context_of(stack[0], Above), ddk.context_of(stack[1], Below)
        self.target = self.above.target
        self.ends: list[ddk.Sent] = []

    def pnp(self, minor: PnpMinor) -> ddk.NtStatus:
        return self.bridge.io.send_pnp(self.above.physical_device, minor)

    def later(self, milliseconds: float, work: Any) -> None:
        self.bridge.ke.set_timer(ddk.Ktimer(), ddk.relative_ms(milliseconds), 0, dpc(work, self.below.device_object))

    def seconds(self) -> float:
        return self.bridge.ke.clock.now() / 1e9


@contextmanager
def pair() -> Iterator[Pair]:
    with Bridge.manual(verify=True) as bridge:
        yield Pair(bridge)
        bridge.close()
        assert not bridge.findings, [str(finding) for finding in bridge.findings]


# -- synchronous ---------------------------------------------------------------------------------------------------------


def test_read_and_write_wait_for_the_answer() -> None:
    with pair() as it:
        it.later(10, lambda: it.below.kept[0].complete(data=b"abc"))
        assert it.target.read(8) == b"abc"
        it.later(10, lambda: it.below.kept[1].complete(information=2))
        assert it.target.write(b"xyz") == 2
        assert it.below.kept[1].input == b"xyz"
        assert len(it.target) == 0


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("code", METHODS)
def test_ioctl_by_every_method(code: int, internal: bool) -> None:
    with pair() as it:
        if ddk.ioctl_method(code) == ddk.METHOD_IN_DIRECT:
            assert it.target.ioctl(code, b"abcd", internal=internal) == b""  # its second buffer is input, too
        else:
            assert it.target.ioctl(code, b"abcd", 16, internal=internal) == b"dcba"


def test_an_error_is_raised_with_its_status() -> None:
    with pair() as it:
        it.later(1, lambda: it.below.kept[0].complete(ddk.STATUS_DEVICE_DATA_ERROR))
        with pytest.raises(ddk.NtStatusError, match="DEVICE_DATA_ERROR: READ sent to") as caught:
            it.target.read(1)
        assert caught.value.status == ddk.STATUS_DEVICE_DATA_ERROR


def test_a_time_out_cancels_and_says_so() -> None:
    with pair() as it:
        before = it.seconds()
        with pytest.raises(ddk.NtStatusError) as caught:
            it.target.read(1, timeout=3)
        assert caught.value.status == ddk.STATUS_IO_TIMEOUT
        assert it.seconds() - before == 3
        assert len(it.below.cancelled) == 1


def test_a_request_that_succeeds_although_it_was_cancelled_succeeds() -> None:
    with pair() as it:
        it.below.cancel = lambda request: request.complete(data=b"late")  # type: ignore[assignment, method-assign]
        assert it.target.read(4, timeout=1) == b"late"


def test_who_does_not_let_go_is_reported_and_the_wait_ends() -> None:
    with pair() as it:
        it.below.keep = it.below.clutch  # type: ignore[method-assign]
        it.below.queues[0]._handlers[ddk.IrpMajor.READ] = it.below.clutch  # type: ignore[index]
        with pytest.raises(ddk.NtStatusError, match="DRIVER_PROCESS_TERMINATED"):
            it.target.read(1, timeout=1)
        (fault,) = it.bridge.acknowledge_faults()
        assert isinstance(fault, DriverFault)
        assert fault.driver == "below"
        assert "did not end <READ sent to" in str(fault)


# -- asynchronous --------------------------------------------------------------------------------------------------------


def test_a_callback_is_called_once_with_the_outcome() -> None:
    with pair() as it:
        sent = it.target.submit_read(8, it.ends.append)
        assert not sent.done
        it.below.kept[0].complete(data=b"abc")
        assert it.ends == [sent]
        assert (sent.status, sent.information, sent.data) == (ddk.STATUS_SUCCESS, 3, b"abc")
        assert not sent.cancel()
        assert it.bridge.ke.timers.running() == []


def test_a_time_out_of_an_asynchronous_request() -> None:
    with pair() as it:
        it.target.submit_write(b"x", it.ends.append, timeout=2)
        it.bridge.machine.advance(1.9)
        assert it.ends == []
        it.bridge.machine.advance(0.2)
        assert [sent.status for sent in it.ends] == [ddk.STATUS_IO_TIMEOUT]


def test_a_request_that_ends_in_time_leaves_no_timer() -> None:
    with pair() as it:
        it.target.submit_write(b"x", it.ends.append, timeout=2)
        it.below.kept[0].complete(information=1)
        assert it.bridge.ke.timers.running() == []


def test_cancel_is_no_time_out() -> None:
    with pair() as it:
        sent = it.target.submit_read(8, it.ends.append, timeout=2)
        assert sent.cancel()
        assert sent.status == ddk.STATUS_CANCELLED


def test_a_callback_that_raises_is_the_fault_of_its_driver() -> None:
    def wrong(sent: ddk.Sent) -> None:
        raise KeyError("what")

    with pair() as it:
        it.target.submit_ioctl(ECHO, wrong, b"ab", 2)
        (fault,) = it.bridge.acknowledge_faults()
        assert "driver above" in str(fault)
        assert "a completion callback" in str(fault)
        assert len(it.target) == 0


# -- states --------------------------------------------------------------------------------------------------------------


def test_what_is_sent_to_a_stopped_target_waits_for_its_start() -> None:
    with pair() as it:
        it.target.stop()
        first = it.target.submit_read(1, it.ends.append)
        second = it.target.submit_read(1, it.ends.append, timeout=1)
        third = it.target.submit_read(1, it.ends.append)
        assert not it.below.kept
        assert third.cancel()
        it.bridge.machine.advance(1.5)
        assert (second.status, third.status) == (ddk.STATUS_IO_TIMEOUT, ddk.STATUS_CANCELLED)
        it.target.start()
        assert len(it.below.kept) == 1
        it.below.kept[0].complete(data=b"x")
        assert first.data == b"x"


def test_a_stop_may_cancel_what_is_away() -> None:
    with pair() as it:
        sent = it.target.submit_read(1, it.ends.append)
        it.target.stop()
        assert not sent.done
        it.target.stop(cancel_sent=True)
        assert sent.status == ddk.STATUS_CANCELLED


@pytest.mark.parametrize("stopped", [False, True])
def test_a_removal_ends_what_was_sent(stopped: bool) -> None:
    with pair() as it:
        if stopped:
            it.target.stop()
        sent = it.target.submit_read(1, it.ends.append)
        it.bridge.unplug("DUT")
        assert sent.status == ddk.STATUS_DEVICE_NOT_CONNECTED
        assert it.target.submit_read(1, it.ends.append).status == ddk.STATUS_DEVICE_NOT_CONNECTED
        assert len(it.ends) == 2


def test_a_closing_bridge_ends_what_was_sent() -> None:
    with pair() as it:
        sent = it.target.submit_read(1, it.ends.append)
        it.bridge.close()
        assert sent.status == ddk.STATUS_DELETE_PENDING


def test_a_removal_ends_what_a_request_in_flight_waits_for() -> None:
    """The request is not cancelable, and ends with a read of the driver's own: nobody waits until the bound has passed."""

    def setup(self: Bare) -> None:
        def read(request: ddk.Request) -> None:
            self.target.submit_read(1, lambda sent: request.complete(sent.status))

        ddk.SequentialQueue(self, read=read)

    with Bridge.manual(verify=True) as bridge:
        entry = ddk.driver(bare(setup), filter=True)
        bridge.plug("virtual:null", name="DUT", driver=ddk.driver(Below), upper_filters=[entry])
        context = ddk.context_of(bridge.stack("DUT")[0], Bare)
        with bridge.open("DUT") as handle:
            request = handle.submit_read(1)
            before = bridge.ke.clock.now()
            context.go(ddk.STATUS_DELETE_PENDING)  # what REMOVE_DEVICE does first
            assert request.status == ddk.STATUS_DELETE_PENDING
            assert bridge.ke.clock.now() == before


def test_forwarding_with_a_time_out() -> None:
    def setup(self: Bare) -> None:
        ddk.ParallelQueue(self, read=lambda request: request.forward(self.target, timeout=1.5))

    with Bridge.manual(verify=True) as bridge:
        entry = ddk.driver(bare(setup), filter=True)
        bridge.plug("virtual:null", name="DUT", driver=ddk.driver(Below), upper_filters=[entry])
        with bridge.open("DUT") as handle:
            request = handle.submit_read(1)
            bridge.machine.advance(2)
            assert request.status == ddk.STATUS_IO_TIMEOUT
        assert not bridge.findings


def test_what_may_not_be_forwarded() -> None:
    """A cancelable request, and one that has no stack locations for where it is sent."""

    def cancelable(self: Bare) -> None:
        def read(request: ddk.Request) -> None:
            request.on_cancel(self.cancel)
            request.forward(self.target)

        def write(request: ddk.Request) -> None:
            request.forward(ddk.IoTarget(self, self.device_object))

        ddk.ParallelQueue(self, read=read, write=write)

    for access, words in (("r", "is cancelable: unmark"), ("w", "has no stack locations for")):
        with Bridge.manual() as bridge:
            plug(bridge, bare(cancelable))
            with bridge.open("DUT", access=access) as handle, pytest.raises(DriverFault, match=words):
                handle.read(1) if access == "r" else handle.write(b"x")
            bridge.acknowledge_faults()


# -- by name -------------------------------------------------------------------------------------------------------------


def test_another_device_by_its_name() -> None:
    line = VirtualLine("virtual:loop", loop=True)
    with plugged(bare(lambda self: None)) as it:
        it.bridge.plug(line, name="COM7")
        target = ddk.IoTarget.open(it.device, "COM7")
        assert target.write(b"hello") == 5
        assert target.read(5) == b"hello"
        assert it.bridge.devices()[1]["opens"] == 1
        waits = target.submit_read(1, lambda sent: None)
        target.close()
        assert waits.status == ddk.STATUS_DELETE_PENDING
        assert it.bridge.devices()[1]["opens"] == 0
        assert target not in it.device.targets
        again = ddk.IoTarget.open(it.device, "COM7")
        it.bridge.unplug("DUT")  # the driver's own device goes: its targets are closed
        assert again.file is None
        assert it.bridge.devices()[0]["opens"] == 0
        with pytest.raises(Exception, match="no device is named"):
            ddk.IoTarget.open(it.device, "COM99")


# -- the continuous reader -------------------------------------------------------------------------------------------------


class Reading(Bare):
    __module__ = "tests.ddk.above"
    again = True

    def __init__(self, init: ddk.DeviceInit) -> None:
        super().__init__(init)
        self.heard: list[bytes] = []
        self.errors: list[ddk.NtStatus] = []
        self.reader = ddk.ContinuousReader(
            self.target,
            self.heard.append,
            length=4,
            pending=3,
            on_error=self.failed if self.again is not None else None,
        )

    def failed(self, status: ddk.NtStatus) -> bool:
        assert self.ke.irql == ddk.PASSIVE_LEVEL
        self.errors.append(status)
        return self.again


@contextmanager
def reading(**options: Any) -> Iterator[tuple[Bridge, Reading, Below]]:
    made = type("MadeReading", (Reading,), {"__module__": "tests.ddk.above", **options})
    with Bridge.manual(verify=True) as bridge:
        below = ddk.driver(Below)
        bridge.plug("virtual:null", name="DUT", driver=below, upper_filters=[ddk.driver(made, filter=True)])
        stack = bridge.stack("DUT")
        yield bridge, ddk.context_of(stack[0], Reading), ddk.context_of(stack[1], Below)
        bridge.close()
        assert not bridge.findings, [str(finding) for finding in bridge.findings]


def out(below: Below) -> list[ddk.Request]:
    return [request for request in below.kept if not request.ended]


def test_so_many_reads_are_always_out() -> None:
    with reading() as (_, above, below):
        assert len(out(below)) == 3
        for number in range(5):
            out(below)[0].complete(data=b"%d" % number)
            assert len(out(below)) == 3
        assert above.heard == [b"0", b"1", b"2", b"3", b"4"]


def test_what_comes_back_in_another_order_is_told_in_the_order_of_the_reads() -> None:
    with reading() as (_, above, below):
        first, second, third = out(below)
        third.complete(data=b"3")
        second.complete(data=b"2")
        assert above.heard == []
        first.complete(data=b"1")
        assert above.heard == [b"1", b"2", b"3"]
        assert len(out(below)) == 3


def test_a_device_that_always_has_something_uses_no_stack() -> None:
    left = [5000]

    def read(request: ddk.Request) -> None:
        if left[0]:
            left[0] -= 1
            request.complete(data=b"x")
        else:
            request.on_cancel(lambda request: request.complete(ddk.STATUS_CANCELLED))

    with reading() as (bridge, above, below):
        bridge.io.send_pnp(below.physical_device, PnpMinor.QUERY_STOP_DEVICE)
        bridge.io.send_pnp(below.physical_device, PnpMinor.STOP_DEVICE)
        below.queues[0]._handlers[ddk.IrpMajor.READ] = read  # type: ignore[index]
        bridge.io.send_pnp(below.physical_device, PnpMinor.START_DEVICE)
        assert above.heard == [b"x"] * 5000


def test_it_stops_with_its_device_and_starts_again() -> None:
    with reading() as (bridge, above, below):
        before = out(below)
        bridge.io.send_pnp(below.physical_device, PnpMinor.QUERY_STOP_DEVICE)
        bridge.io.send_pnp(below.physical_device, PnpMinor.STOP_DEVICE)
        assert all(request.ended for request in before)
        assert not above.reader.running
        bridge.io.send_pnp(below.physical_device, PnpMinor.START_DEVICE)
        out(below)[0].complete(data=b"x")
        assert above.heard == [b"x"]
        assert above.errors == []
        bridge.unplug("DUT")
        assert not above.reader.running
        assert above.reader.failed is None


@pytest.mark.parametrize("again", [True, False, None])
def test_after_an_error_the_driver_is_asked_when_all_reads_are_back(again: bool | None) -> None:
    with reading(again=again) as (bridge, above, below):
        out(below)[1].complete(ddk.STATUS_DEVICE_DATA_ERROR)
        assert above.reader.running  # the first one has its turn before it
        out(below)[0].complete(data=b"pre")
        bridge.machine.run_until_idle()
        assert above.heard == [b"pre"]
        assert above.errors == ([] if again is None else [ddk.STATUS_DEVICE_DATA_ERROR])
        assert above.reader.running is (again is True)
        assert above.reader.failed == (None if again else ddk.STATUS_DEVICE_DATA_ERROR)
        assert len(out(below)) == (3 if again else 0)


def test_on_data_that_raises_is_the_drivers_fault() -> None:
    with reading() as (bridge, above, below):
        above.reader._on_data = lambda data: int("x")
        out(below)[0].complete(data=b"x")
        (fault,) = bridge.acknowledge_faults()
        assert "driver above" in str(fault)
        assert "its reader's on_data" in str(fault)


def test_a_reader_on_a_serial_port_by_name() -> None:
    """A stream: a read ends with what is there, and nothing is lost over a stop."""
    line = VirtualLine("virtual:line")
    heard: list[bytes] = []

    def prepare(self: Bare, _resources: Any) -> None:
        self.diary.append("prepare")
        ddk.ContinuousReader(ddk.IoTarget.open(self, "COM7"), heard.append)

    with Bridge.manual(verify=True) as bridge:
        bridge.plug(line, name="COM7")
        plug(bridge, bare(lambda self: None, prepare_hardware=prepare))
        line.feed(b"abc")
        bridge.machine.run_until_idle()
        line.feed(b"de")
        bridge.machine.run_until_idle()
        assert heard == [b"abc", b"de"]
        bridge.unplug("DUT")
        line.feed(b"f")
        with bridge.open("COM7") as handle:
            assert handle.read(1) == b"f"
        assert not bridge.findings
