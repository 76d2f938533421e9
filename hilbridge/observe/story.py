"""The story of one read, told from a trace: eleven steps, each with what happened and the code that did it.

The steps are those of the project's documentation, in its order. Everything that is said comes from the trace. What
varies from run to run (times, threads, line numbers) is left out, so that the same program tells the same story each time.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hilbridge.iomgr.irps import IrpRoutines
from hilbridge.iomgr.namespace import Namespace, normalise
from hilbridge.model.errors import UsageFault
from hilbridge.observe.trace import Event, Trace
from hilbridge.observe.where import where

WIDTH = 104
_INDENT = 19
_IRQL = {0: "PASSIVE_LEVEL", 1: "APC_LEVEL", 2: "DISPATCH_LEVEL"}


@dataclass(frozen=True, slots=True)
class Step:
    """One of the eleven: its name, what happened, and where."""

    number: int
    name: str
    says: str
    code: tuple[str, ...]
    """``file:function`` of each routine that took part, in the order in which they did."""


def tell(trace: Trace, irp_id: int, data: bytes, app: Callable[..., object]) -> str:
    """The story of the read with that id, as text. `data` is what the application was given, by its call of `app`.

    Raises `UsageFault` if the trace does not hold such a story: the read was not pended, nothing waited behind it, ...
    """
    lines = []
    for step in steps(trace, irp_id, data, app):
        title = f"{step.number:2d} {step.name}".ljust(_INDENT)
        says = step.says.replace("IRP 0x", "IRP\xa00x")  # kept on one line
        wrapped = textwrap.wrap(says, WIDTH, initial_indent=title, subsequent_indent=" " * _INDENT)
        lines += [line.replace("\xa0", " ") for line in wrapped]
        lines += [" " * _INDENT + code for code in step.code]
    return "\n".join(lines) + "\n"


def steps(trace: Trace, irp_id: int, data: bytes, app: Callable[..., object]) -> Iterator[Step]:
    """The eleven steps. See `tell`."""
    story = _Story(trace, irp_id)
    yield story.found()
    yield story.built()
    yield story.dispatched()
    yield story.pended()
    yield story.returned()
    yield story.asserted()
    yield story.served()
    yield story.deferred()
    yield story.completed()
    yield story.went_on()
    yield Step(11, "app", f"has its {len(data)} bytes: {data!r}", (where(app),))


class _Story:
    """The events of a trace that matter to one read: one method for each step but the last."""

    def __init__(self, trace: Trace, irp_id: int) -> None:
        self._irp = _irp(irp_id)
        self._all = trace.events
        self._mine = [event for event in self._all if event.irp_id == irp_id]
        self._created = self._first("irp_created")
        self._sent = [event for event in self._mine if event.kind == "irp_dispatched"]
        self._end = self._first("irp_completing")
        self._asserted = self._last("interrupt_asserted", before=self._end)
        self._dpc = self._last("dpc", before=self._end)
        if not self._created.path:
            raise UsageFault("this trace does not know who called: make it with Trace(callers=True)")

    def _first(self, kind: str, among: Iterable[Event] | None = None, *, after: Event | None = None) -> Event:
        for event in self._mine if among is None else among:
            if event.kind == kind and (after is None or event.number > after.number):
                return event
        raise UsageFault(f"the trace holds no story of {self._irp}: the event {kind} is missing")

    def _last(self, kind: str, *, before: Event) -> Event:
        return self._first(kind, (event for event in reversed(self._all) if event.number < before.number))

    def _between(self, kind: str, first: Event, last: Event) -> list[Event]:
        return [e for e in self._all if e.kind == kind and first.number < e.number < last.number]

    def found(self) -> Step:
        event = self._last("name_resolved", before=self._created)
        link, device = normalise(event.detail["name"]), event.device.partition(" ")[2]
        way = dict.fromkeys([event.detail["name"], link, device])  # an absolute name is its own link
        stack = " over ".join(event.detail["stack"].split(" > "))
        says = f"{' -> '.join(way)} -> the top of its device stack: {stack}"
        return Step(1, "namespace", says, (where(Namespace.resolve),))

    def built(self) -> Step:
        says = (
            f"builds {self._irp}: {_what(self._sent[0])}, with {self._created.detail['locations']} stack locations, one "
            "for each device of the stack"
        )
        return Step(2, "I/O manager", says, (_outermost(self._created.path, "hilbridge/iomgr/"),))

    def dispatched(self) -> Step:
        entry = f"major_function[IRP_MJ_{self._sent[0].detail['major']}]"
        says = f"{entry} of driver {_driver(self._sent[0])}"
        for event in self._sent[1:]:
            says += f", which passes it on to that of driver {_driver(event)}"
        return Step(3, "dispatch table", says, tuple(event.routine for event in self._sent))

    def pended(self) -> Step:
        event = self._first("irp_pended")
        waiting: dict[int | None, None] = {}
        for earlier in self._all[: self._all.index(event)]:
            if earlier.kind == "irp_pended" and _queue(earlier) == _queue(event):
                waiting[earlier.irp_id] = None
            elif earlier.kind == "irp_completing":
                waiting.pop(earlier.irp_id, None)
        place = f"behind {', '.join(map(_irp, waiting))}" if waiting else "as the first of the port's read queue"
        says = f"not satisfiable now: marks {self._irp} pending, {place}"
        return Step(4, "driver", says, _up_to(event.path, {sent.routine for sent in self._sent}))

    def returned(self) -> Step:
        top = self._sent[0].device
        event = self._first("dispatch_returned", (e for e in self._mine if e.device == top))
        others = [e for e in self._between("irp_dispatched", event, self._end) if e.device == top]
        says = f"returns {event.detail['status']}: the caller "
        says += f"goes on, with {' and '.join(f'{_irp(e.irp_id)} ({_what(e)})' for e in others)}" if others else "waits"
        return Step(5, "", says, (_outermost(self._created.path, "hilbridge/bridge/"),))

    def asserted(self) -> Step:
        vector = self._asserted.detail["vector"]
        says = f"the selector says the port's descriptor is ready: that is the interrupt line, on vector 0x{vector:X}"
        return Step(6, "poller", says, (self._asserted.path[0],))

    def served(self) -> Step:
        answers = self._between("interrupt", self._asserted, self._end)
        vector, irql = self._asserted.detail["vector"], self._asserted.detail["irql"]
        said = ", ".join(
            f"driver {_driver(e)} says {'True (mine)' if e.detail['claimed'] else 'False (not mine)'}" for e in answers
        )
        queued = self._between("dpc_queued", self._asserted, self._end)
        says = f"vector 0x{vector:X}, at DIRQL {irql}: {said}"
        says += "".join(f", and queues the DPC {_function(event)}" for event in queued)
        return Step(7, "ISR chain", says, tuple(event.routine for event in answers))

    def deferred(self) -> Step:
        count, irql = self._end.detail["information"], self._dpc.detail["irql"]
        says = f"at {_IRQL[irql]}: moves {count} bytes into {self._irp}, which are enough"
        return Step(8, "DPC", says, (self._dpc.routine,))

    def completed(self) -> Step:
        end = self._first("irp_completed")
        routines = [e for e in self._mine if e.kind == "completion_routine" and e.number > self._end.number]
        seen = f"{len(routines)} completion routines" if routines else "no completion routine was set on its way down"
        says = f"{self._irp} goes up the stack with {_outcome(end)}; {seen}; at the top the caller is signalled"
        code = (self._end.path[0], end.path[0], *(e.routine for e in routines), where(IrpRoutines.finish))
        return Step(9, "complete", says, code)

    def went_on(self) -> Step:
        others = (event for event in self._all if event.irp_id != self._created.irp_id)
        event = self._first("irp_started", others, after=self._dpc)
        says = f"{_irp(event.irp_id)}, which waited behind it, is started"
        if event.number < self._end.number:
            says += " (by this driver before step 9)"
        ends = [e for e in self._all if e.irp_id == event.irp_id and e.kind == "irp_completed"]
        says += "".join(f"; it ends with {_outcome(end)}" for end in ends)
        return Step(10, "next", says, (event.path[0],))


def _irp(irp_id: int | None) -> str:
    return f"IRP 0x{irp_id:04X}"


def _what(event: Event) -> str:
    length = event.detail.get("length")
    return f"IRP_MJ_{event.detail['major']}" + ("" if length is None else f", {_bytes(length)}")


def _outcome(event: Event) -> str:
    return f"{event.detail['status']}, {_bytes(event.detail['information'])}"


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"


def _queue(event: Event) -> tuple[str, str]:
    return event.device, event.detail["major"]


def _driver(event: Event) -> str:
    return event.device.partition(" ")[0]


def _function(event: Event) -> str:
    return event.routine.rpartition(":")[2]


def _outermost(path: tuple[str, ...], folder: str) -> str:
    inside = [code for code in path if code.startswith(folder)]
    return inside[-1] if inside else path[0]


def _up_to(path: tuple[str, ...], routines: set[str]) -> tuple[str, ...]:
    """From the driver's dispatch routine down to what it called."""
    for index, code in enumerate(path):
        if code in routines:
            return path[index::-1]
    return path[:1]
