"""IOCTL_HILBRIDGE_RESET: when each line moves, what is sent before and after, and where reading begins."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from hilbridge import DevicePermission, DeviceUnsupported, Request
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceFault
from hilbridge.model.ntddser import SerialResetStep
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CANCELLED,
    STATUS_DEVICE_BUSY,
    STATUS_INVALID_PARAMETER,
    STATUS_NOT_SUPPORTED,
    STATUS_SUCCESS,
)
from tests.drivers.serial.resetkit import BREAK, DTR, PULSE, RTS, TWO_WAITS, Edges, ResetPort, times, unread
from tests.drivers.serial.serialkit import end_of, fault_of, flush, sent, waits

MakePort = Callable[..., ResetPort]


# -- the edges -----------------------------------------------------------------------------------------------------------


def test_each_edge_is_at_its_moment(reset_port: ResetPort) -> None:
    reset_port.pass_time(7)
    request = reset_port.submit_reset(TWO_WAITS)
    reset_port.pass_time(1000)
    assert times(reset_port.line) == [(7, "dtr=0,rts=1"), (107, "rts=0"), (157, "dtr=1")]
    assert request.status == STATUS_SUCCESS
    assert reset_port.clean


def test_it_ends_with_its_last_step_and_not_before(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset()
    reset_port.pass_time(99.9)
    assert waits(request)
    assert not reset_port.line.dtr
    reset_port.pass_time(0.1)
    assert request.status == STATUS_SUCCESS
    assert reset_port.line.dtr


def test_a_wait_at_the_end_is_kept(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset((SerialResetStep(DTR, 0, 20_000),))
    reset_port.pass_time(19)
    assert waits(request)
    reset_port.pass_time(1)
    assert request.status == STATUS_SUCCESS


def test_steps_without_a_wait_follow_at_once(reset_port: ResetPort) -> None:
    request = reset_port.submit_reset((SerialResetStep(DTR, 0), SerialResetStep(RTS, 0), SerialResetStep(DTR, DTR)))
    assert request.status == STATUS_SUCCESS
    assert times(reset_port.line) == [(0, "dtr=0"), (0, "rts=0"), (0, "dtr=1")]


def test_fractions_of_a_millisecond(reset_port: ResetPort) -> None:
    reset_port.submit_reset((SerialResetStep(DTR, 0, 100), SerialResetStep(DTR, DTR)))
    reset_port.pass_time(1)
    assert times(reset_port.line) == [(0, "dtr=0"), (0.1, "dtr=1")]


def test_waits_alone_come_first(reset_port: ResetPort) -> None:
    reset_port.submit_reset(
        (SerialResetStep(wait_us=5000), SerialResetStep(BREAK, BREAK, 1000), SerialResetStep(BREAK))
    )
    reset_port.pass_time(10)
    assert times(reset_port.line) == [(5, "break=1"), (6, "break=0")]


class Far(Edges):
    """At the end of a network: what it is told is done when the answer has come."""

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        super().set_modem_control(dtr=dtr, rts=rts)
        self.unsent = 1


def test_a_wait_begins_when_the_line_has_done_the_step(make_reset_port: MakePort) -> None:
    line = Far()
    port = make_reset_port(line=line)
    request = port.submit_reset()
    port.pass_time(500)
    assert times(line) == [(0, "dtr=0")]
    line.unsent = 0
    port.pass_time(99)
    assert times(line) == [(0, "dtr=0")]
    port.pass_time(2)
    assert times(line)[1][1] == "dtr=1"
    assert 599 < times(line)[1][0] <= 601
    port.pass_time(1000)
    assert waits(request)
    line.unsent = 0
    port.pass_time(1)
    assert request.status == STATUS_SUCCESS


def test_cancelled_while_the_line_is_at_it(make_reset_port: MakePort) -> None:
    line = Far()
    port = make_reset_port(line=line)
    request = port.submit_reset()
    port.pass_time(500)
    request.cancel()
    port.settle()
    assert request.status == STATUS_CANCELLED
    assert times(line) == [(0, "dtr=0"), (500, "dtr=1")]
    assert port.clean


def test_no_thread_waits(reset_port: ResetPort) -> None:
    """Between two steps there is a timer, and nothing else."""
    reset_port.submit_reset()
    assert reset_port.machine.run_until_idle() == 0
    assert len(reset_port.bridge.ke.timers) == 1


def test_outputs_are_known_afterwards_and_meanwhile(reset_port: ResetPort) -> None:
    reset_port.submit_reset()
    assert reset_port.handle.dtr is False
    reset_port.pass_time(100)
    assert reset_port.handle.dtr is True


# -- in its turn ---------------------------------------------------------------------------------------------------------


def test_what_was_written_before_is_sent_first_and_what_comes_later_afterwards(make_reset_port: MakePort) -> None:
    port = make_reset_port(room=0)
    before = port.handle.submit_write(b"before")
    request = port.submit_reset()
    after = port.handle.submit_write(b"after")
    port.pass_time(50)
    assert port.line.edges == []
    port.accept(100)
    assert before.status == STATUS_SUCCESS
    assert port.line.edges == [(50, "dtr=0", 6)]
    port.pass_time(99)
    assert waits(request, after)
    assert sent(port) == b"before"
    port.pass_time(1)
    assert port.line.edges == [(50, "dtr=0", 6), (150, "dtr=1", 6)]
    assert request.status == after.status == STATUS_SUCCESS
    assert sent(port) == b"beforeafter"


def test_it_waits_until_the_line_has_sent_everything(reset_port: ResetPort) -> None:
    reset_port.line.unsent = 20
    request = reset_port.submit_reset()
    reset_port.pass_time(500)
    assert waits(request)
    assert reset_port.line.edges == []
    reset_port.line.unsent = 0
    reset_port.pass_time(1000)
    assert request.status == STATUS_SUCCESS


def test_a_fast_write_does_not_slip_in(reset_port: ResetPort) -> None:
    reset_port.submit_reset()
    write, flushing = reset_port.handle.submit_write(b"x"), flush(reset_port)
    assert waits(write, flushing)
    assert sent(reset_port) == b""
    reset_port.pass_time(100)
    assert write.status == flushing.status == STATUS_SUCCESS


def test_two_resets_follow_each_other(reset_port: ResetPort) -> None:
    first, second = reset_port.submit_reset(), reset_port.submit_reset()
    reset_port.pass_time(1000)
    assert first.status == second.status == STATUS_SUCCESS
    assert times(reset_port.line) == [(0, "dtr=0"), (100, "dtr=1"), (100, "dtr=0"), (200, "dtr=1")]


def test_reading_goes_on_meanwhile(reset_port: ResetPort) -> None:
    read = reset_port.handle.submit_read(6)
    reset_port.submit_reset(discard=True)
    reset_port.feed(b"U-Boot")
    assert end_of(read) == (STATUS_SUCCESS, b"U-Boot")


# -- from the first byte -------------------------------------------------------------------------------------------------


def test_it_says_how_much_was_there_when_it_began(reset_port: ResetPort) -> None:
    reset_port.feed(b"old")
    request = reset_port.submit_reset()
    reset_port.feed(b"new")
    reset_port.pass_time(100)
    assert unread(request) == 3
    assert reset_port.handle.read(6) == b"oldnew"


def test_with_discard_reading_begins_with_the_first_step(make_reset_port: MakePort) -> None:
    """Not when it was asked for: what comes while it waits for the writes is older than the reset."""
    port = make_reset_port(room=0)
    port.feed(b"old")
    port.handle.submit_write(b"x")
    request = port.submit_reset(discard=True)
    port.feed(b"er")
    port.accept(1)
    port.feed(b"banner")
    port.pass_time(100)
    assert unread(request) == 5
    assert port.handle.read(6) == b"banner"
    assert port.handle.in_waiting == 0


def test_what_the_line_still_holds_is_old_as_well(make_reset_port: MakePort) -> None:
    """The line has received it, and nobody has taken it yet: the log was full."""
    port = make_reset_port()
    port.extension.log_size = 4
    read = port.handle.submit_read(1)
    port.feed(b"12345")
    assert end_of(read) == (STATUS_SUCCESS, b"1")
    port.feed(b"678")
    assert port.line.untaken == 3
    request = port.submit_reset(discard=True)
    port.feed(b"new")
    port.pass_time(100)
    assert unread(request) == 7
    assert port.handle.read_some() == b"new"


def test_a_read_that_waits_begins_with_the_reset(reset_port: ResetPort) -> None:
    read = reset_port.handle.submit_read(5)
    reset_port.feed(b"old")
    reset_port.submit_reset(discard=True)
    reset_port.feed(b"12345")
    assert end_of(read) == (STATUS_SUCCESS, b"12345")


def test_other_readers_keep_their_bytes(reset_port: ResetPort) -> None:
    with reset_port.open("r") as log:
        reset_port.feed(b"old")
        reset_port.submit_reset(discard=True)
        reset_port.feed(b"new")
        reset_port.pass_time(100)
        assert log.read(6) == b"oldnew"
        assert reset_port.handle.read(3) == b"new"


class Late(Edges):
    """A line whose bytes come in the very moment in which a reset begins."""

    last_word = b""

    @property
    def has_modem_lines(self) -> bool:
        data, self.last_word = self.last_word, b""
        if data:
            self.feed(data)
        return True


def test_a_read_of_another_handle_ends_with_what_was_taken(make_reset_port: MakePort) -> None:
    """Bytes that are taken from the line for the count do not interrupt any more."""
    line = Late()
    port = make_reset_port(line=line)
    with port.open("r") as log:
        read = log.submit_read(3)
        line.last_word = b"abc"
        port.submit_reset(discard=True)
        assert end_of(read) == (STATUS_SUCCESS, b"abc")
        assert port.handle.in_waiting == 0


def test_a_handle_that_only_writes(reset_port: ResetPort) -> None:
    reset_port.handle.close()
    with reset_port.open("w") as writer:
        request = reset_port.submit_reset(discard=True, handle=writer)
        reset_port.pass_time(100)
        assert unread(request) == 0


# -- what is refused -----------------------------------------------------------------------------------------------------


def test_who_only_listens_resets_nothing(reset_port: ResetPort) -> None:
    with reset_port.open("r") as log, pytest.raises(DevicePermission):
        log.ioctl(ser.IOCTL_HILBRIDGE_RESET, ser.pack_reset(PULSE), size=8)
    assert reset_port.line.edges == []


STEP = PULSE[0].pack()


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"", STATUS_BUFFER_TOO_SMALL),
        (bytes(4), STATUS_BUFFER_TOO_SMALL),
        (bytes(4) + STEP + b"x", STATUS_INVALID_PARAMETER),
        (ser.pack_ulong(2) + STEP, STATUS_INVALID_PARAMETER),
        (bytes(4) + STEP * 65, STATUS_INVALID_PARAMETER),
        (bytes(4) + struct.pack("<2BHI", 8, 0, 0, 1), STATUS_INVALID_PARAMETER),
        (bytes(4) + struct.pack("<2BHI", 1, 2, 0, 1), STATUS_INVALID_PARAMETER),
        (bytes(4) + struct.pack("<2BHI", 1, 1, 1, 1), STATUS_INVALID_PARAMETER),
        (bytes(4) + struct.pack("<2BHI", 1, 1, 0, 60_000_001), STATUS_INVALID_PARAMETER),
    ],
    ids=[
        "empty",
        "no step",
        "half a step",
        "a flag",
        "65 steps",
        "a line",
        "a value without its mask",
        "reserved",
        "long",
    ],
)
def test_payload_that_means_nothing(reset_port: ResetPort, payload: bytes, status: object) -> None:
    request = reset_port.control(ser.IOCTL_HILBRIDGE_RESET, payload, size=8)
    assert request.status == status
    assert reset_port.line.edges == []


def test_the_longest_that_is_allowed(reset_port: ResetPort) -> None:
    steps = tuple(SerialResetStep(DTR, 0, 1000) for _ in range(64))
    request = reset_port.submit_reset(steps)
    reset_port.pass_time(64)
    assert request.status == STATUS_SUCCESS
    assert len(reset_port.line.edges) == 64


def test_an_answer_needs_room(reset_port: ResetPort) -> None:
    assert (
        reset_port.control(ser.IOCTL_HILBRIDGE_RESET, ser.pack_reset(PULSE), size=7).status == STATUS_BUFFER_TOO_SMALL
    )


class Plain(Edges):
    """As a pty or a socket: no modem lines; but a break can be sent."""

    @property
    def has_modem_lines(self) -> bool:
        return False


def test_a_line_without_modem_lines_names_the_step(make_reset_port: MakePort) -> None:
    """And nothing has been done or thrown away, also if the step is not the first."""
    port = make_reset_port(line=Plain())
    port.feed(b"old")
    request = port.submit_reset((SerialResetStep(BREAK, BREAK, 1000), SerialResetStep(BREAK), *PULSE), discard=True)
    assert request.status == STATUS_NOT_SUPPORTED
    fault = fault_of(request)
    assert isinstance(fault, DeviceUnsupported)
    assert "step 3 of the reset (dtr=0 wait=100ms): virtual:edges has no DTR and RTS" in str(fault)
    assert port.line.edges == []
    assert port.handle.read(3) == b"old"
    assert port.clean


def test_break_works_where_there_are_no_modem_lines(make_reset_port: MakePort) -> None:
    port = make_reset_port(line=Plain())
    request = port.submit_reset((SerialResetStep(BREAK, BREAK, 1000), SerialResetStep(BREAK)))
    port.pass_time(1)
    assert request.status == STATUS_SUCCESS
    assert times(port.line) == [(0, "break=1"), (1, "break=0")]


class Refuses(Edges):
    """RTS cannot be asserted."""

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        if rts is False:
            raise DeviceFault(f"{self.name} does not want to", status=STATUS_DEVICE_BUSY)
        super().set_modem_control(dtr=dtr, rts=rts)


def test_a_step_that_fails_is_named_and_the_lines_are_put_back(make_reset_port: MakePort) -> None:
    port = make_reset_port(line=Refuses())
    port.handle.dtr = True
    request = port.submit_reset(TWO_WAITS)
    after = port.handle.submit_write(b"after")
    port.pass_time(100)
    assert request.status == STATUS_DEVICE_BUSY
    assert "step 2 of the reset (rts=0 wait=50ms): virtual:edges does not want to" in str(fault_of(request))
    assert port.line.outputs == (True, True, False)
    assert after.status == STATUS_SUCCESS
    assert port.clean


def test_a_line_that_raises_something_else_breaks_its_own_stack_only(make_reset_port: MakePort) -> None:
    class Broken(Edges):
        def set_break(self, on: bool) -> None:
            raise ZeroDivisionError("oops")

    port = make_reset_port(line=Broken(), verify=False)
    request: Request = port.submit_reset((SerialResetStep(BREAK, BREAK),))
    assert request.done and not request.status.is_success
    assert "oops" in str(port.bridge.acknowledge_faults()[0])
    assert port.bridge.pending() == []
