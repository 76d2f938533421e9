"""`hilbridge.open`: one device, in a bridge of its own."""

from __future__ import annotations

from typing import Any

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.handle import Handle


def open_device(what: str, *, access: str = "rw", **settings: Any) -> Handle:
    """Open `what` (any moniker) in a bridge of its own, which closes with the handle.

    Settings have pyserial's names: ``baudrate bytesize parity stopbits``; default 115200 8N1.
    """
    bridge = Bridge()
    try:
        name = bridge.plug(what, **settings)
        return bridge._open(name, access, owns_bridge=True)
    except BaseException:
        bridge.close()
        raise
