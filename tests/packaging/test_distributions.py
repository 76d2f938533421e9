"""The data folders are found from a checkout, an editable install, an sdist and a wheel, and a wheel runs the demo.

The wheel goes into an environment that has nothing else, with its dependencies from the package index. The other
environments borrow the dependencies of the running one, which saves three downloads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["version"]
FOLDERS = ("device_profiles", "loopback_fixtures")

pytestmark = pytest.mark.slow

# What each environment is asked: where does hilbridge come from, which version is it, and what do the folders hold?
QUESTION = """
import json, pathlib, hilbridge
from hilbridge._version import version
from hilbridge.files.locate import DATA_FOLDERS, data_dir
folders = {name: data_dir(name) for name in DATA_FOLDERS}
print(json.dumps({
    "package": str(pathlib.Path(hilbridge.__file__).parent),
    "version": version(),
    "where": {name: str(folder) for name, folder in folders.items()},
    "files": {name: sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
              for name, folder in folders.items()},
}))
"""


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program that must succeed, without the variables that would lead it back to this checkout."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "HILBRIDGE", "PYTEST", "VIRTUAL_ENV", "COVERAGE"))
    }
    environment = inherited if path is None else {**inherited, "PYTHONPATH": str(path)}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True)
class Answer:
    package: Path
    version: str
    where: dict[str, str]
    files: dict[str, list[str]]


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a directory to run programs in that has nothing to do with it."""

    root: Path
    elsewhere: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.root)}))

    def pip_install(self, *arguments: str | Path) -> None:
        run(
            self.python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *arguments,
            cwd=self.elsewhere,
        )

    def borrow_dependencies(self) -> None:
        """Let it see the packages of the running environment, not its editable installs: .pth files do not chain."""
        (self.site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def ask(self, path: Path | None = None) -> Answer:
        done = run(self.python, "-W", "error", "-c", QUESTION, cwd=self.elsewhere, path=path)
        answer = json.loads(done.stdout)
        return Answer(Path(answer["package"]), answer["version"], answer["where"], answer["files"])


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "venv"
    run(sys.executable, "-m", "venv", root, cwd=elsewhere)
    return Environment(root, elsewhere)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, so that no build or install writes into the real one."""
    copy = tmp_path_factory.mktemp("checkout") / "hilbridge-checkout"
    unwanted = shutil.ignore_patterns(".venv", ".git", "dist", "build", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(TOP, copy, ignore=unwanted, symlinks=True)
    return copy


@pytest.fixture(scope="module")
def contents(checkout: Path) -> dict[str, list[str]]:
    """The files of the data folders, as the checkout has them."""
    found = {
        name: sorted(str(file.relative_to(checkout / name)) for file in (checkout / name).rglob("*") if file.is_file())
        for name in FOLDERS
    }
    assert all(found.values()), f"a data folder without files ships nothing: {found}"
    return found


@pytest.fixture(scope="module")
def dist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from the unpacked sdist, as for an upload."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, checkout, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"hilbridge-{VERSION}-py3-none-any.whl"
    return wheel


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    (sdist,) = dist.glob("*.tar.gz")
    assert sdist.name == f"hilbridge-{VERSION}.tar.gz"
    return sdist


def test_wheel_holds_the_package_its_types_its_data_and_nothing_beside_it(
    wheel: Path, checkout: Path, contents: dict[str, list[str]]
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"hilbridge-{VERSION}.dist-info/METADATA").decode()
        entry_points = archive.read(f"hilbridge-{VERSION}.dist-info/entry_points.txt").decode()
    sources = {
        str(file.relative_to(checkout))
        for file in (checkout / "hilbridge").rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    data = {f"hilbridge/_data/{name}/{file}" for name, files in contents.items() for file in files}
    assert {name for name in names if name.startswith("hilbridge/")} == sources | data
    assert "hilbridge/py.typed" in sources
    assert {name.split("/")[0] for name in names} == {"hilbridge", f"hilbridge-{VERSION}.dist-info"}
    assert f"hilbridge-{VERSION}.dist-info/licenses/LICENSE" in names
    assert "License-Expression: MIT\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "hilbridge = hilbridge.cli.main:main" in entry_points


def test_sdist_can_do_what_a_checkout_can(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"hilbridge-{VERSION}/") for name in archive.getnames()}
    wanted = {
        "Makefile", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".ci/run", "tools/make-venv",
        "tests/conftest.py", "device_profiles/README.md", "hilbridge/py.typed",
    }  # fmt: skip
    assert wanted <= names, wanted - names
    assert not [name for name in names if name.startswith((".venv", ".git/", "dist/")) or "__pycache__" in name]


def test_checkout_that_is_not_installed(
    environment: Environment, checkout: Path, contents: dict[str, list[str]]
) -> None:
    environment.borrow_dependencies()
    answer = environment.ask(path=checkout)
    assert answer.package == checkout / "hilbridge"
    assert answer.where == {name: str(checkout / name) for name in FOLDERS}
    assert answer.files == contents
    assert answer.version == VERSION


def test_editable_install_reads_the_checkouts_own_folders(
    environment: Environment, checkout: Path, contents: dict[str, list[str]]
) -> None:
    environment.borrow_dependencies()
    environment.pip_install("--no-deps", "--editable", checkout)
    assert not (environment.site_packages / "hilbridge").exists(), "a copy there would go stale"
    answer = environment.ask()
    assert answer.package == checkout / "hilbridge"
    assert answer.where == {name: str(checkout / name) for name in FOLDERS}
    assert answer.files == contents
    assert answer.version == VERSION


def test_install_from_the_sdist(environment: Environment, sdist: Path, contents: dict[str, list[str]]) -> None:
    environment.borrow_dependencies()
    environment.pip_install("--no-deps", sdist)
    package = environment.site_packages / "hilbridge"
    answer = environment.ask()
    assert answer.package == package
    assert answer.where == {name: str(package / "_data" / name) for name in FOLDERS}
    assert answer.files == contents
    assert answer.version == VERSION


def test_wheel_in_a_fresh_environment_finds_its_data_and_runs_the_demo(
    environment: Environment, wheel: Path, contents: dict[str, list[str]]
) -> None:
    before = {entry.name for entry in environment.site_packages.iterdir()}
    environment.pip_install("--no-deps", wheel)
    added = {entry.name for entry in environment.site_packages.iterdir()} - before
    assert added == {"hilbridge", f"hilbridge-{VERSION}.dist-info"}

    environment.pip_install(wheel)  # and now what it depends on, from the index
    run(environment.python, "-m", "pip", "check", cwd=environment.elsewhere)
    package = environment.site_packages / "hilbridge"
    answer = environment.ask()
    assert answer.package == package
    assert answer.where == {name: str(package / "_data" / name) for name in FOLDERS}
    assert answer.files == contents
    assert answer.version == VERSION

    # The demo starts its board in a process of its own: that one, too, must find itself in this environment.
    demo = run(environment.root / "bin" / "hilbridge", "demo", cwd=environment.elsewhere)
    assert demo.stdout.splitlines()[-3:] == [
        "  reset     the banner came again: HILBoot 2026.10",
        "",
        "The filter driver counted 5 writes and 2 opens. Requests pending: 0. Mistakes of drivers: 0.",
    ], f"on stderr: {demo.stderr}"
    assert "Traceback" not in demo.stderr
    as_module = run(environment.python, "-m", "hilbridge", "--version", cwd=environment.elsewhere)
    assert as_module.stdout.split()[-1] == VERSION
    assert not list(environment.elsewhere.iterdir()), "the demo left files in the current directory"
