"""What the reference says in tables is what the code has: I/O controls, errors, monikers, board files, methods."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import hilbridge
from hilbridge.bridge import expect
from hilbridge.bridge.monikers import Hardware, line_settings, open_hardware
from hilbridge.drivers.serial.ioctl import CONTROLS
from hilbridge.files.board import Autoboot, Board, Command, Newline, Part
from hilbridge.files.fixture import KINDS, Source
from hilbridge.hal import monikers
from hilbridge.hal.monikers import open_line
from hilbridge.model import errors, ntddser
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import LineSettings
from hilbridge.model.ioctl import ioctl_access
from tests.docs.mdkit import DOCS, code, prose, table, tables

REFERENCE = DOCS / "reference"
API = REFERENCE / "api.md"
ERRORS = DOCS / "howto" / "errors-and-exit-codes.md"

# ------------------------------------------------------------------------------------------------------- I/O controls

IOCTLS = REFERENCE / "ioctls.md"
CODES = {name: value for name, value in vars(ntddser).items() if name.startswith("IOCTL_")}


def test_each_io_control_is_in_the_table_and_no_other() -> None:
    listed = [(code(row[0])[0], int(code(row[1])[0], 16), int(row[2]), int(row[3])) for row in table(IOCTLS, "Code")]
    there = [(name, CODES[name], c.needs, c.returns) for name in CODES if (c := CONTROLS.get(CODES[name])) is not None]
    assert sorted(listed) == sorted(there)
    assert set(CONTROLS) == set(CODES.values())


def test_which_controls_demand_access() -> None:
    demanding = {name: access for name, value in CODES.items() if (access := ioctl_access(value))}
    # "PEEK and UNREAD demand read access, RESET write access"
    assert demanding == {"IOCTL_HILBRIDGE_PEEK": 1, "IOCTL_HILBRIDGE_UNREAD": 1, "IOCTL_HILBRIDGE_RESET": 2}


def test_sizes_of_structures() -> None:
    packed = {
        "SerialTimeouts": ntddser.SerialTimeouts().pack(),
        "SerialLineControl": ntddser.SerialLineControl(0, 0, 8).pack(),
        "SerialChars": ntddser.SerialChars().pack(),
        "SerialCommProp": ntddser.SerialCommProp().pack(),
        "SerialHandflow": ntddser.SerialHandflow(0, 0, 0, 0).pack(),
        "SerialResetStep": ntddser.SerialResetStep().pack(),
        "SerialStatus": ntddser.SerialStatus(0, 0, 0, 0).pack(),
    }
    listed = {code(row[0])[0]: int(row[1]) for row in table(IOCTLS, "Structure")}
    assert listed == {name: len(data) for name, data in packed.items()}


def test_purge_bits() -> None:
    listed = {code(row[1])[0]: int(row[0]) for row in table(IOCTLS, "Bit")}
    assert listed == {name: value for name, value in vars(ntddser).items() if name.startswith("SERIAL_PURGE_")}


def test_events_of_a_wait_mask() -> None:
    listed = {code(row[1])[0]: int(code(row[0])[0], 16) for row in table(IOCTLS, "Event")}
    there = {name: value for name, value in vars(ntddser).items() if name.startswith("SERIAL_EV_")}
    del there["SERIAL_EV_ALL"]
    assert listed == there
    assert sum(listed.values()) == ntddser.SERIAL_EV_ALL


# ------------------------------------------------------------------------------------------------------------- errors


def error_classes() -> dict[str, type[HilbridgeError]]:
    there = {**vars(errors), **vars(expect)}
    found = {name: cls for name, cls in there.items() if isinstance(cls, type) and issubclass(cls, HilbridgeError)}
    del found["NtStatusError"]  # what drivers raise; applications are shown one of the others
    return found


def test_each_error_is_in_the_table_with_its_bases_status_and_exit_code() -> None:
    listed = {}
    for row in table(ERRORS, "Class"):
        listed[code(row[0])[0]] = (set(code(row[1])), code(row[2])[0], int(row[3]))
    there = {}
    for name, cls in error_classes().items():
        bases = {base.__name__ for base in cls.__bases__}
        there[name] = (bases - {"HilbridgeError"} or bases, str(cls.default_status), cls.exit_code)
    assert listed == there


def test_errors_are_names_of_the_package() -> None:
    assert set(error_classes()) <= set(hilbridge.__all__)


def test_every_exit_code_is_in_the_table() -> None:
    listed = {int(number) for row in table(ERRORS, "Code") for number in row[0].split(", ")}
    assert listed == {cls.exit_code for cls in error_classes().values()} | {0, 130, 141, 143}


# ----------------------------------------------------------------------------------------------------------- monikers

MONIKERS = REFERENCE / "monikers.md"


def test_every_scheme_is_in_the_table() -> None:
    listed = {entry for row in table(MONIKERS, "Moniker") for entry in code(row[0])}
    assert set(monikers.SCHEMES) <= listed
    assert {entry for entry in listed if not entry.startswith("virtual:")} - set(monikers.SCHEMES) == {
        "serial:by-path/NAME"
    }


def test_virtual_devices_and_the_drivers_that_they_get() -> None:
    listed = {code(row[0])[0]: code(row[2])[0] for row in table(MONIKERS, "Moniker") if "virtual:" in row[0]}
    there: dict[str, Hardware] = {name: open_hardware(name, LineSettings(), {}) for name in listed}
    assert listed == {name: hardware.driver for name, hardware in there.items()}
    with pytest.raises(hilbridge.UsageFault, match="there are loop, line, uart, null and toasterbus"):
        open_hardware("virtual:other", LineSettings(), {})


def test_settings_and_their_defaults() -> None:
    listed = {code(row[0])[0]: row[1].strip("`") for row in table(MONIKERS, "Setting")}
    known, rest = line_settings({})
    assert listed == {name: repr(getattr(known, name)).replace("'", '"') for name in LineSettings.__dataclass_fields__}
    assert not rest


def test_options_and_their_defaults() -> None:
    parameters = inspect.signature(open_line).parameters.values()
    options = {p.name: str(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert {code(row[0])[0]: row[1] for row in table(MONIKERS, "Option")} == options


# -------------------------------------------------------------------------------------------------------- board files

BOARD_FILE = REFERENCE / "board-file.md"
MODELS: list[type[BaseModel]] = [Board, Newline, Part, Autoboot, Command]


@pytest.mark.parametrize(("at", "model"), list(enumerate(MODELS)), ids=lambda value: getattr(value, "__name__", ""))
def test_each_key_of_a_board_file_is_in_its_table(at: int, model: type[BaseModel]) -> None:
    key_tables = [rows[1:] for rows in tables(BOARD_FILE) if rows[0][0] == "Key"]
    assert len(key_tables) == len(MODELS)
    listed = {code(row[0])[0]: row[1] for row in key_tables[at]}
    assert list(listed) == [field.alias or name for name, field in model.model_fields.items()]
    for name, field in model.model_fields.items():
        default, said = field.default, listed[field.alias or name].strip("`")
        if default is PydanticUndefined:
            assert (said == "required") == (field.default_factory is None)
        elif isinstance(default, bool | int):
            assert said == str(default).lower()
        elif isinstance(default, str) and default:
            assert said.split("`")[0].strip() == default.strip(), name


def test_kinds_of_fixtures() -> None:
    listed = [code(row[0])[0] for row in table(BOARD_FILE, "Kind")]
    assert ["board", *listed] == list(KINDS)
    assert f"`bytes` ({Source().bytes}), `line_length` ({Source().line_length})" in prose(BOARD_FILE)


def test_the_board_file_allows_the_values_that_the_reference_lists() -> None:
    text = prose(BOARD_FILE)
    for field in (Newline.model_fields["input"], Newline.model_fields["output"], Autoboot.model_fields["then"]):
        for value in get_args(field.annotation):
            assert f"`{value}`" in text
