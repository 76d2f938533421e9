"""Failures on purpose: what goes wrong once in a thousand runs, by a seed, so that it can be repeated."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hilbridge.model.errors import NtStatusError
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES

if TYPE_CHECKING:
    from hilbridge.observe.verifier.options import Verify


class Forced:
    """The choices of one run."""

    def __init__(self, options: Verify) -> None:
        self._options = options
        self._random = random.Random(options.seed)
        self.refused = self.cancelled = self.delayed = 0
        """How often each was done."""

    def refuse(self, what: str) -> None:
        """Perhaps raise `NtStatusError`: the driver does not get what it asks for."""
        if self._happens(self._options.low_resources):
            self.refused += 1
            raise NtStatusError(
                STATUS_INSUFFICIENT_RESOURCES, f"{what} was refused on purpose, by seed {self._options.seed}"
            )

    def cancels(self) -> bool:
        """Whether to cancel this request now."""
        happens = self._happens(self._options.cancel)
        self.cancelled += happens
        return happens

    def delays(self) -> bool:
        """Whether to put this completion off."""
        happens = self._happens(self._options.delay)
        self.delayed += happens
        return happens

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance
