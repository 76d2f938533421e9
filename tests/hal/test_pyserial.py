"""The door to pyserial: wrong modules are named, impossible settings are refused, and six settings are one programming."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import serial

from hilbridge.hal.pyserial import HOOKS, check_module, check_settings, store_settings
from hilbridge.model.errors import DeviceUnsupported, UsageFault
from hilbridge.model.hardware import LineSettings
from tests.hal.halkit import TOP

OPEN_SOMETHING = """
from hilbridge.hal.monikers import open_line
from hilbridge.model.errors import UsageFault
from hilbridge.model.hardware import LineSettings
try:
    open_line("/dev/null", LineSettings())
except UsageFault as error:
    print(error)
"""


def test_the_installed_one_will_do() -> None:
    check_module(serial)
    for name in HOOKS:
        assert hasattr(serial.Serial, name)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("class Model: pass", "is not pyserial: pip uninstall serial, then pip install --force-reinstall pyserial"),
        ("raise ImportError('no module named future')", "pyserial is not installed: pip install 'pyserial>=3.5'"),
    ],
)
def test_another_module_of_that_name(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "serial.py").write_text(content)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + OPEN_SOMETHING
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    )
    assert says in done.stdout
    assert done.stdout.count("\n") == 1


def some_module(**names: Any) -> ModuleType:
    module = ModuleType("serial")
    module.__file__ = "/somewhere/serial/__init__.py"
    for name, value in names.items():
        setattr(module, name, value)
    return module


def test_an_old_one_and_a_changed_one() -> None:
    with pytest.raises(UsageFault, match=r"pyserial 2\.7 in /somewhere/serial/__init__.py is too old: pip install -U"):
        check_module(some_module(__version__="2.7", serial_for_url=1, Serial=serial.Serial))
    with pytest.raises(UsageFault, match=r"has no _reconfigure_port\(\) any more"):
        check_module(some_module(__version__="4.0", serial_for_url=1, Serial=object))
    check_module(some_module(__version__="3.6b1", serial_for_url=1, Serial=serial.Serial))


@pytest.mark.parametrize(
    "settings",
    [
        LineSettings(),
        LineSettings(baudrate=1),
        LineSettings(baudrate=2**31 - 1),
        LineSettings(bytesize=5, stopbits=1.5),
        LineSettings(bytesize=7, parity="E", stopbits=2),
        LineSettings(parity="M", rtscts=True),
        LineSettings(parity="S", xonxoff=True),
    ],
)
def test_possible_settings(settings: LineSettings) -> None:
    check_settings("COM1", settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"baudrate": 0}, "baudrate 0 is impossible"),
        ({"baudrate": 2**31}, "baudrate 2147483648 is impossible"),
        ({"baudrate": "fast"}, "baudrate 'fast' is impossible"),
        ({"baudrate": 9600.5}, "baudrate 9600.5 is impossible"),
        ({"bytesize": 4}, "bytesize 4 is impossible; give 5, 6, 7 or 8"),
        ({"parity": "e"}, "parity 'e' is impossible; give one of N, O, E, M, S"),
        ({"stopbits": 0}, "stopbits 0 is impossible"),
        ({"bytesize": 5, "stopbits": 2}, "stopbits 2 does not go with bytesize 5"),
        ({"bytesize": 6, "stopbits": 1.5}, "stopbits 1.5 does not go with bytesize 6"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(DeviceUnsupported, match=f"^COM1: {named}") as caught:
        check_settings("COM1", replace(LineSettings(), **change))
    assert "\n" not in str(caught.value)


def test_settings_are_stored_without_programming() -> None:
    """Pins the fields that pyserial's own get_settings() names, and that none of them programs anything."""
    programmed = []

    class Counted(serial.Serial):
        def _reconfigure_port(self, force_update: bool = False) -> None:
            programmed.append(force_update)

    port = Counted(None)
    port.is_open = True
    store_settings(port, LineSettings(1200, 7, "E", 2, xonxoff=True, rtscts=False, dsrdtr=False))
    settings = port.get_settings()
    port.is_open = False
    assert programmed == []
    expected = {
        "baudrate": 1200,
        "bytesize": 7,
        "parity": "E",
        "stopbits": 2,
        "xonxoff": True,
        "rtscts": False,
        "dsrdtr": False,
    }
    assert {key: settings[key] for key in expected} == expected
