"""The README's own promises: ten lines of script, the floors, the story's steps and their files.

That its script runs is tested with all other snippets (test_snippets.py), and that its two pasted outputs are real in
tests/story.
"""

from __future__ import annotations

import re
import tomllib

from tests.docs.mdkit import DOCS, TOP, blocks, table

README = TOP / "README.md"


def test_the_script_has_ten_lines() -> None:
    script = next(block for block in blocks(README) if block.language == "python")
    assert len(script.text.splitlines()) == 10


def test_the_floors_are_those_that_the_linter_checks() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in project["tool"]["importlinter"]["contracts"] if c["id"] == "floors")
    for page in (README, DOCS / "design.md"):
        assert "\n".join(contract["layers"]) + "\n" in [block.text for block in blocks(page)]
    named = {word for line in contract["layers"] for word in line.split(" | ")}
    listed = README.read_text(encoding="utf-8").partition("## The floors")[2].partition("## ")[0]
    assert named <= set(re.findall(r"`(\w+)`", listed))


def test_the_story_s_steps_point_at_the_files_that_the_told_story_names() -> None:
    told = next(block.text for block in blocks(README) if block.comment == "story")
    steps = re.split(r"^ ?(\d+) ", told, flags=re.MULTILINE)[1:]
    files = {
        int(n): re.findall(r"(hilbridge/[\w/]+\.py):", text) for n, text in zip(steps[::2], steps[1::2], strict=True)
    }
    rows = table(README, "Step")
    assert [int(row[0].split()[0]) for row in rows] == list(files) == list(range(1, 12))
    for row in rows:
        number = int(row[0].split()[0])
        pointed = set(re.findall(r"\((hilbridge/[^)]+)\)", row[2]))
        assert pointed <= set(files[number]), f"step {number} happens in {files[number]}"
        assert pointed
