"""``loop://``, ``spy://``: any pyserial object, asked with blocking calls by two threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hilbridge.hal.oserrors import OPEN, REFUSALS, fault_from
from hilbridge.hal.pump import CHUNK, PumpedLine, log
from hilbridge.hal.pyserial import check_settings, serial, store_settings
from hilbridge.model.hardware import LineSettings

if TYPE_CHECKING:
    from serial.serialutil import SerialBase


class BlockingLine(PumpedLine):
    """Any pyserial object: one thread of ours blocks in its read(). Made by `open_pumped_line`."""

    def __init__(self, url: str, settings: LineSettings, port: SerialBase, *, flush_on_open: bool) -> None:
        super().__init__(url, settings)
        self._port = port
        self._flush = flush_on_open
        self._source = threading.Lock()
        """Held while bytes that are known to be there are read, so that nobody takes them away in between."""
        self._receiver = threading.Thread(target=self._receive_all, name=f"receive {url}", daemon=True)

    def _start(self) -> None:
        port = self._port
        if not self._flush:
            # Where there is a real port behind (spy://), opening would throw away what it has received.
            port._reset_input_buffer = lambda: None
        port.open()
        if not self._flush:
            del port._reset_input_buffer
        try:
            self._modem = isinstance(port.cts, bool)
        except REFUSALS:
            self._modem = False
        self._transmitter.start()
        self._receiver.start()

    def _receive_all(self) -> None:
        failure: BaseException | None = None
        try:
            # A blocking read of one byte returns nothing only if it was cancelled or its port was closed.
            while (first := self._port.read(1)) and self._receive(first):
                with self._source:
                    waiting = self._port.in_waiting
                    more = self._port.read(min(waiting, CHUNK)) if waiting else b""
                if more and not self._receive(more):
                    break
        except BaseException as exc:  # noqa: BLE001 - latched, and raised where the line is read
            failure = exc
        self._receive_ended(failure)

    def _purge_received(self) -> None:
        with self._source:
            super()._purge_received()

    def _stop_receiving(self) -> None:
        self._try("cancel_read")

    def _interrupt(self) -> None:
        self._try("cancel_read")
        self._try("cancel_write")
        if self._receiver.ident is not None:
            self._join(self._receiver)
        if self._transmitter.is_alive():
            # loop:// does not look at cancel_write() while it waits for room: make room.
            self._transmitter.join(0.1)
            if self._transmitter.is_alive():
                self._try("reset_output_buffer")

    def _try(self, method: str) -> None:
        try:
            getattr(self._port, method)()
        except Exception as exc:  # noqa: BLE001 - each handler has its own way of refusing; what matters is the thread's end
            log.debug("%s: %s: %r", self.name, method, exc)


def open_blocking_line(url: str, settings: LineSettings, *, flush_on_open: bool = False) -> BlockingLine:
    """Open any pyserial URL. Raises `DeviceFault`; no thread is left then."""
    check_settings(url, settings)
    try:
        port = serial.serial_for_url(url, do_not_open=True, exclusive=True)
        store_settings(port, settings)
        line = BlockingLine(url, settings, port, flush_on_open=flush_on_open)
    except REFUSALS as exc:  # the URL does not say what its handler wants to hear
        raise fault_from(exc, name=url, doing=OPEN) from exc
    line.open()
    return line
