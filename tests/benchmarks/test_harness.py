from __future__ import annotations

import os
import time
from functools import partial

import pytest

from benchmarks.harness import Contestant, Effort, Row, Sample, Target, interleave, paired_ratio, process_cpu_clock


def record(calls: list[str], name: str, _count: int) -> None:
    calls.append(name)


def test_contestants_take_turns_and_each_round_begins_with_another() -> None:
    calls: list[str] = []
    contestants = {name: Contestant(partial(record, calls, name), 1) for name in "abc"}
    samples = interleave(contestants, 4)
    warm_up, timed = "".join(calls[:3]), "".join(calls[3:])
    assert warm_up == "abc"
    assert timed == "abcbcacababc"
    assert {name: len(blocks) for name, blocks in samples.items()} == {"a": 4, "b": 4, "c": 4}


def test_each_block_is_prepared_and_gets_its_count() -> None:
    events: list[str] = []
    contestant = Contestant(lambda count: events.append(f"run {count}"), 7, prepare=lambda: events.append("prepare"))
    interleave({"a": contestant}, 2)
    assert events == ["prepare", "run 7"] * 3


def test_a_spent_budget_ends_after_a_whole_round() -> None:
    contestants = {name: Contestant(lambda _count: None, 1) for name in "ab"}
    samples = interleave(contestants, 1000, budget=0)
    assert {name: len(blocks) for name, blocks in samples.items()} == {"a": 1, "b": 1}


def test_times_are_per_item(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = iter([1000, 5000] * 2)
    cpu = iter([10, 2010] * 2)
    far = iter([100, 500] * 2)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(wall))
    monkeypatch.setattr(time, "process_time_ns", lambda: next(cpu))
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _clock: next(far))
    samples = interleave({"a": Contestant(lambda _count: None, 4, far_pid=1)}, 1)
    [sample] = samples["a"]
    assert sample == pytest.approx((1e-6, 0.5e-6, 0.1e-6))
    assert sample.idle == pytest.approx(0.4e-6)


def test_the_processor_time_of_a_process_can_be_read_from_its_number() -> None:
    before = time.process_time_ns()
    read = time.clock_gettime_ns(process_cpu_clock(os.getpid()))
    assert before <= read <= time.process_time_ns()


def test_a_paired_ratio_ignores_what_slowed_down_a_whole_round() -> None:
    assert paired_ratio([2.0, 200.0, 2.0], [1.0, 100.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="longer"):
        paired_ratio([1.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("target", "ratio", "reached"),
    [
        (Target(1.25), 1.25, True),
        (Target(1.25), 1.26, False),
        (Target(100, at_least=True), 100.0, True),
        (Target(100, at_least=True), 99.9, False),
        (None, 1.0, None),
        (Target(1), None, None),
    ],
)
def test_a_row_knows_whether_its_target_is_reached(
    target: Target | None, ratio: float | None, reached: bool | None
) -> None:
    assert Row("what", "peer", 1.0, 1.0, ratio, ratio, target).reached is reached


def test_effort() -> None:
    assert (Effort().rounds(30), Effort().count(1000)) == (30, 1000)
    assert (Effort(quick=True).rounds(30), Effort(quick=True).count(1000), Effort(quick=True).count(3)) == (3, 50, 1)
    assert Effort(quick=True, repeat=8).rounds(30) == 8


def test_idle_time_is_what_neither_end_worked() -> None:
    assert Sample(10.0, 3.0, 4.0).idle == 3.0
