"""Skeleton: a filter driver, which looks at the bytes of the device below it.

What it has no queue for passes by untouched. Change `written` and `received`, and it is yours.

    import hilbridge, skeleton
    with hilbridge.Bridge() as bridge:
        bridge.plug("virtual:loop", name="COM1", upper_filters=[skeleton])    # or "/dev/ttyUSB0"
        with bridge.open("COM1") as handle:
            handle.write(b"hello")
            print(handle.read(5), bridge.statistics()["drivers"]["COM1/skeleton"])
"""

from __future__ import annotations

from hilbridge import ddk


class Skeleton(ddk.Device):
    """One device of the filter, in one stack. Everything that it remembers is here."""

    def __init__(self, init: ddk.DeviceInit) -> None:
        """AddDevice: the filter stands on ``self.target`` already."""
        super().__init__(init)
        self.sent = self.heard = 0
        # Parallel: reads wait below for as long as they like, and hold up no write.
        self.requests = ddk.ParallelQueue(self, read=self.read, write=self.write)

    def statistics(self) -> dict[str, int]:
        """What ``Bridge.statistics()`` shows of this driver."""
        return {"sent": self.sent, "heard": self.heard}

    def write(self, request: ddk.Request) -> None:
        """On its way down."""
        request.forward(self.target, self.written)

    def written(self, request: ddk.Request, sent: ddk.Sent) -> None:
        """On its way up: complete it, with what came back or with something else."""
        self.sent += sent.information
        request.complete(sent.status, sent.information)

    def read(self, request: ddk.Request) -> None:
        """On its way down: nothing to see yet."""
        request.forward(self.target, self.received)

    def received(self, request: ddk.Request, sent: ddk.Sent) -> None:
        """On its way up: the bytes are in ``request.output[: sent.information]``, and may be changed there."""
        self.heard += sent.information
        request.complete(sent.status, sent.information)


driver_entry = ddk.driver(Skeleton, filter=True)
