"""A tree on the hand-cranked machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hilbridge import Bridge
from tests.hal.halkit import Pty
from tests.pnp.pnpkit import Tree


@pytest.fixture
def tree() -> Iterator[Tree]:
    """A bridge with a bus, and a driver for its gadgets."""
    with Bridge.manual() as bridge:
        yield Tree(bridge)


@pytest.fixture
def unverified_tree() -> Iterator[Tree]:
    """The same without the verifier, also if all others have it: for what that would stop before the manager does."""
    with Bridge.manual(verify=False) as bridge:
        yield Tree(bridge)


@pytest.fixture
def pty() -> Iterator[Pty]:
    """A port that another program can have as well."""
    pty = Pty()
    yield pty
    pty.close()
