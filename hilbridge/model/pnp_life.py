"""The life of a device, as one table: which Plug and Play request may come in which state, and where it leads.

The states and steps are those of Microsoft's "State Transitions for PnP Devices". The Plug and Play manager steps through this
very table before it sends a request, a driver may keep its own state by it, and the diagram in ``docs/`` is drawn from it.
"""

from __future__ import annotations

from enum import IntEnum

from hilbridge.model.codes import PnpMinor
from hilbridge.model.errors import InternalFault


class PnpState(IntEnum):
    """Where a device is in its life."""

    ADDED = 0
    """AddDevice has been called; there is no hardware yet. Windows' "not started"."""
    STARTED = 1
    STOP_PENDING = 2
    """It has agreed to be stopped. What comes meanwhile is held, if the driver cannot serve it."""
    STOPPED = 3
    """Its hardware has been taken away, to be given back by another START_DEVICE. Requests are held."""
    REMOVE_PENDING = 4
    """It has agreed to be removed."""
    SURPRISE_REMOVED = 5
    """The hardware has gone. Requests fail; REMOVE_DEVICE comes when every handle is closed."""
    REMOVED = 6


_S, _M = PnpState, PnpMinor

LIFE: dict[PnpState, dict[PnpMinor, PnpState]] = {
    _S.ADDED: {
        _M.START_DEVICE: _S.STARTED,
        _M.QUERY_REMOVE_DEVICE: _S.REMOVE_PENDING,
        _M.CANCEL_REMOVE_DEVICE: _S.ADDED,
        _M.SURPRISE_REMOVAL: _S.SURPRISE_REMOVED,
        _M.REMOVE_DEVICE: _S.REMOVED,
    },
    # A CANCEL without its QUERY is what a driver sees below one that has refused the QUERY.
    _S.STARTED: {
        _M.QUERY_STOP_DEVICE: _S.STOP_PENDING,
        _M.CANCEL_STOP_DEVICE: _S.STARTED,
        _M.QUERY_REMOVE_DEVICE: _S.REMOVE_PENDING,
        _M.CANCEL_REMOVE_DEVICE: _S.STARTED,
        _M.SURPRISE_REMOVAL: _S.SURPRISE_REMOVED,
        _M.REMOVE_DEVICE: _S.REMOVED,  # not asked before: its start has failed above it, or the whole system closes
    },
    _S.STOP_PENDING: {
        _M.STOP_DEVICE: _S.STOPPED,
        _M.CANCEL_STOP_DEVICE: _S.STARTED,
        _M.SURPRISE_REMOVAL: _S.SURPRISE_REMOVED,
        _M.REMOVE_DEVICE: _S.REMOVED,
    },
    _S.STOPPED: {
        _M.START_DEVICE: _S.STARTED,
        _M.QUERY_REMOVE_DEVICE: _S.REMOVE_PENDING,
        _M.CANCEL_REMOVE_DEVICE: _S.STOPPED,
        _M.SURPRISE_REMOVAL: _S.SURPRISE_REMOVED,
        _M.REMOVE_DEVICE: _S.REMOVED,
    },
    # CANCEL_REMOVE leads back to where QUERY_REMOVE came from: see `PnpLife`.
    _S.REMOVE_PENDING: {
        _M.CANCEL_REMOVE_DEVICE: _S.STARTED,
        _M.SURPRISE_REMOVAL: _S.SURPRISE_REMOVED,
        _M.REMOVE_DEVICE: _S.REMOVED,
    },
    _S.SURPRISE_REMOVED: {_M.REMOVE_DEVICE: _S.REMOVED},
    _S.REMOVED: {},
}
"""state -> request -> next state. A request that changes no state, as QUERY_ID, may come in all but REMOVED."""

CHANGES_STATE = frozenset(minor for steps in LIFE.values() for minor in steps)
"""The requests that are in the table."""


class PnpLife:
    """The state of one device, stepped by the requests that it gets."""

    __slots__ = ("_before_query", "state")

    def __init__(self) -> None:
        self.state = PnpState.ADDED
        self._before_query = PnpState.ADDED

    def __repr__(self) -> str:
        return f"<{self.state.name}>"

    def may(self, minor: int) -> bool:
        """Whether the request may come now."""
        if minor not in CHANGES_STATE:
            return self.state is not PnpState.REMOVED
        return PnpMinor(minor) in LIFE[self.state]

    def step(self, minor: int) -> PnpState:
        """The request has come (or, for one that may fail: has been granted). Returns the new state.

        Raises `InternalFault` if the table has no such step: the Plug and Play manager, which sends these, is ours.
        """
        if not self.may(minor):
            raise InternalFault(f"IRP_MN_{PnpMinor(minor).name} was sent to a device that is {self.state.name}")
        if minor not in CHANGES_STATE:
            return self.state
        follows = LIFE[self.state][PnpMinor(minor)]
        if minor == PnpMinor.QUERY_REMOVE_DEVICE:
            self._before_query = self.state
        elif minor == PnpMinor.CANCEL_REMOVE_DEVICE and self.state is PnpState.REMOVE_PENDING:
            follows = self._before_query
        self.state = follows
        return follows
