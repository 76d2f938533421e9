"""Every error of the OS and of pyserial, in whichever clothes it comes, has one meaning, one line and a next step."""

from __future__ import annotations

import errno
import os
import socket
import termios
from pathlib import Path

import pytest
import serial

from hilbridge.hal.oserrors import OPEN, errno_of, fault_from
from hilbridge.model.errors import (
    DeviceBusy,
    DeviceFault,
    DeviceGone,
    DeviceNotFound,
    DevicePermission,
    DeviceTimeout,
    DeviceUnsupported,
)
from hilbridge.model.status import (
    STATUS_ACCESS_DENIED,
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_IO_DEVICE_ERROR,
    STATUS_NO_SUCH_DEVICE,
    STATUS_NOT_SUPPORTED,
    STATUS_SHARING_VIOLATION,
    NtStatus,
)

NAME = "/dev/ttyUSB_none"


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def termios_error(number: int) -> Exception:
    return termios.error(number, os.strerror(number))


def serial_error(number: int) -> Exception:
    return serial.SerialException(number, f"could not open port: {os.strerror(number)}")


def hidden(number: int) -> Exception:
    """As pyserial hides it: the number is in the text only."""
    return serial.SerialException(f"write failed: [Errno {number}] {os.strerror(number)}")


def hidden_termios(number: int) -> Exception:
    return serial.SerialException(f"Could not configure port: {termios_error(number)}")


def wrapped(number: int) -> Exception:
    """Not even in the text, but in the exception that was being handled."""
    try:
        try:
            raise os_error(number)
        except OSError:
            raise ValueError("Failed to set custom baud rate")  # noqa: B904 - as pyserial does
    except ValueError as exc:
        return exc


def wrapped_termios(number: int) -> Exception:
    exc = serial.SerialException("Could not configure port")
    exc.__context__ = termios_error(number)
    return exc


CLOTHES = [os_error, termios_error, serial_error, hidden, hidden_termios, wrapped, wrapped_termios]


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize(
    ("number", "kind", "status", "exit_code"),
    [
        (errno.EIO, DeviceGone, STATUS_DEVICE_NOT_CONNECTED, 7),
        (errno.ENXIO, DeviceGone, STATUS_DEVICE_NOT_CONNECTED, 7),
        (errno.ENODEV, DeviceGone, STATUS_DEVICE_NOT_CONNECTED, 7),
        (errno.EPIPE, DeviceGone, STATUS_DEVICE_NOT_CONNECTED, 7),
        (errno.ECONNRESET, DeviceGone, STATUS_DEVICE_NOT_CONNECTED, 7),
        (errno.EBADF, DeviceGone, STATUS_DEVICE_NOT_CONNECTED, 7),
        (errno.ENOENT, DeviceNotFound, STATUS_NO_SUCH_DEVICE, 4),
        (errno.EBUSY, DeviceBusy, STATUS_SHARING_VIOLATION, 5),
        (errno.EWOULDBLOCK, DeviceBusy, STATUS_SHARING_VIOLATION, 5),
        (errno.EACCES, DevicePermission, STATUS_ACCESS_DENIED, 6),
        (errno.EPERM, DevicePermission, STATUS_ACCESS_DENIED, 6),
        (errno.ENOTTY, DeviceUnsupported, STATUS_NOT_SUPPORTED, 2),
        (errno.EINVAL, DeviceUnsupported, STATUS_NOT_SUPPORTED, 2),
        (errno.EMFILE, DeviceFault, STATUS_INSUFFICIENT_RESOURCES, 7),
        (errno.ENFILE, DeviceFault, STATUS_INSUFFICIENT_RESOURCES, 7),
        (errno.ENOMEM, DeviceFault, STATUS_INSUFFICIENT_RESOURCES, 7),
        (errno.EPROTO, DeviceFault, STATUS_IO_DEVICE_ERROR, 7),
    ],
)
def test_one_number_one_meaning(
    clothes: object, number: int, kind: type[DeviceFault], status: NtStatus, exit_code: int
) -> None:
    assert callable(clothes)
    exc = clothes(number)
    assert errno_of(exc) == number
    fault = fault_from(exc, name=NAME, doing="write to")
    assert type(fault) is kind
    assert fault.status == status
    assert fault.exit_code == exit_code
    assert fault.errno == number
    assert NAME in str(fault)
    assert "\n" not in str(fault)


def test_the_builtins_that_callers_catch_anyway() -> None:
    assert isinstance(fault_from(os_error(errno.ENOENT), name=NAME, doing=OPEN), FileNotFoundError)
    assert isinstance(fault_from(os_error(errno.EACCES), name=NAME, doing=OPEN), PermissionError)
    assert isinstance(fault_from(os_error(errno.EIO), name=NAME, doing="read from"), ConnectionError)
    assert isinstance(fault_from(TimeoutError(), name=NAME, doing="read from"), TimeoutError)


def test_a_fault_comes_back_as_it_is() -> None:
    fault = DeviceGone("was unplugged", partial=b"123")
    assert fault_from(fault, name=NAME, doing="read from") is fault


