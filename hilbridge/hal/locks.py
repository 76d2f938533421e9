"""Who has a port: the two locks that Linux knows, the lock files of old, and the list of those that have it open.

Two programs that read one port share its bytes at random, so a port is locked in both ways at once:

* ``flock`` on the descriptor. Advisory: only those who ask are stopped, root included. pyserial (``exclusive=True``),
  tio and picocom ask.
* ``TIOCEXCL`` on the terminal. Everybody's ``open()`` fails with EBUSY, except that of root: a privileged process has
  to look at the flag itself, after it has opened.

UUCP lock files (``/var/lock/LCK..ttyUSB0``; minicom, older gpsd) are respected, not written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hilbridge.model.errors import DeviceBusy

TIOCGEXCL = 0x80045440  # asm-generic/ioctls.h; Python's termios does not have it

LOCK_FILE_DIRECTORIES = (Path("/var/lock"), Path("/var/spool/lock"))
PTY_MAJORS = range(136, 144)  # UNIX98_PTY_SLAVE_MAJOR and the seven after it, linux/major.h
COMMAND_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a port open."""

    pid: int
    command: str
    """Its command line, shortened; "this process" if it is our own."""

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


def take(fd: int, path: str) -> None:
    """Take the advisory lock of an opened port, or raise OSError EBUSY. Changes nothing that others could notice."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another program has locked it", path) from None
    if is_exclusive(fd) and not _left_over(fd, path):
        raise OSError(errno.EBUSY, "another program has it for itself", path)


def exclude_others(fd: int) -> None:
    """TIOCEXCL: from now on nobody but root can open this terminal."""
    fcntl.ioctl(fd, termios.TIOCEXCL)


def release(fd: int) -> None:
    """Give both locks back. Does nothing on a terminal that was unplugged.

    Closing alone would not do. A forked child may have a copy of the descriptor, and the advisory lock stays with the
    last copy. And a pty keeps the exclusive flag for as long as its master lives.
    """
    try:
        fcntl.ioctl(fd, termios.TIOCNXCL)
    except OSError:
        pass  # hung up: the flag went with the terminal
    fcntl.flock(fd, fcntl.LOCK_UN)


def is_exclusive(fd: int) -> bool:
    """Whether somebody has set TIOCEXCL on this terminal."""
    try:
        flag: int = struct.unpack("i", fcntl.ioctl(fd, TIOCGEXCL, bytes(4)))[0]
    except OSError:
        return False  # not on this architecture, or not a terminal: then there is only the advisory lock
    return flag != 0


def _left_over(fd: int, path: str) -> bool:
    # The exclusive flag of a real port goes with its last descriptor. That of a pty stays when the program that set it
    # was killed, because the master keeps the terminal alive: there it means nothing unless somebody has it open.
    return os.major(os.fstat(fd).st_rdev) in PTY_MAJORS and not holders(path, but=fd)


def holders(path: str, *, but: int = -1) -> list[Holder]:
    """The processes that have the device node `path` open, as far as this user may know: ``/proc/PID/fd``.

    `but` is a descriptor of this process that does not count.
    """
    try:
        node = Path(path).stat()
        target = str(Path(path).resolve())
    except OSError:
        return []
    if not stat.S_ISCHR(node.st_mode):
        return []
    me = os.getpid()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        pid = int(process.name)
        if any(fd != but or pid != me for fd in _descriptors_of(process, target, node)):
            found.append(Holder(pid, "this process" if pid == me else command_of(process)))
    return sorted(found, key=lambda holder: holder.pid)


def _descriptors_of(process: Path, target: str, node: os.stat_result) -> Iterator[int]:
    try:
        entries = list((process / "fd").iterdir())
    except OSError:
        return  # somebody else's, or it has just ended
    for entry in entries:
        try:
            # The link is read before the file is looked at: a stat of something on a dead network mount would hang.
            link = str(entry.readlink())
            if link.startswith("/dev/") or link == target:
                found = entry.stat()
                if found.st_rdev == node.st_rdev and stat.S_ISCHR(found.st_mode) and _same_ptys(found, node):
                    yield int(entry.name)
        except OSError:
            continue  # closed meanwhile


def _same_ptys(one: os.stat_result, other: os.stat_result) -> bool:
    # Each container has ptys of its own, with the same numbers. They differ in the file system that they are in.
    return os.major(one.st_rdev) not in PTY_MAJORS or one.st_dev == other.st_dev


def command_of(process: Path) -> str:
    """What runs in a directory of /proc, on one line."""
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        words = words or (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process that has just ended"
    words = "".join(c if c.isprintable() else "?" for c in words)
    return words if len(words) <= COMMAND_LENGTH else words[: COMMAND_LENGTH - 3] + "..."


def refuse_if_lock_file(path: str) -> None:
    """Raise `DeviceBusy` if a living process has left a UUCP lock file for this port."""
    for name in dict.fromkeys((Path(path).name, Path(path).resolve().name)):
        for directory in LOCK_FILE_DIRECTORIES:
            file = directory / f"LCK..{name}"
            pid = _pid_in(file)
            if pid is not None and pid != os.getpid() and Path(f"/proc/{pid}").exists():
                holder = Holder(pid, command_of(Path(f"/proc/{pid}")))
                raise DeviceBusy(f"{path} is in use by {holder}, says its lock file {file}: end that program first")


def _pid_in(file: Path) -> int | None:
    try:
        text = file.read_bytes()
    except OSError:
        return None
    try:
        return int(text.split()[0])
    except (ValueError, IndexError):
        # Before the file hierarchy standard asked for text, the number itself was written.
        return int.from_bytes(text, "little") if len(text) == 4 else None
