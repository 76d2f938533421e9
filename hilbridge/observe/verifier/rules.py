"""The rules, as one table: what each is called, which bug check it is, how bad, and what to do about it.

Names and numbers are Microsoft's: the rules of Static Driver Verifier ("MarkIrpPending2"), and the parameters of bug checks
0xC9 (DRIVER_VERIFIER_IOMANAGER_VIOLATION) and 0xC4 (DRIVER_VERIFIER_DETECTED_VIOLATION). Where a row of 0xC9 has no rule of
that kind, its name here says what it is about. A rule whose bug check is raised in any case, verifier or not, is listed as
well: the verifier adds the report. Microsoft publishes no number for some rules: these have 0xC4 without a parameter.
"""

from __future__ import annotations

from hilbridge.observe.verifier.rule import DETECTED, IOMANAGER, Rule
from hilbridge.observe.verifier.rules_build import BUILD_RULES
from hilbridge.observe.verifier.rules_completion import COMPLETION_RULES
from hilbridge.observe.verifier.rules_devices import DEVICE_RULES
from hilbridge.observe.verifier.rules_irp import IRP_RULES
from hilbridge.observe.verifier.rules_irql import IRQL_RULES
from hilbridge.observe.verifier.rules_locks import LOCK_RULES
from hilbridge.observe.verifier.rules_mdl import MDL_RULES
from hilbridge.observe.verifier.rules_objects import OBJECT_RULES
from hilbridge.observe.verifier.rules_pnp import PNP_RULES
from hilbridge.observe.verifier.rules_power import POWER_RULES
from hilbridge.observe.verifier.rules_queues import QUEUE_RULES
from hilbridge.observe.verifier.rules_wmi import WMI_RULES

THEMES: dict[str, tuple[Rule, ...]] = {
    "IRPs on their way down, and what a dispatch routine returns": IRP_RULES,
    "Completion": COMPLETION_RULES,
    "Plug and Play requests": PNP_RULES,
    "Power requests": POWER_RULES,
    "System control requests (WMI)": WMI_RULES,
    "Cancellation and queues": QUEUE_RULES,
    "IRPs that drivers make": BUILD_RULES,
    "Memory descriptor lists": MDL_RULES,
    "Devices and drivers": DEVICE_RULES,
    "Remove locks": LOCK_RULES,
    "IRQL, spin locks, interrupts": IRQL_RULES,
    "Other objects of the kernel": OBJECT_RULES,
}
"""What the rules are about -> those rules, in the order of the reference page."""
RULES: dict[str, Rule] = {rule.name: rule for rules in THEMES.values() for rule in rules}
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
