"""What the README shows is what the commands print, to the letter. The README cannot rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


def fenced_block(text: str, marker: str) -> str:
    """The fenced block after the line `marker`."""
    lines = text.splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.strip() == marker]
    assert len(places) == 1, (
        f"README.md has the line {marker} {len(places)} times: one is needed, before a fenced block"
    )
    fences = [number for number, line in enumerate(lines) if number > places[0] and line.startswith("```")]
    assert len(fences) >= 2, f"README.md has no fenced block after the line {marker}"
    return "".join(lines[fences[0] + 1 : fences[1]])


@pytest.mark.parametrize(("marker", "words"), [("<!-- demo -->", ["demo"]), ("<!-- story -->", ["demo", "--story"])])
def test_the_readme_shows_what_the_command_prints(marker: str, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hilbridge", *words], cwd=TOP, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert fenced_block((TOP / "README.md").read_text(encoding="utf-8"), marker) == done.stdout


def test_a_block_is_found_by_its_marker() -> None:
    text = "# x\n```\nno\n```\n<!-- demo -->\n\n```text\nyes\n\n  yes\n```\n```\nno\n```\n"
    assert fenced_block(text, "<!-- demo -->") == "yes\n\n  yes\n"
    for broken in ("```\nno\n```\n", "<!-- demo -->\n", text + "<!-- demo -->\n"):
        with pytest.raises(AssertionError):
            fenced_block(broken, "<!-- demo -->")
