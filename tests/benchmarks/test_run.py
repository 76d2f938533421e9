"""Real runs with tiny counts: that they work, not what they measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import GROUPS, main
from benchmarks.table import HEADINGS

ROWS = {"round-trip": 6, "lines": 2, "bulk": 1, "irp": 2, "verified": 4}


def test_a_quick_run_prints_one_table_and_writes_it_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["--quick", "--json", str(file)]) == 0

    context, blank, heading, _rule, *rest = capsys.readouterr().out.splitlines()
    assert context.startswith("hilbridge ")
    assert "CPUs" in context
    assert blank == ""
    assert heading.split() == " ".join(HEADINGS).split()
    table, notes = rest[: rest.index("")], rest[rest.index("") + 1 :]
    assert len(table) == sum(ROWS.values())
    assert [note.partition(":")[0] for note in notes] == ["round trip", "lines", "bulk"]

    written = json.loads(file.read_text())
    assert [row["name"] for row in written["rows"]] == [name for name, count in ROWS.items() for _ in range(count)]
    for row, line in zip(written["rows"], table, strict=True):
        assert line.startswith(row["what"])
        assert row["ratio"] is None or row["what"].startswith("one more filter") or row["ratio"] > 0
        assert line.split()[-1] == {True: "yes", False: "no", None: "-"}[row["reached"]]
    # A case of the round trip may be too rare; whatever else is measured always has a figure.
    assert all(row["ratio"] is not None for row in written["rows"] if row["name"] != "round-trip")
    assert written["notes"] == notes
    assert all(len(blocks["wall"]) == 3 for group in written["blocks"].values() for blocks in group.values())


def test_one_group_with_its_rounds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    assert main(["--quick", "--only", "irp", "--repeat", "2", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert list(written["blocks"]) == ["irp"]
    assert {name: len(blocks["wall"]) for name, blocks in written["blocks"]["irp"].items()} == {
        "call": 2,
        "irp": 2,
        "filtered irp": 2,
    }
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2 + ROWS["irp"]


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--repeat", "0"], ["--repeat", "x"]])
def test_wrong_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_every_group_has_rows_to_expect() -> None:
    assert list(GROUPS) == list(ROWS)
