"""What the tests of the serial driver share: a port on a hand-cranked bridge, and a far end that a test holds in its hand.

Time is virtual and stands still unless a test moves it, so every moment can be hit exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hilbridge import Bridge, Handle, Request
from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.iomgr.manager import IoManager
from hilbridge.model import ntddser as ser
from hilbridge.model.codes import IrpMajor
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import LineSettings
from hilbridge.model.status import NtStatus
from hilbridge.virtual.line import UNLIMITED, VirtualLine

PortT = TypeVar("PortT", bound="Port")

MAX = ser.MAXULONG


class Port:
    """A virtual line, the serial driver on it, and one handle that reads and writes."""

    def __init__(
        self,
        *,
        line: VirtualLine | None = None,
        room: int = UNLIMITED,
        loop: bool = False,
        io_manager: type[IoManager] = IoManager,
        verify: bool | None = None,
        **plug: Any,
    ) -> None:
        self.bridge = Bridge.manual(io_manager=io_manager, verify=verify)
        self.machine = self.bridge.machine
        self.line = line or VirtualLine(loop=loop, room=room)
        self.name = self.bridge.plug(self.line, **plug)
        self.handle = self.bridge.open(self.name)

    @property
    def extension(self) -> SerialExtension:
        extension = next(d for d in self.bridge.stack(self.name) if d.driver_object.name == "serial").extension
        assert isinstance(extension, SerialExtension)
        return extension

    @property
    def milliseconds(self) -> float:
        """How late it is."""
        return self.bridge.ke.clock.now() / 1e6

    # -- what happens ------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The far end says something, and all that follows from it at this moment has happened."""
        self.line.feed(data)
        self.settle()

    def accept(self, count: int) -> None:
        """The far end makes room."""
        self.line.accept(count)
        self.settle()

    def unplug(self) -> None:
        """The cable is pulled, and everybody has heard of it."""
        self.line.unplug()
        self.settle()

    def settle(self) -> None:
        self.machine.run_until_idle()

    def pass_time(self, milliseconds: float) -> None:
        self.machine.advance(milliseconds / 1e3)

    # -- what is asked -----------------------------------------------------------------------------------------------

    def open(self, access: str = "r") -> Handle:
        return self.bridge.open(self.name, access=access)

    def set_timeouts(
        self,
        interval: int = 0,
        multiplier: int = 0,
        constant: int = 0,
        write_multiplier: int = 0,
        write_constant: int = 0,
    ) -> None:
        timeouts = ser.SerialTimeouts(interval, multiplier, constant, write_multiplier, write_constant)
        self.handle.ioctl(ser.IOCTL_SERIAL_SET_TIMEOUTS, timeouts.pack())

    def set_baud_rate(self, rate: int) -> Request:
        request = self.handle.submit_ioctl(ser.IOCTL_SERIAL_SET_BAUD_RATE, ser.pack_ulong(rate))
        self.settle()  # a setting is carried out by a work item, when its turn has come
        return request

    def purge(self, mask: int, handle: Handle | None = None) -> None:
        (handle or self.handle).ioctl(ser.IOCTL_SERIAL_PURGE, ser.pack_ulong(mask))

    def comm_status(self, handle: Handle | None = None) -> ser.SerialStatus:
        return ser.SerialStatus.unpack((handle or self.handle).ioctl(ser.IOCTL_SERIAL_GET_COMMSTATUS, size=20))

    def control(self, code: int, data: bytes = b"", *, size: int = 0, handle: Handle | None = None) -> Request:
        """A control request that has ended."""
        request = (handle or self.handle).submit_ioctl(code, data, size=size)
        self.settle()
        assert request.done, f"{request!r} has not ended"
        return request

    def close(self) -> None:
        self.bridge.close()


def end_of(request: Request) -> tuple[NtStatus, bytes]:
    """How a read ended; it has to have."""
    assert request.done, f"{request!r} has not ended"
    assert request.information == len(request.data)
    return request.status, request.data


def waits(*requests: Request) -> bool:
    """None of them has ended."""
    return not any(request.done for request in requests)


def fault_of(request: Request) -> HilbridgeError:
    """What an application is told."""
    try:
        data = request.result(0)
    except HilbridgeError as fault:
        return fault
    raise AssertionError(f"{request!r} did not fail: {data!r}")


def flush(port: Port) -> Request:
    """Start a flush and go on."""
    request = Request(port.handle, "flush")
    port.bridge.io.submit_simple(request, IrpMajor.FLUSH_BUFFERS)
    return request


def sent(port: Port) -> bytes:
    return bytes(port.line.sent)


def settings(baudrate: int = 115200, bytesize: int = 8, parity: str = "N", stopbits: float = 1) -> LineSettings:
    return LineSettings(baudrate, bytesize, parity, stopbits)


def numbered(count: int, start: int = 0) -> bytes:
    """`count` bytes in which none can be missing or doubled unnoticed: consecutive 16-bit numbers, cut anywhere."""
    first = start // 2
    whole = b"".join(n.to_bytes(2, "big") for n in (k & 0xFFFF for k in range(first, (start + count) // 2 + 1)))
    return whole[start - 2 * first :][:count]


def ports_of(kind: Callable[..., PortT]) -> Iterator[Callable[..., PortT]]:
    """For fixtures: makes ports as a test wants them, and closes them at the end.

    A mistake of the driver that no call has shown fails the test then; so does what a verifier has found.
    """
    ports: list[PortT] = []

    def make(**options: Any) -> PortT:
        ports.append(kind(**options))
        return ports[-1]

    yield make
    for port in ports:
        port.close()
        assert port.bridge.acknowledge_faults() == []
        assert port.bridge.findings == []
