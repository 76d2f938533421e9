"""The scripts in tools/ that prepare a machine, run on a PATH where apt-get, sudo and python3 are stand-ins."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
UTILITIES = ("cat", "dirname", "env", "grep", "mktemp", "rm", "sed", "sh", "tail", "timeout", "tr")


@dataclass
class Machine:
    """A checkout's tools/ and a PATH that holds a few utilities and what a test adds."""

    top: Path

    @property
    def bin(self) -> Path:
        return self.top / "bin"

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def apt_get(self, script: str, uid: int = 0) -> None:
        """An apt-get that logs its arguments, and whether it was called through sudo, then does `script`."""
        self.program("id", f"echo {uid}")
        self.program("apt-get", f'echo "${{VIA:-root}} $*" >>{self.top}/apt.log\n{script}')

    def apt_log(self) -> list[str]:
        log = self.top / "apt.log"
        return log.read_text().splitlines() if log.exists() else []

    def run(self, tool: str, *arguments: str, ci: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.top / "tools" / tool, *arguments],
            env={"PATH": str(self.bin), "CI": ci, "HOME": str(self.top)},
            cwd=self.top,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    shutil.copytree(TOP / "tools", tmp_path / "tools")
    (tmp_path / "bin").mkdir()
    for name in UTILITIES:
        found = shutil.which(name)
        assert found is not None, name
        (tmp_path / "bin" / name).symlink_to(found)
    (tmp_path / "tools" / "system-packages.txt").write_text(
        f"# what it needs\nfrobnicator frob # a program\nfrob-data {tmp_path}/data/frob.bin\n\nshell sh\n"
    )
    return Machine(tmp_path)


WORKS = """
case "$*" in
    *install*)
        echo '#!/bin/sh' >{top}/bin/frob
        chmod +x {top}/bin/frob
        mkdir -p {top}/data
        : >{top}/data/frob.bin
        ;;
esac
"""


def works(machine: Machine) -> str:
    for name in ("chmod", "mkdir"):
        found = shutil.which(name)
        assert found is not None
        (machine.bin / name).symlink_to(found)
    return WORKS.format(top=machine.top)


def test_system_packages_are_installed_once_and_then_it_is_silent(machine: Machine) -> None:
    machine.apt_get(works(machine))
    first = machine.run("system-packages", ci="true")
    assert first.returncode == 0, first
    assert first.stderr == "installing with apt-get: frobnicator frob-data\n"
    update, install = machine.apt_log()
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends frobnicator frob-data")
    second = machine.run("system-packages", ci="true")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(machine.apt_log()) == 2, "apt-get was asked again although nothing is missing"


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.program("frob", "exit 0")
    machine.apt_get(works(machine))
    assert machine.run("system-packages").returncode == 0
    assert machine.apt_log()[-1].endswith(" install --no-install-recommends frob-data")


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_failing_apt_is_one_line_and_a_failure_only_under_ci(machine: Machine, ci: str, code: int) -> None:
    machine.apt_get("echo 'Reading lists'; echo 'E: Unable to locate package frobnicator' >&2; exit 100")
    done = machine.run("system-packages", ci=ci)
    assert done.returncode == code, done
    assert done.stdout == ""
    announcement, verdict = done.stderr.splitlines()
    assert announcement.startswith("installing")
    assert verdict.startswith("missing: frobnicator frob-data (apt-get install")
    assert "E: Unable to locate package frobnicator" in verdict
    assert verdict.endswith("Debian: apt-get install frobnicator frob-data")


def test_failing_update_does_not_prevent_an_install_from_old_lists(machine: Machine) -> None:
    machine.apt_get(f'case "$*" in *update*) exit 100;; esac\n{works(machine)}')
    assert machine.run("system-packages", ci="true").returncode == 0


def test_system_without_apt_is_told_what_is_missing(machine: Machine) -> None:
    machine.program("id", "echo 0")
    done = machine.run("system-packages")
    assert done.returncode == 0
    assert "missing: frobnicator frob-data (there is no apt-get here)" in done.stderr


