"""What a port says of itself: its properties, the size of its queue, its outputs as a register."""

from __future__ import annotations

from hilbridge.drivers.serial.control import Answer, Request
from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.drivers.serial.flow import check_outputs, drive
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceUnsupported
from hilbridge.model.hardware import MSR_CTS, MSR_DSR, Line
from hilbridge.model.status import (
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
)

LARGEST_QUEUE = 1 << 30
"""What SET_QUEUE_SIZE grants. The limits of SERIAL_HANDFLOW are fractions of it, and are signed."""


def get_properties(request: Request) -> Answer:
    """IOCTL_SERIAL_GET_PROPERTIES. What depends on the line beyond its modem lines is only found out by setting it."""
    extension = request.extension
    modem = request.on_line(lambda line: line.has_modem_lines)
    capabilities = ser.SERIAL_PCF_XONXOFF | ser.SERIAL_PCF_TOTALTIMEOUTS | ser.SERIAL_PCF_INTTIMEOUTS
    if modem:
        capabilities |= ser.SERIAL_PCF_DTRDSR | ser.SERIAL_PCF_RTSCTS | ser.SERIAL_PCF_CD
    return ser.SerialCommProp(
        max_rx_queue=LARGEST_QUEUE,
        prov_sub_type=ser.SERIAL_SP_RS232 if modem else ser.SERIAL_SP_UNSPECIFIED,
        prov_capabilities=capabilities,
        current_rx_queue=extension.log_size,
    ).pack()


def set_queue_size(request: Request) -> Answer:
    """IOCTL_SERIAL_SET_QUEUE_SIZE. The receive queue grows, and never shrinks; the transmit queue has no size.

    With another size the limits of SERIAL_HANDFLOW are what they are at first, fractions of it.
    """
    extension = request.extension
    size = ser.unpack_ulong(request.data)
    if size > LARGEST_QUEUE:
        return STATUS_INSUFFICIENT_RESOURCES
    with extension.lock:
        if size > extension.log_size:
            extension.log_size = size
            extension.limits = None
            extension.watch_receiver()  # there is room now
    return STATUS_SUCCESS


def get_config_size(_request: Request) -> Answer:
    """IOCTL_SERIAL_CONFIG_SIZE: there is no provider-specific configuration."""
    return ser.pack_ulong(0)


def reset_device(_request: Request) -> Answer:
    """IOCTL_SERIAL_RESET_DEVICE: accepted without effect, as in Microsoft's serial sample."""
    return STATUS_SUCCESS


def get_modem_control(request: Request) -> Answer:
    """IOCTL_SERIAL_GET_MODEM_CONTROL: a UART's modem control register, as far as it has been set here."""
    if not request.on_line(lambda line: line.has_modem_lines):
        raise DeviceUnsupported(f"{request.extension.port_name} has no modem control register: no DTR, no RTS")
    return ser.pack_ulong(request.extension.modem_control)


def set_modem_control(request: Request) -> Answer:
    """IOCTL_SERIAL_SET_MODEM_CONTROL: DTR and RTS at once. The register's other bits are not the line's to set."""
    register, extension = ser.unpack_ulong(request.data), request.extension
    if register & ~ser.SERIAL_MCR_ALL:
        return STATUS_INVALID_PARAMETER
    for name, bit in (("OUT1", ser.SERIAL_MCR_OUT1), ("OUT2", ser.SERIAL_MCR_OUT2), ("LOOP", ser.SERIAL_MCR_LOOP)):
        if register & bit:
            raise DeviceUnsupported(f"{extension.port_name}: SERIAL_MCR_{name} is not supported: no line has it")
    dtr, rts = bool(register & ser.SERIAL_DTR_STATE), bool(register & ser.SERIAL_RTS_STATE)
    check_outputs(extension, dtr=dtr, rts=rts)
    request.on_line(lambda line: drive(extension, line, dtr=dtr, rts=rts))
    return STATUS_SUCCESS


def hold_reasons(extension: SerialExtension, line: Line) -> int:
    """SERIAL_STATUS.HoldReasons: why the line sends nothing, as far as can be seen. Whether an Xoff holds it cannot."""
    reasons = ser.SERIAL_TX_WAITING_ON_BREAK if extension.break_on else 0
    settings = extension.settings
    if (settings.rtscts or settings.dsrdtr) and line.has_modem_lines:
        status = line.modem_status()
        if settings.rtscts and not status & MSR_CTS:
            reasons |= ser.SERIAL_TX_WAITING_FOR_CTS
        if settings.dsrdtr and not status & MSR_DSR:
            reasons |= ser.SERIAL_TX_WAITING_FOR_DSR
    return reasons
