from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.drivers.serial.resetkit import ResetPort
from tests.drivers.serial.serialkit import Port
from tests.drivers.serial.stopkit import StopPort


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


@pytest.fixture
def make_stop_port() -> Iterator[Callable[..., StopPort]]:
    """The same for ports that are stopped and started; what a verifier finds fails the test, too."""
    ports: list[StopPort] = []

    def make(**options: Any) -> StopPort:
        ports.append(StopPort(**options))
        return ports[-1]

    yield make
    for port in ports:
        port.close()
        assert port.bridge.acknowledge_faults() == []
        assert port.bridge.findings == []


@pytest.fixture(params=[None, True], ids=["plain", "verified"])
def stop_port(make_stop_port: Callable[..., StopPort], request: pytest.FixtureRequest) -> StopPort:
    """One without a verifier, and one with."""
    return make_stop_port(verify=request.param)


@pytest.fixture
def make_reset_port() -> Iterator[Callable[..., ResetPort]]:
    """Ports for resets, under the verifier unless a test says otherwise."""
    ports: list[ResetPort] = []

    def make(**options: Any) -> ResetPort:
        ports.append(ResetPort(**options))
        return ports[-1]

    yield make
    for port in ports:
        port.close()
        assert port.bridge.acknowledge_faults() == []
        assert port.bridge.findings == []


@pytest.fixture
def reset_port(make_reset_port: Callable[..., ResetPort]) -> ResetPort:
    return make_reset_port()
