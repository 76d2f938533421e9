"""The cheapest instrument: how many of what."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import IrpMajor
from hilbridge.model.irp_life import IrpState
from hilbridge.observe.instrument import Instrument

if TYPE_CHECKING:
    from hilbridge.kernel.dpc import Kdpc
    from hilbridge.kernel.interrupt import ServiceRoutine
    from hilbridge.model.device import DeviceObject
    from hilbridge.model.driver import DriverDispatch
    from hilbridge.model.errors import HilbridgeError
    from hilbridge.model.irp import Irp


class Counts(Instrument):
    """Requests, interrupts, DPCs: ``counts["interrupts"]``; ``counts["READ"]`` for the IRPs of one major function.

    The names that are always there are in `NAMES`. The numbers are exact, whichever threads work.
    """

    NAMES = ("irps", "completed", "cancelled", "interrupts", "unclaimed", "dpcs", "faults")
    """IRPs sent, ended, asked to end; interrupts that a service routine claimed, and answers "not mine"; DPCs; faults."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a leaf: nothing is called while it is held
        self._counter = Counter(dict.fromkeys(self.NAMES, 0))

    def __getitem__(self, name: str) -> int:
        return self._counter[name]

    def numbers(self) -> dict[str, int]:
        """All of them by name, those of `NAMES` first."""
        with self._lock:
            return dict(self._counter)

    def _count(self, *names: str) -> None:
        with self._lock:
            for name in names:
                self._counter[name] += 1

    def irp_dispatched(self, device: DeviceObject[Any], irp: Irp, routine: DriverDispatch) -> None:
        """Counted when it is sent to its stack, not again when one driver hands it to the next."""
        if irp.state == IrpState.ALLOCATED:
            major = irp.stack[irp.current_location - 2].major_function
            self._count("irps", IrpMajor(major).name)

    def irp_completed(self, irp: Irp) -> None:
        self._count("completed")

    def irp_cancelled(self, irp: Irp) -> None:
        self._count("cancelled")

    def interrupt(self, vector: int, device: DeviceObject[Any], isr: ServiceRoutine, claimed: bool) -> None:
        self._count("interrupts" if claimed else "unclaimed")

    def dpc(self, dpc: Kdpc) -> None:
        self._count("dpcs")

    def fault(self, device: DeviceObject[Any] | None, fault: HilbridgeError) -> None:
        self._count("faults")
