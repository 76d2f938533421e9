"""Rules that hold for every test: what the machine must have, what a test may leave behind, how long it may take.

* ``@pytest.mark.needs("socat")``: skipped with the reason where the part is missing, failed under CI=true.
* A test that passes and leaves a thread, a child process or a descriptor behind fails, with the name of what it left.
* A ``slow`` or ``soak`` test gets more time than ``faulthandler_timeout`` before its stacks are dumped.
* ``seed``: the number from which a test draws its random work, shown when it fails.
"""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from hilbridge.kernel.frames import current_frames

TOP = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Ordinary runs draw the same examples every time and no test fails for being slow on a busy machine.
hypothesis.settings.register_profile("hilbridge", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("hilbridge")


@pytest.fixture(autouse=True, scope="session")
def state_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What hilbridge keeps between runs, crash dumps for instance, is kept for the time of the tests only."""
    before = os.environ.get("XDG_STATE_HOME")
    folder = tmp_path_factory.mktemp("state")
    os.environ["XDG_STATE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


# ------------------------------------------------------------------------------------------------- what a test needs


def read_parts(file: Path) -> dict[str, str]:
    """What tools/system-packages.txt lists: Debian package -> the program or file that shows that it is there."""
    lines = (line.split("#", 1)[0].split() for line in file.read_text(encoding="utf-8").splitlines())
    return {fields[0]: fields[1] for fields in lines if fields}


PARTS = read_parts(TOP / "tools" / "system-packages.txt")
SHORTHANDS = {"needs_socat": ("socat",), "needs_qemu": ("qemu-system-arm", "u-boot-qemu")}


def missing_parts(item: pytest.Item) -> list[str]:
    wanted = [part for mark in item.iter_markers("needs") for part in mark.args]
    wanted += [part for name, parts in SHORTHANDS.items() if item.get_closest_marker(name) for part in parts]
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        raise pytest.UsageError(f"{item.nodeid} needs {unknown}: not in tools/system-packages.txt")
    return [part for part in dict.fromkeys(wanted) if not is_present(PARTS[part])]


def is_present(check: str) -> bool:
    return Path(check).exists() if check.startswith("/") else shutil.which(check) is not None


# ----------------------------------------------------------------------------------------------- how long it may take

# Seconds until the fault handler dumps all stacks and ends the run.
LIMITS = {"slow": 900.0, "soak": 7200.0}

stderr_key = pytest.StashKey[int]()
failed_key = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # While a test runs, descriptor 2 is a temporary file of pytest's capture: the dump must go to the real one.
    config.stash[stderr_key] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[stderr_key])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = missing_parts(item)
    if missing:
        reason = f"needs {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})"
        if IN_CI:
            pytest.fail(f"{reason}; under CI=true a missing part is a failure", pytrace=False)
        pytest.skip(reason)
    limits = [limit for name, limit in LIMITS.items() if item.get_closest_marker(name)]
    if limits:  # replaces the timer that pytest started; pytest stops it after the test
        faulthandler.dump_traceback_later(max(limits), exit=True, file=item.config.stash[stderr_key])


# -------------------------------------------------------------------------------------------- what it may leave behind

# How long the threads that a test started may take to end after it, all together.
GRACE = 5.0


def open_descriptors() -> dict[int, str]:
    """Descriptor -> what it is, for instance ``/dev/pts/3`` or ``anon_inode:[eventpoll]``."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:  # the descriptor with which the directory was listed
            continue
    return found


# How long a new process may take to show its arguments.
NEWBORN = 1.0


def command_line(pid: str) -> str:
    """Its arguments with blanks between them; "" for a zombie, which has none any more.

    A process that has only just executed its program has none yet either: the kernel lets `subprocess` go on before it has
    filled them in. There is nothing that one could wait on for that, so this gives way to others until they are there.
    """
    process = Path("/proc", pid)
    deadline = time.monotonic() + NEWBORN
    while True:
        command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        # The state follows the name, which is in parentheses and may itself contain any character.
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        if command or state == "Z":
            return command
        if time.monotonic() > deadline:
            return f"a process in state {state} that shows no arguments"
        os.sched_yield()


def children() -> dict[int, str]:
    """Process id -> command line of the children of this process, zombies included ("" is a zombie's command line)."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except FileNotFoundError:  # the thread has just ended, or the kernel does not tell
            continue
        for pid in pids:
            try:
                found[int(pid)] = command_line(pid)
            except OSError:
                continue
    return found


def describe_thread(thread: threading.Thread) -> str:
    frame = current_frames().get(thread.ident or 0)
    where = traceback.extract_stack(frame)[-1] if frame else None
    kind = "daemon thread" if thread.daemon else "thread"
    return f"{kind} {thread.name!r}" + (f", now at {where.filename}:{where.lineno} in {where.name}" if where else "")


def leftover_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads that were not there before and do not end within the grace: a join with a bound, not a poll."""
    deadline = time.monotonic() + GRACE
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in new if thread.is_alive()]


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set up before, and so torn down after, every other fixture of the test.

    What a fixture of a wider scope opened was there before, and is not the test's own.
    """
    threads_before = set(threading.enumerate())
    children_before = children()
    descriptors_before = open_descriptors()
    yield
    if request.node.stash.get(failed_key, False):
        return  # a test that failed has its own story to tell, and often could not clean up
    left = [describe_thread(thread) for thread in leftover_threads(threads_before)]
    left += [
        f"child process {pid}: {command or 'ended, but nobody waited for it'}"
        for pid, command in children().items()
        if pid not in children_before
    ]
    if request.node.get_closest_marker("keeps_open") is None:
        left += [
            f"descriptor {fd}: {target}"
            for fd, target in sorted(open_descriptors().items())
            if descriptors_before.get(fd) != target
        ]
    if left:
        pytest.fail("the test passed, but left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[failed_key] = True
    return report


# ------------------------------------------------------------------------------------------------------- random work


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hilbridge")
    group.addoption("--seed", type=int, help="draw random work from this number (default: 0; for soak tests a new one)")
    group.addoption("--soak-minutes", type=float, default=2.0, help="how long each soak test works (default: 2)")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Where the random work of this test starts. The same number gives the same work; a failure shows it."""
    number = request.config.getoption("--seed")
    if number is None:
        number = random.SystemRandom().randrange(2**32) if request.node.get_closest_marker("soak") else 0
    request.node.add_report_section("setup", "seed", f"the same work again: --seed {number}")
    return int(number)


@pytest.fixture
def soak_seconds(request: pytest.FixtureRequest) -> float:
    """How long a soak test goes on starting new work."""
    return 60 * float(request.config.getoption("--soak-minutes"))
