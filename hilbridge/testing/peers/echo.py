"""The pty echo.

It alone has a thread of its own, because round trips are measured against it: a blocking read and a blocking write are
all that it does per message, and a poll between them costs a tenth of the whole.
"""

from __future__ import annotations

import os
import termios
import threading

from hilbridge.model.errors import DeviceFault, DeviceGone
from hilbridge.testing.peers.base import CHUNK, Done, Peer, Pty, spoken

_HANGUP_DEADLINE = 2.0


class EchoPeer(Peer):
    """Sends everything back, with as little between reading and writing as Python allows."""

    def __init__(self) -> None:
        self._pty = Pty()
        self.nodes = (self._pty.node,)
        os.set_blocking(self._pty.keeper, False)
        self._unplugged: list[bool] = []  # its truth is the cheapest flag that there is
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        read, write, master, unplugged = os.read, os.write, self._pty.master, self._unplugged
        try:
            while True:
                data = read(master, CHUNK)
                if unplugged:
                    return
                sent = write(master, data)
                while sent < len(data):
                    sent += write(master, data[sent:])
        except BaseException:  # noqa: BLE001  # the end of the process is how this thread tells
            if not unplugged:  # a dead echo in a living process would look like a fault of the program under test
                import traceback

                traceback.print_exc()
                os._exit(70)

    def say(self, what: object, now_ns: int, done: Done) -> None:
        """What is said goes into the client's end: the echo thread remains the only one that uses the master."""
        if not self._pty.open:
            done(DeviceGone("the port was unplugged"))
            return
        data = spoken(what)
        try:
            sent = os.write(self._pty.keeper, data)
        except BlockingIOError:
            sent = 0
        done(None if sent == len(data) else DeviceFault(f"the port took {sent} of {len(data)} bytes: it is full"))

    def hang_up(self, done: Done) -> None:
        if self._pty.open:
            self._stop()
        done(None)

    def _stop(self) -> None:
        """Close the pty while a thread is blocked in it.

        Closing a descriptor does not wake a thread that reads it: the pty would live on, and no client would see a
        hang-up. So the thread is woken first. If it waits in read(), a byte from the client's end wakes it. If it waits
        in write() because the client does not read, throwing away what the client has not read makes room. In that
        case the byte may find no room itself, but then read() does not block either.
        """
        self._unplugged.append(True)
        try:
            os.write(self._pty.keeper, b"\0")
        except BlockingIOError:
            pass
        termios.tcflush(self._pty.keeper, termios.TCIFLUSH)
        self._thread.join(_HANGUP_DEADLINE)
        if self._thread.is_alive():
            raise DeviceFault("the echo does not let go of its pty")
        self._pty.close()
