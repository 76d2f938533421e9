"""Special characters and flow control: GET/SET_CHARS, GET/SET_HANDFLOW, and who may drive DTR and RTS.

Flow control is the OS's, or the device's, and a `Line` knows three kinds of it, each in both directions at once: ``rtscts``,
``dsrdtr``, ``xonxoff``. SERIAL_HANDFLOW can say much more. What is one of these three is carried out; the rest is refused with
STATUS_NOT_SUPPORTED and words that name the bit, because a program whose flow control is silently none loses bytes.
"""

from __future__ import annotations

from dataclasses import replace

from hilbridge.drivers.serial.control import Answer, Request
from hilbridge.drivers.serial.extension import SerialExtension
from hilbridge.model import ntddser as ser
from hilbridge.model.errors import DeviceUnsupported, NtStatusError
from hilbridge.model.hardware import Line
from hilbridge.model.status import (
    STATUS_DEVICE_NOT_CONNECTED,
    STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
    NtStatus,
)

XON_XOFF = (0x11, 0x13)
"""The characters with which every line that can do it does software flow control."""
_REFUSED = (
    ("SERIAL_DCD_HANDSHAKE", ser.SERIAL_DCD_HANDSHAKE, 0),
    ("SERIAL_DSR_SENSITIVITY", ser.SERIAL_DSR_SENSITIVITY, 0),
    ("SERIAL_ERROR_ABORT", ser.SERIAL_ERROR_ABORT, 0),
    ("SERIAL_ERROR_CHAR", 0, ser.SERIAL_ERROR_CHAR),
    ("SERIAL_NULL_STRIPPING", 0, ser.SERIAL_NULL_STRIPPING),
    ("SERIAL_BREAK_CHAR", 0, ser.SERIAL_BREAK_CHAR),
    ("SERIAL_XOFF_CONTINUE", 0, ser.SERIAL_XOFF_CONTINUE),
)


def get_chars(request: Request) -> Answer:
    """IOCTL_SERIAL_GET_CHARS."""
    return request.extension.chars.pack()


def set_chars(request: Request) -> Answer:
    """IOCTL_SERIAL_SET_CHARS. A change of Xon or Xoff comes in its turn, behind SET_HANDFLOW; the others are set at once.

    Microsoft's documentation refuses equal Xon and Xoff characters; its sample has that check compiled out, and programs
    that want no flow control send zeros. We follow the sample: where the two are used, only one pair is possible anyway.
    Neither may be the escape character of LSRMST_INSERT, says the sample. That control does not exist here, so there is none.
    """
    extension, chars = request.extension, ser.SerialChars.unpack(request.data)
    with extension.lock:
        now = extension.chars
        in_turn = chars[4:] != now[4:]
        if not in_turn:
            extension.chars = chars
    if not in_turn:
        return STATUS_SUCCESS

    def apply() -> NtStatus:
        if extension.settings.xonxoff:
            _check_xon_xoff(extension, chars)
        with extension.lock:
            extension.chars = chars
        return STATUS_SUCCESS

    return apply


def _check_xon_xoff(extension: SerialExtension, chars: ser.SerialChars) -> None:
    if chars[4:] != XON_XOFF:
        raise DeviceUnsupported(
            f"{extension.port_name} does software flow control with XonChar 0x11 and XoffChar 0x13, and not with "
            f"0x{chars.xon_char:02X} and 0x{chars.xoff_char:02X}"
        )


def get_handflow(request: Request) -> Answer:
    """IOCTL_SERIAL_GET_HANDFLOW."""
    extension = request.extension
    settings, (dtr, rts) = extension.settings, extension.handflow
    control = ser.SERIAL_DTR_HANDSHAKE | ser.SERIAL_DSR_HANDSHAKE if settings.dsrdtr else dtr
    replaced = ser.SERIAL_RTS_HANDSHAKE if settings.rtscts else rts
    if settings.rtscts:
        control |= ser.SERIAL_CTS_HANDSHAKE
    if settings.xonxoff:
        replaced |= ser.SERIAL_AUTO_TRANSMIT | ser.SERIAL_AUTO_RECEIVE
    size = extension.log_size
    xon, xoff = extension.limits or (size >> 1, size >> 3)
    return ser.SerialHandflow(control, replaced, xon, xoff).pack()


