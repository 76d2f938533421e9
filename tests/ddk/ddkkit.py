"""What the tests of the layer share: a bridge under the verifier, and a device of whose class the test says little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from hilbridge import Bridge, ddk
from hilbridge.bridge.handle import Handle
from hilbridge.iomgr.request import IoRequest
from hilbridge.model.codes import PnpMinor
from hilbridge.model.hardware import Line
from hilbridge.model.status import NtStatus
from tests.support import do

DeviceT = TypeVar("DeviceT", bound=ddk.Device)


class Bare(ddk.Device):
    """Keeps a diary of its hooks; `setup` makes its queues."""

    setup: Callable[[Any], object] = lambda self: None

    def __init__(self, init: ddk.DeviceInit) -> None:
        super().__init__(init)
        self.diary: list[str] = []
        self.kept: list[ddk.Request] = []
        self.cancelled: list[ddk.Request] = []
        type(self).setup(self)

    def prepare_hardware(self, resources: Any) -> None:
        self.diary.append("prepare")

    def release_hardware(self) -> None:
        self.diary.append("release")

    def d0_entry(self, previous: ddk.DevicePowerState) -> None:
        self.diary.append(f"entry from {previous.name}")

    def d0_exit(self, target: ddk.DevicePowerState) -> None:
        self.diary.append(f"exit to {target.name}")

    def surprise_removal(self) -> None:
        self.diary.append("surprise")

    def removed(self) -> None:
        self.diary.append("removed")

    def keep(self, request: ddk.Request) -> None:
        """A handler: for later, cancelable."""
        self.kept.append(request)
        request.on_cancel(self.cancel)

    def clutch(self, request: ddk.Request) -> None:
        """A handler: for later, and deaf to cancellation."""
        self.kept.append(request)

    def cancel(self, request: ddk.Request) -> None:
        self.cancelled.append(request)
        request.complete(ddk.STATUS_CANCELLED)


def bare(setup: Callable[[Any], object], **more: Any) -> type[Bare]:
    """A class of its own: tests do not share one."""
    return type("Made", (Bare,), {"setup": setup, "__module__": "tests.ddk.made", **more})


def irp_id(request: IoRequest) -> int:
    """Which IRP a request of an application is."""
    assert request.irp is not None
    return request.irp.id


def dpc(work: Callable[[], object], device: ddk.DeviceObject[Any] | None = None) -> ddk.Kdpc:
    """A DPC that does `work`."""
    return ddk.Kdpc(lambda *_: do(work), None, device)


class Setup:
    """One device with a driver of the layer, plugged into a manual bridge that verifies."""

    def __init__(self, bridge: Bridge, context: Bare, name: str) -> None:
        self.bridge = bridge
        self.device = context
        self.name = name
        self.pdo = context.physical_device

    def open(self, access: str = "rw") -> Handle:
        return self.bridge.open(self.name, access=access)

    def pnp(self, minor: PnpMinor, resources: Any = None) -> NtStatus:
        return self.bridge.io.send_pnp(self.pdo, minor, resources)

    def idle(self) -> None:
        self.bridge.machine.run_until_idle()


def plug(
    bridge: Bridge, device_class: type[DeviceT], name: str = "DUT", line: Line | None = None, **options: Any
) -> DeviceT:
    bridge.plug("virtual:null" if line is None else line, driver=ddk.driver(device_class, **options), name=name)
    return ddk.context_of(bridge.stack(name)[0], device_class)


@contextmanager
def plugged(
    device_class: type[Bare], line: Line | None = None, *, verify: Any = True, **options: Any
) -> Iterator[Setup]:
    """The bridge is closed at the end, and the verifier has found nothing."""
    with Bridge.manual(verify=verify) as bridge:
        yield Setup(bridge, plug(bridge, device_class, line=line, **options), "DUT")
        bridge.close()
        assert not bridge.findings, [str(finding) for finding in bridge.findings]
