"""The polling sample: reads that wait, are served in order by a thread, and can be cancelled until they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from hilbridge import Bridge, DriverFault, NameNotFound
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.drivers.samples import cancel
from hilbridge.drivers.samples.cancel import ANSWER, LINK, NAME, POLL_SECONDS, Extension
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.systhread import SystemThread
from hilbridge.model.errors import HilbridgeError, NtStatusError
from hilbridge.model.status import (
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Race, explore
from tests.races.racekit import CountingIo


class Bench:
    """The sample on a manual bridge."""

    def __init__(self, **options: object) -> None:
        self.bridge = Bridge.manual(**options)
        self.bridge.plug("virtual:null", name="POLLED", driver="cancel")
        self.extension: Extension = self.bridge.stack("POLLED")[0].extension

    @property
    def thread(self) -> SystemThread:
        assert self.extension.thread is not None
        return self.extension.thread

    def polls(self, count: float) -> None:
        """So many poll intervals pass."""
        self.bridge.machine.advance(count * POLL_SECONDS)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.bridge:
        yield bench
        assert bench.bridge.faults == []


def answers(requests: list[Request]) -> list[int]:
    assert {request.information for request in requests} == {ANSWER.size}
    return [ANSWER.unpack(request.data)[0] for request in requests]


def statuses(requests: list[Request]) -> list[NtStatus]:
    return [request.status for request in requests]


# -- A1 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
def test_three_files_of_which_one_is_closed(verify: bool) -> None:
    """Exactly the four of the closed file are cancelled; the others are served in the order in which they came."""
    bench = Bench(verify=verify, io_manager=CountingIo)
    with bench.bridge as bridge:
        files = [bridge.open("POLLED") for _ in range(3)]
        requests = [(handle, handle.submit_read(4)) for _ in range(4) for handle in files]
        files[1].close()
        closed = [request for handle, request in requests if handle is files[1]]
        others = [request for handle, request in requests if handle is not files[1]]
        assert statuses(closed) == [STATUS_CANCELLED] * 4
        assert [request.done for request in others] == [False] * 8

        ended: list[Request] = []
        for request in others:
            request.add_done_callback(lambda request=request: ended.append(request))  # type: ignore[misc]
        for served in range(1, 9):
            bench.bridge.machine.run_until_idle()
            assert len(ended) == served
            bench.polls(1)
        assert ended == others
        assert answers(others) == list(range(8))
        assert isinstance(bridge.io, CountingIo)
        for _, request in requests:
            assert request.irp is not None
            assert bridge.io.completed[request.irp.id] == 1
        assert not bench.extension.queue.irps
        assert bridge.findings == []


def test_no_count_is_lost_by_a_cancel_between_insert_and_dequeue(bench: Bench) -> None:
    """The thread finds nothing for the count of a cancelled read, and everything for those of the others."""
    with bench.bridge.open("POLLED") as handle:
        requests = [handle.submit_read(4) for _ in range(5)]
        assert bench.extension.queued.count == 5
        for cancelled in (requests[0], requests[3]):
            assert cancelled.cancel()
            assert cancelled.status == STATUS_CANCELLED
        assert (len(bench.extension.queue), bench.extension.queued.count) == (3, 5)
        bench.polls(6)
        assert answers([requests[1], requests[2], requests[4]]) == [0, 1, 2]
        assert bench.extension.queued.count == 0
        assert ANSWER.unpack(handle.read(4)) == (3,)


def test_a_read_can_be_cancelled_while_the_device_is_busy(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        handle.read(4)
        waiting, next_one = handle.submit_read(4), handle.submit_read(4)
        bench.polls(0.5)
        assert waiting.cancel()
        assert waiting.status == STATUS_CANCELLED
        bench.polls(0.5)
        assert answers([next_one]) == [1], "the answer that the thread was waiting for is for the next one"


def cancel_against_the_thread() -> Race:
    bench = Bench(io_manager=CountingIo)
    handle = bench.bridge.open("POLLED")
    first, second = handle.submit_read(4), handle.submit_read(4)

    def check() -> None:
        bench.polls(4)
        assert first.status in (STATUS_SUCCESS, STATUS_CANCELLED)
        assert second.status == STATUS_SUCCESS
        assert not bench.extension.queue.irps
        assert bench.extension.queued.count == 0
        assert isinstance(bench.bridge.io, CountingIo)
        assert set(bench.bridge.io.finished.values()) == {1}
        assert bench.bridge.faults == []

    def close() -> None:
        handle.close()
        bench.bridge.close()

    return Race({"cancel": first.cancel, "poll": lambda: bench.bridge.machine.run_until_idle()}, check, close)


def close_against_a_read() -> Race:
    """A read that comes while its file is closed is refused, or it is one of those that are ended."""
    bench = Bench(io_manager=CountingIo)
    handle = bench.bridge.open("POLLED")
    requests: list[Request] = []

    def read() -> None:
        with contextlib.suppress(HilbridgeError):  # closed already
            requests.append(handle.submit_read(4))

    def check() -> None:
        assert all(one.status in (STATUS_CANCELLED, STATUS_DELETE_PENDING) for one in requests), statuses(requests)
        assert not bench.extension.queue.irps
        assert bench.bridge.faults == []

    return Race({"close": handle.close, "read": read}, check, bench.bridge.close)


@pytest.mark.parametrize("race", [cancel_against_the_thread, close_against_a_read])
def test_every_order(race: Callable[[], Race]) -> None:
    assert explore(race, preemptions=2).schedules > 10


# -- what a read may be --------------------------------------------------------------------------------------------------


def test_a_read_has_room_for_an_answer(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        assert statuses([handle.submit_read(size) for size in (0, 3)]) == [STATUS_BUFFER_TOO_SMALL] * 2
        assert bench.extension.queued.count == 0
        assert handle.read(4) == ANSWER.pack(0)
        request = handle.submit_read(100)
        assert request.wait(1)
        assert request.data == ANSWER.pack(1)


def test_answers_come_at_the_pace_of_the_device(bench: Bench) -> None:
    with bench.bridge.open("POLLED") as handle:
        came = []
        for _ in range(4):
            handle.read(4)
            came.append(bench.bridge.ke.clock.now() / 1e9)
        assert came == [0, POLL_SECONDS, 2 * POLL_SECONDS, 3 * POLL_SECONDS]


def test_its_own_names(bench: Bench) -> None:
    for name in ("POLLED", NAME, LINK, "CancelSamp"):
        bench.bridge.open(name).close()


def test_a_link_that_is_taken_leaves_no_device_behind() -> None:
    with Bridge.manual() as bridge:
        bridge.io.create_symbolic_link(LINK, r"\Device\Other")
        with pytest.raises(DriverFault, match="STATUS_OBJECT_NAME_COLLISION"):
            bridge.plug("virtual:null", driver="cancel")
        assert bridge.io.drivers["cancel"].devices == []
        bridge.io.delete_symbolic_link(LINK)
        bridge.plug("virtual:null", driver="cancel")


# -- the end -------------------------------------------------------------------------------------------------------------


def test_unload_joins_the_thread() -> None:
    bench = Bench()
    handle = bench.bridge.open("POLLED")
    handle.read(4)
    waiting = handle.submit_read(4)
    bench.polls(0.5)
    bench.bridge.close()
    assert bench.thread.ended
    assert waiting.status == STATUS_CANCELLED
    assert bench.bridge.faults == []
    assert not bench.bridge.io.drivers


@pytest.mark.parametrize("busy", [False, True])
def test_unplugged_it_ends_its_reads_and_its_thread(bench: Bench, busy: bool) -> None:
    """Whether the thread waits for a read, or for the device."""
    handle: Handle = bench.bridge.open("POLLED")
    waiting: list[Request] = []
    if busy:
        handle.read(4)
        waiting = [handle.submit_read(4) for _ in range(2)]
        bench.polls(0.5)
    bench.bridge.unplug("POLLED")
    assert bench.thread.ended
    assert statuses(waiting) == [STATUS_DELETE_PENDING] * len(waiting)
    late = handle.submit_read(4)
    assert late.status == STATUS_DELETE_PENDING
    handle.close()
    for name in ("POLLED", LINK):
        with pytest.raises(NameNotFound):
            bench.bridge.open(name)


def test_it_can_be_plugged_in_again(bench: Bench) -> None:
    for _ in range(3):
        bench.bridge.unplug("POLLED")
        bench.bridge.plug("virtual:null", name="POLLED", driver=cancel)
        with bench.bridge.open("POLLED") as handle:
            assert handle.read(4) == ANSWER.pack(0)
    assert len(bench.bridge.ke.system_threads) == 1


def test_without_a_thread_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_arguments: object, **_options: object) -> SystemThread:
        raise NtStatusError(STATUS_INSUFFICIENT_RESOURCES, "no more threads")

    monkeypatch.setattr(Kernel, "create_system_thread", no_thread)
    with Bridge.manual() as bridge:
        with pytest.raises(DriverFault, match="STATUS_INSUFFICIENT_RESOURCES"):
            bridge.plug("virtual:null", driver="cancel")
        assert bridge.io.drivers["cancel"].devices == []
        bridge.acknowledge_faults()


def test_on_real_time() -> None:
    with Bridge(verify=True) as bridge:
        bridge.plug("virtual:null", name="POLLED", driver="cancel")
        with bridge.open("POLLED") as handle:
            requests = [handle.submit_read(4) for _ in range(2)]
            assert requests[0].result(timeout=10) == ANSWER.pack(0)
            assert requests[1].cancel()
            assert requests[1].wait(10)
        assert bridge.findings == []
