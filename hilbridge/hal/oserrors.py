"""The one place where errors of the operating system and of pyserial become a `DeviceFault`.

The same event arrives in many clothes. After an unplug, pyserial raises SerialException from one method, OSError from
another and termios.error (which is no OSError) from a third; often the number of the error survives only inside a text,
or in the exception that was being handled. Here each is brought back to its number, and each number to a status, a
class and one line that says what to do next.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import resource
import socket
import stat
import termios
from pathlib import Path

from hilbridge.hal import locks
from hilbridge.model.errors import (
    DeviceBusy,
    DeviceFault,
    DeviceGone,
    DeviceNotFound,
    DevicePermission,
    DeviceTimeout,
    DeviceUnsupported,
)
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, NtStatus

OPEN = "open"
"""The `doing` of an attempt to open: then the message is about the name, not about a device that went away."""

REFUSALS: tuple[type[Exception], ...] = (
    OSError,
    termios.error,
    ValueError,
    KeyError,
    OverflowError,
    NotImplementedError,
)
"""What a call into pyserial or the OS may raise when it refuses. (Its TypeErrors come from races that we do not run.)"""

_GONE = {
    errno.EIO,
    errno.ENXIO,
    errno.ENODEV,
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
}
_UNREACHABLE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
_UNSUPPORTED = {errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOPROTOOPT}
_BUSY = {errno.EBUSY, errno.EWOULDBLOCK, errno.ETXTBSY}

# pyserial's RFC2217 client names the settings as the protocol does.
_RFC2217_NAMES = {"datasize": "bytesize", "stopsize": "stopbits"}


def errno_of(exc: BaseException) -> int | None:
    """The error number inside `exc`: its own, that of its cause, or the one that its text quotes."""
    seen: set[int] = set()
    todo: list[BaseException] = [exc]
    while todo:
        e = todo.pop(0)
        if id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, OSError) and isinstance(e.errno, int) and not isinstance(e, socket.gaierror):
            return e.errno
        if isinstance(e, termios.error) and e.args and isinstance(e.args[0], int):
            return e.args[0]
        todo += [other for other in (e.__cause__, e.__context__) if other is not None]
    quoted = re.search(r"\[Errno (\d+)\]|\((\d+), '", str(exc))
    return int(quoted[1] or quoted[2]) if quoted else None


def fault_from(exc: BaseException, *, name: str, doing: str) -> DeviceFault:
    """Say what `exc` means for the device `name` while `doing` something to it: a verb, as "read from".

    Returns the fault; the caller raises it ``from exc``. A `DeviceFault` comes back as it is.
    """
    if isinstance(exc, DeviceFault):
        return exc
    number = errno_of(exc)
    fault = _by_type(exc, name, doing) if number is None else _by_number(number, name, doing)
    if fault.errno is None:
        fault.errno = number
    return fault


def _by_number(number: int, name: str, doing: str) -> DeviceFault:
    opening = doing == OPEN
    why = os.strerror(number)
    if number in _GONE:
        return _gone(name, doing, why)
    if number == errno.EBADF:
        return _closed(name, doing)
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return _missing(name)
    if number in _UNREACHABLE:
        kind = DeviceNotFound if opening else DeviceGone
        return kind(f"cannot {doing} {name}: {why}; does the far end run, and is the port number right?")
    if number in _BUSY:
        return _busy(name)
    if number in {errno.EACCES, errno.EPERM}:
        return _forbidden(name)
    if number == errno.EISDIR:
        return not_a_port(name, "a directory")
    if number in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
        return _exhausted(number, name, doing)
    if number == errno.ETIMEDOUT:
        return _timeout(name, doing) if opening else _gone(name, doing, why)
    if number in _UNSUPPORTED:
        return DeviceUnsupported(f"cannot {doing} {name}: this kind of port does not support it ({why})")
    return DeviceFault(f"cannot {doing} {name}: {why} ({errno.errorcode.get(number, number)})")


def _by_type(exc: BaseException, name: str, doing: str) -> DeviceFault:
    text = " ".join(str(exc).split()) or type(exc).__name__
    chain = [exc, exc.__cause__, exc.__context__]
    if any(isinstance(e, socket.gaierror) for e in chain):
        return DeviceNotFound(f"cannot {doing} {name}: no such host; is its name spelled right?")
    if "does not seem to support RFC2217" in text:
        return DeviceUnsupported(f"{name} answers, but not as an RFC2217 server; for a plain TCP port use socket://")
    rejected = re.search(r"rejected value for option '(\w+)'", text)
    if rejected:
        setting = _RFC2217_NAMES.get(rejected[1], rejected[1])
        return DeviceUnsupported(f"cannot {doing} {name}: the far end refuses this {setting}; try another value")
    if "does not accept parameter change" in text:
        return DeviceTimeout(
            f"cannot {doing} {name}: the far end does not confirm its settings; ?timeout=10 waits longer"
        )
    if "waiting for option 'control'" in text:
        return DeviceTimeout(
            f"cannot {doing} {name}: the far end does not confirm; if that is its way: ?ign_set_control"
        )
    if "NOTIFY_MODEMSTATE" in text:
        return DeviceUnsupported(f"cannot {doing} {name}: the far end does not tell them; ?poll_modem asks each time")
    if any(isinstance(e, TimeoutError) for e in chain) or "timeout" in text.lower():
        return _timeout(name, doing)
    # A closed port has descriptor -1 here and None in pyserial, whose methods then fail with unrelated types.
    if isinstance(exc, (TypeError, AttributeError)) or re.search(r"port that is not open|negative integer", text):
        return _closed(name, doing)
    if re.search(r"disconnected|reader thread died", text):
        return _gone(name, doing, "hang-up")
    # Three ways of pyserial's handlers to say that they do not know an option of the URL. (In one of them, the text of the
    # error trips over its own braces.)
    if isinstance(exc, KeyError):
        return DeviceUnsupported(f"cannot {doing} {name}: an option in it is unknown, or has an impossible value")
    if isinstance(exc, (ValueError, OverflowError, NotImplementedError)) or "expected a string in the form" in text:
        return DeviceUnsupported(f"cannot {doing} {name}: {text}")
    return DeviceFault(f"cannot {doing} {name}: {text}")


def _gone(name: str, doing: str, why: str) -> DeviceGone:
    if doing == OPEN and "://" in name:
        return DeviceGone(
            f"cannot open {name}: its far end closes the connection ({why}); does it serve somebody else?"
        )
    if doing == OPEN:
        return DeviceGone(f"cannot open {name}: there is no hardware behind it ({why}); unplug it and plug it in again")
    return DeviceGone(
        f"cannot {doing} {name}: unplugged, or its other end is gone ({why}); open it again when it is back"
    )


def _closed(name: str, doing: str) -> DeviceGone:
    return DeviceGone(f"cannot {doing} {name}: it was closed; open it again")


def _missing(name: str) -> DeviceNotFound:
    path = Path(name)
    if path.is_symlink():
        return DeviceNotFound(f"{name} points to {path.readlink()}, which does not exist: is the device plugged in?")
    return DeviceNotFound(f"{name} does not exist: is the device plugged in, and its name spelled right?")


def _busy(name: str) -> DeviceBusy:
    holders = locks.holders(name)
    if holders and all(holder.pid == os.getpid() for holder in holders):
        return DeviceBusy(f"{name} is already open in this process: close that handle first, or use it")
    if holders:
        return DeviceBusy(f"{name} is in use by {', '.join(map(str, holders))}: end that program first")
    return DeviceBusy(f"{name} is in use by a program that this user may not see: `sudo fuser -v {name}` names it")


def _forbidden(name: str) -> DevicePermission:
    if "://" in name:
        return DevicePermission(f"{name} is forbidden to this user; does a firewall refuse the connection?")
    try:
        node = Path(name).stat()
    except OSError:
        return DevicePermission(f"{name} is forbidden: a directory on the way to it is closed to this user")
    owner, group = _user_name(node.st_uid), _group_name(node.st_gid)
    facts = f"{name} belongs to {owner}, group {group}, mode {stat.S_IMODE(node.st_mode):04o}"
    if node.st_gid != 0 and node.st_mode & 0o060 == 0o060:
        return DevicePermission(f"{facts}: add yourself to the group (sudo usermod -aG {group} $USER) and log in again")
    return DevicePermission(f'{facts}: only its owner may; a udev rule with GROUP="dialout", MODE="0660" changes that')


def _exhausted(number: int, name: str, doing: str) -> DeviceFault:
    status: NtStatus = STATUS_INSUFFICIENT_RESOURCES
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        what = f"this process is out of descriptors (its limit is {limit}): close some, or raise it with ulimit -n"
    elif number == errno.ENFILE:
        what = "this machine is out of descriptors: close some programs, or raise fs.file-max"
    else:
        what = "the kernel is out of memory: close some programs"
    return DeviceFault(f"cannot {doing} {name}: {what}", status=status)


def _timeout(name: str, doing: str) -> DeviceTimeout:
    return DeviceTimeout(f"cannot {doing} {name}: no answer in time; does the far end run, and is it reachable?")


def not_a_port(name: str, what: str) -> DeviceUnsupported:
    """The refusal of a path that leads to something else than a serial port."""
    return DeviceUnsupported(
        f"{name} is {what}, not a serial port: give a device node, as /dev/ttyUSB0",
        status=STATUS_INVALID_DEVICE_REQUEST,
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
