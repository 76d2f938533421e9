"""Draws the page of rules from the table: ``python -m tests.observe.verifier.rules_page`` prints it."""

from __future__ import annotations

from hilbridge.observe.verifier.rule import Rule
from hilbridge.observe.verifier.rules import THEMES

HEAD = """\
# The rules of the driver verifier

Each rule with its number: the bug check, and its first parameter where that says which rule it is. F is fatal: the bug check
is latched and raised, and the driver's stack fails. N is recorded, and raised when the bridge closes. W is recorded only.
[Verify a driver](../howto/verify-a-driver.md) says how to use it.
"""
TABLE = """\
| Rule | Number | | What was done | What to do |
|---|---|---|---|---|
"""


def draw() -> str:
    return HEAD + "".join(f"\n## {theme}\n\n{TABLE}{_rows(rules)}" for theme, rules in THEMES.items())


def _rows(rules: tuple[Rule, ...]) -> str:
    return "".join(
        f"| `{rule.name}` | {rule.number} | {rule.severity.value} | {_cell(rule.text)} | {_cell(rule.advice)} |\n"
        for rule in rules
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(draw(), end="")  # noqa: T201
