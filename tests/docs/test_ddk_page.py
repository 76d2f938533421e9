"""The page on hilbridge.ddk says what there is, and all there is; and the package has every name of the raw model."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from hilbridge import ddk
from hilbridge.model import codes, parameters, status
from tests.docs.mdkit import DOCS, code, tables
from tests.docs.test_ddi_table import has, parameters_of

PAGE = DOCS / "reference" / "ddk.md"
OBJECTS: dict[str, type[Any]] = {
    "device": ddk.Device,
    "request": ddk.Request,
    "queue": ddk.IoQueue,
    "manual": ddk.ManualQueue,
    "target": ddk.IoTarget,
    "sent": ddk.Sent,
    "reader": ddk.ContinuousReader,
}
ROWS = [row for rows in tables(PAGE) if rows[0][0] == "KMDF" for row in rows[1:]]
ENTRIES = [entry for row in ROWS for entry in code(row[1])]
CALLED = re.compile(r"(?:(\w+)\.)?(\w+)(?:\((.*)\))?")
OF_THE_LAYER = {
    name for name in ddk.__all__ if str(getattr(getattr(ddk, name), "__module__", "")).startswith("hilbridge.ddk")
}
CALLED_BY_OTHERS = {
    # What the parts of the layer call of each other.
    ddk.Device: {
        *(
            "add_queue",
            "add_reader",
            "add_target",
            "forget_target",
            "queue_for",
            "refusal",
            "has_hardware",
            "is_filter",
        ),
        *("enter_d0", "leave_d0", "go", "finish", "start", "stop", "take_hardware_away"),
    },
    ddk.Request: {"cancel_because", "end_now"},
    ddk.IoQueue: {
        *("acknowledged", "cancel_file", "hold", "left_by", "present", "put", "release", "resume", "tell_stopping"),
        *("wait_until_stopped", "limit", "overlaps"),
    },
    ddk.ManualQueue: {"present"},
    ddk.IoTarget: {"cancel", "cancel_all", "remove", "wait_until_idle"},
    ddk.ContinuousReader: {"quit"},
    ddk.Sent: set(),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_the_table_names_exists(entry: str) -> None:
    called = CALLED.fullmatch(entry)
    assert called is not None, entry
    owner, name, arguments = called.groups()
    if owner is None:
        routine: Any = getattr(ddk, name)
    else:
        assert has(OBJECTS[owner], name) or name in getattr(OBJECTS[owner], "__slots__", ()), entry
        routine = getattr(OBJECTS[owner], name, None)
    if arguments:
        given = [word.strip().rstrip("=") for word in arguments.split(",")]
        known = parameters_of(routine)
        assert [word for word in known if word in given] == given, f"{entry}: the parameters are {known}"


def test_every_name_of_the_layer_is_in_the_table() -> None:
    assert OF_THE_LAYER - {CALLED.fullmatch(e).group(2) for e in ENTRIES} == set()  # type: ignore[union-attr]
    assert len(OF_THE_LAYER) == 13


@pytest.mark.parametrize("cls", OBJECTS.values(), ids=OBJECTS)
def test_every_public_routine_is_in_the_table(cls: type[Any]) -> None:
    there = {name for name, value in vars(cls).items() if not name.startswith("_") and inspect.isroutine(value)}
    owners = {owner for owner, its in OBJECTS.items() if issubclass(cls, its)}
    listed = {match.group(2) for e in ENTRIES if (match := CALLED.fullmatch(e)) and match.group(1) in owners}
    assert there - listed - CALLED_BY_OTHERS[cls] == set()


def test_the_raw_models_names_are_there() -> None:
    wanted = {
        *(name for name in vars(status) if name.startswith("STATUS_")),
        *(name for name in vars(codes) if name[:1].isupper() and name != "IntEnum"),
        *(name for name, value in vars(parameters).items() if name.endswith("Parameters") and isinstance(value, type)),
        *("DriverObject", "DeviceObject", "Irp", "IoStackLocation", "FileObject", "NtStatus", "RemoveLock"),
        *("CancelSafeQueue", "IoCsq", "Kdpc", "Ktimer", "WorkItem", "Kevent", "SpinLock", "ctl_code"),
    }
    assert wanted - set(ddk.__all__) == set()
    assert len(set(ddk.__all__)) == len(ddk.__all__)
    assert all(hasattr(ddk, name) for name in ddk.__all__)
