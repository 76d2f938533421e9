"""Complete and cancel, stop and insert, removal and insert, time-out and completion: at every interleaving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hilbridge import Bridge, HilbridgeError, ddk
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.testing.interleave import MODULES, Granularity, Race, explore
from tests.ddk.ddkkit import Bare, bare, plug

pytestmark = pytest.mark.slow  # every order of the races, one after the other

WITH_LAYER = (*MODULES, "hilbridge.ddk")
NARROW = ("hilbridge.ddk.request", "hilbridge.model.irp", "hilbridge.iomgr.cancel")


class Scene:
    """A bridge with one device, opened; requests that are refused at once count as ended."""

    def __init__(self, setup: Callable[[Any], object]) -> None:
        self.bridge = Bridge.manual()
        self.device = plug(self.bridge, bare(setup))
        self.handle: Handle = self.bridge.open("DUT")
        self.requests: list[Request] = []
        self.refused: list[HilbridgeError] = []

    def read(self) -> None:
        try:
            self.requests.append(self.handle.submit_read(1))
        except HilbridgeError as error:
            self.refused.append(error)

    @property
    def queue(self) -> Any:
        return self.device.queues[0]

    def close(self) -> None:
        self.bridge.close()
        assert not self.bridge.faults

    def idle(self) -> None:
        """Nothing is left anywhere."""
        assert all(request.done and not request.disowned for request in self.requests)
        assert not self.queue.in_flight
        assert len(self.queue) == 0
        assert not self.queue._requests
        assert self.device.remove_lock.count == 0


def sequential(self: Bare) -> None:
    ddk.SequentialQueue(self, read=self.keep)


def at_once(self: Bare) -> None:
    ddk.SequentialQueue(self, read=lambda request: request.complete(data=b"x"))


@pytest.mark.parametrize("granularity", [Granularity.POINTS, Granularity.LINES])
def test_complete_against_cancel(granularity: Granularity) -> None:
    """Who is first decides how it ends; it ends once, and the next one comes."""
    outcomes: set[bool] = set()

    def build() -> Race:
        scene = Scene(sequential)
        scene.read()
        scene.read()
        first = scene.requests[0]
        kept = scene.device.kept[0]
        won: list[bool] = []

        def check() -> None:
            assert first.done
            assert first.status == (ddk.STATUS_SUCCESS if won == [True] else ddk.STATUS_CANCELLED)
            assert first.data == (b"x" if won == [True] else b"")
            outcomes.add(won[0])
            assert len(scene.device.kept) == 2
            scene.device.kept[1].complete(data=b"y")
            assert scene.requests[1].data == b"y"
            scene.idle()

        return Race(
            {"complete": lambda: won.append(kept.complete(data=b"x")), "cancel": first.cancel}, check, scene.close
        )

    explore(
        build, granularity=granularity, preemptions=2 if granularity is Granularity.POINTS else 1, modules=WITH_LAYER
    )
    assert outcomes == {True, False}


def test_on_cancel_against_cancel() -> None:
    def build() -> Race:
        scene = Scene(lambda self: ddk.SequentialQueue(self, read=self.clutch))
        scene.read()
        kept, (request,) = scene.device.kept[0], scene.requests
        marked: list[bool] = []

        def check() -> None:
            assert request.status == ddk.STATUS_CANCELLED
            assert len(scene.device.cancelled) == 1
            scene.idle()

        return Race(
            {"mark": lambda: marked.append(kept.on_cancel(scene.device.cancel)), "cancel": request.cancel},
            check,
            scene.close,
        )

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=NARROW)


def test_on_cancel_against_purge() -> None:
    def build() -> Race:
        scene = Scene(lambda self: ddk.SequentialQueue(self, read=self.clutch))
        scene.read()
        kept = scene.device.kept[0]

        def check() -> None:
            assert len(scene.device.cancelled) == 1
            scene.idle()

        return Race(
            {"mark": lambda: kept.on_cancel(scene.device.cancel), "purge": lambda: scene.queue.purge()},
            check,
            scene.close,
        )

    explore(build, granularity=Granularity.LINES, preemptions=2, modules=NARROW)


def test_stop_against_insert() -> None:
    """It is presented or it waits; nothing is presented after the stop, and nothing is forgotten at the start."""
    presented: set[int] = set()

    def build() -> Race:
        scene = Scene(sequential)
        after: list[int] = []

        def stop() -> None:
            scene.queue.stop()
            after.append(len(scene.queue.in_flight))

        def check() -> None:
            assert len(scene.queue.in_flight) == after[0]
            presented.add(after[0])
            scene.queue.start()
            scene.device.kept[0].complete(data=b"x")
            scene.idle()

        return Race({"insert": scene.read, "stop": stop}, check, scene.close)

    explore(build, preemptions=2)
    assert presented == {0, 1}


def test_start_against_insert_and_completion() -> None:
    def build() -> Race:
        scene = Scene(at_once)
        scene.queue.stop()
        scene.read()
        return Race({"insert": scene.read, "start": lambda: scene.queue.start()}, scene.idle, scene.close)

    explore(build, preemptions=2)
    explore(build, granularity=Granularity.LINES, preemptions=1, modules=WITH_LAYER)


def test_completion_by_another_thread_against_insert() -> None:
    """The one who completes finds the next request, or the one who brings it finds the queue free."""

    def build() -> Race:
        scene = Scene(sequential)
        scene.read()

        def check() -> None:
            assert len(scene.device.kept) == 2
            scene.device.kept[1].complete(data=b"y")
            scene.idle()

        return Race(
            {"insert": scene.read, "complete": lambda: scene.device.kept[0].complete(data=b"x")}, check, scene.close
        )

    explore(build, preemptions=2)
    explore(build, granularity=Granularity.LINES, preemptions=1, modules=WITH_LAYER)


@pytest.mark.parametrize("setup", [sequential, at_once])
def test_removal_against_insert(setup: Callable[[Any], object]) -> None:
    """It is served, refused or ended as gone; it never stays."""

    def build() -> Race:
        scene = Scene(setup)

        def check() -> None:
            for request in scene.requests:
                assert request.status in (ddk.STATUS_SUCCESS, ddk.STATUS_DEVICE_NOT_CONNECTED)
            assert len(scene.requests) + len(scene.refused) == 1
            scene.idle()

        return Race({"insert": scene.read, "remove": lambda: scene.bridge.unplug("DUT")}, check, scene.close)

    explore(build, preemptions=2)


def test_removal_against_completion() -> None:
    def build() -> Race:
        scene = Scene(sequential)
        scene.read()
        scene.read()

        def check() -> None:
            assert scene.requests[0].status in (ddk.STATUS_SUCCESS, ddk.STATUS_DEVICE_NOT_CONNECTED)
            scene.idle()

        return Race(
            {
                "complete": lambda: scene.device.kept[0].complete(data=b"x"),
                "remove": lambda: scene.bridge.unplug("DUT"),
            },
            check,
            scene.close,
        )

    explore(build, preemptions=2)


def test_time_out_against_completion() -> None:
    """The IRP of a target is freed once, by whoever has it last, and the callback is called once."""
    statuses: set[ddk.NtStatus] = set()

    def build() -> Race:
        scene = Scene(sequential)
        target = ddk.IoTarget.open(scene.device, "DUT")
        ends: list[ddk.Sent] = []
        sent = target.submit_read(1, ends.append)
        kept = scene.device.kept[0]

        def check() -> None:
            assert ends == [sent]
            assert len(target) == 0
            statuses.add(sent.status)
            target.close()
            scene.idle()

        return Race(
            {
                "complete": lambda: kept.complete(data=b"x"),
                "cancel": lambda: target.cancel(sent, ddk.STATUS_IO_TIMEOUT),
            },
            check,
            scene.close,
        )

    explore(build, preemptions=2)
    explore(build, granularity=Granularity.LINES, preemptions=1, modules=WITH_LAYER)
    assert statuses == {ddk.STATUS_SUCCESS, ddk.STATUS_IO_TIMEOUT}


def test_reads_of_a_reader_that_come_back_on_two_threads() -> None:
    def build() -> Race:
        scene = Scene(lambda self: ddk.ParallelQueue(self, read=self.keep))
        heard: list[bytes] = []
        reader = ddk.ContinuousReader(ddk.IoTarget.open(scene.device, "DUT"), heard.append, length=1, pending=2)
        first, second = scene.device.kept[:2]

        def check() -> None:
            assert heard == [b"1", b"2"]
            assert len(scene.queue.in_flight) == 2
            reader.stop()
            reader.target.close()
            scene.idle()

        return Race(
            {"first": lambda: first.complete(data=b"1"), "second": lambda: second.complete(data=b"2")},
            check,
            scene.close,
        )

    explore(build, preemptions=2)


def test_stop_of_a_reader_against_data() -> None:
    def build() -> Race:
        scene = Scene(lambda self: ddk.ParallelQueue(self, read=self.keep))
        heard: list[bytes] = []
        reader = ddk.ContinuousReader(ddk.IoTarget.open(scene.device, "DUT"), heard.append, length=1, pending=1)
        kept = scene.device.kept[0]
        won: list[bool] = []

        def check() -> None:
            assert heard == ([b"1"] if won == [True] else [])
            reader.target.close()
            scene.idle()

        return Race({"data": lambda: won.append(kept.complete(data=b"1")), "stop": reader.stop}, check, scene.close)

    explore(build, preemptions=2)
