"""What applications pass in, checked at the edge: a mistake there is the caller's, and must not look like a driver's."""

from __future__ import annotations

from collections.abc import Mapping

from hilbridge.model.errors import UsageFault
from hilbridge.model.hardware import OUTPUT_POLICIES
from hilbridge.model.ntddser import MAXULONG

LONGEST = 10**9
"""Seconds that are as good as for ever (thirty years), and that every clock can still count."""
LONGEST_READ = 1 << 40


def nanoseconds(timeout: float | None) -> int | None:
    """A time-out in seconds as the kernel counts it. None, and what is as good as for ever, is None."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or timeout != timeout:  # noqa: PLR0124 - only nan differs from itself
        raise UsageFault(f"timeout {timeout!r}: a number of seconds, or None to wait until the request is cancelled")
    return None if timeout >= LONGEST else round(max(timeout, 0.0) * 1e9)


def length(n: int) -> int:
    """A number of bytes."""
    if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= LONGEST_READ:
        raise UsageFault(f"cannot read {n!r} bytes: a length is a number from 0 up")
    return n


def as_bytes(data: object, what: str) -> bytes | memoryview:
    """Anything that has bytes, as bytes one by one: ``array('I')`` too. Text has none until it is encoded."""
    if isinstance(data, str):
        raise UsageFault(f"{what}: text must be encoded first: {data[:20]!r}.encode()")
    try:
        return memoryview(data).cast("B")  # type: ignore[arg-type]  # this is where it is found out
    except TypeError as error:
        raise UsageFault(f"{what}: {type(data).__name__} has no bytes to send ({error})") from None


def check_settings(settings: Mapping[str, object]) -> None:
    """Line settings under pyserial's names. Raises `UsageFault` naming the first that cannot be."""
    rate = settings.get("baudrate", 1)
    if not isinstance(rate, int) or isinstance(rate, bool) or not 0 < rate <= MAXULONG:
        raise UsageFault(f"baudrate {rate!r}: a rate is a positive number of bits per second, such as 115200")
    for name, choices in (("bytesize", (5, 6, 7, 8)), ("parity", ("N", "O", "E", "M", "S")), ("stopbits", (1, 1.5, 2))):
        if name in settings and settings[name] not in choices:
            shown = ", ".join(repr(choice) for choice in choices)
            raise UsageFault(f"{name} {settings[name]!r}: use one of {shown}")
    for name in ("dtr", "rts"):
        if settings.get(name, "keep") not in OUTPUT_POLICIES:
            shown = ", ".join(repr(choice) for choice in OUTPUT_POLICIES)
            raise UsageFault(f"{name} {settings[name]!r}: what becomes of the line at the start is one of {shown}")
    if settings.get("rtscts") and settings.get("rts", "keep") != "keep":
        raise UsageFault(f"rts {settings['rts']!r} does not go with rtscts: the flow control moves that line")
