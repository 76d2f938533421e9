"""hilbridge: the Windows driver model in user space, on real serial ports and USB devices.

```python
import hilbridge

with hilbridge.open("/dev/ttyUSB0", baudrate=115200) as dut:
    con = dut.console(prompt="=> ")
    print(con.command("version"))
```

The names below are imported when they are first used: a program that needs the scripted boards only, or one verb of the
command line, does not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hilbridge.bridge.bridge import Bridge
    from hilbridge.bridge.console import Console
    from hilbridge.bridge.expect import ExpectMismatch, ExpectTimeout
    from hilbridge.bridge.handle import Handle
    from hilbridge.bridge.opening import open_device as open
    from hilbridge.bridge.request import Request
    from hilbridge.model.errors import (
        BridgeClosed,
        BugCheck,
        ConfigError,
        DataLost,
        Deadlock,
        DeviceBusy,
        DeviceFault,
        DeviceGone,
        DeviceNotFound,
        DevicePermission,
        DeviceTimeout,
        DeviceUnsupported,
        DriverFault,
        HilbridgeError,
        InternalFault,
        NameNotFound,
        RequestCancelled,
        UsageFault,
    )

    __version__: str

_ERRORS = (
    "BridgeClosed",
    "BugCheck",
    "ConfigError",
    "DataLost",
    "Deadlock",
    "DeviceBusy",
    "DeviceFault",
    "DeviceGone",
    "DeviceNotFound",
    "DevicePermission",
    "DeviceTimeout",
    "DeviceUnsupported",
    "DriverFault",
    "HilbridgeError",
    "InternalFault",
    "NameNotFound",
    "RequestCancelled",
    "UsageFault",
)
_WHERE = {name: ("hilbridge.model.errors", name) for name in _ERRORS} | {
    "Bridge": ("hilbridge.bridge.bridge", "Bridge"),
    "Console": ("hilbridge.bridge.console", "Console"),
    "ExpectMismatch": ("hilbridge.bridge.expect", "ExpectMismatch"),
    "ExpectTimeout": ("hilbridge.bridge.expect", "ExpectTimeout"),
    "Handle": ("hilbridge.bridge.handle", "Handle"),
    "Request": ("hilbridge.bridge.request", "Request"),
    "open": ("hilbridge.bridge.opening", "open_device"),
}

__all__ = [
    "Bridge",
    "BridgeClosed",
    "BugCheck",
    "ConfigError",
    "Console",
    "DataLost",
    "Deadlock",
    "DeviceBusy",
    "DeviceFault",
    "DeviceGone",
    "DeviceNotFound",
    "DevicePermission",
    "DeviceTimeout",
    "DeviceUnsupported",
    "DriverFault",
    "ExpectMismatch",
    "ExpectTimeout",
    "Handle",
    "HilbridgeError",
    "InternalFault",
    "NameNotFound",
    "Request",
    "RequestCancelled",
    "UsageFault",
    "open",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from hilbridge._version import version

        return version()
    if name not in _WHERE:
        raise AttributeError(f"module 'hilbridge' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
