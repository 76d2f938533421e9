"""From made-up samples to rows: nothing is measured here."""

from __future__ import annotations

import pytest

from benchmarks import bulk, irp, lines, roundtrip
from benchmarks.harness import Row, Sample, Target
from benchmarks.table import HEADINGS, cells, format_time, render


def blocks(*wall: float) -> list[Sample]:
    return [Sample(one, one, 0.0) for one in wall]


# -- round trip: two cases --------------------------------------------------------------------------------------------

BUSY = Sample(10.0, 5.0, 4.0)
SLEPT = Sample(100.0, 20.0, 8.0)
NAMES = ("ours", "raw", "pyserial", "reader thread")


def test_blocks_are_sorted_by_what_their_time_went_into() -> None:
    busy, slept = roundtrip.by_case({name: [BUSY, SLEPT, BUSY] for name in NAMES})
    assert busy == {name: [BUSY, BUSY] for name in NAMES}
    assert slept == {name: [SLEPT] for name in NAMES}


def test_a_round_trip_is_compared_within_one_case() -> None:
    samples = {name: [BUSY, SLEPT] for name in NAMES} | {"ours": [Sample(12.0, 7.0, 4.0), Sample(80.0, 20.0, 8.0)]}
    busy, slept = roundtrip.by_case(samples)
    target = Target(1.0)
    row = roundtrip.compare("busy", busy, samples, "raw", "peer", target, pure=True)
    assert [row.ratio, row.best] == pytest.approx([1.2, 1.2])
    assert row.reached is False
    row = roundtrip.compare("slept", slept, samples, "raw", "peer", target, pure=False)
    assert row.ratio == pytest.approx(0.8)
    assert row.best is None
    assert row.reached is True


def test_a_case_that_was_too_rare_has_no_verdict() -> None:
    samples = {name: [BUSY] * 9 + [SLEPT] for name in NAMES}
    _busy, slept = roundtrip.by_case(samples)
    row = roundtrip.compare("slept", slept, samples, "raw", "peer", Target(1.0), pure=False)
    assert row.reached is None
    assert cells(row)[2:] == ("-", "-", "too rare", "-", "<= 1 x", "-")


# -- the others --------------------------------------------------------------------------------------------------------


def test_the_ratio_of_lines_is_one_of_speeds() -> None:
    row = lines.row("lines", "iteration", {"iteration": blocks(2.0, 4.0, 2.0), "pyserial": blocks(400.0, 400.0, 400.0)})
    assert (row.ratio, row.best, row.reached) == (200.0, 200.0, True)


@pytest.mark.parametrize(("supply", "verdict"), [(1.0, "is not the limit"), (1.1, "is the limit")])
def test_lines_say_whether_the_source_was_the_limit(supply: float, verdict: str) -> None:
    note = lines.limits(
        {"iteration": blocks(2.0), "readline": blocks(3.0), "pyserial": blocks(400.0), "raw": blocks(supply)}
    )
    assert f"the source {verdict}" in note


def test_the_ratio_of_bulk_is_one_of_speeds() -> None:
    row = bulk.row({"ours": blocks(2e-8, 2e-8), "raw": blocks(1e-8, 1e-8)})
    assert (row.ratio, row.reached) == (0.5, False)
    assert cells(row)[2:5] == ("50 MB/s", "100 MB/s", "0.50 x")


def test_irps_and_filters_are_counted_in_calls() -> None:
    one, more = irp.rows({"call": blocks(2.0, 2.0), "irp": blocks(400.0, 400.0), "filtered irp": blocks(800.0, 800.0)})
    assert (one.ratio, one.reached) == (200.0, True)
    assert (more.ratio, more.reached) == (50.0, True)
    assert cells(more)[4] == "50 calls"


# -- contestants that do not do their job --------------------------------------------------------------------------------


def test_a_lost_line_is_noticed() -> None:
    lines.check_last(b"%063d\n" % 9, 10)
    with pytest.raises(lines.WrongLineError, match="line 9 was due"):
        lines.check_last(b"%063d\n" % 8, 10)


def test_bytes_that_nobody_sent_are_noticed() -> None:
    with pytest.raises(bulk.WrongDataError, match="1 bytes"):
        bulk.drain(lambda: b"xxx", 8)


def test_writes_that_are_no_irps_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with irp.null_device(1) as run:
        run(3)
    with (
        pytest.raises(irp.NotAnIrpError, match="3 writes made 0 IRPs"),
        irp.null_device(0) as run,
        monkeypatch.context() as patch,
    ):
        patch.setattr("hilbridge.bridge.handle.Handle.write", lambda _handle, data: len(data))
        run(3)


# -- the table -----------------------------------------------------------------------------------------------------------


def test_every_line_of_the_table_has_its_columns_below_each_other() -> None:
    rows = [
        Row("a", "peer", 1.5e-6, 2e-9, 0.75, 1.0),
        Row("longer than the other", "b", None, None, None, None, Target(55), ratio_unit="calls"),
    ]
    heading, rule, *body = render(rows).splitlines()
    assert heading.split() == " ".join(HEADINGS).split()
    assert set(rule) == {"-"}
    assert len(body) == len(rows)
    assert {line.rstrip()[-1] for line in body} == {"-"}
    assert len({len(line) for line in [heading, rule, *body]}) == 1
    ends = heading.index("ratio") + len("ratio")
    assert body[0][:ends].endswith("0.75 x")
    assert body[1][:ends].endswith("too rare")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.0, "2 s"),
        (0.0123, "12.3 ms"),
        (123.4e-6, "123 us"),
        (1.234e-6, "1.23 us"),
        (20e-9, "20 ns"),
        (-2e-6, "-2 us"),
    ],
)
def test_times_have_units(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
