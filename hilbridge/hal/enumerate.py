"""The serial ports that this machine has, as pyserial finds them, and who has them open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from hilbridge.hal.locks import Holder, holders
from hilbridge.hal.monikers import serial_path
from hilbridge.hal.oserrors import OPEN, fault_from, not_a_port
from hilbridge.model.errors import DeviceFault, UsageFault

TRIES = 3
"""pyserial fails as a whole when one port disappears while it reads what the system says of it."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that exists. What is not known is None; the numbers are those of the USB device behind it."""

    device: str
    """The device node: ``/dev/ttyUSB0``."""
    description: str | None = None
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    location: str | None = None
    """Where it is plugged in: ``1-2.3:1.0``."""
    holders: tuple[Holder, ...] = ()
    """The processes that have it open, as far as this user may know."""

    @property
    def usb_id(self) -> str | None:
        """``0403:6001``."""
        return None if self.vid is None or self.pid is None else f"{self.vid:04x}:{self.pid:04x}"


def ports() -> list[Port]:
    """All serial ports, sorted by name. Raises `DeviceFault` if they cannot be listed."""
    return [_port(info) for info in sorted(_infos())]


def port(moniker: str) -> Port:
    """One port: a device node, a link to one, ``serial:NAME``; also one that `ports` does not list, as a pty.

    Raises `UsageFault` for a moniker of another kind, `DeviceNotFound`, and `DeviceUnsupported` for what is no port.
    """
    path = serial_path(moniker)
    if path is None:
        raise UsageFault(f"{moniker!r} is no port of this machine: give a device node, as /dev/ttyUSB0")
    try:
        is_device = Path(path).is_char_device()
        node = str(Path(path).resolve(strict=True))
    except (OSError, ValueError) as error:
        raise fault_from(error, name=path, doing=OPEN) from error
    if not is_device:
        raise not_a_port(path, "something else")
    known = [info for info in _infos() if info.device == node]
    return _port(known[0]) if known else Port(node, holders=tuple(holders(node)))


def _infos() -> list[ListPortInfo]:
    failure: Exception | None = None
    for _ in range(TRIES):
        try:
            return list(list_ports.comports())
        except (TypeError, ValueError, OSError) as error:  # int(None): idVendor has just gone
            failure = error
    raise DeviceFault(f"the serial ports cannot be listed: {failure}; try again, or name the port") from failure


def _port(info: ListPortInfo) -> Port:
    # "n/a", or the name once more, is how pyserial says that it knows nothing.
    description = None if info.description in ("n/a", info.name) else info.description
    return Port(
        info.device,
        description,
        info.vid,
        info.pid,
        info.serial_number,
        info.manufacturer,
        info.product,
        info.location,
        tuple(holders(info.device)),
    )
