from __future__ import annotations

from collections.abc import Iterator

import pytest

from hilbridge.testing.fixture import RunningFixture, start_fixture
from tests.cli.clikit import Cli
from tests.hal.halkit import Pty


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


@pytest.fixture(scope="module")
def story_board() -> Iterator[RunningFixture]:
    """Answers "id" with HILBRIDGE-BOARD-1, and says nothing else."""
    with start_fixture("boards/story") as board:
        yield board
