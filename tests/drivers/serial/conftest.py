from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.drivers.serial.resetkit import ResetPort
from tests.drivers.serial.serialkit import Port, ports_of
from tests.drivers.serial.stopkit import StopPort


@pytest.fixture
def make_port() -> Iterator[Callable[..., Port]]:
    """Ports as a test wants them. A mistake of the driver that no call has shown fails the test at the end."""
    yield from ports_of(Port)


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
    yield from ports_of(StopPort)


@pytest.fixture(params=[None, True], ids=["plain", "verified"])
def stop_port(make_stop_port: Callable[..., StopPort], request: pytest.FixtureRequest) -> StopPort:
    """One without a verifier, and one with."""
    return make_stop_port(verify=request.param)


@pytest.fixture
def make_reset_port() -> Iterator[Callable[..., ResetPort]]:
    """Ports for resets, under the verifier unless a test says otherwise."""
    yield from ports_of(ResetPort)


@pytest.fixture
def reset_port(make_reset_port: Callable[..., ResetPort]) -> ResetPort:
    return make_reset_port()
