"""The reference of the application's interface has every public name, with its parameters and defaults, and no other."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import hilbridge
from hilbridge.kernel.manual import ManualMachine
from hilbridge.model.hardware import Line, LineSettings
from hilbridge.pnp.registry import DRIVERS
from hilbridge.testing.fixture import RunningFixture, start_fixture
from hilbridge.virtual.line import VirtualLine
from hilbridge.virtual.uart import LineErrors, VirtualUart
from tests.docs.mdkit import DOCS, code, section, tables_in

API = DOCS / "reference" / "api.md"
CLASSES: dict[str, type[Any]] = {
    "Bridge": hilbridge.Bridge,
    "Handle": hilbridge.Handle,
    "Request": hilbridge.Request,
    "Console": hilbridge.Console,
    "A manual bridge": ManualMachine,
    "VirtualLine": VirtualLine,
    "VirtualUart": VirtualUart,
    "Fixtures": RunningFixture,
}
CRANK = {"step", "run_until_idle", "advance"}
LEFT_OUT: dict[str, set[str]] = {
    "Bridge": {"abandon", "close_handle", "orphaned", "reset_recipe"},
    "Handle": {"fault", "bridge", "io", "file", "name"},
    "Request": {"settle", "disown", "add_waker", "wait_ended", "end_now", "holder"}
    | {"handle", "what", "io", "file", "irp", "capacity", "disowned"},
    "Console": {"handle"},
    "A manual bridge": {name for name in dir(ManualMachine) if not name.startswith("_")} - CRANK,
    "VirtualLine": {name for name in (*dir(Line), "name") if not name.startswith("_")},
    "VirtualUart": {name for name in (*dir(Line), "name") if not name.startswith("_")},
    "Fixtures": set(),
}
"""Names that are public in the class, and that the reference leaves out: they are not the application's."""


def signature(routine: Any) -> str:
    """``read(n, *, timeout=5.0)``: as the reference writes it."""
    parameters = [p for p in inspect.signature(routine).parameters.values() if p.name not in ("self", "cls")]
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return f"{routine.__name__}{inspect.Signature(plain)}"


def members(cls: type[Any]) -> dict[str, str]:
    """Public name -> how it is written: a routine with its parameters, anything else as it is."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("hilbridge"):
            for name, member in vars(base).items():
                routine = getattr(member, "__func__", member)
                found[name] = signature(routine) if inspect.isroutine(routine) else name
    return {name: text for name, text in found.items() if not name.startswith("_")}


def entries(title: str, *headings: str) -> set[str]:
    """What the tables of a section name in their first column."""
    rows = [rows for rows in tables_in(section(API, title)) if not headings or rows[0][0] in headings]
    return {entry for table in rows for row in table[1:] for entry in code(row[0])}


NAMES = ("Method", "Property", "Attribute", "`bridge.machine`")


@pytest.mark.parametrize("title", CLASSES)
def test_each_public_name_is_in_the_reference_as_it_is(title: str) -> None:
    there = members(CLASSES[title])
    left_out = LEFT_OUT[title] & set(there)
    missing = {text for name, text in there.items() if name not in left_out} - entries(title, *NAMES)
    assert not missing


@pytest.mark.parametrize("title", CLASSES)
def test_the_reference_names_nothing_that_is_not_there(title: str) -> None:
    cls = CLASSES[title]
    source = "".join(inspect.getsource(base) for base in cls.__mro__ if base.__module__.startswith("hilbridge"))
    for entry in entries(title, *NAMES) - {"await request"}:
        name = entry.partition("(")[0]
        is_data = entry == name and f"self.{name}" in source  # an attribute that __init__ makes
        assert is_data or entry in members(cls).values(), entry


@pytest.mark.parametrize("title", ["Bridge", "Handle"])
def test_what_is_left_out_of_the_tables_is_said_to_be(title: str) -> None:
    routines = {name for name, text in members(CLASSES[title]).items() if text != name} & LEFT_OUT[title]
    assert routines <= set(code(section(API, title)))


def test_functions() -> None:
    assert signature(hilbridge.open).replace("open_device", "open") in code(section(API, "hilbridge.open"))
    assert f"hilbridge.testing.fixture.{signature(start_fixture)}" in code(section(API, "Fixtures"))


def test_the_package_s_names_are_explained_here_or_are_errors() -> None:
    text = API.read_text(encoding="utf-8")
    explained = {"open", "Bridge", "Handle", "Request", "Console", "__version__"}
    assert all(re.search(rf"\b{name}\b", text) for name in explained)
    others = set(hilbridge.__all__) - explained
    assert {name for name in others if not issubclass(getattr(hilbridge, name), hilbridge.HilbridgeError)} == set()


def test_options_of_a_console() -> None:
    rows = next(rows for rows in tables_in(section(API, "Console")) if rows[0][0] == "Option")
    listed = {code(row[0])[0]: code(row[1])[0] for row in rows[1:]}
    parameters = inspect.signature(hilbridge.Console.__init__).parameters
    assert listed == {name: repr(p.default) for name, p in parameters.items() if name not in ("self", "handle")}


def test_errors_that_a_uart_counts() -> None:
    text = section(API, "VirtualUart")
    assert set(LineErrors.__dataclass_fields__) <= set(code(text))
    assert f"hilbridge.virtual.uart.{signature(VirtualUart)}" in code(text)


def test_names_of_drivers_that_are_examples_are_drivers() -> None:
    assert {"serial", "counter"} <= set(DRIVERS)


def test_a_handle_s_settings_have_the_names_of_the_line_s() -> None:
    assert set(inspect.signature(hilbridge.Handle.set).parameters) - {"self"} <= set(LineSettings.__dataclass_fields__)
