"""The same machines, for as long as there is time."""

from __future__ import annotations

import random
import time

import pytest

from tests.machines import (  # noqa: F401 - they fill the table
    test_csq_machine,
    test_irp_machine,
    test_pnp_machine,
    test_queue_machine,
    test_remlock_machine,
    test_wait_machine,
)
from tests.machines.machinekit import MACHINES, run_machine


@pytest.mark.soak
def test_random_programs(seed: int, soak_seconds: float) -> None:
    """Any machine, run after run, half of them under the verifier."""
    draw = random.Random(seed)
    names = sorted(MACHINES)
    end = time.monotonic() + soak_seconds
    while time.monotonic() < end:
        kind = MACHINES[draw.choice(names)]
        verify = draw.random() < 0.5
        run_machine(kind, draw.getrandbits(32), examples=50, steps=60, verify=verify)