def test_without_root_a_passwordless_sudo_is_used(machine: Machine) -> None:
    machine.apt_get(works(machine), uid=1000)
    machine.program("sudo", '[ "$1" = -n ] || exit 9; shift; [ "$1" != true ] || exit 0; VIA=sudo exec "$@"')
    assert machine.run("system-packages", ci="true").returncode == 0
    assert [line.split()[0] for line in machine.apt_log()] == ["sudo", "sudo"]


def test_without_root_and_with_a_sudo_that_asks_nothing_is_tried(machine: Machine) -> None:
    machine.apt_get("exit 0", uid=1000)
    machine.program("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    done = machine.run("system-packages")
    assert done.returncode == 0
    assert "(not root, and sudo asks for a password)" in done.stderr
    assert machine.apt_log() == []


# ------------------------------------------------------------------------------------------------------------- Python


def test_find_python_passes_over_shims_and_old_ones(machine: Machine) -> None:
    machine.program("python3", "echo 'shim: not installed' >&2; exit 127")
    machine.program("python3.13", "exit 1")  # its version check fails
    machine.program("python3.12", f'exec {sys.executable} "$@"')
    done = machine.run("find-python")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{machine.bin}/python3.12\n", "")


def test_find_python_fails_without_any(machine: Machine) -> None:
    assert machine.run("find-python").returncode == 1


def test_venv_without_any_python_says_so_in_one_line(machine: Machine) -> None:
    done = machine.run("make-venv", ".venv/.made-for")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("hilbridge needs Python >= 3.11, and there is none on the PATH (there is no apt-get")
    assert not (machine.top / ".venv").exists()


def test_venv_refuses_an_unfit_interpreter_and_takes_no_other(machine: Machine) -> None:
    machine.program("python3", f'exec {sys.executable} "$@"')
    machine.program("python2", "exit 1")
    done = machine.run("make-venv", ".venv/.made-for", "python2")
    assert (done.returncode, done.stderr) == (1, "PYTHON=python2 is not a Python >= 3.11\n")


# A Debian python3 whose ensurepip is in a package that is not installed; `make-venv` makes a directory and no more.
SPLIT_PYTHON = """
case "$*" in
    *"import ensurepip"*) [ -e {top}/ensurepip ] ;;
    "-m venv"*) mkdir -p .venv/bin; echo 'echo "pip $*" >>{top}/pip.log' >.venv/bin/python; chmod +x .venv/bin/python ;;
    *) exec {python} "$@" ;;
esac
"""


@pytest.fixture
def debian(machine: Machine) -> Machine:
    works(machine)
    machine.program("python3", SPLIT_PYTHON.format(top=machine.top, python=sys.executable))
    return machine


def test_missing_ensurepip_is_installed(debian: Machine) -> None:
    debian.apt_get(f'case "$*" in *venv*) : >{debian.top}/ensurepip;; esac')
    done = debian.run("make-venv", ".venv/.made-for")
    assert done.returncode == 0, done
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert debian.apt_log()[-1].endswith(f" install --no-install-recommends {package}")
    assert (debian.top / ".venv" / ".made-for").read_text() == f"{debian.top}\n"
    assert (debian.top / "pip.log").read_text().splitlines()[-1].endswith("-e .[dev]")


def test_missing_ensurepip_that_cannot_be_installed_is_one_line(debian: Machine) -> None:
    debian.apt_get("echo 'E: no network' >&2; exit 100")
    done = debian.run("make-venv", ".venv/.made-for")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot make virtual environments" in done.stderr
    assert "E: no network" in done.stderr
    assert not (debian.top / ".venv").exists()


def test_environment_of_another_checkout_is_made_anew(debian: Machine) -> None:
    debian.apt_get("exit 0")
    (debian.top / "ensurepip").touch()
    assert debian.run("make-venv", ".venv/.made-for").returncode == 0
    (debian.top / ".venv" / "keepsake").touch()
    assert debian.run("make-venv", ".venv/.made-for").returncode == 0
    assert (debian.top / ".venv" / "keepsake").exists(), "an environment that is in order is kept"
    (debian.top / ".venv" / ".made-for").write_text("/some/other/checkout\n")
    assert debian.run("make-venv", ".venv/.made-for").returncode == 0
    assert not (debian.top / ".venv" / "keepsake").exists()