def set_handflow(request: Request) -> Answer:
    """IOCTL_SERIAL_SET_HANDFLOW, in its turn.

    The limits are checked, kept, and have no effect: the OS has its own. The documentation speaks of counts for both; in the
    sample XoffLimit is the room that is left, XonLimit what is unread, and both are bounded by the size of the buffer.
    """
    extension, flow = request.extension, ser.SerialHandflow.unpack(request.data)
    control, replaced = flow.control_hand_shake, flow.flow_replace
    if control & ser.SERIAL_CONTROL_INVALID or replaced & ser.SERIAL_FLOW_INVALID:
        return STATUS_INVALID_PARAMETER
    dtr, rts = control & ser.SERIAL_DTR_MASK, replaced & ser.SERIAL_RTS_MASK
    if dtr == ser.SERIAL_DTR_MASK:
        return STATUS_INVALID_PARAMETER
    if not (0 <= flow.xon_limit <= extension.log_size and 0 <= flow.xoff_limit <= extension.log_size):
        return STATUS_INVALID_PARAMETER
    for name, in_control, in_replaced in _REFUSED:
        if control & in_control or replaced & in_replaced:
            raise DeviceUnsupported(f"{extension.port_name}: {name} is not supported: no line can be told to do that")
    if rts == ser.SERIAL_TRANSMIT_TOGGLE:
        raise DeviceUnsupported(
            f"{extension.port_name}: SERIAL_TRANSMIT_TOGGLE is not supported: RTS cannot follow the data"
        )
    rtscts = _both(extension, "RTS", rts == ser.SERIAL_RTS_HANDSHAKE, "CTS", control & ser.SERIAL_CTS_HANDSHAKE != 0)
    dsrdtr = _both(extension, "DTR", dtr == ser.SERIAL_DTR_HANDSHAKE, "DSR", control & ser.SERIAL_DSR_HANDSHAKE != 0)
    transmit, receive = replaced & ser.SERIAL_AUTO_TRANSMIT != 0, replaced & ser.SERIAL_AUTO_RECEIVE != 0
    if transmit != receive:
        has, lacks = ("TRANSMIT", "RECEIVE") if transmit else ("RECEIVE", "TRANSMIT")
        raise DeviceUnsupported(
            f"{extension.port_name}: SERIAL_AUTO_{has} is not supported without SERIAL_AUTO_{lacks}"
        )

    def apply() -> NtStatus:
        line = extension.line
        if line is None:
            return STATUS_DEVICE_NOT_CONNECTED
        before = extension.settings
        if transmit:
            _check_xon_xoff(extension, extension.chars)
        # In a handshake an output is nobody's; which one it was before does not count.
        old_dtr = ser.SERIAL_DTR_HANDSHAKE if before.dsrdtr else extension.handflow[0]
        old_rts = ser.SERIAL_RTS_HANDSHAKE if before.rtscts else extension.handflow[1]
        new_dtr = None if dsrdtr or dtr == old_dtr else dtr == ser.SERIAL_DTR_CONTROL
        new_rts = None if rtscts or rts == old_rts else rts == ser.SERIAL_RTS_CONTROL
        drives = new_dtr is not None or new_rts is not None
        if drives and not line.has_modem_lines:
            raise DeviceUnsupported(
                f"{line.name} has no DTR and RTS: leave SERIAL_DTR_CONTROL and SERIAL_RTS_CONTROL as they are"
            )
        settings = replace(before, rtscts=rtscts, dsrdtr=dsrdtr, xonxoff=transmit)
        if settings != before:
            line.configure(settings)
            extension.settings = settings
        if drives:
            with extension.line_lock:
                drive(extension, line, dtr=new_dtr, rts=new_rts)
        extension.handflow = dtr, rts
        extension.limits = flow.xon_limit, flow.xoff_limit
        return STATUS_SUCCESS

    return apply


def _both(extension: SerialExtension, output: str, drives: bool, watched: str, obeys: bool) -> bool:
    if drives != obeys:
        has, lacks = (output, watched) if drives else (watched, output)
        raise DeviceUnsupported(
            f"{extension.port_name}: SERIAL_{has}_HANDSHAKE is not supported without SERIAL_{lacks}_HANDSHAKE"
        )
    return drives


def drive(extension: SerialExtension, line: Line, *, dtr: bool | None = None, rts: bool | None = None) -> None:
    """Set the outputs that are not None, and note them. Hold the line's lock.

    Noted before the line can be taken away: the next one is given the same outputs.
    """
    line.set_modem_control(dtr=dtr, rts=rts)
    for value, bit in ((dtr, ser.SERIAL_DTR_STATE), (rts, ser.SERIAL_RTS_STATE)):
        if value is not None:
            extension.modem_control = extension.modem_control & ~bit | (bit if value else 0)
            extension.modem_known |= bit


def check_outputs(extension: SerialExtension, *, dtr: bool | None = None, rts: bool | None = None) -> None:
    """Raises STATUS_INVALID_PARAMETER if one of the outputs is not the application's to set: the flow control drives it."""
    settings = extension.settings
    for name, value, handshake, setting in (
        ("DTR", dtr, settings.dsrdtr, "dsrdtr"),
        ("RTS", rts, settings.rtscts, "rtscts"),
    ):
        if value is not None and handshake:
            raise NtStatusError(
                STATUS_INVALID_PARAMETER,
                f"{extension.port_name}: {name} is driven by the flow control {setting}; to set it by hand, switch that off",
            )
