"""The continuous reader (WdfUsbTargetPipeConfigContinuousReader): reads on a target that never stop while the device works.

So many reads are always out, so that nothing that the other device says finds nobody reading. Their outcomes are handed to the
driver one after the other, in the order in which the reads were sent, whatever threads they come back on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hilbridge.kernel.culprit import calls_driver
from hilbridge.kernel.event import Kevent
from hilbridge.kernel.remlock import PATIENCE
from hilbridge.model.codes import DO_STREAM_READ
from hilbridge.model.parameters import ReadParameters
from hilbridge.model.status import NtStatus

if TYPE_CHECKING:
    from hilbridge.ddk.device import Device
    from hilbridge.ddk.target import IoTarget, Sent


class ContinuousReader:
    """`on_data(data)` is called for each read that has brought something, up to DISPATCH_LEVEL, and never for two at a time.

    It runs while its device is in D0, and is stopped before `Device.d0_exit`. A read that fails stops it: when the others have
    come back too, ``on_error(status)`` is asked at PASSIVE_LEVEL (EvtUsbTargetPipeReadersFailed) whether to start again;
    without one it stays stopped, and says why in `failed`.
    """

    def __init__(
        self,
        target: IoTarget,
        on_data: Callable[[bytes], object],
        *,
        length: int = 4096,
        pending: int = 2,
        on_error: Callable[[NtStatus], bool] | None = None,
    ) -> None:
        self.target = target
        self.device: Device = target.device
        self.length = length
        self.pending = pending
        """NumPendingReads: how many reads are out at a time."""
        self.failed: NtStatus | None = None
        """Why it has stopped by itself."""
        self.running = False
        self._on_data, self._on_error = on_data, on_error
        self._lock = self.device.ke.spin_lock()
        self._out: dict[int, Sent | None] = {}
        """Reads that have not come back, by number."""
        self._back: dict[int, Sent] = {}
        """Reads that have, and whose turn has not come."""
        self._sent = self._told = 0
        self._pumping = False
        self._idle = Kevent(signaled=True)
        self._item = self.device.io.allocate_work_item(self.device.device_object)
        # A stream's read ends with what is there; any other device decides by itself how much it says at a time.
        minimum = 1 if target.device_object.flags & DO_STREAM_READ else 0
        self._parameters = ReadParameters(length, 0, 0, minimum)
        self.device.add_reader(self)

    def __repr__(self) -> str:
        return f"<continuous reader of {self.target.device_object!r}, {len(self._out)} reads out>"

    def start(self) -> None:
        """Send the reads. The device does so when it enters D0."""
        with self._lock:
            self.running = True
            self.failed = None
        self._pump()

    def stop(self, timeout: float = PATIENCE) -> None:
        """At PASSIVE_LEVEL: cancel the reads, and wait for them. What they have brought is told still."""
        self.quit()
        if not self.device.ke.wait_for_single_object(self._idle, timeout):
            self.target.wait_until_idle(0)  # who has the reads is reported

    def quit(self) -> None:
        """Cancel the reads, and send no more."""
        with self._lock:
            self.running = False
            out = [sent for sent in self._out.values() if sent is not None]
        for sent in out:
            sent.cancel()

    def _pump(self) -> None:
        """Tell what has come, and send again, until there is nothing to do. Whoever is at it already does it for us."""
        with self._lock:
            if self._pumping:
                return
            self._pumping = True
        ask = False
        try:
            while True:
                with self._lock:
                    sent = self._back.pop(self._told, None)
                    number = None
                    if sent is not None:
                        self._told += 1
                    elif self.running and self._sent - self._told < self.pending:
                        number, self._sent = self._sent, self._sent + 1
                        self._out[number] = None
                        self._idle.clear()
                    else:
                        self._pumping = False
                        ended = self._sent == self._told
                        ask = ended and not self.running and self.failed is not None and self._on_error is not None
                        if ended:
                            self._idle.set()
                        break
                if sent is not None:
                    self._tell(sent)
                elif number is not None:
                    self._send(number)
        except BaseException:
            self._pumping = False
            raise
        if ask:
            self._ask_later()

    def _send(self, number: int) -> None:
        sent = self.target.submit_read(self.length, partial(self._came, number), parameters=self._parameters)
        with self._lock:
            stopped = not self.running
            if number in self._out:
                self._out[number] = sent
        if stopped:
            sent.cancel()

    def _came(self, number: int, sent: Sent) -> None:
        with self._lock:
            self._out.pop(number, None)
            self._back[number] = sent
        self._pump()

    @calls_driver("completion", "its reader's on_data", lambda frame: frame["self"].device.device_object)
    def _tell(self, sent: Sent) -> None:
        if sent.status.is_success:
            if sent.data:
                try:
                    self._on_data(sent.data)
                except Exception as error:  # noqa: BLE001 - latched
                    self.device.io.fault(self.device.device_object, error, "its reader's on_data")
                    with self._lock:
                        self.running = False
            return
        with self._lock:
            failed, self.running = self.running, False
            if failed:
                self.failed = sent.status
            out = [other for other in self._out.values() if other is not None]
        for other in out:
            other.cancel()

    def _ask_later(self) -> None:
        if not self._item.queued:
            self.device.io.queue_work_item(self._item, self._ask)

    def _ask(self, _device: Any, _context: Any) -> None:
        with self._lock:
            status, self.failed = self.failed, None
        if status is None or self._on_error is None:
            return
        again = self._on_error(status)
        with self._lock:
            self.failed = None if again else status
            again = again and self.device.in_d0
        if again:
            self.start()
