"""The reference for the Plug and Play machine: one device with a filter above its driver, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

from hilbridge.model.pnp_life import PnpState
from hilbridge.model.status import STATUS_CANCELLED, STATUS_DELETE_PENDING, STATUS_PENDING, STATUS_SUCCESS, NtStatus

FUNCTION, FILTER = "function", "filter"


@dataclass(eq=False)
class Read:
    """A request."""

    handle: int
    size: int
    status: NtStatus = STATUS_PENDING
    data: bytes = b""


@dataclass
class ModelDevice:
    """What is known of a device from outside. `state` is None when it is not plugged in."""

    state: PnpState | None = None
    handles: set[int] = field(default_factory=set)
    queue: list[Read] = field(default_factory=list)
    line: bytes = b""
    """What its far end has sent and its driver has not taken."""
    received: bytes = b""
    """What its driver has taken and nobody has read."""
    log: dict[str, list[str]] = field(default_factory=lambda: {FUNCTION: [], FILTER: []})

    def ask(self, *minors: str, refused_by: str | None = None) -> None:
        """Both drivers are asked, from the top; of the last one the refusal is."""
        for minor in minors:
            self.log[FILTER].append(minor)
            if refused_by != FILTER:
                self.log[FUNCTION].append(minor)

    def start(self, refused_by: str | None) -> bool:
        """START is handed on first, and refused on its way up: both have seen it."""
        self.ask("START")
        if refused_by is None:
            self.state = PnpState.STARTED
            self.serve()
            return True
        return False

    def plug(self, refused_by: str | None) -> None:
        """A new line, new device objects."""
        self.line = self.received = b""
        self.state = PnpState.ADDED
        if not self.start(refused_by):
            self.removed()

    def start_again(self, refused_by: str | None) -> None:
        """A device that does not start again goes."""
        if not self.start(refused_by):
            if refused_by == FILTER:
                # The driver below has started, and has given out what it had; its interrupt comes too late.
                self.give_out()
            if self.handles:
                self.surprise()
            else:
                self.removed()

    def query(self, name: str, cancel: str, refused_by: str | None) -> bool:
        self.ask(name, refused_by=refused_by)
        if refused_by is not None:
            self.ask(cancel)
        return refused_by is None

    def stop(self, refused_by: str | None) -> None:
        if self.query("QUERY_STOP", "CANCEL_STOP", refused_by):
            self.ask("STOP")
            self.state = PnpState.STOPPED

    def remove(self, refused_by: str | None) -> None:
        if not self.handles and self.query("QUERY_REMOVE", "CANCEL_REMOVE", refused_by):
            self.removed()

    def surprise(self) -> None:
        self.ask("SURPRISE_REMOVAL")
        self.state = PnpState.SURPRISE_REMOVED
        for read in self.queue:
            read.status = STATUS_DELETE_PENDING
        self.queue.clear()
        if not self.handles:
            self.removed()

    def removed(self) -> None:
        self.ask("REMOVE")
        self.state = None

    def serve(self) -> None:
        self.received, self.line = self.received + self.line, b""
        self.give_out()

    def give_out(self) -> None:
        while self.queue and self.received:
            read = self.queue.pop(0)
            read.data, self.received = self.received[: read.size], self.received[read.size :]
            read.status = STATUS_SUCCESS

    def read(self, read: Read) -> None:
        if self.state is PnpState.SURPRISE_REMOVED:
            read.status = STATUS_DELETE_PENDING
            return
        self.queue.append(read)
        if self.state is PnpState.STARTED:
            self.serve()

    def feed(self, data: bytes) -> None:
        self.line += data
        if self.state is PnpState.STARTED:
            self.serve()

    def cancel(self, read: Read) -> None:
        if read in self.queue:
            self.queue.remove(read)
            read.status = STATUS_CANCELLED

    def close(self, handle: int) -> None:
        for read in [one for one in self.queue if one.handle == handle]:
            self.cancel(read)
        self.handles.discard(handle)
        if self.state is PnpState.SURPRISE_REMOVED and not self.handles:
            self.removed()
