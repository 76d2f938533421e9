"""The table of a device's life: that it is whole, that a `PnpLife` obeys it, and that the page about it shows nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hilbridge.model.codes import PnpMinor
from hilbridge.model.errors import InternalFault
from hilbridge.model.pnp_life import CHANGES_STATE, LIFE, PnpLife, PnpState
from tests.model.pnp_diagram import draw

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pnp-life.md"
LEGAL = [(state, minor, follows) for state, steps in LIFE.items() for minor, follows in steps.items()]
ILLEGAL = [(state, minor) for state in PnpState for minor in sorted(CHANGES_STATE) if minor not in LIFE[state]]
RETURNS = [PnpState.ADDED, PnpState.STARTED, PnpState.STOPPED]


def life_in(state: PnpState) -> PnpLife:
    life = PnpLife()
    life.state = state
    if state is PnpState.REMOVE_PENDING:
        life.state = PnpState.STARTED
        life.step(PnpMinor.QUERY_REMOVE_DEVICE)
    return life


def test_the_table_has_every_state() -> None:
    assert set(LIFE) == set(PnpState)


def test_every_state_can_be_reached_from_a_new_device_and_leads_to_its_end() -> None:
    reached = {PnpState.ADDED}
    while (more := reached | {follows for state in reached for follows in LIFE[state].values()}) != reached:
        reached = more
    assert reached == set(PnpState)
    assert all(state is PnpState.REMOVED or PnpMinor.REMOVE_DEVICE in LIFE[state] for state in PnpState)


@pytest.mark.parametrize(("state", "minor", "follows"), LEGAL, ids=lambda value: value.name)
def test_a_step_of_the_table_is_taken(state: PnpState, minor: PnpMinor, follows: PnpState) -> None:
    life = life_in(state)
    assert life.may(minor)
    assert life.step(minor) is follows
    assert life.state is follows


@pytest.mark.parametrize(("state", "minor"), ILLEGAL, ids=lambda value: value.name)
def test_a_step_that_is_not_in_the_table_is_our_own_mistake_and_changes_nothing(
    state: PnpState, minor: PnpMinor
) -> None:
    life = life_in(state)
    assert not life.may(minor)
    with pytest.raises(InternalFault, match=rf"IRP_MN_{minor.name} .* {state.name}"):
        life.step(minor)
    assert life.state is state


@pytest.mark.parametrize("state", RETURNS, ids=lambda value: value.name)
def test_a_removal_that_is_called_off_leads_back_to_where_it_came_from(state: PnpState) -> None:
    life = life_in(state)
    life.step(PnpMinor.QUERY_REMOVE_DEVICE)
    assert life.step(PnpMinor.CANCEL_REMOVE_DEVICE) is state


def test_questions_change_nothing_and_end_with_the_device() -> None:
    life = life_in(PnpState.STOPPED)
    assert life.step(PnpMinor.QUERY_ID) is PnpState.STOPPED
    life = life_in(PnpState.REMOVED)
    assert not life.may(PnpMinor.QUERY_ID)


def test_the_page_shows_the_diagram_of_the_table_and_says_something_of_every_state() -> None:
    page = PAGE.read_text()
    assert re.search(r"```mermaid\n(.*?)```", page, re.DOTALL).group(1) == draw()  # type: ignore[union-attr]
    rows = re.findall(r"^\| ([A-Z_]+) \|", page, re.MULTILINE)
    assert rows == [state.name for state in PnpState]
