"""Tests of skeleton: on virtual time and a line made of Python, so that each runs at once, and the same every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hilbridge
from hilbridge.cli.skeletons import filter as skeleton


@pytest.fixture
def bridge() -> Iterator[hilbridge.Bridge]:
    """A bridge that watches the driver, and finds nothing; COM1 is a loop, with the filter on top."""
    with hilbridge.Bridge.manual(verify=True) as made:
        made.plug("virtual:loop", name="COM1", upper_filters=[skeleton])
        yield made
        made.close()
        assert not made.findings


def numbers(bridge: hilbridge.Bridge) -> dict[str, int]:
    """What the filter has counted."""
    (mine,) = [device.extension for device in bridge.stack("COM1") if isinstance(device.extension, skeleton.Skeleton)]
    return mine.statistics()


def test_bytes_pass_and_are_counted(bridge: hilbridge.Bridge) -> None:
    with bridge.open("COM1") as handle:
        handle.write(b"hello")
        assert handle.read(5) == b"hello"
    assert numbers(bridge) == {"sent": 5, "heard": 5}


def test_what_it_does_not_know_passes(bridge: hilbridge.Bridge) -> None:
    with bridge.open("COM1") as handle:
        handle.set(baudrate=9600)
        handle.dtr = True
        assert handle.dsr


def test_a_read_can_be_cancelled(bridge: hilbridge.Bridge) -> None:
    with bridge.open("COM1") as handle:
        request = handle.submit_read(5)
        request.cancel()
        with pytest.raises(hilbridge.RequestCancelled):
            request.result()


def test_a_device_that_goes_ends_its_requests(bridge: hilbridge.Bridge) -> None:
    with bridge.open("COM1") as handle:
        request = handle.submit_read(5)
        bridge.unplug("COM1")
        with pytest.raises(hilbridge.DeviceGone):
            request.result()
