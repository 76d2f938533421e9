"""A stage for one faulty driver: a verified bridge on the manual machine, and the ways to make a driver act."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from hilbridge import Bridge, HilbridgeError
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.request import Request
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.event import Kevent
from hilbridge.model.codes import (
    DISPATCH_LEVEL,
    DevicePowerState,
    IrpMajor,
    PnpMinor,
    PowerMinor,
    PowerStateType,
)
from hilbridge.model.device import DeviceObject
from hilbridge.model.irp import Irp
from hilbridge.model.parameters import NO_PARAMETERS, Parameters, PowerParameters
from hilbridge.model.status import STATUS_PENDING, STATUS_SUCCESS, NtStatus
from hilbridge.observe.verifier.options import Verify
from tests.support import Extension, TinyDriver, complete, pass_down

Device = DeviceObject[Extension]
Act = Callable[["Stage", bool], None]

CASES: dict[str, Act] = {}
"""Rule -> what shows it: called with True it breaks that rule and no other, with False none."""


def case(rule: str) -> Callable[[Act], Act]:
    """The scenario of a rule."""

    def register(act: Act) -> Act:
        assert rule not in CASES, f"there are two scenarios for {rule}"
        CASES[rule] = act
        return act

    return register


class Stage:
    """A bridge with the verifier, and at most a few devices."""

    def __init__(self) -> None:
        self.bridge = Bridge.manual(verify=Verify(fast_io=False))
        self.io, self.ke = self.bridge.io, self.bridge.ke
        self.drivers: list[TinyDriver] = []
        self.handles: list[Handle] = []

    def plug(
        self, routine: Any = None, major: IrpMajor = IrpMajor.READ, *, filters: tuple[Any, ...] = (), **options: Any
    ) -> Device:
        """Plug in a device whose driver has one dispatch routine of its own; returns it."""
        driver = TinyDriver("faulty", {} if routine is None else {major: routine}, **options)
        self.drivers.append(driver)
        self.bridge.plug("virtual:null", name="DUT", driver=driver, upper_filters=list(filters))
        return driver.device

    def open(self) -> Handle:
        handle = self.bridge.open("DUT")
        self.handles.append(handle)
        return handle

    def read(self, routine: Any, **options: Any) -> Request | None:
        """Plug, open, and submit one read of 4 bytes. None if it was refused."""
        self.plug(routine, **options)
        return self.submit()

    def submit(self) -> Request | None:
        request: Request | None = None
        with contextlib.suppress(HilbridgeError):
            request = self.open().submit_read(4)
        return request

    def pnp(self, minor: PnpMinor) -> None:
        with contextlib.suppress(HilbridgeError):
            self.io.send_pnp(self.drivers[-1].device, minor)

    def send(self, device: Device, major: IrpMajor, minor: int, parameters: Parameters = NO_PARAMETERS) -> Irp:
        """What the Plug and Play or power manager might send, to the top of the device's stack."""
        top = device.top
        irp = self.io.build_synchronous_fsd_request(major, top, Kevent(), minor=minor, parameters=parameters)
        with contextlib.suppress(HilbridgeError):
            self.io.call_driver(top, irp)
        return irp

    def at_dispatch(self, work: Callable[[], object]) -> None:
        with contextlib.suppress(HilbridgeError), self.ke.raised_irql(DISPATCH_LEVEL):
            work()

    def close(self) -> None:
        for handle in self.handles:
            with contextlib.suppress(HilbridgeError):
                handle.close()
        with contextlib.suppress(HilbridgeError):
            self.bridge.close()


def filter_with(routine: Any, major: IrpMajor = IrpMajor.READ, name: str = "filter", **options: Any) -> TinyDriver:
    """A filter driver that passes everything down, but for one major function."""
    dispatch: dict[IrpMajor, Any] = {m: pass_down for m in IrpMajor if m is not IrpMajor.PNP}
    dispatch[major] = routine
    if major is IrpMajor.PNP:
        return _PnpDriver(name, dispatch, routine, **options)
    return TinyDriver(name, dispatch, named=False, **options)


class _PnpDriver(TinyDriver):
    """A driver whose PnP routine is the test's; it is called with the one of `TinyDriver`, to call or not to call."""

    def __init__(
        self, name: str, dispatch: dict[IrpMajor, Any], routine: Any, *, named: bool = False, **options: Any
    ) -> None:
        del dispatch[IrpMajor.PNP]
        super().__init__(name, dispatch, named=named, **options)
        self._routine = routine

    def pnp(self, device: Device, irp: Irp) -> NtStatus:
        status: NtStatus = self._routine(device, irp, super().pnp)
        return status


def pnp_driver(routine: Any, name: str = "faulty") -> TinyDriver:
    """A function driver whose PnP routine is ``routine(device, irp, proper)``."""
    return _PnpDriver(name, {IrpMajor.PNP: None}, routine, named=True)


def hold(device: Device, irp: Irp) -> NtStatus:
    """Pend, as it should be, without a cancel routine."""
    irp.mark_pending()
    device.extension.held.append(irp)
    return STATUS_PENDING


def end(device: Device, status: NtStatus = STATUS_SUCCESS, information: int = 0) -> None:
    """Complete what is held."""
    complete(device, device.extension.held.pop(), status, information)


def end_from_dpc(device: Device) -> None:
    """The same as the driver of `device` would do it: in a DPC of its own, whoever's thread that runs on."""

    def routine(_dpc: Kdpc, _context: object, _a: object, _b: object) -> None:
        end(device)

    device.ke.insert_queue_dpc(Kdpc(routine, None, device))


D3 = PowerParameters(PowerStateType.DEVICE, DevicePowerState.D3)


def send_power(
    stage: Stage, *routines: Any, minor: int = PowerMinor.SET_POWER, parameters: PowerParameters = D3
) -> Device:
    """Send a power request through filters with these dispatch routines, bottom first. Returns the function driver's device."""
    filters = tuple(filter_with(power, IrpMajor.POWER, f"filter{n}") for n, power in enumerate(routines))
    device = stage.plug(filters=filters)
    stage.send(device, IrpMajor.POWER, minor, parameters)
    return device
