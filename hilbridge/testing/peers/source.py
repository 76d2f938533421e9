"""The source: a given number of known bytes, as fast as the pty takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilbridge.files.fixture import MAX_BYTES
from hilbridge.model.errors import DeviceGone, UsageFault
from hilbridge.testing.peers.base import Done
from hilbridge.testing.peers.stream import StreamPeer

if TYPE_CHECKING:
    from hilbridge.files.fixture import Source


class SourcePeer(StreamPeer):
    """Sends a given number of bytes, as fast as the pty takes them, each time it is told to. It hears nothing."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def say(self, what: object, now_ns: int, done: Done) -> None:
        """``{"bytes": N, "line_length": L}``, each with the file's value as default. Done when it has begun."""
        if not self._pty.open:
            done(DeviceGone("the port was unplugged"))
            return
        asked = {"bytes": self._source.bytes, "line_length": self._source.line_length}
        if not isinstance(what, dict) or not set(what) <= set(asked):
            done(UsageFault('a source is told {"bytes": N, "line_length": L}'))
            return
        asked.update(what)
        data = source_data(asked["bytes"], asked["line_length"])
        done(None)
        self.send(data)

    def reset(self, now_ns: int, done: Done) -> None:
        """Stop sending."""
        self.drop("the source was reset")
        done(None)


def source_data(total: int, line_length: int) -> bytes:
    """What a source sends: `total` bytes that anybody can compute, to compare with what arrived.

    Lines are their own number from 0, zero-padded to `line_length` bytes with the newline; the last one may be cut
    short. With ``line_length=0`` it is the bytes 0 to 255, over and over. Raises `UsageFault`.
    """
    whole = isinstance(total, int) and isinstance(line_length, int)
    if not whole or not 1 <= total <= MAX_BYTES or not 0 <= line_length <= 65536:
        raise UsageFault(f"bytes must be 1 to {MAX_BYTES}, line_length 0 to 65536; got {total!r} and {line_length!r}")
    if line_length == 0:
        return (bytes(range(256)) * (total // 256 + 1))[:total]
    digits = line_length - 1
    count = -(-total // line_length)
    if len(str(count - 1)) > digits > 0 or (digits == 0 and count > 1):
        raise UsageFault(f"{count} lines cannot be numbered in {digits} digit(s); ask for longer lines")
    text = "".join(f"{number:0{digits}d}\n" if digits else "\n" for number in range(count))
    return text.encode()[:total]
