"""Every rule of the verifier: a minimal faulty driver breaks it and no other, and its clean twin breaks none."""

from __future__ import annotations

import pytest

from hilbridge.observe.verifier.rule import Severity
from hilbridge.observe.verifier.rules import BY_NUMBER, RULES, THEMES, rule_of
from tests.observe.verifier import (
    add_cases,
    device_cases,
    down_cases,
    event_cases,
    irql_cases,
    kernel_cases,
    mark_cases,
    mdl_cases,
    pnp_cases,
    power_cases,
    relation_cases,
    remlock_cases,
    up_cases,
)
from tests.observe.verifier.stage import CASES, Stage

ALL = sorted({*RULES, *CASES})
MODULES = (
    down_cases,
    up_cases,
    mark_cases,
    event_cases,
    pnp_cases,
    power_cases,
    relation_cases,
    device_cases,
    add_cases,
    remlock_cases,
    irql_cases,
    kernel_cases,
    mdl_cases,
)
"""Imported for what they register."""


ONLY_THE_ROUTINE = {"IrqlReturn", "CancelSpinLock", "IsrIrql", "WorkItemIrql", "ThreadExit", "ThreadExitWithMutex"}
"""What the model finds when the routine has returned: it names the driver and the routine."""
ABOUT_IRPS = {rule.name for theme in list(THEMES)[:4] for rule in THEMES[theme]} - {"IrqlReturn", "FastIoIrql"}


@pytest.mark.parametrize("rule", ALL)
def test_the_faulty_driver_breaks_this_rule_and_no_other(rule: str) -> None:
    stage = Stage()
    try:
        CASES[rule](stage, True)
    finally:
        stage.close()
    findings = stage.bridge.findings
    assert {finding.rule.name for finding in findings} == {rule}, "\n".join(map(str, findings))
    finding = findings[0]
    assert finding.driver, "a finding names the driver"
    assert finding.rule.advice in str(finding)
    assert finding.place or rule in ONLY_THE_ROUTINE, "a finding names the line"
    assert finding.irp or rule not in ABOUT_IRPS, "a finding shows the request"
    if finding.rule.severity is Severity.WARNING:
        return
    assert any(finding.rule.number.split("/")[0] in str(f) for f in stage.bridge.faults), "it does not pass unseen"


@pytest.mark.parametrize("rule", ALL)
def test_its_clean_twin_breaks_none(rule: str) -> None:
    stage = Stage()
    try:
        CASES[rule](stage, False)
    finally:
        stage.close()
    assert not stage.bridge.findings, "\n".join(map(str, stage.bridge.findings))
    assert not stage.bridge.faults


def test_every_rule_has_its_name_and_number_once() -> None:
    assert len(RULES) == sum(map(len, THEMES.values())) >= 97
    numbers = [(rule.code, rule.parameter) for rule in RULES.values() if rule.parameter is not None]
    assert len(numbers) == len(set(numbers))
    for rule in RULES.values():
        assert rule.text
        assert rule.advice


def test_a_bug_check_of_the_model_is_found_in_the_table() -> None:
    assert rule_of(0xC9, (0x240, "device")) is RULES["DeviceDeletedTwice"]
    assert rule_of(0x44, ("an IRP",)) is RULES["DoubleCompletion"]
    assert rule_of(0xC9, (0x999,)) is None
    assert (0xC4, None) not in BY_NUMBER, "rules without a number of their own cannot be found by it"
