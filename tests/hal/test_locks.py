"""Who has a port, and that nobody gets it meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
import termios
from pathlib import Path

import pytest

from hilbridge.hal import locks
from hilbridge.model.errors import DeviceBusy
from tests.hal.halkit import Pty, held


@pytest.fixture
def lock_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locks, "LOCK_FILE_DIRECTORIES", (tmp_path,))
    return tmp_path


def open_node(pty: Pty) -> int:
    return os.open(pty.path, os.O_RDWR | os.O_NOCTTY)


def test_take_and_release(pty: Pty) -> None:
    first, second = open_node(pty), open_node(pty)
    locks.take(first, pty.path)
    with pytest.raises(OSError, match="locked") as caught:
        locks.take(second, pty.path)
    assert caught.value.errno == errno.EBUSY
    locks.exclude_others(first)
    assert locks.is_exclusive(second)
    locks.release(first)
    assert not locks.is_exclusive(second)
    locks.take(second, pty.path)
    os.close(first)
    os.close(second)


def test_to_take_changes_nothing_that_others_notice(pty: Pty) -> None:
    fd = open_node(pty)
    locks.take(fd, pty.path)
    assert not locks.is_exclusive(fd)
    os.close(fd)


def test_an_exclusive_terminal_without_a_lock_is_refused_to_root_too(pty: Pty) -> None:
    owner, fd = open_node(pty), open_node(pty)
    fcntl.ioctl(owner, termios.TIOCEXCL)
    with pytest.raises(OSError, match="for itself") as caught:
        locks.take(fd, pty.path)
    assert caught.value.errno == errno.EBUSY
    os.close(owner)
    pty.let_go()
    # Nobody has it open any more: the flag is a relic, which a pty keeps.
    assert locks.is_exclusive(fd)
    locks.take(fd, pty.path)
    os.close(fd)


def test_release_survives_an_unplug(pty: Pty) -> None:
    fd = open_node(pty)
    locks.take(fd, pty.path)
    locks.exclude_others(fd)
    pty.unplug()
    locks.release(fd)
    os.close(fd)


def test_what_is_no_terminal_is_not_exclusive() -> None:
    with Path("/dev/null").open("rb") as file:
        assert not locks.is_exclusive(file.fileno())


def test_holders_names_the_other_process(pty: Pty) -> None:
    pty.let_go()
    assert locks.holders(pty.path) == []
    with held(pty.path, "plain") as child:
        (holder,) = locks.holders(pty.path)
        assert holder.pid == child.pid
        assert holder.command.startswith(f"{sys.executable} -c"[: locks.COMMAND_LENGTH - 3])
        assert len(holder.command) <= locks.COMMAND_LENGTH
        assert holder.command.isprintable()
        assert str(holder) == f"{holder.command} (pid {child.pid})"
    assert locks.holders(pty.path) == []


def test_holders_sees_through_links(pty: Pty, tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to(pty.path)
    with held(str(link), "plain") as child:
        assert child.pid in [holder.pid for holder in locks.holders(pty.path)]
        assert child.pid in [holder.pid for holder in locks.holders(str(link))]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device node")
def test_holders_compares_devices_and_not_names(tmp_path: Path) -> None:
    # Two nodes of one device, as in a container: /dev/full stands for a port here.
    node = tmp_path / "ttyX"
    try:
        os.mknod(node, 0o020666, Path("/dev/full").stat().st_rdev)
        fd = os.open(node, os.O_RDWR)
    except PermissionError:
        pytest.skip("device nodes cannot be made or used here")
    assert os.getpid() in [holder.pid for holder in locks.holders(str(node))]
    os.close(fd)
    with held("/dev/full", "plain") as child:
        assert child.pid in [holder.pid for holder in locks.holders(str(node))]


def test_this_process_is_a_holder_only_if_it_really_is(pty: Pty) -> None:
    me = locks.Holder(os.getpid(), "this process")
    assert locks.holders(pty.path) == [me]
    assert locks.holders(pty.path, but=pty.keeper) == []
    fd = open_node(pty)
    assert locks.holders(pty.path, but=pty.keeper) == [me]
    os.close(fd)


def test_nobody_holds_what_is_no_device(tmp_path: Path) -> None:
    assert locks.holders(str(tmp_path / "nothing")) == []
    assert locks.holders(str(tmp_path)) == []


def test_two_ptys_are_not_confused(pty: Pty) -> None:
    other = Pty()
    pty.let_go()
    assert locks.holders(pty.path) == []
    other.close()


def test_a_pty_of_another_container_is_another_pty(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Path(pty.path).stat()
    values = list(ours)
    values[stat.ST_DEV] += 1
    # A stat_result made from the ten classic fields has no st_rdev; it is given by name.
    theirs = os.stat_result(values, {"st_rdev": ours.st_rdev})
    assert locks._same_ptys(ours, ours)
    assert not locks._same_ptys(ours, theirs)
    assert locks.holders(pty.path) != []
    with monkeypatch.context() as patch:
        patch.setattr(locks, "_same_ptys", lambda one, other: False)
        assert locks.holders(pty.path) == []
    port = os.makedev(188, 0)  # /dev/ttyUSB0 has the same number everywhere
    assert locks._same_ptys(os.stat_result(values, {"st_rdev": port}), os.stat_result(list(ours), {"st_rdev": port}))


@pytest.mark.parametrize("binary", [False, True])
def test_a_lock_file_of_a_living_process(pty: Pty, lock_files: Path, binary: bool) -> None:
    parent = os.getppid()
    file = lock_files / f"LCK..{Path(pty.path).name}"
    file.write_bytes(struct.pack("<i", parent) if binary else f"{parent:10d}\n".encode())
    with pytest.raises(DeviceBusy, match=rf"\(pid {parent}\), says its lock file {file}: end that program") as caught:
        pty.open()
    assert caught.value.exit_code == 5
    file.unlink()
    pty.open().close()


def test_a_lock_file_for_the_name_behind_a_link(pty: Pty, lock_files: Path, tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to(pty.path)
    (lock_files / f"LCK..{Path(pty.path).name}").write_text(f"{os.getppid()}\n")
    with pytest.raises(DeviceBusy):
        locks.refuse_if_lock_file(str(link))


@pytest.mark.parametrize("content", ["", "not a number\n", "4194305\n", "   \n", f"{os.getpid()}\n"])
def test_a_lock_file_that_means_nothing(pty: Pty, lock_files: Path, content: str) -> None:
    (lock_files / f"LCK..{Path(pty.path).name}").write_text(content)
    pty.open().close()


def test_the_command_of_a_process_that_is_gone_or_has_strange_words(tmp_path: Path) -> None:
    assert locks.command_of(Path("/proc/4194305")) == "a process that has just ended"
    (tmp_path / "cmdline").write_bytes(b"screen\0\x1b[31m\xff\0" + b"x" * 100)
    command = locks.command_of(tmp_path)
    assert command.startswith("screen ?[31m")
    assert command.endswith("...")
    assert len(command) == locks.COMMAND_LENGTH
    (tmp_path / "cmdline").write_bytes(b"")
    (tmp_path / "comm").write_text("kworker/0:1\n")
    assert locks.command_of(tmp_path) == "kworker/0:1"
