"""Put a driver through its paces: everything that an application may do with a device, on virtual hardware and virtual time.

What a driver answers is its own affair. What counts is what the verifier finds, and whether it raises or hangs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.handle import Handle
from hilbridge.model.codes import FILE_DEVICE_UNKNOWN
from hilbridge.model.errors import DeviceBusy, DriverFault, HilbridgeError
from hilbridge.model.ioctl import ctl_code
from hilbridge.model.status import STATUS_INSUFFICIENT_RESOURCES
from hilbridge.observe.verifier.finding import Finding
from hilbridge.observe.verifier.options import Verify
from hilbridge.pnp.registry import DriverLike
from hilbridge.virtual.line import VirtualLine

NAME = "DUT"
SECONDS = 1.0
"""Virtual time that is given to a request to end."""


def exercise(driver: DriverLike, options: Verify) -> tuple[list[Finding], list[str]]:
    """Plug `driver` in, use it, and take it down, once for each way of ending. Returns the findings, and its other faults.

    Raises `UsageFault` if there is no such driver.
    """
    findings: dict[tuple[str, str, str | None], Finding] = {}
    faults: list[str] = []
    for ending in (_orderly, _closed_with_requests, _surprise, _stopped, _surprise_while_stopped):
        bridge = Bridge.manual(verify=options)
        try:
            bridge.plug(VirtualLine("virtual:exercise", loop=True), name=NAME, driver=driver)
            with contextlib.suppress(HilbridgeError):
                ending(bridge)
        except DriverFault as fault:
            if fault.status != STATUS_INSUFFICIENT_RESOURCES or options.seed is None:  # that was asked for
                faults.append(str(fault))
        finally:
            with contextlib.suppress(HilbridgeError):
                bridge.close()
        for finding in bridge.findings:
            findings.setdefault((finding.rule.name, finding.driver, finding.place), finding)
        faults += [
            str(fault) for fault in bridge.faults if not (isinstance(fault, DriverFault) and fault.finding is not None)
        ]
    return list(findings.values()), list(dict.fromkeys(faults))


def _orderly(bridge: Bridge) -> None:
    """Each request by itself, ended before the next."""
    for access in ("r", "w", "rw"):
        with _opened(bridge, access) as handle:
            _each(handle)
    with _opened(bridge, "rw") as handle:
        request = handle.submit_read(16)
        bridge.machine.run_until_idle()
        request.cancel()
        bridge.machine.run_until_idle()
    bridge.unplug(NAME)


def _each(handle: Handle) -> None:
    requests: list[Callable[[], object]] = [
        lambda: handle.write(b"exercise", timeout=SECONDS),
        lambda: handle.read(4, timeout=SECONDS),
        lambda: handle.read(0, timeout=SECONDS),
        lambda: handle.read(64, timeout=SECONDS),
        lambda: handle.flush(timeout=SECONDS),
    ]
    for function in (0x800, 0x801):
        for method in range(4):
            code = ctl_code(FILE_DEVICE_UNKNOWN, function, method, 0)
            requests.append(lambda code=code: handle.ioctl(code, b"data", size=16, timeout=SECONDS))  # type: ignore[misc]
    for request in requests:
        with contextlib.suppress(HilbridgeError):
            request()


def _closed_with_requests(bridge: Bridge) -> None:
    """Two handles, of which one is closed while its requests wait."""
    with _opened(bridge, "r") as other, _opened(bridge, "rw") as handle:
        waiting = [handle.submit_read(64) for _ in range(3)]
        other.submit_read(64)
        with contextlib.suppress(HilbridgeError):
            handle.submit_write(b"x" * 64)
        bridge.machine.run_until_idle()
        waiting[1].cancel()
        handle.close()
        bridge.machine.run_until_idle()


def _surprise(bridge: Bridge) -> None:
    """The device goes while handles are open and requests wait."""
    with _opened(bridge, "rw") as handle:
        handle.submit_read(64)
        bridge.machine.run_until_idle()
        bridge.unplug(NAME)
        with contextlib.suppress(HilbridgeError):
            handle.read(1, timeout=SECONDS)


def _stopped(bridge: Bridge) -> None:
    """The device is stopped and started with a handle open and a request waiting, and is removed in good order."""
    with _opened(bridge, "rw") as handle:
        waiting = handle.submit_read(64)
        _stop(bridge)
        held = [handle.submit_read(4), handle.submit_read(4)]
        bridge.machine.run_until_idle()
        held[0].cancel()
        with contextlib.suppress(HilbridgeError):
            handle.write(b"held", timeout=SECONDS)
        with contextlib.suppress(HilbridgeError):
            bridge.start(NAME)
        bridge.machine.run_until_idle()
        with contextlib.suppress(HilbridgeError):
            handle.write(b"exercise", timeout=SECONDS)
        waiting.cancel()
        bridge.machine.run_until_idle()
        with contextlib.suppress(DeviceBusy):  # it is open: nobody is asked
            bridge.remove(NAME)
    with contextlib.suppress(DeviceBusy):  # its driver may refuse
        bridge.remove(NAME)


def _surprise_while_stopped(bridge: Bridge) -> None:
    """The device goes while it is stopped and requests are held."""
    with _opened(bridge, "rw") as handle:
        _stop(bridge)
        handle.submit_read(4)
        bridge.machine.run_until_idle()
        bridge.unplug(NAME)
        bridge.machine.run_until_idle()


def _stop(bridge: Bridge) -> None:
    with contextlib.suppress(DeviceBusy):  # its driver may refuse
        bridge.stop(NAME)
    bridge.machine.run_until_idle()


@contextlib.contextmanager
def _opened(bridge: Bridge, access: str) -> Iterator[Handle]:
    handle = bridge.open(NAME, access=access)
    try:
        yield handle
    finally:
        with contextlib.suppress(HilbridgeError):
            handle.close()
