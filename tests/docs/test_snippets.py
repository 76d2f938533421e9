"""Everything that the documentation shows and that can run is run; the rest at least compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilbridge.files.fixture import load_fixture
from tests.docs.mdkit import PAGES, TOP, Block, blocks, check_syntax, run_page

pytestmark = pytest.mark.slow  # whole processes, or the far end's own times: not for the quick loop

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = ("python", "console")
LANGUAGES = {*RUN, "text", "yaml", "toml", "mermaid", "sh", "dockerfile"}


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(TOP)) for path in paths]


RUNNING = [page for page in PAGES if any(b.language in RUN and not b.fragment for b in blocks(page))]


@pytest.mark.parametrize("page", RUNNING, ids=named(RUNNING))
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(page, tmp_path, monkeypatch) > 0


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=lambda block: block.where)
def test_python_compiles(block: Block) -> None:
    check_syntax(block)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if "kind:" in b.text and b.language == "yaml"], ids=lambda b: b.where
)
def test_fixture_files_are_valid(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(block.text, encoding="utf-8")
    load_fixture(file)


def test_every_block_says_what_it_is() -> None:
    assert not [block.where for block in BLOCKS if block.language not in LANGUAGES]


def test_every_comment_above_a_block_is_understood() -> None:
    known = {"", "prints", "demo", "story"}
    odd = [b for b in BLOCKS if b.comment not in known and b.asked("fixture") is None and b.asked("file") is None]
    assert not [f"{block.where}: {block.comment}" for block in odd]


def test_shell_blocks_are_few() -> None:
    """They are not run: a command that could be run belongs into a console block."""
    allowed = {"README.md", "docs/howto/ci.md", "docs/howto/scripted-board.md"}
    assert {str(b.page.relative_to(TOP)) for b in BLOCKS if b.language == "sh"} <= allowed
