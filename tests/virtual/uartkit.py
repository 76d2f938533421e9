"""What the tests of the virtual UART share: two ports of one bridge with a null modem between them, on virtual time."""

from __future__ import annotations

from typing import Any

from hilbridge import Bridge, Handle
from hilbridge.virtual.uart import VirtualUart

CHARACTER = 10 / 9600


def nanoseconds(characters: int, rate: int = 9600, bits: int = 10) -> int:
    """How long they take: rounded up."""
    return -(-characters * bits * 10**9 // rate)


class NullModem:
    """COM1 and COM2, at 9600 baud unless told otherwise."""

    def __init__(self, bridge: Bridge, *, trigger: int = 8, **settings: Any) -> None:
        self.bridge = bridge
        self.one, self.other = VirtualUart.pair(trigger=trigger)
        settings = {"baudrate": 9600, **settings}
        self.names = bridge.plug(self.one, **settings), bridge.plug(self.other, **settings)
        self.a: Handle = bridge.open(self.names[0])
        self.b: Handle = bridge.open(self.names[1])

    @property
    def now(self) -> int:
        """Nanoseconds of virtual time."""
        return self.bridge.ke.clock.now()

    def advance(self, characters: float) -> None:
        self.bridge.machine.advance(characters * CHARACTER)
