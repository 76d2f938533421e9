"""IRP_MJ_SYSTEM_CONTROL: what the port publishes, under the names and GUIDs of Windows' serial ports.

The blocks are those of Microsoft's serial sample, and the properties those of the MSSerial_* classes in the Windows SDK's
wmidata.h, where numbers have the meaning that they have there (parity and stop bits are not numbered as in ntddser.h!). A
property that this driver does not know is left out: what an OS does with XON and XOFF, which rates an adapter can do, how
many framing errors a tty has swallowed. So is the number of bytes sent, which nobody counts.
"""

from __future__ import annotations

from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.drivers.serial.info import LARGEST_QUEUE
from hilbridge.iomgr.wmi import wmi_dispatch
from hilbridge.kernel.interrupt import InterruptMode
from hilbridge.model.codes import WmiRegAction
from hilbridge.model.device import DeviceObject
from hilbridge.model.errors import DeviceFault, DeviceGone
from hilbridge.model.status import STATUS_DEVICE_NOT_READY
from hilbridge.model.wmi import WmiBlock, WmiProvider

PORT_NAME_GUID = "{A0EC11A8-B16C-11D1-BD98-00A0C906BE2D}"
COMM_INFO_GUID = "{EDB16A62-B16C-11D1-BD98-00A0C906BE2D}"
HARDWARE_GUID = "{270B9B86-B16D-11D1-BD98-00A0C906BE2D}"
PERFORMANCE_GUID = "{56415ACC-B16D-11D1-BD98-00A0C906BE2D}"
PROPERTIES_GUID = "{8209EC2A-2D6B-11D2-BA49-00A0C9062910}"

_PARITY = {"N": 0, "O": 1, "E": 2, "S": 3, "M": 4}
_STOP_BITS = {1.0: 0, 1.5: 1, 2.0: 2}
_LATCHED, _LEVEL = 0, 1
_SP_SERIALCOMM = 1

Port = DeviceObject[SerialExtension]
Properties = dict[str, object]


def register(device: Port) -> None:
    """The port has started, and may be asked."""
    device.io.wmi_registration_control(device, WmiRegAction.REGISTER)


def deregister(device: Port) -> None:
    """The port stops. Also when it was not registered: it has not started, or it was unplugged before it was removed."""
    if device.io.wmi_registered(device):
        device.io.wmi_registration_control(device, WmiRegAction.DEREGISTER)


def _without_hardware(extension: SerialExtension) -> DeviceFault:
    if extension.serving:
        return DeviceFault(f"{extension.port_name} is stopped: its hardware is lent", status=STATUS_DEVICE_NOT_READY)
    return DeviceGone(f"{extension.port_name} is gone")


def port_name(device: Port) -> Properties:
    """MSSerial_PortName."""
    return {"PortName": device.extension.port_name}


def comm_info(device: Port) -> Properties:
    """MSSerial_CommInfo: how the line is programmed now."""
    extension = device.extension
    with extension.line_lock:
        line = extension.line
        if line is None:
            raise _without_hardware(extension)
        modem_lines = line.has_modem_lines
    with extension.lock:
        settings = extension.settings
        busy = extension.writer is not None or bool(extension.readers)
    return {
        "BaudRate": settings.baudrate,
        "BitsPerByte": settings.bytesize,
        "Parity": _PARITY[settings.parity],
        "StopBits": _STOP_BITS[float(settings.stopbits)],
        "MaximumInputBufferSize": extension.log_size,
        "Support16BitMode": False,
        "SupportDTRDSR": modem_lines,
        "SupportIntervalTimeouts": True,
        "SupportRTSCTS": modem_lines,
        "SettableFlowControl": False,  # it is chosen when the port is plugged in
        "IsBusy": busy,
    }


def hardware(device: Port) -> Properties:
    """MSSerial_HardwareConfiguration: the interrupt. There is no I/O address, and any processor serves the vector."""
    interrupt = device.extension.interrupt
    if interrupt is None:
        raise _without_hardware(device.extension)
    return {
        "IrqVector": interrupt.vector.number,
        "IrqLevel": interrupt.vector.irql,
        "InterruptType": _LATCHED if interrupt.mode is InterruptMode.LATCHED else _LEVEL,
    }


def performance(device: Port) -> Properties:
    """MSSerial_PerformanceInformation. In Windows it counts from the last open; here from the start of the port."""
    extension = device.extension
    with extension.lock:
        extension.absorb()
        return {"ReceivedCount": extension.log.end}


def properties(device: Port) -> Properties:
    """MSSerial_CommProperties. A queue without a limit is 0."""
    size = device.extension.log_size
    return {"dwServiceMask": _SP_SERIALCOMM, "dwMaxTxQueue": 0, "dwMaxRxQueue": LARGEST_QUEUE, "dwCurrentRxQueue": size}


PROVIDER = WmiProvider(
    {
        PORT_NAME_GUID: WmiBlock("MSSerial_PortName", port_name),
        COMM_INFO_GUID: WmiBlock("MSSerial_CommInfo", comm_info),
        HARDWARE_GUID: WmiBlock("MSSerial_HardwareConfiguration", hardware),
        PERFORMANCE_GUID: WmiBlock("MSSerial_PerformanceInformation", performance),
        PROPERTIES_GUID: WmiBlock("MSSerial_CommProperties", properties),
    }
)
system_control = wmi_dispatch(PROVIDER)
