"""Which drivers a device gets: what an INF file says in Windows.

A bus driver's device has hardware ids, the most exact one first, and compatible ids after them. The first id that a recipe is
installed for decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hilbridge.model.errors import UsageFault
from hilbridge.pnp.registry import BY_HARDWARE_ID, DriverLike


class Recipe(NamedTuple):
    """The drivers of a device's stack."""

    driver: DriverLike
    upper_filters: tuple[DriverLike, ...] = ()
    lower_filters: tuple[DriverLike, ...] = ()
    name: str | None = None
    """What the devices are called, with a number behind it; None: as the driver."""

    @property
    def bottom_first(self) -> tuple[DriverLike, ...]:
        """In the order in which AddDevice is called."""
        return (*self.lower_filters, self.driver, *self.upper_filters)


class Recipes:
    """What is installed in one system. Ids compare without case."""

    def __init__(self) -> None:
        self._by_id: dict[str, Recipe] = {one.lower(): Recipe(driver) for one, driver in BY_HARDWARE_ID.items()}

    def install(self, hardware_ids: Iterable[str], recipe: Recipe) -> None:
        """From now on devices with one of these ids get this stack. What was installed for an id is replaced."""
        ids = [one.lower() for one in hardware_ids]
        if not ids:
            raise UsageFault("install a driver for at least one hardware id")
        for one in ids:
            self._by_id[one] = recipe

    def find(self, ids: Iterable[str]) -> Recipe | None:
        """The recipe for the first of these ids that there is one for."""
        for one in ids:
            recipe = self._by_id.get(one.lower())
            if recipe is not None:
                return recipe
        return None
