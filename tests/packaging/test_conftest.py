"""The rules of tests/conftest.py, seen from outside: pytest runs on small files that keep or break them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    code: int
    output: str

    def outcome(self, test: str) -> str:
        """The words of the summary lines that name `test`: "PASSED", or "PASSED ERROR" when its teardown failed."""
        return " ".join(re.findall(rf"^([A-Z]+) \S*::{test}(?: |$)", self.output, re.MULTILINE))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tests").mkdir()
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    shutil.copy(TOP / "tools" / "system-packages.txt", tmp_path / "tools")
    conftest = (TOP / "tests" / "conftest.py").read_text()
    assert "GRACE = 5.0" in conftest
    (tmp_path / "tests" / "conftest.py").write_text(conftest.replace("GRACE = 5.0", "GRACE = 0.2"))
    return tmp_path


def run_pytest(checkout: Path, source: str, *arguments: str, ci: str = "") -> Run:
    (checkout / "tests" / "test_it.py").write_text(source)
    environment = {**os.environ, "CI": ci}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    return Run(done.returncode, done.stdout)


LEAKS = """
import os, subprocess, sys, threading
import pytest

forget = []
finished = threading.Event()

@pytest.fixture(scope="module", autouse=True)
def sweep():
    inherited = os.open("/dev/null", os.O_RDONLY)
    yield
    finished.set()
    os.close(inherited)
    for descriptor in forget:
        os.close(descriptor)

def test_tidy():
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    os.close(descriptor)
    thread = threading.Thread(target=int)
    thread.start()
    subprocess.run(["true"], check=True)

def test_descriptor():
    forget.append(os.open("/dev/zero", os.O_RDONLY))

@pytest.mark.keeps_open("on purpose")
def test_descriptor_with_leave():
    forget.append(os.open("/dev/zero", os.O_RDONLY))

def test_thread():
    threading.Thread(target=finished.wait, name="straggler").start()

def test_daemon():
    threading.Thread(target=finished.wait, name="lurker", daemon=True).start()

@pytest.fixture
def child():
    child = subprocess.Popen(["sleep", "30"])
    forget_child.append(child)
    return child

forget_child = []

def test_child(child):
    pass

def test_child_of_the_last_test_is_not_this_ones():
    forget_child[0].kill()
    forget_child[0].wait()

def test_zombie():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

def test_failed():
    forget.append(os.open("/dev/zero", os.O_RDONLY))
    assert False
"""


def test_what_a_test_leaves_behind_fails_it_by_name(checkout: Path) -> None:
    run = run_pytest(checkout, LEAKS)
    assert run.code == 1, run.output
    assert run.outcome("test_tidy") == "PASSED", run.output
    assert run.outcome("test_descriptor") == "PASSED ERROR", run.output
    assert re.search(r"the test passed, but left behind:\n +descriptor \d+: /dev/zero", run.output), run.output
    assert run.outcome("test_descriptor_with_leave") == "PASSED", run.output
    assert run.outcome("test_thread") == "PASSED ERROR", run.output
    assert re.search(r" thread 'straggler', now at \S+threading.py:\d+ in wait", run.output), run.output
    assert run.outcome("test_daemon") == "PASSED ERROR", run.output
    assert "daemon thread 'lurker'" in run.output, run.output
    assert run.outcome("test_child") == "PASSED ERROR", run.output
    assert re.search(r"child process \d+: sleep 30", run.output), run.output
    assert run.outcome("test_child_of_the_last_test_is_not_this_ones") == "PASSED", run.output
    assert run.outcome("test_zombie") == "PASSED ERROR", run.output
    assert "ended, but nobody waited for it" in run.output, run.output
    assert run.outcome("test_failed") == "FAILED", "a failed test is not blamed twice: " + run.output


NEEDS = """
import pytest

@pytest.mark.needs("no-such-part", "socat")
def test_absent():
    raise AssertionError("ran without its part")

@pytest.mark.needs("shell")
def test_present():
    pass
"""


@pytest.fixture
def parts(checkout: Path) -> None:
    """A machine that has a shell and socat, but not no-such-part."""
    (checkout / "tools" / "system-packages.txt").write_text(
        "# comment\nno-such-part /no/such/file # why\nshell sh\nsocat /\nqemu-system-arm /no/such\nu-boot-qemu /\n"
    )


@pytest.mark.usefixtures("parts")
def test_missing_part_skips_with_the_reason_and_the_remedy(checkout: Path) -> None:
    run = run_pytest(checkout, NEEDS)
    assert run.code == 0, run.output
    assert re.search(
        r"^SKIPPED .*: needs no-such-part \(Debian: apt-get install no-such-part\)", run.output, re.MULTILINE
    )
    assert run.outcome("test_present") == "PASSED", run.output


@pytest.mark.usefixtures("parts")
def test_missing_part_fails_under_ci(checkout: Path) -> None:
    run = run_pytest(checkout, NEEDS, ci="true")
    assert run.code == 1, run.output
    assert "under CI=true a missing part is a failure" in run.output
    assert "ran without its part" not in run.output
    assert run.outcome("test_present") == "PASSED", run.output


@pytest.mark.usefixtures("parts")
def test_shorthand_marks_stand_for_their_parts(checkout: Path) -> None:
    run = run_pytest(
        checkout,
        "import pytest\n"
        "@pytest.mark.needs_qemu\ndef test_qemu(): raise AssertionError\n"
        "@pytest.mark.needs_socat\ndef test_socat(): pass\n",
    )
    assert run.code == 0, run.output
    assert "needs qemu-system-arm (Debian" in run.output
    assert run.outcome("test_socat") == "PASSED", run.output


@pytest.mark.usefixtures("parts")
def test_part_that_nobody_lists_is_an_error_not_a_skip(checkout: Path) -> None:
    run = run_pytest(checkout, "import pytest\n@pytest.mark.needs('sokat')\ndef test_typo(): pass\n")
    assert run.code != 0
    assert "['sokat']: not in tools/system-packages.txt" in run.output


HANG = """
import signal
import pytest

@pytest.mark.{mark}
def test_patient():
    signal.sigtimedwait([], 0.6)

def test_hangs():
    signal.sigtimedwait([], 40)
"""


def test_hanging_test_dumps_its_stack_and_ends_the_run_but_slow_ones_have_longer(checkout: Path) -> None:
    run = run_pytest(checkout, HANG.format(mark="slow"), "-o", "faulthandler_timeout=0.3", "-v")
    assert run.code not in {0, 5}
    assert "test_patient PASSED" in run.output
    assert "in test_hangs" in run.output


SEEDED = """
import pytest

def test_plain(seed, soak_seconds):
    print("drew", seed, soak_seconds)

@pytest.mark.soak
def test_soak(seed, soak_seconds):
    print("drew", seed, soak_seconds)

@pytest.mark.soak
def test_fails(seed):
    assert False
"""


def test_ordinary_run_leaves_soak_out_and_draws_from_a_fixed_seed(checkout: Path) -> None:
    run = run_pytest(checkout, SEEDED)
    assert run.code == 0, run.output
    assert "drew 0 120.0" in run.output
    assert "2 deselected" in run.output


def test_soak_draws_a_new_seed_and_a_failure_tells_how_to_repeat_it(checkout: Path) -> None:
    run = run_pytest(checkout, SEEDED, "-m", "soak")
    seeds = re.findall(r"the same work again: --seed (\d+)", run.output)
    assert run.code == 1, run.output
    assert any(int(seed) for seed in seeds), run.output


def test_soak_takes_its_seed_and_length_from_the_command_line(checkout: Path) -> None:
    run = run_pytest(checkout, SEEDED, "-m", "soak", "--seed", "77", "--soak-minutes", "0.5")
    assert "drew 77 30.0" in run.output
    assert "the same work again: --seed 77" in run.output
