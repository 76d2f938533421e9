"""A port that is stopped and started again, on another line and another vector each time; and what a lender does meanwhile.

What is sent here is what the Plug and Play manager sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hilbridge import Handle, Request
from hilbridge.kernel.event import Kevent
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import (
    DIRQL_LOWEST,
    DevicePowerState,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    PowerStateType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.hardware import Line, LineSettings, SerialResources
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import PowerParameters
from hilbridge.model.status import STATUS_SUCCESS, NtStatus
from hilbridge.virtual.line import UNLIMITED, VirtualLine
from tests.drivers.serial.serialkit import Port


class Recorder(VirtualLine):
    """A virtual line that notes what is done to it besides reading and writing."""

    def __init__(self, name: str = "virtual:recorder", **options: Any) -> None:
        super().__init__(name, **options)
        self.done: list[Any] = []
        self.touched = 0
        """How often it was asked or told anything else that is not about data."""

    def configure(self, settings: LineSettings) -> None:
        super().configure(settings)
        self.done.append(settings.baudrate)

    def set_modem_control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        super().set_modem_control(dtr=dtr, rts=rts)
        self.done.append((dtr, rts))

    def set_break(self, on: bool) -> None:
        super().set_break(on)
        self.done.append(f"break {on}")

    def enable_interrupts(self, causes: int) -> None:
        super().enable_interrupts(causes)
        self.touched += 1

    def output_waiting(self) -> int:
        self.touched += 1
        return super().output_waiting()

    def discard(self, *, rx: bool = False, tx: bool = False) -> None:
        super().discard(rx=rx, tx=tx)
        self.touched += 1

    @property
    def quiet(self) -> bool:
        """Nothing but its end may interrupt."""
        return not self._enabled


class StopPort(Port):
    """A `Port` whose device can be stopped, lent, and started again."""

    line: VirtualLine

    def __init__(self, **options: Any) -> None:
        options.setdefault("line", Recorder(room=options.pop("room", UNLIMITED)))
        super().__init__(**options)
        self.device = self.bridge.stack(self.name)[0]
        self.lent = 0

    @property
    def pdo(self) -> DeviceObject[Any]:
        return self.device.bottom

    def send(self, minor: PnpMinor, resources: SerialResources | None = None) -> NtStatus:
        return self.bridge.io.send_pnp(self.pdo, minor, resources)

    def stop(self) -> None:
        """The port is lent: its driver has nothing to do with its line any more."""
        assert self.send(PnpMinor.QUERY_STOP_DEVICE) == STATUS_SUCCESS
        assert self.send(PnpMinor.STOP_DEVICE) == STATUS_SUCCESS

    def resources(self, line: Line, settings: LineSettings | None = None) -> SerialResources:
        """A line on a vector of its own, and settings that are not what the application wants."""
        self.lent += 1
        pin = self.bridge.ke.add_pin(
            self.bridge.ke.vector(0x100 + self.lent, DIRQL_LOWEST), line.fileno(), line.asserted
        )
        line.connect(pin)
        self.bridge.ke.machine.add_pin(pin)
        return SerialResources(line, pin.vector.number, settings or LineSettings(300), self.name)

    def start(self, line: VirtualLine | None = None) -> VirtualLine:
        """It is given back, as another line if none is given; returns that."""
        self.line = line or Recorder(f"virtual:line{self.lent + 2}")
        assert self.send(PnpMinor.START_DEVICE, self.resources(self.line)) == STATUS_SUCCESS
        self.settle()
        return self.line

    def submit_dtr(self, on: bool, handle: Handle | None = None) -> Request:
        code = ser.IOCTL_SERIAL_SET_DTR if on else ser.IOCTL_SERIAL_CLR_DTR
        return (handle or self.handle).submit_ioctl(code)

    # -- power -----------------------------------------------------------------------------------------------------------

    def submit_power(self, minor: PowerMinor, kind: PowerStateType, state: int) -> tuple[Irp, Kevent, NtStatus]:
        """What the power manager sends; it does not wait."""
        event = Kevent()
        top = self.device.top
        irp = self.bridge.io.build_synchronous_fsd_request(
            IrpMajor.POWER, top, event, minor=minor, parameters=PowerParameters(kind, state)
        )
        return irp, event, self.bridge.io.call_driver(top, irp)

    def set_power(self, state: DevicePowerState) -> NtStatus:
        """SET_POWER of the device, and all that follows."""
        irp, _event, _status = self.submit_power(PowerMinor.SET_POWER, PowerStateType.DEVICE, state)
        self.settle()
        status = irp.io_status.status
        assert isinstance(status, NtStatus)
        return status


MakePort = Callable[..., StopPort]
