"""What the control functions of the serial driver are given, and what they answer; the codes are in ``ioctl.py``."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeVar

from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceGone
from hilbridge.model.file import FileObject
from hilbridge.model.hardware import Line
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus

R = TypeVar("R")


class Request(NamedTuple):
    """What a control function is given."""

    device: DeviceObject[SerialExtension]
    irp: Irp
    data: bytearray
    file: FileObject | None
    room: int

    @property
    def extension(self) -> SerialExtension:
        """The port."""
        return self.device.extension

    def on_line(self, use: Callable[[Line], R]) -> R:
        """Use the line, which stays open meanwhile. Raises `DeviceGone` if it is gone, `Away` if it comes back."""
        extension = self.extension
        with extension.line_lock:
            line = extension.line
            if line is not None and not extension.asleep:
                return use(line)
        if extension.gone is not None:
            raise DeviceGone(f"{extension.port_name} is gone")
        raise Away


Answer = NtStatus | bytes | Callable[[], NtStatus] | None
"""A status; or the bytes of a successful answer; or a setting to be carried out behind what is being sent; or None: it waits,
and has been marked pending."""


class Away(Exception):
    """The line has been taken away in this moment, by a stop or a lower power state."""


class Needs(Enum):
    """What a control request needs of the line."""

    NOTHING = 0
    """It can be answered after the device has gone: what had been received can still be had."""
    DEVICE = 1
    """It is answered from memory, or waits among the writes: also while the device is stopped or asleep."""
    LINE = 2
    """It uses the line at once. While that is away the request is held."""


class Control(NamedTuple):
    """A control code: how much must come in, how much must have room to go out, who does it, and whether with the line."""

    needs: int
    returns: int
    function: Callable[[Request], Answer]
    line: Needs = Needs.DEVICE
