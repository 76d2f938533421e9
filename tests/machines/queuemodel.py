"""The references for the queue machines: lists, and what is put into them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hilbridge.model.status import STATUS_CANCELLED, STATUS_SUCCESS

Event = tuple[object, ...]


class KeyedList:
    """What a KDEVICE_QUEUE is to who uses it: entries in the order in which they will come, and whether one is in progress."""

    def __init__(self) -> None:
        self.busy = False
        self.entries: list[tuple[int, str]] = []

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.entries]

    def insert(self, name: str, key: int | None) -> bool:
        if not self.busy:
            self.busy = True
            return False
        if key is None:  # to the tail: it counts as the last one there, so that the keys stay in order
            self.entries.append((self.entries[-1][0] if self.entries else 0, name))
            return True
        larger = [place for place, (other, _) in enumerate(self.entries) if other > key]
        self.entries.insert(larger[0] if larger else len(self.entries), (key, name))
        return True

    def remove(self, key: int | None = None) -> str | None:
        if not self.entries:
            self.busy = False
            return None
        fits = [place for place, (other, _) in enumerate(self.entries) if key is not None and other >= key]
        return self.entries.pop(fits[0] if fits else 0)[1]

    def remove_entry(self, name: str) -> bool:
        before = len(self.entries)
        self.entries = [entry for entry in self.entries if entry[1] != name]
        return len(self.entries) < before


@dataclass
class Packet:
    """One request for a driver that does one thing at a time, and what the driver does with it."""

    name: str
    file: int = 0
    key: int | None = None
    cancelable: bool = True
    """It is queued with a cancel routine."""
    keeps_routine: bool = False
    """It can be cancelled while it is in progress."""
    at_once: bool = False
    """StartIo ends it itself."""
    cancelled_before: bool = False
    """It was cancelled before it is queued."""
    next_key: int | None = None
    """The key with which the next packet is asked for."""
    cancel: bool = False
    over: bool = False


@dataclass
class OneAtATime:
    """A driver with StartIo."""

    non_cancelable: bool
    queue: KeyedList = field(default_factory=KeyedList)
    packets: dict[str, Packet] = field(default_factory=dict)
    current: str | None = None
    routine: set[str] = field(default_factory=set)
    """Those that have a cancel routine."""
    events: list[Event] = field(default_factory=list)

    def submit(self, packet: Packet) -> None:
        name = packet.name
        self.packets[name] = packet
        packet.cancel = packet.cancelled_before
        if packet.cancelable:
            self.routine.add(name)
        if not self.queue.insert(name, packet.key):
            self.start(name)
        elif packet.cancel and packet.cancelable:
            self.cancelled(name)

    def start(self, name: str) -> None:
        packet, self.current = self.packets[name], name
        if self.non_cancelable:
            self.routine.discard(name)
        self.events.append(("start", name, name in self.routine))
        if not packet.keeps_routine or packet.cancel or packet.at_once:
            self.routine.discard(name)
        if packet.cancel:
            self.end(name, cancelled=True)
            self.next(packet.next_key)
        elif packet.at_once:
            self.end(name)
            self.next(packet.next_key)

    def end(self, name: str, *, cancelled: bool = False) -> None:
        self.routine.discard(name)
        self.packets[name].over = True
        self.events.append(("end", name, STATUS_CANCELLED if cancelled else STATUS_SUCCESS))

    def next(self, key: int | None) -> None:
        self.current = self.queue.remove(key)
        if self.current is not None:
            self.start(self.current)

    def done(self) -> None:
        """The hardware is done with the packet in progress."""
        name = self.current
        assert name is not None
        self.routine.discard(name)
        self.end(name)
        self.next(self.packets[name].next_key)

    def cancel(self, name: str) -> bool:
        """IoCancelIrp."""
        self.packets[name].cancel = True
        if name not in self.routine:
            return False
        self.cancelled(name)
        return True

    def cancelled(self, name: str) -> None:
        """The driver's cancel routine, or its cleanup."""
        self.routine.discard(name)
        if name == self.current:
            self.next(self.packets[name].next_key)
        else:
            self.queue.remove_entry(name)
        self.end(name, cancelled=True)

    def close(self, file: int) -> None:
        """The driver's cleanup, oldest first."""
        for packet in list(self.packets.values()):
            if packet.file == file and not packet.over:
                self.cancelled(packet.name)
