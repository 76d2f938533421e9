"""The notification sample: a timer, a cancellation and a close race for each registration, and one of them ends it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from hilbridge import Bridge
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.drivers.samples.event import EVENT_BASED, IOCTL_REGISTER_EVENT, IRP_BASED, REGISTER, Extension
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.timer import relative_ms
from hilbridge.model.status import (
    STATUS_CANCELLED,
    STATUS_DELETE_PENDING,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_HANDLE,
    STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_TYPE_MISMATCH,
    STATUS_PENDING,
    STATUS_SUCCESS,
    NtStatus,
)
from hilbridge.testing.interleave import Granularity, Race, explore
from tests.races.racekit import CountingIo

ROUNDS = 300
HANDLE = 0x44


class Bench:
    """The sample on a manual bridge, and one event that may be registered as `HANDLE`."""

    def __init__(self, **options: object) -> None:
        self.bridge = Bridge.manual(**options)
        self.bridge.plug("virtual:null", name="EVENTS", driver="event")
        self.extension: Extension = self.bridge.stack("EVENTS")[0].extension
        self.event = Kevent()
        self.extension.handles[HANDLE] = self.event

    def advance(self, milliseconds: float) -> None:
        self.bridge.machine.advance(milliseconds / 1000)

    def check(self) -> None:
        """Nothing is left: no record, no timer, no fault."""
        assert self.extension.records == []
        assert len(self.bridge.ke.timers) == 0
        assert self.bridge.faults == []


def register(handle: Handle, milliseconds: float, kind: int = IRP_BASED, event: int = 0) -> Request:
    return handle.submit_ioctl(IOCTL_REGISTER_EVENT, REGISTER.pack(kind, event, relative_ms(milliseconds)))


def statuses(*requests: Request) -> list[NtStatus]:
    return [request.status for request in requests]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    with bench.bridge:
        yield bench
        bench.check()


# -- one at a time -------------------------------------------------------------------------------------------------------


def test_the_code_and_the_structure() -> None:
    assert IOCTL_REGISTER_EVENT == 0x222000
    assert REGISTER.size == 24, "as a C compiler lays it out for 64 bits"


def test_a_request_ends_when_its_time_is_over(bench: Bench) -> None:
    with bench.bridge.open("EVENTS") as handle:
        late, early = register(handle, 20), register(handle, 10)
        assert len(bench.extension.records) == 2
        bench.advance(9.9)
        assert statuses(late, early) == [STATUS_PENDING] * 2
        bench.advance(0.1)
        assert statuses(late, early) == [STATUS_PENDING, STATUS_SUCCESS]
        bench.advance(10)
        assert statuses(late, early) == [STATUS_SUCCESS] * 2
        assert (late.information, late.data) == (0, b"")


def test_the_time_may_be_absolute_or_over_already(bench: Bench) -> None:
    bench.advance(50)
    with bench.bridge.open("EVENTS") as handle:
        absolute = handle.submit_ioctl(IOCTL_REGISTER_EVENT, REGISTER.pack(IRP_BASED, 0, 600_000))
        over = handle.submit_ioctl(IOCTL_REGISTER_EVENT, REGISTER.pack(IRP_BASED, 0, 0))
        bench.advance(0)
        assert statuses(absolute, over) == [STATUS_PENDING, STATUS_SUCCESS]
        bench.advance(10)
        assert absolute.status == STATUS_SUCCESS


def test_cancelled_it_ends_and_its_timer_does_not_run(bench: Bench) -> None:
    with bench.bridge.open("EVENTS") as handle:
        request, other = register(handle, 10), register(handle, 10)
        assert request.cancel()
        assert request.status == STATUS_CANCELLED
        assert len(bench.extension.records) == len(bench.bridge.ke.timers) == 1
        bench.advance(10)
        assert statuses(request, other) == [STATUS_CANCELLED, STATUS_SUCCESS]


def test_cleanup_ends_what_is_of_its_file(bench: Bench) -> None:
    with bench.bridge.open("EVENTS") as other:
        handle = bench.bridge.open("EVENTS")
        requests = [register(handle, 10) for _ in range(3)]
        stays = register(other, 10)
        event = register(handle, 10, EVENT_BASED, HANDLE)
        handle.close()
        assert statuses(*requests, event, stays) == [*[STATUS_CANCELLED] * 3, STATUS_SUCCESS, STATUS_PENDING]
        bench.advance(10)
        assert stays.status == STATUS_SUCCESS
        assert not bench.event.signaled


def test_an_event_is_set_when_its_time_is_over(bench: Bench) -> None:
    with bench.bridge.open("EVENTS") as handle:
        request = register(handle, 10, EVENT_BASED, HANDLE)
        assert request.status == STATUS_SUCCESS, "the request ends at once"
        bench.advance(9.9)
        assert not bench.event.signaled
        assert bench.bridge.ke.wait_for_single_object(bench.event, 1)
        assert bench.bridge.ke.clock.now() == 10_000_000


def test_what_is_refused(bench: Bench) -> None:
    good = REGISTER.pack(IRP_BASED, 0, 0)
    bench.extension.handles[0x48] = "a string"  # type: ignore[assignment]
    with bench.bridge.open("EVENTS") as handle:
        for code, data, status in (
            (IOCTL_REGISTER_EVENT, b"", STATUS_INVALID_PARAMETER),
            (IOCTL_REGISTER_EVENT, good[:-1], STATUS_INVALID_PARAMETER),
            (IOCTL_REGISTER_EVENT, REGISTER.pack(2, 0, 0), STATUS_INVALID_PARAMETER),
            (IOCTL_REGISTER_EVENT, REGISTER.pack(EVENT_BASED, 0x40, 0), STATUS_INVALID_HANDLE),
            (IOCTL_REGISTER_EVENT, REGISTER.pack(EVENT_BASED, 0x48, 0), STATUS_OBJECT_TYPE_MISMATCH),
            (IOCTL_REGISTER_EVENT + 4, good, STATUS_INVALID_DEVICE_REQUEST),
        ):
            assert handle.submit_ioctl(code, data, size=32).status == status
            assert not bench.extension.records


def test_unplugged_it_ends_all(bench: Bench) -> None:
    handle = bench.bridge.open("EVENTS")
    requests = [register(handle, 10) for _ in range(2)]
    register(handle, 10, EVENT_BASED, HANDLE)
    bench.bridge.unplug("EVENTS")
    assert statuses(*requests) == [STATUS_DELETE_PENDING] * 2
    bench.check()
    late = [register(handle, 10), register(handle, 10, EVENT_BASED, HANDLE)]
    assert statuses(*late) == [STATUS_DELETE_PENDING] * 2
    handle.close()
    bench.advance(20)
    assert not bench.event.signaled


def test_on_real_time() -> None:
    with Bridge(verify=True) as bridge:
        bridge.plug("virtual:null", name="EVENTS", driver="event")
        with bridge.open("EVENTS") as handle:
            over, cancelled = register(handle, 1), register(handle, 60_000)
            assert over.wait(10)
            assert cancelled.cancel()
            assert statuses(over, cancelled) == [STATUS_SUCCESS, STATUS_CANCELLED]
        assert bridge.findings == []


# -- A2 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", [False, True])
def test_random_races_of_timer_cancel_and_close(seed: int, verify: bool) -> None:
    """Each IRP ends exactly once, with SUCCESS or CANCELLED, whoever comes first; and no record is left."""
    seen: set[NtStatus] = set()
    for number in range(ROUNDS // 10 if verify else ROUNDS):
        draw = random.Random(f"{seed}/{number}")
        bench = Bench(io_manager=CountingIo, verify=verify)
        with bench.bridge as bridge:
            handles = [bridge.open("EVENTS") for _ in range(draw.randint(1, 3))]
            requests: list[Request] = []
            while handles:
                step, handle = draw.random(), draw.choice(handles)
                if step < 0.5:
                    kind = EVENT_BASED if draw.random() < 0.2 else IRP_BASED
                    requests.append(register(handle, draw.randint(0, 5), kind, HANDLE))
                elif step < 0.7 and requests:
                    draw.choice(requests).cancel()
                elif step < 0.8:
                    handle.cancel_io()
                elif step < 0.95:
                    bench.advance(draw.randint(0, 3))
                else:
                    handle.close()
                    handles.remove(handle)
            bench.advance(0)
            ended_once(bench, requests)
            bench.check()
            if verify:
                assert bridge.findings == []
        seen |= set(statuses(*requests))
    assert seen == {STATUS_SUCCESS, STATUS_CANCELLED}


def ended_once(bench: Bench, requests: list[Request]) -> None:
    io: IoManager = bench.bridge.io
    assert isinstance(io, CountingIo)
    for request in requests:
        assert request.status in (STATUS_SUCCESS, STATUS_CANCELLED)
        assert request.irp is not None
        assert io.completed[request.irp.id] == io.finished[request.irp.id] == 1


def race(*names: str) -> Callable[[], Race]:
    """A registration that is due, one that is not, and an event; and those that are named come at the same time."""

    def build() -> Race:
        bench = Bench(io_manager=CountingIo)
        handle = bench.bridge.open("EVENTS")
        due, later = register(handle, 10), register(handle, 1000)
        register(handle, 10, EVENT_BASED, HANDLE)
        requests = [due, later]
        # No crank: the timers' queue is looked at as a machine does, at a time that has come.
        bodies: dict[str, Callable[[], object]] = {
            "timer": lambda: expire(bench, 10),
            "cancel": due.cancel,
            "close": handle.close,
            "cancel-all": handle.cancel_io,
            "register": lambda: requests.append(register(handle, 10)),
        }

        def check() -> None:
            for request in requests:
                assert request.irp is not None
                assert request.done or not request.irp.cancel, "a cancellation was not seen"
            bench.advance(20)
            if not {"close", "cancel-all"} & set(names):
                assert later.status == STATUS_PENDING
            handle.close()
            assert later.status == STATUS_CANCELLED
            if names == ("timer", "cancel"):
                assert bench.event.signaled
            ended_once(bench, requests)
            bench.check()

        return Race({name: bodies[name] for name in names}, check, bench.bridge.close)

    return build


def expire(bench: Bench, milliseconds: int) -> None:
    ke = bench.bridge.ke
    while (timer := ke.timers.pop_expired(milliseconds * 1_000_000)) is not None:
        ke.expire(timer)


@pytest.mark.parametrize(
    "names",
    [("timer", "cancel"), ("timer", "close"), ("cancel", "close"), ("timer", "register"), ("register", "cancel-all")],
)
def test_every_order_of_two(names: tuple[str, ...]) -> None:
    assert explore(race(*names), preemptions=2).schedules > 20


def test_every_line_of_the_driver_in_cancel_against_dpc() -> None:
    """Stopped before each of its lines, and the other one goes on."""
    modules = ("hilbridge.drivers.samples.event", "hilbridge.kernel.timer")
    explore(race("timer", "cancel"), granularity=Granularity.LINES, preemptions=1, modules=modules)


@pytest.mark.slow
def test_all_three_at_once(seed: int) -> None:
    explore(race("timer", "cancel", "close"), preemptions=1, samples=300, seed=seed)
