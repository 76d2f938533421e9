"""The check of the floors is itself checked: each forbidden import below, written into a copy of the tree, is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

# (where the offender lives, what it imports). The first of each pair is a module "offender" in that package.
SIDEWAYS = [
    ("hilbridge.drivers", "hilbridge.hal"),
    ("hilbridge.filters", "hilbridge.hal"),
    ("hilbridge.virtual", "hilbridge.hal"),
    ("hilbridge.drivers.serial", "hilbridge.files"),
    ("hilbridge.filters", "hilbridge.drivers"),
    ("hilbridge.hal", "hilbridge.virtual"),
    ("hilbridge.files", "hilbridge.hal"),
    ("hilbridge.observe", "hilbridge.filters"),
]
UPWARD = [
    ("hilbridge.model", "hilbridge.kernel"),
    ("hilbridge.kernel", "hilbridge.iomgr"),
    ("hilbridge.iomgr", "hilbridge.ddk"),
    ("hilbridge.ddk", "hilbridge.drivers"),
    ("hilbridge.hal", "hilbridge.bridge"),
    ("hilbridge.bridge", "hilbridge.testing"),
    ("hilbridge.testing", "hilbridge.cli"),
]
OUTWARD = [
    ("hilbridge.model", "threading"),
    ("hilbridge.model", "select"),
    ("hilbridge.model", "time"),
    ("hilbridge.model", "os"),
    ("hilbridge.model", "socket"),
    ("hilbridge.drivers.serial", "serial"),
    ("hilbridge.drivers.serial", "os"),
    ("hilbridge.ddk", "select"),
    ("hilbridge.ddk", "usb"),
    ("hilbridge.filters", "select"),
    ("hilbridge.virtual", "termios"),
    ("hilbridge.kernel", "termios"),
    ("hilbridge.iomgr", "serial"),
    ("hilbridge.bridge", "serial"),
    ("hilbridge.cli", "fcntl"),
    ("hilbridge.bridge", "pty"),
    ("hilbridge.virtual", "usb"),
    ("hilbridge.testing", "usb"),
    ("hilbridge.model", "pydantic"),
    ("hilbridge.bridge", "yaml"),
    ("hilbridge.hal", "pydantic"),
    ("hilbridge.cli", "yaml"),
]
ALLOWED = [
    ("hilbridge.hal", "serial"),
    ("hilbridge.hal", "termios"),
    ("hilbridge.hal", "usb"),
    ("hilbridge.testing", "pty"),
    ("hilbridge.files", "yaml"),
    ("hilbridge.files", "pydantic"),
    ("hilbridge.kernel", "select"),
    ("hilbridge.kernel", "hilbridge.model"),
    ("hilbridge.drivers.serial", "hilbridge.iomgr"),
    ("hilbridge.drivers", "hilbridge.ddk"),
    ("hilbridge.ddk", "hilbridge.iomgr"),
    ("hilbridge.bridge", "hilbridge.hal"),
    ("hilbridge.bridge", "hilbridge.files"),
    ("hilbridge.testing", "hilbridge.bridge"),
    ("hilbridge.cli", "hilbridge.testing"),
]


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """The packages of the tree, without what is in them, beside the real configuration."""
    for source in (TOP / "hilbridge").rglob("__init__.py"):
        package = tmp_path / source.parent.relative_to(TOP)
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    # The one exception that the configuration names: an exception without its import would be an error of its own.
    (tmp_path / "hilbridge" / "testing" / "fixture.py").touch()
    (tmp_path / "hilbridge" / "bridge" / "frombench.py").write_text("import hilbridge.testing.fixture\n")
    return tmp_path


def add(skeleton: Path, imports: list[tuple[str, str]], module: str = "offender") -> None:
    for package, imported in imports:
        with Path(skeleton, *package.split("."), f"{module}.py").open("a") as file:
            file.write(f"import {imported}\n")


def lint_imports(top: Path) -> tuple[int, str]:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=top,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_every_forbidden_import_is_found_and_named(skeleton: Path) -> None:
    add(skeleton, SIDEWAYS + UPWARD + OUTWARD)
    code, output = lint_imports(skeleton)
    assert code == 1, output
    unseen = [
        f"{package}.offender -> {imported}"
        for package, imported in SIDEWAYS + UPWARD + OUTWARD
        if f"{package}.offender -> {imported} (l." not in output
    ]
    assert not unseen, f"these were not found: {unseen}\n{output}"
    assert "0 kept" in output, f"a contract holds that nothing above violates: give it a case\n{output}"


def test_what_the_floors_allow_passes(skeleton: Path) -> None:
    add(skeleton, ALLOWED, module="citizen")
    code, output = lint_imports(skeleton)
    assert code == 0, output
    assert "0 broken" in output


def test_folder_without_a_floor_is_found(skeleton: Path) -> None:
    (skeleton / "hilbridge" / "attic").mkdir()
    (skeleton / "hilbridge" / "attic" / "__init__.py").touch()
    code, output = lint_imports(skeleton)
    assert code == 1, output
    assert "hilbridge.attic" in output
