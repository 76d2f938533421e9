"""The transition table: that it is whole, that IRPs obey it, and that the page about it shows nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hilbridge.model.irp import Irp
from hilbridge.model.irp_life import BROKEN_RULES, LIFE, STEPS, IrpEvent, IrpState
from tests.model.irp_diagram import draw
from tests.support import bug_check

PAGE = Path(__file__).resolve().parents[2] / "docs" / "irp-life.md"
LEGAL = [(state, event, follows) for state, steps in LIFE.items() for event, follows in steps.items()]
ILLEGAL = [(state, event) for state in IrpState for event in IrpEvent if event not in LIFE[state]]


def irp_in(state: IrpState) -> Irp:
    irp = Irp(1, 2)
    irp.state = int(state)
    return irp


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_has_every_state_and_a_rule_for_every_event() -> None:
    assert set(LIFE) == set(IrpState)
    assert set(BROKEN_RULES) == set(IrpEvent)


def test_the_fast_table_says_the_same() -> None:
    assert len(STEPS) == len(IrpState)
    for state in IrpState:
        assert STEPS[state] == tuple(int(LIFE[state].get(event, -1)) for event in IrpEvent)


def test_every_state_can_be_reached_from_a_new_irp_and_leads_to_its_end() -> None:
    reached = {IrpState.ALLOCATED}
    while (more := reached | {follows for state in reached for follows in LIFE[state].values()}) != reached:
        reached = more
    assert reached == set(IrpState)
    ends = {IrpState.FREED}
    while (more := ends | {state for state in IrpState if ends & set(LIFE[state].values())}) != ends:
        ends = more
    assert ends == set(IrpState)


@pytest.mark.parametrize(("state", "event", "follows"), LEGAL, ids=lambda value: value.name)
def test_a_step_of_the_table_is_taken(state: IrpState, event: IrpEvent, follows: IrpState) -> None:
    irp = irp_in(state)
    irp.step(event)
    assert irp.state == follows


@pytest.mark.parametrize(("state", "event"), ILLEGAL, ids=lambda value: value.name)
def test_a_step_that_is_not_in_the_table_is_its_events_bug_check(state: IrpState, event: IrpEvent) -> None:
    irp = irp_in(state)
    first = BROKEN_RULES[event][3]
    parameters = (irp, state.name, event.name) if first is None else (first, irp, state.name, event.name)
    with bug_check(BROKEN_RULES[event][0], *parameters) as caught:
        irp.step(event)
    assert BROKEN_RULES[event][1] in str(caught.value) and BROKEN_RULES[event][2] in str(caught.value)
    assert irp.state == state, "a refused step changes nothing"


def test_only_the_creator_frees_or_reuses_and_only_what_has_come_back() -> None:
    # A completion routine may: for the IRP's creator that is how it comes back.
    owners = {IrpState.ALLOCATED, IrpState.OFFERED, IrpState.COMPLETED}
    for event in (IrpEvent.FREE, IrpEvent.REUSE):
        assert {state for state, steps in LIFE.items() if event in steps} == owners


def test_nothing_happens_to_a_freed_irp() -> None:
    assert LIFE[IrpState.FREED] == {}


def test_a_disowned_irp_can_go_every_way_that_it_could_have_gone_without_that() -> None:
    """The caller gives up from outside, at any moment: whoever has the IRP must not stumble over it."""
    for state, steps in LIFE.items():
        if IrpEvent.DISOWN not in steps:
            continue
        for event in steps:
            if event not in (IrpEvent.DISOWN, IrpEvent.REUSE, IrpEvent.FREE):
                assert event in LIFE[IrpState.DISOWNED], (state, event)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    blocks = re.findall(r"^```mermaid\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks == [draw()], "docs/irp-life.md: put in what `python -m tests.model.irp_diagram` prints"


def test_the_diagram_shows_every_step_of_the_table_and_no_other() -> None:
    shown = set()
    for line in draw().splitlines()[1:]:
        left, _, right = line.strip().partition(" --> ")
        follows, _, events = right.partition(": ")
        shown |= {(left, event, follows) for event in events.split(", ") if event}
    assert shown == {(state.name, event.name, follows.name) for state, event, follows in LEGAL}


def test_a_change_of_the_table_changes_the_diagram() -> None:
    changed = {state: dict(steps) for state, steps in LIFE.items()}
    changed[IrpState.COMPLETED][IrpEvent.CALL] = IrpState.DISPATCHED
    assert "COMPLETED --> DISPATCHED: CALL" in draw(changed)
    assert draw(changed) != draw()


@pytest.mark.parametrize("name", [*(s.name for s in IrpState), *(e.name for e in IrpEvent)])
def test_the_page_explains_every_state_and_every_event(name: str) -> None:
    rows = re.findall(rf"^\| {name} \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 1 and len(rows[0].split()) >= 8, f"docs/irp-life.md has no row that explains {name}"


@pytest.mark.parametrize("event", IrpEvent, ids=lambda event: event.name)
def test_the_page_names_the_bug_check_of_a_missing_step(event: IrpEvent) -> None:
    code, name, _, _ = BROKEN_RULES[event]
    (row,) = re.findall(rf"^\| {event.name} \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert f"0x{code:X} {name}" in row
