"""The corpus of broken bench files, and what is told of each: shared by the tests of the reader, the bridge and the CLI."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("broken_benches")
EXPECTED = Path(__file__).with_name("broken_benches.txt")


def _expected() -> dict[str, list[str]]:
    """File in broken_benches/ -> the lines of its message. They are in the order of the file."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in EXPECTED.read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            lines.append(line[4:].replace("{folder}", str(FOLDER)).replace("{tests}", str(FOLDER.parent)))
        else:
            lines = found[line] = []
    return found


CORPUS = _expected()
FULL = {
    name: [line.replace(f"{name}.yaml:", f"{FOLDER / name}.yaml:", 1) for line in said] for name, said in CORPUS.items()
}
"""The same when the file is named by its full path."""


def bench_file(folder: Path, text: str, name: str = "hilbridge.yaml") -> Path:
    """A bench file in `folder`, which may be new."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file
