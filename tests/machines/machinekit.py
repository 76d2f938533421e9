"""How the state machines are run: from a seed, by Hypothesis, and against products with a mistake in them.

A machine's draws are small numbers and choices only. Hypothesis mixes numbers from 100 up, and texts, that it finds in the
modules of the process into what it draws: a machine that drew such would do other work when other tests had been loaded.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import hypothesis
import pytest
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from hilbridge import Bridge
from hilbridge.iomgr.manager import IoManager

MachineT = TypeVar("MachineT", bound="Machine")

MACHINES: dict[str, type[Machine]] = {}
"""Every machine that has been loaded, by its name."""


class Machine(RuleBasedStateMachine):
    """A machine on a hand-cranked bridge of its own: what happens happens in one order, and time passes when it says so."""

    verify: ClassVar[bool] = False
    """Whether the driver verifier watches. What these drivers do is well-behaved: it must not find anything."""
    io_manager: ClassVar[type[IoManager]] = IoManager

    def __init__(self) -> None:
        super().__init__()
        self.bridge = Bridge.manual(io_manager=self.io_manager, verify=self.verify, restarts=0)
        self.io, self.ke, self.crank = self.bridge.io, self.bridge.ke, self.bridge.machine

    def teardown(self) -> None:
        """Bring everything to its end, look at what is left, and close the bridge, whatever has been found."""
        if sys.exc_info()[0] is not None:  # a step has failed: that is what the reader is to see
            with contextlib.suppress(Exception):
                self.bridge.close()
            return
        try:
            self.finish()
            findings = [str(finding) for finding in self.bridge.findings]
            assert not findings, "the verifier has found:\n" + "\n".join(findings)
        finally:
            self.bridge.close()
        assert not len(self.ke.timers), "a timer was left armed"

    def finish(self) -> None:
        """End what is under way, and check what must hold at the end."""
        raise NotImplementedError


def machine(kind: type[MachineT]) -> type[MachineT]:
    """Enter a machine into the table."""
    MACHINES[kind.__name__] = kind
    return kind


def run_machine(
    kind: type[Machine], seed: int, *, examples: int, steps: int, verify: bool = False, shrink: bool = True
) -> None:
    """Let the machine go through that many examples of at most so many steps. Raises what it has found, in its shortest form.

    The seed alone decides what is done: nothing is kept from one run for the next.
    """
    phases = [hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrink else [])]
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        phases=phases,
        derandomize=False,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    one = type(kind.__name__, (kind,), {"verify": verify})
    run_state_machine_as_test(hypothesis.seed(seed)(one), settings=settings)


# -- mistakes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A routine of the product, and a change to its source that makes it wrong."""

    name: str
    owner: Any
    """The class or module in which the routine is."""
    routine: str
    right: str
    """A piece of its source, which is there once."""
    wrong: str
    slow: bool = False
    """It takes a while to find it."""


def mistakes(*given: Mistake) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test is run once with each of them, as `mistake`."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "mistake", [pytest.param(one, id=one.name, marks=[slow] if one.slow else []) for one in given]
    )


@contextmanager
def made(mistake: Mistake) -> Iterator[None]:
    """The product has that mistake in it, as long as the block lasts."""
    before = inspect.getattr_static(mistake.owner, mistake.routine)
    plain = before.__func__ if isinstance(before, staticmethod) else before
    source = textwrap.dedent(inspect.getsource(plain))
    assert source.count(mistake.right) == 1, f"{mistake.right!r} is {source.count(mistake.right)} times in:\n{source}"
    made_here: dict[str, Any] = {}
    code = compile(
        source.replace(mistake.right, mistake.wrong),
        inspect.getfile(plain),
        "exec",
        dont_inherit=True,
        flags=annotations.compiler_flag,
    )
    exec(code, plain.__globals__, made_here)
    setattr(mistake.owner, mistake.routine, made_here[mistake.routine])
    try:
        yield
    finally:
        setattr(mistake.owner, mistake.routine, before)


def finds(kind: type[Machine], mistake: Mistake, *, examples: int, steps: int) -> None:
    """Assert that the machine, with what it does in an ordinary run, does not let the mistake pass."""
    with made(mistake), pytest.raises(BaseException) as caught:
        run_machine(kind, 0, examples=examples, steps=steps, shrink=False)
    assert not isinstance(caught.value, HypothesisException), f"not a finding: {caught.value!r}"
