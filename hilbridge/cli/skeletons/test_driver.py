"""Tests of skeleton: on virtual time and a line made of Python, so that each runs at once, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hilbridge
from hilbridge.cli.skeletons import driver as skeleton
from hilbridge.virtual.line import VirtualLine


@pytest.fixture
def bridge() -> Iterator[hilbridge.Bridge]:
    """A bridge that watches the driver, and finds nothing."""
    with hilbridge.Bridge.manual(verify=True) as made:
        yield made
        made.close()
        assert not made.findings


@pytest.fixture
def line(bridge: hilbridge.Bridge) -> VirtualLine:
    """The line that the device is plugged in on: `feed` and `sent` are its far end."""
    made = VirtualLine("virtual:line")
    bridge.plug(made, name="skeleton", driver=skeleton)
    return made


def test_what_is_written_is_sent(bridge: hilbridge.Bridge, line: VirtualLine) -> None:
    with bridge.open("skeleton") as handle:
        handle.write(b"hello")
    assert line.sent == b"hello"


def test_a_read_waits_for_what_comes(bridge: hilbridge.Bridge, line: VirtualLine) -> None:
    with bridge.open("skeleton") as handle:
        request = handle.submit_read(5)
        bridge.machine.run_until_idle()
        assert not request.done
        line.feed(b"hello")
        assert request.result() == b"hello"


def test_a_line_that_takes_a_part_is_given_the_rest_later(bridge: hilbridge.Bridge) -> None:
    line = VirtualLine("virtual:line", room=2)
    bridge.plug(line, name="skeleton", driver=skeleton)
    with bridge.open("skeleton") as handle:
        request = handle.submit_write(b"hello")
        bridge.machine.run_until_idle()
        assert (bytes(line.sent), request.done) == (b"he", False)
        line.accept(10)
        bridge.machine.run_until_idle()
        assert (bytes(line.sent), request.done) == (b"hello", True)


def test_a_read_can_be_cancelled(bridge: hilbridge.Bridge, line: VirtualLine) -> None:
    with bridge.open("skeleton") as handle:
        request = handle.submit_read(5)
        request.cancel()
        with pytest.raises(hilbridge.RequestCancelled):
            request.result()


def test_a_device_that_goes_ends_its_requests(bridge: hilbridge.Bridge, line: VirtualLine) -> None:
    with bridge.open("skeleton") as handle:
        request = handle.submit_read(5)
        line.unplug()
        with pytest.raises(hilbridge.DeviceGone):
            request.result()


def test_it_needs_a_line(bridge: hilbridge.Bridge) -> None:
    with pytest.raises(hilbridge.HilbridgeError, match="needs a line"):
        bridge.plug("virtual:null", driver=skeleton)
