"""A reset that does not come to its end: cancelled, purged, closed, stopped, put to sleep, unplugged, at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hilbridge import DeviceGone, DeviceTimeout, Request
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import DevicePowerState, PnpMinor
from hilbridge.model.ntddser import SerialResetStep
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.drivers.serial.resetkit import BREAK, DTR, PULSE, RTS, TWO_WAITS, Edges, ResetPort, times, unread
from tests.drivers.serial.serialkit import fault_of, sent, waits
from tests.drivers.serial.test_cancel_races import Interrupted

MakePort = Callable[..., ResetPort]
MODULES = ("hilbridge.drivers.serial", "hilbridge.iomgr.csq", "hilbridge.iomgr.hold")

ALL_THREE = (SerialResetStep(BREAK, BREAK, 10_000), *TWO_WAITS)
MOMENTS = (0, 5, 10, 50, 110, 130)
"""Milliseconds at which `ALL_THREE` is in each of its waits, and just at a step."""


def end_by_cancel(port: ResetPort, request: Request) -> None:
    request.cancel()


def end_by_purge(port: ResetPort, request: Request) -> None:
    port.purge(ser.SERIAL_PURGE_TXABORT)


def end_by_close(port: ResetPort, request: Request) -> None:
    port.handle.close()


endings = pytest.mark.parametrize("end", [end_by_cancel, end_by_purge, end_by_close])


@endings
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("dtr", [True, False])
def test_outputs_are_put_back(
    reset_port: ResetPort, end: Callable[[ResetPort, Request], None], moment: float, dtr: bool
) -> None:
    """Those that the application has set as it has set them, and the others as opening the port has left them: asserted."""
    reset_port.handle.dtr = dtr
    request = reset_port.submit_reset(ALL_THREE)
    reset_port.pass_time(moment)
    assert waits(request)
    end(reset_port, request)
    reset_port.settle()
    assert request.status == STATUS_CANCELLED
    assert reset_port.line.outputs == (dtr, True, False)
    assert reset_port.clean
    reset_port.line.edges.clear()
    reset_port.pass_time(1000)
    assert reset_port.line.edges == []


@endings
def test_lines_that_no_step_has_touched_are_left_alone(
    reset_port: ResetPort, end: Callable[[ResetPort, Request], None]
) -> None:
    request = reset_port.submit_reset(ALL_THREE)
    end(reset_port, request)
    reset_port.settle()
    assert times(reset_port.line) == [(0, "break=1"), (0, "break=0")]


def test_a_break_that_was_held_before_is_held_again(reset_port: ResetPort) -> None:
    reset_port.handle.set_break(True)
    request = reset_port.submit_reset((SerialResetStep(BREAK, 0, 1000),))
    assert not reset_port.line.break_on
    request.cancel()
    reset_port.settle()
    assert reset_port.line.break_on


def test_what_is_written_meanwhile_goes_out_when_the_outputs_are_back(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    write = reset_port.handle.submit_write(b"after")
    reset_port.pass_time(30)
    request.cancel()
    reset_port.settle()
    assert write.status == STATUS_SUCCESS
    assert reset_port.line.edges == [(0, "dtr=0", 0), (30, "dtr=1", 0)]
    assert sent(reset_port) == b"after"


def test_what_is_written_after_the_cancel_waits_for_the_outputs(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    request.cancel()
    write = reset_port.handle.submit_write(b"after")
    assert waits(request, write)
    assert sent(reset_port) == b""
    reset_port.settle()
    assert request.status == STATUS_CANCELLED
    assert write.status == STATUS_SUCCESS
    assert reset_port.line.edges == [(0, "dtr=0", 0), (0, "dtr=1", 0)]


def test_one_whose_turn_has_just_come_touches_nothing(reset_port: ResetPort) -> None:
    """The work item that was to begin it is on its way."""
    request = reset_port.handle.submit_ioctl(ser.IOCTL_HILBRIDGE_RESET, ser.pack_reset(PULSE), size=8)
    request.cancel()
    reset_port.settle()
    assert request.status == STATUS_CANCELLED
    assert reset_port.line.edges == []
    assert reset_port.clean


class Meanwhile(Edges):
    """Something happens while DTR is being released."""

    happens: Callable[[], object] | None = None

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        super().set_modem_control(dtr=dtr, rts=rts)
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()


def test_cancelled_in_the_middle_of_a_step(make_reset_port: MakePort) -> None:
    """The wait behind that step does not begin."""
    line = Meanwhile()
    port = make_reset_port(line=line, verify=False)
    request = port.handle.submit_ioctl(ser.IOCTL_HILBRIDGE_RESET, ser.pack_reset(PULSE), size=8)
    line.happens = request.cancel
    port.settle()
    assert request.status == STATUS_CANCELLED
    assert times(line) == [(0, "dtr=0"), (0, "dtr=1")]
    assert port.clean


@pytest.mark.parametrize("late_by", [0, 1000])
def test_a_cancellation_that_has_the_request_counts_although_the_last_step_is_done(
    make_reset_port: MakePort, late_by: float
) -> None:
    """It has taken the request's cancel routine; until it has got hold of the driver's lock the time goes on."""
    port = make_reset_port(io_manager=Interrupted, verify=False)
    io = port.bridge.io
    assert isinstance(io, Interrupted)
    port.handle.dtr = False
    request = port.submit_reset()
    io.between = lambda: port.pass_time(100 + late_by)
    request.cancel()
    port.settle()
    assert request.status == STATUS_CANCELLED
    assert times(port.line)[-2:] == [(100, "dtr=1"), (100 + late_by, "dtr=0")]
    assert port.clean


def test_the_next_reset_has_its_own_times(reset_port: ResetPort) -> None:
    first, second = reset_port.submit_reset(), reset_port.submit_reset()
    reset_port.pass_time(30)
    first.cancel()
    reset_port.pass_time(200)
    assert second.status == STATUS_SUCCESS
    assert times(reset_port.line) == [(0, "dtr=0"), (30, "dtr=1"), (30, "dtr=0"), (130, "dtr=1")]


def test_one_that_waits_for_its_turn_touches_nothing(make_reset_port: MakePort) -> None:
    port = make_reset_port(room=0)
    port.handle.submit_write(b"x")
    request = port.submit_reset()
    request.cancel()
    port.accept(1)
    assert request.status == STATUS_CANCELLED
    assert port.line.edges == []
    assert port.clean


def test_deadline_of_the_call(reset_port: ResetPort) -> None:
    with pytest.raises(DeviceTimeout, match=r"reset on COM1 did not end within 0\.05 s"):
        reset_port.handle.reset("dtr", timeout=0.05)
    reset_port.settle()
    assert reset_port.line.outputs == (True, True, False)
    assert reset_port.bridge.pending() == []


def test_another_handles_close_does_not_concern_it(reset_port: ResetPort) -> None:
    reader = reset_port.open("r")
    request = reset_port.submit_reset()
    reader.close()
    reset_port.pass_time(100)
    assert request.status == STATUS_SUCCESS


# -- stop, sleep ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stop_puts_back_and_the_start_begins_anew(reset_port: ResetPort, moment: float) -> None:
    """Half a pulse is no reset; and the next owner of the port gets the lines as they were."""
    request = reset_port.submit_reset(ALL_THREE)
    write = reset_port.handle.submit_write(b"after")
    reset_port.pass_time(moment)
    first = reset_port.line
    reset_port.stop()
    assert first.outputs == (True, True, False)
    first.edges.clear()
    reset_port.pass_time(1000)
    assert waits(request, write)
    assert not len(reset_port.bridge.ke.timers)
    line = reset_port.start_edges()
    began = reset_port.milliseconds
    reset_port.pass_time(1000)
    assert request.status == write.status == STATUS_SUCCESS
    assert times(line) == [
        (began, "break=1"),
        (began + 10, "dtr=0,rts=1"),
        (began + 110, "rts=0"),
        (began + 160, "dtr=1"),
    ]
    assert line.edges[-1][2] == 0
    assert bytes(line.sent) == b"after"
    assert first.edges == []


def test_a_step_that_was_due_when_the_device_was_stopped_comes_to_nothing(reset_port: ResetPort) -> None:
    """Its work item is on its way, behind one that lends the port and takes it back."""
    ke = reset_port.bridge.ke
    lines: list[Edges] = []

    def lend() -> None:
        reset_port.stop()
        lines.append(Edges("virtual:other"))
        lines[0].now = lambda: reset_port.milliseconds
        reset_port.send(PnpMinor.START_DEVICE, reset_port.resources(lines[0]))

    def first(_dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        ke.queue_work_item(lend)

    ke.set_timer(Ktimer(), relative_ms(100), dpc=Kdpc(first))
    request = reset_port.submit_reset()
    reset_port.pass_time(1000)
    assert request.status == STATUS_SUCCESS
    assert times(lines[0]) == [(100, "dtr=0"), (200, "dtr=1")]


def test_one_that_is_asked_for_while_the_device_is_stopped_waits(reset_port: ResetPort) -> None:
    reset_port.stop()
    request = reset_port.submit_reset()
    reset_port.pass_time(1000)
    assert waits(request)
    line = reset_port.start_edges()
    reset_port.pass_time(100)
    assert request.status == STATUS_SUCCESS
    assert times(line) == [(1000, "dtr=0"), (1100, "dtr=1")]


def test_one_that_was_interrupted_by_a_stop_can_be_cancelled(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    reset_port.stop()
    request.cancel()
    reset_port.settle()
    assert request.status == STATUS_CANCELLED
    line = reset_port.start_edges()
    reset_port.pass_time(1000)
    assert line.edges == []
    assert reset_port.clean


def test_one_that_ends_between_query_stop_and_cancel_stop(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    assert reset_port.send(PnpMinor.QUERY_STOP_DEVICE) == STATUS_SUCCESS
    reset_port.pass_time(100)
    assert request.status == STATUS_SUCCESS
    assert reset_port.send(PnpMinor.CANCEL_STOP_DEVICE) == STATUS_SUCCESS
    assert times(reset_port.line) == [(0, "dtr=0"), (100, "dtr=1")]


def test_discard_counts_from_the_step_that_was_the_first_in_the_end(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset(discard=True)
    reset_port.feed(b"half a boot")
    reset_port.stop()
    line = reset_port.start_edges()
    line.feed(b"banner")
    reset_port.pass_time(1000)
    assert unread(request) == len("half a boot")
    assert reset_port.handle.read(6) == b"banner"


def test_sleep_is_like_a_stop(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    reset_port.pass_time(50)
    assert reset_port.set_power(DevicePowerState.D3) == STATUS_SUCCESS
    assert reset_port.line.outputs == (True, True, False)
    reset_port.pass_time(1000)
    assert waits(request)
    assert reset_port.set_power(DevicePowerState.D0) == STATUS_SUCCESS
    reset_port.pass_time(1000)
    assert request.status == STATUS_SUCCESS
    assert times(reset_port.line) == [(0, "dtr=0"), (50, "dtr=1"), (1050, "dtr=0"), (1150, "dtr=1")]


# -- removal -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS)
def test_unplug_ends_it(reset_port: ResetPort, moment: float) -> None:
    request = reset_port.submit_reset(ALL_THREE)
    write = reset_port.handle.submit_write(b"after")
    reset_port.pass_time(moment)
    reset_port.unplug()
    assert isinstance(fault_of(request), DeviceGone)
    assert isinstance(fault_of(write), DeviceGone)
    assert reset_port.clean
    assert reset_port.bridge.pending() == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_pulled_out_of_the_bridge_the_board_is_not_left_in_reset(reset_port: ResetPort, moment: float) -> None:
    """The line itself is still there, and is closed afterwards: as it was."""
    request = reset_port.submit_reset(ALL_THREE)
    reset_port.pass_time(moment)
    reset_port.bridge.unplug(reset_port.name)
    assert isinstance(fault_of(request), DeviceGone)
    assert reset_port.line.outputs == (True, True, False)


def test_a_bridge_that_closes_in_the_middle(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    reset_port.close()
    assert request.done and not request.status.is_success
    assert reset_port.line.outputs == (True, True, False)


# -- races ---------------------------------------------------------------------------------------------------------------


class Raced:
    """A port, the time that passes on one thread, and what happens on another."""

    def __init__(self, happens: Callable[[ResetPort, Request], object]) -> None:
        line = Edges()
        self.port = ResetPort(verify=False, line=line)
        self.line = line
        self.request = self.port.submit_reset((SerialResetStep(DTR, 0, 1000), SerialResetStep(RTS, 0, 1000), *PULSE))
        self.write = self.port.handle.submit_write(b"after")
        self.happens = happens

    def time(self) -> None:
        for _ in range(4):
            self.port.pass_time(1)

    def race(self, check: Callable[[Raced], None]) -> Race:
        def after() -> None:
            self.port.settle()
            self.port.pass_time(1000)
            assert not self.port.bridge.faults, self.port.bridge.faults
            assert self.request.done and self.write.done
            assert self.port.bridge.pending() == []
            assert self.port.clean
            check(self)

        def act() -> None:
            self.happens(self.port, self.request)

        return Race({"time": self.time, "act": act}, after, self.port.close)


def everywhere(happens: Callable[[ResetPort, Request], object], check: Callable[[Raced], None]) -> None:
    explore(
        lambda: Raced(happens).race(check),
        granularity=Granularity.LINES,
        preemptions=1,
        samples=100,
        sample_preemptions=3,
        modules=MODULES,
    )


def was_put_back(raced: Raced) -> None:
    assert raced.request.status == STATUS_CANCELLED, "there was no time for it to end"
    assert raced.line.outputs == (True, True, False)
    assert raced.write.status == STATUS_SUCCESS
    assert all(count == 0 for _at, _what, count in raced.line.edges), "a write went out before the lines were back"


@pytest.mark.slow
def test_cancel_at_every_line() -> None:
    everywhere(end_by_cancel, was_put_back)


@pytest.mark.slow
def test_stop_and_start_at_every_line() -> None:
    def lend(port: ResetPort, _request: Request) -> None:
        port.stop()
        port.start_edges()

    def check(raced: Raced) -> None:
        assert raced.request.status == raced.write.status == STATUS_SUCCESS
        assert raced.line.outputs == (True, True, False), "the lender has got the lines as they were"
        assert raced.port.line.outputs == (True, False, False)

    everywhere(lend, check)


@pytest.mark.slow
def test_unplug_at_every_line() -> None:
    def check(raced: Raced) -> None:
        assert not raced.request.status.is_success

    everywhere(lambda port, _request: port.bridge.unplug(port.name), check)
