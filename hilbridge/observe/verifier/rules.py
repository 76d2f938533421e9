"""The rules, as one table: what each is called, which bug check it is, how bad, and what to do about it.

Names and numbers are Microsoft's: the rules of Static Driver Verifier ("MarkIrpPending2"), and the parameters of bug checks
0xC9 (DRIVER_VERIFIER_IOMANAGER_VIOLATION) and 0xC4 (DRIVER_VERIFIER_DETECTED_VIOLATION). Where a row of 0xC9 has no rule of
that kind, its name here says what it is about. A rule whose bug check is raised in any case, verifier or not, is listed as
well: the verifier adds the report. Microsoft publishes no number for some rules: these have 0xC4 without a parameter.
"""

from __future__ import annotations

from hilbridge.observe.verifier.rule import DETECTED, IOMANAGER, Rule
from hilbridge.observe.verifier.rules_irp import IRP_RULES
from hilbridge.observe.verifier.rules_mdl import MDL_RULES
from hilbridge.observe.verifier.rules_system import SYSTEM_RULES

RULES: dict[str, Rule] = {rule.name: rule for rule in (*IRP_RULES, *SYSTEM_RULES, *MDL_RULES)}
"""Name -> rule."""
BY_NUMBER: dict[tuple[int, int | None], Rule] = {
    (rule.code, rule.parameter): rule
    for rule in RULES.values()
    if rule.parameter is not None or rule.code not in (IOMANAGER, DETECTED)
}
"""(bug check, first parameter) -> rule, for bug checks that the model itself raises."""


def rule_of(code: int, parameters: tuple[object, ...]) -> Rule | None:
    """The rule that a bug check of the model is about, if it is one of the table."""
    first = parameters[0] if parameters and isinstance(parameters[0], int) else None
    return BY_NUMBER.get((code, first)) or BY_NUMBER.get((code, None))
