"""hilbridge: the Windows driver model in user space, on real serial ports and USB devices.

```python
import hilbridge

with hilbridge.open("/dev/ttyUSB0", baudrate=115200) as dut:
    con = dut.console(prompt="=> ")
    print(con.command("version"))
```
"""

from __future__ import annotations

from hilbridge.bridge.bridge import Bridge
from hilbridge.bridge.handle import Handle
from hilbridge.bridge.opening import open_device as open  # noqa: A004 - the name that users expect
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

__all__ = [
    "Bridge",
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
    "Handle",
    "HilbridgeError",
    "InternalFault",
    "NameNotFound",
    "Request",
    "RequestCancelled",
    "UsageFault",
    "open",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from hilbridge._version import version  # noqa: PLC0415 - reading it takes longer than all the rest

        return version()
    raise AttributeError(f"module 'hilbridge' has no attribute {name!r}")
