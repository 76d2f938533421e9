from __future__ import annotations

from collections.abc import Iterator

import pytest

from hilbridge.hal.rfc2217_line import Rfc2217Line
from tests.hal.halkit import FakePin, Pty
from tests.hal.rfc2217_server import Rfc2217Server, open_it


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


@pytest.fixture
def pin() -> FakePin:
    return FakePin()


@pytest.fixture
def server() -> Iterator[Rfc2217Server]:
    server = Rfc2217Server()
    yield server
    server.close()


@pytest.fixture
def remote(server: Rfc2217Server) -> Iterator[Rfc2217Line]:
    """A line that is connected to `server`."""
    line = open_it(server)
    yield line
    line.close()
