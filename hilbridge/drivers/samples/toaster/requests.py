"""What the toaster's drivers do alike with requests."""

from __future__ import annotations

from typing import Any

from hilbridge.model.codes import PnpMinor
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.status import NtStatus

AGREES = (
    PnpMinor.QUERY_STOP_DEVICE,
    PnpMinor.STOP_DEVICE,
    PnpMinor.CANCEL_STOP_DEVICE,
    PnpMinor.QUERY_REMOVE_DEVICE,
    PnpMinor.CANCEL_REMOVE_DEVICE,
    PnpMinor.SURPRISE_REMOVAL,
    PnpMinor.REMOVE_DEVICE,
)
"""Requests that these drivers have nothing against: a driver says so with STATUS_SUCCESS, and passes them on."""


def complete(device: DeviceObject[Any], irp: Irp, status: NtStatus, information: Any = 0) -> NtStatus:
    """Complete, and return the same status."""
    irp.io_status.status = status
    irp.io_status.information = information
    device.io.complete_request(irp)
    return status
