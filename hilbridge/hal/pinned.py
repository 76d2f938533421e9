"""What lines with a descriptor have in common: the selector is their interrupt."""

from __future__ import annotations

from hilbridge.model.hardware import CAUSE_RX, CAUSE_TX, InterruptPin


class PinnedLine:
    """The interrupt part of a `Line` whose descriptor is watched: its pin knows why it interrupts."""

    __slots__ = ("_pin",)

    def __init__(self) -> None:
        self._pin: InterruptPin | None = None

    def connect(self, pin: InterruptPin) -> None:
        """Solder to the pin, and say that it will be told of every byte that has moved."""
        self._pin = pin
        pin.moved = False

    def enable_interrupts(self, causes: int) -> None:
        """Choose which causes may interrupt."""
        if self._pin is not None:
            self._pin.enable(causes & (CAUSE_RX | CAUSE_TX))  # no descriptor announces a modem line

    def causes(self) -> int:
        """Why it interrupts; read to acknowledge."""
        return self._pin.take() if self._pin is not None else 0

    def asserted(self) -> bool:
        """Never: the selector asks the descriptor again."""
        return False
