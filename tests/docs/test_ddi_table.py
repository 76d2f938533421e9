"""The table of driver routines says what there is, and all there is."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from hilbridge.iomgr.csq import CancelSafeQueue, CsqIrpContext, IoCsq
from hilbridge.iomgr.hold import HoldQueue
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.interrupt import Interrupt
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.mutex import FastMutex, Kmutex
from hilbridge.kernel.remlock import RemoveLock
from hilbridge.kernel.semaphore import Ksemaphore
from hilbridge.kernel.spinlock import SpinLock
from hilbridge.kernel.timer import Ktimer
from hilbridge.model.device import DeviceObject
from hilbridge.model.driver import DriverObject
from hilbridge.model.file import FileObject, ShareAccess
from hilbridge.model.irp import IoStackLocation, Irp
from hilbridge.model.mdl import Mdl
from hilbridge.model.wmi import WmiProvider
from tests.docs.mdkit import DOCS, code, tables

PAGE = DOCS / "reference" / "ddi.md"
OBJECTS: dict[str, type[Any]] = {
    "io": IoManager,
    "po": IoManager,
    "ke": Kernel,
    "irp": Irp,
    "sl": IoStackLocation,
    "driver": DriverObject,
    "device": DeviceObject,
    "file": FileObject,
    "queue": CancelSafeQueue,
    "csq": IoCsq,
    "hold": HoldQueue,
    "interrupt": Interrupt,
    "event": Kevent,
    "lock": SpinLock,
    "remove_lock": RemoveLock,
    "dpc": Kdpc,
    "timer": Ktimer,
    "mutex": Kmutex,
    "fast_mutex": FastMutex,
    "mdl": Mdl,
}
CLASSES = {
    cls.__name__: cls
    for cls in (
        CancelSafeQueue,
        CsqIrpContext,
        IoCsq,
        HoldQueue,
        ShareAccess,
        Kdpc,
        Ktimer,
        Kevent,
        Ksemaphore,
        Kmutex,
        RemoveLock,
        WmiProvider,
    )
}
ROUTINE = re.compile(r"(?:Ex|Io|Ke|Mm|Nt|Ob|Po|Ps)[A-Z]\w+")
ROWS = [row for rows in tables(PAGE) if rows[0][0] == "Windows" for row in rows[1:]]


def parameters_of(routine: Any) -> list[str]:
    return [name for name in inspect.signature(routine).parameters if not name.startswith(("self", "_"))]


def has(cls: type[Any], name: str) -> bool:
    """A method, a slot, or an attribute that __init__ sets."""
    makers = [vars(base)["__init__"] for base in cls.__mro__ if inspect.isfunction(vars(base).get("__init__"))]
    return hasattr(cls, name) or any(f"self.{name}" in inspect.getsource(maker) for maker in makers)


@pytest.mark.parametrize("entry", [entry for row in ROWS for entry in code(row[1])])
def test_what_the_table_names_exists(entry: str) -> None:
    called = re.fullmatch(r"(?:(\w+)\.)?(\w+)(?:\[[\w.]+\])?(?:\((.*)\))?", entry)
    assert called is not None, entry
    owner, name, arguments = called.groups()
    if owner is None:
        if name == "driver_entry":
            return
        routine: Any = CLASSES[name]
    else:
        assert has(OBJECTS[owner], name), f"{OBJECTS[owner].__name__} has no {name}"
        routine = getattr(OBJECTS[owner], name, None)
    if arguments:
        given = [word.strip().rstrip("=") for word in arguments.split(",")]
        known = parameters_of(routine)
        assert [word for word in known if word in given] == given, f"{entry}: the parameters are {known}"


def windows_names(member: Any) -> list[str]:
    """What a routine's description begins with: ``IoCallDriver: ...``."""
    routine = member.fget if isinstance(member, property) else member
    text = (inspect.getdoc(routine) if inspect.isroutine(routine) else None) or ""
    return ROUTINE.findall(re.split(r"[.:]", text)[0])


def test_every_routine_that_bears_a_windows_name_is_in_the_table() -> None:
    named = {word for row in ROWS for word in ROUTINE.findall(row[0])}
    borne = {
        (cls.__name__, name, windows)
        for cls in (*OBJECTS.values(), *CLASSES.values())
        for name, member in inspect.getmembers(cls)
        if not name.startswith("_")
        for windows in windows_names(member)
    }
    assert len(borne) > 50
    assert not {entry for entry in borne if entry[2] not in named}


def test_no_routine_is_there_twice() -> None:
    names = [word for row in ROWS for word in ROUTINE.findall(row[0])]
    assert sorted({name for name in names if names.count(name) > 1}) == ["IoCallDriver"]
