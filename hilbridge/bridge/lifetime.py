"""Exit and fork: bridges close when the process ends, and are dead, and say so, in a forked child."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hilbridge.bridge.bridge import Bridge

_bridges: weakref.WeakSet[Bridge] = weakref.WeakSet()
_abandoned: weakref.WeakSet[Bridge] = weakref.WeakSet()
_installed = False


def opened(bridge: Bridge) -> None:
    """A bridge has been made."""
    global _installed  # noqa: PLW0603 - exit and fork hooks belong to the process
    if not _installed:
        _installed = True
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_in_child)
    _bridges.add(bridge)


def closed(bridge: Bridge) -> None:
    """A bridge has been closed."""
    _bridges.discard(bridge)


def close_later(bridge: Bridge) -> None:
    """Close a bridge whose only handle was dropped. Not here: this may be one of its own threads."""
    threading.Thread(target=bridge.close, name="hilbridge-closer", daemon=True).start()


def belongs_to_parent(bridge: Bridge) -> bool:
    """Whether this process is a fork of the one that made the bridge."""
    return bridge in _abandoned


def _at_exit() -> None:
    for bridge in list(_bridges):
        with contextlib.suppress(Exception):  # one bridge that cannot close must not keep the others open
            bridge.close()


def _in_child() -> None:
    for bridge in list(_bridges):
        _bridges.discard(bridge)
        _abandoned.add(bridge)
        with contextlib.suppress(Exception):  # a fork hook has nobody to tell
            bridge.abandon()
