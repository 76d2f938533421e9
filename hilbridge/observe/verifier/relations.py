"""Device relations: what a bus driver says hangs on its bus, and whether it keeps to what it has said.

The list that ended the last IRP_MN_QUERY_DEVICE_RELATIONS of a bus is remembered: a PDO that is in it may not be deleted, and
two that are in it may not say that they are the same device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hilbridge.model.codes import DO_BUS_ENUMERATED_DEVICE, IdType, IrpMajor, PnpMinor, RelationType
from hilbridge.model.device import DeviceObject
from hilbridge.model.parameters import QueryDeviceRelationsParameters, QueryIdParameters
from hilbridge.observe.verifier.protocol import NT_FAILURE
from hilbridge.observe.verifier.watch import Verifier

if TYPE_CHECKING:
    from hilbridge.observe.verifier.irp import VerifiedIrp

_IDENTITY = (IdType.DEVICE_ID, IdType.INSTANCE_ID)


class Relations:
    """What the buses of one bridge have said."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._reported: dict[DeviceObject[Any], tuple[DeviceObject[Any], ...]] = {}
        """The PDO of a bus -> the PDOs that it reported last."""
        self._ids: dict[DeviceObject[Any], dict[IdType, str]] = {}

    def answer(self, irp: VerifiedIrp, arm: object, device: DeviceObject[Any] | None) -> None:
        """The request is about to leave the driver of `device`, upward or downward: what has it put in?"""
        if int(irp.io_status.status) >= NT_FAILURE or not isinstance(arm, QueryDeviceRelationsParameters):
            return
        answer: Any = irp.io_status.information
        if not isinstance(answer, list):
            return
        for one in answer:
            if not isinstance(one, DeviceObject) or one.lower_device is not None:
                self._verifier.report("RelationNotAPdo", irp=irp, device=device, details=f"{one!r}")
            elif not one.pointer_count and arm.type in (RelationType.TARGET_DEVICE, RelationType.BUS):
                self._verifier.report("TargetRelationNeedsRef", irp=irp, device=device, details=f"{one!r}")

    def answered_by_pdo(self, irp: VerifiedIrp, arm: object, pdo: DeviceObject[Any]) -> None:
        """A PDO completes a request. TARGET_DEVICE is about itself; its ids say who it is."""
        if int(irp.io_status.status) >= NT_FAILURE or not pdo.flags & DO_BUS_ENUMERATED_DEVICE:
            return
        answer: Any = irp.io_status.information
        if isinstance(arm, QueryDeviceRelationsParameters):
            if arm.type == RelationType.TARGET_DEVICE and (not isinstance(answer, list) or pdo not in answer):
                self._verifier.report("TargetRelationEmpty", irp=irp, device=pdo, details=f"it says {answer!r}")
        elif isinstance(arm, QueryIdParameters) and arm.id_type in _IDENTITY and isinstance(answer, str):
            ids = self._ids.setdefault(pdo, {})
            ids[arm.id_type] = answer.upper()
            twin = self._twin(pdo, ids)
            if twin is not None:
                self._verifier.report(
                    "DuplicateDeviceId", irp=irp, device=pdo, details=f"{ids} are those of {twin!r}, too"
                )

    def _twin(self, pdo: DeviceObject[Any], ids: dict[IdType, str]) -> DeviceObject[Any] | None:
        if len(ids) < len(_IDENTITY):
            return None
        siblings = next((children for children in list(self._reported.values()) if pdo in children), ())
        return next((other for other in siblings if other is not pdo and self._ids.get(other) == ids), None)

    def told(self, irp: VerifiedIrp) -> None:
        """A Plug and Play request is on its way up: what is in it now is what its sender will get, as far as is known.

        Not later: its sender acts on the answer at once, on another thread.
        """
        top = irp.stack[-1]
        bus, arm = top.device_object, top.parameters
        answer: Any = irp.io_status.information
        if bus is None or not isinstance(arm, QueryDeviceRelationsParameters) or arm.type != RelationType.BUS:
            return
        if int(irp.io_status.status) < NT_FAILURE and isinstance(answer, list):
            self._reported[bus.bottom] = tuple(answer)

    def goes(self, device: DeviceObject[Any], *, surprise: bool) -> None:
        """A stack gets SURPRISE_REMOVAL or REMOVE_DEVICE. With a bus goes what it has reported.

        A PDO that gets SURPRISE_REMOVAL may know that it has gone, before its bus is asked: of that nothing is said.
        """
        bottom = device.bottom
        self._reported.pop(bottom, None)
        if surprise:
            self._strike(bottom)

    def _strike(self, pdo: DeviceObject[Any]) -> DeviceObject[Any] | None:
        """It is reported no longer. Returns the bus that had reported it."""
        for bus, children in list(self._reported.items()):
            if pdo in children:
                self._reported[bus] = tuple(child for child in children if child is not pdo)
                return bus
        return None

    def deleted(self, device: DeviceObject[Any]) -> None:
        """A device is being deleted. Of a PDO: in its own REMOVE_DEVICE only if it is not there any more."""
        self._reported.pop(device, None)
        self._ids.pop(device, None)
        bus, running = self._strike(device), self._verifier.innermost_dispatch()
        if (
            bus is not None
            and running is not None
            and running.device is device
            and running.major == IrpMajor.PNP
            and running.minor == PnpMinor.REMOVE_DEVICE
        ):
            self._verifier.report("PdoDeletedWhileReported", irp=running.irp, device=device, details=f"by {bus!r}")
