"""A port on a manual bridge, what a race does to it, and what must hold afterwards, whatever the order was."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import permutations
from typing import Any

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.hal.socket_line import SocketLine
from hilbridge.iomgr.manager import IoManager
from hilbridge.kernel.clock import VirtualClock
from hilbridge.kernel.interrupt import Pin
from hilbridge.kernel.processor import Processor
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceGone, HilbridgeError
from hilbridge.model.hardware import Line, LineSettings
from hilbridge.model.irp import Irp
from hilbridge.model.status import STATUS_SUCCESS, STATUS_TIMEOUT, NtStatus
from hilbridge.testing.interleave import MODULES, Exploration, Race, RaceFound, explore, settle, stood_still
from hilbridge.virtual.line import UNLIMITED, VirtualLine


class CountingIo(IoManager):
    """Counts, per IRP, who tried to complete it, and how often its caller was told."""

    def __init__(self, ke: Any) -> None:
        super().__init__(ke)
        self.completed: Counter[int] = Counter()
        self.finished: Counter[int] = Counter()

    def complete_request(self, irp: Irp, _boost: int = 0) -> None:
        self.completed[irp.id] += 1
        super().complete_request(irp)

    def finish(self, irp: Irp) -> None:
        self.finished[irp.id] += 1
        super().finish(irp)


class AnyPort:
    """COM1, opened once per element of `access`, with what must hold of it after any race."""

    def __init__(self, bridge: Bridge, clock: VirtualClock, line: Line, access: Iterable[str]) -> None:
        self.bridge = bridge
        self.clock = clock
        self.ke = self.bridge.ke
        self.io = self.bridge.io
        self.bridge.plug(line, name="COM1")
        self.handles = [self.bridge.open("COM1", access=one) for one in access]
        self.handle = self.handles[0]
        self.fed = b""
        self.reads: dict[Handle, list[bytes]] = {handle: [] for handle in self.handles}
        """What reads have brought, per handle, in no order."""
        self.independent: set[Handle] = set()
        """Readers whose unread bytes go when they are closed, because there is another one."""
        self.writes: list[bytes] = []
        """What writes say that the line has accepted."""
        self.requests: list[tuple[Request, Collection[NtStatus], bytes]] = []
        self.told: Counter[Request] = Counter()
        self.processors: list[Processor] = []
        self.due: int | None = None
        """When the next timer expires, as seen when the race began (nanoseconds)."""

    # -- what threads do ---------------------------------------------------------------------------------------------

    def track(self, request: Request, *allowed: NtStatus, wrote: bytes = b"") -> Request:
        """From now on the request is one of those that must end once, with one of these statuses."""
        self.requests.append((request, allowed, wrote))
        request.add_done_callback(lambda: self.told.update([request]))
        return request

    def submit_read(self, size: int, *allowed: NtStatus, handle: Handle | None = None, **options: Any) -> Request:
        """A read that is tracked."""
        return self.track((handle or self.handle).submit_read(size, **options), *allowed)

    def submit_write(self, data: bytes, *allowed: NtStatus, handle: Handle | None = None) -> Request:
        """A write that is tracked."""
        return self.track((handle or self.handle).submit_write(data), *allowed, wrote=data)

    def set_timeouts(self, interval: int = 0, total: int = 0, write_total: int = 0) -> None:
        """SERIAL_TIMEOUTS, in milliseconds."""
        timeouts = ser.SerialTimeouts(interval, 0, total, 0, write_total)
        self.handle.ioctl(ser.IOCTL_SERIAL_SET_TIMEOUTS, timeouts.pack())

    def write_now(self, data: bytes, handle: Handle | None = None, **options: Any) -> None:
        """A whole `Handle.write`, whose outcome is kept."""
        try:
            self.writes.append(data[: (handle or self.handle).write(data, **options)])
        except HilbridgeError as error:
            self.writes.append(data[: error.information])

    def read_now(self, size: int, handle: Handle | None = None, **options: Any) -> None:
        """A whole `Handle.read`, whose outcome is kept."""
        handle = handle or self.handle
        try:
            self.reads[handle].append(handle.read(size, **options))
        except DeviceGone as error:
            self.reads[handle].append(error.partial)  # what it got before the end; this is not put back
        except HilbridgeError:
            return

    def machine_has_nothing_to_do(self) -> None:
        """Let the machine do what is ready; the clock stands still."""
        raise NotImplementedError

    def machine_has_ended(self, request: Request) -> None:
        """The machine has nothing more to do, and the request has ended."""
        self.machine_has_nothing_to_do()
        assert request.done, f"{request!r} waits although all its bytes are here"

    # -- the race ----------------------------------------------------------------------------------------------------

    def race(self, threads: Mapping[str, Callable[[], object]], *checks: Callable[[], object]) -> Race:
        """These threads, then `checks`, then what must hold always."""

        def watched(body: Callable[[], object]) -> Callable[[], object]:
            def run() -> None:
                try:
                    body()
                finally:
                    self.processors.append(self.ke.current())

            return run

        self.due = self.ke.timers.next_due()
        if self.due is not None:
            self.clock.advance_to(self.due // 2)  # timers that are set from now on are due later than those that run

        def check() -> None:
            for one in checks:
                one()
            self.check()

        return Race({name: watched(body) for name, body in threads.items()}, check, self.close)

    def check(self) -> None:
        """Every request has ended once, nothing is left over, and no byte is lost, doubled or out of its place."""
        self.processors.append(self.ke.current())
        for processor in self.processors:
            assert processor.irql == 0, f"{processor} was left at raised IRQL"
            assert not processor.dpcs and not processor.draining, f"{processor} has left DPCs behind"
            assert processor.inside == 0, f"{processor} is still inside"
        self.machine_has_nothing_to_do()
        assert not self.ke.faults, f"latched: {self.ke.faults}"
        for request, allowed, wrote in self.requests:
            irp = request.irp
            assert request.done, f"{request!r} has not ended"
            assert request.status in allowed, f"{request!r} ended with {request.status.name}"
            assert self.told[request] == 1, f"{request!r} was announced {self.told[request]} times"
            assert irp is None or self.counted(irp) == (1, 1), f"{irp!r} completed, told: {self.counted(irp)}"
            data = request.data if request.status in (STATUS_SUCCESS, STATUS_TIMEOUT) else b""
            assert request.data == data, f"{request!r} failed and brings {request.data!r}"
            if request.what.startswith("read"):
                self.reads[request.handle].append(data)
            self.writes.append(wrote[: request.information])
        self.requests.clear()
        assert all(count == 1 for count in self.io.finished.values()), self.io.finished  # type: ignore[attr-defined]
        for handle in self.handles:
            assert not handle.file.irps, f"left over: {handle.file.irps}"
        self.check_written()
        self.check_read()
        assert not len(self.ke.timers), "a timer was left armed"

    def counted(self, irp: Irp) -> tuple[int, int]:
        """How often it was completed, and its caller told."""
        assert isinstance(self.io, CountingIo)
        return self.io.completed[irp.id], self.io.finished[irp.id]

    def check_read(self) -> None:
        """What each reader has got, and can still get, is what the far end has sent."""
        for handle, parts in self.reads.items():
            orders = {b"".join(order) for order in permutations(parts)}
            if handle.closed and (handle in self.independent or self.unplugged):
                assert any(self.fed.startswith(order) for order in orders), f"read {parts}, fed {self.fed!r}"
                continue
            rest = self.rest_of(handle) + self.untaken()
            assert any(order + rest == self.fed for order in orders), f"read {parts}, left {rest!r}, fed {self.fed!r}"

    def rest_of(self, handle: Handle) -> bytes:
        """Everything that a reader could still read; of a closed handle, what the next one to open the port could."""
        reader = self.bridge.open("COM1", access="r") if handle.closed else handle
        rest = b""
        more = b"?"
        while more:
            request = reader.submit_read(100, minimum=1)
            self.machine_has_nothing_to_do()
            request.cancel()
            more = request.data
            rest += more
        if reader is not handle:
            reader.close()
        return rest

    def check_written(self) -> None:
        """What the line has accepted is what the writes say, each in one piece."""
        orders = {b"".join(order) for order in permutations(self.writes)}
        accepted = self.accepted()
        assert accepted in orders, f"accepted {accepted!r}, reported {self.writes}"

    @property
    def unplugged(self) -> bool:
        """Whether the port has been taken out of the bridge."""
        return not self.bridge.devices()

    def untaken(self) -> bytes:
        """What the far end has sent and nobody has taken from the line."""
        raise NotImplementedError

    def accepted(self) -> bytes:
        """What the line has accepted."""
        raise NotImplementedError

    def close(self) -> None:
        """Take it down."""
        for handle in self.handles:
            handle.close()
        self.bridge.close()


class Port(AnyPort):
    """On a hand-cranked machine, with a virtual line: a race's threads are the machine, each as far as it says."""

    def __init__(self, *, room: int = UNLIMITED, access: Iterable[str] = ("rw",)) -> None:
        clock = VirtualClock()
        self.line = VirtualLine("virtual:race", room=room)
        super().__init__(Bridge.manual(io_manager=CountingIo, clock=clock), clock, self.line, access)
        self.pin: Pin = self.line._pin  # type: ignore[assignment]

    def machine_has_nothing_to_do(self) -> None:
        self.bridge.machine.run_until_idle()

    def untaken(self) -> bytes:
        return bytes(self.line._received)

    def accepted(self) -> bytes:
        return bytes(self.line.sent)

    def feed(self, data: bytes) -> None:
        """The far end sends; nobody has noticed yet."""
        self.fed += data
        self.line.feed(data)

    def interrupt(self) -> None:
        """The machine takes the port's interrupt: ISR, DPC, completion, on the calling thread."""
        self.pin.vector.dispatch(self.pin)

    def interrupt_if_asserted(self) -> None:
        """The same, as a thread does that has seen nothing but the level."""
        if self.line.asserted():
            self.interrupt()

    def interrupt_or_too_late(self) -> None:
        """The same, unless the pin has been taken off its vector."""
        if not self.pin.closed:
            self.interrupt()

    def expire_timers(self) -> None:
        """The machine's clock has reached the timer that was the next one when the race began."""
        if self.due is not None:
            self.clock.advance_to(self.due)
        while (timer := self.ke.timers.pop_expired(self.ke.clock.now())) is not None:
            self.ke.expire(timer)

    def bytes_then_timers(self) -> None:
        """First the port's interrupt, then the next timer of that moment."""
        self.interrupt()
        self.due = self.ke.timers.next_due()
        self.expire_timers()


