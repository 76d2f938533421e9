"""The I/O manager of one bridge: `driver.io`. Its routines are grouped by noun in the modules of this package."""

from __future__ import annotations

from hilbridge.iomgr.interrupts import InterruptRoutines
from hilbridge.iomgr.iotimer import IoTimerRoutines
from hilbridge.iomgr.pnpnotify import NotifyRoutines
from hilbridge.iomgr.power import PowerRoutines
from hilbridge.iomgr.shares import ShareRoutines
from hilbridge.iomgr.shutdown import ShutdownRoutines
from hilbridge.iomgr.startio import StartIoRoutines
from hilbridge.iomgr.wmiquery import WmiQueries
from hilbridge.iomgr.workitem import WorkItemRoutines


class IoManager(
    PowerRoutines,
    NotifyRoutines,
    ShutdownRoutines,
    WmiQueries,
    IoTimerRoutines,
    InterruptRoutines,
    ShareRoutines,
    StartIoRoutines,
    WorkItemRoutines,
):
    """Names, devices, drivers, requests, completion, cancellation, queues.

    A verifier or a tracer is a subclass that the bridge picks instead: what is not asked for costs nothing.
    """
