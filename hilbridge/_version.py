"""Which version this is. pyproject.toml is the only place where it is written.

A function and not a constant: reading the metadata of an installed distribution takes tens of milliseconds (it imports
``email`` and ``zipfile``), and most programs that import hilbridge never ask.
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

UNKNOWN = "0+unknown"


@functools.cache
def version() -> str:
    """The version, such as ``0.1.0``; ``0+unknown`` when neither a checkout nor an installation says.

    In a checkout pyproject.toml is asked first, also when the checkout is installed as editable: the metadata of an
    editable install are those of the day on which it was made.
    """
    found = checkout_version(Path(__file__).resolve().parents[1])
    if found is not None:
        return found
    from importlib import metadata

    try:
        return metadata.version("hilbridge")
    except metadata.PackageNotFoundError:
        return UNKNOWN


def checkout_version(root: Path) -> str | None:
    """What `root`'s pyproject.toml says, or None when it is missing, unreadable, or that of another project."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    if project.get("name") != "hilbridge":
        return None
    return str(project["version"]) if "version" in project else None
