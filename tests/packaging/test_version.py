from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hilbridge._version import checkout_version, version

TOP = Path(__file__).resolve().parents[2]


def test_version_is_the_one_in_pyproject() -> None:
    written = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
    assert version() == written
    assert written[0].isdigit()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[project]\nname = "hilbridge"\nversion = "9.8.7"\n', "9.8.7"),
        ('[project]\nname = "somebody-elses"\nversion = "9.8.7"\n', None),
        ('[project]\nname = "hilbridge"\n', None),
        ("[tool.ruff]\n", None),
        ("this is no TOML", None),
    ],
)
def test_only_our_own_pyproject_counts(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert checkout_version(tmp_path) == expected


def test_without_pyproject_it_is_no_checkout(tmp_path: Path) -> None:
    assert checkout_version(tmp_path) is None
