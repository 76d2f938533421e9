"""The kit of the state machines: a seed repeats its run, in whatever process, and mistakes are made and taken back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from hilbridge.kernel.event import Kevent
from tests.conftest import TOP
from tests.machines.machinekit import Machine, Mistake, finds, made, run_machine

DRAWN: list[int] = []


class Dice(Machine):
    """Notes what it has drawn, and is content with all of it but eight."""

    content = True

    @rule(number=st.integers(0, 9))
    def throw(self, number: int) -> None:
        DRAWN.append(number)
        assert self.content or number != 8

    def finish(self) -> None:
        Kevent().set()


class Eight(Dice):
    """Finds the eight."""

    content = False


def drawn(seed: int) -> list[int]:
    DRAWN.clear()
    run_machine(Dice, seed, examples=5, steps=10)
    return list(DRAWN)


def test_a_seed_says_what_is_done() -> None:
    first = drawn(7)
    assert len(first) > 20 and first == drawn(7) != drawn(8)


def test_a_seed_means_the_same_in_a_process_that_has_loaded_other_modules() -> None:
    script = "from tests.machines.test_machinekit import drawn; print(drawn(7))"
    other = subprocess.run([sys.executable, "-c", script], cwd=TOP, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(drawn(7))


def test_what_is_found_is_shown_in_its_shortest_form() -> None:
    with pytest.raises(AssertionError) as caught:
        run_machine(Eight, 7, examples=50, steps=10)
    notes = "\n".join(caught.value.__notes__)
    assert notes.count("state.throw") == 1 and "state.throw(number=8)" in notes


def test_a_mistake_is_made_and_taken_back() -> None:
    before = Kevent.set
    with made(Mistake("it stays as it was", Kevent, "set", "self._signaled, True", "self._signaled, self._signaled")):
        event = Kevent()
        event.set()
        assert not event.signaled
    assert Kevent.set is before
    event.set()
    assert event.signaled


def test_a_mistake_that_cannot_be_made_any_more_says_so() -> None:
    with (
        pytest.raises(AssertionError, match="'no such line' is 0 times in"),
        made(Mistake("", Kevent, "set", "no such line", "")),
    ):
        pass


def test_a_mistake_that_passes_fails_the_test() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        finds(Dice, Mistake("harmless", Kevent, "set", "return previous", "return not previous"), examples=2, steps=2)


def test_a_machine_that_breaks_the_rules_of_its_library_has_found_nothing() -> None:
    class Empty(Machine):
        def finish(self) -> None:
            pass

    with pytest.raises(AssertionError, match="not a finding"):
        finds(Empty, Mistake("harmless", Kevent, "set", "return previous", "return not previous"), examples=2, steps=2)
