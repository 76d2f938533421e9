"""Recipes of a reset: what is done with DTR, RTS and break, written as a line of text, and those that have names.

    dtr=0 wait=100ms dtr=1        step by step
    dtr=0,rts=1 wait=100ms        both at once
    break=1 wait=0.25s break=0

1 is asserted, which is a low voltage at the pin of most adapters that work with 3.3 or 5 V. A recipe ends with its last step:
what the board says after that, or in the middle, is received.
"""

from __future__ import annotations

import difflib
import re
from decimal import Decimal

from hilbridge.model.errors import UsageFault
from hilbridge.model.ntddser import (
    LONGEST_RESET_WAIT_US,
    MOST_RESET_STEPS,
    RESET_BREAK,
    SERIAL_DTR_STATE,
    SERIAL_RTS_STATE,
    SerialResetStep,
)

RECIPES = {
    # Back to asserted: that is how an open port leaves them.
    "dtr": "dtr=0 wait=100ms dtr=1",
    "rts": "rts=0 wait=100ms rts=1",
    # avrdude, src/arduino.c: the capacitor is discharged first; then the falling edge resets, and a longer pulse than 100 us
    # would let the pin rise above its supply.
    "arduino": "dtr=0,rts=0 wait=250ms dtr=1,rts=1 wait=100us dtr=0,rts=0",
    # esptool, reset.py, HardReset and ClassicReset: RTS holds EN low, DTR holds IO0 low, through two transistors that do
    # nothing while both are asserted.
    "esp32": "dtr=0,rts=1 wait=100ms rts=0",
    "esp32-boot": "dtr=0 rts=1 wait=100ms dtr=1 rts=0 wait=50ms dtr=0",
    "break": "break=1 wait=250ms break=0",
}

_BITS = {"dtr": SERIAL_DTR_STATE, "rts": SERIAL_RTS_STATE, "break": RESET_BREAK}
_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}
_WAIT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(us|ms|s)", re.ASCII)
_LONGEST = LONGEST_RESET_WAIT_US // 1_000_000


def parse_recipe(recipe: str) -> tuple[SerialResetStep, ...]:
    """The steps of a recipe, given by name or as text. `UsageFault` says at which column it is wrong, and what is possible."""
    if not isinstance(recipe, str):
        raise UsageFault(f"reset recipe {recipe!r}: a name or a text, as {_choices()}")
    text = RECIPES.get(recipe, recipe)
    steps: list[SerialResetStep] = []
    for word in re.finditer(r"\S+", text):
        if word[0].startswith("wait="):
            wait = _wait(text, word.start() + 5, word[0][5:])
            if steps and not steps[-1].wait_us:
                steps[-1] = steps[-1]._replace(wait_us=wait)
            else:
                steps.append(SerialResetStep(wait_us=wait))
        else:
            steps.append(_outputs(text, word.start(), word[0]))
        if len(steps) > MOST_RESET_STEPS:
            raise _wrong(text, word.start(), f"this is more than {MOST_RESET_STEPS} steps")
    if not any(step.mask for step in steps):
        raise _wrong(text, 0, f"nothing is done to any line; give {_choices()}")
    return tuple(steps)


def _outputs(text: str, column: int, word: str) -> SerialResetStep:
    mask = values = 0
    for part in word.split(","):
        name, equals, value = part.partition("=")
        bit = _BITS.get(name)
        if bit is None or not equals:
            hint = ""
            if word == text:  # one word: perhaps it was to be a name
                near = difflib.get_close_matches(word, RECIPES, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; recipes with a name are {', '.join(RECIPES)}"
            raise _wrong(
                text, column, f"{part!r} is no step; possible are dtr=, rts= and break= with 0 or 1, wait={hint}"
            )
        if value not in ("0", "1"):
            raise _wrong(text, column + len(name) + 1, f"{value!r} is no state of {name}; give 0 or 1 (1 is asserted)")
        if mask & bit:
            raise _wrong(text, column, f"{name} is set twice at once; a space makes it two steps")
        mask |= bit
        values |= bit if value == "1" else 0
        column += len(part) + 1
    return SerialResetStep(mask, values)


def _wait(text: str, column: int, value: str) -> int:
    match = _WAIT.fullmatch(value)
    if match is None:
        raise _wrong(text, column, f"{value!r} is no time; give a number with its unit: us, ms or s, as wait=100ms")
    microseconds = round(Decimal(match[1]) * _UNITS[match[2]])
    if not 0 < microseconds <= LONGEST_RESET_WAIT_US:
        raise _wrong(text, column, f"a wait is from 1us to {_LONGEST}s")
    return microseconds


def _wrong(text: str, column: int, what: str) -> UsageFault:
    return UsageFault(f"reset recipe {text!r}, column {column + 1}: {what}")


def _choices() -> str:
    return f"{', '.join(map(repr, RECIPES))}, or steps as in 'dtr=0 wait=100ms dtr=1'"
