"""The explorer finds what is broken, leaves alone what is not, says how to see it again, and puts everything back."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from hilbridge import Bridge
from hilbridge.iomgr.cancel import CancelRoutines
from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.manual import ManualMachine
from hilbridge.kernel.spinlock import SpinLock
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.errors import Deadlock, InternalFault, UsageFault
from hilbridge.model.irp import Irp
from hilbridge.testing import baton
from hilbridge.testing.interleave import (
    MODULES,
    Exploration,
    Granularity,
    Race,
    RaceFound,
    explore,
    replay,
    settle,
    stood_still,
)

HERE = (*MODULES, __name__)
POINTS, LINES, INSTRUCTIONS = Granularity.POINTS, Granularity.LINES, Granularity.INSTRUCTIONS


# -- races without drivers ---------------------------------------------------------------------------------------------


class Counter:
    """A number that is not protected by anything."""

    def __init__(self) -> None:
        self.value = 0

    def add_in_two_lines(self) -> None:
        value = self.value
        self.value = value + 1

    def add_in_one_line(self) -> None:
        self.value += 1


def counting(add: Callable[[Counter], None], threads: int = 2) -> Callable[[], Race]:
    def build() -> Race:
        counter = Counter()

        def check() -> None:
            assert counter.value == threads, f"{counter.value} of {threads} additions"

        return Race({f"t{number}": lambda: add(counter) for number in range(threads)}, check)

    return build


def test_a_lost_update_between_two_lines_is_found_by_lines() -> None:
    build = counting(Counter.add_in_two_lines)
    explore(build, granularity=LINES, preemptions=0, modules=HERE)
    with pytest.raises(RaceFound, match="1 of 2 additions"):
        explore(build, granularity=LINES, preemptions=1, modules=HERE)


def test_a_lost_update_within_a_line_is_found_by_instructions_only() -> None:
    build = counting(Counter.add_in_one_line)
    explore(build, granularity=LINES, preemptions=3, modules=HERE)
    with pytest.raises(RaceFound, match="1 of 2 additions"):
        explore(build, granularity=INSTRUCTIONS, preemptions=1, modules=HERE)


def test_only_the_chosen_modules_are_interrupted() -> None:
    explore(counting(Counter.add_in_two_lines), granularity=LINES, preemptions=2, modules=MODULES)


def test_three_threads_can_lose_two_updates() -> None:
    def build() -> Race:
        counter = Counter()

        def check() -> None:
            assert counter.value > 1, "two updates were lost"

        return Race(dict.fromkeys(("one", "two", "three"), counter.add_in_two_lines), check)

    explore(build, granularity=LINES, preemptions=0, modules=HERE)
    with pytest.raises(RaceFound):
        explore(build, granularity=LINES, preemptions=2, modules=HERE)


def points_in_turn(log: list[str], count: int) -> Callable[[], Race]:
    """Two threads that pass `count` points each, and note the order in `log`."""

    def build() -> Race:
        bridge = Bridge.manual()
        timer = Ktimer()
        order: list[str] = []

        def body(name: str) -> Callable[[], None]:
            def run() -> None:
                for _ in range(count):
                    bridge.ke.cancel_timer(timer)
                    order.append(name)

            return run

        def close() -> None:
            log.append("".join(order))
            bridge.close()

        return Race({"a": body("a"), "b": body("b")}, close=close)

    return build


def test_every_order_is_tried_when_preemptions_are_plenty() -> None:
    log: list[str] = []
    done = explore(points_in_turn(log, 3), preemptions=6)
    assert len(set(log)) == 20, "six choose three"
    assert done.points["Kernel.cancel_timer"] > 0
    assert done.longest == 6


def test_the_bound_bounds() -> None:
    log: list[str] = []
    done = explore(points_in_turn(log, 3), preemptions=1)

    def switches(order: str) -> int:
        return sum(one != other for one, other in pairwise(order))

    assert max(map(switches, log)) == 2, "one preemption, and one switch because the other has ended"
    assert {order for order in set(log) if switches(order) == 1} == {"aaabbb", "bbbaaa"}
    # The first choice, the six points at which the other can be preferred, from either start, and the rehearsal.
    assert done.schedules == 2 + 2 * 3


def test_random_schedules_are_drawn_from_the_seed() -> None:
    logs: list[list[str]] = []
    for seed in (1, 1, 2):
        logs.append([])
        done = explore(points_in_turn(logs[-1], 10), preemptions=0, samples=30, sample_preemptions=3, seed=seed)
        assert done.schedules == 2 + 1 + 30
    assert logs[0] == logs[1] != logs[2]


def test_random_schedules_go_on_until_the_time_is_over() -> None:
    assert explore(points_in_turn([], 3), preemptions=0, seconds=0.0).schedules == 3
    assert explore(points_in_turn([], 3), preemptions=0, seconds=0.2).schedules > 3


# -- locks and waits ---------------------------------------------------------------------------------------------------


def locks_in_turn(*, same_order: bool) -> Callable[[], Race]:
    def build() -> Race:
        bridge = Bridge.manual()
        first, second = bridge.ke.spin_lock(), bridge.ke.spin_lock()

        def one() -> None:
            with first, second:
                pass

        def two() -> None:
            with first if same_order else second, second if same_order else first:
                pass

        return Race({"one": one, "two": two}, close=bridge.close)

    return build


def test_a_deadlock_is_found_and_shown_with_both_stacks() -> None:
    with pytest.raises(RaceFound) as found:
        explore(locks_in_turn(same_order=False))
    assert isinstance(found.value.__cause__, Deadlock)
    message = str(found.value)
    assert "no thread can go on" in message
    assert "held by two" in message and "held by one" in message
    assert "thread one:" in message and "in one" in message
    assert "thread two:" in message and "in two" in message


def test_locks_in_one_order_are_no_deadlock() -> None:
    explore(locks_in_turn(same_order=True), preemptions=3)
    explore(locks_in_turn(same_order=True), granularity=LINES, preemptions=2)


def test_a_lock_that_is_left_held_is_found() -> None:
    def build() -> Race:
        bridge = Bridge.manual()
        return Race({"one": bridge.ke.spin_lock().acquire}, close=bridge.close)

    with pytest.raises(RaceFound, match=r"there still is the lock of hilbridge\.kernel\.spinlock"):
        explore(build)


def waits(came: list[bool], timeout: float) -> Callable[[], Race]:
    def build() -> Race:
        bridge = Bridge.manual()
        event = Kevent()

        def wait() -> None:
            came.append(bridge.ke.wait_for_single_object(event, timeout))

        return Race({"wait": wait, "set": event.set}, close=bridge.close)

    return build


def test_a_short_time_out_comes_and_does_not_come() -> None:
    came: list[bool] = []
    explore(waits(came, 0.05))
    assert set(came) == {True, False}


def test_a_time_out_that_comes_early_has_the_price_of_a_preemption() -> None:
    came: list[bool] = []
    explore(waits(came, 0.05), preemptions=0)
    assert set(came) == {True}


def test_a_long_time_out_waits_for_the_others() -> None:
    came: list[bool] = []
    explore(waits(came, 30.0))
    assert set(came) == {True}


def test_who_waits_alone_turns_the_crank() -> None:
    def build() -> Race:
        bridge = Bridge.manual()
        event = Kevent()

        def wait() -> None:
            bridge.ke.queue_work_item(event.set)  # type: ignore[arg-type]
            assert bridge.ke.wait_for_single_object(event, 30.0)
            assert not bridge.ke.wait_for_single_object(Kevent(), 30.0)
            with pytest.raises(Deadlock, match="nothing is left"):
                bridge.ke.wait_for_single_object(Kevent(), None)

        return Race({"wait": wait, "other": lambda: None}, close=bridge.close)

    explore(build)


def test_locks_of_the_bridge_may_be_taken_again_where_they_are_made_for_it() -> None:
    def build() -> Race:
        bridge = Bridge.manual()

        def look() -> None:
            with bridge.pnp.lock:
                assert bridge.devices() == []

        return Race({"one": look, "two": look}, close=bridge.close)

    explore(build, granularity=LINES, modules=(*HERE, "hilbridge.bridge"))


# -- bridges that run by themselves ------------------------------------------------------------------------------------------


def running() -> Bridge:
    return Bridge(clock=VirtualClock())


def test_the_threads_of_a_bridge_are_threads_of_the_race() -> None:
    orders: set[str] = set()

    def build() -> Race:
        bridge = running()
        order: list[str] = []

        def racer() -> None:
            bridge.ke.queue_work_item(lambda: order.append("w"))
            order.append("r")

        def check() -> None:
            orders.add("".join(order))

        return Race({"racer": racer, "other": lambda: order.append("o")}, check, bridge.close)

    explore(build, preemptions=0)
    assert orders == {"rwo", "row", "orw"}
    explore(build, granularity=LINES, preemptions=1, modules=HERE)
    assert orders == {"rwo", "row", "orw", "wro", "owr", "wor"}


def test_time_that_passes_because_nobody_is_woken_is_counted() -> None:
    seen: list[int] = []

    def build() -> Race:
        bridge = running()
        event = Kevent()

        def wait() -> None:
            assert not bridge.ke.wait_for_single_object(event, 2.0)

        return Race({"wait": wait, "other": lambda: None}, lambda: seen.append(stood_still()), bridge.close)

    explore(build)
    assert set(seen) == {2_000_000_000}


def expired(_dpc: Kdpc, event: Kevent, _one: object, _two: object) -> None:
    event.set()


def test_a_timer_of_a_bridge_that_runs_by_itself_expires_on_its_virtual_clock() -> None:
    def build() -> Race:
        bridge = running()
        event = Kevent()
        timer = Ktimer()

        def wait() -> None:
            bridge.ke.set_timer(timer, relative_ms(20), dpc=Kdpc(expired, event))
            assert bridge.ke.wait_for_single_object(event, 30.0)

        def check() -> None:
            assert stood_still() in (0, 20_000_000), "in one step, while nobody could go on, or early"
            assert bridge.ke.clock.now() == 20_000_000

        return Race({"wait": wait, "other": lambda: None}, check, bridge.close)

    explore(build)
    explore(build, granularity=LINES, preemptions=1, modules=(*HERE, "hilbridge.kernel.poller"))


def test_a_thread_of_the_bridge_that_nobody_ends_is_reported() -> None:
    bridges: list[Bridge] = []

    def build() -> Race:
        bridge = running()
        bridges.append(bridge)
        bridge.ke.queue_work_item(lambda: None)
        return Race({"one": lambda: None})

    with pytest.raises(RaceFound, match="no thread can go on: hilbridge-worker waits: for a queue"):
        explore(build)
    for bridge in bridges:
        bridge.close()


def test_a_failure_on_a_bridge_that_runs_by_itself_leaves_nothing_open() -> None:
    """Its descriptors and threads; the rule for all tests says what was left."""

    def build() -> Race:
        bridge = running()
        name = bridge.plug("virtual:loop", name="COM1")
        handle = bridge.open(name)

        def fail() -> None:
            raise AssertionError("as if")

        return Race({"write": lambda: handle.write(b"x"), "read": lambda: handle.read(1)}, fail, bridge.close)

    with pytest.raises(RaceFound, match="as if"):
        explore(build)


@pytest.mark.parametrize("routine", [settle, stood_still])
def test_what_is_for_races_is_for_races_only(routine: Callable[[], object]) -> None:
    with pytest.raises(UsageFault, match="being explored"):
        routine()


# -- how a failure is told ---------------------------------------------------------------------------------------------


def test_what_a_thread_raises_is_the_cause() -> None:
    error = ValueError("of the driver")

    def fail() -> None:
        raise error

    with pytest.raises(RaceFound, match="ValueError: of the driver") as found:
        explore(lambda: Race({"one": fail, "two": lambda: None}))
    assert found.value.__cause__ is error


def test_the_story_says_who_was_stopped_where() -> None:
    with pytest.raises(RaceFound) as found:
        explore(counting(Counter.add_in_two_lines), granularity=LINES, preemptions=1, modules=HERE)
    assert found.value.schedule.startswith("lines: ")
    assert "t0 passes" in found.value.story
    assert "in add_in_two_lines: self.value = value + 1); t1 goes on" in found.value.story


def test_replay_does_it_again_and_only_that() -> None:
    build = counting(Counter.add_in_two_lines)
    with pytest.raises(RaceFound) as found:
        explore(build, granularity=LINES, preemptions=1, modules=HERE)
    with pytest.raises(RaceFound) as again:
        replay(build, found.value.schedule, modules=HERE)
    assert (again.value.schedule, again.value.story) == (found.value.schedule, found.value.story)
    replay(build, "lines:", modules=HERE)
    replay(build, "lines: free0=t1", modules=HERE)


@pytest.mark.parametrize("text", ["", "words: 1=a", "lines: 1", "lines: a=b=c"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="is not a schedule"):
        replay(counting(Counter.add_in_two_lines), text)


@pytest.mark.parametrize("name", ["", "a b", "a=b"])
def test_names_that_would_not_fit_into_a_schedule_are_refused(name: str) -> None:
    with pytest.raises(UsageFault, match="without spaces"):
        Race({name: lambda: None})


def test_a_race_that_goes_another_way_each_time_is_reported() -> None:
    runs: list[int] = []

    def build() -> Race:
        runs.append(1)
        bridge = Bridge.manual()
        few = len(runs) > 3

        def body() -> None:
            for _ in range(1 if few else 5):
                bridge.ke.cancel_timer(Ktimer())

        return Race({"one": body, "two": body}, close=bridge.close)

    with pytest.raises(RaceFound, match="went another way") as found:
        explore(build, preemptions=1)
    assert isinstance(found.value.__cause__, InternalFault)


def test_a_thread_that_hangs_elsewhere_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baton, "SCHEDULE_SECONDS", 0.1)
    let_go = threading.Event()
    with pytest.raises(RaceFound, match="not under the scheduler's control") as found:
        explore(lambda: Race({"one": lambda: let_go.wait(30), "two": lambda: None}))
    assert "thread one:" in str(found.value)
    let_go.set()  # and the thread ends: whoever watches over this test sees to that


def test_a_failure_gives_up_the_threads_that_are_stopped() -> None:
    """Thread one waits for ever for a lock that two keeps: both end, with their `finally` clauses run."""
    left: list[str] = []

    def build() -> Race:
        bridge = Bridge.manual()
        first, second = bridge.ke.spin_lock(), bridge.ke.spin_lock()

        def body(name: str, locks: tuple[SpinLock, SpinLock]) -> None:
            try:
                with locks[0], locks[1]:
                    pass
            finally:
                left.append(name)

        return Race(
            {"one": lambda: body("one", (first, second)), "two": lambda: body("two", (second, first))},
            close=bridge.close,
        )

    with pytest.raises(RaceFound):
        explore(build)
    assert left.count("one") == left.count("two")


def test_every_race_that_was_built_is_closed() -> None:
    built: list[int] = []
    closed: list[int] = []

    def build() -> Race:
        number = len(built)
        built.append(number)
        counter = Counter()

        def check() -> None:
            assert counter.value == 2

        return Race(dict.fromkeys("ab", counter.add_in_two_lines), check, lambda: closed.append(number))

    with pytest.raises(RaceFound):
        explore(build, granularity=LINES, modules=HERE)
    assert closed == built


def test_a_race_that_does_not_close_well_fails() -> None:
    def close() -> None:
        raise OSError("still in use")

    with pytest.raises(RaceFound, match="still in use"):
        explore(lambda: Race({"one": lambda: None}, close=close))


# -- putting back ------------------------------------------------------------------------------------------------------


@pytest.fixture
def untouched() -> Iterator[None]:
    """Everything that is hooked during an exploration is as it was afterwards."""

    def look() -> list[object]:
        classes: list[type] = [IrpRoutines, CancelRoutines, Irp, SpinLock, Kernel, ManualMachine, VirtualClock]
        modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("hilbridge.")]
        names = ("threading", "queue", "select")
        return [dict(vars(one)) for one in classes] + [vars(module).get(name) for module in modules for name in names]

    Bridge.manual().close()  # imports what it needs
    before = look()
    yield
    assert look() == before
    assert gc.isenabled()
    assert sys.gettrace() is None or "pytest" not in repr(sys.gettrace())


@pytest.mark.usefixtures("untouched")
def test_nothing_is_left_in_the_product() -> None:
    explore(locks_in_turn(same_order=True))
    explore(locks_in_turn(same_order=True), granularity=LINES, preemptions=1)


@pytest.mark.usefixtures("untouched")
def test_nothing_is_left_in_the_product_by_a_failure() -> None:
    with pytest.raises(RaceFound):
        explore(locks_in_turn(same_order=False))


def test_outside_of_an_exploration_the_bridge_is_the_usual_one() -> None:
    explore(locks_in_turn(same_order=True))
    bridge = Bridge.manual()
    try:
        lock = bridge.ke.spin_lock()
        assert type(lock._lock) is type(threading.Lock())
    finally:
        bridge.close()


def test_an_exploration_says_what_it_has_done() -> None:
    done = explore(locks_in_turn(same_order=True), preemptions=1)
    assert isinstance(done, Exploration)
    assert done.schedules > 5
    assert done.points["SpinLock.acquire"] > done.schedules
    assert 0 < done.longest < 100
