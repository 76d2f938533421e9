"""What can be plugged in: a moniker names hardware, and says which driver it gets. Schemes are imported when first used."""

from __future__ import annotations

from typing import NamedTuple

from hilbridge.bridge.arguments import check_settings
from hilbridge.model.errors import DeviceUnsupported, UsageFault
from hilbridge.model.hardware import Line, LineSettings

_SETTINGS = ("baudrate", "bytesize", "parity", "stopbits", "xonxoff", "rtscts", "dsrdtr", "dtr", "rts")


class Hardware(NamedTuple):
    """Hardware that has been opened, and the driver that it gets unless told otherwise."""

    line: Line | None
    driver: str


def line_settings(settings: dict[str, object]) -> tuple[LineSettings, dict[str, object]]:
    """Split keyword settings into line settings and the rest. Raises `UsageFault` for values that cannot be."""
    known = {key: settings[key] for key in _SETTINGS if key in settings}
    rest = {key: value for key, value in settings.items() if key not in known}
    check_settings(known)
    return LineSettings(**known), rest  # type: ignore[arg-type]


def check_outputs(line: Line | None, settings: LineSettings) -> None:
    """Raise `DeviceUnsupported` if DTR or RTS are to be set and there is no such line."""
    named = [f"{name}={value!r}" for name in ("dtr", "rts") if (value := getattr(settings, name)) != "keep"]
    if named and (line is None or not line.has_modem_lines):
        what = line.name if line is not None else "the device"
        raise DeviceUnsupported(f"{' '.join(named)}: {what} has no DTR and RTS; leave it out, or take a real port")


def open_hardware(moniker: str, settings: LineSettings, options: dict[str, object]) -> Hardware:
    """Open what `moniker` names: ``/dev/ttyUSB0``, ``serial:...``, ``socket://...``, ``rfc2217://...``, ``virtual:NAME``."""
    if moniker.startswith("virtual:"):
        if options:
            raise UsageFault(f"{moniker}: there is no setting {next(iter(options))!r}; is it spelled right?")
        return _virtual(moniker)
    from hilbridge.hal.monikers import open_line

    return Hardware(open_line(moniker, settings, **options), "serial")  # type: ignore[arg-type]


def reopen_line(moniker: str, settings: LineSettings, options: dict[str, object]) -> Line | None:
    """Open it once more, after it was closed: for a device that was stopped, or whose driver has failed."""
    return open_hardware(moniker, settings, options).line


def _virtual(moniker: str) -> Hardware:
    name = virtual_name(moniker)
    if name in ("null", "toasterbus"):
        return Hardware(None, name)
    if name == "uart":
        from hilbridge.virtual.uart import VirtualUart

        return Hardware(VirtualUart(moniker, loop=True), "serial")
    from hilbridge.virtual.line import VirtualLine

    return Hardware(VirtualLine(moniker, loop=name == "loop"), "serial")


def virtual_name(moniker: str) -> str:
    """The NAME of ``virtual:NAME``. Raises `UsageFault` if there is no such device."""
    name = moniker.partition(":")[2]
    if name not in ("loop", "line", "uart", "null", "toasterbus"):
        raise UsageFault(f"no virtual device is called {name!r}; there are loop, line, uart, null and toasterbus")
    return name


def check_moniker(moniker: str) -> None:
    """Raise `UsageFault` for a moniker that cannot be, as far as can be told without opening it."""
    from hilbridge.hal.monikers import host_and_port, serial_path

    if moniker.startswith("virtual:"):
        virtual_name(moniker)
    elif moniker.startswith(("socket://", "rfc2217://")):
        host_and_port(moniker)
    else:
        serial_path(moniker)
