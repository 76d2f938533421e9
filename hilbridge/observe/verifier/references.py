"""References on devices that drivers have asked the I/O manager for, and have to give back."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from hilbridge.kernel import culprit
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.observe.verifier.watch import Verifier

DeviceT = TypeVar("DeviceT", DeviceObject[Any], "DeviceObject[Any] | None")


class References:
    """Who has taken which. One that is given back by somebody who runs no driver may be anybody's: then it is the latest."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._taken: list[tuple[DeviceObject[Any], DriverObject, str | None]] = []

    def taken(self, device: DeviceT) -> DeviceT:
        """A routine that references what it returns was called."""
        caller = self._verifier.caller()
        if device is not None and caller is not None:
            self._taken.append((device, caller.driver_object, culprit.find(sys._getframe(2)).place))
        return device

    def given_back(self, thing: object) -> None:
        """A reference is about to be given back."""
        caller = self._verifier.caller()
        for one in reversed(self._taken):
            if one[0] is thing and (caller is None or one[1] is caller.driver_object):
                self._taken.remove(one)
                return

    def left_by(self, driver: DriverObject) -> None:
        """The driver has been unloaded."""
        for one in [one for one in self._taken if one[1] is driver]:
            self._taken.remove(one)
            device, _, place = one
            self._verifier.report(
                "DanglingDeviceObjectReference", driver=driver.name, device=device, place=place, details=f"{device!r}"
            )
