"""Real lines for the tests of the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hal.halkit import Pty


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()
