"""Control requests at random, from a fixed seed: whatever comes, each ends once, with a status, and nothing is left."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hilbridge import Request
from hilbridge.drivers.serial.ioctl import CONTROLS
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import HilbridgeError
from hilbridge.model.hardware import MSR_CTS, MSR_DCD, MSR_DSR, MSR_RI
from hilbridge.model.status import STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER
from tests.drivers.serial.stopkit import MakePort, StopPort

CODES = sorted(CONTROLS)
STEPS = 400


def random_code(rng: random.Random) -> int:
    if rng.random() < 0.9:
        return rng.choice(CODES)
    return rng.choice([rng.getrandbits(32), ser.IOCTL_SERIAL_SET_BAUD_RATE ^ 1 << rng.randrange(32)])


def random_payload(rng: random.Random, needs: int) -> bytes:
    length = max(0, needs + rng.choice([-1, 0, 0, 0, 0, 1, 20]))
    kind = rng.random()
    if kind < 0.4:  # small numbers and few bits are where the meaning is
        return b"".join((1 << rng.randrange(16)).to_bytes(4, "little") for _ in range(length // 4 + 1))[:length]
    if kind < 0.6:
        return bytes([rng.choice([0, 255])]) * length
    return rng.randbytes(length)


def submit(port: StopPort, rng: random.Random, requests: list[Request]) -> None:
    code = random_code(rng)
    control = CONTROLS.get(code)
    needs, returns = (control.needs, control.returns) if control is not None else (4, 4)
    data, room = random_payload(rng, needs), max(0, returns + rng.choice([-1, 0, 0, 0, 50]))
    try:
        request = port.handle.submit_ioctl(code, data, size=room)
    except HilbridgeError:
        assert control is None  # a code may ask for an access that the handle has not, or for another method
        return
    requests.append(request)
    if control is None and request.done:
        assert request.status.is_error
    if control is not None and (len(data) < control.needs or room < control.returns):
        assert request.done
        assert request.status == STATUS_BUFFER_TOO_SMALL


def disturb(port: StopPort, rng: random.Random, requests: list[Request]) -> None:
    """What happens meanwhile."""
    actions: list[Callable[[], object]] = [
        lambda: port.line.feed(rng.randbytes(rng.randrange(1, 40))),
        lambda: port.line.accept(rng.randrange(1, 9)),
        lambda: port.line.set_modem_status(rng.getrandbits(8) & (MSR_CTS | MSR_DSR | MSR_RI | MSR_DCD)),
        lambda: port.pass_time(rng.choice([1, 10, 50, 200])),
        lambda: requests.append(port.handle.submit_write(rng.randbytes(rng.randrange(1, 9)))),
        lambda: requests.append(port.handle.submit_read(rng.randrange(1, 9))),
        lambda: rng.choice(requests).cancel() if requests else None,
        port.settle,
    ]
    rng.choice(actions)()


@pytest.mark.parametrize("ending", ["close", "unplug", "remove while stopped"])
@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_ends_once(make_stop_port: MakePort, seed: int, ending: str) -> None:
    rng = random.Random(f"{seed} {ending}")
    port = make_stop_port(verify=True, room=20)
    requests: list[Request] = []
    stopped = False
    for step in range(STEPS):
        (submit if rng.random() < 0.7 else disturb)(port, rng, requests)
        if step % 100 == 99:
            port.line.unsent = 0
            if stopped:
                port.start()
            else:
                port.purge(ser.SERIAL_PURGE_TXABORT)
                port.stop()
            stopped = not stopped
    port.settle()
    if ending == "close":
        if stopped:
            port.start()
        port.handle.close()
    else:
        if ending == "remove while stopped" and not stopped:
            port.stop()
        port.bridge.unplug(port.name)
    port.settle()
    assert [request for request in requests if not request.done] == []
    assert not port.bridge.faults
    assert port.bridge.pending() == []
    assert {r.status for r in requests} >= {STATUS_INVALID_PARAMETER, STATUS_BUFFER_TOO_SMALL}