class RunningPort(AnyPort):
    """On a bridge that runs by itself: its poller and its workers are threads of the race."""

    def machine_has_nothing_to_do(self) -> None:
        settle()

    def keep(self, data: bytes, handle: Handle | None = None) -> None:
        """A read has brought this."""
        self.reads[handle or self.handle].append(data)

    def within(self, milliseconds: float) -> None:
        """Nobody has waited for something that had happened already, until some time-out came to the rescue."""
        passed = stood_still() / 1e6
        assert passed <= milliseconds, f"everything stood still for {passed:g} ms"

    def at_once(self) -> None:
        """Nobody has waited for any time-out."""
        self.within(0)


class VirtualPort(RunningPort):
    """With a line that has no descriptor."""

    def __init__(self) -> None:
        clock = VirtualClock()
        self.line = VirtualLine("virtual:race")
        super().__init__(Bridge(io_manager=CountingIo, clock=clock), clock, self.line, ("rw",))

    def untaken(self) -> bytes:
        return bytes(self.line._received)

    def accepted(self) -> bytes:
        return bytes(self.line.sent)

    def feed(self, data: bytes) -> None:
        """The far end sends."""
        self.fed += data
        self.line.feed(data)


class PolledPort(RunningPort):
    """With a socket to a far end, which the poller watches, or a thread that waits."""

    def __init__(self, *, access: Iterable[str] = ("rw",), small_buffers: bool = False, **options: Any) -> None:
        clock = VirtualClock()
        near, self.far = socket.socketpair()
        if small_buffers:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel makes the least that there is of it
        near.setblocking(False)
        self.far.setblocking(False)
        self.received = b""
        line = SocketLine("socket:race", near, LineSettings())
        super().__init__(Bridge(io_manager=CountingIo, clock=clock, **options), clock, line, access)

    def untaken(self) -> bytes:
        return b""  # whoever waits for it gets it

    def accepted(self) -> bytes:
        self.drain()
        return self.received

    def feed(self, data: bytes) -> None:
        """The far end sends."""
        self.fed += data
        assert self.far.send(data) == len(data)

    def drain(self) -> None:
        """The far end takes what there is."""
        try:
            while self.far.fileno() >= 0 and (data := self.far.recv(1 << 20)):
                self.received += data
        except BlockingIOError:
            return

    def close(self) -> None:
        super().close()
        self.far.close()


