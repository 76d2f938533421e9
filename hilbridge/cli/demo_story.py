"""``hilbridge demo --story``: one read, followed through the bridge in a real run on a real pseudo-terminal."""

from __future__ import annotations

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.request import Request
from hilbridge.observe.observed import observed_by
from hilbridge.observe.story import tell
from hilbridge.observe.trace import Trace
from hilbridge.testing.fixture import start_fixture

TIMEOUT = 10.0

HEAD = """\
The board answers "id" with 17 bytes. The application submits a read of 16 bytes and one of 1 byte, and writes "id".
This is the way of the first read, as the trace of this run has it:

"""


def story() -> str:
    """Run it, and tell. The text is the same in each run."""
    trace = Trace()
    with (
        start_fixture("boards/story") as board,
        # Without steering: a thread that waits would take its port's interrupts itself, and leave the poller out.
        Bridge(steering=False, **observed_by(trace)) as bridge,
    ):
        bridge.plug(board.port, name="COM1", upper_filters=["counter"])
        with bridge.open("COM1") as port:
            first = port.submit_read(16)
            second = port.submit_read(1)
            port.write(b"id\n", timeout=TIMEOUT)
            data = first.result(timeout=TIMEOUT)
            second.result(timeout=TIMEOUT)
    assert first.irp is not None
    return HEAD + tell(trace, first.irp.id, data, Request.result)
