"""The page on the bench file has every key with its default, and no other; its example is a good bench file."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from hilbridge.bridge.benchports import look
from hilbridge.cli.bench import keys, state
from hilbridge.files.bench import (
    PROJECT_MARKS,
    VARIABLE,
    BenchFile,
    ConsoleKeys,
    Device,
    LineKeys,
    Match,
    Twin,
    load_bench,
)
from hilbridge.files.recipes import Flash, Power, Reset
from tests.docs.mdkit import DOCS, blocks, code, prose, section, tables, tables_in
from tests.files.benchkit import FOLDER, bench_file

PAGE = DOCS / "reference" / "bench-file.md"
MODELS: list[type[BaseModel]] = [BenchFile, Device, Match, LineKeys, ConsoleKeys, Reset, Power, Flash, Twin]


@pytest.mark.parametrize(("at", "model"), list(enumerate(MODELS)), ids=lambda value: getattr(value, "__name__", ""))
def test_each_key_of_a_bench_file_is_in_its_table(at: int, model: type[BaseModel]) -> None:
    key_tables = [rows[1:] for rows in tables(PAGE) if rows[0][0] == "Key"]
    assert len(key_tables) == len(MODELS)
    listed = {code(row[0])[0]: row[1].strip("`") for row in key_tables[at]}
    assert list(listed) == [field.alias or name for name, field in model.model_fields.items()]
    for name, field in model.model_fields.items():
        said = listed[field.alias or name]
        assert (said == "required") == field.is_required(), name
        if isinstance(field.default, bool):
            assert said == str(field.default).lower()
        elif isinstance(field.default, int | float):
            assert said == f"{field.default:g}"
        elif isinstance(field.default, str) and field.default:
            assert said == field.default


def test_values_and_names_that_the_page_lists() -> None:
    text = prose(PAGE)
    for field in (Reset.model_fields["pulse"], LineKeys.model_fields["parity"]):
        for value in (one for member in get_args(field.annotation) for one in get_args(member) or [member]):
            assert value is type(None) or f"`{value}`" in text
    assert all(f"`{name}`" in text for name in (VARIABLE, *PROJECT_MARKS))


@pytest.mark.parametrize("recipe", [Reset, Power, Flash])
def test_placeholders_that_the_page_lists(recipe: type[Reset | Power | Flash]) -> None:
    (rows,) = tables_in(section(PAGE, recipe.__name__.lower()))
    said = next(row[2] for row in rows if code(row[0]) == ["run"])
    assert [word.strip("{}") for word in code(said) if word.startswith("{")] == list(recipe.VALUES)


def test_states_and_keys_that_the_command_s_page_lists() -> None:
    (rows,) = tables_in(section(DOCS / "reference" / "cli.md", "hilbridge bench ACTION [FILE]"))
    said = set(code(next(row[1] for row in rows if code(row[0]) == ["--json"])))
    bench = load_bench(FOLDER.parent / "good_bench.yaml")
    found = look(bench, virtual=False)
    assert {state(one) for one in found} == {"there", "missing", "not looked for"}
    assert {key for one in found for key in keys(bench, one)} <= said
    assert {state(one) for one in found} <= said
    assert {word for one in found for word in keys(bench, one)["can"]} == {"reset", "power", "flash"} <= said


def test_the_example_is_a_good_bench_file(tmp_path: Path) -> None:
    for shown in blocks(PAGE):
        if name := shown.asked("file"):
            bench_file(tmp_path, shown.text, name)
    bench = load_bench(tmp_path / "hilbridge.yaml")
    assert bench.board("board") == tmp_path / "uboot.yaml"
