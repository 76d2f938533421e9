"""The sample that gives its device one read at a time: those that wait can be cancelled, and nobody jumps the queue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from hilbridge import Bridge, DriverFault, NameNotFound
from hilbridge.bridge.request import Request
from hilbridge.drivers.samples import cancel_startio
from hilbridge.drivers.samples.cancel_startio import ANSWER, LINK, NAME, POLL_SECONDS, Extension
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Race, explore
from tests.races.racekit import CountingIo


class Bench:
    """The sample on a manual bridge."""

    def __init__(self, **options: object) -> None:
        self.bridge = Bridge.manual(**options)
        self.bridge.plug("virtual:null", name="POLLED", driver="cancel-startio")
        self.extension: Extension = self.bridge.stack("POLLED")[0].extension
        self.reads = self.extension.reads

    def polls(self, count: float) -> None:
        """So many poll intervals pass."""
        self.bridge.machine.advance(count * POLL_SECONDS)

    def check(self, *requests: Request) -> None:
        """Whatever there was is over: each has ended once, and the device is idle."""
        assert all(request.done for request in requests), statuses(requests)
        reads = self.reads
        assert (reads.waiting, reads.current, reads.busy) == ([], None, False)
        assert isinstance(self.bridge.io, CountingIo)
        assert set(self.bridge.io.finished.values()) <= {1}
        assert self.bridge.faults == []


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.bridge:
        yield bench
        assert bench.bridge.faults == []


def answers(requests: list[Request]) -> list[int]:
    assert {request.information for request in requests} == {ANSWER.size}
    return [ANSWER.unpack(request.data)[0] for request in requests]


def statuses(requests: list[Request] | tuple[Request, ...]) -> list[NtStatus]:
    return [request.status for request in requests]


# -- A1 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("closed", [0, 1, 2])
def test_three_files_of_which_one_is_closed(closed: int, verify: bool) -> None:
    """Exactly the four of the closed file are cancelled; the others are served in the order in which they came.

    The device works on a read of the first file: when that is closed, it gets the next one.
    """
    bench = Bench(verify=verify, io_manager=CountingIo)
    with bench.bridge as bridge:
        files = [bridge.open("POLLED") for _ in range(3)]
        requests = [(handle, handle.submit_read(4)) for _ in range(4) for handle in files]
        assert bench.reads.current is requests[0][1].irp
        assert len(bench.reads.waiting) == 11
        files[closed].close()
        ended = [request for handle, request in requests if handle is files[closed]]
        others = [request for handle, request in requests if handle is not files[closed]]
        assert statuses(ended) == [STATUS_CANCELLED] * 4
        assert [request.done for request in others] == [False] * 8

        served: list[Request] = []
        for request in others:
            request.add_done_callback(lambda request=request: served.append(request))  # type: ignore[misc]
        for count in range(1, 9):
            bench.polls(1)
            assert len(served) == count
        assert served == others
        assert answers(others) == list(range(8))
        assert isinstance(bridge.io, CountingIo)
        assert {bridge.io.completed[request.irp.id] for _, request in requests if request.irp is not None} == {1}
        bench.check(*others)
        assert bridge.findings == []


def test_nothing_is_lost_by_a_cancel_between_insert_and_dequeue(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        requests = [handle.submit_read(4) for _ in range(5)]
        for cancelled in (requests[1], requests[3]):
            assert cancelled.cancel()
            assert cancelled.status == STATUS_CANCELLED
        bench.polls(3)
        assert answers([requests[0], requests[2], requests[4]]) == [0, 1, 2]
        assert not bench.reads.busy
        assert handle.read(4) == ANSWER.pack(3)


def test_what_the_device_works_on_is_not_cancelled_and_ends_soon(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        first, second = handle.submit_read(4), handle.submit_read(4)
        assert not first.cancel()
        assert first.status == STATUS_PENDING
        bench.polls(1)
        assert (first.status, second.status) == (STATUS_SUCCESS, STATUS_PENDING)
        with pytest.raises(TimeoutError):
            handle.read(4, timeout=POLL_SECONDS / 2)  # behind the second one: taken out of the queue
        bench.polls(1)
        assert answers([first, second]) == [0, 1]


def test_the_last_one_is_cancelled_as_the_device_is_given_the_next(bench: Bench) -> None:
    """The queue is empty then: the device is idle, and takes the next read at once."""
    with bench.bridge.open("POLLED") as handle:
        first, second = handle.submit_read(4), handle.submit_read(4)
        assert second.cancel()
        bench.polls(1)
        assert first.done and not bench.reads.busy
        third = handle.submit_read(4)
        assert bench.reads.current is third.irp
        bench.polls(1)
        assert answers([third]) == [1]


# -- races ---------------------------------------------------------------------------------------------------------------


def race(build: Callable[[Bench], tuple[dict[str, Callable[[], object]], Callable[[], object]]]) -> Callable[[], Race]:
    """A race on a bench of its own, and what must hold after it."""

    def make() -> Race:
        bench = Bench(io_manager=CountingIo)
        threads, check = build(bench)
        return Race(threads, check, bench.bridge.close)

    make.__name__ = build.__name__
    return make


@race
def cancel_against_the_dpc(bench: Bench) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """The one that is about to be the next."""
    handle = bench.bridge.open("POLLED")
    first, second, third = (handle.submit_read(4) for _ in range(3))

    def check() -> None:
        bench.polls(3)
        assert second.status in (STATUS_SUCCESS, STATUS_CANCELLED)
        expected = [first, second, third] if second.status == STATUS_SUCCESS else [first, third]
        assert answers(expected) == list(range(len(expected)))
        bench.check(first, second, third)

    return {"cancel": second.cancel, "poll": lambda: bench.polls(1)}, check


@race
def insert_against_the_dpc(bench: Bench) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """A read that comes as the device is about to be idle: it is queued behind, or has it; it is never forgotten."""
    handle, other = bench.bridge.open("POLLED"), bench.bridge.open("POLLED")
    requests = [handle.submit_read(4)]

    def check() -> None:
        bench.polls(2)
        assert answers(requests) == [0, 1]
        bench.check(*requests)

    return {"read": lambda: requests.append(other.submit_read(4)), "poll": lambda: bench.polls(1)}, check


@race
def two_reads(bench: Bench) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """Only one of them finds the device idle."""
    handles = [bench.bridge.open("POLLED") for _ in range(2)]
    requests: list[Request] = []

    def read(number: int) -> Callable[[], object]:
        return lambda: requests.append(handles[number].submit_read(4))

    def check() -> None:
        assert len(bench.reads.waiting) == 1
        bench.polls(2)
        assert sorted(answers(requests)) == [0, 1]
        bench.check(*requests)

    return {"one": read(0), "other": read(1)}, check


@race
def close_against_a_read(bench: Bench) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """A read that comes while its file is closed is refused, or it is one of those that are ended."""
    handle = bench.bridge.open("POLLED")
    requests: list[Request] = []

    def read() -> None:
        with contextlib.suppress(HilbridgeError):  # closed already
            requests.append(handle.submit_read(4))

    def check() -> None:
        assert all(one.status in (STATUS_CANCELLED, STATUS_DELETE_PENDING) for one in requests), statuses(requests)
        bench.check(*requests)

    return {"close": handle.close, "read": read}, check


@race
def close_against_the_dpc(bench: Bench) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """The file whose read the device works on is closed: that of the other file has its turn, once, whoever starts it."""
    handle, other = bench.bridge.open("POLLED"), bench.bridge.open("POLLED")
    first, second, third = handle.submit_read(4), handle.submit_read(4), other.submit_read(4)

    def check() -> None:
        bench.polls(3)
        assert first.status in (STATUS_SUCCESS, STATUS_CANCELLED)
        assert second.status == STATUS_CANCELLED
        assert answers([third]) == [1 if first.status == STATUS_SUCCESS else 0]
        bench.check(first, second, third)

    return {"close": handle.close, "poll": lambda: bench.polls(1)}, check


@race
def removal_against_the_dpc(bench: Bench) -> tuple[dict[str, Callable[[], object]], Callable[[], object]]:
    """What is not answered any more ends, and no timer is left behind."""
    handle = bench.bridge.open("POLLED")
    first, second = handle.submit_read(4), handle.submit_read(4)

    def check() -> None:
        assert first.status in (STATUS_SUCCESS, STATUS_DELETE_PENDING)
        assert second.status == STATUS_DELETE_PENDING
        assert bench.bridge.ke.timers.running() == []
        assert handle.submit_read(4).status == STATUS_DELETE_PENDING
        handle.close()
        bench.check(first, second)

    return {"unplug": lambda: bench.bridge.unplug("POLLED"), "poll": lambda: bench.polls(1)}, check


@pytest.mark.parametrize(
    "build",
    [
        cancel_against_the_dpc,
        insert_against_the_dpc,
        two_reads,
        close_against_a_read,
        close_against_the_dpc,
        removal_against_the_dpc,
    ],
    ids=lambda build: str(build.__name__),
)
def test_every_order(build: Callable[[], Race]) -> None:
    assert explore(build, preemptions=2).schedules > 10


# -- the rest ------------------------------------------------------------------------------------------------------------


def test_a_dpc_that_comes_too_early_looks_again(bench: Bench) -> None:
    """That of a timer which had expired before the device was given another read."""
    with bench.bridge.open("POLLED") as handle:
        request = handle.submit_read(4)
        bench.polls(0.5)
        bench.bridge.ke.insert_queue_dpc(bench.extension.dpc)
        assert not request.done
        bench.polls(1)
        assert answers([request]) == [0]


def test_a_read_has_room_for_an_answer(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        assert statuses([handle.submit_read(size) for size in (0, 3)]) == [STATUS_BUFFER_TOO_SMALL] * 2
        assert not bench.reads.busy
        assert handle.read(100) == ANSWER.pack(0)


def test_answers_come_at_the_pace_of_the_device(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        came = []
        for _ in range(3):
            handle.read(4)
            came.append(bench.bridge.ke.clock.now() / 1e9)
        assert came == [POLL_SECONDS, 2 * POLL_SECONDS, 3 * POLL_SECONDS]


def test_its_own_names_beside_the_other_variant(bench: Bench) -> None:
    bench.bridge.plug("virtual:null", name="OTHER", driver="cancel")
    for name in ("POLLED", NAME, LINK, "CancelStartIo"):
        bench.bridge.open(name).close()


def test_a_link_that_is_taken_leaves_no_device_behind() -> None:
    with Bridge.manual() as bridge:
        bridge.io.create_symbolic_link(LINK, r"\Device\Other")
        with pytest.raises(DriverFault, match="STATUS_OBJECT_NAME_COLLISION"):
            bridge.plug("virtual:null", driver="cancel-startio")
        assert bridge.io.drivers["cancel-startio"].devices == []


def test_unplugged_it_ends_its_reads_and_its_timer(bench: Bench) -> None:
    handle = bench.bridge.open("POLLED")
    waiting = [handle.submit_read(4) for _ in range(3)]
    bench.bridge.unplug("POLLED")
    assert statuses(waiting) == [STATUS_DELETE_PENDING] * 3
    assert bench.bridge.ke.timers.running() == []
    assert handle.submit_read(4).status == STATUS_DELETE_PENDING
    handle.close()
    for name in ("POLLED", LINK):
        with pytest.raises(NameNotFound):
            bench.bridge.open(name)
    bench.bridge.plug("virtual:null", name="POLLED", driver=cancel_startio)
    assert bench.bridge.open("POLLED").read(4) == ANSWER.pack(0)


def test_unload_leaves_nothing_running() -> None:
    bench = Bench(verify=True)
    handle = bench.bridge.open("POLLED")
    waiting = [handle.submit_read(4) for _ in range(2)]
    bench.bridge.close()
    assert all(request.done for request in waiting)
    assert (bench.bridge.findings, bench.bridge.faults) == ([], [])
    assert not bench.bridge.io.drivers


def test_on_real_time() -> None:
    with Bridge(verify=True) as bridge:
        bridge.plug("virtual:null", name="POLLED", driver="cancel-startio")
        with bridge.open("POLLED") as handle:
            requests = [handle.submit_read(4) for _ in range(2)]
            assert requests[1].cancel()
            assert requests[0].result(timeout=10) == ANSWER.pack(0)
        assert bridge.findings == []
