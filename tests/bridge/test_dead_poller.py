"""A poller that dies takes nobody's request with it into silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hilbridge.bridge.bridge import Bridge
from hilbridge.kernel.dpc import Kdpc
from hilbridge.kernel.kernel import Kernel
from hilbridge.kernel.timer import Ktimer, relative_ms
from hilbridge.model.errors import InternalFault

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Mortal(Kernel):
    """A kernel whose timers break the poller's own loop."""

    def expire(self, timer: Ktimer) -> None:
        raise ZeroDivisionError("a mistake of ours")


@pytest.mark.parametrize("timeout", [30.0, None])
def test_a_request_that_waits_ends_and_later_ones_are_refused(timeout: float | None) -> None:
    bridge = Bridge(kernel=Mortal, steering=False)
    try:
        with bridge.open(bridge.plug("virtual:line")) as port:
            request = port.submit_read(3)
            bridge.ke.set_timer(Ktimer(), relative_ms(1), dpc=Kdpc(lambda *_: None))
            refused: list[Callable[[], object]] = [
                lambda: request.result(timeout),
                lambda: port.read(1, timeout=timeout),
                lambda: port.write(b"x", timeout=timeout),
                lambda: bridge.open("COM1"),
            ]
            for call in refused:
                with pytest.raises(InternalFault, match=r"poller died.*a mistake of ours"):
                    call()
    finally:
        bridge.close()
    assert [type(fault) for fault in bridge.acknowledge_faults()] == [InternalFault]