@pytest.mark.parametrize(
    ("exc", "kind", "says"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), DeviceNotFound, "no such host"),
        (os_error(errno.ECONNREFUSED), DeviceNotFound, "is the port number right?"),
        (os_error(errno.EHOSTUNREACH), DeviceNotFound, "does the far end run"),
        (os_error(errno.ETIMEDOUT), DeviceTimeout, "is it reachable?"),
        (TimeoutError("timed out"), DeviceTimeout, "is it reachable?"),
        (serial.SerialTimeoutException("Write timeout"), DeviceTimeout, "no answer in time"),
        (os_error(errno.EIO), DeviceGone, "does it serve somebody else?"),
        (os_error(errno.EISDIR), DeviceUnsupported, "is a directory, not a serial port"),
        (os_error(errno.EMFILE), DeviceFault, "raise it with ulimit -n"),
        (os_error(errno.ENFILE), DeviceFault, "raise fs.file-max"),
        (serial.PortNotOpenError(), DeviceGone, "it was closed; open it again"),
        (TypeError("'NoneType' object cannot be interpreted as an integer"), DeviceGone, "it was closed"),
        (ValueError("file descriptor cannot be a negative integer (-1)"), DeviceGone, "it was closed"),
        (ValueError("Not a valid parity: 'odd'"), DeviceUnsupported, "Not a valid parity: 'odd'"),
        (serial.SerialException(), DeviceFault, "SerialException"),
        (serial.SerialException("two\nlines"), DeviceFault, "two lines"),
    ],
)
def test_what_the_message_says_of_an_attempt_to_open(exc: Exception, kind: type[DeviceFault], says: str) -> None:
    fault = fault_from(exc, name="socket://board:4000", doing=OPEN)
    assert type(fault) is kind
    assert says in str(fault)
    assert "\n" not in str(fault)


def test_a_node_without_hardware() -> None:
    """The fourth port of a PC that has one: the node can be opened, and then nothing works."""
    fault = fault_from(hidden_termios(errno.EIO), name="/dev/ttyS3", doing=OPEN)
    assert type(fault) is DeviceGone
    assert str(fault) == (
        "cannot open /dev/ttyS3: there is no hardware behind it (Input/output error); unplug it and plug it in again"
    )


def test_a_network_that_fails_later_means_that_the_device_is_gone() -> None:
    for number in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH):
        assert type(fault_from(os_error(number), name="socket://board:4000", doing="read from")) is DeviceGone


def test_a_forbidden_connection_is_not_looked_up_as_a_file() -> None:
    fault = fault_from(os_error(errno.EACCES), name="socket://board:4000", doing=OPEN)
    assert "does a firewall refuse the connection?" in str(fault)


def test_permission_tells_owner_group_mode_and_the_way_out(tmp_path: Path) -> None:
    node = tmp_path / "ttyUSB0"
    node.write_text("")
    node.chmod(0o600)
    fault = fault_from(os_error(errno.EACCES), name=str(node), doing=OPEN)
    owner = node.owner()
    assert f"{node} belongs to {owner}, group {node.group()}, mode 0600: only its owner may" in str(fault)
    assert 'a udev rule with GROUP="dialout", MODE="0660"' in str(fault)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_permission_of_a_group_or_of_users_without_a_name(tmp_path: Path) -> None:
    node = tmp_path / "ttyUSB0"
    node.write_text("")
    os.chown(node, 0, 20)
    node.chmod(0o660)
    message = str(fault_from(os_error(errno.EACCES), name=str(node), doing=OPEN))
    assert "group dialout, mode 0660: add yourself to the group (sudo usermod -aG dialout $USER)" in message
    os.chown(node, 54321, 54321)
    message = str(fault_from(os_error(errno.EACCES), name=str(node), doing=OPEN))
    assert "belongs to 54321, group 54321" in message


def test_permission_of_a_directory_on_the_way() -> None:
    fault = fault_from(os_error(errno.EACCES), name="/nowhere/ttyUSB0", doing=OPEN)
    assert "a directory on the way to it is closed" in str(fault)


def test_an_error_of_an_error_of_itself_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert errno_of(one) is None


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("Remote does not seem to support RFC2217 or BINARY mode [..]", DeviceUnsupported, "use socket://"),
        ("remote rejected value for option 'baudrate'", DeviceUnsupported, "refuses this baudrate"),
        ("remote rejected value for option 'datasize'", DeviceUnsupported, "refuses this bytesize"),
        ("remote rejected value for option 'stopsize'", DeviceUnsupported, "refuses this stopbits"),
        ("Remote does not accept parameter change (RFC2217): [..]", DeviceTimeout, "?timeout=10 waits longer"),
        ("timeout while waiting for option 'control'", DeviceTimeout, "?ign_set_control"),
        ("timeout while waiting for option 'purge'", DeviceTimeout, "no answer in time"),
        ("remote sends no NOTIFY_MODEMSTATE", DeviceUnsupported, "?poll_modem"),
        ("connection failed (reader thread died)", DeviceGone, "open it again"),
    ],
)
def test_what_pyserials_rfc2217_client_says(text: str, kind: type[DeviceFault], says: str) -> None:
    """The texts are those of pyserial 3.5; the tests of rfc2217_line provoke the real ones."""
    fault = fault_from(serial.SerialException(text), name="rfc2217://board:4000", doing="configure")
    assert type(fault) is kind
    assert says in str(fault)
