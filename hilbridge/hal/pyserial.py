"""The one door to pyserial: whether it is the right one, and how its objects are given their settings.

The name ``serial`` is contested: other packages install a module of that name, and drop-in replacements exist. The
checks here are made once, when the first port is opened, so that the error says so instead of "module 'serial' has no
attribute 'Serial'".
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import TYPE_CHECKING

from hilbridge.model.errors import DeviceUnsupported, UsageFault
from hilbridge.model.hardware import PARITIES, LineSettings

try:
    import serial
except ImportError as error:
    raise UsageFault("pyserial is not installed: pip install 'pyserial>=3.5'") from error

if TYPE_CHECKING:
    from serial.serialutil import SerialBase

# Other modules take `serial` from here, so that nobody meets it unchecked.
__all__ = ["check_module", "check_settings", "serial", "store_settings"]

OLDEST = (3, 5)
HOOKS = ("_reconfigure_port", "_reset_input_buffer", "_update_dtr_state", "_update_rts_state")
"""Private methods of ``serial.Serial`` that `serial_line` overrides: without them ports would not be locked."""

MAX_BAUDRATE = 2**31 - 1
"""pyserial hands the rate to the kernel as a C int."""


def check_module(module: ModuleType) -> None:
    """Raise `UsageFault` unless `module` is a pyserial that hilbridge was written for."""
    where = getattr(module, "__file__", None) or "somewhere"
    found = re.match(r"(\d+)\.(\d+)", str(getattr(module, "__version__", "")))
    if found is None or not hasattr(module, "serial_for_url"):
        raise UsageFault(
            f"the module 'serial' in {where} is not pyserial: pip uninstall serial,"
            " then pip install --force-reinstall pyserial"
        )
    if (int(found[1]), int(found[2])) < OLDEST:
        raise UsageFault(f"pyserial {module.__version__} in {where} is too old: pip install -U 'pyserial>=3.5'")
    missing = [name for name in HOOKS if not hasattr(module.Serial, name)]
    if missing:
        raise UsageFault(
            f"pyserial {module.__version__} in {where} has no {missing[0]}() any more, which hilbridge needs:"
            " pip install 'pyserial==3.5'"
        )


check_module(serial)


def check_settings(name: str, settings: LineSettings) -> None:
    """Raise `DeviceUnsupported`, naming the setting, for what no line can do or what would be ignored in silence."""
    baudrate, bytesize, stopbits = settings.baudrate, settings.bytesize, settings.stopbits
    if not isinstance(baudrate, int) or not 0 < baudrate <= MAX_BAUDRATE:
        raise DeviceUnsupported(f"{name}: baudrate {baudrate!r} is impossible; give bits per second, as 115200")
    if bytesize not in {5, 6, 7, 8}:
        raise DeviceUnsupported(f"{name}: bytesize {bytesize!r} is impossible; give 5, 6, 7 or 8")
    if settings.parity not in PARITIES:
        raise DeviceUnsupported(f"{name}: parity {settings.parity!r} is impossible; give one of {', '.join(PARITIES)}")
    if stopbits not in {1, 1.5, 2}:
        raise DeviceUnsupported(f"{name}: stopbits {stopbits!r} is impossible; give 1, 1.5 or 2")
    # A UART has one bit for "more than one": it means 1.5 with 5 data bits and 2 with more. pyserial would send 2 where
    # 1.5 was asked for. Windows refuses the same pairs (the DCB structure's documentation).
    if stopbits == (2 if bytesize == 5 else 1.5):
        raise DeviceUnsupported(
            f"{name}: stopbits {stopbits} does not go with bytesize {bytesize}: 1.5 is for 5, 2 for more"
        )
    if settings.xonxoff and settings.rtscts:
        raise DeviceUnsupported(f"{name}: xonxoff and rtscts together are not supported; choose one of them")
    if settings.dsrdtr:
        raise DeviceUnsupported(f"{name}: dsrdtr is not supported: Linux has no such flow control; take rtscts")


def store_settings(port: SerialBase, settings: LineSettings) -> None:
    """Put `settings` into a pyserial object without programming anything: for that, call ``_reconfigure_port()`` once.

    The public setters of an open port program the whole port at every assignment: six times where once is meant. The
    fields that they would set are those that pyserial's own ``get_settings()`` reads.
    """
    for key in ("baudrate", "bytesize", "parity", "stopbits", "xonxoff", "rtscts", "dsrdtr"):
        setattr(port, f"_{key}", getattr(settings, key))
