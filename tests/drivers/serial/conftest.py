from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.drivers.serial.serialkit import Port


@pytest.fixture
def make_port() -> Iterator[Callable[..., Port]]:
    """Ports as a test wants them. A mistake of the driver that no call has shown fails the test at the end."""
    ports: list[Port] = []

    def make(**options: Any) -> Port:
        ports.append(Port(**options))
        return ports[-1]

    yield make
    for port in ports:
        port.close()
        assert port.bridge.acknowledge_faults() == []


@pytest.fixture
def port(make_port: Callable[..., Port]) -> Port:
    return make_port()


@pytest.fixture
def tight(make_port: Callable[..., Port]) -> Port:
    """A port whose far end has room for nothing yet."""
    return make_port(room=0)
