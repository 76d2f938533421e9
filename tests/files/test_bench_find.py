"""Which bench file is used: the one that is named, or that of the project. Never one that merely lies about."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilbridge.files.bench import FILE_NAME, VARIABLE, find_bench
from hilbridge.model.errors import NameNotFound


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def project(root: Path, mark: str = ".git") -> Path:
    deep = root / "tests" / "deep"
    deep.mkdir(parents=True)
    (root / mark).touch()
    return deep


@pytest.mark.parametrize("mark", [".git", "pyproject.toml"])
@pytest.mark.parametrize("where", [".", "tests", "tests/deep"])
def test_it_is_looked_for_upward_to_the_root_of_the_project(tmp_path: Path, mark: str, where: str) -> None:
    deep = project(tmp_path, mark)
    file = tmp_path / where / FILE_NAME
    file.touch()
    assert find_bench(start=deep) == file


def test_the_nearest_one_counts(tmp_path: Path) -> None:
    deep = project(tmp_path)
    for folder in (tmp_path, tmp_path / "tests"):
        (folder / FILE_NAME).touch()
    assert find_bench(start=deep) == tmp_path / "tests" / FILE_NAME
    assert find_bench(start=tmp_path) == tmp_path / FILE_NAME


def test_above_the_project_it_does_not_count(tmp_path: Path) -> None:
    deep = project(tmp_path / "project")
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(NameNotFound) as caught:
        find_bench(start=deep)
    assert str(caught.value) == (
        f"no bench file: no hilbridge.yaml in {deep} or upward to {tmp_path / 'project'}; "
        "name one, or set HILBRIDGE_BENCH"
    )
    assert caught.value.exit_code == 4


def test_outside_of_a_project_the_current_directory_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE_NAME).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NameNotFound, match=r"is in no project \(\.git or pyproject\.toml\); name one, or set HILBR"):
        find_bench()


def test_the_current_directory_is_where_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path))
    (tmp_path / FILE_NAME).touch()
    assert find_bench() == tmp_path / FILE_NAME


def test_a_folder_of_that_name_is_none(tmp_path: Path) -> None:
    deep = project(tmp_path)
    (deep / FILE_NAME).mkdir()
    (tmp_path / FILE_NAME).touch()
    assert find_bench(start=deep) == tmp_path / FILE_NAME


def test_what_is_named_comes_first_then_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = project(tmp_path)
    (tmp_path / FILE_NAME).touch()
    monkeypatch.setenv(VARIABLE, "/lab/bench.yaml")
    assert find_bench("mine.yaml", start=deep) == Path("mine.yaml")
    assert find_bench(start=deep) == Path("/lab/bench.yaml")
    monkeypatch.setenv(VARIABLE, "")
    assert find_bench(start=deep) == tmp_path / FILE_NAME
