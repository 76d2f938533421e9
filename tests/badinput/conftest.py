from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.badinput.badkit import Healthy
from tests.hal.halkit import Pty


@pytest.fixture
def healthy() -> Iterator[Healthy]:
    healthy = Healthy()
    yield healthy
    healthy.close()


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()
