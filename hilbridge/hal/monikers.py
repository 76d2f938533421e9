"""What a user writes to name a line, and which module opens it.

    /dev/ttyUSB0   ./link                     a device node, or a link to one
    serial:/dev/ttyUSB0   serial:ttyUSB0      the same, said explicitly
    serial:by-id/NAME   serial:by-path/NAME   the links that udev makes in /dev/serial
    socket://HOST:PORT                        bytes over TCP, as QEMU and many serial servers offer them
    rfc2217://HOST:PORT[?OPTIONS]             a serial port over TCP, with settings and modem lines
    loop://   spy://PATH                      pyserial's loop-back, and its listener

Each module is imported when the first line of its kind is opened.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from hilbridge.model.errors import UsageFault
from hilbridge.model.hardware import Line, LineSettings

SCHEMES = (
    "/dev/NAME",
    "serial:PATH",
    "serial:by-id/NAME",
    "socket://HOST:PORT",
    "rfc2217://HOST:PORT",
    "loop://",
    "spy://PATH",
)
PUMPED = ("rfc2217", "loop", "spy")

CONNECT_TIMEOUT = 5.0


def open_line(
    moniker: str,
    settings: LineSettings,
    *,
    flush_on_open: bool = False,
    timeout: float = CONNECT_TIMEOUT,
    **unknown: object,
) -> Line:
    """Open the line that `moniker` names and program it with `settings`.

    What had been received before is kept, unless `flush_on_open`. `timeout` bounds, in seconds, the connection of a
    ``socket://`` (``rfc2217://`` has 5 s for it, and 3 s or ``?timeout=`` for each answer). Raises `UsageFault` for a
    name or a setting that means nothing, and `DeviceFault` for a line that does not open.
    """
    if unknown:
        raise UsageFault(f"{moniker}: there is no setting {next(iter(unknown))!r}; is it spelled right?")
    path = serial_path(moniker)
    if path is not None:
        from hilbridge.hal.serial_line import open_serial_line

        return open_serial_line(path, settings, flush_on_open=flush_on_open)
    scheme = moniker.partition("://")[0].lower() if "://" in moniker else ""
    if scheme == "socket":
        from hilbridge.hal.socket_line import open_socket_line

        return open_socket_line(moniker, settings, timeout=timeout)
    if scheme in PUMPED:
        from hilbridge.hal.pump import open_pumped_line

        return open_pumped_line(moniker, settings, flush_on_open=flush_on_open)
    raise UsageFault(f"{moniker!r} names no line that can be opened: give one of {', '.join(SCHEMES)}")


def serial_path(moniker: str) -> str | None:
    """The path of the device node that `moniker` names, or None if it names something else."""
    if moniker.startswith(("/", "./", "../")):
        return moniker
    scheme, colon, rest = moniker.partition(":")
    if not colon or scheme.lower() != "serial" or rest.startswith("//"):
        return None
    if rest.startswith(("/", "./", "../")):
        return rest
    if rest.startswith(("by-id/", "by-path/")):
        return f"/dev/serial/{rest}"
    if rest and "/" not in rest:
        return f"/dev/{rest}"
    raise UsageFault(f"{moniker!r} names no port: give serial:/dev/NAME, serial:by-id/NAME or serial:by-path/NAME")


def host_and_port(url: str) -> tuple[str, int]:
    """The two parts of ``scheme://host:port``; an IPv6 address is in brackets."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # not a number, or above 65535
        host, port = None, None
    if not host or not port:
        raise UsageFault(f"{url!r} needs a host and a port: {parts.scheme}://localhost:4000")
    return host, port
