"""What the tests of resets share: a line that notes when its outputs change, and what had been sent by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge import Handle, Request
from hilbridge.model import ntddser as ser
from hilbridge.model.ntddser import RESET_BREAK, SerialResetStep
from hilbridge.virtual.line import UNLIMITED
from tests.drivers.serial.stopkit import Recorder, StopPort

DTR, RTS, BREAK = ser.SERIAL_DTR_STATE, ser.SERIAL_RTS_STATE, RESET_BREAK
PULSE = (SerialResetStep(DTR, 0, 100_000), SerialResetStep(DTR, DTR))
TWO_WAITS = (SerialResetStep(DTR | RTS, RTS, 100_000), SerialResetStep(RTS, 0, 50_000), SerialResetStep(DTR, DTR))


class Edges(Recorder):
    """Notes each change of DTR, RTS and break: (milliseconds, what, bytes sent by then). Opening leaves both asserted."""

    def __init__(self, name: str = "virtual:edges", **options: Any) -> None:
        super().__init__(name, **options)
        self.edges: list[tuple[float, str, int]] = []
        self.dtr = self.rts = True
        self.now: Callable[[], float] = lambda: 0.0

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        super().set_modem_control(dtr=dtr, rts=rts)
        words = []
        if dtr is not None:
            self.dtr = dtr
            words.append(f"dtr={int(dtr)}")
        if rts is not None:
            self.rts = rts
            words.append(f"rts={int(rts)}")
        self.edges.append((self.now(), ",".join(words), len(self.sent)))

    def set_break(self, on: bool) -> None:
        super().set_break(on)
        self.edges.append((self.now(), f"break={int(on)}", len(self.sent)))

    @property
    def outputs(self) -> tuple[bool, bool, bool]:
        return self.dtr, self.rts, self.break_on


class ResetPort(StopPort):
    """A port on such a line."""

    line: Edges

    def __init__(self, *, verify: bool | None = True, line: Edges | None = None, **options: Any) -> None:
        line = line or Edges(room=options.pop("room", UNLIMITED))
        super().__init__(line=line, verify=verify, **options)
        self.line.now = lambda: self.milliseconds

    def submit_reset(
        self, steps: tuple[SerialResetStep, ...] = PULSE, *, discard: bool = False, handle: Handle | None = None
    ) -> Request:
        payload = ser.pack_reset(steps, ser.RESET_DISCARD if discard else 0)
        request = (handle or self.handle).submit_ioctl(ser.IOCTL_HILBRIDGE_RESET, payload, size=8)
        self.settle()
        return request

    def start_edges(self) -> Edges:
        """It is given back as another line."""
        line = Edges("virtual:other")
        line.now = lambda: self.milliseconds
        self.start(line)
        return line

    @property
    def clean(self) -> bool:
        """Nothing of a reset is left."""
        extension = self.extension
        return extension.reset is None and not extension.tx_held and not len(self.bridge.ke.timers)


def times(line: Edges) -> list[tuple[float, str]]:
    return [(at, what) for at, what, _sent in line.edges]


def unread(request: Request) -> int:
    """The answer of a reset that has succeeded."""
    assert request.done and request.status.is_success, request
    return int.from_bytes(request.data, "little")
