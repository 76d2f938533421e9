from __future__ import annotations

from collections.abc import Iterator

import pytest

from hilbridge import Bridge
from tests.bridge.handlekit import Real, Virtual
from tests.hal.halkit import Pty


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge.manual() as bridge:
        yield bridge


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


@pytest.fixture
def port() -> Iterator[Virtual]:
    port = Virtual()
    with port.bridge:
        yield port


@pytest.fixture(params=[True, False], ids=["steering", "no steering"])
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    real = Real(steering=request.param)
    yield real
    real.close()
    assert real.bridge.faults == []
