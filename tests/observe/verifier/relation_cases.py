"""A faulty bus driver and its clean twin for each rule about device relations."""

from __future__ import annotations

import contextlib
from typing import Any

from hilbridge import HilbridgeError
from hilbridge.model.codes import IdType, IrpMajor, PnpMinor
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS
from tests.observe.verifier.bus import TARGET, plug_bus, relations
from tests.observe.verifier.stage import Device, Stage, case


def _answers(minor: PnpMinor, answer: Any) -> Any:
    """A child that answers this request with ``answer(device, parameters)``."""

    def child(device: Device, irp: Irp) -> None:
        location = irp.current_stack_location
        if location.minor_function == minor:
            block: Any = irp.io_status
            block.status, block.information = STATUS_SUCCESS, answer(device, location.parameters)

    return child


@case("PdoDeletedWhileReported")
def pdo_deleted_while_reported(stage: Stage, wrong: bool) -> None:
    """The bus is removed in order, and its child before it: that it is there still is known to the bus driver."""

    def child(device: Device, irp: Irp) -> None:
        if wrong and irp.current_stack_location.minor_function == PnpMinor.REMOVE_DEVICE:
            device.io.delete_device(device)

    plug_bus(stage, child)
    with contextlib.suppress(HilbridgeError):
        stage.bridge.remove("BUS")


@case("TargetRelationEmpty")
def target_relation_empty(stage: Stage, wrong: bool) -> None:
    def answer(device: Device, _asked: Any) -> list[Device]:
        return [] if wrong else [device.io.reference_object(device)]

    _target(stage, answer)


@case("TargetRelationNeedsRef")
def target_relation_needs_ref(stage: Stage, wrong: bool) -> None:
    def answer(device: Device, _asked: Any) -> list[Device]:
        return [device if wrong else device.io.reference_object(device)]

    _target(stage, answer)


def _target(stage: Stage, answer: Any) -> None:
    child = plug_bus(stage, _answers(PnpMinor.QUERY_DEVICE_RELATIONS, answer)).children[0]
    stage.send(child, IrpMajor.PNP, PnpMinor.QUERY_DEVICE_RELATIONS, TARGET)
    if child.pointer_count:
        stage.io.dereference_object(child)


@case("RelationNotAPdo")
def relation_not_a_pdo(stage: Stage, wrong: bool) -> None:
    bus = plug_bus(stage)
    if wrong:
        bus.reported.append(bus.device)
    relations(stage, bus)
    if bus.device.pointer_count:
        stage.io.dereference_object(bus.device)


@case("DuplicateDeviceId")
def duplicate_device_id(stage: Stage, wrong: bool) -> None:
    def answer(device: Device, asked: Any) -> Any:
        number = 0 if wrong else device.extension.notes[0]
        return {IdType.DEVICE_ID: "BUS\\thing", IdType.INSTANCE_ID: f"{number}"}.get(asked.id_type, [])

    plug_bus(stage, _answers(PnpMinor.QUERY_ID, answer), children=2)
