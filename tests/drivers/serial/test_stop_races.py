"""A port is lent, or put to sleep, at any moment of a request that another thread makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from hilbridge import Request
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import DevicePowerState
from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.drivers.serial.stopkit import Recorder, StopPort

MODULES = ("hilbridge.drivers.serial", "hilbridge.iomgr.hold")

Away = Callable[[StopPort], None]


def lend(port: StopPort) -> None:
    """The lender writes as well: what the port's own driver sends from now on to the old line is seen behind that."""
    old = port.line
    port.stop()
    old.write(b"|")
    port.start()


def nap(port: StopPort) -> None:
    assert port.set_power(DevicePowerState.D3) == STATUS_SUCCESS
    assert port.set_power(DevicePowerState.D0) == STATUS_SUCCESS


both = pytest.mark.parametrize("away", [lend, nap])


class Raced:
    """A port whose lines are all remembered, since a lent one is another afterwards."""

    def __init__(self, away: Away, **options: int) -> None:
        self.port = StopPort(verify=False, **options)
        self.first = self.port.line
        self.away = partial(away, self.port)
        self.requests: list[Request] = []

    def submit(self, make: Callable[[], Request]) -> None:
        self.requests.append(make())

    @property
    def sent(self) -> bytes:
        """What the board has heard, over both lines."""
        lines = [self.first] if self.port.line is self.first else [self.first, self.port.line]
        return b"".join(bytes(line.sent) for line in lines)

    def settled(self) -> None:
        self.port.settle()
        assert not self.port.bridge.faults, self.port.bridge.faults
        assert all(request.done for request in self.requests), self.requests
        assert self.port.bridge.pending() == []
        assert not self.port.extension.hold.active and not self.port.extension.tx_held


def everywhere(build: Callable[[], Race]) -> None:
    """One stop at every line, and some schedules with three."""
    explore(build, granularity=Granularity.LINES, preemptions=1, samples=200, sample_preemptions=3, modules=MODULES)


@pytest.mark.slow
@both
def test_writes(away: Away) -> None:
    """Each goes out once, in order, and on the line that is the port's at that moment."""
    where: set[bytes] = set()

    def build() -> Race:
        raced = Raced(away)
        handle = raced.port.handle

        def write() -> None:
            assert handle.write(b"abc", timeout=None) == 3
            raced.submit(partial(handle.submit_write, b"def"))

        def check() -> None:
            raced.settled()
            assert raced.sent.replace(b"|", b"") == b"abcdef"
            assert raced.port.line is raced.first or bytes(raced.first.sent).endswith(b"|")
            where.add(raced.sent)

        return Race({"away": raced.away, "writes": write}, check, raced.port.close)

    everywhere(build)
    assert where == ({b"abcdef"} if away is nap else {b"|abcdef", b"abc|def", b"abcdef|"})


@pytest.mark.slow
@both
def test_a_read(away: Away) -> None:
    """What has come before goes to who reads, whoever takes it from the line."""

    def build() -> Race:
        raced = Raced(away)
        raced.first.feed(b"abc")
        got: list[bytes] = []

        def check() -> None:
            raced.port.feed(b"d")
            raced.settled()
            assert got == [b"ab"]
            assert raced.port.handle.read(2) == b"cd"

        reads = lambda: got.append(raced.port.handle.read(2, timeout=None))  # noqa: E731
        return Race({"away": raced.away, "reads": reads}, check, raced.port.close)

    everywhere(build)


@pytest.mark.slow
@both
def test_an_output(away: Away) -> None:
    """DTR is set at once or later, and never forgotten."""

    def build() -> Race:
        raced = Raced(away)

        def check() -> None:
            raced.settled()
            assert raced.requests[0].status == STATUS_SUCCESS
            line = raced.port.line
            assert isinstance(line, Recorder) and line.done[-1] == (True, None)

        sets = partial(raced.submit, partial(raced.port.submit_dtr, True))
        return Race({"away": raced.away, "sets": sets}, check, raced.port.close)

    everywhere(build)


@pytest.mark.slow
@both
def test_a_setting(away: Away) -> None:
    def build() -> Race:
        raced = Raced(away)
        change = partial(raced.port.handle.submit_ioctl, ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(9600))

        def check() -> None:
            raced.settled()
            assert raced.requests[0].status == STATUS_SUCCESS
            assert raced.port.line.settings.baudrate == 9600

        return Race({"away": raced.away, "sets": partial(raced.submit, change)}, check, raced.port.close)

    everywhere(build)


@pytest.mark.slow
@both
def test_a_cancellation(away: Away) -> None:
    """Of a write that is half out, and of a held request: each ends once, and the write says what went out of it."""
    outcomes: set[tuple[str, int, str]] = set()

    def build() -> Race:
        raced = Raced(away, room=1)
        port = raced.port
        write = port.handle.submit_write(b"xyz")
        port.extension.hold.hold("test")
        dtr = port.submit_dtr(True)
        raced.requests = [write, dtr]

        def release() -> None:
            raced.away()
            port.extension.hold.release("test")

        def cancel() -> None:
            for request in raced.requests:
                request.cancel()

        def check() -> None:
            raced.port.accept(10)
            raced.settled()
            assert raced.sent.replace(b"|", b"") == b"xyz"[: write.information]
            outcomes.add((write.status.name, write.information, dtr.status.name))

        return Race({"away": release, "cancels": cancel}, check, port.close)

    everywhere(build)
    cancelled, done = STATUS_CANCELLED.name, STATUS_SUCCESS.name
    assert (cancelled, 1, cancelled) in outcomes
    assert {status for status, _, _ in outcomes} == ({cancelled} if away is nap else {cancelled, done})
    assert {status for _, _, status in outcomes} == {cancelled, done}
