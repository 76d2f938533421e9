"""``hilbridge verify``: drivers of ours are clean; a faulty one is named, with its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilbridge.observe.verifier.rules import RULES
from hilbridge.pnp.registry import DRIVERS
from tests.cli.clikit import Cli

FAULTY = """\
from hilbridge.drivers.samples import null
from hilbridge.model.codes import IrpMajor
from hilbridge.model.status import STATUS_SUCCESS


def driver_entry(driver, parameters):
    status = null.driver_entry(driver, parameters)
    driver.major_function[IrpMajor.READ] = lambda device, irp: STATUS_SUCCESS
    return status
"""
RAISES = "def driver_entry(driver, parameters):\n    raise RuntimeError('no')\n"
FORGETFUL = """\
from hilbridge.drivers.samples import null


def driver_entry(driver, parameters):
    status = null.driver_entry(driver, parameters)
    add_device = driver.add_device

    def allocates(driver, physical):
        driver.io.create_device(driver, None)
        return add_device(driver, physical)

    driver.add_device = allocates
    return status
"""


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_drivers_of_ours_break_no_rule(cli: Cli, driver: str) -> None:
    ran = cli("verify", driver, "--rounds", "5")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{driver}: {len(RULES)} rules, 6 rounds: no finding\n"


def test_a_faulty_driver_is_named_with_rule_and_line(cli: Cli, tmp_path: Path) -> None:
    module = tmp_path / "faulty.py"
    module.write_text(FAULTY, encoding="utf-8")
    ran = cli("verify", str(module), "--rounds", "0")
    assert ran.code == 9
    assert "IrpProcessingComplete (0xC9/0x226, fatal)" in ran.out
    assert "driver   faulty (\\Device\\Null)" in ran.out
    document = cli("verify", str(module), "--rounds", "0", "--json").document
    assert [finding["rule"] for finding in document["findings"]] == ["IrpProcessingComplete"]
    assert document["rules"] == len(RULES)


def test_a_leak_is_found(cli: Cli, tmp_path: Path) -> None:
    module = tmp_path / "forgetful.py"
    module.write_text(FORGETFUL, encoding="utf-8")
    ran = cli("verify", str(module), "--rounds", "0")
    assert ran.code == 9
    assert "DeviceLeftAtUnload" in ran.out


def test_a_driver_that_does_not_load_is_reported(cli: Cli, tmp_path: Path) -> None:
    module = tmp_path / "raises.py"
    module.write_text(RAISES, encoding="utf-8")
    ran = cli("verify", str(module), "--rounds", "0")
    assert ran.code == 9
    assert "raised RuntimeError in driver_entry" in ran.out


def test_what_is_no_driver(cli: Cli, tmp_path: Path) -> None:
    assert cli("verify", str(tmp_path / "nothing.py")).code == 2
    assert cli("verify", "nothing").code == 2
    assert cli("verify", "null", "--rounds", "-1").code == 2
