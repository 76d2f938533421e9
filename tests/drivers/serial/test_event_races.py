"""A wait against the event, its cancellation, a new mask, the end of the handle, and the removal, in every order."""

from __future__ import annotations

from collections.abc import Callable

from hilbridge import Request
from hilbridge.model import ntddser as ser
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DEVICE_NOT_CONNECTED, STATUS_SUCCESS
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.drivers.serial.stopkit import StopPort
from tests.drivers.serial.waitkit import told, wait

MODULES = ("hilbridge.drivers.serial", "hilbridge.iomgr.csq")
RXCHAR = ser.SERIAL_EV_RXCHAR
MASK = ser.pack_ulong(RXCHAR)

Action = Callable[[StopPort], object]


def feed(port: StopPort) -> None:
    """The bytes come on the thread that turns the crank."""
    port.line.feed(b"x")
    port.settle()


def outcomes(act: Action, *, waiting: bool = True) -> set[tuple[str, int, bool]]:
    """How the wait ended, with what, and whether the next one is told of the byte, over all schedules."""
    seen: set[tuple[str, int, bool]] = set()

    def build() -> Race:
        port = StopPort(verify=False)
        handle = port.handle
        handle.ioctl(ser.IOCTL_SERIAL_SET_WAIT_MASK, MASK)
        requests: list[Request] = []

        def submit() -> None:
            requests.append(handle.submit_ioctl(ser.IOCTL_SERIAL_WAIT_ON_MASK, size=4))

        if waiting:
            submit()

        def other() -> None:
            if act is cancel:
                requests[0].cancel()
            else:
                act(port)

        def check() -> None:
            port.settle()
            assert not port.bridge.faults, port.bridge.faults
            (request,) = requests
            if not request.done:
                seen.add(("waits", 0, False))
                request.cancel()
                assert request.status == STATUS_CANCELLED
                return
            events = told(request) if request.status == STATUS_SUCCESS else 0
            again = False
            if act not in {close, unplug}:
                following = wait(port)
                again = following.done and following.status == STATUS_SUCCESS and told(following) == RXCHAR
                following.cancel()
            seen.add((request.status.name, events, again))
            assert port.bridge.pending() == []

        actors: dict[str, Callable[[], object]] = {"other": other, "feeds": lambda: feed(port)}
        if not waiting:
            actors["waits"] = submit
        return Race(actors, check, port.close)

    explore(build, granularity=Granularity.LINES, preemptions=1, samples=150, sample_preemptions=3, modules=MODULES)
    return seen


def cancel(_port: StopPort) -> None:
    """A mark: `outcomes` cancels its own request."""


def new_mask(port: StopPort) -> None:
    port.handle.ioctl(ser.IOCTL_SERIAL_SET_WAIT_MASK, MASK)


def nothing(_port: StopPort) -> None:
    """Nobody else does anything."""


def close(port: StopPort) -> None:
    port.handle.close()


def unplug(port: StopPort) -> None:
    port.line.unplug()


CANCELLED, SUCCESS = STATUS_CANCELLED.name, STATUS_SUCCESS.name


def test_cancel_against_the_event_loses_nothing() -> None:
    """Either the wait is told of it, or the next one is."""
    assert outcomes(cancel) == {(SUCCESS, RXCHAR, False), (CANCELLED, 0, True)}


def test_a_new_mask_against_the_event_loses_nothing() -> None:
    """An event that came before the new mask may be the old wait's, and is then not told twice."""
    assert outcomes(new_mask) == {(SUCCESS, RXCHAR, False), (SUCCESS, 0, True)}


def test_a_wait_that_begins_when_the_event_comes_is_told() -> None:
    assert outcomes(nothing, waiting=False) == {(SUCCESS, RXCHAR, False)}


def test_the_end_of_the_handle_ends_it_in_any_case() -> None:
    assert outcomes(close) == {(SUCCESS, RXCHAR, False), (CANCELLED, 0, False)}


def test_the_removal_ends_it_in_any_case() -> None:
    """The byte comes before the news, or not at all."""
    ends = outcomes(unplug)
    assert ends == {(SUCCESS, RXCHAR, False)} | (ends & {(STATUS_DEVICE_NOT_CONNECTED.name, 0, False)})