RACES: dict[str, Callable[[], Race]] = {}
"""Every race of this folder, by name."""


def race(build: Callable[[], Race]) -> Callable[[], Race]:
    """A race that every test run explores."""
    RACES[build.__name__] = build
    return build


POLLED: dict[str, Callable[[], Race]] = {}
"""Every race on a bridge that runs by itself, by name."""


def polled_race(build: Callable[[], Race]) -> Callable[[], Race]:
    """A race on a bridge that runs by itself."""
    POLLED[build.__name__] = build
    return build


LINES_OF = {
    "drivers": ("hilbridge.iomgr", "hilbridge.model.irp", "hilbridge.kernel.dpc", "hilbridge.kernel.timer"),
    "ends": ("hilbridge.iomgr", "hilbridge.model.irp"),
    "polled": (
        "hilbridge.kernel.poller",
        "hilbridge.kernel.steering",
        "hilbridge.iomgr.files",
        "hilbridge.iomgr.request",
    ),
    "serial": (
        "hilbridge.drivers.serial",
        "hilbridge.iomgr.cancel",
        "hilbridge.iomgr.csq",
        "hilbridge.iomgr.files",
        "hilbridge.iomgr.request",
    ),
}
"""Whose lines count in an ordinary run, by the kind of race. Soak tests stop in those of all `MODULES`."""


def explore_race(name: str, *, everywhere: bool = False, **options: Any) -> Exploration:
    """Explore one race of `RACES` or `POLLED`; a failure says how to see it again."""
    build = RACES.get(name) or POLLED[name]
    kind = build.__module__.rpartition(".")[2]
    kind = kind if kind in LINES_OF else "serial"
    try:
        return explore(build, modules=MODULES if everywhere else LINES_OF[kind], **options)
    except RaceFound as found:
        modules = "MODULES" if everywhere else f"LINES_OF[{kind!r}]"
        found.add_note(f"again: replay({build.__module__}.{name}, {found.schedule!r}, modules={modules})")
        raise


def thread_count(name: str) -> int:
    """How many threads a race has."""
    race = RACES[name]()
    race.close()
    return len(race.threads)
