"""Holding, arriving, releasing, cancelling and removing, in every order that two or three threads can have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hilbridge.iomgr.request import IoRequest
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_SUCCESS
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.iomgr.holdkit import Bench

MODULES = ("hilbridge.iomgr.hold", "hilbridge.iomgr.csq", "hilbridge.iomgr.cancel", "tests.iomgr.holdkit")

Build = Callable[[], Race]


def everywhere(build: Build, preemptions: int = 2) -> None:
    explore(build, granularity=Granularity.LINES, preemptions=preemptions, modules=MODULES)


def held(*lengths: int) -> tuple[Bench, list[IoRequest]]:
    bench = Bench()
    bench.hold.hold()
    return bench, bench.submit_all(*lengths)


def sound(bench: Bench, *requests: IoRequest) -> None:
    """Every request has ended, no rule was broken, and the queue is as good as new."""
    assert not bench.ke.faults, bench.ke.faults
    assert all(request.done for request in requests), requests
    assert len(bench.hold) == 0 and not bench.hold.active
    assert not bench.file.irps
    assert bench.submit(99).done


@pytest.mark.slow
def test_one_threads_requests_keep_their_order_whenever_they_come() -> None:
    """Before the hold, during it, during the release, after it: the second never overtakes the first."""
    seen: set[int] = set()

    def build() -> Race:
        bench = Bench()
        requests: list[IoRequest] = []
        most_held = [0]

        def stop_and_start() -> None:
            bench.hold.hold()
            most_held[0] = len(bench.hold)
            bench.hold.release()

        def send() -> None:
            requests.extend(bench.submit_all(1, 2))

        def check() -> None:
            sound(bench, *requests)
            assert bench.served[:2] == [1, 2]
            seen.add(most_held[0])

        return Race({"stops": stop_and_start, "sends": send}, check)

    everywhere(build)
    assert seen == {0, 1, 2}, "the orders that count were not all tried"


@pytest.mark.slow
def test_a_new_request_against_the_release_of_an_old_one() -> None:
    def build() -> Race:
        bench, old = held(1)
        new: list[IoRequest] = []

        def check() -> None:
            sound(bench, *old, *new)
            assert sorted(bench.served[:2]) == [1, 2]

        return Race({"releases": bench.hold.release, "sends": lambda: new.append(bench.submit(2))}, check)

    everywhere(build)


@pytest.mark.slow
def test_cancel_against_release() -> None:
    """It is served, or it is cancelled, and not both; the one behind it is served in any case."""
    outcomes: set[tuple[bool, bool]] = set()

    def build() -> Race:
        bench, [first, second] = held(1, 2)

        def check() -> None:
            sound(bench, first, second)
            assert second.status == STATUS_SUCCESS
            served = bench.served[0] == 1
            assert first.status == (STATUS_SUCCESS if served else STATUS_CANCELLED)
            outcomes.add((served, first.irp is not None and first.irp.cancel))

        return Race({"releases": bench.hold.release, "cancels": first.cancel}, check)

    everywhere(build)
    assert outcomes >= {(True, False), (True, True), (False, True)}


@pytest.mark.slow
def test_cancel_against_arrival() -> None:
    outcomes: set[int] = set()

    def build() -> Race:
        bench = Bench()
        bench.hold.hold()
        sent: list[IoRequest] = []

        def cancel() -> None:
            bench.io.cancel_io_ex(bench.file)

        def check() -> None:
            bench.hold.release()
            sound(bench, *sent)
            outcomes.add(int(sent[0].status))

        return Race({"sends": lambda: sent.append(bench.submit(1)), "cancels": cancel}, check)

    everywhere(build)
    assert outcomes == {int(STATUS_SUCCESS), int(STATUS_CANCELLED)}


@pytest.mark.slow
def test_close_against_release() -> None:
    def build() -> Race:
        bench, requests = held(1, 2)

        def check() -> None:
            assert not bench.ke.faults, bench.ke.faults
            assert {int(r.status) for r in requests} <= {int(STATUS_SUCCESS), int(STATUS_CANCELLED)}
            assert all(request.done for request in requests) and len(bench.hold) == 0

        return Race({"releases": bench.hold.release, "closes": lambda: bench.io.close_file(bench.file)}, check)

    everywhere(build, preemptions=1)


@pytest.mark.slow
def test_removal_against_release() -> None:
    def build() -> Race:
        bench, requests = held(1, 2)

        def check() -> None:
            sound(bench, *requests)
            for length, request in zip((1, 2), requests, strict=True):
                assert request.status == (STATUS_SUCCESS if length in bench.served else STATUS_DELETE_PENDING)

        fail = lambda: bench.hold.fail(STATUS_DELETE_PENDING)  # noqa: E731
        return Race({"releases": bench.hold.release, "removes": fail}, check)

    everywhere(build)


@pytest.mark.slow
def test_two_releases_and_a_hold_between_them() -> None:
    """Whoever comes last decides; nothing is served twice, and nothing is left behind."""

    def build() -> Race:
        bench, requests = held(1, 2)

        def again() -> None:
            bench.hold.hold()
            bench.hold.release()

        def check() -> None:
            sound(bench, *requests)
            assert bench.served[:2] == [1, 2]

        return Race({"releases": bench.hold.release, "again": again}, check)

    everywhere(build)


@pytest.mark.slow
def test_three_at_once() -> None:
    def build() -> Race:
        bench, old = held(1, 2)
        new: list[IoRequest] = []

        def check() -> None:
            sound(bench, *old, *new)
            served = [length for length in bench.served if length != 99]
            assert sorted(served) == sorted(set(served)), "served twice"
            assert old[1].status == STATUS_SUCCESS
            assert served.index(2) < served.index(3)

        threads: dict[str, Callable[[], object]] = {
            "releases": bench.hold.release,
            "cancels": old[0].cancel,
            "sends": lambda: new.append(bench.submit(3)),
        }
        return Race(threads, check)

    everywhere(build, preemptions=1)
