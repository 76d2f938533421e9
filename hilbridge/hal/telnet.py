"""Telnet's escapes, taken out of a stream of received bytes (RFC 854, RFC 855). No I/O here.

A data byte 0xFF is doubled; a single one begins a command: two bytes for most, three for the negotiation of an option,
and any number between SB and SE. pyserial looks at each byte in a loop of its own; here the stream is cut at the 0xFFs,
of which most data has none.
"""

from __future__ import annotations

from collections.abc import Callable

IAC = 0xFF
DONT = 0xFE
DO = 0xFD
WONT = 0xFC
WILL = 0xFB
SB = 0xFA
SE = 0xF0

MAX_SUBNEGOTIATION = 4096
"""A longer one is no COM port option but a stream that lost its SE; what exceeds it is dropped."""


class TelnetFilter:
    """Give it what arrives, in pieces of any size; `feed` returns the data and calls back for the rest."""

    __slots__ = ("_escaped", "_negotiate", "_option", "_other", "_subnegotiate", "_verb")

    def __init__(
        self,
        negotiate: Callable[[int, int], None],
        subnegotiate: Callable[[bytes], None],
        other: Callable[[int], None],
    ) -> None:
        self._negotiate = negotiate
        self._subnegotiate = subnegotiate
        self._other = other
        self._escaped = False
        """The last byte was an IAC."""
        self._verb: int | None = None
        """DO, DONT, WILL or WONT; its option comes next."""
        self._option: bytearray | None = None
        """What has come since SB."""

    def feed(self, received: bytes) -> bytes:
        """The data in `received`, without escapes."""
        if not self._escaped and self._verb is None and self._option is None and IAC not in received:
            return received
        data = bytearray()
        at, end = 0, len(received)
        while at < end:
            if self._verb is not None:
                verb, self._verb = self._verb, None
                self._negotiate(verb, received[at])
                at += 1
            elif self._escaped:
                self._escaped = False
                self._command(received[at], data)
                at += 1
            else:
                stop = received.find(IAC, at)
                plain = received[at : stop if stop >= 0 else end]
                self._keep(plain, data)
                at += len(plain)
                if stop >= 0:
                    self._escaped = True
                    at += 1
        return bytes(data)

    def _keep(self, plain: bytes, data: bytearray) -> None:
        if self._option is None:
            data += plain
        else:
            self._option += plain[: MAX_SUBNEGOTIATION - len(self._option)]

    def _command(self, command: int, data: bytearray) -> None:
        if command == IAC:
            self._keep(b"\xff", data)
        elif command in {DO, DONT, WILL, WONT}:
            self._verb = command
        elif command == SB:
            self._option = bytearray()
        elif command == SE:
            option, self._option = self._option, None
            if option is not None:
                self._subnegotiate(bytes(option))
        else:
            self._other(command)
